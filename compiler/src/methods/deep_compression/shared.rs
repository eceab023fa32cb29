//! Weights of a layer that share a few values: k-means over those that are not 0, then both are trained.
//!
//! The paper trains the values alone. Here weights move too, and go over to another value when that is nearer: of ResNet-8
//! at 16 values a layer, that keeps four points more of CIFAR-10 in three epochs.

use crate::policy::WeightFormat;
use crate::quant::WeightCodes;
use crate::train::method::Method;
use crate::train::net::{Net, NetError};
use crate::train::parameter::{Parameter, Role};
use crate::train::weight_map::WeightMap;

/// Rounds of k-means at most.
const ROUNDS: usize = 50;
/// Magnitude of the largest level.
const TOP: f32 = 127.0;

/// Lets the weights of every layer share values while a network is trained.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sharing {
    /// Values a layer, 0 among them: 2^bits.
    pub(super) bits: u8,
}

impl Method for Sharing {
    fn identity(&self) -> String {
        format!("{self:?}")
    }

    fn attach(&self, net: &mut Net) -> Result<(), NetError> {
        for (layer, _) in net.layers() {
            let Some(latent) = net.latent(layer) else { continue };
            let scales = scales(&latent.values, net.row_len(layer), net.is_conv(layer));
            let shared = SharedValues::of(&latent.values, scales, (1 << self.bits) - 1);
            net.map_weights(layer, Box::new(shared))?;
        }
        Ok(())
    }
}

/// Every weight as the nearest of a few values; those that were 0 stay so.
struct SharedValues {
    /// The values at first.
    start: Vec<f32>,
    /// What the values are multiplied with, one an output channel.
    scales: Vec<f32>,
}

/// One factor an output channel. Those of convolutions differ, as norms were folded into them: the root of the mean square
/// of the weights that are not 0. Those of fully connected layers are 1, which takes no room.
pub(super) fn scales(weights: &[f32], row: usize, is_conv: bool) -> Vec<f32> {
    let scale = |row: &[f32]| {
        let squares = row.iter().map(|w| w * w);
        let present = row.iter().filter(|&&w| w != 0.0).count();
        let mean = squares.sum::<f32>() / present.max(1) as f32;
        if is_conv && mean > 0.0 { mean.sqrt() } else { 1.0 }
    };
    weights.chunks(row.max(1)).map(scale).collect()
}

/// Every weight over the factor of its channel.
fn unscaled(weights: &[f32], scales: &[f32]) -> Vec<f32> {
    let rows = weights.chunks((weights.len() / scales.len().max(1)).max(1)).zip(scales);
    rows.flat_map(|(row, &scale)| row.iter().map(move |w| w / scale)).collect()
}

impl SharedValues {
    /// Of `count` values at most, spread evenly from the least to the greatest weight at first: so the few large weights,
    /// which matter most, get some of them (Han et al. 2016, section 3.2).
    fn of(weights: &[f32], scales: Vec<f32>, count: usize) -> SharedValues {
        let weights = &unscaled(weights, &scales)[..];
        let (least, most) = bounds(weights);
        let at = |i: usize| least + (most - least) * (i as f32 + 0.5) / count as f32;
        let mut values: Vec<f32> = (0..count).map(at).collect();
        let mut place = Vec::new();
        for _ in 0..ROUNDS {
            let nearer = places(weights, &values);
            if nearer == place {
                break;
            }
            place = nearer;
            let mut sums = vec![(0.0f64, 0u32); count + 1];
            for (&w, &place) in weights.iter().zip(&place) {
                let (sum, n) = &mut sums[usize::from(place)];
                (*sum, *n) = (*sum + f64::from(w), *n + 1);
            }
            for (value, (sum, n)) in values.iter_mut().zip(&sums[1..]).filter(|(_, (_, n))| *n > 0) {
                *value = (sum / f64::from(*n)) as f32;
            }
            values.sort_by(f32::total_cmp);
        }
        SharedValues { start: values, scales }
    }
}

/// The least and the greatest weight that is not 0.
fn bounds(weights: &[f32]) -> (f32, f32) {
    let present = weights.iter().filter(|&&w| w != 0.0);
    present.fold((f32::INFINITY, f32::NEG_INFINITY), |(least, most), &w| (least.min(w), most.max(w)))
}

/// The number of the nearest of ascending values, from 1 on; 0 for 0.
fn places(weights: &[f32], values: &[f32]) -> Vec<u8> {
    let place = |&w: &f32| {
        if w == 0.0 {
            return 0;
        }
        let above = values.partition_point(|&value| value < w);
        let below = above.saturating_sub(1);
        let closer = above == values.len() || (w - values[below]).abs() <= (values[above] - w).abs();
        1 + if closer { below } else { above } as u8
    };
    weights.iter().map(place).collect()
}

/// Values as they will be stored: multiples of the step of the largest, and that.
fn levels(values: &[f32]) -> (Vec<i8>, f32) {
    let largest = values.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    let step = if largest > 0.0 { largest / TOP } else { 1.0 };
    (values.iter().map(|value| (value / step).round() as i8).collect(), step)
}

/// The number of the nearest value of each weight, none for 0, and what it comes to.
fn nearest<'a>(weights: &'a [f32], values: &'a [i8], step: f32) -> impl Iterator<Item = Option<(usize, i8)>> + 'a {
    weights.iter().map(move |&w| {
        let level = w / step;
        let distance = |at: usize| (level - f32::from(values[at])).abs();
        let nearest = (0..values.len()).min_by(|&a, &b| distance(a).total_cmp(&distance(b)));
        nearest.filter(|_| w != 0.0).map(|at| (at, values[at]))
    })
}

impl WeightMap for SharedValues {
    fn parameters(&self, prefix: &str) -> Vec<Parameter> {
        vec![Parameter::new(format!("{prefix}.values"), Role::Map, self.start.clone())]
    }

    fn forward(&self, latent: &[f32], own: &[Parameter], weights: &mut [f32]) {
        let (levels, step) = levels(&own[0].values);
        let row = (latent.len() / self.scales.len().max(1)).max(1);
        let channels = weights.chunks_mut(row).zip(latent.chunks(row)).zip(&self.scales);
        for ((weights, latent), scale) in channels {
            for (weight, value) in weights.iter_mut().zip(nearest(latent, &levels, step * scale)) {
                *weight = value.map_or(0.0, |(_, level)| step * scale * f32::from(level));
            }
        }
    }

    /// Values get the gradients of all that share them; weights get their own, as if they shared nothing (the
    /// straight-through estimator).
    fn backward(&self, latent: &[f32], own: &mut [Parameter], gradient: &mut [f32]) {
        let (levels, step) = levels(&own[0].values);
        let sums = &mut own[0].gradient;
        let row = (latent.len() / self.scales.len().max(1)).max(1);
        for ((gradient, latent), scale) in gradient.chunks_mut(row).zip(latent.chunks(row)).zip(&self.scales) {
            for (g, value) in gradient.iter_mut().zip(nearest(latent, &levels, step * scale)) {
                match value {
                    Some((at, _)) => sums[at] += *g * scale,
                    None => *g = 0.0,
                }
            }
        }
    }
}

/// The codes of a layer's weights, which over the `scales` of their channels have some of these values or are 0; `bias` is
/// one a channel.
pub(super) fn codes(weights: &[f32], scales: &[f32], values: &[f32], bias: Vec<f32>, bits: u8) -> WeightCodes {
    let (values, step) = levels(values);
    let rows = weights.chunks((weights.len() / scales.len().max(1)).max(1)).zip(scales);
    let levels = rows.flat_map(|(row, scale)| nearest(row, &values, step * scale));
    let levels = levels.map(|value| value.map_or(0, |(_, level)| level)).collect();
    let mut codebook = values.clone();
    codebook.push(0);
    codebook.sort_unstable();
    codebook.dedup();
    // Entries that no weight has.
    let spare: Vec<i8> = (-127..=127).filter(|level| !codebook.contains(level)).collect();
    codebook.extend(spare.into_iter().take((1usize << bits).saturating_sub(codebook.len())));
    codebook.sort_unstable();
    let formats = vec![WeightFormat::Codebook(bits); bias.len()];
    WeightCodes { formats, levels, scales: scales.iter().map(|of| of * step).collect(), codebook, bias }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_get_the_mean_of_those_near_them_and_zeros_stay() {
        let weights = [1.0, 1.2, 0.0, -2.0, -2.2, 5.0];
        let shared = SharedValues::of(&weights, vec![1.0], 3);
        let own = shared.parameters("layer");
        let mut given = vec![0.0; weights.len()];
        shared.forward(&weights, &own, &mut given);
        let step = 5.0 / 127.0;
        assert!(given.iter().zip([1.1, 1.1, 0.0, -2.1, -2.1, 5.0]).all(|(a, b)| (a - b).abs() <= 0.5 * step));
        assert_eq!(given[2], 0.0);
        let codes = codes(&given, &[1.0], &own[0].values, vec![0.0], 2);
        assert_eq!(codes.decode(), given, "what is trained is what is stored");
    }

    #[test]
    fn values_get_the_gradients_of_their_weights() {
        let shared = SharedValues::of(&[1.0, 1.0, 0.0, 6.0], vec![1.0, 2.0], 2);
        let mut own = shared.parameters("layer");
        let mut gradient = vec![1.0, 2.0, 4.0, 8.0];
        shared.backward(&[1.0, 1.0, 0.0, 6.0], &mut own, &mut gradient);
        assert_eq!((own[0].gradient.as_slice(), gradient.as_slice()), (&[3.0, 16.0][..], &[1.0, 2.0, 0.0, 8.0][..]));
    }

    #[test]
    fn codes_are_the_values_to_a_step_of_the_largest() {
        let weights = [0.5, -1.0, 0.0, 0.5];
        let codes = codes(&weights, &[1.0; 2], &[0.5, -1.0], vec![0.0; 2], 2);
        assert_eq!(codes.codebook.len(), 4);
        assert!(codes.levels.iter().all(|level| codes.codebook.contains(level)) && codes.codebook.contains(&0));
        assert!(codes.decode().iter().zip(weights).all(|(a, b)| (a - b).abs() <= 0.5 / 127.0));
    }
}
