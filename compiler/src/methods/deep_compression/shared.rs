//! Weights of a layer that share a few values: k-means over those that are not 0, the values then trained.

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

/// Which of a few values each weight has.
struct SharedValues {
    /// Number of the value of each weight, from 1 on; 0 for weights that stay 0.
    place: Vec<u8>,
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
        SharedValues { place: places(weights, &values), start: values, scales }
    }
}

impl SharedValues {
    fn row(&self) -> usize {
        (self.place.len() / self.scales.len().max(1)).max(1)
    }
}

/// The least and the greatest weight that is not 0.
fn bounds(weights: &[f32]) -> (f32, f32) {
    let present = weights.iter().filter(|&&w| w != 0.0);
    present.fold((f32::INFINITY, f32::NEG_INFINITY), |(least, most), &w| (least.min(w), most.max(w)))
}

/// The number of the nearest of ascending values, from 1 on; 0 for 0.
fn places(weights: &[f32], values: &[f32]) -> Vec<u8> {
    let nearest = |w: f32| values.partition_point(|&value| value < w);
    let place = |&w: &f32| {
        if w == 0.0 {
            return 0;
        }
        let above = nearest(w);
        let below = above.saturating_sub(1);
        let closer = above == values.len() || (w - values[below]).abs() <= (values[above] - w).abs();
        1 + if closer { below } else { above } as u8
    };
    weights.iter().map(place).collect()
}

impl WeightMap for SharedValues {
    fn parameters(&self, prefix: &str) -> Vec<Parameter> {
        vec![Parameter::new(format!("{prefix}.values"), Role::Map, self.start.clone())]
    }

    fn forward(&self, _latent: &[f32], own: &[Parameter], weights: &mut [f32]) {
        let values = &own[0].values;
        let row = self.row();
        for ((weights, places), scale) in weights.chunks_mut(row).zip(self.place.chunks(row)).zip(&self.scales) {
            for (weight, &place) in weights.iter_mut().zip(places) {
                *weight = usize::from(place).checked_sub(1).map_or(0.0, |place| scale * values[place]);
            }
        }
    }

    fn backward(&self, _latent: &[f32], own: &mut [Parameter], gradient: &mut [f32]) {
        let sums = &mut own[0].gradient;
        let row = self.row();
        for ((gradient, places), scale) in gradient.chunks_mut(row).zip(self.place.chunks(row)).zip(&self.scales) {
            for (g, &place) in gradient.iter_mut().zip(places) {
                if let Some(place) = usize::from(place).checked_sub(1) {
                    sums[place] += *g * scale;
                }
                *g = 0.0;
            }
        }
    }
}

/// The codes of a layer's weights, which over the factors of their channels have `2^bits` values at most, 0 counted; `bias`
/// is one a channel.
pub(super) fn codes(weights: &[f32], scales: &[f32], bias: Vec<f32>, bits: u8) -> WeightCodes {
    let weights = unscaled(weights, scales);
    let largest = weights.iter().fold(0.0f32, |largest, w| largest.max(w.abs()));
    let scale = if largest > 0.0 { largest / TOP } else { 1.0 };
    let levels: Vec<i8> = weights.iter().map(|w| (w / scale).round() as i8).collect();
    let mut codebook = levels.clone();
    codebook.push(0);
    codebook.sort_unstable();
    codebook.dedup();
    // Entries that no weight has.
    let spare: Vec<i8> = (-127..=127).filter(|level| !codebook.contains(level)).collect();
    codebook.extend(spare.into_iter().take((1usize << bits).saturating_sub(codebook.len())));
    codebook.sort_unstable();
    let formats = vec![WeightFormat::Codebook(bits); bias.len()];
    WeightCodes { formats, levels, scales: scales.iter().map(|of| of * scale).collect(), codebook, bias }
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
        assert_eq!(given, [1.1, 1.1, 0.0, -2.1, -2.1, 5.0]);
    }

    #[test]
    fn values_get_the_gradients_of_their_weights() {
        let shared = SharedValues::of(&[1.0, 1.0, 0.0, 6.0], vec![1.0, 2.0], 2);
        let mut own = shared.parameters("layer");
        let mut gradient = vec![1.0, 2.0, 4.0, 8.0];
        shared.backward(&[0.0; 4], &mut own, &mut gradient);
        assert_eq!((own[0].gradient.as_slice(), gradient.as_slice()), (&[3.0, 16.0][..], &[0.0; 4][..]));
    }

    #[test]
    fn codes_are_the_values_to_a_step_of_the_largest() {
        let weights = [0.5, -1.0, 0.0, 0.5];
        let codes = codes(&weights, &[1.0; 2], vec![0.0; 2], 2);
        assert_eq!(codes.codebook.len(), 4);
        assert!(codes.levels.iter().all(|level| codes.codebook.contains(level)) && codes.codebook.contains(&0));
        assert!(codes.decode().iter().zip(weights).all(|(a, b)| (a - b).abs() <= 0.5 / 127.0));
    }
}
