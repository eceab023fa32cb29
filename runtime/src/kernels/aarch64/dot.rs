//! What the instructions that sum four products have in common: SDOT and UDOT, and USDOT of the matrix extension.

use core::arch::aarch64::*;

use super::dense::repeat_quad;
use super::depthwise::{Depthwise, OutputRow, Pixel};
use super::detect;
use super::instructions::{sdot, udot, usdot};
use super::levels::Decoder;
use super::requantise::{Scale, Sums, load_channels};
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

/// Taps of a cell.
const TAPS: usize = 4;
/// Bytes of a cell: 16 channels by 4 taps.
const CELL: usize = PANEL_CHANNELS * TAPS;

/// Rows of cells, one or several for each output column: what it reads of the row, four taps of every channel
/// together.
impl<D: Dot> Depthwise for D {
    const TAPS: usize = TAPS;
    const FLIP: u8 = <D as Dot>::FLIP;

    fn detected() -> Option<D> {
        <D as Dot>::detected()
    }

    unsafe fn decode(self, conv: &Conv<'_>, group: &WeightGroup<'_>, panel: &Panels<'_>, weights: *mut u8) -> Sums {
        // SAFETY: NEON is there; the contract.
        unsafe { decode(self, conv, group, panel, weights) }
    }

    unsafe fn fill(self, conv: &Conv<'_>, line: &[Pixel], to: *mut u8) {
        // SAFETY: NEON is there; the contract.
        unsafe { fill(conv, line, to) }
    }

    unsafe fn row(self, row: &OutputRow<'_>) {
        // SAFETY: NEON is there; as many pixels as there are left.
        unsafe {
            let scale = Scale::new(&row.requantise, row.panel, 0);
            let mut first = 0;
            while first < row.conv.output.w {
                match row.conv.output.w - first {
                    1 => correlate::<D, 1>(self, row, &scale, first),
                    2 => correlate::<D, 2>(self, row, &scale, first),
                    3 => correlate::<D, 3>(self, row, &scale, first),
                    _ => correlate::<D, 4>(self, row, &scale, first),
                }
                first += 4;
            }
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
    let mut sums = load_channels(panel.bias);
    let mut weights: *mut i8 = weights.cast();
    for row in panel.codes.chunks(conv.kernel[1] * bytes) {
        for column in row.chunks(TAPS * bytes) {
            let mut levels = [vdupq_n_s8(0); TAPS];
            for (levels, codes) in levels.iter_mut().zip(column.chunks(bytes)) {
                *levels = decoder.sixteen(codes);
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

/// See [`Depthwise::fill`].
///
/// # Safety
/// As there.
#[target_feature(enable = "neon")]
unsafe fn fill(conv: &Conv<'_>, line: &[Pixel], to: *mut u8) {
    let mut to = to;
    for output in 0..conv.output.w {
        for column in 0..conv.kernel[1].div_ceil(TAPS) {
            let first = output * conv.stride[1] + column * TAPS * conv.dilation[1];
            // SAFETY: the line has the taps of all output columns, and the row has room for their cells.
            unsafe {
                let tap = |k: usize| vld1q_u8(line.as_ptr().add(first + k * conv.dilation[1]).cast());
                vst4q_u8(to, uint8x16x4_t(tap(0), tap(1), tap(2), tap(3)));
                to = to.add(CELL);
            }
        }
    }
}

/// Pixels `first..first + N` of an output row. Not inlined: the loops would carry the scale along, and spill sums.
///
/// # Safety
/// Those are pixels of the row, whose invariants hold.
#[inline(never)]
#[target_feature(enable = "neon")]
unsafe fn correlate<D: Dot, const N: usize>(isa: D, row: &OutputRow<'_>, scale: &Scale, first: usize) {
    let conv = row.conv;
    let columns = conv.kernel[1].div_ceil(TAPS);
    let mut sums = [row.bias; N];
    let mut weights = row.weights;
    // SAFETY: ring, weights and output are what the row's invariants say.
    unsafe {
        for k in 0..conv.kernel[0] {
            let mut cells = row.ring_row(k).add(first * columns * CELL);
            for _ in 0..columns {
                let levels = [0, 16, 32, 48].map(|at| vld1q_s8(weights.add(at).cast()));
                weights = weights.add(CELL);
                for n in 0..N {
                    for i in 0..4 {
                        let codes = vld1q_u8(cells.add(n * columns * CELL + 16 * i));
                        sums[n][i] = isa.dot(sums[n][i], codes, levels[i]);
                    }
                }
                cells = cells.add(CELL);
            }
        }
        for n in 0..N {
            scale.store(sums[n], row.output.add((first + n) * conv.output.c));
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
