//! Sums that become part of a convolution.
//!
//! Where a convolution's result is read by a sum alone, and the other operand is there before and not read
//! after, the convolution adds onto that operand: its own result never has a tensor. Exact to the bit.
//!
//! It saves memory, no time: adding a strip at a time costs what a sum of its own does (within 1 %, Zen 5). So sums
//! are fused where the arena would be larger if they were not.

use std::collections::BTreeSet;

use pare_runtime::format::Add;

use super::legalise::Lowering;
use super::plan::{PlannedLayer, PlannedOp};
use crate::ir::NodeId;

/// Its name, for leaving it out.
pub const FUSE_RESIDUAL: &str = "fuse-residual";

/// Where sums are computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sums {
    /// In the convolution that gives one of the operands, where that makes the arena smaller.
    #[default]
    Fused,
    /// In layers of their own.
    Apart,
}

/// A sum and the convolution that can take it in, as indices of the layers.
struct Match {
    sum: usize,
    conv: usize,
    /// Which operand of the sum is the convolution's result.
    operand: usize,
}

impl Lowering<'_> {
    /// Fuses the sums at which more memory is needed than would be anywhere if all were fused.
    pub(super) fn fuse_sums(&mut self) {
        let worthwhile = self.sums_at_the_peak();
        let mut at = 0;
        while at < self.layers.len() {
            match self.match_sum(at).filter(|_| worthwhile.contains(&self.layers[at].node)) {
                Some(found) => self.fuse(&found),
                None => at += 1,
            }
        }
    }

    fn sums_at_the_peak(&mut self) -> BTreeSet<Option<NodeId>> {
        let matches: Vec<Match> = (0..self.layers.len()).filter_map(|sum| self.match_sum(sum)).collect();
        let saved = |layer: usize| {
            let spanning = matches.iter().filter(|found| (found.conv..=found.sum).contains(&layer));
            spanning.map(|found| self.tensors[self.layers[found.conv].output].shape.len()).sum::<usize>()
        };
        let saved: Vec<usize> = (0..self.layers.len()).map(saved).collect();
        let live = self.live_bytes();
        let peak = live.iter().zip(&saved).map(|(live, saved)| live.saturating_sub(*saved)).max().unwrap_or(0);
        let is_above = |found: &&Match| live[found.conv..=found.sum].iter().any(|&bytes| bytes > peak);
        matches.iter().filter(is_above).map(|found| self.layers[found.sum].node).collect()
    }

    /// What each layer needs if none is fused.
    fn live_bytes(&mut self) -> Vec<usize> {
        let apart = self.buffers.clone();
        self.reuse_dying_operands();
        let needs = self.needs(&self.chosen_stages());
        self.buffers = apart;
        needs
    }

    /// The convolution that can take in a sum, whichever operand it gives.
    fn match_sum(&self, sum: usize) -> Option<Match> {
        [1, 0].into_iter().find_map(|operand| self.match_operand(sum, operand))
    }

    fn match_operand(&self, sum: usize, operand: usize) -> Option<Match> {
        let PlannedOp::Add { .. } = self.layers[sum].op else { return None };
        let inputs = &self.layers[sum].inputs;
        let [result, other] = [inputs[operand], inputs[1 - operand]].map(|tensor| self.buffers[tensor]);
        let conv = self.layers[..sum].iter().rposition(|layer| layer.output == inputs[operand])?;
        let takes_none = matches!(&self.layers[conv].op, PlannedOp::Conv(conv) if conv.residual.is_none());
        let touched = |buffer: usize, layers: &[PlannedLayer]| layers.iter().any(|layer| self.touches(layer, buffer));
        let between = &self.layers[conv + 1..sum];
        let after = &self.layers[sum + 1..];
        let result_is_private = !touched(result, between) && !touched(result, after) && !self.is_output(result);
        let other_is_over = !touched(other, after) && !self.is_output(other);
        let other_is_there = !self.touches(&self.layers[conv], other) && !touched(other, between);
        (takes_none && result_is_private && other_is_over && other_is_there).then_some(Match { sum, conv, operand })
    }

    fn fuse(&mut self, found: &Match) {
        let sum = self.layers.remove(found.sum);
        let [result, other] = [sum.inputs[found.operand], sum.inputs[1 - found.operand]];
        let zero = |tensor: usize| self.tensors[tensor].code.zero;
        if let (PlannedOp::Conv(conv), &PlannedOp::Add { ma, mb, shift, lo, hi }) =
            (&mut self.layers[found.conv].op, &sum.op)
        {
            let [mb, ma] = if found.operand == 1 { [mb, ma] } else { [ma, mb] };
            let (zero_a, zero_b, zero) = (zero(other), zero(result), zero(sum.output));
            conv.residual = Some(Add { ma, mb, zero_a, zero_b, zero, shift, lo, hi });
        }
        let layer = &mut self.layers[found.conv];
        layer.inputs.push(other);
        (layer.output, layer.sum) = (sum.output, sum.node);
        self.share(sum.output, other);
        self.remove_tensor(result);
    }

    /// Whether a layer reads or writes a buffer.
    pub(super) fn touches(&self, layer: &PlannedLayer, buffer: usize) -> bool {
        layer.inputs.iter().chain([&layer.output]).any(|&tensor| self.buffers[tensor] == buffer)
    }

    pub(super) fn is_output(&self, buffer: usize) -> bool {
        self.quantized.graph.outputs.iter().any(|&value| self.buffers[self.tensor(value)] == buffer)
    }

    /// Forgets a tensor that no layer names; those behind it move up.
    fn remove_tensor(&mut self, gone: usize) {
        self.tensors.remove(gone);
        self.buffers.remove(gone);
        for layer in &mut self.layers {
            let named = layer.inputs.iter_mut().chain([&mut layer.output]);
            named.filter(|tensor| **tensor > gone).for_each(|tensor| *tensor -= 1);
        }
        for of_value in &mut self.of_value {
            *of_value = of_value.filter(|&tensor| tensor != gone).map(|tensor| tensor - usize::from(tensor > gone));
        }
    }
}

impl super::Plan {
    /// The convolution and the sum of each pair that runs as one.
    pub fn sums(&self) -> impl Iterator<Item = (NodeId, NodeId)> + '_ {
        self.layers.iter().filter_map(|layer| Some((layer.node?, layer.sum?)))
    }
}
