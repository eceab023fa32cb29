//! A clamp joins the operator before it, if that applies one itself.

use super::{Edits, clamp_of, only_feeder, with_clamp};
use crate::ir::{Graph, Node, NodeId, Op, Unary};

pub(super) fn rewrite(graph: &Graph, id: NodeId) -> Option<Edits> {
    let node = graph.node(id);
    let Op::Unary(Unary::Clamp(clamp)) = node.op else { return None };
    let feeder = only_feeder(graph, node)?;
    let before = graph.node(feeder);
    let op = with_clamp(&before.op, clamp_of(&before.op)?.then(clamp));
    Some(Edits::merge(graph, feeder, id, Node { op, ..before.clone() }))
}
