//! Depthwise convolution: pixel after pixel, quads of channels.
//!
//! A table says where the taps of a window lie, the same one for all windows inside the input; a window at an edge
//! has one of its own, in which taps outside lead to a pixel of padding.

use core::num::NonZero;

use super::levels;
use super::quad::{self, CHANNELS, Job};
use super::tile::{Scale, quad_of};
use crate::format::{Conv, WeightGroup};
use crate::kernels::arm::windows::Windows;
use crate::kernels::scratch::{WordDepthwise, aligned_words};

/// Depthwise convolution of weights in [`Layout::Words`](crate::format::Layout::Words); leaves the output alone if the
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
    let plan = WordDepthwise::of(conv);
    let (tables, scratch) = scratch.split_at_mut_checked(plan.tables)?;
    let (edge, scratch) = scratch.split_at_mut_checked(plan.edge)?;
    let (part, scratch) = scratch.split_at_mut_checked(plan.part)?;
    let (numbers, levels) = scratch.split_at_mut_checked(plan.numbers())?;
    let columns = NonZero::new(conv.kernel[1])?;
    let (tables, taps) = (bytemuck::try_cast_slice_mut(tables).ok()?, conv.depth());
    let (inside, table) = tables.split_at_mut_checked(taps)?;
    edge.fill(conv.zero_in);
    tabulate(conv, columns, [0; 2], 0, inside);
    let mut layer = Layer { conv, windows: Windows::of(conv), columns, input, inside, table, edge, part };
    let stream = taps.next_multiple_of(2) * CHANNELS;
    let mut begun = 0;
    while begun < group.channels {
        let (first, channels) = (begun, (plan.quads * CHANNELS).clamp(1, group.channels - begun));
        begun += channels;
        let levels = levels.get_mut(..channels.div_ceil(CHANNELS) * plan.quad)?;
        // Decoded to the second half, and spread from there.
        levels::decode(conv, group, first, bytemuck::cast_slice_mut(levels.get_mut(levels.len() / 2..)?))?;
        let levels = levels::widen(levels)?;
        let first = group.first + first;
        let [bias, mult] = levels::numbers(conv, first..first + channels, numbers)?;
        layer.block(&Block { first, bias, mult, levels, stream }, output)?;
    }
    Some(())
}

/// Where the taps lie of a window whose first one is at `[y, x]`, from the start of the input on; those outside of it are
/// at `edge`.
#[inline(never)]
fn tabulate(p: &Conv<'_>, columns: NonZero<usize>, [y, x]: [usize; 2], edge: u32, table: &mut [u32]) {
    let mut y = y;
    for row in table.chunks_exact_mut(columns.get()) {
        // No column lies inside where the row does not.
        let width = if y < p.input.h { p.input.w } else { 0 };
        let (mut x, mut at) = (x, y.wrapping_mul(p.input.w).wrapping_add(x).wrapping_mul(p.input.c));
        for offset in row {
            *offset = if x < width { at as u32 } else { edge };
            (x, at) = (x.wrapping_add(p.dilation[1]), at.wrapping_add(p.dilation[1] * p.input.c));
        }
        y = y.wrapping_add(p.dilation[0]);
    }
}

/// A run of channels with their levels, `stream` for each quad: all in memory that never waits, since each pixel wants
/// them anew.
struct Block<'a> {
    first: usize,
    bias: &'a [i32],
    mult: &'a [i32],
    levels: &'a [i16],
    stream: usize,
}

/// All that blocks share.
struct Layer<'a> {
    conv: &'a Conv<'a>,
    windows: Windows,
    /// Taps of a row of the kernel.
    columns: NonZero<usize>,
    input: &'a [u8],
    /// Where taps lie, from the first of a window inside the input on.
    inside: &'a [u32],
    /// Where taps lie, from the start of the input on: of one window.
    table: &'a mut [u32],
    /// A pixel of padding.
    edge: &'a [u8],
    /// The codes of a window for less than a quad of channels, and as many as make it one.
    part: &'a mut [u8],
}

impl Layer<'_> {
    fn block(&mut self, block: &Block<'_>, output: &mut [u8]) -> Option<()> {
        let (p, c) = (self.conv, self.conv.output.c);
        let mut job = Job::new(Scale::new(&p.requantise), p.depth());
        let whole = block.bias.len().is_multiple_of(CHANNELS);
        for (y, row) in output.chunks_exact_mut((p.output.w * c).max(1)).enumerate() {
            let mut x = 0;
            while x < p.output.w {
                // All whose windows lie inside the input, or one.
                let together = if whole { self.windows.inside_from([y, x]).max(1) } else { 1 };
                self.pixels(&mut job, [y, x], together, block, row.get_mut(x * c..)?)?;
                x += together;
            }
        }
        Some(())
    }

    /// So many pixels from `at` on, the first of which is that of `output`; one, if not all windows lie inside the
    /// input or channels are no whole quads.
    fn pixels(
        &mut self,
        job: &mut Job,
        at: [usize; 2],
        pixels: usize,
        block: &Block<'_>,
        output: &mut [u8],
    ) -> Option<()> {
        let (p, channels) = (self.conv, block.bias.len());
        let whole = channels / CHANNELS * CHANNELS;
        let fits = self.input.len() == p.input.len()
            && block.mult.len() == channels
            && block.first + channels <= p.input.c
            && self.edge.len() >= p.input.c
            && self.part.len() >= p.depth() * CHANNELS
            && block.levels.len() >= channels.div_ceil(CHANNELS) * block.stream;
        let output = output.get_mut(..pixels * p.output.c)?.get_mut(block.first..)?;
        if !fits {
            return None;
        }
        let inside = self.windows.is_inside(at);
        let start = if inside {
            let [y, x] = [0, 1].map(|axis| at[axis] * p.stride[axis] - p.pad[axis]);
            (y * p.input.w + x) * p.input.c
        } else {
            let edge = (self.edge.as_ptr() as u32).wrapping_sub(self.input.as_ptr() as u32);
            let first = [0, 1].map(|axis| (at[axis] * p.stride[axis]).wrapping_sub(p.pad[axis]));
            tabulate(p, self.columns, first, edge, self.table);
            0
        };
        let taps: &[u32] = if inside { self.inside } else { self.table };
        let start = self.input.as_ptr().wrapping_add(start + block.first);
        if whole > 0 {
            (job.taps, job.end) = (taps.as_ptr(), taps.as_ptr().wrapping_add(taps.len() / 2 * 2));
            (job.levels, job.bias, job.mult) = (block.levels.as_ptr(), block.bias.as_ptr(), block.mult.as_ptr());
            (job.input, job.output) = (start, output.as_mut_ptr());
            job.last = job.output.wrapping_add(whole);
            (job.pixels, job.step) = (pixels, p.output.c);
            job.gaps = [(p.stride[1] * p.input.c).wrapping_sub(whole), p.output.c - whole];
            // SAFETY: the table leads to pixels of the input, or to one of padding, that have all of the channels;
            // levels, biases, multipliers and output are as many.
            unsafe { quad::quads(job) };
        }
        if whole < channels {
            self.rest(job, start.wrapping_add(whole), inside, block, output.get_mut(..channels)?)?;
        }
        Some(())
    }

    /// Less than a quad of channels: its codes are copied, lest what is beyond the input be read.
    fn rest(
        &mut self,
        job: &mut Job,
        start: *const u8,
        inside: bool,
        block: &Block<'_>,
        output: &mut [u8],
    ) -> Option<()> {
        let whole = block.bias.len() / CHANNELS * CHANNELS;
        let rest = block.bias.len() - whole;
        let (bias, mult, mut codes) = (quad_of(block.bias, whole), quad_of(block.mult, whole), [0; CHANNELS]);
        for (tap, part) in self.part.chunks_exact_mut(CHANNELS).enumerate().take(self.table.len()) {
            let offset = if inside { self.inside.get(tap) } else { self.table.get(tap) };
            let start = start.wrapping_add(*offset? as usize);
            for (channel, code) in part.iter_mut().enumerate().take(rest) {
                // SAFETY: as for whole quads.
                *code = unsafe { start.wrapping_add(channel).read() };
            }
            *self.table.get_mut(tap)? = (tap * CHANNELS) as u32;
        }
        (job.taps, job.end) = (self.table.as_ptr(), self.table.as_ptr().wrapping_add(self.table.len() / 2 * 2));
        job.levels = block.levels.as_ptr().wrapping_add(whole / CHANNELS * block.stream);
        (job.bias, job.mult) = (bias.as_ptr(), mult.as_ptr());
        (job.input, job.output) = (self.part.as_ptr(), codes.as_mut_ptr());
        job.last = job.output.wrapping_add(CHANNELS);
        job.pixels = 1;
        // SAFETY: there is one quad of each of them.
        unsafe { quad::quads(job) };
        output.get_mut(whole..)?.copy_from_slice(codes.get(..rest)?);
        Some(())
    }
}
