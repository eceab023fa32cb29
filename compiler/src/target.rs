//! What a network is compiled for: data files with a strict schema, under `targets/boards/`.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::board::{self, Board};
use crate::policy::{Policy, WeightChoice, WeightFormat};
use crate::units::TickUnit;

/// A description, one TOML file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// What `--target` calls it.
    pub name: String,
    /// One line for people.
    pub description: String,
    /// How blobs run on it.
    pub runner: Runner,
    /// What its latencies are counted in.
    pub unit: TickUnit,
    /// Weight formats that its kernels read: the search offers no others.
    pub weight_formats: Vec<WeightFormat>,
    /// Activation widths that its kernels take.
    pub activation_bits: Vec<u8>,
    /// Channels that its kernels compute at once: where superfluous channels are removed, whole blocks stay.
    pub channel_block: usize,
}

/// How blobs run on a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Runner {
    /// In this process.
    Host,
}

/// Why there is no such target.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// Neither a known name nor a file.
    #[error("there is no target `{name}`: use one of {known}, or the path of a target description (*.toml)")]
    Unknown {
        /// As given.
        name: String,
        /// Names there are.
        known: String,
    },
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no description.
    #[error("{path} is not a target description: {reason}")]
    Schema {
        /// The file.
        path: String,
        /// What is wrong, in one line.
        reason: String,
    },
    /// A policy asks for what the target has no kernels for.
    #[error("layer `{layer}`: target `{target}` has no kernels for {what}: choose from {instead}")]
    NoKernels {
        /// Name of the target.
        target: String,
        /// Name of the layer.
        layer: String,
        /// The format or width asked for.
        what: String,
        /// Those there are.
        instead: String,
    },
}

/// Descriptions that come with the program.
const BUILT_IN: [(&str, &str); 1] = [("targets/boards/host.toml", include_str!("../../targets/boards/host.toml"))];

impl Target {
    /// Every target that comes with the program.
    ///
    /// # Errors
    /// When a built-in description is broken; a test rules that out.
    pub fn built_in() -> Result<Vec<Target>, TargetError> {
        BUILT_IN.iter().map(|(path, text)| parse(path, text)).collect()
    }

    /// A target by name, or by the path of its description.
    ///
    /// # Errors
    /// When neither exists, or the file is no description.
    pub fn find(name: &str) -> Result<Target, TargetError> {
        let built_in = Self::built_in()?;
        if let Some(target) = built_in.iter().find(|t| t.name == name) {
            return Ok(target.clone());
        }
        if Path::new(name).extension().is_none_or(|e| e != "toml") {
            let known = built_in.iter().map(|t| t.name.as_str()).collect::<Vec<_>>().join(", ");
            return Err(TargetError::Unknown { name: name.to_owned(), known });
        }
        let text = std::fs::read_to_string(name).map_err(|source| TargetError::Io { path: name.to_owned(), source })?;
        parse(name, &text)
    }

    /// What runs its blobs.
    pub fn board(&self) -> Box<dyn Board> {
        board::of(self.runner)
    }

    /// Whether it has kernels for everything in a policy.
    ///
    /// # Errors
    /// [`TargetError::NoKernels`] naming the first layer that asks for others.
    pub fn check(&self, policy: &Policy) -> Result<(), TargetError> {
        let refuse = |layer: &str, what: String, instead: String| {
            Err(TargetError::NoKernels { target: self.name.clone(), layer: layer.to_owned(), what, instead })
        };
        for (layer, entry) in &policy.layers {
            let formats = match &entry.weights {
                None => &[][..],
                Some(WeightChoice::Layer(format)) => std::slice::from_ref(format),
                Some(WeightChoice::Channels(formats)) => formats,
            };
            if let Some(format) = formats.iter().find(|format| !self.weight_formats.contains(format)) {
                return refuse(layer, format!("{format} weights"), joined(&self.weight_formats));
            }
            if !self.activation_bits.contains(&entry.activation_bits) {
                let what = format!("{}-bit activations", entry.activation_bits);
                return refuse(layer, what, joined(&self.activation_bits));
            }
        }
        Ok(())
    }
}

fn joined<T: std::fmt::Display>(all: &[T]) -> String {
    all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn parse(path: &str, text: &str) -> Result<Target, TargetError> {
    let target: Target = toml::from_str(text)
        .map_err(|e| TargetError::Schema { path: path.to_owned(), reason: e.message().to_owned() })?;
    let refuse = |reason: &str| Err(TargetError::Schema { path: path.to_owned(), reason: reason.to_owned() });
    if target.weight_formats.is_empty() || target.activation_bits.is_empty() {
        return refuse("it needs at least one weight format and one activation width");
    }
    if target.channel_block == 0 {
        return refuse("`channel_block` is 1 at least");
    }
    if !target.activation_bits.iter().all(|bits| (1..=8).contains(bits)) {
        return refuse("activation widths go from 1 to 8 bits");
    }
    let unit = target.board().unit();
    if target.unit != unit {
        return refuse(&format!("what runs it counts in `{unit}`, not in `{}`", target.unit));
    }
    Ok(target)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::LayerPolicy;

    #[test]
    fn built_in_targets_are_valid() {
        assert!(Target::built_in().unwrap().iter().any(|t| t.name == "host"));
    }

    #[test]
    fn an_unknown_field_is_named() {
        let text = BUILT_IN[0].1.to_owned() + "clock_mhz = 80\n";
        assert!(parse("x.toml", &text).unwrap_err().to_string().contains("clock_mhz"));
    }

    #[test]
    fn what_a_runner_cannot_do_is_refused() {
        let with = |from: &str, to: &str| parse("x.toml", &BUILT_IN[0].1.replace(from, to)).unwrap_err().to_string();
        assert!(with("unit = \"ns\"", "unit = \"cycles\"").contains("ns"));
        assert!(with("[1, 2, 3, 4, 5, 6, 7, 8]", "[]").contains("activation"));
        assert!(with("[1, 2, 3, 4, 5, 6, 7, 8]", "[9]").contains("1 to 8"));
    }

    #[test]
    fn a_policy_without_kernels_is_refused_by_layer() {
        let target = Target { weight_formats: vec![WeightFormat::Linear(8)], ..Target::built_in().unwrap().remove(0) };
        let policy = |format, activation_bits| {
            let weights = Some(WeightChoice::Channels(vec![WeightFormat::Linear(8), format]));
            Policy { layers: [("conv1".to_owned(), LayerPolicy { weights, activation_bits, keep: None })].into() }
        };
        assert!(target.check(&policy(WeightFormat::Linear(8), 8)).is_ok());
        let refused = |policy: &Policy| target.check(policy).unwrap_err().to_string();
        let narrow = refused(&policy(WeightFormat::Linear(3), 8));
        assert!(narrow.contains("conv1") && narrow.contains("w3") && narrow.ends_with("w8"), "{narrow}");
        assert!(refused(&policy(WeightFormat::Linear(8), 1)).contains("1-bit activations"));
    }
}
