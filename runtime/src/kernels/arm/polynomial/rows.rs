//! Rows of input as words, and what all filters have in common.

use core::arch::naked_asm;

use super::Levels;
use crate::format::{Conv, Shape};
use crate::kernels::polynomial::{Form, Polynomial, TAPS, TILE};
use crate::kernels::scratch::padded;
use crate::moving::move_down;

/// The input as rows of pixels, padding included.
pub(super) struct Rows<'a> {
    pub(super) plan: &'a Polynomial,
    pub(super) conv: &'a Conv<'a>,
    pub(super) input: &'a [u8],
}

impl Rows<'_> {
    /// Packs the rows of the strip that begins at output row `first`, or moves those that the strip before had too;
    /// `edge` is for the pixels of a tile.
    pub(super) fn pack(&self, first: usize, edge: &mut [u8], to: &mut [u32]) -> Option<()> {
        let plan = self.plan;
        let (Shape { h, w, c }, pixels) = (plan.input, TILE * plan.activations());
        let (step, word) = match plan.form {
            Form::Taps => (1, TAPS),
            Form::Filters => (self.conv.stride[1], self.conv.dilation[1]),
        };
        let span = (pixels - 1) * step;
        let row_words = plan.row_steps() * TILE;
        let kept = self.kept(first);
        for to in to.chunks_exact_mut((plan.rows * row_words).max(1)).take(plan.tiles).filter(|_| kept > 0) {
            move_down(to, (plan.rows - kept) * row_words);
        }
        for row in kept..plan.rows {
            let y = (first * self.conv.stride[0] + row).wrapping_sub(self.conv.pad[0]);
            let line = if y < h { self.input.get(y * w * c..).unwrap_or_default() } else { &[] };
            for tile in 0..plan.tiles {
                for tap in 0..plan.words {
                    let at = ((tile * plan.rows + row) * plan.words + tap) * c * TILE;
                    let to = to.get_mut(at..at + c * TILE)?;
                    let column = plan.first + tap * word + tile * pixels * step;
                    let x = column.wrapping_sub(self.conv.pad[1]);
                    let inside = x < w && span < w - x;
                    match line.get(x.wrapping_mul(c)..).filter(|from| inside && from.len() >= (span + 1) * c) {
                        Some(from) => self.pack_words(from, step * c, to)?,
                        None => {
                            for (i, pixel) in edge.chunks_exact_mut(c.max(1)).enumerate().take(pixels) {
                                let x = x.wrapping_add(i * step);
                                match line.get(x.wrapping_mul(c)..).and_then(|of| of.get(..c)).filter(|_| x < w) {
                                    Some(of) => pixel.iter_mut().zip(of).for_each(|(to, &code)| *to = code),
                                    None => pixel.fill(self.conv.zero_in),
                                }
                            }
                            self.pack_words(edge, c, to)?;
                        }
                    }
                }
            }
        }
        Some(())
    }

    /// Rows that the strip from output row `first` on has in common with the one before, its first.
    fn kept(&self, first: usize) -> usize {
        let moved = self.plan.outputs * self.conv.stride[0];
        if first == 0 { 0 } else { self.plan.rows.saturating_sub(moved) }
    }

    /// The words of a tile for every channel, of pixels at a distance of `pitch` bytes.
    #[inline]
    fn pack_words(&self, from: &[u8], pitch: usize, to: &mut [u32]) -> Option<()> {
        let (pixels, c) = (self.plan.activations(), self.plan.input.c);
        if from.len() < (TILE * pixels - 1) * pitch + c || to.len() < c * TILE {
            return None;
        }
        if c >= 4 {
            let leaf = match pixels {
                2 => pack_2,
                3 => pack_3,
                _ => pack_4,
            };
            // SAFETY: `from` holds `c` codes of each pixel, `to` a step for each, as was just checked.
            unsafe { leaf(to.as_mut_ptr(), from.as_ptr(), pitch, c / 4) };
        }
        if c.is_multiple_of(4) {
            return Some(());
        }
        for (channel, to) in to.as_chunks_mut::<TILE>().0.iter_mut().enumerate().skip(c / 4 * 4) {
            for (half, to) in to.iter_mut().enumerate() {
                let codes = from.iter().skip(half * pixels * pitch + channel).step_by(pitch.max(1)).take(pixels);
                *to = codes.rev().fold(0, |word, &code| word << self.plan.fields.bits() | u32::from(code));
            }
        }
        Some(())
    }

    /// What all filters have in common: the sums of the windows of `outputs` rows of output, times the offset of the
    /// levels. `sums` are those of the pixels of a strip, and stay; `columns` those of a few rows of them.
    pub(super) fn sum_windows(
        &self,
        first: usize,
        outputs: usize,
        levels: &Levels,
        sums: &mut [i32],
        columns: &mut [i32],
        windows: &mut [i32],
    ) -> Option<()> {
        let conv = self.conv;
        let ([kh, kw], [down, right], dilation) = (conv.kernel, conv.stride, conv.dilation[1]);
        let offset = levels.shifted(levels.offset);
        let width = padded(conv, 1, self.plan.output.w);
        let (columns, kept) = (columns.get_mut(..width)?, self.kept(first));
        if kept > 0 {
            move_down(sums, (self.plan.rows - kept) * width);
        }
        for (row, sums) in (kept..).zip(sums.get_mut(kept * width..)?.chunks_exact_mut(width.max(1))) {
            self.sum_pixels(first * down + row, sums);
            sums.iter_mut().for_each(|sum| *sum = sum.wrapping_mul(offset));
        }
        for (row, windows) in windows.chunks_exact_mut(self.plan.output.w.max(1)).take(outputs).enumerate() {
            let mut rows = sums.get(row * down * width..)?.get(..kh * width)?.chunks_exact(width.max(1));
            columns.get_mut(..width)?.copy_from_slice(rows.next()?.get(..width)?);
            rows.for_each(|sums| add(columns, sums.iter()));
            windows.fill(0);
            for tap in 0..kw {
                let columns = columns.get(tap * dilation..)?;
                if right == 1 {
                    add(windows, columns.iter());
                } else {
                    add(windows, columns.iter().step_by(right.max(1)));
                }
            }
        }
        Some(())
    }

    /// The sums of the codes of the pixels of a row, padding included.
    fn sum_pixels(&self, row: usize, sums: &mut [i32]) {
        let Shape { h, w, c } = self.plan.input;
        sums.fill(i32::from(self.conv.zero_in) * c as i32);
        let y = row.wrapping_sub(self.conv.pad[0]);
        let (Some(sums), true) = (sums.get_mut(self.conv.pad[1]..), y < h) else { return };
        let line = self.input.get(y * w * c..).unwrap_or_default();
        let pixels = w.min(line.len() / c.max(1)).min(sums.len());
        if c.is_multiple_of(4) && pixels > 0 {
            let (leaf, codes): (SumLeaf, _) = if c.is_multiple_of(16) { (sum_16, 16) } else { (sum_4, 4) };
            // SAFETY: there are so many pixels, one at least, and sums.
            unsafe { leaf(sums.as_mut_ptr(), line.as_ptr(), c / codes, pixels) };
        } else {
            for (sum, pixel) in sums.iter_mut().zip(line.chunks_exact(c.max(1))).take(pixels) {
                *sum = pixel.iter().map(|&code| i32::from(code)).sum();
            }
        }
    }
}

/// Adds to each of `to` one of `from`.
fn add<'a>(to: &mut [i32], from: impl Iterator<Item = &'a i32>) {
    to.iter_mut().zip(from).for_each(|(to, &from)| *to = to.wrapping_add(from));
}

/// A function for the words of a tile: `to` two a channel, `from` 4 channels for each of `quads`, at least one, `pitch`
/// from pixel to pixel. `$begin` comes first, with three pitches in r9; `$load` brings 4 channels of all pixels to
/// registers; `$words` makes words in r10 and r11 of the bytes at `\shift`.
macro_rules! pack {
    ($name:ident, [$($begin:literal),*], [$($load:literal),*], [$($words:literal),*]) => {
        #[unsafe(naked)]
        unsafe extern "C" fn $name(to: *mut u32, from: *const u8, pitch: usize, quads: usize) {
            naked_asm!(
                processor!(),
                "push {{r4-r11, lr}}",
                "add r9, r2, r2, lsl #1",
                $($begin,)*
                "2:",
                $($load,)*
                ".irp shift, 0, 8, 16, 24",
                $($words,)*
                "strd r10, r11, [r0], #8",
                ".endr",
                "subs r3, r3, #1",
                "bne 2b",
                "pop {{r4-r11, pc}}",
            )
        }
    };
}

pack!(
    pack_2,
    [],
    ["ldr r5, [r1, r2]", "ldr r6, [r1, r2, lsl #1]", "ldr r7, [r1, r9]", "ldr r4, [r1], #4"],
    [
        "ubfx r10, r4, #\\shift, #8",
        "ubfx r12, r5, #\\shift, #8",
        "orr r10, r10, r12, lsl #14",
        "ubfx r11, r6, #\\shift, #8",
        "ubfx r12, r7, #\\shift, #8",
        "orr r11, r11, r12, lsl #14"
    ]
);
pack!(
    pack_3,
    ["add r8, r1, r9"],
    [
        "ldr r5, [r1, r2]",
        "ldr r6, [r1, r2, lsl #1]",
        "ldr r4, [r1], #4",
        "ldr r9, [r8, r2]",
        "ldr lr, [r8, r2, lsl #1]",
        "ldr r7, [r8], #4"
    ],
    [
        "ubfx r10, r4, #\\shift, #8",
        "ubfx r12, r5, #\\shift, #8",
        "orr r10, r10, r12, lsl #10",
        "ubfx r12, r6, #\\shift, #8",
        "orr r10, r10, r12, lsl #20",
        "ubfx r11, r7, #\\shift, #8",
        "ubfx r12, r9, #\\shift, #8",
        "orr r11, r11, r12, lsl #10",
        "ubfx r12, lr, #\\shift, #8",
        "orr r11, r11, r12, lsl #20"
    ]
);
// Codes of four pixels, two bits each, share a byte; of its four copies, each keeps one.
pack!(
    pack_4,
    ["add r8, r1, r2, lsl #2", "movw r6, #0x0c03", "movt r6, #0xc030", "movw lr, #0x0101", "movt lr, #0x0101"],
    [
        "ldr r4, [r1, r9]",
        "ldr r5, [r1, r2, lsl #1]",
        "orr r4, r5, r4, lsl #2",
        "ldr r5, [r1, r2]",
        "orr r4, r5, r4, lsl #2",
        "ldr r5, [r1], #4",
        "orr r4, r5, r4, lsl #2",
        "ldr r7, [r8, r9]",
        "ldr r5, [r8, r2, lsl #1]",
        "orr r7, r5, r7, lsl #2",
        "ldr r5, [r8, r2]",
        "orr r7, r5, r7, lsl #2",
        "ldr r5, [r8], #4",
        "orr r7, r5, r7, lsl #2"
    ],
    [
        "ubfx r10, r4, #\\shift, #8",
        "mul r10, r10, lr",
        "and r10, r10, r6",
        "ubfx r11, r7, #\\shift, #8",
        "mul r11, r11, lr",
        "and r11, r11, r6"
    ]
);

/// The sums of `pixels` pixels of so many `parts` each, both at least one.
type SumLeaf = unsafe extern "C" fn(to: *mut i32, from: *const u8, parts: usize, pixels: usize);

/// A function for parts of `$words` words of codes.
macro_rules! sum {
    ($name:ident, $words:literal) => {
        #[unsafe(naked)]
        unsafe extern "C" fn $name(to: *mut i32, from: *const u8, parts: usize, pixels: usize) {
            naked_asm!(
                processor!(),
                "push {{r4-r6}}",
                "mov r6, #0",
                "2:",
                "mov r4, #0",
                "mov r5, r2",
                "3:",
                "subs r5, r5, #1",
                concat!(".rept ", $words),
                "ldr r12, [r1], #4",
                "usada8 r4, r12, r6, r4",
                ".endr",
                "bne 3b",
                "subs r3, r3, #1",
                "str r4, [r0], #4",
                "bne 2b",
                "pop {{r4-r6}}",
                "bx lr",
            )
        }
    };
}

sum!(sum_4, 1);
sum!(sum_16, 4);
