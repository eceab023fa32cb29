//! Files that are either whole or absent, files that only grow, and files mapped into memory.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
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
    replace_all(&[(path.to_owned(), bytes.into())])
}

/// As [`replace`] for files that belong together: none takes its place before all are written, so that a full disk
/// leaves the old ones.
///
/// # Errors
/// The first I/O error, with the path in its message.
pub fn replace_all(files: &[(PathBuf, Cow<'_, [u8]>)]) -> io::Result<()> {
    let mut temporaries = Vec::new();
    let placed = files
        .iter()
        .try_for_each(|(path, bytes)| {
            let temporary = beside(path);
            temporaries.push(temporary.clone());
            let made = temporary.parent().map_or(Ok(()), fs::create_dir_all);
            made.and_then(|()| fs::write(&temporary, bytes)).map_err(|error| named(path, error))
        })
        .and_then(|()| {
            let mut pairs = files.iter().zip(&temporaries);
            pairs.try_for_each(|((path, _), temporary)| fs::rename(temporary, path).map_err(|error| named(path, error)))
        });
    if placed.is_err() {
        for temporary in temporaries {
            // The error that matters is the first; the leftover may not even exist.
            let _ = fs::remove_file(temporary);
        }
    }
    placed
}

/// A file in the same directory that no other thread or process writes.
fn beside(path: &Path) -> PathBuf {
    static MADE: AtomicU64 = AtomicU64::new(0);
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}-{}.tmp", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed)));
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    directory.unwrap_or(Path::new(".")).join(name)
}

fn named(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// A file of lines that only grows: what was written before a break is there after it, but for the line that it came in.
///
/// A folder that cannot be written is no reason to fail: what is there is read, and nothing is added.
#[derive(Debug)]
pub struct Lines {
    path: PathBuf,
    /// `None` where it cannot be written.
    file: RefCell<Option<fs::File>>,
}

impl Lines {
    /// Opens the file, or makes it; `is_sound` is shown each whole line, and those that it does not want are taken out, as
    /// is one that was torn.
    pub fn open(path: PathBuf, mut is_sound: impl FnMut(&str) -> bool) -> Lines {
        let text = fs::read(&path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n') && is_sound(line.trim_end()));
        let sound: String = whole.collect();
        let appendable = || {
            if sound != text || text.is_empty() {
                replace(&path, sound.as_bytes())?;
            }
            fs::OpenOptions::new().append(true).open(&path)
        };
        let file = appendable().inspect_err(|error| unwritten(&path, error)).ok();
        Lines { path, file: RefCell::new(file) }
    }

    /// One more line.
    pub fn push(&self, line: &str) {
        let mut file = self.file.borrow_mut();
        if let Some(Err(error)) = file.as_mut().map(|file| file.write_all(format!("{line}\n").as_bytes())) {
            unwritten(&self.path, &error);
            *file = None;
        }
    }
}

fn unwritten(path: &Path, error: &io::Error) {
    tracing::warn!("{} is not written any more: {error}", path.display());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_belong_together_are_all_replaced_or_none() {
        let dir = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "sub/b"].map(|name| dir.path().join(name));
        let both = |x: &'static [u8], y: &'static [u8]| [(a.clone(), x.into()), (b.clone(), y.into())];
        replace_all(&both(b"1", b"2")).unwrap();
        let lost = [(a.clone(), b"3"[..].into()), (a.join("beneath a file"), b"4"[..].into())];
        let error = replace_all(&lost).unwrap_err().to_string();
        assert!(error.contains("beneath a file"), "{error}");
        assert_eq!((fs::read(&a).unwrap(), fs::read(&b).unwrap()), (b"1".to_vec(), b"2".to_vec()));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing is left over");
    }
}
