//! Bytes of code and constants that a program links to run a network, network and kernels of others apart, against the
//! committed baseline.
//!
//!     cargo bench -p pare-benches --bench linked               # fails where anything takes over 2 % more
//!     PARE_BLESS=1 cargo bench -p pare-benches --bench linked  # writes the baseline anew
//!
//! `targets/setup` installs what this needs; cores that nothing here builds for, and networks that are not at hand, are
//! left out, with a line that says so.
#![allow(clippy::print_stdout, reason = "a report")]

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use pare::board::firmware::{FirmwareError, linked};
use pare::deploy::deploy;
use pare::import::import;
use pare::ir::Graph;
use pare::lower::LowerConfig;
use pare::models::bundled;
use pare::passes::simplify;
use pare::policy::{EdgeLayers, Policy, WeightFormat};
use pare::quant::CodeBank;
use pare::target::{Runner, Target};
use pare_benches::baseline::Baseline;
use pare_benches::networks::{PLAIN, pattern, shared};

const BASELINE: Baseline = Baseline { title: "linked bytes", file: "linked.tsv", tolerance: 0.02 };

/// A core with kernels of its own, and one without.
const TARGETS: [&str; 2] = ["cortex-m4", "rv32imac"];

/// Networks of the benchmarks.
const NETWORKS: [(&str, &str); 2] = [("dscnn", "dscnn_kws_float.onnx"), ("resnet8", "resnet8_float.tflite")];

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut networks = vec![("bundled", bundled().graph)];
    for (name, file) in NETWORKS {
        match shared(file) {
            Some(path) => networks.push((name, simplify(import(&path)?)?)),
            None => println!("{name}: skipped, no {file} here; set PARE_SHARED to the folder that holds models/"),
        }
    }
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR")).join("linked");
    std::fs::create_dir_all(&scratch)?;
    let mut bytes = BTreeMap::new();
    for name in TARGETS {
        let target = Target::find(name)?;
        for (network, graph) in &networks {
            match count(&target, graph, &scratch) {
                Ok(Some(count)) => {
                    bytes.insert(format!("{name} w8a8 {network}"), count);
                }
                Ok(None) => {}
                Err(error) if matches!(error.downcast_ref(), Some(FirmwareError::NoTarget(_))) => {
                    println!("{name}: skipped, {error}");
                }
                Err(error) => return Err(error),
            }
        }
    }
    for (name, bytes) in &bytes {
        println!("  {name:<24} {bytes:>6} B");
    }
    if bytes.is_empty() { Ok(ExitCode::SUCCESS) } else { BASELINE.check(&bytes) }
}

/// Bytes that are linked for a network; `None` for a target that is no microcontroller.
fn count(target: &Target, network: &Graph, scratch: &Path) -> Result<Option<u64>, Box<dyn Error>> {
    let Runner::Qemu(qemu) = &target.runner else { return Ok(None) };
    let board = target.board();
    let calibration = pattern(network)?;
    let bank = CodeBank::new(network, &calibration, &PLAIN)?;
    let policy = Policy::uniform(network, WeightFormat::Linear(8), 8, EdgeLayers::EightBit);
    let deployed = deploy(&bank, &policy, &LowerConfig::new(board.layout(board.best_isa())), "{}")?;
    let blob = scratch.join(format!("{}.pare", target.name));
    std::fs::write(&blob, &deployed.blob.bytes)?;
    let linked = linked(&qemu.core, &blob, scratch)?;
    Ok(Some(linked.code.0 + linked.constants.0))
}
