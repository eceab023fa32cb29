//! Exact rewrites of the graph: what they leave computes the same numbers, up to the rounding of
//! `f32`, with fewer nodes.
//!
//! A pass looks at one node and answers with edits, if there is anything to do there; it never
//! touches the graph. [`simplify`] applies the edits to a copy, lets the verifier look at it, and
//! only then goes on from there: a failing pass leaves the graph as it was.

mod drop_identity;
mod fold_affine;
mod fold_affine_ahead;
mod fuse_clamp;
mod fuse_pad;
mod merge_affine;
mod merge_layout;
mod permute_weights;
mod share;

use std::collections::BTreeMap;

use crate::ir::verify::{VerifyError, verify};
use crate::ir::{Clamp, Graph, Node, NodeId, Op, Unary, Value, ValueId};

/// A rewrite, given as what to do about one node.
struct Pass {
    name: &'static str,
    rewrite: fn(&Graph, NodeId) -> Option<Edits>,
}

/// In this order, again and again until none finds anything.
const PASSES: &[Pass] = &[
    Pass { name: "drop_identity", rewrite: drop_identity::rewrite },
    Pass { name: "merge_layout", rewrite: merge_layout::rewrite },
    Pass { name: "share", rewrite: share::rewrite },
    Pass { name: "fuse_pad", rewrite: fuse_pad::rewrite },
    Pass { name: "merge_affine", rewrite: merge_affine::rewrite },
    Pass { name: "fold_affine", rewrite: fold_affine::rewrite },
    Pass { name: "fuse_clamp", rewrite: fuse_clamp::rewrite },
    Pass { name: "fold_affine_ahead", rewrite: fold_affine_ahead::rewrite },
    Pass { name: "permute_weights", rewrite: permute_weights::rewrite },
];

/// Rounds over all passes: each round that changes something removes a node, but a graph of
/// thousands of nodes need not be squeezed to the last.
const MAX_ROUNDS: usize = 64;

/// A pass that broke an invariant: an error in Pare.
#[derive(Debug, thiserror::Error)]
#[error("the pass `{pass}` broke the graph; please report this: {source}")]
pub struct PassError {
    /// Its name.
    pub pass: &'static str,
    /// The invariant.
    pub source: VerifyError,
}

/// The smallest equal graph that the passes reach: batch normalisation folded into weights, clamps
/// and paddings fused, identities and what no output needs gone. Names of layers are kept.
pub fn simplify(graph: Graph) -> Result<Graph, PassError> {
    let checked = |pass: &'static str, graph: &Graph| verify(graph).map_err(|source| PassError { pass, source });
    let mut graph = graph.compact();
    checked("compact", &graph)?;
    for _ in 0..MAX_ROUNDS {
        let mut changed = false;
        for pass in PASSES {
            if let Some(rewritten) = run(pass, &graph) {
                checked(pass.name, &rewritten)?;
                graph = rewritten;
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
    Ok(graph)
}

/// The graph after one sweep of a pass; `None` when there was nothing to do.
fn run(pass: &Pass, graph: &Graph) -> Option<Graph> {
    let mut rewritten = graph.clone();
    // A node may be rewritten more than once, but not for ever.
    let mut fuel = 2 * graph.nodes.len();
    let mut at = 0;
    while at < rewritten.nodes.len() && fuel > 0 {
        match (pass.rewrite)(&rewritten, NodeId(at as u32)) {
            Some(edits) if edits.are_finite() => {
                edits.apply(&mut rewritten);
                fuel -= 1;
            }
            _ => at += 1,
        }
    }
    (fuel < 2 * graph.nodes.len()).then(|| rewritten.compact())
}

/// What a pass wants done, all of it at once.
#[derive(Default)]
struct Edits {
    /// New values; their ids follow those of the graph.
    values: Vec<Value>,
    /// Nodes in a new form; `None` removes.
    nodes: BTreeMap<NodeId, Option<Node>>,
    /// Readers of the first read the second instead.
    redirected: Option<(ValueId, ValueId)>,
}

impl Edits {
    /// Readers of the node's result read `instead`; the node goes, as nothing needs it.
    fn bypass(graph: &Graph, node: NodeId, instead: ValueId) -> Edits {
        let redirected = Some((graph.node(node).output, instead));
        Edits { nodes: [(node, None)].into(), redirected, ..Edits::default() }
    }

    /// One node in a new form.
    fn rewrite(node: NodeId, new: Node) -> Edits {
        Edits { nodes: [(node, Some(new))].into(), ..Edits::default() }
    }

    /// `first` in a new form computes the result of `second`, which goes.
    fn merge(graph: &Graph, first: NodeId, second: NodeId, new: Node) -> Edits {
        let new = Node { output: graph.node(second).output, ..new };
        Edits { nodes: [(first, Some(new)), (second, None)].into(), ..Edits::default() }
    }

    /// Adds a constant; its name may be that of the constant it stands for.
    fn constant(&mut self, graph: &Graph, name: String, shape: Vec<usize>, data: Vec<f32>) -> ValueId {
        self.values.push(Value { name, shape, data: Some(data.into()), range: None });
        ValueId((graph.values.len() + self.values.len() - 1) as u32)
    }

    /// Whether folding kept within `f32`: else the nodes had better stay apart.
    fn are_finite(&self) -> bool {
        self.values.iter().filter_map(|value| value.data.as_ref()).all(|data| data.iter().all(|x| x.is_finite()))
    }

    fn apply(self, graph: &mut Graph) {
        graph.values.extend(self.values.iter().cloned());
        for (&id, new) in &self.nodes {
            if let Some(new) = new {
                graph.nodes[id.0 as usize] = new.clone();
            }
        }
        let mut at = 0;
        graph.nodes.retain(|_| {
            at += 1;
            self.nodes.get(&NodeId(at - 1)) != Some(&None)
        });
        if let Some((from, to)) = self.redirected {
            let readers = graph.nodes.iter_mut().flat_map(|node| &mut node.inputs).chain(&mut graph.outputs);
            readers.filter(|id| **id == from).for_each(|id| *id = to);
        }
        name_apart(graph, self.values.len());
    }
}

/// Gives the last `count` values names of their own: each wears the name of the constant it stands
/// for, which other nodes may read still.
fn name_apart(graph: &mut Graph, count: usize) {
    let start = graph.values.len() - count;
    for i in start..graph.values.len() {
        let is_taken = |graph: &Graph, name: &str| {
            let read = |id: usize| !graph.consumers(ValueId(id as u32)).is_empty();
            (0..graph.values.len()).any(|id| id != i && graph.values[id].name == name && read(id))
        };
        let name = graph.values[i].name.clone();
        let mut candidate = name.clone();
        let mut suffix = 2;
        while is_taken(graph, &candidate) {
            candidate = format!("{name}_{suffix}");
            suffix += 1;
        }
        graph.values[i].name = candidate;
    }
}

/// The node that computes operand 0 of `node`, when nothing else reads its result.
fn only_feeder(graph: &Graph, node: &Node) -> Option<NodeId> {
    let id = *node.inputs.first()?;
    let feeder = graph.producer(id)?;
    is_read_once(graph, id).then_some(feeder)
}

/// Whether one node and no output of the graph reads a value.
fn is_read_once(graph: &Graph, id: ValueId) -> bool {
    let readers = graph.nodes.iter().flat_map(|node| &node.inputs).chain(&graph.outputs);
    readers.filter(|&&read| read == id).count() == 1
}

/// The clamp that an operator applies last; `None` for operators that cannot.
fn clamp_of(op: &Op) -> Option<Clamp> {
    match op {
        Op::Conv2d(conv) => Some(conv.clamp),
        Op::FullyConnected { clamp } | Op::Add { clamp } | Op::Unary(Unary::Clamp(clamp)) => Some(*clamp),
        Op::AvgPool(pool) | Op::MaxPool(pool) => Some(pool.clamp),
        _ => None,
    }
}

/// The operator with another clamp; as it is when it has none.
fn with_clamp(op: &Op, new: Clamp) -> Op {
    let mut op = op.clone();
    match &mut op {
        Op::Conv2d(conv) => conv.clamp = new,
        Op::FullyConnected { clamp } | Op::Add { clamp } | Op::Unary(Unary::Clamp(clamp)) => *clamp = new,
        Op::AvgPool(pool) | Op::MaxPool(pool) => pool.clamp = new,
        _ => {}
    }
    op
}

/// Operand 1 of `add` or `mul` when it is a constant: one number for each of `channels`.
fn channel_operand(graph: &Graph, node: &Node, channels: usize) -> Option<Vec<f32>> {
    let data = graph.value(*node.inputs.get(1)?).data.as_ref()?;
    match data.as_slice() {
        &[x] => Some(vec![x; channels]),
        data if data.len() == channels => Some(data.to_vec()),
        _ => None,
    }
}
