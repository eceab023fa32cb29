//! The loop nest of dense convolution: strip by strip, a few filters at a time, tile by tile.

use core::array::from_fn;
use core::ops::Range;

use super::plan::Plan;
use super::tile::{self, FILTERS, Runs, Sums, WINDOWS};
use super::words::Packing;
use crate::format::{Conv, WeightFormat, WeightGroup};
use crate::kernels::portable::Decoder;

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
        Some(packing) => {
            let skip = scratch.as_ptr().align_offset(align_of::<u32>());
            let bytes = scratch.len().checked_sub(skip)? / size_of::<u32>() * size_of::<u32>();
            let scratch = bytemuck::try_cast_slice_mut(scratch.get_mut(skip..skip + bytes)?).ok()?;
            let (strip, levels) = scratch.split_at_mut_checked(plan.strip())?;
            Nest { conv, group, plan, codes: packing }.strips(input, strip, levels, output)
        }
        None => {
            let (strip, levels) = scratch.split_at_mut_checked(plan.strip())?;
            let levels = bytemuck::cast_slice_mut(levels);
            let nest = Nest { conv, group, plan, codes: Bytes };
            if plan.in_place {
                return nest.filters(input, 0..conv.output.h, levels, output);
            }
            nest.strips(input, strip, levels, output)
        }
    }
}

/// What stands for codes in the innermost loop.
trait Codes: Copy {
    /// For those of the input.
    type Activation: Copy;
    /// For those of the weights.
    type Level: Copy;

    /// Makes activations of the codes of whole pixels.
    fn pack(self, codes: &[u8], to: &mut [Self::Activation]);

    /// The activation of a code that stands for padding.
    fn padding(self, code: u8) -> Self::Activation;

    /// The levels of all filters of a group, where its codes are levels.
    fn levels<'a>(self, group: &WeightGroup<'a>) -> Option<&'a [Self::Level]>;

    /// Makes levels of the codes of a filter.
    fn expand(self, conv: &Conv<'_>, group: &WeightGroup<'_>, filter: usize, to: &mut [Self::Level]);

    /// The innermost loop; see [`tile`].
    fn tile<const N: usize>(
        self,
        windows: [&[Self::Activation]; N],
        filters: [&[Self::Level]; FILTERS],
        runs: &Runs,
    ) -> Option<Sums<N>>;
}

/// Each is a byte.
#[derive(Clone, Copy)]
struct Bytes;

impl Codes for Bytes {
    type Activation = u8;
    type Level = i8;

    fn pack(self, codes: &[u8], to: &mut [u8]) {
        to.iter_mut().zip(codes).for_each(|(to, &code)| *to = code);
    }

    fn padding(self, code: u8) -> u8 {
        code
    }

    fn levels<'a>(self, group: &WeightGroup<'a>) -> Option<&'a [i8]> {
        (group.format == WeightFormat::Linear(8)).then(|| bytemuck::cast_slice(group.codes))
    }

    fn expand(self, conv: &Conv<'_>, group: &WeightGroup<'_>, filter: usize, to: &mut [i8]) {
        Decoder::new(conv, group).plain_row(filter, to);
    }

    fn tile<const N: usize>(self, windows: [&[u8]; N], filters: [&[i8]; FILTERS], runs: &Runs) -> Option<Sums<N>> {
        tile::bytes(windows, filters, runs)
    }
}

/// Several share a word.
impl Codes for Packing {
    type Activation = u32;
    type Level = u32;

    fn pack(self, codes: &[u8], to: &mut [u32]) {
        self.pack_activations(codes, to);
    }

    fn padding(self, code: u8) -> u32 {
        self.every(code.into())
    }

    fn levels<'a>(self, _group: &WeightGroup<'a>) -> Option<&'a [u32]> {
        None
    }

    fn expand(self, conv: &Conv<'_>, group: &WeightGroup<'_>, filter: usize, to: &mut [u32]) {
        let bytes = conv.packed_bytes(1, group.format, group.layout);
        self.expand_levels(group.format, group.codes.get(filter * bytes..).unwrap_or_default(), to);
    }

    fn tile<const N: usize>(self, windows: [&[u32]; N], filters: [&[u32]; FILTERS], runs: &Runs) -> Option<Sums<N>> {
        tile::words(windows, filters, runs, self)
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
    /// All strips of output rows, by way of `strip`; `levels` is for those of a few filters.
    fn strips(
        &self,
        input: &[u8],
        strip: &mut [C::Activation],
        levels: &mut [C::Level],
        output: &mut [u8],
    ) -> Option<()> {
        let (h, outputs) = (self.conv.output.h, self.plan.outputs.max(1));
        for first in (0..h).step_by(outputs) {
            self.fill(first, input, strip)?;
            self.filters(strip, first..h.min(first + outputs), levels, output)?;
        }
        Some(())
    }

    /// The rows of input, with what surrounds them, of the strip from output row `first` on.
    fn fill(&self, first: usize, input: &[u8], strip: &mut [C::Activation]) -> Option<()> {
        let (p, Plan { unit, width, rows, outputs, .. }) = (self.conv, self.plan);
        let pitch = width * unit;
        // Those that the strip before had too.
        let kept = if first == 0 { 0 } else { rows.saturating_sub(outputs * p.stride[0]) };
        if kept > 0 {
            strip.copy_within((rows - kept) * pitch.., 0);
        }
        for (row, to) in strip.chunks_exact_mut(pitch.max(1)).enumerate().skip(kept) {
            let y = (first * p.stride[0] + row).wrapping_sub(p.pad[0]);
            let (lead, columns) = if y < p.input.h { (p.pad[1].min(width), p.input.w) } else { (width, 0) };
            let columns = columns.min(width - lead);
            let (lead, to) = to.split_at_mut_checked(lead * unit)?;
            let (inside, trail) = to.split_at_mut_checked(columns * unit)?;
            lead.fill(self.codes.padding(p.zero_in));
            trail.fill(self.codes.padding(p.zero_in));
            if columns > 0 {
                self.codes.pack(input.get(y * p.input.w * p.input.c..)?.get(..columns * p.input.c)?, inside);
            }
        }
        Some(())
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
        let strip = Strip { nest: self, activations, pixels: rows.len() * p.output.w };
        for first in (0..self.group.channels).step_by(FILTERS) {
            let count = FILTERS.min(self.group.channels - first);
            let levels = match self.codes.levels(self.group) {
                Some(levels) => levels.get(first * len..(first + count) * len)?,
                None => {
                    let levels = levels.get_mut(..count * len)?;
                    for (filter, to) in (first..).zip(levels.chunks_exact_mut(len)) {
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
    /// Of the output.
    pixels: usize,
}

impl<C: Codes> Strip<'_, C> {
    fn filters(&self, filters: &Filters<'_, C::Level>, output: &mut [u8]) -> Option<()> {
        if self.pixels < WINDOWS {
            return (0..self.pixels).try_for_each(|first| self.tile::<1>(first, filters, output));
        }
        // The last tile meets the one before it.
        let mut tiles = (0..self.pixels).step_by(WINDOWS).map(|first| first.min(self.pixels - WINDOWS));
        tiles.try_for_each(|first| self.tile::<WINDOWS>(first, filters, output))
    }

    /// So many pixels from `first` on.
    fn tile<const N: usize>(&self, first: usize, filters: &Filters<'_, C::Level>, output: &mut [u8]) -> Option<()> {
        let Nest { conv: p, plan: Plan { width, unit, .. }, codes, .. } = self.nest;
        let [mut y, mut x] = [first / p.output.w, first % p.output.w];
        let mut windows: [&[C::Activation]; N] = [&[]; N];
        for window in &mut windows {
            *window = self.activations.get((y * p.stride[0] * width + x * p.stride[1]) * unit..)?;
            x += 1;
            if x == p.output.w {
                (y, x) = (y + 1, 0);
            }
        }
        let runs = Runs { len: p.kernel[1] * unit, count: p.kernel[0], pitch: p.dilation[0] * width * unit };
        let sums = codes.tile(windows, filters.filters, &runs)?;
        let pixels = output.get_mut(first * p.output.c + filters.first..)?;
        for (pixel, sums) in pixels.chunks_mut(p.output.c).zip(sums) {
            for (((code, sum), &bias), &mult) in pixel.iter_mut().zip(sums).zip(filters.bias).zip(filters.mult) {
                *code = p.requantise.apply(bias.wrapping_add(sum), mult);
            }
        }
        Some(())
    }
}
