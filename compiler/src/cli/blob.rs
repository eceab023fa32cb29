//! Blobs from files, as they run or as they are stored.

use std::ops::Deref;
use std::path::Path;

use anyhow::{Context, Result};
use memmap2::Mmap;
use pare_runtime::FormatError;
use pare_runtime::format::MAGIC;

use crate::board::AlignedBytes;
use crate::{files, storage};

/// The bytes of a blob.
pub(super) enum BlobBytes {
    /// The file itself.
    Mapped(Mmap),
    /// Out of a stored one.
    Decoded(AlignedBytes),
}

impl Deref for BlobBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            BlobBytes::Mapped(bytes) => bytes,
            BlobBytes::Decoded(bytes) => bytes,
        }
    }
}

/// A blob; `None` when the file is something else.
pub(super) fn read_blob(path: &Path) -> Result<Option<BlobBytes>> {
    if path.is_dir() {
        return Ok(None);
    }
    let named = || format!("cannot read {}", path.display());
    let called_blob = path.extension().is_some_and(|e| e == "pare");
    match files::map(path).with_context(named)? {
        Some(bytes) if storage::is_stored(&bytes) => {
            let blob = storage::decode(&bytes).with_context(named)?;
            Ok(Some(BlobBytes::Decoded(AlignedBytes::from(&blob[..]))))
        }
        Some(bytes) => Ok((called_blob || bytes.starts_with(&MAGIC)).then_some(BlobBytes::Mapped(bytes))),
        None if called_blob => Err(FormatError::NotABlob).with_context(|| format!("{} is empty", path.display())),
        None => Ok(None),
    }
}
