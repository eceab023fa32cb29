//! Dense tiles by USMMLA: 2 pixels by 2 channels by 8 codes an instruction.
//!
//! Two steps of levels are zipped to runs of 8 codes a channel; two pixels share a register of codes.

use core::arch::aarch64::*;

use super::dense::{Tile, repeat_quad};
use super::dot::{self, Dot, I8mm};
use super::instructions::usmmla;
use super::requantise::Sums;
use crate::format::WeightGroup;
use crate::kernels::panels::dense::{STEP, Stream, Walk};

impl Tile for I8mm {
    const PIXELS: usize = 4;
    const GRAIN: usize = 2;
    type Panel = Sums;

    fn detected() -> Option<I8mm> {
        <I8mm as Dot>::detected()
    }

    unsafe fn panel(self, bias: Sums, _walk: &Walk, _levels: *const i8) -> Sums {
        bias
    }

    #[inline(always)]
    unsafe fn sums<const N: usize>(
        self,
        bias: &Sums,
        walk: &Walk,
        levels: *const i8,
        windows: [*const u8; N],
    ) -> [Sums; N] {
        let mut levels = levels;
        // SAFETY: NEON is there, USMMLA too, or there would be no `self`; quads and steps within the walk: the contract.
        unsafe {
            // Of each pair of pixels by each pair of channels: the first 8 channels, then the others.
            let mut blocks = [[vdupq_n_s32(0); 4]; N];
            for row in 0..walk.rows {
                for tap in 0..walk.taps {
                    let mut at = row * walk.row_step + tap * walk.tap_step;
                    for _ in 0..walk.quads / 2 {
                        let codes = windows.map(|window| vld1_u8(window.add(at)));
                        let second = |i: usize| vld1q_s8(levels.add(STEP + 16 * i));
                        multiply(&mut blocks, &codes, levels, second);
                        at += 8;
                        levels = levels.add(2 * STEP);
                    }
                    if !walk.quads.is_multiple_of(2) {
                        let codes = windows.map(|window| vget_low_u8(repeat_quad(window.add(at))));
                        multiply(&mut blocks, &codes, levels, |_| vdupq_n_s8(0));
                        levels = levels.add(STEP);
                    }
                }
            }
            let mut sums = [*bias; N];
            for pair in 0..N / 2 {
                for i in 0..4 {
                    let half = &blocks[2 * pair + i / 2];
                    let [a, b] = [half[i % 2 * 2], half[i % 2 * 2 + 1]].map(|block| vreinterpretq_s64_s32(block));
                    let [even, odd] = [vzip1q_s64(a, b), vzip2q_s64(a, b)].map(|sums| vreinterpretq_s32_s64(sums));
                    sums[2 * pair][i] = vaddq_s32(sums[2 * pair][i], even);
                    sums[2 * pair + 1][i] = vaddq_s32(sums[2 * pair + 1][i], odd);
                }
            }
            sums
        }
    }

    fn stream(self, group: &WeightGroup<'_>, stream: &Stream<'_>, done: impl FnMut(usize, Sums)) {
        dot::stream(self, group, stream, done);
    }
}

/// Adds the products of two steps of levels, of which the second is handed in by quarters, and 8 codes of each
/// pixel.
///
/// # Safety
/// The processor has USMMLA; there is a step of levels.
#[inline(always)]
unsafe fn multiply<const N: usize>(
    blocks: &mut [Sums; N],
    codes: &[uint8x8_t; N],
    levels: *const i8,
    second: impl Fn(usize) -> int8x16_t,
) {
    // SAFETY: NEON is there; the contract.
    unsafe {
        let mut pairs = [vdupq_n_u8(0); N];
        for pair in 0..N / 2 {
            pairs[pair] = vcombine_u8(codes[2 * pair], codes[2 * pair + 1]);
        }
        for i in 0..4 {
            let [a, b] = [vld1q_s8(levels.add(16 * i)), second(i)].map(|levels| vreinterpretq_s32_s8(levels));
            let [low, high] = [vzip1q_s32(a, b), vzip2q_s32(a, b)].map(|levels| vreinterpretq_s8_s32(levels));
            for pair in 0..N / 2 {
                let half = &mut blocks[2 * pair + i / 2];
                half[i % 2 * 2] = usmmla(half[i % 2 * 2], pairs[pair], low);
                half[i % 2 * 2 + 1] = usmmla(half[i % 2 * 2 + 1], pairs[pair], high);
            }
        }
    }
}
