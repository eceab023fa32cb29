//! What integers make of codes, to the bit, in floats: products of levels and codes are whole numbers, and so are their sums,
//! which floats hold exactly up to 2^24. Sums of real products would be rounded; the few codes that then fall to the other
//! side multiply from layer to layer, until a simulated network and the deployed one differ in some of their answers.
//!
//! Rounding, biases and multipliers are those of the integer contract ([`pare_runtime::requant`]). Longer sums than 2^24 may
//! be off by a unit or two of an accumulator, far below a code.

use super::kernel::Kernel;
use crate::lower::arithmetic::{Multipliers, add_multipliers, multipliers};
use crate::quant::ActivationCode;

/// Channels with smaller multipliers are nearly dead: lowering may give them larger steps.
const COARSE: i32 = 1 << 16;

/// A kernel that adds up codes, and the requantisation behind it.
pub(super) struct Requantised {
    /// Of inputs less their zero point.
    sums: Box<dyn Kernel>,
    input: ActivationCode,
    output: ActivationCode,
    /// Whole numbers, one an output channel.
    bias: Vec<f64>,
    /// Codes that a unit of a sum is worth, one an output channel.
    factors: Vec<f64>,
}

impl Requantised {
    /// `scales` and `bias`, both real, are one an output channel; a unit of its sum is the input's scale times its own.
    pub(super) fn new(
        sums: Box<dyn Kernel>,
        [input, output]: [ActivationCode; 2],
        scales: &[f64],
        bias: &[f32],
    ) -> Requantised {
        let units: Vec<f64> = scales.iter().map(|scale| f64::from(input.scale) * scale).collect();
        let exact: Vec<f64> = units.iter().map(|unit| unit / f64::from(output.scale)).collect();
        let factors = match multipliers(&exact) {
            Some(Multipliers { mult, pre }) => {
                let held = |mult: i32| f64::from(mult) * 2f64.powi(i32::from(pre) - 32);
                exact.iter().zip(mult).map(|(&exact, mult)| if mult < COARSE { exact } else { held(mult) }).collect()
            }
            None => exact,
        };
        let bias = bias.iter().zip(&units).map(|(&bias, unit)| (f64::from(bias) / unit).round()).collect();
        Requantised { sums, input, output, bias, factors }
    }
}

impl Kernel for Requantised {
    fn run(&self, samples: usize, input: &[f32], output: &mut [f32]) {
        let codes: Vec<f32> = input.iter().map(|x| (x / self.input.scale).round()).collect();
        self.sums.run(samples, &codes, output);
        for row in output.chunks_exact_mut(self.factors.len()) {
            for ((y, bias), factor) in row.iter_mut().zip(&self.bias).zip(&self.factors) {
                *y = real(&self.output, ((f64::from(*y) + bias) * factor + 0.5).floor());
            }
        }
    }
}

/// The sum of two activations of these codes; `None` where no integers express it.
pub(super) fn sum(
    [a, b]: [ActivationCode; 2],
    output: ActivationCode,
) -> Option<impl Fn(f32, f32) -> f32 + Send + Sync + use<>> {
    let factor = |code: ActivationCode| f64::from(code.scale) / f64::from(output.scale);
    let (ma, mb, shift) = add_multipliers(factor(a), factor(b))?;
    let [ma, mb, unit] = [f64::from(ma), f64::from(mb), 2f64.powi(shift.into())];
    let code = |x: f32, scale: f32| f64::from((x / scale).round());
    Some(move |x, y| real(&output, ((code(x, a.scale) * ma + code(y, b.scale) * mb) / unit + 0.5).floor()))
}

/// What the code stands for that is so far from the zero point, or the nearest that there is.
fn real(code: &ActivationCode, from_zero: f64) -> f32 {
    let zero = f64::from(code.zero);
    code.scale * (from_zero.clamp(-zero, f64::from(code.max_code()) - zero) as f32)
}
