//! Dense tiles by SDOT: 4 channels by 4 codes an instruction.

use core::arch::aarch64::*;

use super::dense::{Tile, repeat_quad};
use super::dot::{self, Dot, Dotprod};
use super::instructions::sdot_lane;
use super::requantise::Sums;
use crate::format::WeightGroup;
use crate::kernels::panels::dense::{STEP, Stream, Walk};

impl Tile for Dotprod {
    const PIXELS: usize = 4;
    const GRAIN: usize = 1;
    /// The biases, corrected for the 128 that codes lose.
    type Panel = Sums;

    fn detected() -> Option<Dotprod> {
        <Dotprod as Dot>::detected()
    }

    unsafe fn panel(self, bias: Sums, walk: &Walk, levels: *const i8) -> Sums {
        // SAFETY: NEON is there; the contract.
        unsafe { corrected(self, bias, walk, levels) }
    }

    #[inline(always)]
    unsafe fn sums<const N: usize>(
        self,
        bias: &Sums,
        walk: &Walk,
        levels: *const i8,
        windows: [*const u8; N],
    ) -> [Sums; N] {
        let mut sums = [*bias; N];
        let mut levels = levels;
        // SAFETY: NEON is there, SDOT too, or there would be no `self`; quads and steps within the walk: the contract.
        unsafe {
            let flip = vdupq_n_u8(<Dotprod as Dot>::FLIP);
            for row in 0..walk.rows {
                for tap in 0..walk.taps {
                    let mut at = row * walk.row_step + tap * walk.tap_step;
                    for _ in 0..walk.quads / 4 {
                        let codes = windows.map(|window| veorq_u8(vld1q_u8(window.add(at)), flip));
                        quad::<0, N>(&mut sums, &codes, levels);
                        quad::<1, N>(&mut sums, &codes, levels.add(STEP));
                        quad::<2, N>(&mut sums, &codes, levels.add(2 * STEP));
                        quad::<3, N>(&mut sums, &codes, levels.add(3 * STEP));
                        at += 16;
                        levels = levels.add(4 * STEP);
                    }
                    for _ in 0..walk.quads % 4 {
                        let codes = windows.map(|window| veorq_u8(repeat_quad(window.add(at)), flip));
                        quad::<0, N>(&mut sums, &codes, levels);
                        at += 4;
                        levels = levels.add(STEP);
                    }
                }
            }
        }
        sums
    }

    fn stream(self, group: &WeightGroup<'_>, stream: &Stream<'_>, done: impl FnMut(usize, Sums)) {
        dot::stream(self, group, stream, done);
    }
}

/// Adds the products of one step of levels and quad `LANE` of the codes of each pixel.
///
/// # Safety
/// The processor has SDOT; there is a step of levels.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn quad<const LANE: usize, const N: usize>(sums: &mut [Sums; N], codes: &[uint8x16_t; N], levels: *const i8) {
    for i in 0..4 {
        // SAFETY: the contract.
        unsafe {
            let levels = vld1q_s8(levels.add(16 * i));
            for n in 0..N {
                sums[n][i] = sdot_lane::<LANE>(sums[n][i], levels, vreinterpretq_s8_u8(codes[n]));
            }
        }
    }
}

/// Takes off what codes 0 would add.
///
/// # Safety
/// As [`Tile::panel`].
#[target_feature(enable = "neon")]
unsafe fn corrected(isa: Dotprod, bias: Sums, walk: &Walk, levels: *const i8) -> Sums {
    let mut none = [vdupq_n_s32(0); 4];
    for step in 0..walk.rows * walk.taps * walk.quads {
        for i in 0..4 {
            // SAFETY: a step for every quad.
            let levels = unsafe { vld1q_s8(levels.add(step * STEP + 16 * i)) };
            none[i] = isa.dot(none[i], vdupq_n_u8(<Dotprod as Dot>::FLIP), levels);
        }
    }
    [0, 1, 2, 3].map(|i| vsubq_s32(bias[i], none[i]))
}
