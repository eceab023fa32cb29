//! From floats to small integers: calibration, clipping, rounding, bias correction.
//!
//! The result, [`Quantized`], holds every accuracy decision: lowering turns it into bytes and makes
//! none of its own. The integer contract (codes, levels, zero points) is that of
//! [`pare_runtime::format`].

use std::collections::BTreeMap;

use crate::ir::{Graph, NodeId, ValueId};
use crate::policy::WeightFormat;

/// A graph with every activation and every weight given as small integers and scales.
#[derive(Clone, Debug)]
pub struct Quantized {
    /// The simplified float graph.
    pub graph: Graph,
    /// Code of each activation, by [`ValueId`]; `None` for constants. Values that operators merely
    /// move (reshape, transpose, pad, max pool, nearest resize, depth to space) share their source's
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
    /// 2..=8.
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
