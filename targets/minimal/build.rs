//! Hands the linker its script.

fn main() {
    let here = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    println!("cargo::rerun-if-changed=minimal.ld");
    println!("cargo::rustc-link-arg-bins=-T{here}/minimal.ld");
}
