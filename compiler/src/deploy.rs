//! From a policy to a blob, and from a policy to a score by the very integers that will be deployed.

use pare_runtime::Isa;

use crate::board::host::Host;
use crate::board::{AlignedBytes, Board, BoardError};
use crate::cost::layers::{DEFAULT_ACTIVATION_BITS, Layers};
use crate::data::{Metric, MetricAccumulator};
use crate::emit::{Blob, EmitError, emit};
use crate::eval::{EvalError, Net};
use crate::ir::{Graph, NodeId};
use crate::lower::{LowerConfig, LowerError, Plan, lower};
use crate::passes::drop_softmax;
use crate::policy::{Policy, WeightChoice, WeightFormat};
use crate::quant::{ActivationCode, CodeBank, QuantError, Quantized, WeightCodes};
use crate::search::Score;
use crate::task::infer_blob;

/// Why a policy could not be deployed or scored.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// The policy does not fit the graph.
    #[error(transparent)]
    Quant(#[from] QuantError),
    /// The integers do not fit the arithmetic.
    #[error(transparent)]
    Lower(#[from] LowerError),
    /// The plan does not fit the format.
    #[error(transparent)]
    Emit(#[from] EmitError),
    /// The float network failed.
    #[error(transparent)]
    Eval(#[from] EvalError),
    /// The blob does not run here.
    #[error(transparent)]
    Board(#[from] BoardError),
}

/// A blob and the plan it was made from.
#[derive(Clone, Debug)]
pub struct Deployed {
    /// The quantised graph.
    pub quantized: Quantized,
    /// The integers.
    pub plan: Plan,
    /// The bytes.
    pub blob: Blob,
}

/// Applies a policy: quantise, lower, pack, emit. `metadata` as in [`emit`].
///
/// # Errors
/// See [`DeployError`].
pub fn deploy(
    bank: &CodeBank<'_>,
    policy: &Policy,
    config: &LowerConfig,
    metadata: &str,
) -> Result<Deployed, DeployError> {
    deploy_quantized(bank.quantize(policy)?, config, metadata)
}

/// As [`deploy`], of codes that are chosen already: trained ones, say.
///
/// # Errors
/// See [`DeployError`].
pub fn deploy_quantized(quantized: Quantized, config: &LowerConfig, metadata: &str) -> Result<Deployed, DeployError> {
    let plan = lower(&quantized, config)?;
    let blob = emit(&plan, metadata)?;
    Ok(Deployed { quantized, plan, blob })
}

/// The plan that a policy leads to, with placeholder scales and levels: exact sizes without any data.
///
/// # Errors
/// See [`LowerError`].
pub fn draft(graph: &Graph, policy: &Policy, config: &LowerConfig) -> Result<Plan, LowerError> {
    let layers = Layers::of(graph);
    let mut bits = vec![DEFAULT_ACTIVATION_BITS; graph.values.len()];
    for (node, layer) in graph.nodes.iter().zip(layers.iter()) {
        bits[node.output.0 as usize] = layers.output_bits(layer, policy);
    }
    let code = |(value, bits): (&crate::ir::Value, u8)| {
        (!value.is_constant()).then_some(ActivationCode { scale: 1.0, zero: 0, bits })
    };
    let activations = graph.values.iter().zip(bits).map(code).collect();
    let weights = graph.weighted().map(|id| (id, placeholder(graph, id, policy))).collect();
    lower(&Quantized { graph: graph.clone(), activations, weights }, config)
}

/// What costs need to know of each node; what runs in one goes by one.
///
/// # Errors
/// See [`LowerError`].
pub fn layers_as_run(graph: &Graph, config: &LowerConfig) -> Result<Layers, LowerError> {
    let plan = draft(graph, &Policy::default(), config)?;
    Ok(Layers::of(graph).with_sums(plan.sums()))
}

/// The narrowest legal levels of each channel's format.
fn placeholder(graph: &Graph, id: NodeId, policy: &Policy) -> WeightCodes {
    let node = graph.node(id);
    let channels = graph.input_shape(node, 1)[0];
    let choice = policy.layers.get(&node.name).and_then(|entry| entry.weights.clone());
    let formats = match choice.unwrap_or(WeightChoice::Layer(WeightFormat::Linear(8))) {
        WeightChoice::Layer(format) => vec![format; channels],
        WeightChoice::Channels(formats) => formats,
    };
    WeightCodes {
        // Every format has the level 1: all but codebooks by definition, those by the table below.
        levels: vec![1; graph.value(node.inputs[1]).len()],
        scales: vec![1e-6; channels],
        codebook: vec![1; 16],
        bias: vec![0.0; channels],
        formats,
    }
}

/// What the float network answers on fixed samples: the measure of policies.
///
/// Policies are scored with the fastest kernels of this machine, whatever they are meant for: all kernels give the same
/// bytes, and how layers are packed, fused or cut into bands changes none. The loss is what the deployed integers
/// change in the float network's answer: for classifiers the Kullback-Leibler divergence from the float
/// to the integer class probabilities, both from the logits (the final softmax is left out: its 8-bit
/// codes would hide small damage); for other networks the mean squared error over the variance of the
/// float output. Neither needs labels.
#[derive(Clone, Debug)]
pub struct Reference {
    isa: Isa,
    inputs: Vec<f32>,
    labels: Vec<Option<u32>>,
    metric: Metric,
    float: Vec<f32>,
    output_len: usize,
}

impl Reference {
    /// `inputs` are network inputs back to back; `labels` one a network input.
    ///
    /// # Errors
    /// When the float network fails.
    pub fn new(graph: &Graph, inputs: Vec<f32>, labels: Vec<Option<u32>>, metric: Metric) -> Result<Self, DeployError> {
        let net = Net::float(&drop_softmax(graph).unwrap_or_else(|| graph.clone()))?;
        let float = net.forward(&inputs, labels.len())?;
        let output_len = float.len() / labels.len().max(1);
        Ok(Reference { isa: Isa::best(), inputs, labels, metric, float, output_len })
    }

    /// The score of the float network itself: no loss.
    pub fn float_score(&self) -> Score {
        self.compare(&self.float)
    }

    /// The score of the network by these integers.
    ///
    /// # Errors
    /// See [`DeployError`].
    pub fn score(&self, mut quantized: Quantized) -> Result<Score, DeployError> {
        quantized.graph = drop_softmax(&quantized.graph).unwrap_or(quantized.graph);
        let config = LowerConfig::new(Host::default().layout(self.isa));
        let blob = emit(&lower(&quantized, &config)?, "")?;
        let bytes = AlignedBytes::from(&blob.bytes[..]);
        let outputs = infer_blob(&bytes, Host::default(), self.isa, &self.inputs)?;
        Ok(self.compare(&outputs))
    }

    fn compare(&self, outputs: &[f32]) -> Score {
        let loss = match self.metric {
            Metric::Top1 => divergence(&self.float, outputs, self.output_len),
            _ => relative_error(&self.float, outputs),
        };
        // Without the labels that the metric needs, the loss itself ranks the policies.
        Score { metric: self.figure(outputs).unwrap_or(-loss), loss }
    }

    fn figure(&self, outputs: &[f32]) -> Option<f64> {
        let mut accumulator = MetricAccumulator::new(self.metric, self.output_len);
        let input_len = self.inputs.len() / self.labels.len().max(1);
        let samples = self.inputs.chunks(input_len).zip(outputs.chunks(self.output_len));
        for (&label, (x, y)) in self.labels.iter().zip(samples) {
            accumulator.push(label, x, y).ok()?;
        }
        accumulator.finish().ok().map(|value| self.metric.merit(value))
    }
}

/// Mean over rows of `KL(softmax(float) || softmax(other))`, in nats.
fn divergence(float: &[f32], other: &[f32], row: usize) -> f64 {
    let rows = float.chunks(row).zip(other.chunks(row));
    let total: f64 = rows
        .map(|(p, q)| {
            let (p, q) = (log_softmax(p), log_softmax(q));
            p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum::<f64>()
        })
        .sum();
    total / (float.len() / row) as f64
}

fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let shifted = logits.iter().map(|x| f64::from(x - top));
    let norm = shifted.clone().map(f64::exp).sum::<f64>().ln();
    shifted.map(|x| x - norm).collect()
}

/// Squared error over the variance of the reference.
fn relative_error(float: &[f32], other: &[f32]) -> f64 {
    let mean = float.iter().map(|&x| f64::from(x)).sum::<f64>() / float.len() as f64;
    let variance: f64 = float.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum();
    let error: f64 = float.iter().zip(other).map(|(&x, &y)| (f64::from(x) - f64::from(y)).powi(2)).sum();
    error / variance.max(f64::MIN_POSITIVE)
}
