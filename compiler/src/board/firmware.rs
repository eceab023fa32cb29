//! Programs for microcontrollers, built when first needed from `targets/firmware` of Pare's source tree.
//!
//! One build serves all networks on a core: network and inputs lie beside it in memory, as a [`Job`].

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use object::{Object, ObjectSection};
use pare_runtime::{Isa, Model, arena_bytes};
use serde::{Deserialize, Serialize};

use super::job::{self, CounterKind, Job};
use crate::files;
use crate::units::Bytes;

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

/// Builds all programs for a board and returns the directory that they are in; Cargo knows what is up to date.
///
/// # Errors
/// [`FirmwareError`] naming what is missing and how to get it.
pub fn build(board: &str, core: &Core, memory: &Memory) -> Result<PathBuf, FirmwareError> {
    let sources = sources()?;
    let target_dir = sources.join("../../target/firmware").join(board);
    let map = target_dir.join("memory.x");
    let text = memory.linker_script();
    if std::fs::read_to_string(&map).ok().as_ref() != Some(&text) {
        files::replace(&map, text.as_bytes()).map_err(|source| io("the memory map", source))?;
    }
    let [rustc, flags] = compiler(core)?;
    let environment = [("RUSTC", rustc), ("CARGO_ENCODED_RUSTFLAGS", flags), ("PARE_MEMORY_MAP", map.into_os_string())];
    let what = format!("the firmware for {}", core.cpu);
    cargo_build(&sources, &target_dir, &what, &["--bins", "--target", &core.rust_target], &environment)?;
    Ok(target_dir.join(&core.rust_target).join("release"))
}

/// What a program takes of flash besides its networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Linked {
    /// Its instructions.
    pub code: Bytes,
    /// Its constants.
    pub constants: Bytes,
}

/// Builds the least program that runs a network, the file `network`, with the kernels that it wants alone, and tells
/// what is linked; `target_dir` is for what Cargo makes on the way.
///
/// # Errors
/// [`FirmwareError`] naming what is missing and how to get it.
pub fn linked(core: &Core, network: &Path, target_dir: &Path) -> Result<Linked, FirmwareError> {
    let network = network.canonicalize().map_err(|source| io("the network", source))?;
    let [rustc, flags] = compiler(core)?;
    let environment =
        [("RUSTC", rustc), ("CARGO_ENCODED_RUSTFLAGS", flags), ("PARE_NETWORKS", network.into_os_string())];
    let what = format!("the least program for {}", core.cpu);
    cargo_build(&sources()?.join("../minimal"), target_dir, &what, &["--target", &core.rust_target], &environment)?;
    let program = target_dir.join(&core.rust_target).join("release/pare-minimal");
    let bytes = std::fs::read(program).map_err(|source| io("the least program", source))?;
    let damaged = |log: object::Error| FirmwareError::Build { what: what.clone(), log: log.to_string() };
    let file = object::File::parse(&*bytes).map_err(damaged)?;
    let section = |name| Bytes(file.section_by_name(name).map_or(0, |section| section.size()));
    Ok(Linked { code: section(".text"), constants: section(".rodata") })
}

/// The compiler for a core, and its flags as Cargo takes them.
fn compiler(core: &Core) -> Result<[OsString; 2], FirmwareError> {
    let toolchain = Toolchain::find(&core.rust_target)?;
    let mut flags = format!("-Ctarget-cpu={}", core.cpu);
    if let Some(linker) = &toolchain.linker {
        flags += &format!("\x1f-Clinker={linker}\x1f-Clinker-flavor=ld");
        if core.rust_target.starts_with("riscv32") {
            // That linker is for 64 bits by default.
            flags += "\x1f-Clink-arg=-melf32lriscv";
        }
    }
    Ok([toolchain.rustc.into(), flags.into()])
}

/// Builds a workspace of `targets`; Cargo knows what is up to date.
pub(super) fn cargo_build(
    sources: &Path,
    target_dir: &Path,
    what: &str,
    arguments: &[&str],
    environment: &[(&str, OsString)],
) -> Result<(), FirmwareError> {
    let output = Command::new("cargo")
        .args(["build", "--quiet", "--locked", "--release"])
        .args(arguments)
        .arg("--target-dir")
        .arg(target_dir)
        .current_dir(sources)
        .envs(environment.iter().map(|(name, value)| (name, value)))
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
mod kernel_names {
    use pare_runtime::Isa;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(isas: &[Isa], to: S) -> Result<S::Ok, S::Error> {
        isas.iter().map(|isa| isa.name()).collect::<Vec<_>>().serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Isa>, D::Error> {
        let names = Vec::<String>::deserialize(from)?;
        names.iter().map(|name| name.parse().map_err(|e| D::Error::custom(format!("`{name}`: {e}")))).collect()
    }
}
