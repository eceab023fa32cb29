//! Two constant factors in a row become one, and so do two constant addends.

use super::{Edits, channel_operand, only_feeder};
use crate::ir::{Clamp, Graph, Node, NodeId, Op};

pub(super) fn rewrite(graph: &Graph, id: NodeId) -> Option<Edits> {
    let node = graph.node(id);
    let feeder = only_feeder(graph, node)?;
    let before = graph.node(feeder);
    let combine = match (&before.op, &node.op) {
        (Op::Mul, Op::Mul) => |a: f32, b: f32| a * b,
        (Op::Add { clamp: Clamp::NONE }, Op::Add { .. }) => |a: f32, b: f32| a + b,
        _ => return None,
    };
    let longest = |node: &Node| node.inputs.get(1).map_or(1, |&id| graph.value(id).len());
    let channels = longest(before).max(longest(node));
    let (first, second) = (channel_operand(graph, before, channels)?, channel_operand(graph, node, channels)?);
    let merged = first.iter().zip(&second).map(|(&a, &b)| combine(a, b)).collect();
    let name = graph.value(*node.inputs.get(1)?).name.clone();
    let shape = if channels == 1 { vec![] } else { vec![channels] };
    let mut edits = Edits::default();
    let constant = edits.constant(graph, name, shape, merged);
    let inputs = vec![*before.inputs.first()?, constant];
    Some(Edits { values: edits.values, ..Edits::merge(graph, feeder, id, Node { inputs, ..node.clone() }) })
}
