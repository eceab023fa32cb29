//! Puts the memory map of the board where the linker finds it.

use std::path::PathBuf;

fn main() -> std::io::Result<()> {
    let out = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default());
    let target = std::env::var("TARGET").unwrap_or_default();
    let map = if target.starts_with("riscv") { "riscv.x" } else { "cortex-m.x" };
    std::fs::copy(map, out.join("memory.x"))?;
    println!("cargo::rerun-if-changed={map}");
    println!("cargo::rustc-link-search={}", out.display());
    Ok(())
}
