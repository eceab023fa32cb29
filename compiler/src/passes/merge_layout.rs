//! Reshapes and transposes in a row become one; a transpose that moves nothing in memory becomes a
//! reshape.

use super::Edits;
use crate::ir::{Graph, Node, NodeId, Op};

pub(super) fn rewrite(graph: &Graph, id: NodeId) -> Option<Edits> {
    let node = graph.node(id);
    let x = *node.inputs.first()?;
    if let Op::Transpose { perm } = &node.op {
        let shape = &graph.value(x).shape;
        let mut long = perm.iter().filter(|&&axis| shape[axis] != 1);
        if long.by_ref().is_sorted() {
            return Some(Edits::rewrite(id, Node { op: Op::Reshape, ..node.clone() }));
        }
    }
    let before = graph.node(graph.producer(x)?);
    let op = match (&before.op, &node.op) {
        (Op::Reshape, Op::Reshape) => Op::Reshape,
        (Op::Transpose { perm: first }, Op::Transpose { perm: second }) => {
            Op::Transpose { perm: second.iter().map(|&axis| first[axis]).collect() }
        }
        _ => return None,
    };
    Some(Edits::rewrite(id, Node { op, inputs: before.inputs.clone(), ..node.clone() }))
}
