//! How much noise quantisation leaves in every activation: signal-to-quantisation-noise ratio of the
//! float network against the fake-quantised one, end to end.

use std::collections::BTreeMap;

use super::{EvalError, Net, elements};
use crate::ir::ValueId;

/// `10 log10(sum x² / sum (x - y)²)` in decibels for every activation, `x` from `float` and `y` from
/// `quantized`, over `n` samples; infinite where nothing differs.
pub fn sqnr(float: &Net, quantized: &Net, batch: &[f32], n: usize) -> Result<BTreeMap<ValueId, f64>, EvalError> {
    let mut powers: BTreeMap<ValueId, Powers> = BTreeMap::new();
    let strip = float.strip_samples() * float.sample_len();
    float.check(batch, n)?;
    for samples in batch.chunks(strip.max(1)) {
        let count = samples.len() / float.sample_len().max(1);
        let mut exact = BTreeMap::new();
        float.forward_observed(samples, count, &mut |value, tensor| {
            exact.insert(value, elements(tensor).unwrap_or_default());
        })?;
        quantized.forward_observed(samples, count, &mut |value, tensor| {
            let (Some(x), Ok(y)) = (exact.get(&value), elements(tensor)) else { return };
            powers.entry(value).or_default().add(x, &y);
        })?;
    }
    Ok(powers.into_iter().map(|(value, powers)| (value, powers.decibels())).collect())
}

#[derive(Default)]
struct Powers {
    signal: f64,
    noise: f64,
}

impl Powers {
    fn add(&mut self, x: &[f32], y: &[f32]) {
        for (&x, &y) in x.iter().zip(y) {
            self.signal += f64::from(x) * f64::from(x);
            self.noise += f64::from(x - y) * f64::from(x - y);
        }
    }

    fn decibels(&self) -> f64 {
        10.0 * (self.signal / self.noise).log10()
    }
}
