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
}

impl Dataset {
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
        let channels = preprocessing.mean.len().max(1);
        for (i, x) in out.iter_mut().enumerate() {
            let mean = preprocessing.mean.get(i % channels).copied().unwrap_or(0.0);
            *x = (*x - mean) * preprocessing.scale;
        }
    }
}

fn fill(out: &mut [f32], elements: impl Iterator<Item = f32>) {
    for (slot, x) in out.iter_mut().zip(elements) {
        *slot = x;
    }
}
