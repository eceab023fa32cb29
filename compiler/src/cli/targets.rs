//! `pare targets`: what a network can be compiled for.

use std::path::PathBuf;

use anyhow::Result;
use serde_json::json;

use super::Output;
use crate::board::firmware;
use crate::target::{Runner, Target};

/// Options of `pare targets`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// Check this description instead.
    file: Option<PathBuf>,
    /// Build the firmware of those that an emulator runs.
    #[arg(long)]
    build: bool,
}

pub(super) fn run(args: Args) -> Result<Output> {
    let targets = match &args.file {
        Some(path) => vec![Target::find(&path.display().to_string())?],
        None => Target::built_in()?,
    };
    if args.build {
        for target in &targets {
            let Runner::Qemu(qemu) = &target.runner else { continue };
            firmware::build(&target.name, &qemu.core, &qemu.memory)?;
        }
    }
    let line = |t: &Target| format!("{:<16} {} (counts {})\n", t.name, t.description, t.unit);
    let text: String = targets.iter().map(line).collect();
    Ok(Output::new(json!({ "targets": targets }), text))
}
