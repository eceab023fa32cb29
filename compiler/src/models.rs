//! Cards of models in Pare's own format, and the one model that is built in.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::data::{DataSpec, Metric, Preprocessing};
use crate::files;
use crate::import::{ImportError, native};
use crate::ir::Graph;

/// The card in a model's directory, beside the files of [`native`].
pub const CARD_FILE: &str = "card.toml";

/// What a model's files do not say: what it takes, what it is for, how it came about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Card {
    /// Name of the model and of its directory.
    pub name: String,
    /// What it does and how it is built, in a sentence.
    pub description: String,
    /// The set it was trained on.
    pub data: DataSpec,
    /// The command that trained it.
    pub training: String,
    /// Seed of the training.
    pub seed: u64,
    /// From the elements of the set to the model's input.
    pub preprocessing: Preprocessing,
    /// How good it is in float.
    pub accuracy: FloatAccuracy,
}

/// Figures of a model in `f32`, before any quantisation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FloatAccuracy {
    /// What the figures are.
    pub metric: Metric,
    /// On the val split.
    pub val: f64,
    /// On the test split.
    pub test: f64,
}

/// Why there is no card.
#[derive(Debug, thiserror::Error)]
pub enum CardError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The card.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is no card.
    #[error("{} is no model card, correct it: {source}", path.display())]
    Malformed {
        /// The card.
        path: PathBuf,
        /// Where and why.
        source: toml::de::Error,
    },
}

impl Card {
    /// Reads the card in a model's directory.
    ///
    /// # Errors
    /// When there is none, or it lacks a field or has an unknown one.
    pub fn load(dir: &Path) -> Result<Self, CardError> {
        let path = dir.join(CARD_FILE);
        let text = std::fs::read_to_string(&path).map_err(|source| CardError::Io { path: path.clone(), source })?;
        toml::from_str(&text).map_err(|source| CardError::Malformed { path, source })
    }

    /// Writes the model and this card of it into a directory, all files or none.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn save_with(&self, graph: &Graph, dir: &Path) -> Result<(), ImportError> {
        let write = |source| ImportError::Write { file: dir.display().to_string(), source };
        let card = toml::to_string(self).map_err(|error| write(std::io::Error::other(error)))?;
        let mut files = native::encode(graph)?.to_vec();
        files.push((CARD_FILE, card.into_bytes()));
        let files: Vec<_> = files.into_iter().map(|(name, bytes)| (dir.join(name), bytes.into())).collect();
        files::replace_all(&files).map_err(write)
    }
}

/// The built-in model.
#[derive(Clone, Debug, PartialEq)]
pub struct Bundled {
    /// The network.
    pub graph: Graph,
    /// Its card: preprocessing, data set, float accuracy.
    pub card: Card,
}

/// The model that every command works on when none is named: `models/glyphs`, trained on the synthetic set by the command
/// in its card.
pub fn bundled() -> Bundled {
    let graph = native::load_parts(
        include_str!("../../models/glyphs/graph.ir"),
        include_bytes!("../../models/glyphs/weights.safetensors"),
    );
    let card = toml::from_str(include_str!("../../models/glyphs/card.toml"));
    // Both are part of the program, and a test reads them.
    Bundled { graph: graph.expect("the bundled graph is valid"), card: card.expect("the bundled card is valid") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bundled_model_is_small_and_fits_its_data() {
        let Bundled { graph, card } = bundled();
        assert_eq!((graph.name.as_str(), card.name.as_str()), ("glyphs", "glyphs"));
        assert_eq!(graph.value(graph.inputs[0]).shape, [1, 32, 32, 1]);
        assert_eq!(graph.value(graph.outputs[0]).shape, [1, 10]);
        let macs: u64 = graph.nodes.iter().map(|node| graph.macs(node)).sum();
        let weights: usize = graph.weighted().map(|id| graph.value(graph.node(id).inputs[1]).len()).sum();
        assert!((1_500_000..4_000_000).contains(&macs), "{macs} multiply-accumulates");
        assert!((20_000..50_000).contains(&weights), "{weights} weights");
        assert_eq!(card.data, DataSpec::Synthetic);
        assert!((0.9..0.96).contains(&card.accuracy.test), "{:?}", card.accuracy);
    }

    #[test]
    fn cards_round_trip_and_tell_what_is_wrong() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Card::load(dir.path()).unwrap_err().to_string().contains(CARD_FILE));
        let card = bundled().card;
        std::fs::write(dir.path().join(CARD_FILE), toml::to_string(&card).unwrap()).unwrap();
        assert_eq!(Card::load(dir.path()).unwrap(), card);
        std::fs::write(dir.path().join(CARD_FILE), "name = \"a\"\nnmae = 1\n").unwrap();
        assert!(Card::load(dir.path()).unwrap_err().to_string().contains("nmae"));
    }
}
