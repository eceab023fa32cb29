//! From a policy to a blob, and from a policy to a score by the very integers that will be deployed.

use pare_runtime::Isa;

use crate::board::host;
use crate::data::{Metric, MetricAccumulator};
use crate::emit::{Blob, EmitError, emit};
use crate::eval::{EvalError, Net};
use crate::ir::{Graph, Op};
use crate::lower::{LowerConfig, LowerError, Plan, lower};
use crate::policy::Policy;
use crate::quant::{CodeBank, QuantError, Quantized};
use crate::search::{Evaluator, Score};
use crate::task::{decode, encode};

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
    Host(#[from] host::HostError),
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
    let quantized = bank.quantize(policy)?;
    let plan = lower(&quantized, config)?;
    let blob = emit(&plan, metadata)?;
    Ok(Deployed { quantized, plan, blob })
}

/// Scores policies with the integer runtime of this machine, on samples fixed at the start.
///
/// The loss is what the deployed integers change in the float network's answer: for classifiers the
/// Kullback-Leibler divergence from the float to the integer class probabilities, both from the logits
/// (the final softmax is left out: its 8-bit codes would hide small damage); for other networks the
/// mean squared error over the variance of the float output. Neither needs labels.
pub struct IntegerEvaluator<'a> {
    bank: &'a CodeBank<'a>,
    config: LowerConfig,
    isa: Isa,
    inputs: Vec<f32>,
    labels: Vec<Option<u32>>,
    metric: Metric,
    float: Vec<f32>,
    output_len: usize,
}

impl<'a> IntegerEvaluator<'a> {
    /// `inputs` are network inputs back to back; `labels` one a network input.
    ///
    /// # Errors
    /// When the float network fails.
    pub fn new(
        bank: &'a CodeBank<'a>,
        graph: &Graph,
        config: LowerConfig,
        inputs: Vec<f32>,
        labels: Vec<Option<u32>>,
        metric: Metric,
    ) -> Result<Self, DeployError> {
        let mut graph = graph.clone();
        drop_final_softmax(&mut graph);
        let net = Net::float(&graph)?;
        let float = net.forward(&inputs, labels.len())?;
        let output_len = float.len() / labels.len().max(1);
        Ok(IntegerEvaluator { bank, config, isa: Isa::best(), inputs, labels, metric, float, output_len })
    }

    /// The score of the float network: no loss.
    pub fn float_score(&self) -> Score {
        Score { metric: self.figure(&self.float), loss: 0.0 }
    }

    /// Answers of the integer network under a policy, as reals: logits for classifiers.
    ///
    /// # Errors
    /// See [`DeployError`].
    pub fn outputs(&self, policy: &Policy) -> Result<Vec<f32>, DeployError> {
        let mut quantized = self.bank.quantize(policy)?;
        drop_final_softmax(&mut quantized.graph);
        let blob = emit(&lower(&quantized, &self.config)?, "")?;
        let bytes = crate::board::AlignedBytes::from(&blob.bytes[..]);
        let model = pare_runtime::Model::parse(&bytes).map_err(host::HostError::from)?;
        let codes = encode(&model, &self.inputs);
        Ok(decode(&model, &host::infer(&bytes, self.isa, &codes)?))
    }

    /// The metric where the samples carry what it needs; it is not a number otherwise.
    fn figure(&self, outputs: &[f32]) -> f64 {
        let mut accumulator = MetricAccumulator::new(self.metric, self.output_len);
        let input_len = self.inputs.len() / self.labels.len().max(1);
        let samples = self.inputs.chunks(input_len).zip(outputs.chunks(self.output_len));
        for (&label, (x, y)) in self.labels.iter().zip(samples) {
            if accumulator.push(label, x, y).is_err() {
                return f64::NAN;
            }
        }
        accumulator.finish().map_or(f64::NAN, |value| self.metric.merit(value))
    }

    fn loss(&self, outputs: &[f32]) -> f64 {
        if self.metric == Metric::Top1 {
            divergence(&self.float, outputs, self.output_len)
        } else {
            relative_error(&self.float, outputs)
        }
    }
}

impl Evaluator for IntegerEvaluator<'_> {
    fn score(&self, policy: &Policy) -> Result<Score, Box<dyn std::error::Error + Send + Sync>> {
        let outputs = self.outputs(policy)?;
        let loss = self.loss(&outputs);
        let figure = self.figure(&outputs);
        // Without labels the loss itself must rank the policies.
        Ok(Score { metric: if figure.is_nan() { -loss } else { figure }, loss })
    }
}

/// Makes the logits the output of a classifier; leaves other networks as they are.
fn drop_final_softmax(graph: &mut Graph) {
    let ends_in_softmax =
        graph.nodes.last().is_some_and(|node| node.op == Op::Softmax && graph.outputs == [node.output]);
    if ends_in_softmax && let Some(softmax) = graph.nodes.pop() {
        graph.outputs = vec![softmax.inputs[0]];
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
