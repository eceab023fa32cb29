//! Channels that the outputs do not need go: those that are constant whatever the network is given, and those
//! that nothing reads.
//!
//! A channel is constant where [`bounds`] leaves it one number: all its weights are zero or as good as, or an
//! activation clips whatever they yield. What it contributes to the layers that read it joins their biases. Under padding only a
//! constant of zero can: what surrounds the image is zero, so that any other number is not the same everywhere.
//! A row of weights whose result is constant reads nothing, and a column of zeros is not read; channels that
//! operators take one by one stay or go together ([`ties`]). From the outputs, which stay as they are, this says
//! what is needed. Every value keeps a channel at least, and every node stays, so that policies find their layers.
//! Kernels compute channels in blocks: a last block that would have gaps keeps channels that were there to fill it,
//! since gaps cost them more than zeros do.
//!
//! The outputs stay the same real numbers; in `f32` they may be rounded differently, as constants are summed
//! beforehand.

mod bounds;
mod ties;

use super::name_apart;
use crate::ir::{Graph, Node, Op, Padding, Value, ValueId};
use bounds::{Interval, bounds};
use ties::Ties;

/// Channels of all values together: beyond, the pass leaves the graph alone. A small file can declare large shapes.
const MAX_CHANNELS: usize = 1 << 22;

/// Values keep whole blocks of `block` channels, where they had as many.
pub(super) fn rewrite(graph: &Graph, block: usize) -> Option<Graph> {
    let total = (0..graph.values.len()).map(|id| channels(graph, ValueId(id as u32)));
    if total.fold(0, usize::saturating_add) > MAX_CHANNELS {
        return None;
    }
    let bounds = bounds(graph);
    let needed = Needed::of(graph, &bounds, block);
    Shrinking { old: graph, bounds: &bounds, needed: &needed, new: graph.clone() }.run()
}

/// Extent of the last dimension of an activation; 0 for constants.
fn channels(graph: &Graph, id: ValueId) -> usize {
    let value = graph.value(id);
    if value.is_constant() { 0 } else { value.shape.last().copied().unwrap_or(1) }
}

/// A layer with weights, row by row.
struct Weighted<'a> {
    weights: &'a [f32],
    bias: Option<&'a [f32]>,
    n_rows: usize,
    /// Weights of a row.
    row: usize,
    /// Input channels that a row meets.
    depth: usize,
    groups: usize,
}

impl<'a> Weighted<'a> {
    /// The verifier ensures that weights and biases are constants.
    fn of(graph: &'a Graph, node: &Node) -> Weighted<'a> {
        let data = |id: &ValueId| graph.value(*id).data.as_deref().map(Vec::as_slice);
        let weights = graph.value(node.inputs[1]);
        let (n_rows, depth) = (weights.shape[0], weights.shape[weights.shape.len() - 1]);
        Weighted {
            weights: data(&node.inputs[1]).unwrap_or_default(),
            bias: node.inputs.get(2).and_then(data),
            n_rows,
            row: weights.len() / n_rows,
            depth,
            groups: if let Op::Conv2d(conv) = &node.op { conv.groups } else { 1 },
        }
    }

    /// The weights of row `o` that count, each with the input channel that it meets; `x` bounds the input. Those
    /// that, were all as large, would not change the bias in `f32` do not count.
    fn terms(&self, o: usize, x: &[Interval]) -> impl Iterator<Item = (usize, f32)> {
        let first = o / (self.n_rows / self.groups) * self.depth;
        let weights = self.row(o).iter().enumerate().map(move |(i, &w)| (first + i % self.depth, w));
        let nothing = f64::from(self.bias(o)).abs() * f64::from(f32::EPSILON) / 4.0 / self.row as f64;
        weights.filter(move |&(c, w)| w != 0.0 && f64::from(w).abs() * x[c].magnitude() > nothing)
    }

    fn row(&self, o: usize) -> &'a [f32] {
        &self.weights[o * self.row..][..self.row]
    }

    fn bias(&self, o: usize) -> f32 {
        self.bias.map_or(0.0, |bias| bias[o])
    }
}

/// Which channels stay.
struct Needed {
    ties: Ties,
    /// By class.
    stays: Vec<bool>,
}

impl Needed {
    fn of(graph: &Graph, bounds: &[Vec<Interval>], block: usize) -> Needed {
        let ties = Ties::of(graph);
        let mut needed = Needed { stays: vec![false; ties.len()], ties };
        for value in needed.ties.whole().to_vec() {
            for c in 0..channels(graph, value) {
                needed.keep(value, c);
            }
        }
        needed.spread(graph, bounds);
        for id in (0..graph.values.len()).map(|id| ValueId(id as u32)) {
            if channels(graph, id) > 0 && needed.channels(graph, id).is_empty() {
                needed.keep(id, 0);
                needed.spread(graph, bounds);
            }
        }
        while needed.fill_blocks(graph, block) {
            needed.spread(graph, bounds);
        }
        needed
    }

    /// Keeps channels besides so that every value has whole blocks of them, or all it had; whether any were missing.
    fn fill_blocks(&mut self, graph: &Graph, block: usize) -> bool {
        let mut grows = false;
        for id in (0..graph.values.len()).map(|id| ValueId(id as u32)) {
            let kept = self.channels(graph, id).len();
            let missing = kept.next_multiple_of(block) - kept;
            let gone: Vec<usize> = (0..channels(graph, id)).filter(|&c| !self.stays(id, c)).take(missing).collect();
            gone.into_iter().for_each(|c| grows |= self.keep(id, c));
        }
        grows
    }

    /// Whether that is new.
    fn keep(&mut self, value: ValueId, channel: usize) -> bool {
        let class = self.ties.class(value, channel);
        !std::mem::replace(&mut self.stays[class], true)
    }

    fn stays(&self, value: ValueId, channel: usize) -> bool {
        self.stays[self.ties.class(value, channel)]
    }

    /// The channels of a value that stay, in order.
    fn channels(&self, graph: &Graph, value: ValueId) -> Vec<usize> {
        (0..channels(graph, value)).filter(|&c| self.stays(value, c)).collect()
    }

    /// From rows that stay to the channels they read, until there are no more.
    fn spread(&mut self, graph: &Graph, bounds: &[Vec<Interval>]) {
        let mut grows = true;
        while std::mem::take(&mut grows) {
            for node in graph.nodes.iter().rev().filter(|node| is_dense(node)) {
                let (layer, x) = (Weighted::of(graph, node), node.inputs[0]);
                let (seen, results) = (&bounds[x.0 as usize], &bounds[node.output.0 as usize]);
                for o in (0..layer.n_rows).filter(|&o| results[o].constant().is_none()) {
                    if self.stays(node.output, o) {
                        let read = layer.terms(o, seen).filter(|&(c, _)| !folds(node, seen[c]));
                        read.for_each(|(c, _)| grows |= self.keep(x, c));
                    }
                }
            }
        }
    }
}

/// Whether any input channel may go without an output channel: a layer with weights in one group.
fn is_dense(node: &Node) -> bool {
    match &node.op {
        Op::Conv2d(conv) => conv.groups == 1,
        Op::FullyConnected { .. } => true,
        _ => false,
    }
}

/// Whether what a channel within these bounds contributes to a layer is the same everywhere.
fn folds(layer: &Node, channel: Interval) -> bool {
    match (&layer.op, channel.constant()) {
        (_, None) => false,
        (Op::Conv2d(conv), Some(x)) => x == 0.0 || conv.pad == Padding::default(),
        (_, Some(_)) => true,
    }
}

/// The graph while channels leave it.
struct Shrinking<'a> {
    old: &'a Graph,
    bounds: &'a [Vec<Interval>],
    needed: &'a Needed,
    new: Graph,
}

impl Shrinking<'_> {
    fn run(mut self) -> Option<Graph> {
        for at in 0..self.old.nodes.len() {
            let node = &self.old.nodes[at];
            match &node.op {
                Op::Conv2d(_) if !is_dense(node) => self.grouped(at),
                Op::Conv2d(_) | Op::FullyConnected { .. } => self.dense(at),
                Op::Add { .. } | Op::Mul => self.operand(at),
                Op::Pad { .. } => self.pad(at),
                _ => {}
            }
        }
        for (id, value) in self.new.values[..self.old.values.len()].iter_mut().enumerate() {
            if let (None, Some(last)) = (&value.data, value.shape.last_mut()) {
                *last = self.needed.channels(self.old, ValueId(id as u32)).len();
            }
        }
        let constants = self.new.values[self.old.values.len()..].iter().filter_map(|value| value.data.as_ref());
        if !constants.clone().all(|data| data.iter().all(|x| x.is_finite())) {
            return None;
        }
        let n_constants = constants.count();
        name_apart(&mut self.new, n_constants);
        let new = self.new.compact();
        (new != *self.old).then_some(new)
    }

    /// Rows and columns go; constants join the bias.
    fn dense(&mut self, at: usize) {
        let node = &self.old.nodes[at];
        let layer = Weighted::of(self.old, node);
        let (x, y) = (&self.bounds[node.inputs[0].0 as usize], &self.bounds[node.output.0 as usize]);
        let rows = self.needed.channels(self.old, node.output);
        let columns = self.needed.channels(self.old, node.inputs[0]);
        let (mut weights, mut biases) = (Vec::new(), Vec::new());
        for &o in &rows {
            if let Some(constant) = y[o].constant() {
                weights.resize(weights.len() + layer.row / layer.depth * columns.len(), 0.0);
                biases.push(constant);
                continue;
            }
            weights.extend(layer.row(o).chunks_exact(layer.depth).flat_map(|tap| columns.iter().map(|&c| tap[c])));
            let gone = layer.terms(o, x).filter(|&(c, _)| !self.needed.stays(node.inputs[0], c));
            let folded: f64 = gone.map(|(c, w)| f64::from(w) * f64::from(x[c].constant().unwrap_or_default())).sum();
            biases.push((f64::from(layer.bias(o)) + folded) as f32);
        }
        self.replace(at, 1, Some(columns.len()), weights);
        self.set_bias(at, biases);
    }

    /// Whole groups go.
    fn grouped(&mut self, at: usize) {
        let node = &self.old.nodes[at];
        let layer = Weighted::of(self.old, node);
        let rows = self.needed.channels(self.old, node.output);
        let weights = rows.iter().flat_map(|&o| layer.row(o)).copied().collect();
        let biases = rows.iter().map(|&o| layer.bias(o)).collect();
        if let Op::Conv2d(conv) = &mut self.new.nodes[at].op {
            conv.groups = conv.groups * rows.len() / layer.n_rows;
        }
        self.replace(at, 1, None, weights);
        self.set_bias(at, biases);
    }

    /// A constant with one number a channel shrinks with the channels.
    fn operand(&mut self, at: usize) {
        let node = &self.old.nodes[at];
        let operand = self.old.value(node.inputs[1]);
        let Some(data) = operand.data.as_ref().filter(|data| data.len() > 1) else { return };
        let kept = self.needed.channels(self.old, node.output).iter().map(|&c| data[c]).collect();
        self.replace(at, 1, None, kept);
    }

    /// Channels of padding go too.
    fn pad(&mut self, at: usize) {
        let node = &self.old.nodes[at];
        let inside = channels(self.old, node.inputs[0]);
        let kept = self.needed.channels(self.old, node.output);
        if let Op::Pad { pads } = &mut self.new.nodes[at].op
            && let Some((before, after)) = pads.last_mut()
        {
            let end = *before + inside;
            *after = kept.iter().filter(|&&c| c >= end).count();
            *before = kept.iter().filter(|&&c| c < *before).count();
        }
    }

    /// Gives a layer its biases, unless it had none and needs none.
    fn set_bias(&mut self, at: usize, biases: Vec<f32>) {
        if self.new.nodes[at].inputs.len() > 2 {
            self.replace(at, 2, None, biases);
        } else if biases.iter().any(|&b| b != 0.0) {
            let node = &mut self.new.nodes[at];
            let (name, shape) = (format!("{}.b", node.name), vec![biases.len()]);
            self.new.values.push(Value { name, shape, data: Some(biases.into()), range: None });
            node.inputs.push(ValueId(self.new.values.len() as u32 - 1));
        }
    }

    /// Another constant in place of an operand; its first dimension follows from the length where `last` is given
    /// or not.
    fn replace(&mut self, at: usize, operand: usize, last: Option<usize>, data: Vec<f32>) {
        let old = self.old.value(self.old.nodes[at].inputs[operand]);
        if old.data.as_deref() == Some(&data) {
            return;
        }
        let mut shape = old.shape.clone();
        if let (Some(last), Some(slot)) = (last, shape.last_mut()) {
            *slot = last;
        }
        let rest: usize = shape[1..].iter().product();
        shape[0] = data.len() / rest;
        self.new.values.push(Value { name: old.name.clone(), shape, data: Some(data.into()), range: None });
        self.new.nodes[at].inputs[operand] = ValueId(self.new.values.len() as u32 - 1);
    }
}
