//! An activation as the codes that will stand for it.

use super::estimator::{Estimator, damping, step};
use crate::quant::{ActivationCode, Scales};
use crate::train::activation_map::ActivationMap;
use crate::train::parameter::{Parameter, Role, USUAL};
use crate::train::simd::{Arithmetic, LANES, Work, dispatch};

/// Numbers whose slopes are added up in single precision.
const BLOCK: usize = 64 * LANES;

/// Every number as its code, rounded as by [`crate::eval::Net::fake_quantized`].
pub(super) struct CodedActivation {
    start: ActivationCode,
    /// None where the step is given.
    estimator: Option<Estimator>,
    scales: Scales,
    damping: f32,
}

impl CodedActivation {
    /// A code whose step is trained from here on, by its ratio to this one, for activations of so
    /// many numbers.
    pub(super) fn trained(start: ActivationCode, estimator: Estimator, scales: Scales, numbers: usize) -> Self {
        let damping = damping(numbers, f32::from(start.max_code()));
        CodedActivation { start, estimator: Some(estimator), scales, damping }
    }

    /// A code that stays.
    pub(super) fn fixed(code: ActivationCode) -> Self {
        CodedActivation { start: code, estimator: None, scales: Scales::Real, damping: 0.0 }
    }

    /// The code that its parameters say.
    pub(super) fn code(start: ActivationCode, own: &[Parameter], scales: Scales) -> ActivationCode {
        let trained = own.first().map(|step| step.values[0]);
        ActivationCode { scale: trained.map_or(start.scale, |trained| step(start.scale, trained, scales)), ..start }
    }
}

impl ActivationMap for CodedActivation {
    fn parameters(&self, prefix: &str) -> Vec<Parameter> {
        let step = || Parameter::new(format!("{prefix}.step"), Role::Map, vec![0.0]);
        self.estimator.map(|_| step()).into_iter().collect()
    }

    fn forward(&self, numbers: &[f32], own: &[Parameter], mapped: &mut [f32]) {
        dispatch(Round { code: Self::code(self.start, own, self.scales), numbers, mapped });
    }

    fn backward(&self, numbers: &[f32], own: &[Parameter], gradient: &mut [f32], sums: &mut [f64]) {
        let code = Self::code(self.start, own, self.scales);
        let estimator = self.estimator.unwrap_or(Estimator::Pact);
        let total = dispatch(Slope { code, estimator, numbers, gradient });
        if let Some(sum) = sums.first_mut() {
            *sum += total * f64::from(code.scale * self.damping / USUAL);
        }
    }
}

/// Numbers to codes.
struct Round<'a> {
    code: ActivationCode,
    numbers: &'a [f32],
    mapped: &'a mut [f32],
}

impl Work for Round<'_> {
    type Output = ();

    #[inline(always)]
    fn run<A: Arithmetic, const R: usize, const V: usize>(self) {
        let (zero, top) = (f32::from(self.code.zero), f32::from(self.code.max_code()));
        for (mapped, x) in self.mapped.iter_mut().zip(self.numbers) {
            let position = (x / self.code.scale + zero).max(0.0).min(top);
            *mapped = self.code.scale * (round(position) - zero);
        }
    }
}

/// The gradient by the numbers, in place; answers with the sum of the slopes by the step.
struct Slope<'a> {
    code: ActivationCode,
    estimator: Estimator,
    numbers: &'a [f32],
    gradient: &'a mut [f32],
}

impl Slope<'_> {
    #[inline(always)]
    fn one(code: ActivationCode, estimator: Estimator, x: f32, gradient: &mut f32) -> f32 {
        let (zero, top) = (f32::from(code.zero), f32::from(code.max_code()));
        let position = x / code.scale;
        let inside = position > -zero - 0.5 && position < top - zero + 0.5;
        let rounded = round((position + zero).max(0.0).min(top)) - zero;
        let slope = *gradient * estimator.slope(position, rounded, inside);
        *gradient = if inside { *gradient } else { 0.0 };
        slope
    }
}

impl Work for Slope<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<A: Arithmetic, const R: usize, const V: usize>(self) -> f64 {
        let Slope { code, estimator, numbers, gradient } = self;
        let mut total = 0.0;
        for (numbers, gradient) in numbers.chunks(BLOCK).zip(gradient.chunks_mut(BLOCK)) {
            let mut sums = [0.0f32; LANES];
            let ((numbers, last), (gradient, last_gradient)) = (numbers.as_chunks(), gradient.as_chunks_mut());
            for (numbers, gradient) in numbers.iter().zip(gradient) {
                let (numbers, gradient): (&[f32; LANES], &mut [f32; LANES]) = (numbers, gradient);
                for lane in 0..LANES {
                    sums[lane] += Self::one(code, estimator, numbers[lane], &mut gradient[lane]);
                }
            }
            for (sum, (x, g)) in sums.iter_mut().zip(last.iter().zip(last_gradient)) {
                *sum += Self::one(code, estimator, *x, g);
            }
            total += sums.iter().map(|&sum| f64::from(sum)).sum::<f64>();
        }
        total
    }
}

/// Half away from zero, of numbers from 0 to 255: as [`ActivationCode::encode`].
#[inline(always)]
fn round(position: f32) -> f32 {
    (position + 0.5) as i32 as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: ActivationCode = ActivationCode { scale: 0.1, zero: 5, bits: 4 };

    fn numbers() -> Vec<f32> {
        (0..2500).map(|i| (i as f32 * 1.3).sin() * 1.7).collect()
    }

    #[test]
    fn numbers_are_their_codes() {
        let map = CodedActivation::fixed(START);
        let mut mapped = vec![0.0; 2500];
        map.forward(&numbers(), &[], &mut mapped);
        let expected: Vec<f32> = numbers().iter().map(|&x| START.decode(START.encode(x))).collect();
        assert_eq!(mapped, expected);
        assert!(map.parameters("x").is_empty());
    }

    /// See the test of the same name for weights.
    #[test]
    fn slopes_of_steps_follow_from_those_of_numbers() {
        let map = CodedActivation::trained(START, Estimator::Lsq, Scales::Real, 100);
        let mut own = map.parameters("x");
        own[0].values[0] = 0.2;
        let x = numbers();
        let mut q = vec![0.0; 2500];
        map.forward(&x, &own, &mut q);
        let by_q: Vec<f32> = (0..2500).map(|i| (i as f32 * 0.7).cos()).collect();
        let mut by_x = by_q.clone();
        let mut sums = [0.0];
        map.backward(&x, &own, &mut by_x, &mut sums);
        assert!(by_x.contains(&0.0));
        let terms = (0..2500).map(|i| f64::from(by_q[i] * q[i]) - f64::from(by_x[i] * x[i]));
        let expected = terms.sum::<f64>() * f64::from(damping(100, 15.0) / USUAL);
        assert!((sums[0] - expected).abs() < 1e-3 * expected.abs().max(1.0), "{} against {expected}", sums[0]);
        // PACT hears of clipped numbers alone.
        let pact = CodedActivation::trained(START, Estimator::Pact, Scales::Real, 100);
        let mut sums = [0.0];
        pact.backward(&x, &own, &mut by_q.clone(), &mut sums);
        let clipped = (0..2500).filter(|&i| by_x[i] == 0.0).map(|i| f64::from(by_q[i] * q[i]));
        let expected = clipped.sum::<f64>() * f64::from(damping(100, 15.0) / USUAL);
        assert!((sums[0] - expected).abs() < 1e-3 * expected.abs().max(1.0), "{} against {expected}", sums[0]);
    }
}
