//! A graph without some of its channels.

use super::{Kept, channels, values};
use crate::ir::constants::Rewriting;
use crate::ir::weighted::{Weighted, is_dense};
use crate::ir::{Graph, NodeId, Op};

/// The graph with the channels that `kept` says, of which every value has one at least; what the others contributed to
/// layers is gone with them. All nodes stay, under their names.
pub fn cut(graph: &Graph, kept: &Kept) -> Graph {
    let mut cutting = Cutting { old: graph, kept, new: Rewriting::new(graph) };
    for at in (0..graph.nodes.len()).map(|at| NodeId(at as u32)) {
        let node = graph.node(at);
        match &node.op {
            Op::Conv2d(_) if !is_dense(node) => cutting.grouped(at),
            Op::Conv2d(_) | Op::FullyConnected { .. } => cutting.dense(at),
            Op::Add { .. } | Op::Mul => cutting.operand(at),
            Op::Pad { .. } => cutting.pad(at),
            _ => {}
        }
    }
    for id in values(graph) {
        let value = &mut cutting.new.graph.values[id.0 as usize];
        if let (None, Some(last)) = (&value.data, value.shape.last_mut()) {
            *last = kept.channels(graph, id).len();
        }
    }
    // Numbers are only left out: none turns infinite.
    cutting.new.finish().unwrap_or_else(|| graph.clone()).compact()
}

struct Cutting<'a> {
    old: &'a Graph,
    kept: &'a Kept,
    new: Rewriting,
}

impl Cutting<'_> {
    /// Rows and columns go.
    fn dense(&mut self, at: NodeId) {
        let node = self.old.node(at);
        let layer = Weighted::of(self.old, node);
        let rows = self.kept.channels(self.old, node.output);
        let columns = self.kept.channels(self.old, node.inputs[0]);
        let taps = rows.iter().flat_map(|&o| layer.row(o).chunks_exact(layer.depth));
        let weights = taps.flat_map(|tap| columns.iter().map(|&c| tap[c])).collect();
        self.set(at, &layer, &rows, columns.len(), weights);
    }

    /// Whole groups go.
    fn grouped(&mut self, at: NodeId) {
        let node = self.old.node(at);
        let layer = Weighted::of(self.old, node);
        let rows = self.kept.channels(self.old, node.output);
        if let Op::Conv2d(conv) = &mut self.new.graph.nodes[at.0 as usize].op {
            conv.groups = conv.groups * rows.len() / layer.n_rows;
        }
        let weights = rows.iter().flat_map(|&o| layer.row(o)).copied().collect();
        self.set(at, &layer, &rows, layer.depth, weights);
    }

    /// Weights `rows x ... x depth`, and the biases of the rows.
    fn set(&mut self, at: NodeId, layer: &Weighted<'_>, rows: &[usize], depth: usize, weights: Vec<f32>) {
        let mut shape = self.old.input_shape(self.old.node(at), 1).to_vec();
        shape[0] = rows.len();
        if let Some(last) = shape.last_mut() {
            *last = depth;
        }
        self.new.replace(at, 1, shape, weights);
        self.new.set_bias(at, rows.iter().map(|&o| layer.bias(o)).collect());
    }

    /// A constant with one number a channel shrinks with the channels.
    fn operand(&mut self, at: NodeId) {
        let node = self.old.node(at);
        let operand = self.old.value(node.inputs[1]);
        let Some(data) = operand.data.as_ref().filter(|data| data.len() > 1) else { return };
        let kept: Vec<f32> = self.kept.channels(self.old, node.output).iter().map(|&c| data[c]).collect();
        self.new.replace(at, 1, vec![kept.len()], kept);
    }

    /// Channels of padding go too.
    fn pad(&mut self, at: NodeId) {
        let node = self.old.node(at);
        let inside = channels(self.old, node.inputs[0]);
        let kept = self.kept.channels(self.old, node.output);
        if let Op::Pad { pads } = &mut self.new.graph.nodes[at.0 as usize].op
            && let Some((before, after)) = pads.last_mut()
        {
            let end = *before + inside;
            *after = kept.iter().filter(|&&c| c >= end).count();
            *before = kept.iter().filter(|&&c| c < *before).count();
        }
    }
}
