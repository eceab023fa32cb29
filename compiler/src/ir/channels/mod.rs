//! Channels, the last dimension of every activation: which of them can only stay or go together ([`Ties`]), which stay
//! ([`Kept`]), and a graph without the others ([`cut`]).

mod cut;
mod ties;

pub use self::cut::cut;
pub use self::ties::Ties;

use super::{DepthToSpaceOrder, Graph, ValueId};

/// Extent of the last dimension of an activation; 0 for constants.
pub fn channels(graph: &Graph, id: ValueId) -> usize {
    let value = graph.value(id);
    if value.is_constant() { 0 } else { value.shape.last().copied().unwrap_or(1) }
}

/// Every value of a graph.
pub fn values(graph: &Graph) -> impl Iterator<Item = ValueId> + use<> {
    (0..graph.values.len() as u32).map(ValueId)
}

/// The channel that channel `from` of the operand of a depth-to-space lands in, of `channels`.
pub fn unblocked(from: usize, block: usize, channels: usize, order: DepthToSpaceOrder) -> usize {
    match order {
        DepthToSpaceOrder::BlockFirst => from % channels,
        DepthToSpaceOrder::ChannelFirst => from / (block * block),
    }
}

/// Which channels stay.
#[derive(Clone, Debug)]
pub struct Kept {
    ties: Ties,
    /// By class.
    stays: Vec<bool>,
}

impl Kept {
    /// None but those that the graph's inputs and outputs have, and those that operators mix.
    pub fn least(graph: &Graph, ties: Ties) -> Kept {
        let mut kept = Kept { stays: vec![false; ties.len()], ties };
        for value in kept.ties.whole().to_vec() {
            for c in 0..channels(graph, value) {
                kept.keep(value, c);
            }
        }
        kept
    }

    /// Keeps a channel with all that are tied to it; whether that is new.
    pub fn keep(&mut self, value: ValueId, channel: usize) -> bool {
        self.keep_class(self.ties.class(value, channel))
    }

    /// Keeps the channels of a class of ties; whether that is new.
    pub fn keep_class(&mut self, class: usize) -> bool {
        !std::mem::replace(&mut self.stays[class], true)
    }

    /// Whether a channel stays.
    pub fn stays(&self, value: ValueId, channel: usize) -> bool {
        self.stays[self.ties.class(value, channel)]
    }

    /// The channels of a value that stay, in order.
    pub fn channels(&self, graph: &Graph, value: ValueId) -> Vec<usize> {
        (0..channels(graph, value)).filter(|&c| self.stays(value, c)).collect()
    }
}
