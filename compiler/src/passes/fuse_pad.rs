//! Zeros around an image become the padding of the convolution that reads it.
//!
//! A max pool takes them too where its input is never negative: there a zero never beats a pixel,
//! and padding that does not count is as good. An average counts them, so it does not.

use super::{Edits, clamp_of};
use crate::ir::{Graph, Node, NodeId, Op, Padding, Unary, ValueId};

pub(super) fn rewrite(graph: &Graph, id: NodeId) -> Option<Edits> {
    let node = graph.node(id);
    let feeder = graph.node(graph.producer(*node.inputs.first()?)?);
    let Op::Pad { pads } = &feeder.op else { return None };
    let &[(0, 0), (top, bottom), (left, right), (0, 0)] = pads.as_slice() else { return None };
    let source = *feeder.inputs.first()?;
    let widened = |pad: Padding| Padding {
        top: pad.top + top,
        bottom: pad.bottom + bottom,
        left: pad.left + left,
        right: pad.right + right,
    };
    let op = match &node.op {
        Op::Conv2d(conv) => {
            let mut conv = conv.clone();
            conv.pad = widened(conv.pad);
            Op::Conv2d(conv)
        }
        Op::MaxPool(pool) if is_never_negative(graph, source) => {
            let mut pool = pool.clone();
            pool.pad = widened(pool.pad);
            let [rows, columns] = pool.kernel;
            if pool.pad.top.max(pool.pad.bottom) >= rows || pool.pad.left.max(pool.pad.right) >= columns {
                return None;
            }
            Op::MaxPool(pool)
        }
        _ => return None,
    };
    let mut inputs = node.inputs.clone();
    *inputs.first_mut()? = source;
    Some(Edits::rewrite(id, Node { op, inputs, ..node.clone() }))
}

fn is_never_negative(graph: &Graph, id: ValueId) -> bool {
    let Some(producer) = graph.producer(id) else { return false };
    match &graph.node(producer).op {
        Op::Unary(Unary::Sigmoid | Unary::HardSigmoid { .. }) | Op::Softmax => true,
        op => clamp_of(op).is_some_and(|clamp| clamp.min >= 0.0),
    }
}
