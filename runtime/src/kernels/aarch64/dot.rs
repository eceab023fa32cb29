//! What the instructions that sum four products have in common: SDOT and UDOT, and USDOT of the matrix extension.

use core::arch::aarch64::*;

use super::dense::repeat_quad;
use super::depthwise::{Depthwise, MOST, OutputRow};
use super::detect;
use super::instructions::{sdot, udot, usdot};
use super::levels::Decoder;
use super::requantise::{Sums, load_channels};
use crate::format::{Conv, PANEL_CHANNELS, PANEL_DEPTH, WeightGroup};
use crate::kernels::Isa;
use crate::kernels::panels::Panels;
use crate::kernels::panels::dense::Stream;

/// A dot product of codes and levels. A value is proof that the processor has the instructions.
pub(super) trait Dot: Copy {
    /// What codes are combined with, by exclusive or, before [`dot`](Self::dot) multiplies them.
    const FLIP: u8;
    /// What is added to levels before [`stream_dot`](Self::stream_dot) multiplies them.
    const ADD: i8;

    /// The proof, if the processor has them.
    fn detected() -> Option<Self>;

    /// `sums[i] += codes[4i..][..4] * levels[4i..][..4]`.
    fn dot(self, sums: int32x4_t, codes: uint8x16_t, levels: int8x16_t) -> int32x4_t;

    /// The same for codes as they are.
    fn stream_dot(self, sums: int32x4_t, codes: uint8x16_t, levels: int8x16_t) -> int32x4_t;
}

/// SDOT and UDOT: either codes lose 128 or levels gain as much.
#[derive(Clone, Copy)]
pub(super) struct Dotprod(());

impl Dot for Dotprod {
    const FLIP: u8 = 0x80;
    const ADD: i8 = -128;

    fn detected() -> Option<Dotprod> {
        detect(Isa::NeonDotprod).then_some(Dotprod(()))
    }

    #[inline(always)]
    fn dot(self, sums: int32x4_t, codes: uint8x16_t, levels: int8x16_t) -> int32x4_t {
        // SAFETY: the processor has the instruction, or there would be no `self`.
        unsafe { sdot(sums, vreinterpretq_s8_u8(codes), levels) }
    }

    #[inline(always)]
    fn stream_dot(self, sums: int32x4_t, codes: uint8x16_t, levels: int8x16_t) -> int32x4_t {
        // SAFETY: as above.
        unsafe { udot(sums, codes, vreinterpretq_u8_s8(levels)) }
    }
}

/// USDOT: unsigned by signed.
#[derive(Clone, Copy)]
pub(super) struct I8mm(());

impl Dot for I8mm {
    const FLIP: u8 = 0;
    const ADD: i8 = 0;

    fn detected() -> Option<I8mm> {
        detect(Isa::NeonI8mm).then_some(I8mm(()))
    }

    #[inline(always)]
    fn dot(self, sums: int32x4_t, codes: uint8x16_t, levels: int8x16_t) -> int32x4_t {
        // SAFETY: the processor has the instruction, or there would be no `self`.
        unsafe { usdot(sums, codes, levels) }
    }

    #[inline(always)]
    fn stream_dot(self, sums: int32x4_t, codes: uint8x16_t, levels: int8x16_t) -> int32x4_t {
        self.dot(sums, codes, levels)
    }
}

/// Rows of a cell.
const ROWS: usize = 4;
/// Bytes of a cell: 16 channels by 4 rows.
const CELL: usize = PANEL_CHANNELS * ROWS;

/// A column of four rows is a cell, in which those of each channel lie together; one instruction multiplies those of
/// four channels. Level 0 meets what is beyond the kernel.
impl<D: Dot> Depthwise for D {
    const TOGETHER: usize = ROWS;
    const FLIP: u8 = <D as Dot>::FLIP;
    /// The biases, corrected for what codes lose.
    type Panel = Sums;

    fn detected() -> Option<D> {
        <D as Dot>::detected()
    }

    unsafe fn decode(self, conv: &Conv<'_>, group: &WeightGroup<'_>, panel: &Panels<'_>, weights: *mut u8) -> Sums {
        // SAFETY: NEON is there; the contract.
        unsafe { decode(self, conv, group, panel, weights) }
    }

    unsafe fn row(self, bias: &Sums, row: &OutputRow<'_>) {
        // SAFETY: NEON is there; as many pixels as there are left.
        unsafe {
            fill_cells(row);
            row.tiles(|first, pixels| match pixels {
                1 => correlate::<D, 1>(self, bias, row, first),
                2 => correlate::<D, 2>(self, bias, row, first),
                3 => correlate::<D, 3>(self, bias, row, first),
                4 => correlate::<D, 4>(self, bias, row, first),
                _ => correlate::<D, MOST>(self, bias, row, first),
            });
        }
    }
}

/// See [`Depthwise::decode`].
///
/// # Safety
/// As there.
#[target_feature(enable = "neon")]
unsafe fn decode<D: Dot>(
    isa: D,
    conv: &Conv<'_>,
    group: &WeightGroup<'_>,
    panel: &Panels<'_>,
    weights: *mut u8,
) -> Sums {
    let decoder = Decoder::new(group, 0);
    let bytes = 2 * group.format.bits() as usize;
    let row_bytes = conv.kernel[1] * bytes;
    let mut sums = load_channels(panel.bias);
    let mut weights: *mut i8 = weights.cast();
    for rows in panel.codes.chunks(ROWS * row_bytes) {
        for x in 0..conv.kernel[1] {
            let mut levels = [vdupq_n_s8(0); ROWS];
            for (levels, row) in levels.iter_mut().zip(rows.chunks(row_bytes)) {
                *levels = decoder.sixteen(row.get(x * bytes..).unwrap_or_default());
            }
            let [a, b, c, d] = levels;
            // SAFETY: there is room for every cell.
            unsafe {
                vst4q_s8(weights, int8x16x4_t(a, b, c, d));
                for i in 0..4 {
                    // What codes 0 would add.
                    let none = isa.dot(vdupq_n_s32(0), vdupq_n_u8(D::FLIP), vld1q_s8(weights.add(16 * i)));
                    sums[i] = vsubq_s32(sums[i], none);
                }
                weights = weights.add(CELL);
            }
        }
    }
    sums
}

/// Fills the cells of all columns of an output row.
///
/// # Safety
/// The row's invariants hold.
#[target_feature(enable = "neon")]
unsafe fn fill_cells(row: &OutputRow<'_>) {
    let last = row.conv.kernel[0] - 1;
    let mut to = row.cells;
    for first in (0..=last).step_by(ROWS) {
        let rows = [0, 1, 2, 3].map(|k| row.ring_row((first + k).min(last)));
        for x in 0..row.line {
            // SAFETY: pixels of the rows; the cells take a column each.
            unsafe {
                let [a, b, c, d] = rows.map(|row| vld1q_u8(row.add(x * PANEL_CHANNELS)));
                vst4q_u8(to, uint8x16x4_t(a, b, c, d));
                to = to.add(CELL);
            }
        }
    }
}

/// Pixels `first..first + N` of an output row. Not inlined: the loops would carry the scale along, and spill sums.
///
/// # Safety
/// Those are pixels of the row, whose invariants hold and whose cells are filled.
#[inline(never)]
#[target_feature(enable = "neon")]
unsafe fn correlate<D: Dot, const N: usize>(isa: D, bias: &Sums, row: &OutputRow<'_>, first: usize) {
    let conv = row.conv;
    let step = conv.stride[1] * CELL;
    let mut sums = [*bias; N];
    let mut weights = row.weights;
    // SAFETY: cells, weights and output are what the row's invariants say.
    unsafe {
        for rows in 0..conv.kernel[0].div_ceil(ROWS) {
            let mut cells = row.cells.cast_const().add(rows * row.line * CELL + first * step);
            for _ in 0..conv.kernel[1] {
                let levels = [0, 16, 32, 48].map(|at| vld1q_s8(weights.add(at).cast()));
                weights = weights.add(CELL);
                for n in 0..N {
                    for i in 0..4 {
                        let codes = vld1q_u8(cells.add(n * step + 16 * i));
                        sums[n][i] = isa.dot(sums[n][i], codes, levels[i]);
                    }
                }
                cells = cells.wrapping_add(conv.dilation[1] * CELL);
            }
        }
        for n in 0..N {
            row.scale.store(sums[n], row.output.add((first + n) * conv.output.c));
        }
    }
}

/// See [`Tile::stream`](super::dense::Tile::stream).
pub(super) fn stream<D: Dot>(isa: D, group: &WeightGroup<'_>, stream: &Stream<'_>, done: impl FnMut(usize, Sums)) {
    // SAFETY: NEON is there.
    unsafe { stream_panels(isa, group, stream, done) }
}

#[target_feature(enable = "neon")]
fn stream_panels<D: Dot>(isa: D, group: &WeightGroup<'_>, stream: &Stream<'_>, mut done: impl FnMut(usize, Sums)) {
    let (panels, window, quads) = (stream.panels(), stream.window(), stream.quads());
    let decoder = Decoder::new(group, D::ADD);
    // What `ADD` adds to every sum.
    let mut added = vdupq_n_s32(0);
    if D::ADD != 0 {
        for quad in 0..quads {
            // SAFETY: the window has that many quads.
            let codes = unsafe { repeat_quad(window.add(PANEL_DEPTH * quad)) };
            added = isa.stream_dot(added, codes, vdupq_n_s8(D::ADD));
        }
    }
    for (p, codes) in panels.codes.chunks(panels.step).enumerate() {
        let mut sums = [vnegq_s32(added); 4];
        let mut quad = 0;
        decoder.each(codes, quads, |levels| {
            // SAFETY: the window has that many quads.
            let codes = unsafe { repeat_quad(window.add(PANEL_DEPTH * quad)) };
            quad += 1;
            for i in 0..4 {
                sums[i] = isa.stream_dot(sums[i], codes, levels[i]);
            }
        });
        done(p, sums);
    }
}
