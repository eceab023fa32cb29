//! Files that are either whole or absent.

use std::fs;
use std::io;
use std::path::Path;

/// Writes `bytes` beside `path`, then renames it there; makes the directory where it is missing.
/// A reader sees the old file or the new one, and a failure leaves no partial output.
///
/// # Errors
/// The I/O error, with the path in its message.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(directory).map_err(named)?;
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = directory.join(name);
    let written = fs::write(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
    written.map_err(|error| {
        // The error that matters is the first; the leftover may not even exist.
        let _ = fs::remove_file(&temporary);
        named(error)
    })
}
