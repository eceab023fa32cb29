//! A constant factor or addend for each channel joins the weights and bias of the layer after it:
//! the normalisation of a network's input, above all.
//!
//! An addend does so only where the layer has no padding: the zeros around an image are added to
//! nothing.

use super::{Edits, channel_operand, is_read_once};
use crate::ir::{Graph, Node, NodeId, Op, Padding};

pub(super) fn rewrite(graph: &Graph, id: NodeId) -> Option<Edits> {
    let layer = graph.node(id);
    let (is_padded, groups) = match &layer.op {
        Op::Conv2d(conv) => (conv.pad != Padding::default(), conv.groups),
        Op::FullyConnected { .. } => (false, 1),
        _ => return None,
    };
    let x = *layer.inputs.first()?;
    let node = graph.node(graph.producer(x)?);
    let is_product = match node.op {
        Op::Mul => true,
        Op::Add { clamp } if clamp.is_none() && !is_padded => false,
        _ => return None,
    };
    if !is_read_once(graph, x) {
        return None;
    }
    let operand = channel_operand(graph, node, *graph.value(x).shape.last()?)?;
    let weights = graph.value(*layer.inputs.get(1)?);
    let (outputs, depth) = (*weights.shape.first()?, *weights.shape.last()?);
    let row = weights.len() / outputs;
    // The input channel that weight `i` meets.
    let channel = |i: usize| (i / row) / (outputs / groups) * depth + i % depth;
    let old = weights.data.as_ref()?;

    let mut edits = Edits::default();
    let mut inputs = layer.inputs.clone();
    *inputs.first_mut()? = *node.inputs.first()?;
    if is_product {
        let scaled = old.iter().enumerate().map(|(i, w)| w * operand[channel(i)]).collect();
        inputs[1] = edits.constant(graph, weights.name.clone(), weights.shape.clone(), scaled);
    } else {
        let old_bias = layer.inputs.get(2).map(|&id| graph.value(id));
        let name = old_bias.map_or_else(|| format!("{}.b", layer.name), |bias| bias.name.clone());
        let before = |o: usize| old_bias.and_then(|bias| bias.data.as_ref()).map_or(0.0, |data| f64::from(data[o]));
        let added = |o: usize| (o * row..(o + 1) * row).map(|i| f64::from(old[i]) * f64::from(operand[channel(i)]));
        let bias = (0..outputs).map(|o| (before(o) + added(o).sum::<f64>()) as f32).collect();
        let bias = edits.constant(graph, name, vec![outputs], bias);
        inputs.truncate(2);
        inputs.push(bias);
    }
    let rewritten = Edits::rewrite(id, Node { inputs, ..layer.clone() });
    Some(Edits { values: edits.values, ..rewritten })
}
