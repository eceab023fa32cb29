//! What can be wrong with a data set.

use std::io;
use std::path::{Path, PathBuf};

/// Why a data set could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A text that names no data set.
    #[error("`{0}` names no data set: use cifar10:DIR, mnist:DIR, npz:FILE, npz:TRAIN,VAL, images:DIR or synthetic")]
    UnknownSpec(String),
    /// A file or folder that cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file or folder that is not what its name promises.
    #[error("{}: {problem}", path.display())]
    Malformed {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong, and the remedy.
        problem: String,
    },
    /// Preprocessing for other channels than the set has.
    #[error("the preprocessing has {means} means for samples of {channels} channels: give one mean, or {channels}")]
    MeanCount {
        /// How many means there are.
        means: usize,
        /// How many channels a sample has.
        channels: usize,
    },
    /// A cross-validation of a set that has its test samples apart.
    #[error("data set `{0}` comes with a test set of its own: `--fold` is for sets in one piece, as npz:FILE")]
    HasTest(String),
    /// A scale or mean that no element survives.
    #[error("the preprocessing holds {0}: use finite numbers")]
    NotFinite(f32),
}

impl DataError {
    pub(super) fn malformed(path: &Path, problem: impl Into<String>) -> Self {
        DataError::Malformed { path: path.to_owned(), problem: problem.into() }
    }

    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        |source| DataError::Io { path: path.to_owned(), source }
    }
}
