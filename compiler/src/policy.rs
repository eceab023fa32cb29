//! The one thing that passes from search to lowering: for every layer, how its weights are coded
//! and how wide its output activations are.
//!
//! A policy is data: it prints as JSON, can be edited by hand, compared and reused
//! (`pare compile --policy FILE`). Keys are node names of the simplified graph.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ir::{Graph, NodeId, Op, ValueId};

/// How small integers stand for the weights of one output channel.
///
/// Written `w1` … `w8` (linear), `t` (ternary), `k2` … `k4` (k-means codebook of 2^b entries).
/// Levels follow the integer contract of [`pare_runtime::format`]: 1 bit is {-1, +1}, ternary
/// {-1, 0, +1}, 2 bits the odd levels {-3, -1, +1, +3}, wider ones two's complement, symmetric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum WeightFormat {
    /// Evenly spaced levels, 1..=8 bits.
    Linear(u8),
    /// {-1, 0, +1}, stored in 2 bits.
    Ternary,
    /// 2^b levels chosen for the layer, each an `i8`, 2..=4 bits.
    Codebook(u8),
}

impl WeightFormat {
    /// Every format, narrowest first.
    pub const ALL: [WeightFormat; 12] = [
        WeightFormat::Linear(1),
        WeightFormat::Ternary,
        WeightFormat::Linear(2),
        WeightFormat::Codebook(2),
        WeightFormat::Linear(3),
        WeightFormat::Codebook(3),
        WeightFormat::Linear(4),
        WeightFormat::Codebook(4),
        WeightFormat::Linear(5),
        WeightFormat::Linear(6),
        WeightFormat::Linear(7),
        WeightFormat::Linear(8),
    ];

    /// Bits a stored weight takes.
    pub fn bits(self) -> u8 {
        match self {
            WeightFormat::Linear(bits) | WeightFormat::Codebook(bits) => bits,
            WeightFormat::Ternary => 2,
        }
    }
}

impl fmt::Display for WeightFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WeightFormat::Linear(bits) => write!(f, "w{bits}"),
            WeightFormat::Ternary => f.write_str("t"),
            WeightFormat::Codebook(bits) => write!(f, "k{bits}"),
        }
    }
}

impl From<WeightFormat> for String {
    fn from(format: WeightFormat) -> String {
        format.to_string()
    }
}

/// A text that names no weight format.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no weight format: use w1 to w8, t (ternary) or k2 to k4 (k-means codebook)")]
pub struct UnknownFormat(String);

impl FromStr for WeightFormat {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        WeightFormat::ALL.into_iter().find(|f| f.to_string() == text).ok_or_else(|| UnknownFormat(text.to_owned()))
    }
}

impl TryFrom<String> for WeightFormat {
    type Error = UnknownFormat;

    fn try_from(text: String) -> Result<Self, UnknownFormat> {
        text.parse()
    }
}

/// The weights of one layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum WeightChoice {
    /// Every output channel alike.
    Layer(WeightFormat),
    /// One format an output channel, in the layer's own channel order.
    Channels(Vec<WeightFormat>),
}

/// What is decided for one layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerPolicy {
    /// Weight coding; absent for layers without weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<WeightChoice>,
    /// Width of the codes of the layer's output, 1..=8 bits.
    pub activation_bits: u8,
    /// Output channels that stay; absent means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<Vec<u32>>,
}

/// A decision for every layer, keyed by node name. Nodes without an entry keep 8-bit activations
/// where they choose a scale of their own, and their input's where they only move data.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Policy {
    /// The decisions.
    pub layers: BTreeMap<String, LayerPolicy>,
}

/// What a uniform policy does with the first and the last layer with weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EdgeLayers {
    /// Their weights stay at 8 bits: they are few, and errors in them cost most.
    EightBit,
    /// They are treated as all others.
    Uniform,
}

impl Policy {
    /// Weights of one format and activations of one width everywhere, as "w4a8"; `edges` says whether
    /// the first and last layers' weights are exempt.
    ///
    /// Values that choose no width keep what they have: moved values, softmax, average pools (few
    /// elements, each the mean of many). The input of a softmax, graph inputs and outputs stay at 8 bits.
    pub fn uniform(graph: &Graph, format: WeightFormat, activation_bits: u8, edges: EdgeLayers) -> Policy {
        let weighted: Vec<NodeId> = graph.weighted().collect();
        let ends = [weighted.first(), weighted.last()];
        let mut layers = BTreeMap::new();
        for (i, node) in graph.nodes.iter().enumerate() {
            let chooses_width = match &node.op {
                Op::Conv2d(_) | Op::FullyConnected { .. } | Op::Add { .. } | Op::Mul | Op::Unary(_) => true,
                Op::Concat { .. } => true,
                Op::Pad { .. } | Op::MaxPool(_) | Op::Reshape | Op::Transpose { .. } | Op::DepthToSpace { .. } => false,
                Op::Resize { .. } | Op::AvgPool(_) | Op::Softmax => false,
            };
            if !chooses_width {
                continue;
            }
            let id = NodeId(i as u32);
            let exempt = edges == EdgeLayers::EightBit && ends.contains(&Some(&id));
            let format = if exempt { WeightFormat::Linear(8) } else { format };
            let entry = LayerPolicy {
                weights: node.op.has_weights().then_some(WeightChoice::Layer(format)),
                activation_bits: if feeds_the_end(graph, node.output) { 8 } else { activation_bits },
                keep: None,
            };
            layers.insert(node.name.clone(), entry);
        }
        Policy { layers }
    }

    /// Policies that between them run, in whole layers, every format that this one runs; itself where no
    /// layer mixes formats.
    pub fn unmixed(&self) -> Vec<Policy> {
        let mixed = self.layers.values().filter_map(|entry| match &entry.weights {
            Some(WeightChoice::Channels(formats)) => Some(formats),
            _ => None,
        });
        let formats: BTreeSet<WeightFormat> = mixed.flatten().copied().collect();
        if formats.is_empty() {
            return vec![self.clone()];
        }
        let whole = |format| {
            let mut policy = self.clone();
            for entry in policy.layers.values_mut() {
                if let Some(WeightChoice::Channels(_)) = entry.weights {
                    entry.weights = Some(WeightChoice::Layer(format));
                }
            }
            policy
        };
        formats.into_iter().map(whole).collect()
    }
}

/// Whether a value, moved or not, is a graph output or the input of a softmax.
fn feeds_the_end(graph: &Graph, value: ValueId) -> bool {
    let consumers = graph.consumers(value);
    graph.outputs.contains(&value)
        || consumers.iter().any(|&id| match graph.node(id).op {
            Op::Softmax => true,
            Op::Reshape | Op::Transpose { .. } => feeds_the_end(graph, graph.node(id).output),
            _ => false,
        })
}
