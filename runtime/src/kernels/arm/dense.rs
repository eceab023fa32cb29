//! Dense convolution: tiles of three windows and two output channels.
//!
//! The windows of a tile are gathered and taken apart once for all channels. A layer of one pixel or two, as fully
//! connected ones are, multiplies each window where it lies, some weights as they are coded.

use core::array::from_fn;
use core::num::NonZero;
use core::ops::Range;

use super::tile::{self, Job, Rows, Runs, STEP, Scale, WINDOWS};
use super::windows::Windows;
use super::{levels, stream};
use crate::format::{Conv, WORD_CHANNELS, WeightGroup};
use crate::kernels::scratch::{WordAlign, WordDense, aligned_words};

/// Dense convolution of weights in [`Layout::Words`](crate::format::Layout::Words); leaves the output alone if the
/// arguments do not fit together.
pub(super) fn run(conv: &Conv<'_>, input: &[u8], output: &mut [u8], scratch: &mut [u8]) {
    let scratch = aligned_words(scratch);
    for group in conv.weight_groups() {
        // `None` would come of arguments that do not fit together.
        let _ran = self::group(conv, &group, input, output, scratch);
    }
}

/// Block after block of channels, as many as are decoded at once.
fn group(conv: &Conv<'_>, group: &WeightGroup<'_>, input: &[u8], output: &mut [u8], scratch: &mut [u8]) -> Option<()> {
    let plan = WordDense::of(conv, group.format);
    let (windows, scratch) = scratch.split_at_mut_checked(plan.windows)?;
    let (edges, scratch) = scratch.split_at_mut_checked(plan.edges)?;
    let (copied, scratch) = scratch.split_at_mut_checked(plan.numbers)?;
    if WordDense::streams(conv, group.format) {
        let mut gather = Gather::new(conv, input, edges)?;
        for (pixel, output) in output.chunks_exact_mut(conv.output.c.max(1)).enumerate() {
            stream::pixel(conv, group, gather.single(pixel)?, windows, output)?;
        }
        return Some(());
    }
    let depth = conv.depth().next_multiple_of(STEP);
    let in_place = plan.levels == 0;
    let most = if in_place { group.channels } else { plan.levels.checked_div(depth)? };
    let mut begun = 0;
    while begun < group.channels {
        let (first, channels) = (begun, most.clamp(1, group.channels - begun));
        begun += channels;
        let padded = channels.next_multiple_of(WORD_CHANNELS) * depth;
        let levels: &[i8] = if in_place {
            bytemuck::cast_slice(group.codes.get(..padded)?)
        } else {
            let levels = bytemuck::cast_slice_mut(scratch.get_mut(..padded)?);
            levels::decode(conv, group, first, levels)?;
            levels
        };
        let first = group.first + first;
        let numbers = first..first + channels;
        let [bias, mult] = match plan.numbers {
            0 => [conv.bias.get(numbers.clone())?, conv.mult.get(numbers)?],
            _ => levels::numbers(conv, numbers, copied)?,
        };
        let block = Block { first, bias, mult, levels, depth };
        let mut gather = Gather::new(conv, input, edges)?;
        let pixels = conv.output.h * conv.output.w;
        if plan.windows > 0 {
            tiles(conv, &block, &mut gather, pixels, windows, output)?;
        } else if group.channels == conv.output.c && WordDense::is_tailed(conv) {
            let tail = output.len().checked_sub(WordDense::tile_bytes(conv) + align_of::<WordAlign>())?;
            let (body, tail) = output.split_at_mut_checked(tail)?;
            let tiled = body.len().checked_div(conv.output.c)?;
            tiles(conv, &block, &mut gather, tiled, aligned_words(tail), body)?;
            singles(conv, &block, &mut gather, tiled..pixels, output)?;
        } else {
            singles(conv, &block, &mut gather, 0..pixels, output)?;
        }
    }
    Some(())
}

/// A run of output channels with their levels: `depth` for each, a multiple of [`STEP`], and for a channel that makes
/// their number even.
struct Block<'a> {
    first: usize,
    bias: &'a [i32],
    mult: &'a [i32],
    levels: &'a [i8],
    depth: usize,
}

/// The first pixels, so many and as many as a tile has at least.
fn tiles(
    conv: &Conv<'_>,
    block: &Block<'_>,
    gather: &mut Gather<'_>,
    pixels: usize,
    windows: &mut [u8],
    output: &mut [u8],
) -> Option<()> {
    let window = windows.get_mut(..WordDense::tile_bytes(conv))?;
    let (codes, sums) = window.split_last_chunk_mut::<{ size_of::<[u32; WINDOWS]>() }>()?;
    let sums: &mut [u32; WINDOWS] = bytemuck::try_cast_mut(sums).ok()?;
    let mut job = Job::of_tiles(Scale::new(&conv.requantise), block.depth);
    (job.window, job.end) = (codes.as_ptr(), codes.as_ptr_range().end);
    for first in (0..pixels).step_by(WINDOWS) {
        // The last tile meets the one before it.
        let first = first.min(pixels.checked_sub(WINDOWS)?);
        gather.tile(first, codes, sums);
        let output = output.get_mut(first * conv.output.c..)?.get_mut(..WINDOWS * conv.output.c)?;
        // SAFETY: `gather` has filled the windows and their sums, which follow.
        unsafe { block.multiply(&mut job, &Leaf::TILE, conv.output.c, output)? };
    }
    Some(())
}

/// Pixels one by one.
fn singles(
    conv: &Conv<'_>,
    block: &Block<'_>,
    gather: &mut Gather<'_>,
    pixels: Range<usize>,
    output: &mut [u8],
) -> Option<()> {
    let mut job = Job::of_singles(Scale::new(&conv.requantise), block.depth);
    for pixel in pixels {
        let output = output.get_mut(pixel * conv.output.c..)?.get_mut(..conv.output.c)?;
        let window = gather.single(pixel)?.get(..block.depth)?.as_ptr_range();
        (job.window, job.end) = (window.start, window.end);
        // SAFETY: the window is whole words, one at least.
        job.offset = unsafe { tile::sum(window.start, block.depth / STEP) } << 7;
        // SAFETY: the window has as many codes as channels have levels.
        unsafe { block.multiply(&mut job, &Leaf::SINGLE, conv.output.c, output)? };
    }
    Some(())
}

/// Channels that a leaf takes together, at most.
const MOST: usize = 4;

/// A loop that multiplies windows by the levels of some channels together, again and again.
struct Leaf {
    run: unsafe extern "C" fn(&mut Job),
    /// Pixels that it stores.
    pixels: usize,
    /// A power of 2.
    together: usize,
}

impl Leaf {
    const TILE: Leaf = Leaf { run: tile::tile, pixels: WINDOWS, together: 2 };
    const SINGLE: Leaf = Leaf { run: tile::single, pixels: 1, together: 4 };
}

impl Block<'_> {
    /// All channels of the pixels of a leaf, `step` bytes apart, to be stored in `output`.
    ///
    /// # Safety
    /// The job has windows as the leaf takes them.
    #[inline(always)]
    unsafe fn multiply(&self, job: &mut Job, leaf: &Leaf, step: usize, output: &mut [u8]) -> Option<()> {
        let channels = self.bias.len();
        let whole = channels & !(leaf.together - 1);
        let fits = self.mult.len() == channels
            && self.levels.len() >= channels.next_multiple_of(WORD_CHANNELS) * self.depth
            && self.first + channels <= step
            && output.len() >= leaf.pixels * step;
        if !fits {
            return None;
        }
        let output = output.get_mut(self.first..)?;
        if whole > 0 {
            (job.levels, job.bias, job.mult) = (self.levels.as_ptr(), self.bias.as_ptr(), self.mult.as_ptr());
            (job.output, job.step) = (output.as_mut_ptr(), step);
            (job.last, job.pair) = (job.output.wrapping_add(whole), WORD_CHANNELS * self.depth);
            // SAFETY: levels, biases and multipliers are those of as many channels, which lie in each pixel.
            unsafe { (leaf.run)(job) };
        }
        if whole < channels {
            // SAFETY: as above.
            unsafe { self.multiply_rest(job, leaf, whole, step, output)? };
        }
        Some(())
    }

    /// The channels from `whole` on, less than the leaf takes together: with neighbours that are not there, or that are
    /// themselves.
    ///
    /// # Safety
    /// As for [`multiply`](Self::multiply), which has checked the lengths.
    #[inline(never)]
    unsafe fn multiply_rest(
        &self,
        job: &mut Job,
        leaf: &Leaf,
        whole: usize,
        step: usize,
        output: &mut [u8],
    ) -> Option<()> {
        let rest = self.bias.len() - whole;
        let (bias, mult) = (tile::quad_of(self.bias, whole), tile::quad_of(self.mult, whole));
        let mut codes = [0; MOST * WINDOWS];
        job.levels = self.levels.get(whole * self.depth..)?.as_ptr();
        (job.bias, job.mult) = (bias.as_ptr(), mult.as_ptr());
        (job.output, job.step) = (codes.as_mut_ptr(), leaf.together);
        job.last = job.output.wrapping_add(leaf.together);
        job.pair = if rest > WORD_CHANNELS { WORD_CHANNELS * self.depth } else { 0 };
        // SAFETY: there are so many of each of them.
        unsafe { (leaf.run)(job) };
        for pixel in 0..leaf.pixels {
            let (to, from) = (output.get_mut(pixel * step + whole..)?, codes.get(pixel * leaf.together..)?);
            to.get_mut(..rest)?.copy_from_slice(from.get(..rest)?);
        }
        Some(())
    }
}

/// Brings windows together.
struct Gather<'a> {
    conv: &'a Conv<'a>,
    input: &'a [u8],
    /// Codes of a pixel outside the input; or of windows on their way, where runs of them are no whole words.
    edges: &'a mut [u8],
    windows: Windows,
    /// Pixels of a row of output.
    row: NonZero<usize>,
    whole_words: bool,
    /// Whether windows are the pixels of the input, one after another, whole words each.
    are_pixels: bool,
}

impl<'a> Gather<'a> {
    /// `None` if the input is not as large as its shape says.
    fn new(conv: &'a Conv<'a>, input: &'a [u8], edges: &'a mut [u8]) -> Option<Gather<'a>> {
        let (windows, row) = (Windows::of(conv), NonZero::new(conv.output.w)?);
        let whole_words = conv.input.c.is_multiple_of(STEP);
        if whole_words {
            edges.fill(conv.zero_in);
        }
        let same = conv.input.h == conv.output.h && conv.input.w == conv.output.w && conv.pad == [0; 2];
        let are_pixels = whole_words && conv.kernel == [1; 2] && conv.stride == [1; 2] && same;
        let gather = Gather { conv, input, edges, windows, row, whole_words, are_pixels };
        (input.len() == conv.input.len()).then_some(gather)
    }

    /// Three windows from pixel `first` on, taken apart, and their sums.
    fn tile(&mut self, first: usize, to: &mut [u8], sums: &mut [u32; WINDOWS]) {
        *sums = [0; WINDOWS];
        if self.are_pixels {
            let c = self.conv.input.c;
            let from = from_fn(|i| self.input.as_ptr().wrapping_add((first + i) * c));
            // SAFETY: there are as many pixels of input as of output, and each is as many words as a window.
            unsafe { tile::take_apart(&Runs { from, words: c / STEP, rows: 1, skip: 0 }, to.as_mut_ptr(), sums) };
            return;
        }
        let mut at = [first / self.row, first % self.row];
        let pixels: [[usize; 2]; WINDOWS] = from_fn(|_| {
            let pixel = at;
            at[1] += 1;
            if at[1] == self.row.get() {
                at = [at[0] + 1, 0];
            }
            pixel
        });
        let p = self.conv;
        let [kh, kw] = p.kernel;
        let (words, pitch) = (p.input.c / STEP, p.input.w * p.input.c);
        let to = to.as_mut_ptr();
        // Where the windows begin, if they lie inside.
        let starts = pixels.map(|pixel| self.start(pixel));
        let inside = pixels.iter().all(|&pixel| self.windows.is_inside(pixel));
        // SAFETY: the runs are of windows that lie inside the input, of pixels that do, or of a pixel or windows in
        // `edges`; together they are as many words as a window has steps.
        unsafe {
            if !self.whole_words {
                let depth = p.depth().next_multiple_of(STEP);
                if p.kernel == [1; 2] && inside && self.is_readable(starts[WINDOWS - 1], depth) {
                    tile::take_apart(&Runs { from: starts, words: depth / STEP, rows: 1, skip: 0 }, to, sums);
                    return;
                }
                if p.dilation[1] == 1 && inside {
                    let bytes = kw * p.input.c;
                    let rows = Rows { bytes, rows: kh, skip: p.dilation[0] * pitch - bytes };
                    for (from, window) in starts.into_iter().zip(self.edges.chunks_exact_mut(depth.max(1))) {
                        tile::copy_rows(from, window.as_mut_ptr(), &rows);
                    }
                } else {
                    for (&pixel, window) in pixels.iter().zip(self.edges.chunks_exact_mut(depth.max(1))) {
                        copy(p, self.input, self.windows, pixel, window);
                    }
                }
                let from = from_fn(|i| self.edges.as_ptr().wrapping_add(i * depth));
                tile::take_apart(&Runs { from, words: depth / STEP, rows: 1, skip: 0 }, to, sums);
            } else if inside {
                if p.dilation[1] == 1 || kw == 1 {
                    let skip = (p.dilation[0] * pitch).wrapping_sub(kw * p.input.c);
                    tile::take_apart(&Runs { from: starts, words: kw * words, rows: kh, skip }, to, sums);
                } else {
                    let (mut from, mut to) = (starts, to);
                    let skip = (p.dilation[1] - 1) * p.input.c;
                    for _ in 0..kh {
                        to = tile::take_apart(&Runs { from, words, rows: kw, skip }, to, sums);
                        from = from.map(|from| from.wrapping_add(p.dilation[0] * pitch));
                    }
                }
            } else {
                let mut to = to;
                for ky in 0..kh {
                    for kx in 0..kw {
                        let from = pixels.map(|pixel| match self.windows.source(p, pixel, [ky, kx]) {
                            Some([y, x]) => self.code(y, x),
                            None => self.edges.as_ptr(),
                        });
                        to = tile::take_apart(&Runs { from, words, rows: 1, skip: 0 }, to, sums);
                    }
                }
            }
        }
    }

    /// The window of a pixel: where it lies if it lies there in a row, else a copy.
    fn single(&mut self, pixel: usize) -> Option<&[u8]> {
        let p = self.conv;
        let pixel = [pixel / self.row, pixel % self.row];
        if WordDense::reads_in_place(p) {
            let [y, x] = [0, 1].map(|axis| pixel[axis] * p.stride[axis]);
            return self.input.get((y * p.input.w + x) * p.input.c..);
        }
        copy(p, self.input, self.windows, pixel, self.edges);
        Some(self.edges)
    }

    /// Whether so many codes can be read from where a window inside the input begins: those beyond it count for nothing.
    fn is_readable(&self, start: *const u8, codes: usize) -> bool {
        start.addr() - self.input.as_ptr().addr() + codes <= self.input.len()
    }

    /// The first code of the window of a pixel, if it lies inside the input.
    fn start(&self, [y, x]: [usize; 2]) -> *const u8 {
        let p = self.conv;
        let [y, x] = [(y * p.stride[0]).wrapping_sub(p.pad[0]), (x * p.stride[1]).wrapping_sub(p.pad[1])];
        self.input.as_ptr().wrapping_add(y.wrapping_mul(p.input.w).wrapping_add(x).wrapping_mul(p.input.c))
    }

    fn code(&self, y: usize, x: usize) -> *const u8 {
        self.input.as_ptr().wrapping_add((y * self.conv.input.w + x) * self.conv.input.c)
    }
}

/// Copies the window of an output pixel, `zero_in` where it is outside the input.
fn copy(p: &Conv<'_>, input: &[u8], windows: Windows, pixel: [usize; 2], to: &mut [u8]) {
    let [kh, kw] = p.kernel;
    let c = p.input.c;
    if p.dilation[1] == 1 && windows.is_inside(pixel) {
        let [y, x] = [0, 1].map(|axis| pixel[axis] * p.stride[axis] - p.pad[axis]);
        let from = input.as_ptr().wrapping_add((y * p.input.w + x) * c);
        let (bytes, pitch) = (kw * c, p.dilation[0] * p.input.w * c);
        if to.len() >= kh * bytes {
            // SAFETY: the window lies inside the input, and in `to` is room for its runs.
            unsafe { tile::copy_rows(from, to.as_mut_ptr(), &Rows { bytes, rows: kh, skip: pitch - bytes }) };
        }
        return;
    }
    to.fill(p.zero_in);
    for (ky, to) in to.chunks_exact_mut((kw * c).max(1)).enumerate().take(kh) {
        // Runs of neighbours: the first of them and how many; taps apart are runs of one.
        let mut kx = 0;
        while kx < kw {
            let Some([y, x]) = windows.source(p, pixel, [ky, kx]) else {
                kx += 1;
                continue;
            };
            let taps = if p.dilation[1] == 1 { (kw - kx).min(p.input.w - x) } else { 1 };
            let from = input.get((y * p.input.w + x) * c..).and_then(|from| from.get(..taps * c));
            if let (Some(from), Some(to)) = (from, to.get_mut(kx * c..(kx + taps) * c)) {
                // SAFETY: both have so many codes.
                unsafe { tile::copy_rows(from.as_ptr(), to.as_mut_ptr(), &Rows { bytes: taps * c, rows: 1, skip: 0 }) };
            }
            kx += taps;
        }
    }
}
