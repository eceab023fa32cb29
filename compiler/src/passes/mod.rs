//! Exact rewrites of the graph: what they leave computes the same numbers, up to the rounding of
//! `f32`, with fewer nodes and channels.
//!
//! Most passes look at one node and answer with edits, if there is anything to do there; they never
//! touch the graph. [`Passes::run`] applies the edits to a copy, lets the verifier look at it, and
//! only then goes on from there: a failing pass leaves the graph as it was. Every pass has a name, by
//! which it can be left out.

mod drop_identity;
mod drop_softmax;
mod fold_affine;
mod fold_affine_ahead;
mod fuse_clamp;
mod fuse_pad;
mod merge_affine;
mod merge_layout;
mod permute_weights;
mod remove_channels;
mod share;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::drop_softmax::drop_softmax;
use crate::ir::constants::name_apart;
use crate::ir::verify::{VerifyError, verify};
use crate::ir::{Clamp, Graph, Node, NodeId, Op, Unary, Value, ValueId};

/// A rewrite with a name.
struct Pass {
    name: &'static str,
    rewrite: Rewrite,
}

/// What it is a function of.
enum Rewrite {
    /// What to do about one node.
    Node(fn(&Graph, NodeId) -> Option<Edits>),
    /// The whole graph in a new form, without what nothing needs, channels in blocks of so many; `None` where there
    /// is nothing to do.
    Graph(fn(&Graph, usize) -> Option<Graph>),
}

/// In this order, again and again until none finds anything.
const PASSES: &[Pass] = &[
    Pass { name: "drop-identity", rewrite: Rewrite::Node(drop_identity::rewrite) },
    Pass { name: "merge-layout", rewrite: Rewrite::Node(merge_layout::rewrite) },
    Pass { name: "share", rewrite: Rewrite::Node(share::rewrite) },
    Pass { name: "fuse-pad", rewrite: Rewrite::Node(fuse_pad::rewrite) },
    Pass { name: "merge-affine", rewrite: Rewrite::Node(merge_affine::rewrite) },
    Pass { name: "fold-affine", rewrite: Rewrite::Node(fold_affine::rewrite) },
    Pass { name: "fuse-clamp", rewrite: Rewrite::Node(fuse_clamp::rewrite) },
    Pass { name: "fold-affine-ahead", rewrite: Rewrite::Node(fold_affine_ahead::rewrite) },
    Pass { name: "permute-weights", rewrite: Rewrite::Node(permute_weights::rewrite) },
    Pass { name: "remove-channels", rewrite: Rewrite::Graph(remove_channels::rewrite) },
];

/// Rounds over all passes: each round that changes something removes a node or a channel, but a graph
/// of thousands of nodes need not be squeezed to the last.
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

/// The passes to apply.
pub struct Passes {
    passes: Vec<&'static Pass>,
    channel_block: usize,
}

/// A graph after the passes, and what they did.
#[derive(Clone, Debug, PartialEq)]
pub struct Simplified {
    /// The smallest equal graph that the passes reach: batch normalisation folded into weights, clamps
    /// and paddings fused, identities and what no output needs gone. Names of layers are kept.
    pub graph: Graph,
    /// What each pass that found something saved, in order of the passes.
    pub savings: Vec<Saving>,
}

/// By how much a pass made a graph smaller.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saving {
    /// The pass.
    pub pass: String,
    /// Nodes gone.
    pub nodes: u64,
    /// Output channels gone, of layers with weights.
    pub channels: u64,
    /// Weights gone, biases apart.
    pub weights: u64,
    /// Multiply-accumulates gone.
    pub macs: u64,
}

/// The smallest equal graph that all passes reach.
///
/// # Errors
/// See [`PassError`].
pub fn simplify(graph: Graph) -> Result<Graph, PassError> {
    Passes::all().run(graph).map(|simplified| simplified.graph)
}

impl Passes {
    /// Every pass.
    pub fn all() -> Passes {
        Passes { passes: PASSES.iter().collect(), channel_block: 1 }
    }

    /// For kernels that compute so many channels at once: removing channels leaves whole blocks.
    pub fn with_channel_block(self, channels: usize) -> Passes {
        Passes { channel_block: channels.max(1), ..self }
    }

    /// The names of all passes, in order.
    pub fn names() -> impl Iterator<Item = &'static str> {
        PASSES.iter().map(|pass| pass.name)
    }

    /// All but the one of this name.
    pub fn without(mut self, name: &str) -> Passes {
        self.passes.retain(|pass| pass.name != name);
        self
    }

    /// Applies them until none finds anything.
    ///
    /// # Errors
    /// See [`PassError`].
    pub fn run(&self, graph: Graph) -> Result<Simplified, PassError> {
        let checked = |pass: &'static str, graph: &Graph| verify(graph).map_err(|source| PassError { pass, source });
        let mut graph = graph.compact();
        checked("compact", &graph)?;
        let mut savings: Vec<Saving> =
            self.passes.iter().map(|pass| Saving { pass: pass.name.to_owned(), ..Saving::default() }).collect();
        for _ in 0..MAX_ROUNDS {
            let mut changed = false;
            for (pass, saving) in self.passes.iter().zip(&mut savings) {
                if let Some(rewritten) = run(pass, &graph, self.channel_block) {
                    checked(pass.name, &rewritten)?;
                    saving.add(&graph, &rewritten);
                    graph = rewritten;
                    changed = true;
                }
            }
            if !changed {
                break;
            }
        }
        savings.retain(|saving| *saving != Saving { pass: saving.pass.clone(), ..Saving::default() });
        Ok(Simplified { graph, savings })
    }
}

impl Saving {
    fn add(&mut self, before: &Graph, after: &Graph) {
        let saved = |of: &dyn Fn(&Graph) -> u64| of(before).saturating_sub(of(after));
        let dimensions = |graph: &Graph, of: &dyn Fn(&[usize]) -> usize| -> u64 {
            graph.weighted().map(|id| of(graph.input_shape(graph.node(id), 1)) as u64).sum()
        };
        self.nodes += saved(&|graph| graph.nodes.len() as u64);
        self.channels += saved(&|graph| dimensions(graph, &|shape| shape[0]));
        self.weights += saved(&|graph| dimensions(graph, &|shape| shape.iter().product()));
        self.macs += saved(&|graph| graph.nodes.iter().map(|node| graph.macs(node)).sum());
    }
}

/// The graph after one sweep of a pass; `None` when there was nothing to do.
fn run(pass: &Pass, graph: &Graph, channel_block: usize) -> Option<Graph> {
    let rewrite = match pass.rewrite {
        Rewrite::Node(rewrite) => rewrite,
        Rewrite::Graph(rewrite) => return rewrite(graph, channel_block),
    };
    let mut rewritten = graph.clone();
    // A node may be rewritten more than once, but not for ever.
    let mut fuel = 2 * graph.nodes.len();
    let mut at = 0;
    while at < rewritten.nodes.len() && fuel > 0 {
        match rewrite(&rewritten, NodeId(at as u32)) {
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
