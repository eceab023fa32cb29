//! Dense convolution: tiles of three windows and two output channels.
//!
//! The windows of a tile are gathered and taken apart once for all channels. A layer of one pixel or two, as fully
//! connected ones are, multiplies each window where it lies, some weights as they are coded.

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
    let step = conv.output.c;
    let last = pixels.checked_sub(WINDOWS)?;
    let output = output.get_mut(..pixels * step)?.get_mut(block.first..)?.as_mut_ptr();
    let mut job = block.job(Job::of_tiles(Scale::new(&conv.requantise), block.depth), step)?;
    (job.window, job.end) = (codes.as_ptr(), codes.as_ptr_range().end);
    let mut next = 0;
    while next < pixels {
        // The last tile meets the one before it.
        let first = next.min(last);
        gather.tile(first, codes, sums);
        // SAFETY: `gather` has filled the windows and their sums, which follow; the output has so many pixels.
        unsafe { block.multiply(&mut job, &Leaf::TILE, output.wrapping_add(first * step))? };
        next += WINDOWS;
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
    let step = conv.output.c;
    let output = output.get_mut(..pixels.end * step)?.get_mut(block.first..)?.as_mut_ptr();
    let mut job = block.job(Job::of_singles(Scale::new(&conv.requantise), block.depth), step)?;
    for pixel in pixels {
        let window = gather.single(pixel)?.get(..block.depth)?.as_ptr_range();
        (job.window, job.end) = (window.start, window.end);
        // SAFETY: the window is whole words, one at least.
        job.offset = unsafe { tile::sum(window.start, block.depth / STEP) } << 7;
        // SAFETY: the window has as many codes as channels have levels, and the output so many pixels.
        unsafe { block.multiply(&mut job, &Leaf::SINGLE, output.wrapping_add(pixel * step))? };
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

    /// Of so many channels those that are taken without others.
    const fn whole(&self, channels: usize) -> usize {
        channels & !(self.together - 1)
    }
}

impl Block<'_> {
    /// What a leaf goes through for pixels of `step` bytes, except for their windows; `None` unless there is as much of
    /// everything as there are channels.
    #[inline(always)]
    fn job(&self, mut job: Job, step: usize) -> Option<Job> {
        let channels = self.bias.len();
        let fits = self.mult.len() == channels
            && self.levels.len() >= channels.next_multiple_of(WORD_CHANNELS) * self.depth
            && self.first + channels <= step;
        (job.step, job.pair) = (step, WORD_CHANNELS * self.depth);
        fits.then_some(job)
    }

    /// All channels of the pixels of a leaf, of which the first of this block is at `output`.
    ///
    /// # Safety
    /// The job is of [`job`](Self::job) and has windows as the leaf takes them; the pixels are there.
    #[inline(always)]
    unsafe fn multiply(&self, job: &mut Job, leaf: &Leaf, output: *mut u8) -> Option<()> {
        let channels = self.bias.len();
        let whole = leaf.whole(channels);
        if whole > 0 {
            (job.levels, job.bias, job.mult) = (self.levels.as_ptr(), self.bias.as_ptr(), self.mult.as_ptr());
            (job.output, job.last) = (output, output.wrapping_add(whole));
            // SAFETY: levels, biases and multipliers are those of as many channels, which lie in each pixel.
            unsafe { (leaf.run)(job) };
        }
        // SAFETY: as above.
        if whole < channels { unsafe { self.multiply_rest(job, leaf, output) } } else { Some(()) }
    }

    /// The channels that are less than the leaf takes together: with neighbours that are not there, or that are
    /// themselves.
    ///
    /// # Safety
    /// As for [`multiply`](Self::multiply).
    #[inline(never)]
    unsafe fn multiply_rest(&self, job: &Job, leaf: &Leaf, output: *mut u8) -> Option<()> {
        let whole = leaf.whole(self.bias.len());
        let rest = self.bias.len() - whole;
        let (bias, mult) = (tile::quad_of(self.bias, whole), tile::quad_of(self.mult, whole));
        let (mut codes, step, mut job) = ([0; MOST * WINDOWS], job.step, *job);
        job.levels = self.levels.get(whole * self.depth..)?.as_ptr();
        (job.bias, job.mult) = (bias.as_ptr(), mult.as_ptr());
        (job.output, job.step) = (codes.as_mut_ptr(), leaf.together);
        job.last = job.output.wrapping_add(leaf.together);
        if rest <= WORD_CHANNELS {
            job.pair = 0;
        }
        // SAFETY: there are so many of each of them.
        unsafe { (leaf.run)(&mut job) };
        for pixel in 0..leaf.pixels {
            for channel in 0..rest {
                let code = *codes.get(pixel * leaf.together + channel)?;
                // SAFETY: these channels lie in each pixel.
                unsafe { output.wrapping_add(pixel * step + whole + channel).write(code) };
            }
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
    /// Whether the channels of a pixel are whole words.
    whole_words: bool,
    /// Whether windows are the pixels of the input, one after another.
    is_flat: bool,
    /// Codes of a window, those included that make it whole words.
    depth: usize,
    /// From window to window of a row.
    step: usize,
    /// Windows that lie inside the input and can be taken apart there.
    runs: Runs,
    /// The last that can be where one of these begins.
    last: *const u8,
}

impl<'a> Gather<'a> {
    /// `None` if the input is not as large as its shape says.
    fn new(conv: &'a Conv<'a>, input: &'a [u8], edges: &'a mut [u8]) -> Option<Gather<'a>> {
        let (windows, row) = (Windows::of(conv), NonZero::new(conv.output.w)?);
        let (c, depth) = (conv.input.c, conv.depth().next_multiple_of(STEP));
        let whole_words = c.is_multiple_of(STEP);
        if whole_words {
            edges.fill(conv.zero_in);
        }
        let ([kh, kw], all) = (conv.kernel, input.as_ptr_range());
        let same = conv.input.h == conv.output.h && conv.input.w == conv.output.w && conv.pad == [0; 2];
        let is_flat = conv.kernel == [1; 2] && conv.stride == [1; 2] && same;
        let from = [all.start; WINDOWS];
        let (runs, last) = if whole_words && (conv.dilation[1] == 1 || kw == 1) {
            let skip = (conv.dilation[0] * conv.input.w * c).wrapping_sub(kw * c);
            (Runs { from, words: kw * c / STEP, rows: kh, skip }, all.end)
        } else {
            // Codes beyond a window of a single pixel count for nothing.
            let readable = if conv.kernel == [1; 2] { input.len().checked_sub(depth) } else { None };
            let last = readable.map_or(core::ptr::null(), |readable| all.start.wrapping_add(readable));
            (Runs { from, words: depth / STEP, rows: 1, skip: 0 }, last)
        };
        let step = conv.stride[1] * c;
        let gather = Gather { conv, input, edges, windows, row, whole_words, is_flat, depth, step, runs, last };
        (input.len() == conv.input.len()).then_some(gather)
    }

    /// Three windows from pixel `first` on, taken apart, and their sums.
    #[inline(always)]
    fn tile(&mut self, first: usize, to: &mut [u8], sums: &mut [u32; WINDOWS]) {
        *sums = [0; WINDOWS];
        let inside = if self.is_flat {
            Some(self.input.as_ptr().wrapping_add(first * self.step))
        } else {
            let pixel = [first / self.row, first % self.row];
            (self.windows.inside_from(pixel) >= WINDOWS).then(|| self.corner(pixel).at)
        };
        if let Some(a) = inside {
            let b = a.wrapping_add(self.step);
            let c = b.wrapping_add(self.step);
            self.runs.from = [a, b, c];
            if c <= self.last {
                // SAFETY: the windows lie inside the input, or are as long as can be read there.
                unsafe { tile::take_apart(&self.runs, to.as_mut_ptr(), sums) };
                return;
            }
        }
        if self.whole_words { self.tap_by_tap(first, to, sums) } else { self.copied(first, inside.is_some(), to, sums) }
    }

    /// The same, windows of whole words being outside in part.
    #[inline(never)]
    fn tap_by_tap(&mut self, first: usize, to: &mut [u8], sums: &mut [u32; WINDOWS]) {
        let p = self.conv;
        let mut corners = [Corner { at: self.input.as_ptr(), y: 0, x: 0 }; WINDOWS];
        for (corner, pixel) in corners.iter_mut().zip(first..) {
            *corner = self.corner([pixel / self.row, pixel % self.row]);
        }
        let mut to = to.as_mut_ptr();
        let mut runs = Runs { from: [to; WINDOWS], words: p.input.c / STEP, rows: 1, skip: 0 };
        for _ in 0..p.kernel[0] {
            let (mut x, mut offset) = (0, 0);
            for _ in 0..p.kernel[1] {
                for (from, corner) in runs.from.iter_mut().zip(&corners) {
                    let is_inside = corner.y < p.input.h && corner.x.wrapping_add(x) < p.input.w;
                    *from = if is_inside { corner.at.wrapping_add(offset) } else { self.edges.as_ptr() };
                }
                // SAFETY: the runs are of pixels inside the input, or of the one in `edges`.
                to = unsafe { tile::take_apart(&runs, to, sums) };
                (x, offset) = (x + p.dilation[1], offset + p.dilation[1] * p.input.c);
            }
            for corner in &mut corners {
                corner.y = corner.y.wrapping_add(p.dilation[0]);
                corner.at = corner.at.wrapping_add(p.dilation[0] * p.input.w * p.input.c);
            }
        }
    }

    /// The same, windows being no runs of whole words: of copies. Where they begin is in `runs` if they lie `inside`.
    fn copied(&mut self, first: usize, inside: bool, to: &mut [u8], sums: &mut [u32; WINDOWS]) {
        let p = self.conv;
        let mut runs = Runs { words: self.depth / STEP, rows: 1, skip: 0, ..self.runs };
        let bytes = p.kernel[1] * p.input.c;
        let rows = Rows { bytes, rows: p.kernel[0], skip: (p.dilation[0] * p.input.w * p.input.c).wrapping_sub(bytes) };
        let windows = self.edges.chunks_exact_mut(self.depth.max(1)).zip(&mut runs.from);
        for (pixel, (window, from)) in (first..).zip(windows) {
            if p.dilation[1] == 1 && inside {
                // SAFETY: the window lies inside the input, and has `depth` codes at most.
                unsafe { tile::copy_rows(*from, window.as_mut_ptr(), &rows) };
            } else {
                copy(p, self.input, self.windows, [pixel / self.row, pixel % self.row], window);
            }
            *from = window.as_ptr();
        }
        // SAFETY: the windows in `edges` are as many words as a window has steps.
        unsafe { tile::take_apart(&runs, to.as_mut_ptr(), sums) };
    }

    /// Where the window of a pixel begins.
    #[inline(always)]
    fn corner(&self, [y, x]: [usize; 2]) -> Corner {
        let p = self.conv;
        let [y, x] = [(y * p.stride[0]).wrapping_sub(p.pad[0]), (x * p.stride[1]).wrapping_sub(p.pad[1])];
        let pixel = y.wrapping_mul(p.input.w).wrapping_add(x);
        Corner { at: self.input.as_ptr().wrapping_add(pixel.wrapping_mul(p.input.c)), y, x }
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
}

/// The first tap of a window, which may be outside the input.
#[derive(Clone, Copy)]
struct Corner {
    at: *const u8,
    y: usize,
    x: usize,
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
