//! Cycles of a chip, estimated from what the emulator executes for it.
//!
//! A plugin of the emulator (`targets/cycles`, built when first needed) adds up what each instruction costs by the
//! timings of the core, and what the chip's flash keeps it waiting. Its clock is read where the firmware reads its own,
//! so that both tell the same stretches of work. Not modelled: buses that several masters share, interrupts, and the
//! dependence of jumps on alignment.

use std::path::{Path, PathBuf};

use object::{Object, ObjectSymbol};
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use super::firmware::{self, FirmwareError, Memory};
use super::qemu::EmulatorError;

/// The timings of a core and of its flash, one table in a target's description.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timings {
    /// Whose instructions.
    pub core: Core,
    /// The memory that code and weights are in.
    pub flash: Flash,
}

/// A core whose timings are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Core {
    /// One instruction at a time; timings documented.
    CortexM4,
    /// Two at a time, in order; timings as others measured them.
    CortexM7,
}

/// Flash behind caches of code and of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flash {
    /// Bytes that are read at once.
    pub line_bytes: u32,
    /// Cycles that the core waits for them.
    pub fill_cycles: u32,
    /// Lines that the cache of code holds.
    pub code_lines: u32,
    /// Lines that the cache of data holds.
    pub data_lines: u32,
    /// Whether the next line of code is fetched while one is executed.
    pub prefetch: bool,
}

/// One emulation that is being timed.
#[derive(Debug)]
pub(super) struct Trace {
    argument: String,
    out: NamedTempFile,
}

/// The function of the firmware that reads its counter.
const READING: &str = "pare_read_counter";

impl Timings {
    /// What they are, for people and provenance.
    pub fn describe(&self) -> String {
        let core = self.core.name();
        let Flash { line_bytes, fill_cycles, code_lines, data_lines, prefetch } = self.flash;
        let prefetch = if prefetch { ", prefetch" } else { "" };
        format!(
            "cycles estimated from a trace: timings of {core}, flash of {line_bytes} B in {fill_cycles} cycles behind \
             {code_lines} + {data_lines} lines{prefetch}"
        )
    }

    /// Prepares to time a program of the firmware.
    pub(super) fn trace(&self, program: &Path, memory: &Memory) -> Result<Trace, CyclesError> {
        let out = NamedTempFile::new().map_err(|source| CyclesError::Io { what: "a trace".into(), source })?;
        let Flash { line_bytes, fill_cycles, code_lines, data_lines, prefetch } = self.flash;
        // A comma in a path is doubled in options of QEMU.
        let path = |path: &Path| path.display().to_string().replace(',', ",,");
        let mut argument = format!(
            "{},core={},mark={},out={},line={line_bytes},fill={fill_cycles},code={code_lines},data={data_lines},prefetch={}",
            path(&plugin()?),
            self.core.name(),
            reading(program)?,
            path(out.path()),
            if prefetch { "on" } else { "off" },
        );
        for region in [memory.flash, memory.job] {
            argument += &format!(",from={},to={}", region.origin, region.origin.saturating_add(region.bytes));
        }
        Ok(Trace { argument, out })
    }
}

impl Core {
    fn name(self) -> &'static str {
        match self {
            Core::CortexM4 => "cortex-m4",
            Core::CortexM7 => "cortex-m7",
        }
    }
}

impl Trace {
    /// For the emulator's `-plugin`.
    pub(super) fn argument(&self) -> &str {
        &self.argument
    }

    /// The cycles of each stretch of work that the firmware timed, in the order in which it did.
    pub(super) fn stretches(&self) -> Result<Vec<u64>, CyclesError> {
        let text = std::fs::read_to_string(self.out.path());
        let text = text.map_err(|source| CyclesError::Io { what: "the trace".into(), source })?;
        let readings: Vec<u64> = text.lines().filter_map(|line| line.parse().ok()).collect();
        let (pairs, _) = readings.as_chunks();
        let stretches: Vec<u64> = pairs.iter().map(|[begin, end]| end - begin).collect();
        // The firmware reads its counter twice in a row, first of all, to know what reading costs.
        let (overhead, rest) = stretches.split_first().ok_or(CyclesError::NoReadings)?;
        Ok(rest.iter().map(|stretch| stretch.saturating_sub(*overhead)).collect())
    }
}

/// Why there is no estimate.
#[derive(Debug, thiserror::Error)]
pub enum CyclesError {
    /// The plugin could not be built.
    #[error(transparent)]
    Plugin(#[from] FirmwareError),
    /// A file could not be read or written.
    #[error("{what}: {source}")]
    Io {
        /// Which.
        what: String,
        /// Why.
        source: std::io::Error,
    },
    /// The firmware is not as expected.
    #[error("{program}: {reason}: build the firmware anew (`pare targets --build`)")]
    Program {
        /// The file.
        program: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The plugin told nothing.
    #[error("the emulator's trace holds no readings: it needs an emulator with plugins (QEMU 4.2 to 8)")]
    NoReadings,
    /// The emulator gave up.
    #[error(transparent)]
    Emulator(#[from] EmulatorError),
}

/// The plugin, built if it is not up to date.
fn plugin() -> Result<PathBuf, FirmwareError> {
    let sources = firmware::sources()?.join("../cycles");
    let target_dir = sources.join("../../target/cycles");
    firmware::cargo_build(&sources, &target_dir, "the emulator's plugin", &[], &[])?;
    let file = format!("{}pare_cycles{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    Ok(target_dir.join("release").join(file))
}

/// The address of the first instruction of what reads the counter.
fn reading(program: &Path) -> Result<u64, CyclesError> {
    let refuse = |reason: String| CyclesError::Program { program: program.display().to_string(), reason };
    let bytes =
        std::fs::read(program).map_err(|source| CyclesError::Io { what: program.display().to_string(), source })?;
    let file = object::File::parse(&*bytes).map_err(|error| refuse(error.to_string()))?;
    let symbol = file.symbols().find(|symbol| symbol.name() == Ok(READING));
    // The lowest bit says that it is Thumb code.
    symbol.map(|symbol| symbol.address() & !1).ok_or_else(|| refuse(format!("it has no symbol `{READING}`")))
}
