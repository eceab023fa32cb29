//! Names the sources that a build was made from: scores remembered on disk count for them alone.

use std::fs;
use std::path::{Path, PathBuf};

fn main() {
    let root = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let mut hash = 0xcbf2_9ce4_8422_2325;
    // A published compiler has no runtime beside it: there its version, which Cargo pins, speaks for it.
    for directory in [root.join("src"), root.join("../runtime/src")].iter().filter(|path| path.is_dir()) {
        println!("cargo::rerun-if-changed={}", directory.display());
        for file in files(directory) {
            hash = fnv(hash, &fs::read(file).unwrap_or_default());
        }
    }
    println!("cargo::rustc-env=PARE_SOURCES={hash:016x}");
}

/// Every file below a directory, in the order of names.
fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths.into_iter().flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// FNV-1a (Fowler, Noll and Vo): short, and the same in every release of Rust.
fn fnv(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
