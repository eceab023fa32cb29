//! How a user names a data set, and the one door to all of them.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{DataError, Dataset, cifar, idx, images, npz, synthetic};

/// The name of a data set; prints as it parses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum DataSpec {
    /// `cifar10:DIR`: DIR holds `cifar-10-batches-bin/`.
    Cifar10(PathBuf),
    /// `mnist:DIR`: four idx files, plain or `.gz`.
    Mnist(PathBuf),
    /// `npz:FILE`: one archive, cut by [`Splits::without_test`](super::Splits::without_test).
    Npz(PathBuf),
    /// `npz:TRAIN,VAL`: train and val are cut from TRAIN; VAL is the test set.
    NpzPair(PathBuf, PathBuf),
    /// `images:DIR`: a folder a class, or such folders in `DIR/train` and `DIR/test`.
    Images(PathBuf),
    /// `synthetic`: the built-in glyphs.
    Synthetic,
}

/// Reads a whole data set into memory.
///
/// # Errors
/// When a file is missing, cut short, or not of the form its name promises.
pub fn open(spec: &DataSpec) -> Result<Dataset, DataError> {
    let mut dataset = match spec {
        DataSpec::Cifar10(dir) => cifar::read(dir)?,
        DataSpec::Mnist(dir) => idx::read(dir)?,
        DataSpec::Npz(file) => npz::read(file)?,
        DataSpec::NpzPair(train, test) => npz::read_pair(train, test)?,
        DataSpec::Images(dir) => images::read(dir)?,
        DataSpec::Synthetic => synthetic::generate(),
    };
    dataset.name = spec.to_string();
    Ok(dataset)
}

impl DataSpec {
    /// Whether both name the same samples, wherever these lie: sets that are published under a name, unlike a user's own
    /// files, are alike in every folder.
    pub fn is_same_set(&self, other: &DataSpec) -> bool {
        match (self, other) {
            (DataSpec::Cifar10(_), DataSpec::Cifar10(_)) | (DataSpec::Mnist(_), DataSpec::Mnist(_)) => true,
            _ => self == other,
        }
    }
}

impl FromStr for DataSpec {
    type Err = DataError;

    fn from_str(text: &str) -> Result<Self, DataError> {
        let unknown = || DataError::UnknownSpec(text.to_owned());
        let (kind, path) = match text.split_once(':') {
            None if text == "synthetic" => return Ok(DataSpec::Synthetic),
            None => return Err(unknown()),
            Some((kind, path)) if !path.is_empty() => (kind, path),
            Some(_) => return Err(unknown()),
        };
        match kind {
            "cifar10" => Ok(DataSpec::Cifar10(path.into())),
            "mnist" => Ok(DataSpec::Mnist(path.into())),
            "images" => Ok(DataSpec::Images(path.into())),
            "npz" => match path.split_once(',') {
                None => Ok(DataSpec::Npz(path.into())),
                Some((train, test)) if !train.is_empty() && !test.is_empty() => {
                    Ok(DataSpec::NpzPair(train.into(), test.into()))
                }
                Some(_) => Err(unknown()),
            },
            _ => Err(unknown()),
        }
    }
}

impl fmt::Display for DataSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DataSpec::Cifar10(dir) => write!(f, "cifar10:{}", dir.display()),
            DataSpec::Mnist(dir) => write!(f, "mnist:{}", dir.display()),
            DataSpec::Npz(file) => write!(f, "npz:{}", file.display()),
            DataSpec::NpzPair(train, test) => write!(f, "npz:{},{}", train.display(), test.display()),
            DataSpec::Images(dir) => write!(f, "images:{}", dir.display()),
            DataSpec::Synthetic => f.write_str("synthetic"),
        }
    }
}

impl TryFrom<String> for DataSpec {
    type Error = DataError;

    fn try_from(text: String) -> Result<Self, DataError> {
        text.parse()
    }
}

impl From<DataSpec> for String {
    fn from(spec: DataSpec) -> String {
        spec.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_as_it_parses() {
        for text in ["cifar10:a/b", "mnist:m", "npz:f.npz", "npz:a.npz,b.npz", "images:i", "synthetic"] {
            assert_eq!(text.parse::<DataSpec>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn published_sets_are_the_same_in_every_folder() {
        let same = |a: &str, b: &str| a.parse::<DataSpec>().unwrap().is_same_set(&b.parse().unwrap());
        assert!(same("cifar10:a", "cifar10:b") && same("npz:a", "npz:a") && same("synthetic", "synthetic"));
        assert!(!same("cifar10:a", "mnist:a") && !same("npz:a", "npz:b") && !same("images:a", "images:b"));
    }

    #[test]
    fn unknown_names_list_the_known_ones() {
        for text in ["", "cifar", "cifar10", "cifar10:", "npz:", "npz:,b", "npz:a,", "synthetic:x", "wav:a"] {
            let message = text.parse::<DataSpec>().unwrap_err().to_string();
            assert!(message.contains("images:DIR"), "{message}");
        }
    }
}
