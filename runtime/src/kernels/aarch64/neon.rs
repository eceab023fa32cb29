//! NEON alone: no instruction sums products of neighbours over four.

use core::arch::aarch64::*;

use super::depthwise::{Depthwise, OutputRow, Pixel};
use super::levels::Decoder;
use super::requantise::{Scale, Sums, load_channels};
use super::window::Panels;
use crate::format::{Conv, PANEL_CHANNELS, WeightGroup};

/// The leaves of this file.
pub(super) struct Neon;

/// Bytes of 16 channels at 16 bits.
const WIDE: usize = 2 * PANEL_CHANNELS;

/// 16-bit codes by 16-bit levels, channels in lanes.
// SAFETY: see the trait.
unsafe impl Depthwise for Neon {
    const TAPS: usize = 1;
    const FLIP: u8 = 0;

    #[target_feature(enable = "neon")]
    unsafe fn decode(conv: &Conv<'_>, group: &WeightGroup<'_>, panel: &Panels<'_>, weights: *mut u8) -> Sums {
        let decoder = Decoder::new(group, 0);
        let bytes = 2 * group.format.bits() as usize;
        for (tap, codes) in panel.codes.chunks(bytes).take(conv.depth()).enumerate() {
            let levels = decoder.sixteen(codes);
            // SAFETY: there is room for every tap.
            unsafe {
                let to: *mut i16 = weights.add(tap * WIDE).cast();
                vst1q_s16(to, vmovl_s8(vget_low_s8(levels)));
                vst1q_s16(to.add(8), vmovl_high_s8(levels));
            }
        }
        load_channels(panel.bias)
    }

    #[target_feature(enable = "neon")]
    unsafe fn fill(_conv: &Conv<'_>, line: &[Pixel], to: *mut u8) {
        let mut to: *mut u16 = to.cast();
        for pixel in line {
            // SAFETY: 16 codes; the row has room for every pixel of the line.
            unsafe {
                let codes = vld1q_u8(pixel.as_ptr());
                vst1q_u16(to, vmovl_u8(vget_low_u8(codes)));
                vst1q_u16(to.add(8), vmovl_high_u8(codes));
                to = to.add(PANEL_CHANNELS);
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
                    1 => correlate::<1>(row, &scale, first),
                    2 => correlate::<2>(row, &scale, first),
                    3 => correlate::<3>(row, &scale, first),
                    _ => correlate::<4>(row, &scale, first),
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
unsafe fn correlate<const N: usize>(row: &OutputRow<'_>, scale: &Scale, first: usize) {
    let conv = row.conv;
    let mut sums = [row.bias; N];
    let mut weights: *const i16 = row.weights.cast();
    // SAFETY: ring, weights and output are what the row's invariants say.
    unsafe {
        for k in 0..conv.kernel[0] {
            let mut pixels: *const i16 = row.ring_row(k).cast();
            pixels = pixels.add(first * conv.stride[1] * PANEL_CHANNELS);
            for _ in 0..conv.kernel[1] {
                let levels = [vld1q_s16(weights), vld1q_s16(weights.add(8))];
                weights = weights.add(PANEL_CHANNELS);
                for n in 0..N {
                    let codes = pixels.add(n * conv.stride[1] * PANEL_CHANNELS);
                    let codes = [vld1q_s16(codes), vld1q_s16(codes.add(8))];
                    for half in 0..2 {
                        let (codes, levels, at) = (codes[half], levels[half], 2 * half);
                        sums[n][at] = vmlal_s16(sums[n][at], vget_low_s16(codes), vget_low_s16(levels));
                        sums[n][at + 1] = vmlal_high_s16(sums[n][at + 1], codes, levels);
                    }
                }
                pixels = pixels.wrapping_add(conv.dilation[1] * PANEL_CHANNELS);
            }
        }
        for n in 0..N {
            scale.store(sums[n], row.output.add((first + n) * conv.output.c));
        }
    }
}
