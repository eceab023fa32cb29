//! From sums to codes.

use core::arch::naked_asm;
use core::{array, ptr};

use super::Levels;
use crate::format::{Conv, Requantise, WeightGroup};
use crate::kernels::arm::tile::Scale;
use crate::kernels::polynomial::{Polynomial, TILE};

/// Most filters of a tile.
const MOST: usize = 2 * TILE;

/// A few filters of a group. The shift before the high multiplication is in all summands already.
pub(super) struct Finish {
    /// First channel of the output, and how many.
    first: usize,
    channels: usize,
    /// Sums of a pixel.
    filters: usize,
    /// Channels of the output, and bytes of a row of it.
    pitch: usize,
    row_bytes: usize,
    requantise: Requantise,
    /// Channels in pairs; what is missing of a pair has no bias and no multiplier.
    pairs: [Pixels; MOST / 2],
    leaf: unsafe extern "C" fn(&Pixels),
}

impl Finish {
    /// The filters from `channel` of the group on.
    pub(super) fn new(
        plan: &Polynomial,
        conv: &Conv<'_>,
        group: &WeightGroup<'_>,
        channel: usize,
        levels: &Levels,
    ) -> Option<Finish> {
        let (first, filters) = (group.first + channel, plan.filters());
        let channels = filters.min(group.channels - channel);
        let (of_bias, of_mult) = (conv.bias.get(first..first + channels)?, conv.mult.get(first..first + channels)?);
        let pairs = array::from_fn(|pair| Pixels {
            sums: ptr::null(),
            windows: ptr::null(),
            output: ptr::null_mut(),
            pitch: conv.output.c,
            bias: array::from_fn(|i| of_bias.get(2 * pair + i).map_or(0, |&bias| levels.shifted(bias))),
            mult: array::from_fn(|i| of_mult.get(2 * pair + i).copied().unwrap_or(0)),
            zero: conv.requantise.zero.into(),
            scale: levels.shifted(levels.scale),
            clamp: Scale::new(&conv.requantise).clamp,
            windows_end: ptr::null(),
        });
        Some(Finish {
            first,
            channels,
            filters,
            pitch: conv.output.c,
            row_bytes: plan.output.w * conv.output.c,
            requantise: Requantise { pre: 0, ..conv.requantise },
            pairs,
            leaf: if filters == TILE { finish_2 } else { finish_4 },
        })
    }

    /// The codes of a row of pixels, as many as there are in `output`.
    pub(super) fn row(&mut self, sums: &[i32], windows: &[i32], output: &mut [u8]) -> Option<()> {
        let pixels =
            if output.len() == self.row_bytes { windows.len() } else { output.len().checked_div(self.pitch)? };
        let fits = pixels <= windows.len()
            && pixels * self.pitch <= output.len()
            && pixels * self.filters <= sums.len()
            && self.first + self.channels <= self.pitch;
        if !fits {
            return None;
        }
        let fast = if self.channels == self.filters { pixels & !1 } else { 0 };
        if fast > 0 {
            let (mut sums, mut output) = (sums.as_ptr(), output.as_mut_ptr().wrapping_add(self.first));
            for pair in self.pairs.iter_mut().take(self.filters / 2) {
                (pair.sums, pair.windows, pair.output) = (sums, windows.as_ptr(), output);
                pair.windows_end = pair.windows.wrapping_add(fast);
                // SAFETY: so many pixels, an even number above 0, have a sum a filter, a window, and `pitch` bytes of
                // output each, of which the channels are some.
                unsafe { (self.leaf)(pair) };
                (sums, output) = (sums.wrapping_add(2), output.wrapping_add(2));
            }
        }
        for pixel in fast..pixels {
            let (sums, window) = (sums.get(pixel * self.filters..)?, *windows.get(pixel)?);
            let codes = output.get_mut(pixel * self.pitch + self.first..)?.iter_mut().take(self.channels);
            for (i, (code, &sum)) in codes.zip(sums).enumerate() {
                let pair = self.pairs.get(i / 2)?;
                let sum = sum.wrapping_mul(pair.scale).wrapping_add(window).wrapping_add(pair.bias[i % 2]);
                *code = self.requantise.apply(sum, pair.mult[i % 2]);
            }
        }
        Some(())
    }
}

/// Two channels of pixels, in the order of the registers that take them.
#[repr(C)]
struct Pixels {
    sums: *const i32,
    windows: *const i32,
    output: *mut u8,
    pitch: usize,
    bias: [i32; 2],
    mult: [i32; 2],
    zero: i32,
    scale: i32,
    clamp: [u32; 3],
    windows_end: *const i32,
}

/// A function for two channels out of `$filters`, two pixels at a time.
macro_rules! finish {
    ($name:ident, $bytes:literal) => {
        #[unsafe(naked)]
        unsafe extern "C" fn $name(pixels: &Pixels) {
            naked_asm!(
                processor!(),
                "push {{r4-r11, lr}}",
                "ldr r1, [r0, #40]",
                "ldr r2, [r0, #44]",
                "ldr r3, [r0, #48]",
                "ldr r4, [r0, #52]",
                "push {{r1-r4}}",
                "ldm r0, {{r0-r9}}",
                "2:",
                concat!("ldrd r10, r11, [r0], #", $bytes),
                "ldr lr, [r1], #4",
                "mla r10, r10, r9, lr",
                "mla r11, r11, r9, lr",
                "add r10, r10, r4",
                "add r11, r11, r5",
                "smmlar r10, r10, r6, r8",
                "smmlar r11, r11, r7, r8",
                "usat r10, #8, r10",
                "usat r11, #8, r11",
                "orr r12, r10, r11, lsl #8",
                concat!("ldrd r10, r11, [r0], #", $bytes),
                "ldr lr, [r1], #4",
                "mla r10, r10, r9, lr",
                "mla r11, r11, r9, lr",
                "add r10, r10, r4",
                "add r11, r11, r5",
                "smmlar r10, r10, r6, r8",
                "smmlar r11, r11, r7, r8",
                "usat r10, #8, r10",
                "usat r11, #8, r11",
                "orr r10, r10, r11, lsl #8",
                "orr r12, r12, r10, lsl #16",
                "ldm sp, {{r10, r11, lr}}",
                "uqadd8 r12, r12, r10",
                "uqsub8 r12, r12, r11",
                "uqadd8 r12, r12, lr",
                "ldr lr, [sp, #12]",
                "strh r12, [r2]",
                "lsr r12, r12, #16",
                "strh r12, [r2, r3]",
                "add r2, r2, r3, lsl #1",
                "cmp r1, lr",
                "bne 2b",
                "add sp, sp, #16",
                "pop {{r4-r11, pc}}",
            )
        }
    };
}

finish!(finish_2, 8);
finish!(finish_4, 16);
