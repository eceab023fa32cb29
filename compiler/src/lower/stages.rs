//! Convolutions that run together, a band of rows at a time, so that the tensors between them need memory for a few
//! rows alone, and that of what they read can be written anew while they read.
//!
//! No row is computed twice: see [`pare_runtime::format`]. It costs some instructions a band, so that it is done where
//! the arena would be larger otherwise, in bands as cheap as that allows; not on the host, where bands are slow and
//! memory is plenty.

use std::collections::BTreeSet;

use pare_runtime::format::{Conv, Pace, StageEnds, WeightFormat as RuntimeFormat};
use pare_runtime::kernels::scratch;

use super::legalise::Lowering;
use super::memory::{self, ALIGN, Buffer, Overlap};
use super::plan::{PlannedConv, PlannedOp};

/// Its name, for leaving it out.
pub const ROW_STAGES: &str = "row-stages";

/// Layers of a stage at most.
const MOST_LAYERS: usize = 6;
/// Rows of its last layer in a band. Most are multiples of three: kernels for microcontrollers take so many windows
/// at once.
const HEIGHTS: [usize; 9] = [1, 2, 3, 4, 6, 8, 12, 16, 24];
/// Windows that those kernels take at once; others cost about as much again.
const WINDOWS: usize = 3;
/// What a layer costs in a band however little it computes, in multiply-accumulates: counted on a Cortex-M4.
const CALL: u64 = 2500;
/// What each weight of few bits costs in a band: it is taken apart anew, and packed multiplication has other work that
/// is done once a band.
const FEW_BITS: u64 = 16;
/// Multiply-accumulates that one of a depthwise convolution costs there.
const DEPTHWISE: u64 = 4;
/// The share of a stage's work that bands may add, one in so many, unless memory is all that counts.
const WORK_A_COST: u64 = 32;

/// How layers follow one another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stages {
    /// Some together in bands of rows, where that makes the arena smaller and costs little time.
    Banded,
    /// The same whatever it costs.
    Smallest,
    /// Each after the one before.
    #[default]
    Whole,
}

/// Layers that run together in bands of rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedStage {
    /// The first of them.
    pub first: usize,
    /// How many they are.
    pub layers: usize,
    /// Rows of the first one's output in a band.
    pub rows: usize,
    /// Bytes that a band holds of each tensor between them: of rows from earlier bands, and of its own.
    pub(super) held: Vec<[usize; 2]>,
    /// What the layers' kernels want.
    pub(super) scratch: Vec<usize>,
    /// What [`StageEnds::distance`] says.
    distance: usize,
    /// What the bands add to the work, in multiply-accumulates.
    cost: u64,
}

impl PlannedStage {
    pub(super) fn end(&self) -> usize {
        self.first + self.layers
    }

    fn meets(&self, other: &PlannedStage) -> bool {
        self.first < other.end() && other.first < self.end()
    }
}

impl Lowering<'_> {
    /// The stages that make the arena smaller, if there are to be any.
    pub(super) fn chosen_stages(&self) -> Vec<PlannedStage> {
        let mut chosen: Vec<PlannedStage> = Vec::new();
        if self.config.stages == Stages::Whole {
            return chosen;
        }
        let mut needs = self.needs(&chosen);
        while let Some((less, better)) = self.better_stages(&chosen, &needs) {
            (needs, chosen) = (less, better);
        }
        let peak = needs.iter().max().copied().unwrap_or(0);
        let suffices = |stages: &[PlannedStage]| self.needs(stages).into_iter().max().unwrap_or(0) <= peak;
        // Some came to be superfluous, and bands can be cheaper where the peak is not.
        for index in (0..chosen.len()).rev() {
            let mut fewer = chosen.clone();
            fewer.remove(index);
            if suffices(&fewer) {
                chosen = fewer;
            }
        }
        for index in 0..chosen.len() {
            let PlannedStage { first, cost, .. } = chosen[index];
            let mut others = self.stages(first, chosen[index].end() - 1);
            others.sort_by_key(|other| other.cost);
            for other in others.into_iter().take_while(|other| other.cost < cost) {
                let mut stages = chosen.clone();
                stages[index] = other;
                if suffices(&stages) {
                    chosen = stages;
                    break;
                }
            }
        }
        chosen.sort_by_key(|stage| stage.first);
        chosen
    }

    /// Sizes and lifetimes of the buffers where these stages run together, and which of them may overlap.
    pub(super) fn staged_lifetimes(&self, stages: &[PlannedStage]) -> (Vec<Buffer>, Vec<Overlap>) {
        let end = self.layers.len();
        let mut buffers = self.lifetimes(end);
        let mut overlaps = Vec::new();
        for stage in stages {
            let [first, last] = [stage.first, stage.end() - 1];
            for (layer, [before, after]) in (first..).zip(&stage.held) {
                buffers[self.buffers[self.layers[layer].output]].bytes = before + after;
            }
            let layers = &self.layers[first..=last];
            for tensor in layers.iter().flat_map(|layer| layer.inputs.iter().chain([&layer.output])) {
                let buffer = &mut buffers[self.buffers[*tensor]];
                (buffer.first, buffer.last) = (buffer.first.min(first), buffer.last.max(last));
            }
            let [dying, growing] = self.ends(first, last);
            if dying != growing && buffers[dying].last == last && buffers[growing].first == first {
                overlaps.push(Overlap { dying, growing, distance: stage.distance });
            }
        }
        (buffers, overlaps)
    }

    /// What each layer needs.
    pub(super) fn needs(&self, stages: &[PlannedStage]) -> Vec<usize> {
        let (buffers, overlaps) = self.staged_lifetimes(stages);
        let scratch = self.staged_scratch(stages);
        let live = |layer| memory::live_at(&buffers, &overlaps, layer);
        scratch.iter().enumerate().map(|(layer, scratch)| live(layer) + scratch).collect()
    }

    /// What the kernels of each layer want.
    pub(super) fn staged_scratch(&self, stages: &[PlannedStage]) -> Vec<usize> {
        let mut scratch: Vec<usize> = self.layers.iter().map(|layer| self.scratch_bytes(layer)).collect();
        for stage in stages {
            scratch[stage.first..stage.end()].copy_from_slice(&stage.scratch);
        }
        scratch
    }

    /// The change that takes most off the layer that needs most, if there is one, and what is needed then.
    fn better_stages(&self, chosen: &[PlannedStage], needs: &[usize]) -> Option<(Vec<usize>, Vec<PlannedStage>)> {
        let peak = needs.iter().enumerate().max_by_key(|(_, bytes)| **bytes)?.0;
        let order = |needs: &[usize]| {
            let mut sorted = needs.to_vec();
            sorted.sort_unstable_by(|a, b| b.cmp(a));
            sorted
        };
        let mut best = (order(needs), None);
        for candidate in self.stages_around(peak) {
            let mut stages: Vec<_> = chosen.iter().filter(|stage| !stage.meets(&candidate)).cloned().collect();
            stages.push(candidate);
            let needs = self.needs(&stages);
            let sorted = order(&needs);
            if sorted < best.0 {
                best = (sorted, Some((needs, stages)));
            }
        }
        best.1
    }

    /// All stages that a layer can be in.
    fn stages_around(&self, layer: usize) -> Vec<PlannedStage> {
        let mut stages = Vec::new();
        for first in (layer + 1).saturating_sub(MOST_LAYERS)..=layer {
            for last in layer..(first + MOST_LAYERS).min(self.layers.len()) {
                stages.extend(self.stages(first, last));
            }
        }
        stages
    }

    /// A stage of these layers, in bands of several heights; none if they do not follow from one another.
    fn stages(&self, first: usize, last: usize) -> Vec<PlannedStage> {
        let Some(convs) = self.chain(first, last) else { return Vec::new() };
        let strides: usize = convs[1..].iter().map(|conv| conv.1.stride[0]).product();
        let work: u64 = convs.iter().map(|(_, conv)| work(conv)).sum();
        let is_cheap = |stage: &PlannedStage| match self.config.stages {
            Stages::Smallest => true,
            Stages::Banded | Stages::Whole => stage.cost * WORK_A_COST <= work,
        };
        let heights = HEIGHTS.into_iter().take_while(|&rows| rows < convs[convs.len() - 1].1.output.h);
        heights.filter_map(|rows| self.stage(first, &convs, rows * strides)).filter(is_cheap).collect()
    }

    fn stage(&self, first: usize, convs: &[(&PlannedConv, Conv<'_>)], rows: usize) -> Option<PlannedStage> {
        let mut paces = vec![Pace::first(rows)];
        for (_, conv) in &convs[1..] {
            paces.push(paces[paces.len() - 1].of_reader(conv)?);
        }
        let held = paces.windows(2).zip(&convs[1..]).map(|(paces, (_, reader))| {
            let (before, after) = paces[0].held(reader.input, paces[0].kept(reader, paces[1]));
            // So that the rows of a band begin at an aligned address.
            [before.next_multiple_of(ALIGN), after]
        });
        let ends = StageEnds {
            first: &convs[0].1,
            from: paces[0],
            last: &convs[convs.len() - 1].1,
            to: paces[paces.len() - 1],
            is_single: convs.len() == 1,
        };
        let distance = ends.distance();
        let [read, written] = self.ends(first, first + convs.len() - 1);
        let bands = ends.to.bands(ends.last.output.h);
        let mut cost = 0;
        let mut scratch = Vec::new();
        for ((planned, conv), pace) in convs.iter().zip(&paces) {
            let has_few_bits = planned.weights.iter().any(|group| RuntimeFormat::from(group.format).bits() <= 4);
            let weights = if has_few_bits && !conv.is_depthwise() { conv.depth() * conv.output.c } else { 0 };
            let parts = (0..bands).map(|band| conv.part(pace.rows(band, conv.output.h)).conv);
            let mut kinds = BTreeSet::new();
            for part in parts {
                let single = if conv.is_depthwise() { 0 } else { part.output.h * part.output.w % WINDOWS };
                cost += CALL + FEW_BITS * weights as u64 + (single * conv.depth() * conv.output.c) as u64;
                kinds.insert((part.input.h, part.output.h, part.pad[0]));
            }
            scratch.push(kinds.into_iter().map(|kind| scratch_of(planned, conv, kind)).max().unwrap_or(0));
        }
        (read != written || distance == 0).then(|| PlannedStage {
            first,
            layers: convs.len(),
            rows,
            held: held.collect(),
            scratch,
            distance: distance.next_multiple_of(ALIGN),
            cost,
        })
    }

    /// Convolutions of which each is the only one to read what the one before computes, and the last alone may add.
    fn chain(&self, first: usize, last: usize) -> Option<Vec<(&PlannedConv, Conv<'_>)>> {
        let conv = |index: usize| {
            let layer = &self.layers[index];
            let PlannedOp::Conv(conv) = &layer.op else { return None };
            let follows = index == first || layer.inputs[0] == self.layers[index - 1].output;
            let is_between = index == last || conv.residual.is_none() && self.is_private(layer.output, index);
            let geometry = conv.geometry(&self.tensors[layer.inputs[0]], &self.tensors[layer.output]);
            (follows && is_between).then_some((conv, geometry))
        };
        (first..=last).map(conv).collect()
    }

    /// Whether nothing but a layer and the next one touches the memory of a tensor.
    fn is_private(&self, tensor: usize, layer: usize) -> bool {
        let buffer = self.buffers[tensor];
        let alone = self.buffers.iter().filter(|other| **other == buffer).count() == 1;
        let mut others = self.layers.iter().enumerate().filter(|(index, _)| *index != layer && *index != layer + 1);
        alone && !self.is_output(buffer) && !others.any(|(_, other)| self.touches(other, buffer))
    }

    /// The buffers that a stage reads and writes.
    fn ends(&self, first: usize, last: usize) -> [usize; 2] {
        [self.layers[first].inputs[0], self.layers[last].output].map(|tensor| self.buffers[tensor])
    }
}

fn work(conv: &Conv<'_>) -> u64 {
    conv.macs() * if conv.is_depthwise() { DEPTHWISE } else { 1 }
}

/// What kernels want for some rows of a convolution.
fn scratch_of(planned: &PlannedConv, conv: &Conv<'_>, (rows_in, rows_out, top): (usize, usize, usize)) -> usize {
    let mut part = *conv;
    (part.input.h, part.output.h, part.pad[0]) = (rows_in, rows_out, top);
    let of = |group: &super::PlannedWeights| scratch::conv_scratch_bytes(&part, group.layout, group.format.into());
    if rows_out == 0 { 0 } else { planned.weights.iter().map(of).max().unwrap_or(0) }
}
