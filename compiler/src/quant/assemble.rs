//! From a policy to a [`Quantized`]: looks every code up in a bank that computes each once.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use super::calibrate::Calibration;
use super::weights::Layer;
use super::{ActivationCode, QuantConfig, QuantError, Quantized, WeightCodes};
use crate::ir::{Graph, Node, NodeId, Op, Unary, ValueId};
use crate::policy::{Policy, WeightChoice, WeightFormat};

/// Width where a policy says nothing, and of graph inputs and outputs whatever it says.
const DEFAULT_BITS: u8 = 8;

/// Most bits of an activation code.
const MAX_BITS: usize = 8;

/// Quantises a graph under a policy; a search that tries many policies keeps a [`CodeBank`].
pub fn quantize(
    graph: &Graph,
    policy: &Policy,
    calibration: &Calibration,
    config: &QuantConfig,
) -> Result<Quantized, QuantError> {
    CodeBank::new(graph, calibration, config)?.quantize(policy)
}

/// Every code of a graph that was asked for so far. Threads share it.
pub struct CodeBank<'a> {
    graph: &'a Graph,
    calibration: &'a Calibration,
    config: QuantConfig,
    layers: BTreeMap<NodeId, Layer>,
    /// By value and bits.
    ranges: Vec<[OnceLock<ActivationCode>; MAX_BITS + 1]>,
}

impl<'a> CodeBank<'a> {
    /// An empty bank.
    pub fn new(graph: &'a Graph, calibration: &'a Calibration, config: &QuantConfig) -> Result<Self, QuantError> {
        let layers = graph.weighted().map(|id| {
            let moments = calibration.moments.get(&id).map(Vec::as_slice).unwrap_or_default();
            Ok((id, Layer::new(graph, id, moments, config.clone())?))
        });
        Ok(CodeBank {
            graph,
            calibration,
            config: config.clone(),
            layers: layers.collect::<Result<_, QuantError>>()?,
            ranges: graph.values.iter().map(|_| Default::default()).collect(),
        })
    }

    /// The weights of a layer in one format; `None` if the node has no weights.
    pub fn weights(&self, node: NodeId, format: WeightFormat) -> Option<Arc<WeightCodes>> {
        self.layers.get(&node).map(|layer| layer.codes(format))
    }

    /// The graph under a policy. A weighted node without an entry gets 8-bit weights. `keep` is not
    /// read: it describes a pruning that has already shrunk the graph.
    pub fn quantize(&self, policy: &Policy) -> Result<Quantized, QuantError> {
        self.check(policy)?;
        let eight_bits = WeightChoice::Layer(WeightFormat::Linear(8));
        let mut weights = BTreeMap::new();
        for (&id, layer) in &self.layers {
            let entry = policy.layers.get(&self.graph.node(id).name);
            let choice = entry.and_then(|entry| entry.weights.as_ref()).unwrap_or(&eight_bits);
            weights.insert(id, layer.choose(choice)?);
        }
        Ok(Quantized { graph: self.graph.clone(), activations: self.activations(policy), weights })
    }

    fn check(&self, policy: &Policy) -> Result<(), QuantError> {
        for (name, layer) in &policy.layers {
            let Some(node) = self.graph.nodes.iter().find(|node| node.name == *name) else {
                return Err(QuantError::UnknownLayer { layer: name.clone() });
            };
            if !(1..=8).contains(&layer.activation_bits) {
                return Err(QuantError::ActivationBits { layer: name.clone(), bits: layer.activation_bits });
            }
            if layer.weights.is_some() && !node.op.has_weights() {
                return Err(QuantError::NoWeights { layer: name.clone() });
            }
        }
        Ok(())
    }

    /// Codes of all activations. An average pool chooses its own range, at 8 bits unless it has an
    /// entry: the mean of many codes says more than one of them, and its output is small.
    fn activations(&self, policy: &Policy) -> Vec<Option<ActivationCode>> {
        let mut codes = vec![None; self.graph.values.len()];
        let outputs = self.output_sources();
        for &input in &self.graph.inputs {
            codes[input.0 as usize] = Some(self.range(input, DEFAULT_BITS));
        }
        for node in &self.graph.nodes {
            let bits = match policy.layers.get(&node.name) {
                Some(layer) if !outputs.contains(&node.output) => layer.activation_bits,
                _ => DEFAULT_BITS,
            };
            codes[node.output.0 as usize] = if only_moves(&node.op) {
                codes[node.inputs[0].0 as usize]
            } else {
                Some(fixed_code(node, bits).unwrap_or_else(|| self.range(node.output, bits)))
            };
        }
        codes
    }

    /// Graph outputs, and the values that they are moved from.
    fn output_sources(&self) -> Vec<ValueId> {
        let mut sources = self.graph.outputs.clone();
        for node in self.graph.nodes.iter().rev() {
            if only_moves(&node.op) && sources.contains(&node.output) {
                sources.push(node.inputs[0]);
            }
        }
        sources
    }

    /// The code of a value that chooses its own: the range its file records, at 8 bits, else the
    /// range that calibration shows.
    fn range(&self, value: ValueId, bits: u8) -> ActivationCode {
        *self.ranges[value.0 as usize][usize::from(bits)].get_or_init(|| {
            let recorded = self.graph.value(value).range.filter(|_| bits == DEFAULT_BITS);
            let (lo, hi) = recorded.unwrap_or_else(|| {
                let histogram = self.calibration.histograms.get(value.0 as usize).and_then(Option::as_ref);
                histogram.map_or((0.0, 0.0), |histogram| self.config.clip.range(histogram, bits))
            });
            self.config.scheme.code(lo, hi, bits)
        })
    }
}

/// Whether the output's elements are some of the first operand's, or lie between them, so that both
/// share a code.
pub(crate) fn only_moves(op: &Op) -> bool {
    match op {
        Op::Reshape | Op::Transpose { .. } | Op::Pad { .. } | Op::MaxPool(_) | Op::DepthToSpace { .. } => true,
        Op::Resize { .. } => true,
        Op::Conv2d(_)
        | Op::FullyConnected { .. }
        | Op::Add { .. }
        | Op::Mul
        | Op::Unary(_)
        | Op::Concat { .. }
        | Op::AvgPool(_)
        | Op::Softmax => false,
    }
}

/// The code of outputs whose range is known beforehand. That of a softmax is part of its arithmetic.
pub(crate) fn fixed_code(node: &Node, bits: u8) -> Option<ActivationCode> {
    let bits = if node.op == Op::Softmax { DEFAULT_BITS } else { bits };
    let codes = f32::from(1u16 << bits);
    match node.op {
        Op::Softmax | Op::Unary(Unary::Sigmoid) => Some(ActivationCode { scale: 1.0 / codes, zero: 0, bits }),
        Op::Unary(Unary::Tanh) => Some(ActivationCode { scale: 2.0 / codes, zero: 1 << (bits - 1), bits }),
        _ => None,
    }
}
