//! Kernels of the instructions that sum four products: SDOT, and SUDOT of the 8-bit matrix multiply extension.

use core::arch::aarch64::*;

use super::depthwise::{Depthwise, OutputRow, Pixel};
use super::instructions::{sdot, sdot_lane, sudot_lane, usdot};
use super::levels::Decoder;
use super::requantise::{Scale, Sums, load_channels};
use super::window::Panels;
use crate::format::{Conv, PANEL_CHANNELS, WeightGroup};

/// A dot product of codes and levels.
///
/// # Safety
/// Nothing is required beyond the contracts of the functions.
pub(super) unsafe trait Dot {
    /// What codes are combined with, by exclusive or, before they are multiplied.
    const FLIP: u8;

    /// `sums[i] += codes[4i..][..4] * levels[4i..][..4]`.
    ///
    /// # Safety
    /// The processor has the instruction.
    unsafe fn dot(sums: int32x4_t, codes: uint8x16_t, levels: int8x16_t) -> int32x4_t;

    /// `sums[i] += codes[4 * LANE..][..4] * levels[4i..][..4]`.
    ///
    /// # Safety
    /// The processor has the instruction.
    unsafe fn dot_lane<const LANE: usize>(sums: int32x4_t, codes: uint8x16_t, levels: int8x16_t) -> int32x4_t;
}

/// SDOT: signed by signed, so that codes lose 128.
pub(super) struct Dotprod;

// SAFETY: see the trait.
unsafe impl Dot for Dotprod {
    const FLIP: u8 = 0x80;

    #[inline(always)]
    unsafe fn dot(sums: int32x4_t, codes: uint8x16_t, levels: int8x16_t) -> int32x4_t {
        // SAFETY: the contract.
        unsafe { sdot(sums, vreinterpretq_s8_u8(codes), levels) }
    }

    #[inline(always)]
    unsafe fn dot_lane<const LANE: usize>(sums: int32x4_t, codes: uint8x16_t, levels: int8x16_t) -> int32x4_t {
        // SAFETY: the contract.
        unsafe { sdot_lane::<LANE>(sums, levels, vreinterpretq_s8_u8(codes)) }
    }
}

/// USDOT and SUDOT: unsigned by signed.
pub(super) struct I8mm;

// SAFETY: see the trait.
unsafe impl Dot for I8mm {
    const FLIP: u8 = 0;

    #[inline(always)]
    unsafe fn dot(sums: int32x4_t, codes: uint8x16_t, levels: int8x16_t) -> int32x4_t {
        // SAFETY: the contract.
        unsafe { usdot(sums, codes, levels) }
    }

    #[inline(always)]
    unsafe fn dot_lane<const LANE: usize>(sums: int32x4_t, codes: uint8x16_t, levels: int8x16_t) -> int32x4_t {
        // SAFETY: the contract.
        unsafe { sudot_lane::<LANE>(sums, levels, codes) }
    }
}

/// Taps of a cell.
const TAPS: usize = 4;
/// Bytes of a cell: 16 channels by 4 taps.
const CELL: usize = PANEL_CHANNELS * TAPS;

/// Rows of cells, one or several for each output column: what it reads of the row, four taps of every channel
/// together.
// SAFETY: see the trait.
unsafe impl<D: Dot> Depthwise for D {
    const TAPS: usize = TAPS;
    const FLIP: u8 = <D as Dot>::FLIP;

    #[target_feature(enable = "neon")]
    unsafe fn decode(conv: &Conv<'_>, group: &WeightGroup<'_>, panel: &Panels<'_>, weights: *mut u8) -> Sums {
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
                // SAFETY: there is room for every cell; the contract.
                unsafe {
                    vst4q_s8(weights, int8x16x4_t(a, b, c, d));
                    for i in 0..4 {
                        // What codes 0 would add.
                        let none = D::dot(vdupq_n_s32(0), vdupq_n_u8(D::FLIP), vld1q_s8(weights.add(16 * i)));
                        sums[i] = vsubq_s32(sums[i], none);
                    }
                    weights = weights.add(CELL);
                }
            }
        }
        sums
    }

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

    #[target_feature(enable = "neon")]
    unsafe fn row(row: &OutputRow<'_>) {
        let scale = Scale::new(&row.requantise, row.panel, 0);
        let mut first = 0;
        while first < row.conv.output.w {
            // SAFETY: as many pixels as there are left.
            unsafe {
                match row.conv.output.w - first {
                    1 => correlate::<D, 1>(row, &scale, first),
                    2 => correlate::<D, 2>(row, &scale, first),
                    3 => correlate::<D, 3>(row, &scale, first),
                    _ => correlate::<D, 4>(row, &scale, first),
                }
            }
            first += 4;
        }
    }
}

/// Pixels `first..first + N` of an output row. Not inlined: the loops would carry the scale along, and spill sums.
///
/// # Safety
/// Those are pixels of the row, whose invariants hold.
#[inline(never)]
#[target_feature(enable = "neon")]
unsafe fn correlate<D: Dot, const N: usize>(row: &OutputRow<'_>, scale: &Scale, first: usize) {
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
                        sums[n][i] = D::dot(sums[n][i], codes, levels[i]);
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
