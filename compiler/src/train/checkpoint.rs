//! Training on disk: one file, replaced as a whole after every epoch, from which it goes on to the
//! same bytes.
//!
//! It is a safetensors file: the numbers of the network, of the optimiser and of the best network so
//! far as tensors, the rest as JSON among its metadata. As batches hang on seed and epoch alone, the
//! epoch is all the random state there is.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::files;

/// Where the JSON stands among the metadata.
const STATE: &str = "state";

/// Tensors by name.
pub(super) type Tensors = BTreeMap<String, Vec<f32>>;

/// Why a checkpoint cannot be written or gone on from.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The system refused: a full disk, say.
    #[error("cannot write the checkpoint {}; the one before is intact: make room and start again: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is there but cannot be read.
    #[error("cannot read the checkpoint {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is no checkpoint.
    #[error("{} is no checkpoint of this version, remove it to start anew: {problem}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What was found.
        problem: String,
    },
    /// It belongs to other training.
    #[error("{} was written by training with other {what}: remove it, or name another directory", path.display())]
    Other {
        /// The file.
        path: PathBuf,
        /// What differs.
        what: &'static str,
    },
}

/// Writes a checkpoint in the place of the one before.
pub(super) fn save(path: &Path, state: &impl Serialize, tensors: &Tensors) -> Result<(), CheckpointError> {
    let write = |source| CheckpointError::Write { path: path.to_owned(), source };
    let invalid = |problem: String| write(io::Error::new(io::ErrorKind::InvalidData, problem));
    let state = serde_json::to_string(state).map_err(|error| invalid(error.to_string()))?;
    let bytes: Vec<(&str, Vec<u8>)> = tensors
        .iter()
        .map(|(name, values)| (name.as_str(), values.iter().flat_map(|x| x.to_le_bytes()).collect()))
        .collect();
    let views = bytes
        .iter()
        .map(|(name, bytes)| TensorView::new(Dtype::F32, vec![bytes.len() / 4], bytes).map(|view| (*name, view)));
    let views = views.collect::<Result<Vec<_>, _>>().map_err(|error| invalid(error.to_string()))?;
    let metadata = Some([(STATE.to_owned(), state)].into());
    let file = safetensors::serialize(views, metadata).map_err(|error| invalid(error.to_string()))?;
    files::replace(path, &file).map_err(write)
}

/// Reads a checkpoint; `None` where there is none.
pub(super) fn load<S: DeserializeOwned>(path: &Path) -> Result<Option<(S, Tensors)>, CheckpointError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(CheckpointError::Read { path: path.to_owned(), source }),
    };
    parse(&bytes).map(Some).map_err(|problem| CheckpointError::Malformed { path: path.to_owned(), problem })
}

fn parse<S: DeserializeOwned>(bytes: &[u8]) -> Result<(S, Tensors), String> {
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|error| error.to_string())?;
    let state = metadata.metadata().as_ref().and_then(|metadata| metadata.get(STATE)).ok_or("it has no state")?;
    let state = serde_json::from_str(state).map_err(|error| error.to_string())?;
    let file = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
    let tensors = file.tensors().into_iter().map(|(name, view)| {
        let values = view.data().chunks_exact(4).filter_map(|b| b.try_into().ok().map(f32::from_le_bytes));
        (name, values.collect())
    });
    Ok((state, tensors.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoints_round_trip_and_errors_name_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("checkpoint.safetensors");
        assert!(load::<u32>(&path).unwrap().is_none());
        let tensors = Tensors::from([("a".to_owned(), vec![1.0, -2.5]), ("b/c".to_owned(), vec![])]);
        save(&path, &7u32, &tensors).unwrap();
        assert_eq!(load::<u32>(&path).unwrap(), Some((7, tensors.clone())));
        let good = std::fs::read(&path).unwrap();
        for cut in [0, 4, 20, good.len() - 1] {
            std::fs::write(&path, &good[..cut]).unwrap();
            let message = load::<u32>(&path).unwrap_err().to_string();
            assert!(message.contains("checkpoint.safetensors") && message.contains("remove it"), "{message}");
        }
        let message = save(Path::new("/dev/full/x"), &7u32, &tensors).unwrap_err().to_string();
        assert!(message.contains("/dev/full") && message.contains("intact"), "{message}");
    }
}
