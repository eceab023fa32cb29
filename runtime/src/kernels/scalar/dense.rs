//! The loop nest of dense convolution: strip by strip, a few filters at a time, tile by tile.

use core::array::from_fn;
use core::num::NonZero;
use core::ops::Range;

use super::codes::{Bytes, Codes};
use super::plan::Plan;
use super::tile::{FILTERS, Runs, WINDOWS};
use super::{stream, strip};
use crate::format::{Conv, WeightGroup};
use crate::kernels::scratch::decodes;

/// Convolution of weights in [`Layout::Plain`](crate::format::Layout::Plain); leaves the output alone if the
/// arguments do not fit together.
pub(super) fn run(conv: &Conv<'_>, input: &[u8], output: &mut [u8], scratch: &mut [u8]) {
    for group in conv.weight_groups() {
        // `None` would come of arguments that do not fit together.
        let _ran = self::group(conv, &group, input, output, scratch);
    }
}

fn group(conv: &Conv<'_>, group: &WeightGroup<'_>, input: &[u8], output: &mut [u8], scratch: &mut [u8]) -> Option<()> {
    let plan = Plan::of(conv, group.format);
    match plan.packing {
        Some(packing) if decodes(group.format) => {
            let skip = scratch.as_ptr().align_offset(align_of::<u32>());
            let bytes = scratch.len().checked_sub(skip)? / size_of::<u32>() * size_of::<u32>();
            let scratch = bytemuck::try_cast_slice_mut(scratch.get_mut(skip..skip + bytes)?).ok()?;
            let (strip, levels) = scratch.split_at_mut_checked(plan.strip())?;
            if stream::takes(conv) {
                return stream::run(conv, group, &plan, packing, input, strip, output);
            }
            Nest { conv, group, plan, codes: packing }.strips(input, strip, levels, output)
        }
        _ => {
            let (strip, levels) = scratch.split_at_mut_checked(plan.strip())?;
            let levels = bytemuck::cast_slice_mut(levels);
            Nest { conv, group, plan, codes: Bytes }.strips(input, strip, levels, output)
        }
    }
}

/// A weight group of a convolution.
struct Nest<'a, C> {
    conv: &'a Conv<'a>,
    group: &'a WeightGroup<'a>,
    plan: Plan,
    codes: C,
}

impl<C: Codes> Nest<'_, C> {
    fn strips(
        &self,
        input: &[u8],
        strip: &mut [C::Activation],
        levels: &mut [C::Level],
        output: &mut [u8],
    ) -> Option<()> {
        strip::each(self.conv, &self.plan, self.codes, input, strip, |rows, activations| {
            self.filters(activations, rows, levels, output)
        })
    }

    /// All filters, for the windows of some output rows, whose activations begin with those of the first row.
    fn filters(
        &self,
        activations: &[C::Activation],
        rows: Range<usize>,
        levels: &mut [C::Level],
        output: &mut [u8],
    ) -> Option<()> {
        let p = self.conv;
        let len = self.plan.filter(p);
        let output = output.get_mut(rows.start * p.output.w * p.output.c..)?;
        let Plan { width, unit, .. } = self.plan;
        let runs = Runs::new(p.kernel[1] * unit, p.kernel[0], p.dilation[0] * width * unit)?;
        let strip = Strip { nest: self, activations, runs, pixels: rows.len() * p.output.w };
        for first in (0..self.group.channels).step_by(FILTERS) {
            let count = FILTERS.min(self.group.channels - first);
            let levels = match self.codes.levels(self.group) {
                Some(levels) => levels.get(first * len..(first + count) * len)?,
                None => {
                    let levels = levels.get_mut(..count * len)?;
                    for (filter, to) in (first..).zip(levels.chunks_exact_mut(len.max(1))) {
                        self.codes.expand(p, self.group, filter, to);
                    }
                    levels
                }
            };
            // Beyond the last filter stands the last again, for nothing.
            let filters = from_fn(|i| levels.get(i.min(count - 1) * len..).unwrap_or_default());
            let channels = self.group.first + first..self.group.first + first + count;
            let (bias, mult) = (p.bias.get(channels.clone())?, p.mult.get(channels.clone())?);
            strip.filters(&Filters { first: channels.start, filters, bias, mult }, output)?;
        }
        Some(())
    }
}

/// A few filters with their numbers.
struct Filters<'a, L> {
    /// Output channel of the first.
    first: usize,
    filters: [&'a [L]; FILTERS],
    bias: &'a [i32],
    mult: &'a [i32],
}

/// The windows of a strip.
struct Strip<'a, C: Codes> {
    nest: &'a Nest<'a, C>,
    activations: &'a [C::Activation],
    runs: Runs,
    /// Of the output.
    pixels: usize,
}

impl<C: Codes> Strip<'_, C> {
    fn filters(&self, filters: &Filters<'_, C::Level>, output: &mut [u8]) -> Option<()> {
        let mut at = [0; 2];
        if self.pixels < WINDOWS {
            return (0..self.pixels).try_for_each(|first| self.tile::<1>(first, &mut at, filters, output));
        }
        for mut first in (0..self.pixels).step_by(WINDOWS) {
            let last = self.pixels - WINDOWS;
            if first > last {
                // It meets the tile before it.
                first = last;
                let columns = NonZero::new(self.nest.conv.output.w)?;
                at = [last / columns, last % columns];
            }
            self.tile::<WINDOWS>(first, &mut at, filters, output)?;
        }
        Some(())
    }

    /// So many pixels from `first` on, which is at a row and column, and moves on.
    fn tile<const N: usize>(
        &self,
        first: usize,
        [y, x]: &mut [usize; 2],
        filters: &Filters<'_, C::Level>,
        output: &mut [u8],
    ) -> Option<()> {
        let Nest { conv: p, plan: Plan { width, unit, .. }, codes, .. } = self.nest;
        let mut windows: [&[C::Activation]; N] = [&[]; N];
        for window in &mut windows {
            *window = self.activations.get((*y * p.stride[0] * width + *x * p.stride[1]) * unit..)?;
            *x += 1;
            if *x == p.output.w {
                (*y, *x) = (*y + 1, 0);
            }
        }
        let sums = codes.tile(windows, filters.filters, &self.runs)?;
        let pixels = output.get_mut(first * p.output.c + filters.first..)?;
        for (pixel, sums) in pixels.chunks_mut(p.output.c.max(1)).zip(sums) {
            for (((code, sum), &bias), &mult) in pixel.iter_mut().zip(sums).zip(filters.bias).zip(filters.mult) {
                *code = p.requantise.apply(bias.wrapping_add(sum), mult);
            }
        }
        Some(())
    }
}
