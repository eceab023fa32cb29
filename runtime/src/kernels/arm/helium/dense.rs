//! Dense convolution: tiles of two windows and four output channels, a row of windows at a time.
//!
//! 1x1 convolutions that leave none of the input out multiply it where it lies, all of it as one row.

use super::levels;
use super::strip::Strip;
use super::tile::{self, CHANNELS, Job, Scale};
use crate::format::{Conv, VECTOR_CODES, WeightFormat, WeightGroup};
use crate::kernels::vectors::{Aligned, Columns, Dense, padded_depth};

/// Dense convolution of weights in [`Layout::Vectors`](crate::format::Layout::Vectors); leaves the output alone if the
/// arguments do not fit together.
pub(super) fn run(conv: &Conv<'_>, input: &[u8], output: &mut [u8], scratch: &mut [u8]) {
    let skip = scratch.as_ptr().align_offset(align_of::<Aligned>()).min(scratch.len());
    let scratch = scratch.get_mut(skip..).unwrap_or_default();
    for group in conv.weight_groups() {
        // `None` would come of arguments that do not fit together.
        let _ran = self::group(conv, &group, input, output, scratch);
    }
}

/// Block after block of channels, as many as are decoded at once.
fn group(conv: &Conv<'_>, group: &WeightGroup<'_>, input: &[u8], output: &mut [u8], scratch: &mut [u8]) -> Option<()> {
    let plan = Dense::of(conv, group.format);
    let (levels, scratch) = scratch.split_at_mut_checked(plan.levels)?;
    let (windows, scratch) = scratch.split_at_mut_checked(plan.windows)?;
    let edge = scratch.get_mut(..plan.edge)?;
    let depth = padded_depth(conv);
    let in_place = group.format == WeightFormat::Linear(8);
    let most = if in_place { group.channels } else { plan.levels.checked_div(depth)? };
    for first in (0..group.channels).step_by(most.max(1)) {
        let channels = most.min(group.channels - first);
        let padded = channels.next_multiple_of(CHANNELS) * depth;
        let levels: &[u8] = if in_place {
            group.codes.get(..padded)?
        } else {
            let levels = levels.get_mut(..padded)?;
            levels::decode(conv, group, first, levels)?;
            levels
        };
        let first = group.first + first;
        let numbers = first..first + channels;
        let (bias, mult) = (conv.bias.get(numbers.clone())?, conv.mult.get(numbers)?);
        let block = Block { conv, first, bias, mult, levels };
        match Columns::of(conv) {
            None => block.in_place(input, windows, output)?,
            Some(columns) => {
                let mut strip = Strip::new(conv, input, columns, windows, edge)?;
                for (y, row) in output.chunks_exact_mut((conv.output.w * conv.output.c).max(1)).enumerate() {
                    let pitch = strip.pitch();
                    block.windows(strip.row(y), pitch, conv.output.w, row)?;
                }
            }
        }
    }
    Some(())
}

/// A run of output channels with their levels, whole vectors of quads.
struct Block<'a> {
    conv: &'a Conv<'a>,
    first: usize,
    bias: &'a [i32],
    mult: &'a [i32],
    levels: &'a [u8],
}

impl Block<'_> {
    /// All windows where they lie in the input; those of which a step would read beyond it, in a copy of its end.
    fn in_place(&self, input: &[u8], end: &mut [u8], output: &mut [u8]) -> Option<()> {
        let (p, depth) = (self.conv, padded_depth(self.conv));
        let pitch = p.stride[1] * p.input.c;
        let (rows, windows) = if p.stride == [1; 2] && p.input.w == p.output.w {
            (1, p.output.h * p.output.w)
        } else {
            (p.output.h, p.output.w)
        };
        let row_step = p.stride[0] * p.input.w * p.input.c;
        for (row, output) in (0..rows).zip(output.chunks_exact_mut((windows * p.output.c).max(1))) {
            let input = input.get(row * row_step..)?;
            let whole = match input.len().checked_sub(depth) {
                Some(last) => (last.checked_div(pitch)? + 1).min(windows),
                None => 0,
            };
            let (head, tail) = output.split_at_mut_checked(whole * p.output.c)?;
            self.windows(input, pitch, whole, head)?;
            if whole < windows {
                let input = input.get(whole * pitch..)?;
                let copied = input.len().min(depth);
                end.get_mut(..copied)?.copy_from_slice(input.get(..copied)?);
                self.windows(end, pitch, windows - whole, tail)?;
            }
        }
        Some(())
    }

    /// So many windows, `pitch` bytes apart.
    fn windows(&self, windows: &[u8], pitch: usize, count: usize, output: &mut [u8]) -> Option<()> {
        let (p, depth, channels) = (self.conv, padded_depth(self.conv), self.bias.len());
        if count == 0 {
            return Some(());
        }
        let fits = windows.len() >= (count - 1) * pitch + depth
            && output.len() >= count * p.output.c
            && self.first + channels <= p.output.c
            && self.mult.len() == channels
            && self.levels.len() >= channels.next_multiple_of(CHANNELS) * depth
            && channels > 0;
        if !fits {
            return None;
        }
        let scale = Scale::new(&p.requantise);
        let (pairs, odd) = (count / 2, count % 2);
        let output = output.as_mut_ptr().wrapping_add(self.first);
        let job = |new: fn(Scale, usize) -> Job, first: usize| Job {
            window: windows.as_ptr().wrapping_add(first * pitch),
            pitch,
            pairs,
            levels: self.levels.as_ptr(),
            bias: self.bias.as_ptr(),
            mult: self.mult.as_ptr().addr().wrapping_sub(self.bias.as_ptr().addr()),
            channels,
            output: output.wrapping_add(first * p.output.c),
            step: p.output.c,
            ..new(scale, p.depth())
        };
        // SAFETY: windows, levels, biases and multipliers are there to the last step, and so are the output's pixels.
        unsafe {
            if pairs > 0 {
                tile::pairs(&mut job(Job::of_pairs, 0));
            }
            if odd > 0 {
                tile::single(&mut job(Job::of_single, count - 1));
            }
        }
        Some(())
    }
}

const _: () = assert!(VECTOR_CODES == 16, "a vector is a register");
