//! Hands the linker its scripts: that of the architecture, and the board's memory map.

use std::path::Path;

fn main() {
    println!("cargo::rerun-if-env-changed=PARE_MEMORY_MAP");
    let target = std::env::var("TARGET").unwrap_or_default();
    let script = if target.starts_with("riscv") { "riscv.ld" } else { "cortex-m.ld" };
    let here = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    println!("cargo::rerun-if-changed={script}");
    let Some(map) = std::env::var_os("PARE_MEMORY_MAP") else {
        println!("cargo::error=PARE_MEMORY_MAP names no file: set it to a linker script with the board's MEMORY");
        return;
    };
    println!("cargo::rerun-if-changed={}", Path::new(&map).display());
    for argument in [format!("-T{}", Path::new(&map).display()), format!("-T{here}/{script}")] {
        println!("cargo::rustc-link-arg-bins={argument}");
    }
}
