//! A constant factor or addend for each channel joins the weights and bias of the layer before it:
//! unfused batch normalisation, above all.

use super::{Edits, channel_operand, clamp_of, only_feeder, with_clamp};
use crate::ir::{Clamp, Graph, Node, NodeId, Op};

pub(super) fn rewrite(graph: &Graph, id: NodeId) -> Option<Edits> {
    let node = graph.node(id);
    let (is_product, clamp) = match node.op {
        Op::Mul => (true, Clamp::NONE),
        Op::Add { clamp } => (false, clamp),
        _ => return None,
    };
    let feeder = only_feeder(graph, node)?;
    let layer = graph.node(feeder);
    if !layer.op.has_weights() || !clamp_of(&layer.op)?.is_none() {
        return None;
    }
    let weights = graph.value(*layer.inputs.get(1)?);
    let channels = *weights.shape.first()?;
    let operand = channel_operand(graph, node, channels)?;

    let mut edits = Edits::default();
    let mut inputs = layer.inputs.clone();
    let old_bias = layer.inputs.get(2).and_then(|&id| graph.value(id).data.as_ref());
    let mut bias = old_bias.map_or_else(|| vec![0.0; channels], |bias| bias.to_vec());
    if is_product {
        let row = weights.len() / channels;
        let scaled = weights.data.as_ref()?.iter().enumerate().map(|(i, w)| w * operand[i / row]).collect();
        inputs[1] = edits.constant(graph, weights.name.clone(), weights.shape.clone(), scaled);
        bias.iter_mut().zip(&operand).for_each(|(b, factor)| *b *= factor);
    } else {
        bias.iter_mut().zip(&operand).for_each(|(b, addend)| *b += addend);
    }
    if old_bias.is_some() || !is_product {
        let name = layer.inputs.get(2).map_or_else(|| format!("{}.b", layer.name), |&id| graph.value(id).name.clone());
        let bias = edits.constant(graph, name, vec![channels], bias);
        inputs.truncate(2);
        inputs.push(bias);
    }
    let op = with_clamp(&layer.op, clamp);
    let merged = Edits::merge(graph, feeder, id, Node { op, inputs, ..layer.clone() });
    Some(Edits { values: edits.values, ..merged })
}
