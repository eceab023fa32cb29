//! Channels that the outputs do not need go: those that are constant whatever the network is given, and those
//! that nothing reads.
//!
//! A channel is constant where [`bounds`] leaves it one number: all its weights are zero or as good as, or an
//! activation clips whatever they yield. What it contributes to the layers that read it joins their biases. Under padding only a
//! constant of zero can: what surrounds the image is zero, so that any other number is not the same everywhere.
//! A row of weights whose result is constant reads nothing, and a column of zeros is not read; channels that
//! operators take one by one stay or go together ([`Ties`]). From the outputs, which stay as they are, this says
//! what is needed. Every value keeps a channel at least, and every node stays, so that policies find their layers.
//! Kernels compute channels in blocks: a last block that would have gaps keeps channels that were there to fill it,
//! since gaps cost them more than zeros do.
//!
//! The outputs stay the same real numbers; in `f32` they may be rounded differently, as constants are summed
//! beforehand.

mod bounds;

use crate::ir::channels::{Kept, Ties, channels, cut, values};
use crate::ir::constants::Rewriting;
use crate::ir::weighted::{Weighted, is_dense};
use crate::ir::{Graph, Node, NodeId, Op, Padding};
use bounds::{Interval, bounds};

/// Channels of all values together: beyond, the pass leaves the graph alone. A small file can declare large shapes.
const MAX_CHANNELS: usize = 1 << 22;

/// Values keep whole blocks of `block` channels, where they had as many.
pub(super) fn rewrite(graph: &Graph, block: usize) -> Option<Graph> {
    if values(graph).map(|id| channels(graph, id)).fold(0, usize::saturating_add) > MAX_CHANNELS {
        return None;
    }
    let bounds = bounds(graph);
    let needed = needed(graph, &bounds, block);
    let new = cut(&fold(graph, &bounds, &needed)?, &needed);
    (new != *graph).then_some(new)
}

/// The weights of row `o` that count, each with the input channel that it meets; `x` bounds the input. Those that, were
/// all as large, would not change the bias in `f32` do not count.
fn terms(layer: &Weighted<'_>, o: usize, x: &[Interval]) -> impl Iterator<Item = (usize, f32)> {
    let nothing = f64::from(layer.bias(o)).abs() * f64::from(f32::EPSILON) / 4.0 / layer.row as f64;
    layer.terms(o).filter(move |&(c, w)| w != 0.0 && f64::from(w).abs() * x[c].magnitude() > nothing)
}

/// Which channels must stay.
fn needed(graph: &Graph, bounds: &[Vec<Interval>], block: usize) -> Kept {
    let mut needed = Kept::least(graph, Ties::of(graph));
    spread(&mut needed, graph, bounds);
    for id in values(graph) {
        if channels(graph, id) > 0 && needed.channels(graph, id).is_empty() {
            needed.keep(id, 0);
            spread(&mut needed, graph, bounds);
        }
    }
    while fill_blocks(&mut needed, graph, block) {
        spread(&mut needed, graph, bounds);
    }
    needed
}

/// Keeps channels besides so that every value has whole blocks of them, or all it had; whether any were missing.
fn fill_blocks(needed: &mut Kept, graph: &Graph, block: usize) -> bool {
    let mut grows = false;
    for id in values(graph) {
        let kept = needed.channels(graph, id).len();
        let missing = kept.next_multiple_of(block) - kept;
        let gone: Vec<usize> = (0..channels(graph, id)).filter(|&c| !needed.stays(id, c)).take(missing).collect();
        gone.into_iter().for_each(|c| grows |= needed.keep(id, c));
    }
    grows
}

/// From rows that stay to the channels they read, until there are no more.
fn spread(needed: &mut Kept, graph: &Graph, bounds: &[Vec<Interval>]) {
    let mut grows = true;
    while std::mem::take(&mut grows) {
        for node in graph.nodes.iter().rev().filter(|node| is_dense(node)) {
            let (layer, x) = (Weighted::of(graph, node), node.inputs[0]);
            let (seen, results) = (&bounds[x.0 as usize], &bounds[node.output.0 as usize]);
            for o in (0..layer.n_rows).filter(|&o| results[o].constant().is_none()) {
                if needed.stays(node.output, o) {
                    let read = terms(&layer, o, seen).filter(|&(c, _)| !folds(node, seen[c]));
                    read.for_each(|(c, _)| grows |= needed.keep(x, c));
                }
            }
        }
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

/// The graph where rows whose result is constant read nothing, and biases hold what channels that go contribute;
/// `None` where a bias overflows.
fn fold(graph: &Graph, bounds: &[Vec<Interval>], needed: &Kept) -> Option<Graph> {
    let mut new = Rewriting::new(graph);
    for at in (0..graph.nodes.len()).map(|at| NodeId(at as u32)).filter(|&at| is_dense(graph.node(at))) {
        let node = graph.node(at);
        let layer = Weighted::of(graph, node);
        let (x, y) = (&bounds[node.inputs[0].0 as usize], &bounds[node.output.0 as usize]);
        let (mut weights, mut biases) = (Vec::new(), Vec::new());
        for o in 0..layer.n_rows {
            if let Some(constant) = y[o].constant() {
                weights.resize(weights.len() + layer.row, 0.0);
                biases.push(constant);
                continue;
            }
            weights.extend(layer.row(o));
            let gone = terms(&layer, o, x).filter(|&(c, _)| !needed.stays(node.inputs[0], c));
            let folded: f64 = gone.map(|(c, w)| f64::from(w) * f64::from(x[c].constant().unwrap_or_default())).sum();
            biases.push((f64::from(layer.bias(o)) + folded) as f32);
        }
        new.replace(at, 1, graph.input_shape(node, 1).to_vec(), weights);
        new.set_bias(at, biases);
    }
    new.finish()
}
