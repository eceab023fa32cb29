//! What a backend can express: which numbers share a scale, where zero lies, which scales there are (Li et al., *MQBench:
//! Towards Reproducible and Deployable Model Quantization Benchmark*, NeurIPS 2021, section 3). The runtime here runs all of
//! them; others do not, and what a quantiser is worth depends on it.

use serde::{Deserialize, Serialize};

use super::ActivationCode;
use super::observer::code_for_range;

/// One kind of integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scheme {
    /// Which weights share a scale.
    pub granularity: Granularity,
    /// Where activations have their zero.
    pub zeros: Zeros,
    /// Which scales there are, of weights and activations.
    pub scales: Scales,
}

/// Which weights share a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Granularity {
    /// Those of an output channel.
    Channel,
    /// Those of a layer.
    Tensor,
}

/// Where activations have their zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Zeros {
    /// Where the range puts it.
    Anywhere,
    /// At the lowest code where there are no negative numbers, else in the middle of the codes.
    Fixed,
}

/// Which scales there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scales {
    /// All.
    Real,
    /// Powers of two: requantising is a shift.
    PowersOfTwo,
}

impl Scales {
    /// The nearest scale that there is, by ratio.
    pub(crate) fn nearest(self, scale: f64) -> f64 {
        match self {
            Scales::PowersOfTwo if scale > 0.0 => scale.log2().round().exp2(),
            Scales::PowersOfTwo | Scales::Real => scale,
        }
    }
}

impl Scheme {
    /// As free as the runtime is.
    pub const FINEST: Scheme =
        Scheme { granularity: Granularity::Channel, zeros: Zeros::Anywhere, scales: Scales::Real };

    /// The code of activations between `lo` and `hi`, widened to contain 0.
    pub(super) fn code(&self, lo: f32, hi: f32, bits: u8) -> ActivationCode {
        let code = match self.zeros {
            Zeros::Fixed if lo < 0.0 => {
                let middle = 1u8 << (bits - 1);
                let positive = f32::from((middle - 1).max(1));
                let scale = (hi / positive).max(-lo / f32::from(middle));
                ActivationCode { scale, zero: middle, bits }
            }
            Zeros::Anywhere | Zeros::Fixed => code_for_range(lo, hi, bits),
        };
        match self.scales {
            Scales::Real => code,
            Scales::PowersOfTwo => {
                let scale = self.scales.nearest(code.scale.into()) as f32;
                // The zero point moves with the scale, so that the range stays about where it was.
                let zero = match self.zeros {
                    Zeros::Fixed => code.zero,
                    Zeros::Anywhere => (-lo.min(0.0) / scale).round().min(code.max_code().into()) as u8,
                };
                ActivationCode { scale, zero, bits }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn codes_are_of_their_scheme(lo in -9.0f32..0.0, hi in 0.01f32..9.0, bits in 2u8..=8) {
            let scheme = |zeros, scales| Scheme { zeros, scales, ..Scheme::FINEST };
            prop_assert_eq!(Scheme::FINEST.code(lo, hi, bits), code_for_range(lo, hi, bits));
            let fixed = scheme(Zeros::Fixed, Scales::Real);
            prop_assert_eq!(fixed.code(lo.min(-0.01), hi, bits).zero, 1 << (bits - 1));
            prop_assert_eq!(fixed.code(0.0, hi, bits).zero, 0);
            for zeros in [Zeros::Anywhere, Zeros::Fixed] {
                let code = scheme(zeros, Scales::Real).code(lo, hi, bits);
                let reach = |code: &ActivationCode| [code.decode(0), code.decode(code.max_code())];
                prop_assert!(reach(&code)[0] <= lo + code.scale && reach(&code)[1] >= hi - code.scale);
                let exponent = scheme(zeros, Scales::PowersOfTwo).code(lo, hi, bits).scale.log2();
                prop_assert_eq!(exponent, exponent.round());
            }
        }
    }
}
