//! A fully connected layer on a transposed, flattened image reads the image as it is, its weights
//! in the other order: the flatten of a network whose file stores images channels first.

use super::{Edits, is_read_once};
use crate::ir::{Graph, Node, NodeId, Op};

pub(super) fn rewrite(graph: &Graph, id: NodeId) -> Option<Edits> {
    let layer = graph.node(id);
    let Op::FullyConnected { .. } = layer.op else { return None };
    let flat = *layer.inputs.first()?;
    let reshape_id = graph.producer(flat)?;
    let reshape = graph.node(reshape_id);
    let transpose = graph.node(graph.producer(*reshape.inputs.first()?)?);
    let (Op::Reshape, Op::Transpose { perm }) = (&reshape.op, &transpose.op) else { return None };
    let weights = graph.value(*layer.inputs.get(1)?);
    let &[_, columns] = weights.shape.as_slice() else { return None };
    if graph.value(flat).shape != [1, columns] || !is_read_once(graph, flat) {
        return None;
    }
    let source = *transpose.inputs.first()?;
    let places = places(&graph.value(source).shape, perm);
    let old = weights.data.as_ref()?;
    let mut permuted = vec![0.0; old.len()];
    for (row, old) in permuted.chunks_exact_mut(columns).zip(old.chunks_exact(columns)) {
        places.iter().zip(old).for_each(|(&place, &weight)| row[place] = weight);
    }
    let mut edits = Edits::default();
    let mut inputs = layer.inputs.clone();
    inputs[1] = edits.constant(graph, weights.name.clone(), weights.shape.clone(), permuted);
    edits.nodes.insert(id, Some(Node { inputs, ..layer.clone() }));
    edits.nodes.insert(reshape_id, Some(Node { inputs: vec![source], ..reshape.clone() }));
    Some(edits)
}

/// For each element of the transposed image, in order, its place in the image of the given shape.
fn places(shape: &[usize], perm: &[usize]) -> Vec<usize> {
    let mut places = vec![0];
    for &axis in perm {
        let stride: usize = shape[axis + 1..].iter().product();
        places = places.iter().flat_map(|place| (0..shape[axis]).map(move |i| place + i * stride)).collect();
    }
    places
}
