//! `pare targets`: what a network can be compiled for.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::json;

use super::Output;
use crate::board::firmware;
use crate::target::{Runner, Target};

/// Options of `pare targets`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// This one alone: a name, or the path of a description to check.
    target: Option<String>,
    /// Build the firmware: that which an emulator runs, and `serve`, to be programmed into boards at a serial port.
    #[arg(long)]
    build: bool,
}

pub(super) fn run(args: Args) -> Result<Output> {
    let targets = match &args.target {
        Some(name) => vec![Target::find(name)?],
        None => Target::built_in()?,
    };
    let mut firmware = BTreeMap::new();
    if args.build {
        for target in &targets {
            if let Runner::Qemu(qemu) = &target.runner {
                firmware::build(&target.name, &qemu.core, &qemu.memory)?;
            }
            // An emulated core is served when it is asked for by name.
            let device = target.device().filter(|_| target.chip.is_some() || args.target.is_some());
            if let Some(device) = device {
                firmware.insert(&target.name, firmware::build_serve(&target.name, &device)?.display().to_string());
            }
        }
    }
    let line = |t: &Target| format!("{:<16} {} (counts {})\n", t.name, t.description, t.unit);
    let mut text: String = targets.iter().map(line).collect();
    for (name, path) in &firmware {
        text += &format!("program {path} into {name}, then name its port: --target {name} --port /dev/ttyACM0\n");
    }
    Ok(Output::new(json!({ "targets": targets, "serve": firmware }), text))
}
