//! What costs need to know of each node: shape, counts, and where its input width is decided.

use pare_runtime::format::{PANEL_CHANNELS, PANEL_DEPTH, SPARSE_DEPTH};
use pare_runtime::sparse::Packing;
use serde::{Deserialize, Serialize};

use crate::ir::{Graph, Node, NodeId, Op, ValueId};
use crate::policy::{Policy, WeightChoice, WeightFormat};
use crate::quant::only_moves;

use super::CostError;
use super::table::KernelQuery;

/// Width of activations that nothing in the policy names, and of the network's input.
pub const DEFAULT_ACTIVATION_BITS: u8 = 8;

/// The operator of a sum that runs as part of a convolution.
pub const FUSED: &str = "fused";

/// One node, as costs see it.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// Name of the node.
    pub name: String,
    /// What it computes, as [`Op::name`] says, depthwise convolutions apart (`depthwise`); ending in `_add` if it
    /// takes in a sum, which is [`FUSED`] itself.
    pub operator: &'static str,
    /// Its dimensions.
    pub shape: Shape,
    /// Multiply-accumulates of one sample.
    pub macs: u64,
    /// Number of weights.
    pub weights: u64,
    /// What skipping its zeros leaves of it.
    pub steps: Steps,
    /// Whether it only moves elements, so that its output has its input's width.
    pub moves: bool,
    /// The node whose output it reads first; `None` for the network's input.
    pub source: Option<usize>,
}

/// Dimensions of a node: what a kernel's time depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    /// Rows of the input (1 for vectors).
    pub h: usize,
    /// Columns of the input (1 for vectors).
    pub w: usize,
    /// Channels of the input.
    pub c_in: usize,
    /// Rows of the output.
    pub h_out: usize,
    /// Columns of the output.
    pub w_out: usize,
    /// Channels of the output.
    pub c_out: usize,
    /// Rows and columns of the window (1, 1 where there is none).
    pub kernel: [usize; 2],
    /// Rows and columns.
    pub stride: [usize; 2],
    /// Groups of channels.
    pub groups: usize,
}

/// The steps of a layer whose kernel skips weights of 0 ([`Layout::Sparse`]), in thousandths of those of a dense one,
/// rounded up.
///
/// [`Layout::Sparse`]: pare_runtime::format::Layout::Sparse
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Steps(u16);

impl Steps {
    /// Those of a dense layer, and of operators that skip nothing.
    pub const ALL: Steps = Steps(1000);

    /// Of output channels of `depth` levels each.
    pub fn of(levels: &[i8], depth: usize) -> Steps {
        let dense = depth.div_ceil(PANEL_DEPTH) * (levels.len() / depth.max(1)).div_ceil(PANEL_CHANNELS);
        if dense == 0 || depth > SPARSE_DEPTH {
            return Steps::ALL;
        }
        // The coding of the levels makes no difference to where they go.
        let packing = Packing { levels, depth, format: WeightFormat::Linear(8).into(), codebook: &[] };
        Steps::ALL.min(Steps((packing.steps() * 1000).div_ceil(dense).min(1000) as u16))
    }

    /// As a share of [`Steps::ALL`].
    pub fn share(self) -> f64 {
        f64::from(self.0) / f64::from(Steps::ALL.0)
    }
}

impl Default for Steps {
    fn default() -> Steps {
        Steps::ALL
    }
}

impl Shape {
    /// Whether each weight is used once: nothing shares the work of finding those that are not 0.
    pub fn is_vector(&self) -> bool {
        self.kernel == [1; 2] && self.h_out * self.w_out == 1 && self.groups == 1
    }
}

/// All nodes of a graph, in its order.
#[derive(Clone, Debug, PartialEq)]
pub struct Layers(Vec<Layer>);

impl Layers {
    /// Reads the facts off a graph.
    pub fn of(graph: &Graph) -> Layers {
        Layers(graph.nodes.iter().map(|node| layer(graph, node)).collect())
    }

    /// The same where some convolutions take in a sum.
    pub fn with_sums(mut self, pairs: impl IntoIterator<Item = (NodeId, NodeId)>) -> Layers {
        for (conv, sum) in pairs {
            if let Some(layer) = self.0.get_mut(conv.0 as usize) {
                layer.operator = with_sum(layer.operator);
            }
            if let Some(layer) = self.0.get_mut(sum.0 as usize) {
                layer.operator = FUSED;
            }
        }
        self
    }

    /// The nodes.
    pub fn iter(&self) -> impl Iterator<Item = &Layer> {
        self.0.iter()
    }

    /// The dimensions of a node of the graph.
    pub fn shape(&self, node: NodeId) -> Shape {
        self.0[node.0 as usize].shape
    }

    /// The kernel of every node that runs one under `policy`; none for a layer of several weight formats.
    pub fn queries<'a>(&'a self, policy: &'a Policy) -> impl Iterator<Item = KernelQuery<'a>> {
        self.iter().filter(|layer| layer.runs()).filter_map(|layer| {
            let weights = match layer.choice(policy) {
                Ok(WeightChoice::Channels(_)) => return None,
                Ok(WeightChoice::Layer(format)) => Some(*format),
                Err(_) => None,
            };
            Some(self.query(layer, weights, policy))
        })
    }

    /// The kernel of `layer` with `weights` and the activation widths of `policy`.
    pub fn query<'a>(&self, layer: &'a Layer, weights: Option<WeightFormat>, policy: &Policy) -> KernelQuery<'a> {
        let activation_bits = self.input_bits(layer, policy);
        KernelQuery { operator: layer.operator, shape: layer.shape, weights, activation_bits, steps: layer.steps }
    }

    /// Width of the codes that `layer` reads under `policy`.
    pub fn input_bits(&self, layer: &Layer, policy: &Policy) -> u8 {
        self.bits_from(layer.source, policy)
    }

    /// Width of the codes that `layer` writes under `policy`.
    pub fn output_bits(&self, layer: &Layer, policy: &Policy) -> u8 {
        match policy.layers.get(&layer.name) {
            Some(entry) => entry.activation_bits,
            None if layer.moves => self.input_bits(layer, policy),
            None => DEFAULT_ACTIVATION_BITS,
        }
    }

    fn bits_from(&self, source: Option<usize>, policy: &Policy) -> u8 {
        source.and_then(|i| self.0.get(i)).map_or(DEFAULT_ACTIVATION_BITS, |layer| self.output_bits(layer, policy))
    }
}

impl Layer {
    /// Whether it is a kernel of its own.
    pub fn runs(&self) -> bool {
        !["reshape", FUSED].contains(&self.operator)
    }

    /// Bits of its packed weights under `policy`; channels may differ.
    ///
    /// # Errors
    /// [`CostError::MissingLayer`] where the policy has no weights for it.
    pub fn weight_bits(&self, policy: &Policy) -> Result<u64, CostError> {
        if self.weights == 0 {
            return Ok(0);
        }
        Ok(match self.choice(policy)? {
            WeightChoice::Layer(format) => self.weights * u64::from(format.bits()),
            WeightChoice::Channels(formats) => {
                let per_channel = self.weights / formats.len().max(1) as u64;
                formats.iter().map(|format| per_channel * u64::from(format.bits())).sum()
            }
        })
    }

    /// How its weights are coded under `policy`.
    ///
    /// # Errors
    /// [`CostError::MissingLayer`] where the policy has no weights for it.
    pub fn choice<'a>(&self, policy: &'a Policy) -> Result<&'a WeightChoice, CostError> {
        policy
            .layers
            .get(&self.name)
            .and_then(|entry| entry.weights.as_ref())
            .ok_or_else(|| CostError::MissingLayer(self.name.clone()))
    }
}

/// The name of a convolution, once it takes in a sum.
pub fn with_sum(operator: &'static str) -> &'static str {
    match operator {
        "conv2d" => "conv2d_add",
        "depthwise" => "depthwise_add",
        "fully_connected" => "fully_connected_add",
        other => other,
    }
}

fn layer(graph: &Graph, node: &Node) -> Layer {
    let input = node.inputs.first().map_or(&[][..], |&id| graph.value(id).shape.as_slice());
    let output = graph.value(node.output).shape.as_slice();
    let weights = if node.op.has_weights() { graph.value(node.inputs[1]).shape.as_slice() } else { &[] };
    let (h, w, c_in) = image(input);
    let (h_out, w_out, c_out) = image(output);
    let mut shape = Shape { h, w, c_in, h_out, w_out, c_out, kernel: [1, 1], stride: [1, 1], groups: 1 };
    match &node.op {
        Op::Conv2d(conv) => {
            if let [_, kh, kw, _] = *weights {
                shape.kernel = [kh, kw];
            }
            shape.stride = conv.stride;
            shape.groups = conv.groups;
        }
        Op::AvgPool(pool) | Op::MaxPool(pool) => {
            shape.kernel = pool.kernel;
            shape.stride = pool.stride;
        }
        _ => {}
    }
    let depthwise = matches!(&node.op, Op::Conv2d(conv) if conv.groups > 1 && conv.groups == c_in);
    Layer {
        name: node.name.clone(),
        operator: if depthwise { "depthwise" } else { node.op.name() },
        shape,
        macs: graph.macs(node),
        weights: weights.iter().product::<usize>() as u64 * u64::from(node.op.has_weights()),
        steps: steps(graph, node, &shape),
        moves: only_moves(&node.op),
        source: node.inputs.first().and_then(|&id: &ValueId| graph.producer(id)).map(|id| id.0 as usize),
    }
}

/// What is left of a node without the weights that are 0 whatever they are coded as.
fn steps(graph: &Graph, node: &Node, shape: &Shape) -> Steps {
    let data = if node.op.has_weights() { graph.value(node.inputs[1]).data.as_deref() } else { None };
    match data {
        Some(weights) if shape.is_vector() && weights.contains(&0.0) => {
            let levels: Vec<i8> = weights.iter().map(|&w| i8::from(w != 0.0)).collect();
            Steps::of(&levels, levels.len() / shape.c_out.max(1))
        }
        _ => Steps::ALL,
    }
}

/// `[1, h, w, c]` as it is, vectors as one pixel, sequences as one row.
fn image(shape: &[usize]) -> (usize, usize, usize) {
    match *shape {
        [_, h, w, c] => (h, w, c),
        [_, w, c] => (1, w, c),
        [.., c] => (1, 1, c),
        [] => (1, 1, 1),
    }
}
