//! Which channels can only stay or go together: those that an operator takes one by one, as it were, from its
//! operand to its result.

use super::{channels, unblocked, values};
use crate::ir::{Graph, Node, Op, ValueId};

/// Channels of all values, those tied together in one class.
#[derive(Clone, Debug)]
pub struct Ties {
    /// The number of each value's first channel.
    first: Vec<usize>,
    /// A channel of the same class, in the end itself.
    parent: Vec<usize>,
    /// Values of which every channel must stay.
    whole: Vec<ValueId>,
}

impl Ties {
    /// Ties what operators tie.
    pub fn of(graph: &Graph) -> Ties {
        let mut first = Vec::with_capacity(graph.values.len());
        let mut total = 0;
        for id in values(graph) {
            first.push(total);
            total += channels(graph, id);
        }
        let whole = graph.inputs.iter().chain(&graph.outputs).copied().collect();
        let mut ties = Ties { first, parent: (0..total).collect(), whole };
        graph.nodes.iter().for_each(|node| ties.node(graph, node));
        ties
    }

    /// The class of a channel, as a number below [`Ties::len`].
    pub fn class(&self, value: ValueId, channel: usize) -> usize {
        self.root(self.first[value.0 as usize] + channel)
    }

    /// More than every class's number.
    #[expect(clippy::len_without_is_empty, reason = "a bound, no collection")]
    pub fn len(&self) -> usize {
        self.parent.len()
    }

    /// Values of which every channel must stay.
    pub fn whole(&self) -> &[ValueId] {
        &self.whole
    }

    fn root(&self, mut at: usize) -> usize {
        while self.parent[at] != at {
            at = self.parent[at];
        }
        at
    }

    fn tie(&mut self, (a, i): (ValueId, usize), (b, j): (ValueId, usize)) {
        let (x, y) = (self.class(a, i), self.class(b, j));
        // Roots have the lowest number: paths stay short, as ties mostly lead from earlier to later values.
        self.parent[x.max(y)] = x.min(y);
        let (low, at) = (x.min(y), self.first[b.0 as usize] + j);
        self.parent[at] = low;
    }

    fn node(&mut self, graph: &Graph, node: &Node) {
        let (x, y) = (node.inputs[0], node.output);
        let (from, to) = (channels(graph, x), channels(graph, y));
        match &node.op {
            Op::FullyConnected { .. } => {}
            Op::Conv2d(conv) if conv.groups == 1 => {}
            Op::Conv2d(conv) => {
                let (inputs, outputs) = (from / conv.groups, to / conv.groups);
                (0..from).for_each(|c| self.tie((x, c / inputs * inputs), (x, c)));
                (0..to).for_each(|c| self.tie((x, c / outputs * inputs), (y, c)));
            }
            Op::Add { .. } | Op::Mul => {
                (0..to).for_each(|c| self.tie((x, c), (y, c)));
                if !graph.value(node.inputs[1]).is_constant() {
                    (0..to).for_each(|c| self.tie((node.inputs[1], c), (y, c)));
                }
            }
            Op::Unary(_) | Op::AvgPool(_) | Op::MaxPool(_) | Op::Resize { .. } => {
                (0..to).for_each(|c| self.tie((x, c), (y, c)));
            }
            Op::Concat { axis } => {
                let is_joined = axis + 1 == graph.value(y).shape.len();
                let mut start = 0;
                for &operand in &node.inputs {
                    let n = channels(graph, operand);
                    (0..n).for_each(|c| self.tie((operand, c), (y, start + c)));
                    start += if is_joined { n } else { 0 };
                }
            }
            Op::Pad { pads } => {
                let before = pads.last().map_or(0, |pair| pair.0);
                (0..from).for_each(|c| self.tie((x, c), (y, before + c)));
            }
            Op::Reshape if to % from == 0 => (0..to).for_each(|c| self.tie((x, c % from), (y, c))),
            Op::Reshape if from % to == 0 => (0..from).for_each(|c| self.tie((x, c), (y, c % to))),
            Op::Transpose { perm } if perm.last() == Some(&(perm.len() - 1)) => {
                (0..to).for_each(|c| self.tie((x, c), (y, c)));
            }
            Op::DepthToSpace { block, order } => {
                (0..from).for_each(|c| self.tie((x, c), (y, unblocked(c, *block, to, *order))));
            }
            Op::Reshape | Op::Transpose { .. } | Op::Softmax => self.whole.extend([x, y]),
        }
    }
}
