//! Programs for microcontrollers, built when first needed from `targets/firmware` of Pare's source tree.
//!
//! One build serves all networks on a core: network and inputs lie beside it in memory, as a [`Job`].

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use pare_runtime::{Isa, Model, arena_bytes};
use serde::{Deserialize, Serialize};

use super::chip::{Step, Uart};
use super::job::{self, CounterKind, Job};
use super::runtime_version;
use crate::emit::ObjectArch;
use crate::files;
use crate::units::TickUnit;

/// What firmware is compiled for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Core {
    /// The target of the Rust compiler.
    pub rust_target: String,
    /// The processor, as the Rust compiler's `target-cpu` names it.
    pub cpu: String,
    /// The kernel families that its instructions allow, slowest first.
    #[serde(with = "kernel_names")]
    pub kernels: Vec<Isa>,
}

/// A chip that takes its jobs from a serial port, and what firmware must know of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Device {
    /// What firmware is compiled for.
    pub core: Core,
    /// Where things lie; networks may be programmed into the job region.
    pub memory: Memory,
    /// What tells time.
    pub counter: Counter,
    /// The port.
    pub uart: Uart,
    /// What the port and the clock need first.
    pub setup: Vec<Step>,
    /// What is counted,
    pub unit: TickUnit,
    /// and how much of it in a tick of the counter.
    pub per_tick: f64,
}

/// Where things lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// Code; it starts with what the core reads at reset.
    pub flash: Region,
    /// Stack, variables, and the arena in all the rest.
    pub ram: Region,
    /// Network and inputs, which the firmware only reads.
    pub job: Region,
}

/// Consecutive addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Region {
    /// The first.
    pub origin: u32,
    /// How many.
    pub bytes: u32,
}

impl Region {
    /// Whether it holds something, and addresses reach its end.
    pub(crate) fn is_within_addresses(&self) -> bool {
        self.bytes > 0 && self.origin.checked_add(self.bytes - 1).is_some()
    }
}

/// What tells time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counter {
    /// Which registers there are.
    pub kind: CounterKind,
    /// Where they are; left out for a counter that is part of the core.
    #[serde(default)]
    pub address: u32,
    /// Ticks a second.
    pub hz: u32,
}

/// Why there is no firmware.
#[derive(Debug, thiserror::Error)]
pub enum FirmwareError {
    /// The sources are gone.
    #[error(
        "the firmware's sources are not in {0}: set PARE_FIRMWARE to the directory targets/firmware of Pare's source tree"
    )]
    NoSources(PathBuf),
    /// No compiler has the target.
    #[error("no Rust compiler here builds for {0}: run targets/setup, or `rustup target add {0}`")]
    NoTarget(String),
    /// A program could not be started, or a file not be written.
    #[error("{what}: {source}")]
    Io {
        /// Which.
        what: String,
        /// Why.
        source: std::io::Error,
    },
    /// Cargo gave up.
    #[error("{what} does not build:\n{log}")]
    Build {
        /// Which program.
        what: String,
        /// What Cargo said.
        log: String,
    },
    /// The blob is larger than the place for it.
    #[error("network and input take {need} bytes, but the board has {have} for them: compile with a lower --max-flash")]
    TooLarge {
        /// Blob and one sample, with the header.
        need: usize,
        /// Bytes of the job region.
        have: usize,
    },
    /// The arena is larger than the memory.
    #[error("the network's arena takes {need} bytes, but the board has {have} of RAM: compile with a lower --max-ram")]
    ArenaTooLarge {
        /// As the blob states it.
        need: usize,
        /// Bytes of RAM, some of which the firmware takes.
        have: usize,
    },
}

/// Builds the programs that an emulator runs and returns the directory that they are in; Cargo knows what is up to date.
///
/// # Errors
/// [`FirmwareError`] naming what is missing and how to get it.
pub fn build(board: &str, core: &Core, memory: &Memory) -> Result<PathBuf, FirmwareError> {
    build_programs(&directory(board)?, core, memory, &["--bins"], &[])
}

/// Builds the program that a board at a serial port runs, an ELF file to be programmed into its flash, and returns its
/// path.
///
/// # Errors
/// As [`build`].
pub fn build_serve(board: &str, device: &Device) -> Result<PathBuf, FirmwareError> {
    let directory = directory(board)?;
    let constants = directory.join("board.rs");
    replace(&constants, &device.constants(board))?;
    let arguments = ["--features", "serial", "--bin", "serve"];
    let programs =
        build_programs(&directory, &device.core, &device.memory, &arguments, &[("PARE_BOARD", constants.as_os_str())])?;
    Ok(programs.join("serve"))
}

/// Builds the least program that runs a network, and returns its path.
pub(super) fn build_linked(board: &str, core: &Core, memory: &Memory, blob: &[u8]) -> Result<PathBuf, FirmwareError> {
    // Its runtime has other kernels than that of the other programs: they would build each other's anew.
    let target_dir = directory(board)?.join("linked");
    let network = target_dir.join("network.pare");
    if std::fs::read(&network).ok().as_deref() != Some(blob) {
        files::replace(&network, blob).map_err(|source| io(&network.display().to_string(), source))?;
    }
    let arguments = ["--features", "network", "--bin", "least"];
    let programs = build_programs(&target_dir, core, memory, &arguments, &[("PARE_NETWORKS", network.as_os_str())])?;
    Ok(programs.join("least"))
}

fn build_programs(
    target_dir: &Path,
    core: &Core,
    memory: &Memory,
    programs: &[&str],
    more: &[(&str, &OsStr)],
) -> Result<PathBuf, FirmwareError> {
    let map = target_dir.join("memory.x");
    replace(&map, &memory.linker_script())?;
    let toolchain = Toolchain::find(&core.rust_target)?;
    let mut flags = format!("-Ctarget-cpu={}", core.cpu);
    if let Some(linker) = &toolchain.linker {
        flags += &format!("\x1f-Clinker={linker}\x1f-Clinker-flavor=ld");
        if core.rust_target.starts_with("riscv32") {
            // That linker is for 64 bits by default.
            flags += "\x1f-Clink-arg=-melf32lriscv";
        }
    }
    let mut environment = more.to_vec();
    environment.extend([
        ("RUSTC", toolchain.rustc.as_os_str()),
        ("CARGO_ENCODED_RUSTFLAGS", flags.as_ref()),
        ("PARE_MEMORY_MAP", map.as_os_str()),
        ("CARGO_PROFILE_RELEASE_OPT_LEVEL", core.opt_level().as_ref()),
    ]);
    let what = format!("the firmware for {}", core.cpu);
    let arguments = [programs, &["--target", &core.rust_target]].concat();
    cargo_build(&sources()?, target_dir, &what, &arguments, &environment)?;
    Ok(target_dir.join(&core.rust_target).join("release"))
}

/// What is built for a board, and what it is built from.
fn directory(board: &str) -> Result<PathBuf, FirmwareError> {
    Ok(sources()?.join("../../target/firmware").join(board))
}

/// Writes a file where it is not what it should be: Cargo goes by when files were written.
fn replace(path: &Path, text: &str) -> Result<(), FirmwareError> {
    if std::fs::read_to_string(path).is_ok_and(|found| found == text) {
        return Ok(());
    }
    files::replace(path, text.as_bytes()).map_err(|source| io(&path.display().to_string(), source))
}

/// Builds a workspace of `targets`; Cargo knows what is up to date.
pub(super) fn cargo_build(
    sources: &Path,
    target_dir: &Path,
    what: &str,
    arguments: &[&str],
    environment: &[(&str, &OsStr)],
) -> Result<(), FirmwareError> {
    let output = Command::new("cargo")
        .args(["build", "--quiet", "--locked", "--release"])
        .args(arguments)
        .arg("--target-dir")
        .arg(target_dir)
        .current_dir(sources)
        .envs(environment.iter().copied())
        .output()
        .map_err(|source| io("cargo", source))?;
    if !output.status.success() {
        let log = String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
        return Err(FirmwareError::Build { what: what.to_owned(), log });
    }
    Ok(())
}

/// What goes into the job region for a blob and samples back to back.
///
/// # Errors
/// [`FirmwareError::TooLarge`] or [`FirmwareError::ArenaTooLarge`].
pub fn job(memory: &Memory, counter: &Counter, isa: Isa, blob: &[u8], codes: &[u8]) -> Result<Vec<u8>, FirmwareError> {
    let (need, have) = (arena_bytes(blob), memory.ram.bytes as usize);
    if need > have {
        return Err(FirmwareError::ArenaTooLarge { need, have });
    }
    let header = Job {
        isa: Isa::ALL.iter().position(|&known| known == isa).unwrap_or_default() as u32,
        counter: counter.kind,
        counter_address: counter.address,
        blob_bytes: blob.len() as u32,
        input_bytes: codes.len() as u32,
    };
    let mut bytes = header.to_bytes().to_vec();
    bytes.extend(blob);
    bytes.resize(bytes.len().next_multiple_of(job::ALIGN), 0);
    bytes.extend(codes);
    let have = memory.job.bytes as usize;
    if bytes.len() > have { Err(FirmwareError::TooLarge { need: bytes.len(), have }) } else { Ok(bytes) }
}

/// The samples of a blob that a job can hold; at least 1, whether that fits or not.
pub fn samples_a_job(memory: &Memory, model: &Model<'_>) -> usize {
    let input_bytes: usize = model.inputs().map(|tensor| tensor.shape.len()).sum();
    let rest = (memory.job.bytes as usize).saturating_sub(job::HEADER_BYTES + model.bytes().len() + job::ALIGN);
    (rest / input_bytes.max(1)).max(1)
}

impl Core {
    /// How far code is optimised. With the DSP extension all loops that take time are in assembly, and the rest had rather
    /// be small; without it they are not, or with Helium so fast that the rest counts.
    fn opt_level(&self) -> &'static str {
        if self.kernels.last() == Some(&Isa::Dsp) { "2" } else { "3" }
    }

    /// The processor of its object files.
    pub(super) fn object_arch(&self) -> ObjectArch {
        match self.rust_target.as_str() {
            target if target.starts_with("riscv32") => ObjectArch::Riscv32,
            target if target.ends_with("eabihf") => ObjectArch::ArmHardFloat,
            _ => ObjectArch::ArmSoftFloat,
        }
    }
}

impl Device {
    /// The constants that `serve` is compiled with. What derives `Debug` prints as Rust.
    fn constants(&self, board: &str) -> String {
        let Device { counter, uart, setup, .. } = self;
        format!(
            "pub const TARGET: &str = {board:?};\n\
             pub const RUNTIME: &str = {:?};\n\
             pub const COUNTER: CounterKind = {:?};\n\
             pub const COUNTER_ADDRESS: u32 = {};\n\
             pub const UART: Uart = {uart:?};\n\
             pub const SETUP: &[Step] = &{setup:?};\n",
            runtime_version(),
            counter.kind,
            counter.address,
        )
    }
}

impl Memory {
    /// The `MEMORY` command that the linker scripts of the firmware expect.
    fn linker_script(&self) -> String {
        let line = |name: &str, region: Region| {
            format!("    {name} : ORIGIN = {:#010x}, LENGTH = {:#010x}\n", region.origin, region.bytes)
        };
        let lines = [line("FLASH (rx)", self.flash), line("RAM (rwx)", self.ram), line("JOB (r)", self.job)];
        format!("MEMORY\n{{\n{}}}\n", lines.concat())
    }
}

/// The directory of the firmware's sources.
pub(super) fn sources() -> Result<PathBuf, FirmwareError> {
    let beside_the_compiler = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../targets/firmware");
    let directory = std::env::var_os("PARE_FIRMWARE").map_or_else(beside_the_compiler, PathBuf::from);
    if directory.join("Cargo.toml").exists() { Ok(directory) } else { Err(FirmwareError::NoSources(directory)) }
}

/// A compiler that has the core library of a target.
struct Toolchain {
    rustc: PathBuf,
    /// Where the compiler brings none.
    linker: Option<String>,
}

impl Toolchain {
    /// The usual compiler if it has the target, else one of the sysroots that `targets/setup` makes where rustup
    /// cannot download any.
    fn find(rust_target: &str) -> Result<Toolchain, FirmwareError> {
        let usual = std::env::var_os("RUSTC").map_or_else(|| PathBuf::from("rustc"), PathBuf::from);
        if has_core(&usual, rust_target) {
            return Ok(Toolchain { rustc: usual, linker: None });
        }
        let made = sysroots().into_iter().map(|sysroot| sysroot.join("bin/rustc"));
        let mut suitable = made.filter(|rustc| has_core(rustc, rust_target));
        let rustc = suitable.next().ok_or_else(|| FirmwareError::NoTarget(rust_target.to_owned()))?;
        // A distribution's compiler comes without the linker of bare-metal targets.
        let linker = if rust_target.starts_with("riscv") { "riscv64-unknown-elf-ld" } else { "arm-none-eabi-ld" };
        Ok(Toolchain { rustc, linker: Some(linker.to_owned()) })
    }
}

fn has_core(rustc: &Path, rust_target: &str) -> bool {
    let output = Command::new(rustc).args(["--print", "target-libdir", "--target", rust_target]).output();
    let Ok(output) = output else { return false };
    let directory = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let Ok(entries) = std::fs::read_dir(directory) else { return false };
    entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("libcore-"))
}

/// Newest last by name; those of `.ci/no-std-sysroot`.
fn sysroots() -> Vec<PathBuf> {
    let home = || std::env::home_dir().unwrap_or_else(std::env::temp_dir).join(".cache");
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(home, PathBuf::from);
    let entries = std::fs::read_dir(cache.join("pare/sysroot")).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths.reverse();
    paths
}

fn io(what: &str, source: std::io::Error) -> FirmwareError {
    FirmwareError::Io { what: what.to_owned(), source }
}

/// Kernel families by name.
pub(super) mod kernel_names {
    use pare_runtime::Isa;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(in crate::board) fn serialize<S: Serializer>(isas: &[Isa], to: S) -> Result<S::Ok, S::Error> {
        isas.iter().map(|isa| isa.name()).collect::<Vec<_>>().serialize(to)
    }

    pub(in crate::board) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Isa>, D::Error> {
        let names = Vec::<String>::deserialize(from)?;
        names.iter().map(|name| name.parse().map_err(|e| D::Error::custom(format!("`{name}`: {e}")))).collect()
    }
}
