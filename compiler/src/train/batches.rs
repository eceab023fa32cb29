//! Batches of a data set: which samples in what order, changed how, with what targets.
//!
//! Everything random hangs on the seed, the epoch and the place in it, and on nothing that happened before: an
//! epoch can be repeated from its number alone.

use rayon::prelude::*;

use super::augment::Augmentation;
use super::loss::{Objective, distributions};
use crate::data::Split;
use crate::rng::Pcg32;
use crate::task::Samples;

/// How samples become a batch.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Mix<'a> {
    pub(super) augmentations: &'a [Augmentation],
    /// Of the labels, see [`distributions`].
    pub(super) smoothing: f32,
    /// Two samples as one (Zhang et al. 2018), their shares drawn from `Beta(mixup, mixup)`; 0 for none.
    pub(super) mixup: f32,
    pub(super) objective: Objective,
}

/// Inputs of a network, and what it should answer.
pub(super) struct Batch {
    pub(super) inputs: Vec<f32>,
    /// Distributions over classes, or the inputs again.
    pub(super) targets: Vec<f32>,
    /// Classes; empty where there are none.
    pub(super) labels: Vec<u32>,
}

/// The order of the training samples in an epoch.
pub(super) fn order(samples: &Samples, seed: u64, epoch: usize) -> Vec<u32> {
    let mut order = samples.dataset.split(Split::Train).to_vec();
    Pcg32::new(seed, stream(epoch, 0)).shuffle(&mut order);
    order
}

/// Streams of the generator that an epoch uses: one for the order, one for each sample, one for each batch.
fn stream(epoch: usize, place: usize) -> u64 {
    ((epoch as u64 + 1) << 32) | place as u64
}

impl Batch {
    /// Of these samples, which stand at `place` in the order of `epoch`.
    pub(super) fn new(
        samples: &Samples,
        indices: &[u32],
        mix: &Mix,
        classes: usize,
        seed: u64,
        (epoch, place): (usize, usize),
    ) -> Batch {
        let len = samples.input_len();
        let mut inputs = vec![0.0; indices.len() * len];
        let image = image_shape(&samples.dataset.sample_shape, len);
        inputs.par_chunks_exact_mut(len).zip(indices).enumerate().for_each(|(i, (input, &index))| {
            let rng = &mut Pcg32::new(seed, stream(epoch, 1 + place + i));
            samples.read_window(index, rng, input);
            let mut spare = Vec::new();
            for augmentation in mix.augmentations {
                augmentation.apply(input, image, &mut spare, rng);
            }
        });
        let labels: Vec<u32> = indices.iter().filter_map(|&index| samples.dataset.label(index)).collect();
        let mut targets = match mix.objective {
            Objective::CrossEntropy => distributions(&labels, classes, mix.smoothing),
            Objective::SquaredError => inputs.clone(),
        };
        if mix.mixup > 0.0 {
            let rng = &mut Pcg32::new(!seed, stream(epoch, place));
            let share = beta(mix.mixup, rng);
            blend(&mut inputs, len, share);
            let width = targets.len() / indices.len();
            blend(&mut targets, width, share);
        }
        Batch { inputs, targets, labels }
    }
}

/// Rows, columns and channels of samples; those that are no images are one row.
fn image_shape(sample: &[usize], len: usize) -> [usize; 3] {
    match *sample {
        [h, w, c] if h * w * c == len => [h, w, c],
        [h, w] if h * w == len => [h, w, 1],
        _ => [1, len, 1],
    }
}

/// Each row becomes `share` of itself and the rest of the next one.
fn blend(rows: &mut [f32], len: usize, share: f32) {
    let first = rows[..len].to_vec();
    let last = rows.len() - len;
    for at in 0..rows.len() {
        let next = if at < last { rows[at + len] } else { first[at - last] };
        rows[at] = share * rows[at] + (1.0 - share) * next;
    }
}

/// A number from `Beta(a, a)` (Jöhnk 1964).
fn beta(a: f32, rng: &mut Pcg32) -> f32 {
    for _ in 0..1000 {
        let (x, y) = (rng.unit().powf(1.0 / a), rng.unit().powf(1.0 / a));
        if x + y <= 1.0 && x + y > 0.0 {
            return x / (x + y);
        }
    }
    0.5
}
