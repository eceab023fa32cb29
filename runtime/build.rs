//! Says which instructions the target has where the compiler keeps that to itself: on stable Rust
//! `cfg(target_feature = "dsp")` does not exist. Names the networks whose kernels are linked.

use std::env::{split_paths, var, var_os};
use std::path::Path;

/// Processors of Armv8-M whose DSP extension the target's name says nothing about.
const WITH_DSP: [&str; 4] = ["cortex-m33", "cortex-m35p", "cortex-m55", "cortex-m85"];

fn main() {
    println!("cargo::rustc-check-cfg=cfg(pare_dsp, pare_armv8m)");
    let target = var("TARGET").unwrap_or_default();
    if has_dsp(&target, &var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default()) {
        println!("cargo::rustc-cfg=pare_dsp");
    }
    if target.starts_with("thumbv8m.") {
        println!("cargo::rustc-cfg=pare_armv8m");
    }
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=PARE_NETWORKS");
    let out = var_os("OUT_DIR").unwrap_or_default();
    if let Err(error) = std::fs::write(Path::new(&out).join("networks.rs"), networks()) {
        println!("cargo::error=the networks cannot be written down: {error}");
    }
}

/// The blobs in `PARE_NETWORKS` as an expression; hosts take any network.
fn networks() -> String {
    let bare = var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "none");
    let paths = var_os("PARE_NETWORKS").filter(|_| bare).unwrap_or_default();
    let mut blobs = String::new();
    for path in split_paths(&paths).filter(|path| path != Path::new("")) {
        println!("cargo::rerun-if-changed={}", path.display());
        if !std::fs::read(&path).is_ok_and(|blob| blob.starts_with(b"PARE")) {
            println!("cargo::error=PARE_NETWORKS: {} is no network that `pare compile` made", path.display());
        } else if let Ok(path) = path.canonicalize() {
            blobs += &format!("include_bytes!({path:?}), ");
        }
    }
    format!("&[{blobs}]")
}

/// Whether 32-bit Arm code may use the DSP extension: always with Armv7E-M and the A and R profiles of Armv7, with
/// Armv8-M if the flags of the compiler name a processor that has it, or the feature.
fn has_dsp(target: &str, flags: &str) -> bool {
    let always = ["thumbv7em-", "thumbv7neon-", "thumbv7a-", "thumbv7r-", "armv7"];
    let named = || {
        // Each flag and its value come apart or together: `-C` `target-cpu=x`, `-Ctarget-cpu=x`.
        flags.split('\x1f').map(|flag| flag.trim_start_matches("-C")).any(|flag| match flag.split_once('=') {
            Some(("target-cpu", cpu)) => WITH_DSP.contains(&cpu),
            Some(("target-feature", features)) => features.split(',').any(|feature| feature == "+dsp"),
            _ => false,
        })
    };
    always.iter().any(|prefix| target.starts_with(prefix)) || target.starts_with("thumbv8m.main-") && named()
}
