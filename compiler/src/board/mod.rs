//! Where blobs run: one file a board, and the one trait that every other stage sees of it.
//!
//! `host` is this very machine; `qemu` runs firmware (built by `firmware`, told what to do by `job`) in an
//! emulator; `serial` has it run by a board at a serial `line` (told by the messages of `wire`); `accelerator` says what
//! one would take by its data sheet.

pub mod accelerator;
mod aligned;
#[path = "../../../targets/firmware/src/chip.rs"]
pub mod chip;
pub mod cycles;
pub mod firmware;
pub mod host;
#[path = "../../../targets/firmware/src/job.rs"]
pub mod job;
pub mod journal;
pub mod line;
pub mod link;
pub mod qemu;
pub mod serial;
#[path = "../../../targets/firmware/src/wire.rs"]
pub mod wire;

use pare_runtime::format::Layout;
use pare_runtime::{FormatError, Isa, SetupError};
use serde::{Deserialize, Serialize};

use crate::emit::ObjectArch;
use crate::target::{Runner, Target};
use crate::units::{Bytes, TickUnit, Ticks};

pub use aligned::AlignedBytes;
use cycles::Timings;

/// A processor that runs blobs and says how long they take.
pub trait Board: Sync {
    /// Its name, as latency tables record it.
    fn processor(&self) -> String;

    /// The kernel families that it runs, slowest first; at least one.
    fn isas(&self) -> Vec<Isa>;

    /// What its clock counts.
    fn unit(&self) -> TickUnit;

    /// The widest weight layout that its kernels of an instruction set read.
    fn layout(&self, isa: Isa) -> Layout;

    /// The processor of its object files.
    fn object_arch(&self) -> ObjectArch;

    /// Runs every sample of `codes` (samples back to back) and returns the outputs back to back.
    ///
    /// # Errors
    /// When the blob or the kernel family is not for this board.
    fn run(&self, blob: &[u8], isa: Isa, codes: &[u8]) -> Result<Vec<u8>, BoardError>;

    /// Times `runs` samples of inferences on the one input `codes`.
    ///
    /// # Errors
    /// When the blob or the kernel family is not for this board.
    fn time(&self, blob: &[u8], isa: Isa, codes: &[u8], runs: usize) -> Result<Timing, BoardError>;

    /// The fastest kernel family that it runs.
    fn best_isa(&self) -> Isa {
        self.isas().last().copied().unwrap_or(Isa::Portable)
    }
}

/// The board behind a target's runner, for a chip whose cycles are told from a trace; see [`Target::board`].
pub(crate) fn of(target: &Target, timings: Option<Timings>) -> Box<dyn Board> {
    match (&target.runner, target.served()) {
        (_, Some(device)) => Box::new(serial::Serial::new(&target.name, device, target.port.clone())),
        // That a description names a target that runs was checked when it was read.
        (Runner::Host | Runner::SameAs(_) | Runner::Chip(_), None) => Box::new(host::Host::default()),
        (Runner::Model(accelerator), None) => {
            Box::new(accelerator::Modelled { name: target.name.clone(), accelerator: accelerator.clone() })
        }
        (Runner::Qemu(qemu), None) => {
            let counting = qemu::Emulator::new(&target.name, qemu.clone());
            Box::new(match timings {
                Some(timings) => counting.timed_by(timings),
                None => counting,
            })
        }
    }
}

/// Why a blob does not run on a board.
#[derive(Debug, thiserror::Error)]
pub enum BoardError {
    /// The bytes are not a blob for this runtime.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The session cannot start.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The threads to share an inference could not be started.
    #[error(transparent)]
    Threads(#[from] rayon::ThreadPoolBuildError),
    /// The firmware could not be built.
    #[error(transparent)]
    Firmware(#[from] firmware::FirmwareError),
    /// The emulator could not run the firmware.
    #[error(transparent)]
    Emulator(#[from] qemu::EmulatorError),
    /// The board at a serial port gave no results.
    #[error(transparent)]
    Serial(#[from] serial::SerialError),
    /// Cycles could not be told.
    #[error(transparent)]
    Cycles(#[from] cycles::CyclesError),
}

/// Version and sources of the runtime: what counts of another one does not count for this.
pub fn runtime_version() -> String {
    format!("{}+{}", pare_runtime::VERSION, env!("PARE_RUNTIME_SOURCES"))
}

/// How long one blob takes on a board, all in ticks of `unit`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Timing {
    /// What was counted.
    pub unit: TickUnit,
    /// One inference, one entry a sample, sorted.
    pub total: Vec<f64>,
    /// Each layer, sorted; their medians add up to that of the total, on the host without the copying of the inputs.
    pub layers: Vec<Vec<f64>>,
    /// The family whose kernel ran each layer.
    #[serde(with = "firmware::kernel_names")]
    pub isas: Vec<Isa>,
    /// From bytes in memory, or mapped, to the first output.
    pub first: FirstInference,
    /// A fixed piece of work beside the samples: how fast the board was. Always 1 where ticks are counted.
    pub yardstick: f64,
    /// The share of the samples taken that were quiet enough to be kept.
    pub quiet: f64,
    /// The most of the stack that was in use, all of the program's calls included; where that is known.
    pub stack: Option<Bytes>,
}

/// What the first output waits for: each part once, with nothing warm.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct FirstInference {
    /// Checking the blob: every byte of it is read.
    pub parse: f64,
    /// Memory for the arena, kernels chosen.
    pub setup: f64,
    /// The run itself.
    pub run: f64,
}

impl FirstInference {
    /// All of it.
    pub fn total(&self) -> f64 {
        self.parse + self.setup + self.run
    }
}

impl Timing {
    /// One inference: the sample below which a fraction of the samples lies.
    pub fn total(&self, fraction: f64) -> Ticks {
        self.ticks(quantile(&self.total, fraction))
    }

    /// A number of this timing's ticks, with its unit.
    pub fn ticks(&self, value: f64) -> Ticks {
        Ticks { value, unit: self.unit }
    }
}

/// Shifts the sorted samples of all layers alike, so that their medians add up to `total`.
///
/// What a layer costs in a network is a little more than what passes between the two readings of the
/// clock around it (its record is decoded first), less what the readings cost: both are the same for all.
fn settle(layers: &mut [Vec<f64>], total: f64) {
    let sum: f64 = layers.iter().map(|samples| quantile(samples, 0.5)).sum();
    let shift = (total - sum) / layers.len().max(1) as f64;
    for ns in layers.iter_mut().flatten() {
        *ns = (*ns + shift).max(0.0);
    }
}

/// The element at a fraction of a sorted list.
pub fn quantile(sorted: &[f64], fraction: f64) -> f64 {
    let index = (fraction * (sorted.len().saturating_sub(1)) as f64).round() as usize;
    sorted.get(index).copied().unwrap_or(f64::NAN)
}
