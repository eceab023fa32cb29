//! Convolution of few-bit weights and activations by packed multiplication; see [`crate::kernels::polynomial`].
//!
//! A strip of input rows becomes words of activations, tile by tile, so that the words of a window follow one
//! another from row to row (`rows`); the codes of a few filters become words of weights, and stay for the whole strip
//! (`weights`). All words of a window meet in the innermost loop (`tiles`), whose sums become codes (`finish`).

mod finish;
mod rows;
mod tiles;
mod weights;

use self::finish::Finish;
use self::rows::Rows;
use self::tiles::Tiles;
use super::add;
use crate::format::{Conv, Requantise, WeightFormat, WeightGroup};
use crate::kernels::polynomial::{self, Polynomial};
use crate::kernels::{ConvKernel, Isa};

/// The kernel for a convolution of weights in [`Layout::Words`](crate::format::Layout::Words), if they and the input
/// are narrow enough.
pub(super) fn kernel(isa: Isa, conv: &Conv<'_>) -> Option<ConvKernel> {
    // Strips of several groups would each want their own.
    let adds = conv.weight_groups().count() == 1;
    polynomial::takes(conv).then_some(ConvKernel { isa, run, scratch: scratch_bytes, adds })
}

/// The largest need of the groups.
fn scratch_bytes(conv: &Conv<'_>) -> usize {
    let plans = conv.weight_groups().filter_map(|group| Polynomial::of(conv, group.format));
    plans.map(|plan| plan.scratch_bytes(conv)).max().unwrap_or(0)
}

/// Leaves the output alone if the arguments do not fit together.
fn run(conv: &Conv<'_>, input: &[u8], output: &mut [u8], scratch: &mut [u8]) {
    let skip = scratch.as_ptr().align_offset(4);
    let Some(scratch) = scratch.get_mut(skip..) else { return };
    for group in conv.weight_groups() {
        // `None` would come of arguments that do not fit.
        let _ran = strips(conv, &group, input, output, scratch);
    }
}

/// All strips of a group of weights.
fn strips(conv: &Conv<'_>, group: &WeightGroup<'_>, input: &[u8], output: &mut [u8], scratch: &mut [u8]) -> Option<()> {
    let plan = &Polynomial::of(conv, group.format)?;
    let (edge, scratch) = scratch.split_at_mut_checked(plan.edge_bytes())?;
    let (codes, scratch) = scratch.split_at_mut_checked(plan.code_bytes(conv))?;
    let words = scratch.len() / 4 * 4;
    let scratch: &mut [u32] = bytemuck::try_cast_slice_mut(scratch.get_mut(..words)?).ok()?;
    let (activations, scratch) = scratch.split_at_mut_checked(plan.activation_words())?;
    let (pixels, scratch) = scratch.split_at_mut_checked(plan.pixel_sums(conv))?;
    let (windows, scratch) = scratch.split_at_mut_checked(plan.windows())?;
    let [pixels, windows]: [&mut [i32]; 2] = [bytemuck::cast_slice_mut(pixels), bytemuck::cast_slice_mut(windows)];
    let levels = Levels::of(group.format, &conv.requantise)?;
    let rows = Rows { plan, conv, input };
    let mut first = 0;
    while first < plan.output.h {
        let outputs = plan.outputs.min(plan.output.h - first);
        let row_bytes = (plan.output.w * conv.output.c).max(1);
        let whole = first * row_bytes..output.len().min((first + outputs) * row_bytes);
        let strip = output.get_mut(whole)?;
        let to = match conv.residual {
            Some(_) => codes.get_mut(..strip.len())?,
            None => &mut *strip,
        };
        rows.pack(first, edge, activations)?;
        rows.sum_windows(first, outputs, &levels, pixels, bytemuck::cast_slice_mut(scratch), windows)?;
        let (weights, scratch) = scratch.split_at_mut_checked(plan.weight_words())?;
        let (runs, scratch) = scratch.split_at_mut_checked(plan.runs())?;
        let sums: &mut [i32] = bytemuck::cast_slice_mut(scratch.get_mut(..plan.sum_words())?);
        // Windows that lie in padding alone have no tile.
        sums.fill(0);
        for channel in (0..group.channels).step_by(plan.filters()) {
            weights::expand(plan, conv, group, channel, levels.flip, weights)?;
            let mut tiles = Tiles::new(plan, activations, weights, weights::cut(plan, weights, runs)?)?;
            let mut finish = Finish::new(plan, conv, group, channel, &levels)?;
            let rows = to.chunks_mut(row_bytes).zip(windows.chunks_exact(plan.output.w.max(1)));
            for (row, (to, windows)) in rows.enumerate() {
                tiles.row(row * conv.stride[0], sums)?;
                finish.row(sums.get(plan.skipped_sums()..)?, windows, to)?;
            }
        }
        if let Some(sum) = &conv.residual {
            add::add(sum, strip, codes);
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
