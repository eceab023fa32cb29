//! Names the sources that a build was made from: scores remembered on disk count for them alone, latency
//! tables for those of the runtime.

use std::fs;
use std::path::{Path, PathBuf};

fn main() {
    let root = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let runtime = sources(&root.join("../runtime/src"), FNV_BASIS);
    println!("cargo::rustc-env=PARE_RUNTIME_SOURCES={runtime:016x}");
    println!("cargo::rustc-env=PARE_SOURCES={:016x}", sources(&root.join("src"), runtime));
}

/// The hash of all files below a directory, after `hash`. A published compiler has no runtime beside it: there
/// its version, which Cargo pins, speaks for it.
fn sources(directory: &Path, hash: u64) -> u64 {
    if !directory.is_dir() {
        return hash;
    }
    println!("cargo::rerun-if-changed={}", directory.display());
    files(directory).iter().fold(hash, |hash, file| fnv(hash, &fs::read(file).unwrap_or_default()))
}

/// Every file below a directory, in the order of names.
fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths.into_iter().flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

const FNV_BASIS: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a (Fowler, Noll and Vo): short, and the same in every release of Rust.
fn fnv(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
