//! From a plan to files: the blob, and the ways to link it.

mod blob;
mod object;
mod source;

pub use blob::{Blob, EmitError, emit};
pub use object::{ObjectArch, object_file};
pub use source::{c_header, rust_stub};

/// A name as an identifier of C and Rust.
pub fn symbol(name: &str) -> String {
    let clean: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect();
    let starts_well = clean.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if starts_well { clean } else { format!("model_{clean}") }
}
