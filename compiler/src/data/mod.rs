//! Samples and labels, whatever file they come from, in explicit, reproducible splits.
//!
//! `val` is cut from `train`, never from `test`: nothing that calibrates, searches or trains ever
//! reads a test sample.
//!
//! * [`spec`] names a set and opens it: [`cifar`], [`idx`] (MNIST), [`npz`], [`images`] or the
//!   built-in [`synthetic`] glyphs.
//! * [`split`] cuts it.
//! * [`windows`] slides a model with a short input over a long sample.
//! * [`metric`] scores what a model answers.

mod bounded;
mod error;

pub mod cifar;
pub mod idx;
pub mod images;
pub mod metric;
pub mod npz;
pub mod spec;
pub mod split;
pub mod synthetic;
pub mod windows;

pub use error::DataError;
pub use metric::{Metric, MetricAccumulator, MetricError};
pub use spec::{DataSpec, open};
pub use split::{Split, Splits};
pub use windows::Windows;

use half::f16;

/// A labelled set of equally shaped samples, held in memory in its file's own element type.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// How the user names it, as `cifar10:DIR`.
    pub name: String,
    /// Dimensions of one sample without the batch, channels last: `[32, 32, 3]`, `[640]`, `[200, 128]`.
    pub sample_shape: Vec<usize>,
    /// All samples of all splits, back to back.
    pub elements: Elements,
    /// Class or 0/1 mark of every sample of all splits; a sample may have none, as the normal
    /// sounds that train an anomaly detector.
    pub labels: Vec<Option<u32>>,
    /// Sample indices of train, val and test.
    pub splits: Splits,
}

/// The elements in the type of their file.
#[derive(Clone, Debug)]
pub enum Elements {
    /// Bytes, 0..=255.
    U8(Vec<u8>),
    /// Half precision.
    F16(Vec<f16>),
    /// Single precision.
    F32(Vec<f32>),
}

/// What the network expects: `(element - mean[c]) * scale`, `c` being the last dimension.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Preprocessing {
    /// One number for all elements.
    pub scale: f32,
    /// One number for all channels, or one a channel.
    pub mean: Vec<f32>,
}

impl Preprocessing {
    /// Elements as they are.
    pub const IDENTITY: Preprocessing = Preprocessing { scale: 1.0, mean: Vec::new() };

    /// Turns elements of the data into what the network takes; channels innermost.
    pub fn apply(&self, elements: &mut [f32]) {
        let channels = self.mean.len().max(1);
        for (i, x) in elements.iter_mut().enumerate() {
            let mean = self.mean.get(i % channels).copied().unwrap_or(0.0);
            *x = (*x - mean) * self.scale;
        }
    }

    /// Whether it can be applied to samples of `sample_shape`.
    ///
    /// # Errors
    /// When there are several means, but not one a channel, or a number is not finite.
    pub fn check(&self, sample_shape: &[usize]) -> Result<(), DataError> {
        let channels = sample_shape.last().copied().unwrap_or(1);
        if self.mean.len() > 1 && self.mean.len() != channels {
            return Err(DataError::MeanCount { means: self.mean.len(), channels });
        }
        match self.mean.iter().chain([&self.scale]).find(|x| !x.is_finite()) {
            Some(&number) => Err(DataError::NotFinite(number)),
            None => Ok(()),
        }
    }
}

impl Dataset {
    /// The same set, cut for part `fold` (from 0) of a cross-validation: see [`Splits::of_fold`].
    ///
    /// # Errors
    /// When the set comes with a test set.
    pub fn fold(self, fold: usize) -> Result<Dataset, DataError> {
        let count = self.labels.len() as u32;
        if self.splits != Splits::without_test(count) {
            return Err(DataError::HasTest(self.name));
        }
        Ok(Dataset { splits: Splits::of_fold(count, fold), ..self })
    }

    /// Sample indices of a split.
    pub fn split(&self, split: Split) -> &[u32] {
        match split {
            Split::Train => &self.splits.train,
            Split::Val => &self.splits.val,
            Split::Test => &self.splits.test,
        }
    }

    /// Elements of one sample.
    pub fn sample_len(&self) -> usize {
        self.sample_shape.iter().product()
    }

    /// Class or mark of sample `index`, where it has one.
    pub fn label(&self, index: u32) -> Option<u32> {
        self.labels.get(index as usize).copied().flatten()
    }

    /// Writes sample `index`, preprocessed, into `out` (`sample_len` elements).
    ///
    /// # Panics
    /// When `index` is none of [`Dataset::splits`].
    pub fn read(&self, index: u32, preprocessing: &Preprocessing, out: &mut [f32]) {
        let n = self.sample_len();
        let at = index as usize * n;
        match &self.elements {
            Elements::U8(all) => fill(out, all[at..at + n].iter().map(|&x| f32::from(x))),
            Elements::F16(all) => fill(out, all[at..at + n].iter().map(|x| x.to_f32())),
            Elements::F32(all) => fill(out, all[at..at + n].iter().copied()),
        }
        preprocessing.apply(out);
    }
}

fn fill(out: &mut [f32], elements: impl Iterator<Item = f32>) {
    for (slot, x) in out.iter_mut().zip(elements) {
        *slot = x;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn halves() -> Dataset {
        Dataset {
            name: "halves".to_owned(),
            sample_shape: vec![2, 2],
            elements: Elements::F16([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0].map(f16::from_f32).to_vec()),
            labels: vec![Some(1), None],
            splits: Splits::without_test(2),
        }
    }

    #[test]
    fn means_go_with_channels() {
        let mut sample = [0.0; 4];
        halves().read(1, &Preprocessing { scale: 2.0, mean: vec![1.0, 5.0] }, &mut sample);
        assert_eq!(sample, [6.0, 0.0, 10.0, 4.0]);
        halves().read(1, &Preprocessing { scale: 0.5, mean: vec![4.0] }, &mut sample);
        assert_eq!(sample, [0.0, 0.5, 1.0, 1.5]);
        halves().read(0, &Preprocessing::IDENTITY, &mut sample);
        assert_eq!(sample, [0.0, 1.0, 2.0, 3.0]);
    }

    #[test]
    fn labels_may_be_missing() {
        assert_eq!([halves().label(0), halves().label(1), halves().label(2)], [Some(1), None, None]);
    }

    #[test]
    fn preprocessing_must_fit_the_channels() {
        let with = |scale: f32, mean: &[f32]| Preprocessing { scale, mean: mean.to_vec() }.check(&[4, 4, 3]);
        assert!(with(1.0, &[]).is_ok() && with(1.0, &[1.0]).is_ok() && with(1.0, &[1.0, 2.0, 3.0]).is_ok());
        assert!(with(1.0, &[1.0, 2.0]).unwrap_err().to_string().contains("3 channels"));
        assert!(with(f32::NAN, &[]).is_err());
    }
}
