//! Which gradients are taken for those of rounding, which has none.

use serde::{Deserialize, Serialize};

use crate::quant::Scales;
use crate::train::parameter::USUAL;

/// How steps of codes are learned.
///
/// A code is `q = s * round(x / s)` within its range, and at the ends of that beyond it. By the number `x`, rounding
/// counts as the identity within the range (the straight-through estimator, Bengio, Léonard & Courville 2013). The
/// methods differ in what they take for the derivative by the step `s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Estimator {
    /// `(q - x) / s` within the range, `q / s` beyond (Esser et al. 2020): the step balances rounding and clipping.
    Lsq,
    /// `q / s` beyond the range alone (Choi et al. 2018, whose clipping level is the step times the highest code).
    Pact,
    /// 0: steps stay where they are, weights alone are trained.
    Given,
}

impl Estimator {
    /// The derivative of a code by its step, where `position` is `x / s` and `rounded` is `q / s`.
    #[inline(always)]
    pub(super) fn slope(self, position: f32, rounded: f32, inside: bool) -> f32 {
        match (self, inside) {
            (Estimator::Given, _) => 0.0,
            (_, false) => rounded,
            (Estimator::Lsq, true) => rounded - position,
            (Estimator::Pact, true) => 0.0,
        }
    }
}

/// A step that started at `start`, of the scales that there are. What is trained of it is its ratio to that; rounding to those
/// that there are counts as the identity, as it does for numbers.
pub(super) fn step(start: f32, trained: f32, scales: Scales) -> f32 {
    scales.nearest(f64::from(start * (trained / USUAL).exp())) as f32
}

/// What gradients of a step that so many numbers share are multiplied by (Esser et al. 2020, section 2.2): it makes
/// them as large, beside the step, as those of weights.
pub(super) fn damping(numbers: usize, top: f32) -> f32 {
    1.0 / (numbers as f32 * top).sqrt()
}
