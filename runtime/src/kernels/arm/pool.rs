//! Average pools: sums of four channels at a time, two to a word.

use core::arch::naked_asm;

use crate::format::{AvgPool, Pool};
use crate::kernels::portable;

/// Codes that surely add up within half a word.
const MOST: usize = 257;

/// See [`reference::avg_pool`](crate::kernels::reference::avg_pool).
pub(super) fn avg_pool(p: &AvgPool, input: &[u8], output: &mut [u8]) {
    if mean_of_quads(p, input, output).is_none() {
        portable::avg_pool(p, input, output);
    }
}

/// `None`, and nothing done, where windows are not all inside the input and small, or channels no whole quads.
fn mean_of_quads(p: &AvgPool, input: &[u8], output: &mut [u8]) -> Option<()> {
    let Pool { input: from, output: to, kernel: [kh, kw], stride, pad, .. } = p.window;
    let last = |outputs: usize, stride: usize| outputs.checked_sub(1)?.checked_mul(stride);
    let whole = pad == [0; 2]
        && from.c == to.c
        && from.c.is_multiple_of(4)
        && (1..=MOST).contains(&kh.saturating_mul(kw))
        && last(to.h, stride[0])?.checked_add(kh)? <= from.h
        && last(to.w, stride[1])?.checked_add(kw)? <= from.w
        && input.len() == from.len()
        && output.len() == to.len();
    if !whole {
        return None;
    }
    let offset = (kh * kw) as i32 * i32::from(p.zero_in);
    for (pixel, codes) in output.chunks_exact_mut(to.c.max(1)).enumerate() {
        let [y, x] = [pixel / to.w * stride[0], pixel % to.w * stride[1]];
        for (quad, codes) in codes.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            let mut sums = [0; 2];
            for row in y..y + kh {
                let start = (row * from.w + x) * from.c + quad * 4;
                // SAFETY: the pixels of the row of the window lie inside the input.
                unsafe { add_row(input.as_ptr().wrapping_add(start), from.c, kw, &mut sums) };
            }
            let [even, odd]: [u32; 2] = sums;
            *codes = [even & 0xffff, odd & 0xffff, even >> 16, odd >> 16]
                .map(|sum| p.requantise.apply(sum as i32 - offset, p.mult));
        }
    }
    Some(())
}

/// Adds the codes of four channels of `pixels` pixels, one at least, `pitch` bytes apart: those of even channels to the
/// halves of the first sum, of odd ones to those of the second.
#[unsafe(naked)]
unsafe extern "C" fn add_row(from: *const u8, pitch: usize, pixels: usize, sums: &mut [u32; 2]) {
    naked_asm!(
        processor!(),
        "push {{r4, r5}}",
        "ldrd r4, r5, [r3]",
        "2:",
        "ldr r12, [r0]",
        "subs r2, r2, #1",
        "add r0, r0, r1",
        "uxtab16 r4, r4, r12",
        "uxtab16 r5, r5, r12, ror #8",
        "bne 2b",
        "strd r4, r5, [r3]",
        "pop {{r4, r5}}",
        "bx lr",
    )
}
