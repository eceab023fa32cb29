//! Convolution of few-bit weights and activations by packed multiplication; see [`crate::kernels::polynomial`].
//!
//! A strip of input rows becomes words of activations, tile by tile, so that the words of a window follow one
//! another from row to row; the codes of a few filters become words of weights, and stay for the whole strip. The
//! innermost loop is two double loads and four multiply-accumulates for a tile of 2 words by 2.

#![allow(unsafe_code, reason = "instructions that the language has no words for, and the addresses they read")]

use core::arch::{asm, naked_asm};

use crate::bits::read_code;
use crate::format::{Conv, Layout, Requantise, Shape, WORD_CHANNELS, WORD_CODES, WeightFormat, WeightGroup};
use crate::kernels::{ConvKernel, Isa};
use crate::kernels::polynomial::{Fields, Form, Polynomial, TAPS, TILE};
use crate::kernels::scratch::padded;

/// The kernel for a convolution whose weights are all in [`Layout::Words`] and narrow enough; `None` for others.
pub(super) fn kernel(isa: Isa, conv: &Conv<'_>) -> Option<ConvKernel> {
    let mut scratch_bytes = 0;
    for group in conv.weight_groups() {
        let plan = Polynomial::of(conv, group.format).filter(|_| group.layout == Layout::Words)?;
        scratch_bytes = scratch_bytes.max(plan.scratch_bytes(conv));
    }
    Some(ConvKernel { isa, scratch_bytes, run })
}

/// Leaves the output alone if the arguments do not fit together.
fn run(conv: &Conv<'_>, input: &[u8], output: &mut [u8], scratch: &mut [u8]) {
    let skip = scratch.as_ptr().align_offset(4);
    let Some(scratch) = scratch.get_mut(skip..) else { return };
    for group in conv.weight_groups() {
        let Some(plan) = Polynomial::of(conv, group.format) else { return };
        let strips = match (plan.fields, plan.form) {
            (Fields::Ten, Form::Taps) => strips::<10, 4>,
            (Fields::Ten, Form::Filters) => strips::<10, 3>,
            (Fields::Fourteen, _) => strips::<14, 2>,
        };
        // `None` would come of arguments that do not fit.
        let _ran = strips(&plan, conv, &group, input, output, scratch);
    }
}

/// A group of weights, with `A` activations in a word, `BITS` bits each.
fn strips<const BITS: usize, const A: usize>(
    plan: &Polynomial,
    conv: &Conv<'_>,
    group: &WeightGroup<'_>,
    input: &[u8],
    output: &mut [u8],
    scratch: &mut [u8],
) -> Option<()> {
    let (padding, scratch) = scratch.split_at_mut_checked(plan.input.c.next_multiple_of(4))?;
    padding.fill(conv.zero_in);
    let padding = padding.get(..plan.input.c)?;
    let words = scratch.len() / 4 * 4;
    let scratch: &mut [u32] = bytemuck::try_cast_slice_mut(scratch.get_mut(..words)?).ok()?;
    let (activations, scratch) = scratch.split_at_mut_checked(plan.activation_words())?;
    let (windows, scratch) = scratch.split_at_mut_checked(plan.windows())?;
    let windows: &mut [i32] = bytemuck::cast_slice_mut(windows);
    let levels = Levels::of(group.format, &conv.requantise)?;
    let rows = Rows { plan, conv, input, padding };
    let expand = match group.format.bits() {
        2 => expand::<BITS, A, 2>,
        4 if BITS > 10 => expand::<BITS, A, 4>,
        _ => expand::<BITS, A, 0>,
    };
    let mut first = 0;
    while first < plan.output.h {
        let outputs = plan.outputs.min(plan.output.h - first);
        rows.pack::<BITS, A>(first, activations)?;
        rows.sum_windows(first, outputs, &levels, bytemuck::try_cast_slice_mut(scratch).ok()?, windows)?;
        let (weights, scratch) = scratch.split_at_mut_checked(plan.weight_words())?;
        let sums: &mut [i32] = bytemuck::try_cast_slice_mut(scratch.get_mut(..plan.sum_words())?).ok()?;
        for channel in (0..group.channels).step_by(plan.filters()) {
            expand(plan, conv, group, channel, weights)?;
            let finish = Finish::of(conv, group, channel, plan.filters(), &levels)?;
            for row in 0..outputs {
                multiply(plan, conv, row, activations, weights, sums)?;
                let windows = windows.get(row * plan.output.w..)?.get(..plan.output.w)?;
                let at = (first + row) * plan.output.w * conv.output.c;
                let output = output.get_mut(at..).unwrap_or_default();
                match plan.form {
                    Form::Taps => finish.row::<TILE>(sums.get((TAPS - 1 - plan.first) * TILE..)?, windows, output),
                    Form::Filters => finish.row::<{ 2 * TILE }>(sums, windows, output),
                }
            }
        }
        first += outputs;
    }
    Some(())
}

/// How codes of weights become fields, and fields levels: `level = scale * field + offset`.
struct Levels {
    /// Of the convolution.
    pre: u32,
    /// In each of eight codes, what turns two's complement into numbers from the lowest level on.
    flip: u32,
    scale: i32,
    offset: i32,
}

impl Levels {
    fn of(format: WeightFormat, requantise: &Requantise) -> Option<Levels> {
        let (bits, pre) = (format.bits(), requantise.pre.into());
        match format {
            WeightFormat::Linear(1) => Some(Levels { pre, flip: 0, scale: 2, offset: -1 }),
            WeightFormat::Linear(2) => Some(Levels { pre, flip: 0, scale: 2, offset: -3 }),
            WeightFormat::Linear(_) | WeightFormat::Ternary => {
                let sign = 1 << (bits - 1);
                let flip = (0..8).fold(0u32, |flip, _| flip << bits | sign);
                Some(Levels { pre, flip, scale: 1, offset: -(sign as i32) })
            }
            WeightFormat::Codebook(_) => None,
        }
    }

    /// A summand of what is to be requantised.
    fn shifted(&self, summand: i32) -> i32 {
        summand.wrapping_shl(self.pre)
    }
}

/// The input as rows of pixels, padding included.
struct Rows<'a> {
    plan: &'a Polynomial,
    conv: &'a Conv<'a>,
    input: &'a [u8],
    /// A pixel of padding.
    padding: &'a [u8],
}

impl<'a> Rows<'a> {
    /// The codes of a pixel, counted from the first of the padding.
    #[inline]
    fn pixel(&self, row: usize, column: usize) -> &'a [u8] {
        let shape = self.plan.input;
        let [y, x] = [row.wrapping_sub(self.conv.pad[0]), column.wrapping_sub(self.conv.pad[1])];
        let inside = y < shape.h && x < shape.w;
        let at = if inside { (y * shape.w + x) * shape.c } else { usize::MAX - shape.c };
        self.input.get(at..at + shape.c).unwrap_or(self.padding)
    }

    /// Packs the rows of the strip that begins at output row `first`.
    fn pack<const BITS: usize, const A: usize>(&self, first: usize, to: &mut [u32]) -> Option<()> {
        let plan = self.plan;
        let mut to = to.chunks_exact_mut(plan.input.c * TILE);
        let top = first * self.conv.stride[0];
        let (step, word) = match plan.form {
            Form::Taps => (1, TAPS),
            Form::Filters => (self.conv.stride[1], self.conv.dilation[1]),
        };
        for tile in 0..plan.tiles {
            for row in top..top + plan.rows {
                for tap in 0..plan.words {
                    let to = to.next()?;
                    for half in 0..TILE {
                        let column = plan.first + tap * word + (tile * TILE + half) * A * step;
                        let mut columns = (0..A).map(|i| column + i * step);
                        let pixels = [(); A].map(|()| columns.next().map_or(self.padding, |x| self.pixel(row, x)));
                        pack_pixels::<BITS, A>(pixels, half, to);
                    }
                }
            }
        }
        Some(())
    }

    /// What all filters of the strip have in common: the sums of the windows, times the offset of the levels.
    fn sum_windows(
        &self,
        first: usize,
        outputs: usize,
        levels: &Levels,
        sums: &mut [i32],
        windows: &mut [i32],
    ) -> Option<()> {
        let conv = self.conv;
        let ([kh, kw], [down, right], dilation) = (conv.kernel, conv.stride, conv.dilation[1]);
        let offset = levels.shifted(levels.offset);
        let columns = padded(conv, 1, self.plan.output.w);
        let (columns, rows) = sums.split_at_mut_checked(columns)?;
        for (row, sums) in rows.chunks_exact_mut(columns.len()).take(padded(conv, 0, outputs)).enumerate() {
            self.sum_pixels(first * down + row, sums);
        }
        for (row, windows) in windows.chunks_exact_mut(self.plan.output.w).take(outputs).enumerate() {
            columns.fill(0);
            for sums in rows.chunks_exact(columns.len()).skip(row * down).take(kh) {
                columns.iter_mut().zip(sums).for_each(|(column, sum)| *column += sum);
            }
            windows.fill(0);
            for tap in 0..kw {
                let columns = columns.get(tap * dilation..)?.iter().step_by(right);
                windows.iter_mut().zip(columns).for_each(|(window, column)| *window = column.wrapping_mul(offset).wrapping_add(*window));
            }
        }
        Some(())
    }

    /// The sums of the codes of the pixels of a row, padding included.
    fn sum_pixels(&self, row: usize, sums: &mut [i32]) {
        sums.fill(sum_codes(self.padding));
        let Shape { h, w, c } = self.plan.input;
        let y = row.wrapping_sub(self.conv.pad[0]);
        if y < h {
            let pixels = self.input.get(y * w * c..).unwrap_or_default().chunks_exact(c).take(w);
            for (sum, pixel) in sums.iter_mut().skip(self.conv.pad[1]).zip(pixels) {
                *sum = sum_codes(pixel);
            }
        }
    }
}

/// A word for every channel of `A` pixels: word `half` of each step.
#[inline]
fn pack_pixels<const BITS: usize, const A: usize>(pixels: [&[u8]; A], half: usize, to: &mut [u32]) {
    let quads = pixels.map(|pixel| pixel.as_chunks::<4>());
    let count = quads[0].0.len();
    let (to, rest) = to.as_chunks_mut::<{ 4 * TILE }>();
    if quads.iter().all(|(quads, _)| quads.len() == count) {
        for (q, to) in to.iter_mut().enumerate().take(count) {
            let codes = quads.map(|(quads, _)| u32::from_le_bytes(quads[q]));
            for (lane, to) in to.iter_mut().skip(half).step_by(TILE).enumerate() {
                *to = (0..A).fold(0, |word, i| word | (codes[i] >> (8 * lane) & 0xff) << (BITS * i));
            }
        }
    }
    for (c, to) in rest.iter_mut().skip(half).step_by(TILE).enumerate() {
        *to = (0..A).fold(0, |word, i| word | u32::from(quads[i].1.get(c).copied().unwrap_or(0)) << (BITS * i));
    }
}

/// The sum of the codes of a pixel.
#[inline]
fn sum_codes(codes: &[u8]) -> i32 {
    let (words, rest) = codes.as_chunks::<4>();
    let sum = words.iter().fold(0, |sum, word| add_bytes(u32::from_le_bytes(*word), sum));
    rest.iter().fold(sum as i32, |sum, &code| sum + i32::from(code))
}

/// Turns the codes of the filters from `channel` on into words of weights, step after step, 0 beyond the last step
/// and the last filter. Codes have `CODE` bits, or any number if that is 0.
fn expand<const BITS: usize, const A: usize, const CODE: u32>(
    plan: &Polynomial,
    conv: &Conv<'_>,
    group: &WeightGroup<'_>,
    channel: usize,
    weights: &mut [u32],
) -> Option<()> {
    let (c, taps) = (plan.input.c, conv.kernel[1]);
    let bits = if CODE == 0 { group.format.bits() } else { CODE };
    let flip = Levels::of(group.format, &conv.requantise)?.flip;
    let (weights, beyond) = weights.split_at_mut_checked(conv.kernel[0] * plan.row_steps() * TILE)?;
    beyond.fill(0);
    let bytes = conv.packed_bytes(WORD_CHANNELS, group.format, group.layout);
    let run = |pair: usize, k: usize| {
        let codes = group.codes.get((channel / WORD_CHANNELS + pair) * bytes..).unwrap_or_default();
        Run { codes, bits, flip, k }
    };
    for (index, to) in weights.chunks_exact_mut(c * TILE).enumerate() {
        let (row, word) = (index / plan.words, index % plan.words);
        match plan.form {
            Form::Taps => {
                let tap = |i: usize| {
                    let tap = word * TAPS + i;
                    if tap < taps { run(0, (row * taps + tap) * c) } else { Run::NONE }
                };
                spread([tap(0), tap(1), tap(2)], to, |[first, second, third], lane, half| {
                    let at = |codes: u32| codes >> ((half * 4 + lane) * bits) & ((1 << bits) - 1);
                    at(first) << (2 * BITS) | at(second) << BITS | at(third)
                });
            }
            Form::Filters => {
                let k = (row * taps + word) * c;
                spread([run(0, k), run(1, k)], to, |pairs, lane, half| {
                    let at = |filter: u32| pairs[half as usize] >> ((filter * 4 + lane) * bits) & ((1 << bits) - 1);
                    at(0) | at(1) << (A * BITS)
                });
            }
        }
    }
    Some(())
}

/// Some codes of a pair of filters.
#[derive(Clone, Copy)]
struct Run<'a> {
    /// All codes of the pair; nothing if there is none.
    codes: &'a [u8],
    bits: u32,
    /// See [`Levels`].
    flip: u32,
    /// The first weight.
    k: usize,
}

impl Run<'_> {
    const NONE: Run<'static> = Run { codes: &[], bits: 1, flip: 0, k: 0 };

    /// Weights `4 * i` to `4 * i + 4` of both filters, those of the first in the lower half.
    #[inline(always)]
    fn eight(&self, i: usize) -> u32 {
        let bytes = self.bits as usize;
        let at = (self.k / WORD_CODES + i) * bytes;
        match self.codes.get(at..at + bytes) {
            Some(codes) => codes.iter().rev().fold(0, |word, &byte| word << 8 | u32::from(byte)) ^ self.flip,
            None => 0,
        }
    }

    /// The same if the run begins within the four codes that a filter has in a row.
    #[cold]
    #[inline(never)]
    fn scattered_eight(&self, i: usize) -> u32 {
        if self.codes.is_empty() {
            return 0;
        }
        let mut codes = 0;
        for filter in (0..WORD_CHANNELS).rev() {
            let first = self.k + i * WORD_CODES;
            for k in (first..first + WORD_CODES).rev() {
                let index = (k / WORD_CODES * WORD_CHANNELS + filter) * WORD_CODES + k % WORD_CODES;
                codes = codes << self.bits | u32::from(read_code(self.codes, self.bits, index));
            }
        }
        codes ^ self.flip
    }
}

/// Words `to[c * TILE + half]` out of the codes of each run: `word` makes one out of eight codes of each, `c % 4` and
/// `half`.
#[inline(always)]
fn spread<const N: usize>(runs: [Run<'_>; N], to: &mut [u32], word: impl Fn([u32; N], u32, u32) -> u32) {
    let (quads, rest) = to.as_chunks_mut::<{ WORD_CODES * TILE }>();
    if rest.is_empty() {
        for (i, to) in quads.iter_mut().enumerate() {
            let codes = runs.map(|run| run.eight(i));
            for (n, to) in to.iter_mut().enumerate() {
                *to = word(codes, (n / TILE) as u32, (n % TILE) as u32);
            }
        }
    } else {
        for (i, to) in to.chunks_mut(WORD_CODES * TILE).enumerate() {
            let codes = runs.map(|run| run.scattered_eight(i));
            for (n, to) in to.iter_mut().enumerate() {
                *to = word(codes, (n / TILE) as u32, (n % TILE) as u32);
            }
        }
    }
}

/// Adds the products of a row of windows to its sums.
fn multiply(
    plan: &Polynomial,
    conv: &Conv<'_>,
    row: usize,
    activations: &[u32],
    weights: &[u32],
    sums: &mut [i32],
) -> Option<()> {
    let row_words = plan.row_steps().checked_mul(TILE)?;
    let tile_words = plan.rows.checked_mul(row_words)?;
    let weights = weights.get(..plan.weight_words())?;
    let start = (row * conv.stride[0]).checked_mul(row_words)?;
    let last = plan.tiles.checked_sub(1)?.checked_mul(tile_words)?.checked_add(start)?;
    let cover = plan.columns() * plan.filters() <= sums.len();
    let tiled = plan.tiled_columns() * plan.filters();
    if last.checked_add(weights.len())? > activations.len() || !cover || plan.run == 0 {
        return None;
    }
    // The first tile adds to those too that others overlap; the last may leave some beyond its own alone.
    sums.iter_mut().take(OVERLAP).for_each(|sum| *sum = 0);
    sums.get_mut(tiled..)?.fill(0);
    let mut job = Job {
        activations: activations.get(start..)?.as_ptr(),
        tile_bytes: tile_words * 4,
        weights: weights.as_ptr(),
        weights_end: weights.as_ptr_range().end,
        first_end: weights.get(..plan.run * TILE)?.as_ptr_range().end,
        run_bytes: plan.run * TILE * 4,
        sums: sums.as_mut_ptr(),
        tiles: plan.tiles,
    };
    let tiles = match (plan.fields, plan.form) {
        (Fields::Ten, Form::Taps) => taps_10,
        (Fields::Ten, Form::Filters) => filters_10,
        (Fields::Fourteen, Form::Taps) => taps_14,
        (Fields::Fourteen, Form::Filters) => filters_14,
    };
    // SAFETY: every tile reads as many words of activations as there are weights, inside `activations`; the weights are
    // whole runs; the sums of all tiles, and those that the last of them overlaps, are inside `sums`.
    unsafe { tiles(&mut job) };
    Some(())
}

/// Sums of a tile that those of the next one overlap.
const OVERLAP: usize = (TAPS - 1) * TILE;

/// A row of tiles.
#[repr(C)]
struct Job {
    /// Words of the first tile.
    activations: *const u32,
    /// From tile to tile.
    tile_bytes: usize,
    /// Whole runs of words.
    weights: *const u32,
    /// Where the last of them ends.
    weights_end: *const u32,
    /// Where the first of them ends.
    first_end: *const u32,
    /// Of a run.
    run_bytes: usize,
    /// Column after column, filter after filter.
    sums: *mut i32,
    /// At least one.
    tiles: usize,
}

/// Field `i`, counted from the lowest, of the pair of registers `lo` and `hi`.
macro_rules! field {
    (10, 0, $to:literal, $lo:literal, $hi:literal) => { concat!("ubfx ", $to, ", ", $lo, ", #0, #10\n") };
    (10, 1, $to:literal, $lo:literal, $hi:literal) => { concat!("ubfx ", $to, ", ", $lo, ", #10, #10\n") };
    (10, 2, $to:literal, $lo:literal, $hi:literal) => { concat!("ubfx ", $to, ", ", $lo, ", #20, #10\n") };
    (10, 3, $to:literal, $lo:literal, $hi:literal) => {
        concat!("lsr ", $to, ", ", $lo, ", #30\n bfi ", $to, ", ", $hi, ", #2, #8\n")
    };
    (10, 4, $to:literal, $lo:literal, $hi:literal) => { concat!("ubfx ", $to, ", ", $hi, ", #8, #10\n") };
    (10, 5, $to:literal, $lo:literal, $hi:literal) => { concat!("lsr ", $to, ", ", $hi, ", #18\n") };
    (14, 0, $to:literal, $lo:literal, $hi:literal) => { concat!("ubfx ", $to, ", ", $lo, ", #0, #14\n") };
    (14, 1, $to:literal, $lo:literal, $hi:literal) => { concat!("ubfx ", $to, ", ", $lo, ", #14, #14\n") };
    (14, 2, $to:literal, $lo:literal, $hi:literal) => {
        concat!("lsr ", $to, ", ", $lo, ", #28\n bfi ", $to, ", ", $hi, ", #4, #10\n")
    };
    (14, 3, $to:literal, $lo:literal, $hi:literal) => { concat!("lsr ", $to, ", ", $hi, ", #10\n") };
}

/// Stores r8 and r9 as the sums at an offset from r12, or adds them there.
macro_rules! keep {
    (put, $at:literal) => { concat!("strd r8, r9, [r12, #", $at, "]\n") };
    (add, $at:literal) => {
        concat!("ldrd r10, r11, [r12, #", $at, "]\n add r8, r8, r10\n add r9, r9, r11\n", keep!(put, $at))
    };
}

/// Sums of a column of two filters: fields of the products by the first word of activations, by the second, or by both.
macro_rules! column {
    ($keep:tt, $bits:tt, $i:tt -, $at:literal) => {
        concat!(field!($bits, $i, "r8", "r0", "r1"), field!($bits, $i, "r9", "r4", "r5"), keep!($keep, $at))
    };
    ($keep:tt, $bits:tt, - $i:tt, $at:literal) => {
        concat!(field!($bits, $i, "r8", "r2", "r3"), field!($bits, $i, "r9", "r6", "r7"), keep!($keep, $at))
    };
    ($keep:tt, $bits:tt, $i:tt $j:tt, $at:literal) => {
        concat!(
            field!($bits, $i, "r8", "r0", "r1"), field!($bits, $j, "r10", "r2", "r3"), "add r8, r8, r10\n",
            field!($bits, $i, "r9", "r4", "r5"), field!($bits, $j, "r11", "r6", "r7"), "add r9, r9, r11\n",
            keep!($keep, $at)
        )
    };
}

/// Sums of all columns of a tile, two filters each; those that the tile before overlaps are added in any case.
macro_rules! taps {
    ($keep:tt, 14) => {
        concat!(
            column!(add, 14, 0 -, 0), column!(add, 14, 1 -, 8), column!($keep, 14, 2 0, 16),
            column!($keep, 14, 3 1, 24), column!($keep, 14, - 2, 32), column!($keep, 14, - 3, 40)
        )
    };
    ($keep:tt, 10) => {
        concat!(
            column!(add, 10, 0 -, 0), column!(add, 10, 1 -, 8), column!($keep, 10, 2 -, 16),
            column!($keep, 10, 3 -, 24), column!($keep, 10, 4 0, 32), column!($keep, 10, 5 1, 40),
            column!($keep, 10, - 2, 48), column!($keep, 10, - 3, 56), column!($keep, 10, - 4, 64),
            column!($keep, 10, - 5, 72)
        )
    };
}

/// Sums of a column for the two filters of a word.
macro_rules! pair {
    ($keep:tt, $bits:tt, $i:tt $j:tt, $lo:literal $hi:literal, $at:literal) => {
        concat!(field!($bits, $i, "r8", $lo, $hi), field!($bits, $j, "r9", $lo, $hi), keep!($keep, $at))
    };
}

/// Sums of all columns of a tile, four filters each.
macro_rules! filters {
    ($keep:tt, 14) => {
        concat!(
            pair!($keep, 14, 0 2, "r0" "r1", 0), pair!($keep, 14, 0 2, "r4" "r5", 8),
            pair!($keep, 14, 1 3, "r0" "r1", 16), pair!($keep, 14, 1 3, "r4" "r5", 24),
            pair!($keep, 14, 0 2, "r2" "r3", 32), pair!($keep, 14, 0 2, "r6" "r7", 40),
            pair!($keep, 14, 1 3, "r2" "r3", 48), pair!($keep, 14, 1 3, "r6" "r7", 56)
        )
    };
    ($keep:tt, 10) => {
        concat!(
            pair!($keep, 10, 0 3, "r0" "r1", 0), pair!($keep, 10, 0 3, "r4" "r5", 8),
            pair!($keep, 10, 1 4, "r0" "r1", 16), pair!($keep, 10, 1 4, "r4" "r5", 24),
            pair!($keep, 10, 2 5, "r0" "r1", 32), pair!($keep, 10, 2 5, "r4" "r5", 40),
            pair!($keep, 10, 0 3, "r2" "r3", 48), pair!($keep, 10, 0 3, "r6" "r7", 56),
            pair!($keep, 10, 1 4, "r2" "r3", 64), pair!($keep, 10, 1 4, "r6" "r7", 72),
            pair!($keep, 10, 2 5, "r2" "r3", 80), pair!($keep, 10, 2 5, "r6" "r7", 88)
        )
    };
}

/// A step: two words of activations by two of weights, each by each, `umull` or `umlal`.
macro_rules! step {
    ($multiply:literal) => {
        concat!(
            "ldrd r8, r9, [r12], #8\n ldrd r10, r11, [lr], #8\n",
            $multiply, " r0, r1, r8, r10\n", $multiply, " r2, r3, r9, r10\n",
            $multiply, " r4, r5, r8, r11\n", $multiply, " r6, r7, r9, r11\n"
        )
    };
}

/// A function for a row of tiles of `$bytes` bytes of sums each.
macro_rules! tiles {
    ($name:ident, $form:ident $bits:tt, $bytes:literal) => {
        #[unsafe(naked)]
        unsafe extern "C" fn $name(job: *mut Job) {
            naked_asm!(
                "push {{r4-r11, lr}}",
                // End of the run; job; activations.
                "sub sp, sp, #12",
                "str r0, [sp, #4]",
                // A tile.
                "2:",
                "ldrd r2, r3, [r0]",
                "ldr lr, [r0, #8]",
                "mov r12, r2",
                "add r2, r2, r3",
                "str r2, [r0]",
                // A run.
                "3:",
                "ldr r1, [r0, #20]",
                "add r1, r1, lr",
                "str r1, [sp]",
                step!("umull"),
                ".rept 7",
                step!("umlal"),
                ".endr",
                "ldr r8, [sp]",
                "cmp lr, r8",
                "beq 5f",
                "4:",
                ".rept 8",
                step!("umlal"),
                ".endr",
                "ldr r8, [sp]",
                "cmp lr, r8",
                "bne 4b",
                "5:",
                "ldr r10, [sp, #4]",
                "str r12, [sp, #8]",
                "ldr r11, [r10, #16]",
                "ldr r12, [r10, #24]",
                "cmp lr, r11",
                "bne 6f",
                $form!(put, $bits),
                "b 7f",
                "6:",
                $form!(add, $bits),
                "7:",
                "ldr r0, [sp, #4]",
                "ldr r1, [r0, #12]",
                "ldr r12, [sp, #8]",
                "cmp lr, r1",
                "bne 3b",
                "ldrd r2, r3, [r0, #24]",
                concat!("add r2, r2, #", $bytes),
                "subs r3, r3, #1",
                "strd r2, r3, [r0, #24]",
                "bne 2b",
                "add sp, sp, #12",
                "pop {{r4-r11, pc}}",
            )
        }
    };
}

tiles!(taps_10, taps 10, 64);
tiles!(taps_14, taps 14, 32);
tiles!(filters_10, filters 10, 96);
tiles!(filters_14, filters 14, 64);

/// From the sums of a few filters to codes. The shift before the high multiplication is in all summands already.
struct Finish {
    /// First channel of the output, and how many.
    first: usize,
    channels: usize,
    bias: [i32; 2 * TILE],
    mult: [i32; 2 * TILE],
    scale: i32,
    requantise: Requantise,
    /// Channels of the output.
    pitch: usize,
}

impl Finish {
    fn of(
        conv: &Conv<'_>,
        group: &WeightGroup<'_>,
        channel: usize,
        filters: usize,
        levels: &Levels,
    ) -> Option<Finish> {
        let first = group.first + channel;
        let channels = filters.min(group.channels - channel);
        let (mut bias, mut mult) = ([0; 2 * TILE], [0; 2 * TILE]);
        bias.get_mut(..channels)?.copy_from_slice(conv.bias.get(first..first + channels)?);
        mult.get_mut(..channels)?.copy_from_slice(conv.mult.get(first..first + channels)?);
        let (requantise, pitch) = (conv.requantise, conv.output.c);
        let bias = bias.map(|bias| levels.shifted(bias));
        Some(Finish { first, channels, bias, mult, scale: levels.shifted(levels.scale), requantise, pitch })
    }

    /// A row of pixels, `N` sums each.
    fn row<const N: usize>(&self, sums: &[i32], windows: &[i32], output: &mut [u8]) {
        let pixels = windows.len().min(output.len() / self.pitch).min(sums.len() / N);
        let fast = if self.channels == N { pixels - pixels % 2 } else { 0 };
        let output = output.get_mut(self.first..).unwrap_or_default();
        let every = |byte: u8| u32::from_le_bytes([byte; 4]);
        for pair in (0..N).step_by(2).take_while(|_| fast > 0) {
            let mut pixels = Pixels {
                sums: sums.as_ptr().wrapping_add(pair),
                windows: windows.as_ptr(),
                output: output.as_mut_ptr().wrapping_add(pair),
                pitch: self.pitch,
                bias: [self.bias[pair], self.bias[pair + 1]],
                mult: [self.mult[pair], self.mult[pair + 1]],
                zero: self.requantise.zero.into(),
                scale: self.scale,
                hi: every(self.requantise.hi),
                lo: every(self.requantise.lo),
                windows_end: windows.as_ptr().wrapping_add(fast),
            };
            // SAFETY: so many pixels, an even number above 0, have `N` sums, a window, and `pitch` bytes of output each,
            // of which the channels are the first ones.
            unsafe {
                if N == TILE { finish_2(&mut pixels) } else { finish_4(&mut pixels) }
            }
        }
        let each = sums.chunks_exact(N).zip(windows).zip(output.chunks_mut(self.pitch));
        for ((sums, &window), output) in each.take(pixels).skip(fast) {
            for (i, (code, &sum)) in output.iter_mut().zip(sums).take(self.channels).enumerate() {
                let sum = sum.wrapping_mul(self.scale).wrapping_add(window).wrapping_add(self.bias[i]);
                let code_of = Requantise { pre: 0, ..self.requantise };
                *code = code_of.apply(sum, self.mult[i]);
            }
        }
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
    hi: u32,
    lo: u32,
    windows_end: *const i32,
}

/// A function for two channels out of `$filters`, two pixels at a time.
macro_rules! finish {
    ($name:ident, $bytes:literal) => {
        #[unsafe(naked)]
        unsafe extern "C" fn $name(pixels: *mut Pixels) {
            naked_asm!(
                "push {{r4-r11, lr}}",
                "ldr r1, [r0, #40]",
                "ldr r2, [r0, #44]",
                "ldr r3, [r0, #48]",
                "push {{r1-r3}}",
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
                // Each byte at most `hi`, at least `lo`.
                "ldrd r10, r11, [sp]",
                "uqsub8 r10, r12, r10",
                "sub r12, r12, r10",
                "uqsub8 r11, r11, r12",
                "add r12, r12, r11",
                "ldr lr, [sp, #8]",
                "strh r12, [r2]",
                "lsr r12, r12, #16",
                "strh r12, [r2, r3]",
                "add r2, r2, r3, lsl #1",
                "cmp r1, lr",
                "bne 2b",
                "add sp, sp, #12",
                "pop {{r4-r11, pc}}",
            )
        }
    };
}

finish!(finish_2, 8);
finish!(finish_4, 16);

/// The bytes of a word, added to a sum.
#[inline(always)]
fn add_bytes(bytes: u32, sum: u32) -> u32 {
    let total;
    // SAFETY: registers alone.
    unsafe {
        asm!("usada8 {total}, {bytes}, {zero}, {sum}", total = lateout(reg) total, bytes = in(reg) bytes,
            zero = in(reg) 0, sum = in(reg) sum, options(pure, nomem, nostack, preserves_flags));
    }
    total
}
