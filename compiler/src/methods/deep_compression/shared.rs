//! Weights of a layer that share a few values, which are trained.
//!
//! The paper begins with k-means of the weights and trains the values alone. Here a [`crate::quant::CodeBank`] chooses values
//! and rounds to them by what the layer's output loses, and weights move too, and go over to another value when that is
//! nearer.

use crate::quant::{Quantized, WeightCodes};
use crate::train::method::Method;
use crate::train::net::{Net, NetError};
use crate::train::parameter::{Parameter, Role};
use crate::train::weight_map::WeightMap;

/// Magnitude of the largest level, which stands for a value of 1.
const TOP: f32 = 127.0;

/// Lets the weights of every layer share values while a network is trained, from these codes on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sharing<'a> {
    /// All weights by codebooks.
    pub(super) start: &'a Quantized,
}

impl Method for Sharing<'_> {
    fn identity(&self) -> String {
        format!("{:?}", self.start.weights)
    }

    fn attach(&self, net: &mut Net) -> Result<(), NetError> {
        for (&layer, codes) in &self.start.weights {
            net.map_weights(layer, Box::new(SharedValues::of(codes)))?;
        }
        Ok(())
    }
}

/// Every weight as the nearest of a few values; those that were 0 stay so, where that is one of them.
struct SharedValues {
    /// The values at first, 0 apart.
    start: Vec<f32>,
    zero: Zero,
    /// What values are multiplied with, one an output channel.
    scales: Vec<f32>,
}

impl SharedValues {
    fn of(codes: &WeightCodes) -> SharedValues {
        let values = codes.codebook.iter().filter(|&&level| level != 0);
        SharedValues {
            start: values.map(|&level| f32::from(level) / TOP).collect(),
            zero: Zero::of(codes),
            scales: codes.scales.iter().map(|scale| scale * TOP).collect(),
        }
    }

    fn row(&self, weights: usize) -> usize {
        (weights / self.scales.len().max(1)).max(1)
    }
}

/// Whether weights may be 0: a value that is not trained.
#[derive(Clone, Copy, PartialEq)]
enum Zero {
    Among,
    Absent,
}

impl Zero {
    fn of(codes: &WeightCodes) -> Zero {
        if codes.codebook.contains(&0) { Zero::Among } else { Zero::Absent }
    }
}

/// Values as they will be stored.
struct Values {
    levels: Vec<i8>,
    zero: Zero,
}

impl Values {
    fn new(values: &[f32], zero: Zero) -> Values {
        Values { levels: values.iter().map(|value| (value * TOP).round().clamp(-TOP, TOP) as i8).collect(), zero }
    }

    fn is_pruned(&self, weight: f32) -> bool {
        self.zero == Zero::Among && weight == 0.0
    }

    /// The number of the value nearest to `weight`, none for 0, and its level.
    fn nearest(&self, weight: f32) -> (Option<usize>, i8) {
        let place = weight * TOP;
        let start = if self.zero == Zero::Among { place.abs() } else { f32::INFINITY };
        let (mut best, mut distance) = ((None, 0), start);
        for (at, &level) in self.levels.iter().enumerate().filter(|_| !self.is_pruned(weight)) {
            let apart = (place - f32::from(level)).abs();
            if apart < distance {
                (best, distance) = ((Some(at), level), apart);
            }
        }
        best
    }
}

impl WeightMap for SharedValues {
    fn parameters(&self, prefix: &str) -> Vec<Parameter> {
        vec![Parameter::new(format!("{prefix}.values"), Role::Map, self.start.clone())]
    }

    fn forward(&self, latent: &[f32], own: &[Parameter], weights: &mut [f32]) {
        let values = Values::new(&own[0].values, self.zero);
        let row = self.row(latent.len());
        for ((weights, latent), scale) in weights.chunks_mut(row).zip(latent.chunks(row)).zip(&self.scales) {
            for (weight, latent) in weights.iter_mut().zip(latent) {
                *weight = scale / TOP * f32::from(values.nearest(latent / scale).1);
            }
        }
    }

    /// Values get the gradients of all that share them; weights get their own, as if they shared nothing (the
    /// straight-through estimator), apart from those that were pruned.
    fn backward(&self, latent: &[f32], own: &mut [Parameter], gradient: &mut [f32]) {
        let values = Values::new(&own[0].values, self.zero);
        let sums = &mut own[0].gradient;
        let row = self.row(latent.len());
        for ((gradient, latent), scale) in gradient.chunks_mut(row).zip(latent.chunks(row)).zip(&self.scales) {
            for (g, latent) in gradient.iter_mut().zip(latent) {
                if let (Some(at), _) = values.nearest(latent / scale) {
                    sums[at] += *g * scale;
                } else if values.is_pruned(*latent) {
                    *g = 0.0;
                }
            }
        }
    }
}

/// The codes that trained weights, as the layer sees them, stand for: `values` are what they share.
pub(super) fn codes(
    start: &WeightCodes,
    weights: &[f32],
    values: &[f32],
    scales: Vec<f32>,
    bias: Vec<f32>,
) -> WeightCodes {
    let values = Values::new(values, Zero::of(start));
    let rows = weights.chunks((weights.len() / scales.len().max(1)).max(1)).zip(&scales);
    let levels = rows.flat_map(|(row, &scale)| row.iter().map(move |w| (w, scale)));
    let levels = levels.map(|(w, scale)| values.nearest(w / scale / TOP).1).collect();
    let mut codebook = values.levels;
    codebook.extend((values.zero == Zero::Among).then_some(0));
    codebook.sort_unstable();
    codebook.dedup();
    // Entries that no weight has.
    let spare: Vec<i8> = (-127..=127).filter(|level| !codebook.contains(level)).collect();
    codebook.extend(spare.into_iter().take(start.codebook.len().saturating_sub(codebook.len())));
    codebook.sort_unstable();
    WeightCodes { levels, scales, codebook, bias, ..start.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::WeightFormat;

    fn start() -> WeightCodes {
        WeightCodes {
            formats: vec![WeightFormat::Codebook(2); 2],
            levels: vec![0, 127, 0, -60, -60, 40],
            scales: vec![0.01, 0.02],
            codebook: vec![-60, 0, 40, 127],
            bias: vec![0.0; 2],
        }
    }

    #[test]
    fn training_starts_at_the_codes_and_ends_at_what_is_stored() {
        let start = start();
        let shared = SharedValues::of(&start);
        let mut own = shared.parameters("layer");
        let (latent, mut given) = (start.decode(), vec![0.0; 6]);
        shared.forward(&latent, &own, &mut given);
        assert!(given.iter().zip(&latent).all(|(a, b)| (a - b).abs() < 1e-6), "{given:?}");
        assert_eq!(codes(&start, &given, &own[0].values, start.scales.clone(), vec![0.0; 2]), start);

        own[0].values = vec![-0.5, 0.1, 0.8];
        shared.forward(&latent, &own, &mut given);
        assert_eq!((given[0], given[2]), (0.0, 0.0), "what was pruned stays");
        let trained = codes(&start, &given, &own[0].values, start.scales.clone(), vec![0.0; 2]);
        assert!(trained.decode().iter().zip(&given).all(|(a, b)| (a - b).abs() < 1e-6));
        let twice: Vec<f32> = given.iter().map(|w| 2.0 * w).collect();
        let normed = codes(&start, &twice, &own[0].values, vec![0.02, 0.04], vec![0.0; 2]);
        assert_eq!((normed.levels, normed.scales), (trained.levels, vec![0.02, 0.04]));
    }

    #[test]
    fn a_layer_without_zeros_needs_none() {
        let start =
            WeightCodes { codebook: vec![-60, -10, 40, 127], levels: vec![-10, 127, -60, -60, 40, 40], ..start() };
        let shared = SharedValues::of(&start);
        let own = shared.parameters("layer");
        let mut given = vec![0.0; 6];
        shared.forward(&start.decode(), &own, &mut given);
        assert_eq!(codes(&start, &given, &own[0].values, start.scales.clone(), vec![0.0; 2]), start);
    }

    #[test]
    fn values_get_the_gradients_of_their_weights() {
        let start = start();
        let shared = SharedValues::of(&start);
        let mut own = shared.parameters("layer");
        let mut gradient = vec![1.0, 2.0, 4.0, 8.0, 16.0, 32.0];
        shared.backward(&start.decode(), &mut own, &mut gradient);
        let expected = [24.0 * 0.02 * TOP, 32.0 * 0.02 * TOP, 2.0 * 0.01 * TOP];
        assert!(own[0].gradient.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-4), "{:?}", own[0].gradient);
        assert_eq!(gradient, [0.0, 2.0, 0.0, 8.0, 16.0, 32.0]);
    }
}
