//! Quantisers beside one another under one recipe, on the schemes of backends (Li et al., *MQBench: Towards Reproducible and
//! Deployable Model Quantization Benchmark*, NeurIPS 2021).
//!
//! A [`Quantizer`] chooses scales and levels, a [`Backend`] says which there are. Each pair is scored twice: as papers do
//! ([`academic`]: weights and the inputs of layers quantised, the rest real) and as it is deployed, by the integers of a blob.
//! What lies between is the price of deployment.
//!
//! DoReFa, which the paper has too, is not here: the weights of all others begin as those of the trained network, which its
//! tanh changes.

mod row;

pub use self::row::{Row, Subject};
use crate::eval::{EvalError, Net};
use crate::ir::{Graph, Op};
use crate::policy::{EdgeLayers, Policy, WeightFormat};
use crate::quant::{
    BiasCorrection, ClipMethod, Granularity, QuantConfig, Quantized, Rounding, Scales, Scheme, WeightSteps, Zeros,
};
use crate::train::Estimator;

/// Share of numbers that [`Quantizer::Percentile`] keeps at each end.
const KEPT: f64 = 0.999;

/// A way from floats to small integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quantizer {
    /// Nothing is clipped (Jacob et al. 2018).
    MinMax,
    /// A thousandth is clipped at each end.
    Percentile,
    /// Clipped where the squared error is least.
    Mse,
    /// Clipped where the distribution changes least (TensorRT).
    Kl,
    /// Clipped where the error behind the layer is least; biases make up for its mean.
    Output,
    /// Rounded for the layer's output (AdaRound's goal, Nagel et al. 2020), else as [`Quantizer::Output`].
    Rounding,
    /// Levels are centroids (Deep Compression, HAQ's size experiments).
    KMeans,
    /// Steps from mean magnitudes, learned from rounding and clipping (Esser et al. 2020).
    Lsq,
    /// Clipping learned (Choi et al. 2018), from no clipping.
    Pact,
}

impl Quantizer {
    /// All of them.
    pub const ALL: [Quantizer; 9] = [
        Quantizer::MinMax,
        Quantizer::Percentile,
        Quantizer::Mse,
        Quantizer::Kl,
        Quantizer::Output,
        Quantizer::Rounding,
        Quantizer::KMeans,
        Quantizer::Lsq,
        Quantizer::Pact,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Quantizer::MinMax => "min-max",
            Quantizer::Percentile => "percentile",
            Quantizer::Mse => "mse",
            Quantizer::Kl => "kl",
            Quantizer::Output => "output",
            Quantizer::Rounding => "rounding",
            Quantizer::KMeans => "k-means",
            Quantizer::Lsq => "lsq",
            Quantizer::Pact => "pact",
        }
    }

    /// How it makes codes for a backend.
    pub fn config(self, backend: Backend) -> QuantConfig {
        let nearest = QuantConfig { rounding: Rounding::Nearest, scheme: backend.scheme(), ..QuantConfig::USUAL };
        let clipped = |clip| QuantConfig {
            clip,
            steps: WeightSteps::Clip(clip),
            bias_correction: BiasCorrection::Off,
            ..nearest.clone()
        };
        match self {
            Quantizer::MinMax | Quantizer::Pact => clipped(ClipMethod::MinMax),
            Quantizer::Percentile => clipped(ClipMethod::Percentile(KEPT)),
            Quantizer::Mse => clipped(ClipMethod::Mse),
            Quantizer::Kl => clipped(ClipMethod::Kl),
            Quantizer::Output => nearest,
            Quantizer::Rounding => QuantConfig { rounding: Rounding::DataAware, ..nearest },
            Quantizer::KMeans => QuantConfig { bias_correction: BiasCorrection::Off, ..nearest },
            Quantizer::Lsq => QuantConfig { steps: WeightSteps::MeanMagnitude, ..clipped(ClipMethod::Mse) },
        }
    }

    /// The format of weights of so many bits; none where it has none.
    pub fn format(self, bits: u8) -> Option<WeightFormat> {
        match self {
            Quantizer::KMeans => (2..=4).contains(&bits).then_some(WeightFormat::Codebook(bits)),
            _ => (1..=8).contains(&bits).then_some(WeightFormat::Linear(bits)),
        }
    }

    /// How its steps are learned: by most of them not at all.
    pub fn estimator(self) -> Estimator {
        match self {
            Quantizer::Lsq => Estimator::Lsq,
            Quantizer::Pact => Estimator::Pact,
            _ => Estimator::Given,
        }
    }
}

/// A family of backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Backend {
    /// A scale a channel, zero points anywhere: ONNX Runtime, TFLite, and here.
    PerChannel,
    /// A scale a channel, zero points fixed: TensorRT.
    Symmetric,
    /// A scale a layer: SNPE, but for the zero points of weights.
    PerTensor,
    /// A scale a layer, a power of two, zero points fixed: Vitis; requantising is a shift.
    PowerOfTwo,
}

impl Backend {
    /// All of them.
    pub const ALL: [Backend; 4] = [Backend::PerChannel, Backend::Symmetric, Backend::PerTensor, Backend::PowerOfTwo];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Backend::PerChannel => "per-channel",
            Backend::Symmetric => "symmetric",
            Backend::PerTensor => "per-tensor",
            Backend::PowerOfTwo => "power-of-two",
        }
    }

    /// What it can express.
    pub fn scheme(self) -> Scheme {
        match self {
            Backend::PerChannel => Scheme::FINEST,
            Backend::Symmetric => Scheme { zeros: Zeros::Fixed, ..Scheme::FINEST },
            Backend::PerTensor => Scheme { granularity: Granularity::Tensor, ..Scheme::FINEST },
            Backend::PowerOfTwo => {
                Scheme { granularity: Granularity::Tensor, zeros: Zeros::Fixed, scales: Scales::PowersOfTwo }
            }
        }
    }
}

/// Every layer at these widths but the first and the last, which keep 8 bits, as papers have it.
pub fn policy(graph: &Graph, format: WeightFormat, activation_bits: u8) -> Policy {
    Policy::uniform(graph, format, activation_bits, EdgeLayers::EightBit)
}

/// Quantised as papers do: the weights, and what layers with weights read; sums, pools and outputs are real.
///
/// # Errors
/// As [`Net::fake_quantized`].
pub fn academic(mut quantized: Quantized) -> Result<Net, EvalError> {
    let graph = &quantized.graph;
    let mut read = vec![false; graph.values.len()];
    for node in graph.nodes.iter().filter(|node| node.op.has_weights()) {
        read[node.inputs[0].0 as usize] = true;
    }
    // What is only moved on its way there has its code where it was made.
    for node in graph.nodes.iter().rev().filter(|node| matches!(node.op, Op::Reshape | Op::Transpose { .. })) {
        read[node.inputs[0].0 as usize] |= read[node.output.0 as usize];
    }
    quantized.activations.iter_mut().zip(read).filter(|(_, read)| !read).for_each(|(code, _)| *code = None);
    Net::fake_quantized(&quantized)
}
