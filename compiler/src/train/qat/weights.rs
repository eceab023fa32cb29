//! The weights of a layer as the small integers that will stand for them.

use super::estimator::{Estimator, damping, step};
use crate::quant::{Granularity, Levels, Scheme, WeightCodes};
use crate::train::parameter::{Parameter, Role, USUAL};
use crate::train::weight_map::WeightMap;

/// Share of a cell's width that weights keep from its ends where they start: those that data-aware rounding has put into
/// another cell than their own would all return in the first steps otherwise, before training has found anything better.
const MARGIN: f64 = 0.25;

/// Every weight as the nearest level of its channel.
///
/// A channel's step, or the layer's where all channels share one, is told by its ratio to where it started, so that one
/// learning rate suits all layers, whatever the magnitude of their inputs; the latent weights have a unit for that
/// ([`Parameter::unit`]).
pub(super) struct CodedWeights {
    levels: Vec<Levels>,
    scales: Vec<f32>,
    estimator: Estimator,
    scheme: Scheme,
}

impl CodedWeights {
    /// Starts at the formats and steps of `codes`.
    pub(super) fn new(codes: &WeightCodes, estimator: Estimator, scheme: Scheme) -> Self {
        let levels = (0..codes.formats.len()).map(|channel| codes.levels_of(channel)).collect();
        CodedWeights { levels, scales: codes.scales.clone(), estimator, scheme }
    }

    /// Channels that share a step.
    fn sharing(&self) -> usize {
        match self.scheme.granularity {
            Granularity::Channel => 1,
            Granularity::Tensor => self.levels.len().max(1),
        }
    }

    /// Each channel's levels, step and place among the weights.
    fn rows<'a>(&'a self, own: &'a [Parameter], len: usize) -> impl Iterator<Item = Row<'a>> {
        let width = len / self.levels.len().max(1);
        let scales = steps(&self.scales, &own[0].values, self.scheme);
        let channels = self.levels.iter().zip(scales).enumerate();
        channels.map(move |(o, (levels, scale))| Row { levels, scale, place: o * width..(o + 1) * width })
    }
}

struct Row<'a> {
    levels: &'a Levels,
    scale: f32,
    place: std::ops::Range<usize>,
}

impl WeightMap for CodedWeights {
    fn parameters(&self, prefix: &str) -> Vec<Parameter> {
        vec![Parameter::new(format!("{prefix}.steps"), Role::Map, vec![0.0; self.levels.len() / self.sharing()])]
    }

    fn forward(&self, latent: &[f32], own: &[Parameter], weights: &mut [f32]) {
        for Row { levels, scale, place } in self.rows(own, latent.len()) {
            for (weight, latent) in weights[place.clone()].iter_mut().zip(&latent[place]) {
                *weight = scale * f32::from(nearest(levels, *latent, scale));
            }
        }
    }

    fn backward(&self, latent: &[f32], own: &mut [Parameter], gradient: &mut [f32]) {
        let mut slopes = Vec::with_capacity(self.levels.len());
        for Row { levels, scale, place } in self.rows(own, latent.len()) {
            let (low, high) = levels.span();
            let (low, high) = (low as f32, high as f32);
            let mut total = 0.0;
            let damping = damping(place.len() * self.sharing(), levels.top() as f32);
            for (g, &weight) in gradient[place.clone()].iter_mut().zip(&latent[place]) {
                let position = weight / scale;
                let inside = (low..=high).contains(&position);
                let rounded = f32::from(nearest(levels, weight, scale));
                total += *g * self.estimator.slope(position, rounded, inside);
                *g = if inside { *g } else { 0.0 };
            }
            slopes.push(total * scale * damping / USUAL);
        }
        let shared = slopes.chunks(self.sharing());
        own[0].gradient.iter_mut().zip(shared).for_each(|(sum, slopes)| *sum += slopes.iter().sum::<f32>());
    }
}

/// The step of each channel, from where it started and what is trained of it, or of the one that all share.
pub(super) fn steps(start: &[f32], trained: &[f32], scheme: Scheme) -> Vec<f32> {
    let sharing = (start.len() / trained.len().max(1)).max(1);
    start
        .iter()
        .enumerate()
        .map(|(o, &scale)| step(scale, trained.get(o / sharing).copied().unwrap_or(0.0), scheme.scales))
        .collect()
}

/// The codes that trained weights, as the layer sees them, stand for.
pub(super) fn codes(start: &WeightCodes, weights: &[f32], scales: Vec<f32>, bias: Vec<f32>) -> WeightCodes {
    let width = weights.len() / scales.len().max(1);
    let channels = weights.chunks_exact(width.max(1)).zip(&scales).enumerate();
    let levels = channels.flat_map(|(o, (row, &scale))| {
        let levels = start.levels_of(o);
        row.iter().map(move |&weight| nearest(&levels, weight, scale)).collect::<Vec<_>>()
    });
    WeightCodes { levels: levels.collect(), scales, bias, ..start.clone() }
}

/// Latent weights that are as near to `weights` as those can be that stand well within the cells of `codes`.
pub(super) fn latent(codes: &WeightCodes, weights: &[f32]) -> Vec<f32> {
    let width = weights.len() / codes.scales.len().max(1);
    let levels: Vec<Levels> = (0..codes.scales.len()).map(|channel| codes.levels_of(channel)).collect();
    let all = weights.iter().zip(&codes.levels).enumerate();
    all.map(|(i, (&weight, &level))| {
        let (levels, scale) = (&levels[i / width], codes.scales[i / width]);
        let ((low, high), (bottom, top)) = (levels.cell(level), levels.span());
        let margin = MARGIN * (high - low);
        let low = if low > bottom { low + margin } else { f64::NEG_INFINITY };
        let high = if high < top { high - margin } else { f64::INFINITY };
        ((f64::from(weight) / f64::from(scale)).clamp(low, high) * f64::from(scale)) as f32
    })
    .collect()
}

fn nearest(levels: &Levels, weight: f32, scale: f32) -> i8 {
    levels.nearest(f64::from(weight) / f64::from(scale))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::WeightFormat;

    fn layer() -> (WeightCodes, Vec<f32>) {
        let formats = vec![
            WeightFormat::Linear(1),
            WeightFormat::Ternary,
            WeightFormat::Linear(2),
            WeightFormat::Linear(4),
            WeightFormat::Codebook(2),
        ];
        let scales = vec![0.4, 0.3, 0.2, 0.11, 0.01];
        let codes = WeightCodes {
            levels: vec![1, -1, 1, 1, 0, -1, 3, 1, -1, 7, -3, 0, -100, -20, 30],
            codebook: vec![-100, -20, 30, 127],
            bias: vec![0.0; 5],
            formats,
            scales,
        };
        let weights = (0..15).map(|i| (i as f32 * 2.3).sin()).collect();
        (codes, weights)
    }

    #[test]
    fn training_starts_at_the_codes() {
        let (start, weights) = layer();
        let latent = latent(&start, &weights);
        let map = CodedWeights::new(&start, Estimator::Lsq, Scheme::FINEST);
        let own = map.parameters("a");
        let mut coded = vec![0.0; weights.len()];
        map.forward(&latent, &own, &mut coded);
        assert_eq!(coded, start.decode());
        let scales = steps(&start.scales, &own[0].values, Scheme::FINEST);
        assert_eq!(codes(&start, &coded, scales, start.bias.clone()), start);
    }

    /// A code scales with number and step alike, so `x dq/dx + s dq/ds` is `q` (Euler); as rounding counts as the
    /// identity within the range and as a constant beyond it, that tells what the slope by the step is.
    #[test]
    fn slopes_of_steps_follow_from_those_of_weights() {
        let (start, weights) = layer();
        let map = CodedWeights::new(&start, Estimator::Lsq, Scheme::FINEST);
        let latent = weights;
        let mut own = map.parameters("a");
        own[0].values = vec![0.1, -0.2, 0.05, -0.1, 0.3];
        let mut coded = vec![0.0; latent.len()];
        map.forward(&latent, &own, &mut coded);
        let by_coded: Vec<f32> = (0..15).map(|i| (i as f32).cos()).collect();
        let mut by_latent = by_coded.clone();
        map.backward(&latent, &mut own, &mut by_latent);
        assert!(by_latent.contains(&0.0) && by_latent != vec![0.0; 15]);
        for (o, levels) in map.levels.iter().enumerate() {
            let place = o * 3..(o + 1) * 3;
            let sum: f32 = place.map(|i| by_coded[i] * coded[i] - by_latent[i] * latent[i]).sum();
            let expected = sum * damping(3, levels.top() as f32) / USUAL;
            assert!((own[0].gradient[o] - expected).abs() < 1e-4, "{} against {expected}", own[0].gradient[o]);
        }
    }
}
