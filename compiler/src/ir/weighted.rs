//! A layer with weights, row by row.

use super::{Graph, Node, Op};

/// The weights and biases of a convolution or a fully connected layer.
#[derive(Clone, Copy, Debug)]
pub struct Weighted<'a> {
    weights: &'a [f32],
    bias: Option<&'a [f32]>,
    /// Output channels.
    pub n_rows: usize,
    /// Weights of a row.
    pub row: usize,
    /// Input channels that a row meets; weights follow one another channel by channel, tap after tap.
    pub depth: usize,
    /// Groups of channels.
    pub groups: usize,
}

impl<'a> Weighted<'a> {
    /// `node` has weights; the verifier ensures that they and the biases are constants.
    pub fn of(graph: &'a Graph, node: &Node) -> Weighted<'a> {
        let data = |operand: usize| graph.value(*node.inputs.get(operand)?).data.as_deref().map(Vec::as_slice);
        let weights = graph.input_shape(node, 1);
        let (n_rows, depth) = (weights[0], weights[weights.len() - 1]);
        Weighted {
            weights: data(1).unwrap_or_default(),
            bias: data(2),
            n_rows,
            row: weights[1..].iter().product(),
            depth,
            groups: if let Op::Conv2d(conv) = &node.op { conv.groups } else { 1 },
        }
    }

    /// The weights of output channel `o`.
    pub fn row(&self, o: usize) -> &'a [f32] {
        &self.weights[o * self.row..][..self.row]
    }

    /// The bias of output channel `o`; 0 where the layer has none.
    pub fn bias(&self, o: usize) -> f32 {
        self.bias.map_or(0.0, |bias| bias[o])
    }

    /// The weights of row `o`, each with the input channel that it meets.
    pub fn terms(&self, o: usize) -> impl Iterator<Item = (usize, f32)> + use<'a> {
        let depth = self.depth;
        let first = o / (self.n_rows / self.groups) * depth;
        self.row(o).iter().enumerate().map(move |(i, &w)| (first + i % depth, w))
    }
}

/// Whether any input channel may go without an output channel: a layer with weights in one group.
pub fn is_dense(node: &Node) -> bool {
    match &node.op {
        Op::Conv2d(conv) => conv.groups == 1,
        Op::FullyConnected { .. } => true,
        _ => false,
    }
}
