//! Average pools: sums of four channels at a time, two to a word.

use core::arch::naked_asm;

use crate::format::AvgPool;
use crate::kernels::portable::{self, Block, Fold, Mean};

/// See [`reference::avg_pool`](crate::kernels::reference::avg_pool).
pub(super) fn avg_pool(p: &AvgPool, input: &[u8], output: &mut [u8]) {
    portable::pool(&Quads(Mean::of(p)), &p.window, input, output);
}

/// The mean of four channels.
struct Quads<'a>(Mean<'a>);

impl Fold for Quads<'_> {
    #[inline(always)]
    fn fold<const N: usize>(&self, block: &Block<'_>) -> [u8; N] {
        const { assert!(N == 4, "blocks of portable pools have four channels where words have four bytes") };
        let mut sums = [0i32; N];
        block.in_parts(self.0.part, |part| {
            sums.iter_mut().zip(quad_sums(&part)).for_each(|(sum, part)| *sum = sum.wrapping_add(part));
        });
        self.0.codes(block, sums)
    }
}

/// The sums of a block that fit half a word each.
#[inline(never)]
fn quad_sums(block: &Block<'_>) -> [i32; 4] {
    let (pitch, columns) = (block.pool.input.c, block.columns.len());
    let mut sums = [0; 2];
    for y in block.rows.clone() {
        let start = (y * block.pool.input.w + block.columns.start) * pitch + block.channel;
        let row = block.input.get(start..).unwrap_or_default();
        if columns > 0 && row.len() >= (columns - 1) * pitch + 4 {
            // SAFETY: four channels of so many pixels, one at least, lie in the row.
            unsafe { add_row(row.as_ptr(), pitch, columns, &mut sums) };
        } else {
            // The input ends with less than four channels.
            for x in 0..columns {
                let (mut pixel, rest) = ([0; 4], row.get(x * pitch..).unwrap_or_default());
                let there = rest.len().min(pixel.len());
                if let (Some(to), Some(from)) = (pixel.get_mut(..there), rest.get(..there)) {
                    to.copy_from_slice(from);
                }
                // SAFETY: this is a pixel of four.
                unsafe { add_row(pixel.as_ptr(), 0, 1, &mut sums) };
            }
        }
    }
    let [even, odd]: [u32; 2] = sums;
    [even & 0xffff, odd & 0xffff, even >> 16, odd >> 16].map(|sum| sum as i32)
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
