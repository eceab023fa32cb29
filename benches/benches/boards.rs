//! Instructions of layers and of the bundled network on every emulated microcontroller, against the committed
//! baseline.
//!
//!     cargo bench -p pare-benches --bench boards               # fails where anything takes over 8 % more
//!     PARE_BLESS=1 cargo bench -p pare-benches --bench boards  # writes the baseline anew
//!
//! The counts are exact, whatever else the machine does. `targets/setup` installs what this needs; boards that cannot
//! run here are left out, with a line that says so.
#![allow(clippy::print_stdout, reason = "a report")]

use std::collections::BTreeMap;
use std::error::Error;
use std::process::ExitCode;

use pare::board::firmware::FirmwareError;
use pare::board::qemu::EmulatorError;
use pare::board::{AlignedBytes, Board, BoardError};
use pare::deploy::deploy;
use pare::ir::Graph;
use pare::lower::LowerConfig;
use pare::models::bundled;
use pare::policy::{self, EdgeLayers, Policy};
use pare::quant::CodeBank;
use pare::target::{Runner, Target};
use pare_benches::baseline::Baseline;
use pare_benches::networks::{PLAIN, pattern};
use pare_benches::shapes;
use pare_runtime::Model;
use pare_runtime::format::{Layout, WeightFormat};
use pare_tests::blob::Builder;
use pare_tests::problems::{ConvProblem, ConvSpec};

const BASELINE: Baseline = Baseline { title: "instructions of boards", file: "boards.tsv", tolerance: 0.02 };

/// Bits of weights and activations.
const WIDTHS: [(u8, u8); 4] = [(8, 8), (4, 8), (4, 4), (2, 2)];

/// Those of [`shapes`] that are counted: together small enough for every board.
const SHAPES: [&str; 6] = [
    "3x3 16-16 32x32",
    "3x3 32-32 16x16",
    "3x3 64-64 8x8",
    "1x1 64-64 25x5",
    "depthwise 64 25x5",
    "fully connected 640-128",
];

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let network = bundled().graph;
    let calibration = pattern(&network)?;
    let bank = CodeBank::new(&network, &calibration, &PLAIN)?;
    let mut counts = BTreeMap::new();
    for target in Target::built_in()?.iter().filter(|target| matches!(target.runner, Runner::Qemu(_))) {
        match count(target, &bank, &network) {
            Ok(of_target) => counts.extend(of_target),
            Err(error) if is_absent(&*error) => println!("{}: skipped, {error}", target.name),
            Err(error) => return Err(error),
        }
    }
    if counts.is_empty() { Ok(ExitCode::SUCCESS) } else { BASELINE.check(&counts) }
}

/// Whether what runs a board is not installed.
fn is_absent(error: &(dyn Error + 'static)) -> bool {
    matches!(
        error.downcast_ref(),
        Some(BoardError::Firmware(FirmwareError::NoTarget(_)) | BoardError::Emulator(EmulatorError::Missing(_)))
    )
}

/// What is counted on a target, by name.
fn count(target: &Target, bank: &CodeBank<'_>, network: &Graph) -> Result<BTreeMap<String, u64>, Box<dyn Error>> {
    let board = target.board();
    let isa = board.best_isa();
    let layout = board.layout(isa);
    let mut counts = BTreeMap::new();
    for (weights, bits) in WIDTHS {
        let name = |what: &str| format!("{} w{weights}a{bits} {what}", target.name);
        let layers = timed(&*board, &layers(WeightFormat::Linear(weights), bits, layout))?;
        for (shape, ticks) in SHAPES.iter().zip(&layers.layers) {
            counts.insert(name(shape), ticks[0] as u64);
        }
        let policy = Policy::uniform(network, policy::WeightFormat::Linear(weights), bits, EdgeLayers::EightBit);
        let deployed = deploy(bank, &policy, &LowerConfig::new(layout), "{}")?;
        let whole = timed(&*board, &AlignedBytes::from(&deployed.blob.bytes[..]))?;
        counts.insert(name(&network.name), whole.total[0] as u64);
    }
    Ok(counts)
}

fn timed(board: &dyn Board, blob: &[u8]) -> Result<pare::board::Timing, BoardError> {
    let len = Model::parse(blob)?.inputs().map(|tensor| tensor.shape.len()).sum();
    board.time(blob, board.best_isa(), &vec![1; len], 1)
}

/// A blob of the shapes, each with an input of its own.
fn layers(format: WeightFormat, bits_in: u8, layout: Layout) -> AlignedBytes {
    let mut blob = Builder::default();
    for wanted in SHAPES {
        for (_, spec) in shapes(format).into_iter().filter(|(name, _)| *name == wanted) {
            let weights = spec.weights.iter().map(|&(format, _, channels)| (format, layout, channels)).collect();
            let problem = ConvProblem::new(ConvSpec { weights, bits_in, ..spec });
            let input = blob.input(&problem);
            let output = blob.conv(input, &problem);
            blob.outputs.push(output);
        }
    }
    AlignedBytes::from(&blob.finish()[..])
}
