//! Operators that change nothing go.

use super::{Edits, clamp_of};
use crate::ir::{Graph, NodeId, Op, Padding, Pool, Unary};

pub(super) fn rewrite(graph: &Graph, id: NodeId) -> Option<Edits> {
    let node = graph.node(id);
    let x = *node.inputs.first()?;
    let all = |expected: f32| {
        let operand = node.inputs.get(1).and_then(|&id| graph.value(id).data.as_ref());
        operand.is_some_and(|data| data.iter().all(|&x| x == expected))
    };
    let is_unit = |pool: &Pool| pool.kernel == [1, 1] && pool.stride == [1, 1] && pool.pad == Padding::default();
    let keeps = match &node.op {
        Op::Reshape | Op::Resize { .. } => graph.value(x).shape == graph.value(node.output).shape,
        Op::Transpose { perm } => perm.is_sorted(),
        Op::Mul => all(1.0),
        Op::Add { .. } => all(0.0),
        Op::Pad { pads } => pads.iter().all(|&pair| pair == (0, 0)),
        Op::AvgPool(pool) | Op::MaxPool(pool) => is_unit(pool),
        Op::DepthToSpace { block, .. } => *block == 1,
        Op::Unary(Unary::Clamp(clamp)) => clamp.is_none(),
        _ => false,
    };
    let is_clamped = clamp_of(&node.op).is_some_and(|clamp| !clamp.is_none());
    // A network is at least one node.
    let is_whole = graph.inputs.contains(&x) && graph.outputs.contains(&node.output);
    (keeps && !is_clamped && !is_whole).then(|| Edits::bypass(graph, id, x))
}
