//! Depthwise convolution: panels of 16 channels, a strip of rows at a time.

use core::num::NonZero;

use super::cells::{self, Panel, Rows};
use super::levels;
use super::tile::Scale;
use crate::format::{Conv, PANEL_CHANNELS, WeightFormat, WeightGroup};
use crate::kernels::vectors::{Aligned, CELL, CELLS, Depthwise};

/// A pixel of a weight that is not there.
const NOTHING: [u8; PANEL_CHANNELS] = [0; PANEL_CHANNELS];
/// What makes codes signed: less 128, modulo 256.
const SIGN: u8 = 0x80;

/// Depthwise convolution of weights in [`Layout::Vectors`](crate::format::Layout::Vectors); leaves the output alone if
/// the arguments do not fit together.
pub(super) fn run(conv: &Conv<'_>, input: &[u8], output: &mut [u8], scratch: &mut [u8]) {
    let skip = scratch.as_ptr().align_offset(align_of::<Aligned>()).min(scratch.len());
    let scratch = scratch.get_mut(skip..).unwrap_or_default();
    for group in conv.weight_groups() {
        // `None` would come of arguments that do not fit together.
        let _ran = self::group(conv, &group, input, output, scratch);
    }
}

fn group(conv: &Conv<'_>, group: &WeightGroup<'_>, input: &[u8], output: &mut [u8], scratch: &mut [u8]) -> Option<()> {
    let plan = Depthwise::of(conv, group.format);
    let (cells, scratch) = scratch.split_at_mut_checked(plan.cells())?;
    let (weights, scratch) = scratch.split_at_mut_checked(plan.weights())?;
    let (table, scratch) = scratch.split_at_mut_checked(plan.table())?;
    let decoded = scratch.get_mut(..plan.levels)?;
    let fits = input.len() == conv.input.len()
        && output.len() == conv.output.len()
        && conv.input.c == conv.output.c
        && conv.bias.len() == conv.output.c
        && conv.mult.len() == conv.output.c
        && group.first + group.channels <= conv.output.c;
    if !fits {
        return None;
    }
    let table: &mut [u32] = bytemuck::try_cast_slice_mut(table).ok()?;
    let across = NonZero::new(plan.blocks[1])?;
    for (block, offset) in table.iter_mut().enumerate() {
        let [rows, columns] = [block / across, block % across];
        *offset = ((rows * plan.width + columns * CELL * conv.dilation[1]) * CELLS) as u32;
    }
    // Columns beyond the input are never written again.
    cells.fill(conv.zero_in ^ SIGN);
    let mut layer = Layer { conv, plan, input, edge: [conv.zero_in; PANEL_CHANNELS], cells, table };
    let panel_levels = conv.depth() * PANEL_CHANNELS;
    for first in (0..group.channels).step_by(PANEL_CHANNELS) {
        let taps: &[u8] = if group.format == WeightFormat::Linear(8) {
            group.codes.get(first * conv.depth()..)?.get(..panel_levels)?
        } else {
            let stream =
                group.codes.get(first / PANEL_CHANNELS * (panel_levels / 8) * group.format.bits() as usize..)?;
            let levels = decoded.get_mut(..panel_levels)?;
            levels::decode_sequence(group, stream, levels)?;
            levels
        };
        layer.weights(taps, weights)?;
        let channels = PANEL_CHANNELS.min(group.channels - first);
        layer.panel(group.first + first, channels, weights, output)?;
    }
    Some(())
}

/// All that panels share.
struct Layer<'a> {
    conv: &'a Conv<'a>,
    plan: Depthwise,
    input: &'a [u8],
    /// A pixel of padding.
    edge: [u8; PANEL_CHANNELS],
    cells: &'a mut [u8],
    /// Where blocks of a window lie.
    table: &'a [u32],
}

impl Layer<'_> {
    /// Makes cells of the taps of a panel: blocks of them, once for each row of output.
    fn weights(&self, taps: &[u8], weights: &mut [u8]) -> Option<()> {
        let [kh, kw] = self.conv.kernel;
        let blocks = self.plan.blocks;
        weights.fill(0);
        for row in 0..self.plan.together {
            for block in 0..blocks[0] {
                let tap_row = |i: usize| (block * CELL + i).checked_sub(row).filter(|&ky| ky < kh);
                let pixel = PANEL_CHANNELS;
                let from = |i| tap_row(i).map_or(&NOTHING[..], |ky| taps.get(ky * kw * pixel..).unwrap_or(&NOTHING));
                let rows = Rows {
                    from: [0, 1, 2, 3].map(|i| from(i).as_ptr()),
                    pitch: [0, 1, 2, 3].map(|i| if tap_row(i).is_some() { pixel } else { 0 }),
                    columns: kw,
                    channels: PANEL_CHANNELS,
                    inverted: 0,
                };
                let columns = blocks[1] * CELL;
                let to = weights.get_mut((row * blocks[0] + block) * columns * CELLS..)?.get_mut(..columns * CELLS)?;
                if taps.len() < kh * kw * pixel || kw > columns {
                    return None;
                }
                // SAFETY: there are `kw` taps in each row, and room for no fewer columns.
                unsafe { cells::make(&rows, to.as_mut_ptr()) };
            }
        }
        Some(())
    }

    /// All pixels of a panel of channels.
    fn panel(&mut self, first: usize, channels: usize, weights: &[u8], output: &mut [u8]) -> Option<()> {
        let (p, together, sets) = (self.conv, self.plan.together, self.plan.sets);
        let mut y = 0;
        let together = NonZero::new(together)?;
        while y < p.output.h {
            // Sets of rows, or a last one that meets the one before.
            let (sets, together) = (sets.min((p.output.h - y) / together).max(1), together.get());
            let from = y.min(p.output.h - together);
            for set in 0..sets {
                self.fill(from + set * together, set, first, channels)?;
            }
            self.multiply(from, sets, first, channels, weights, output)?;
            y += sets * together;
        }
        Some(())
    }

    /// Makes the cells of a set of rows, of which this is the first.
    fn fill(&mut self, y: usize, set: usize, first: usize, channels: usize) -> Option<()> {
        let p = self.conv;
        let c = p.input.c;
        for block in 0..self.plan.blocks[0] {
            let row = |i: usize| {
                let iy = (y * p.stride[0] + (block * CELL + i) * p.dilation[0]).wrapping_sub(p.pad[0]);
                (iy < p.input.h).then_some(iy)
            };
            // Rows that no tap meets may be any.
            let from = |i: usize| row(i).and_then(|iy| self.input.get(iy * p.input.w * c + first..));
            let columns = p.input.w.min(self.plan.width.saturating_sub(p.pad[1]));
            let rows = Rows {
                from: [0, 1, 2, 3].map(|i| from(i).map_or(self.edge.as_ptr(), <[u8]>::as_ptr)),
                pitch: [0, 1, 2, 3].map(|i| if row(i).is_some() { c } else { 0 }),
                columns,
                channels,
                inverted: SIGN.into(),
            };
            let at = set * self.plan.set() + (block * self.plan.width + p.pad[1]) * CELLS;
            if columns == 0 {
                continue;
            }
            let to = self.cells.get_mut(at..)?.get_mut(..columns * CELLS)?;
            // SAFETY: rows of the input have so many columns, each of which has those channels; the edge may be read
            // again and again; there is room for as many.
            unsafe { cells::make(&rows, to.as_mut_ptr()) };
        }
        Some(())
    }

    /// Rows of output whose cells there are, from `y` on.
    fn multiply(
        &self,
        y: usize,
        sets: usize,
        first: usize,
        channels: usize,
        weights: &[u8],
        output: &mut [u8],
    ) -> Option<()> {
        let (p, plan) = (self.conv, &self.plan);
        let (c, w) = (p.output.c, p.output.w);
        let rows = sets * plan.together;
        let output = output.get_mut(y * w * c..)?.get_mut(..rows * w * c)?.get_mut(first..)?;
        let numbers = first..first + channels;
        let (bias, mult) = (p.bias.get(numbers.clone())?, p.mult.get(numbers)?);
        let columns = |apart: usize| [0, 1, 2, 3].map(|i| (i * apart * CELLS) as u32);
        let pair = plan.together == 2;
        let scatter = if pair { [0, w * c, c, w * c + c] } else { [0, c, 2 * c, 3 * c] };
        let mut panel = Panel {
            channels,
            cells: self.cells.as_ptr(),
            weights: weights.as_ptr(),
            bias: bias.as_ptr(),
            mult: mult.as_ptr(),
            output: output.as_mut_ptr(),
            scale: Scale::new(&p.requantise),
            gather: [columns(p.dilation[1]), columns(1)],
            scatter: scatter.map(|offset| offset as u32),
            step: if pair { 2 * c } else { 4 * c },
            sets,
            set_steps: [plan.set(), 2 * w * c],
            columns: if pair { [w / 2, w % 2] } else { [w, 0] },
            window_step: p.stride[1] * CELLS,
            table: self.table.as_ptr(),
            blocks: self.table.len(),
        };
        if channels == 0 || self.cells.len() < plan.cells() || weights.len() < plan.weights() {
            return None;
        }
        // SAFETY: cells and weights are as large as planned, and the output has pixels of all channels.
        unsafe { if pair { cells::two_rows(&mut panel) } else { cells::row(&mut panel) } };
        Some(())
    }
}
