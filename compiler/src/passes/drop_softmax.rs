//! A classifier's last softmax goes, the logits are its output: other numbers, but the same order of classes.
//!
//! For that reason it is not among the passes: whoever wants classes alone asks for it.

use crate::ir::{Graph, Op};

/// The graph with its logits as output; `None` where its only output is no softmax.
pub fn drop_softmax(graph: &Graph) -> Option<Graph> {
    let (&[output], last) = (&graph.outputs[..], graph.nodes.last()?) else { return None };
    if last.op != Op::Softmax || last.output != output {
        return None;
    }
    let mut logits = graph.clone();
    logits.outputs = vec![*last.inputs.first()?];
    logits.nodes.pop();
    Some(logits)
}
