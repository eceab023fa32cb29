//! What a network is compiled for: data files with a strict schema, under `targets/boards/`.

use std::path::Path;

use serde::{Deserialize, Serialize};

use pare_runtime::Isa;
use pare_runtime::format::Layout;

use crate::emit::ObjectArch;
use crate::policy::WeightFormat;
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

    /// The widest weight layout that its kernels of an instruction set read.
    pub fn layout(&self, isa: Isa) -> Layout {
        match self.runner {
            Runner::Host if isa == Isa::Avx512Vnni => Layout::Lookup,
            Runner::Host if cfg!(target_arch = "x86_64") => Layout::Panels,
            Runner::Host => Layout::Plain,
        }
    }

    /// The processor of its object files.
    pub fn object_arch(&self) -> ObjectArch {
        match self.runner {
            Runner::Host if cfg!(target_arch = "x86_64") => ObjectArch::X86_64,
            Runner::Host if cfg!(target_arch = "aarch64") => ObjectArch::Aarch64,
            Runner::Host if cfg!(target_arch = "riscv64") => ObjectArch::Riscv64,
            Runner::Host => ObjectArch::Arm,
        }
    }
}

fn parse(path: &str, text: &str) -> Result<Target, TargetError> {
    let target: Target = toml::from_str(text)
        .map_err(|e| TargetError::Schema { path: path.to_owned(), reason: e.message().to_owned() })?;
    let refuse = |reason: &str| Err(TargetError::Schema { path: path.to_owned(), reason: reason.to_owned() });
    if target.weight_formats.is_empty() || target.activation_bits.is_empty() {
        return refuse("it needs at least one weight format and one activation width");
    }
    if !target.activation_bits.iter().all(|bits| (2..=8).contains(bits)) {
        return refuse("activation widths go from 2 to 8 bits");
    }
    match target.runner {
        Runner::Host if target.unit != TickUnit::Nanoseconds => refuse("the runner `host` counts in `ns`"),
        Runner::Host => Ok(target),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(with("[2, 3, 4, 5, 6, 7, 8]", "[]").contains("activation"));
        assert!(with("[2, 3, 4, 5, 6, 7, 8]", "[9]").contains("2 to 8"));
    }
}
