//! Two nodes that compute the same of the same become one.

use super::Edits;
use crate::ir::{Graph, NodeId};

pub(super) fn rewrite(graph: &Graph, id: NodeId) -> Option<Edits> {
    let node = graph.node(id);
    let earlier = graph.nodes[..id.0 as usize].iter().find(|other| other.inputs == node.inputs && other.op == node.op);
    let earlier = earlier.filter(|other| graph.value(other.output).shape == graph.value(node.output).shape)?;
    Some(Edits::bypass(graph, id, earlier.output))
}
