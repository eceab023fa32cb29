//! Files that are either whole or absent, and files mapped into memory.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::Mmap;

/// Maps a file into memory: blobs are read where they lie, at an address that suits every kernel.
/// `None` for an empty file, which cannot be mapped.
///
/// # Errors
/// The I/O error.
pub fn map(path: &Path) -> io::Result<Option<Mmap>> {
    let file = fs::File::open(path)?;
    if file.metadata()?.len() == 0 {
        return Ok(None);
    }
    // SAFETY: the mapping is private and read-only, and everything that reads it checks each offset
    // against its length. A program that cuts the file short meanwhile ends this one, as with any mapped
    // file: Pare itself only ever replaces files whole, by renaming.
    unsafe { Mmap::map(&file) }.map(Some)
}

/// Writes `bytes` beside `path`, then renames it there; makes the directory where it is missing.
/// A reader sees the old file or the new one, and a failure leaves no partial output.
///
/// # Errors
/// The I/O error, with the path in its message.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // Threads may replace the same file at the same time.
    static REPLACED: AtomicU64 = AtomicU64::new(0);
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(directory).map_err(named)?;
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}-{}.tmp", std::process::id(), REPLACED.fetch_add(1, Ordering::Relaxed)));
    let temporary = directory.join(name);
    let written = fs::write(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
    written.map_err(|error| {
        // The error that matters is the first; the leftover may not even exist.
        let _ = fs::remove_file(&temporary);
        named(error)
    })
}
