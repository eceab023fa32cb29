//! From floats to small integers: calibration, clipping, rounding, bias correction.
//!
//! The result, [`Quantized`], holds every accuracy decision: lowering turns it into bytes and makes
//! none of its own. The integer contract (codes, levels, zero points) is that of
//! [`pare_runtime::format`].

mod assemble;
mod calibrate;
mod codebook;
mod histogram;
mod levels;
mod moments;
mod observer;
mod rounding;
mod scheme;
mod weights;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::assemble::{CodeBank, quantize};
pub(crate) use self::assemble::{fixed_code, only_moves};
pub use self::calibrate::{Calibration, CalibrationConfig, calibrate};
pub use self::histogram::Histogram;
pub(crate) use self::levels::Levels;
pub(crate) use self::moments::InputSampler;
pub use self::moments::Moments;
pub use self::observer::{ClipMethod, code_for_range};
pub use self::rounding::Rounding;
pub use self::scheme::{Granularity, Scales, Scheme, Zeros};
#[cfg(doc)]
use crate::ir::ValueId;
use crate::ir::{Graph, NodeId};
use crate::policy::WeightFormat;

/// How floats become codes; the policy says which codes.
///
/// Of the choices, the [usual](QuantConfig::USUAL) ones kept most validation accuracy of ResNet-8 on CIFAR-10, all without training; the others
/// are there to compare with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QuantConfig {
    /// Where activations are clipped.
    pub clip: ClipMethod,
    /// How weights become levels.
    pub rounding: Rounding,
    /// What becomes of the mean error that rounding leaves in a layer's output.
    pub bias_correction: BiasCorrection,
    /// How wide the steps of weights are.
    pub steps: WeightSteps,
    /// What the backend can express.
    pub scheme: Scheme,
}

impl QuantConfig {
    /// What loses least without training.
    pub const USUAL: QuantConfig = QuantConfig {
        clip: ClipMethod::Mse,
        rounding: Rounding::DataAware,
        bias_correction: BiasCorrection::MeanInput,
        steps: WeightSteps::Importance,
        scheme: Scheme::FINEST,
    };
}

/// How wide the steps of weights are.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WeightSteps {
    /// As wide as the error at the layer's output is smallest, each weight's counted by how much its input varies.
    Importance,
    /// So wide that the outermost levels lie where this method cuts the weights.
    Clip(ClipMethod),
    /// `2 mean |w| / sqrt(q)`, `q` being the highest level (Esser et al., *Learned Step Size Quantization*, ICLR 2020, section 2.1).
    MeanMagnitude,
}

/// What becomes of the mean error that rounded weights leave in a layer's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BiasCorrection {
    /// It stays.
    Off,
    /// `E[(w_q - w) x]`, from the calibrated mean input, is taken out of the bias.
    MeanInput,
}

/// Why a policy cannot be applied to a graph.
#[derive(Debug, thiserror::Error)]
pub enum QuantError {
    /// A policy entry for a node that does not exist.
    #[error(
        "the policy names layer `{layer}`, which the network does not have; keys are node names of the simplified graph"
    )]
    UnknownLayer {
        /// The name.
        layer: String,
    },
    /// A width that activations cannot have.
    #[error("layer `{layer}`: {bits} activation bits; the policy must say 1 to 8")]
    ActivationBits {
        /// Name of the node.
        layer: String,
        /// The width.
        bits: u8,
    },
    /// A weight format for a node without weights.
    #[error("layer `{layer}` has no weights; remove `weights` from its policy entry")]
    NoWeights {
        /// Name of the node.
        layer: String,
    },
    /// Per-channel formats, but not one a channel.
    #[error("layer `{layer}` has {channels} output channels, but the policy gives {formats} formats")]
    ChannelCount {
        /// Name of the node.
        layer: String,
        /// Channels it has.
        channels: usize,
        /// Formats given.
        formats: usize,
    },
    /// A layer holds one codebook.
    #[error("layer `{layer}` mixes codebooks of two widths; use one codebook width in a layer")]
    TwoCodebooks {
        /// Name of the node.
        layer: String,
    },
    /// Weights or bias are computed at run time.
    #[error("weights and bias of layer `{layer}` must be constants; run constant folding first")]
    NotConstant {
        /// Name of the node.
        layer: String,
    },
    /// The calibration belongs to another graph.
    #[error("layer `{layer}` was not calibrated; calibrate the graph that is quantised")]
    NoCalibration {
        /// Name of the node.
        layer: String,
    },
}

/// A graph with every activation and every weight given as small integers and scales.
#[derive(Clone, Debug)]
pub struct Quantized {
    /// The simplified float graph.
    pub graph: Graph,
    /// Code of each activation, by [`ValueId`]; `None` for constants. Values that operators merely
    /// move (reshape, transpose, pad, max pool, resize, depth to space) share their source's
    /// code; the operands of a concat may differ from its output, lowering rescales them.
    pub activations: Vec<Option<ActivationCode>>,
    /// Weights of each weighted node.
    pub weights: BTreeMap<NodeId, WeightCodes>,
}

/// `real = scale * (code - zero)`, code in `0 ..= 2^bits - 1`, one for the whole tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ActivationCode {
    /// Real width of one step.
    pub scale: f32,
    /// The code of real 0.
    pub zero: u8,
    /// 1..=8.
    pub bits: u8,
}

impl ActivationCode {
    /// The highest code.
    pub fn max_code(&self) -> u8 {
        ((1u16 << self.bits) - 1) as u8
    }

    /// The nearest code, half away from zero, clamped.
    pub fn encode(&self, real: f32) -> u8 {
        (real / self.scale + f32::from(self.zero)).round().clamp(0.0, f32::from(self.max_code())) as u8
    }

    /// The real number a code stands for.
    pub fn decode(&self, code: u8) -> f32 {
        self.scale * (f32::from(code) - f32::from(self.zero))
    }
}

/// The weights of one layer: `real = scales[o] * levels[o, ..]`.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightCodes {
    /// One format an output channel.
    pub formats: Vec<WeightFormat>,
    /// The small signed integers that the stored codes stand for, in the layout of the float weights
    /// (`[c_out, kh, kw, c_in / groups]` or `[n, k]`).
    pub levels: Vec<i8>,
    /// One real step an output channel.
    pub scales: Vec<f32>,
    /// Ascending levels of the codebook formats, 2^bits of them; empty otherwise.
    pub codebook: Vec<i8>,
    /// Bias after correction, in reals, one an output channel.
    pub bias: Vec<f32>,
}

impl WeightCodes {
    /// The levels that a channel may use.
    pub(crate) fn levels_of(&self, channel: usize) -> Levels {
        Levels::fixed(self.formats[channel]).unwrap_or_else(|| Levels::new(self.codebook.clone()))
    }

    /// The real weights that the codes stand for, in the layout of the levels.
    pub fn decode(&self) -> Vec<f32> {
        let per_channel = self.levels.len() / self.scales.len().max(1);
        let channels = self.levels.chunks_exact(per_channel.max(1)).zip(&self.scales);
        channels.flat_map(|(levels, &scale)| levels.iter().map(move |&level| scale * f32::from(level))).collect()
    }
}
