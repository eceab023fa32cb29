//! Reads no more than a file has and no more than its header promises.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::DataError;

/// Most bytes that a set may hold: it is kept in memory.
pub(super) const MAX_BYTES: u64 = 4 << 30;

pub(super) fn open(path: &Path) -> Result<File, DataError> {
    File::open(path).map_err(DataError::io(path))
}

/// Exactly the `len` bytes that are left in `reader`. Memory grows with what is really there.
pub(super) fn read_exactly(path: &Path, reader: impl Read, len: u64) -> Result<Vec<u8>, DataError> {
    if len > MAX_BYTES {
        return Err(DataError::malformed(
            path,
            format!("promises {len} bytes, and a set is held in memory: use at most {MAX_BYTES}"),
        ));
    }
    let mut bytes = Vec::new();
    reader.take(len + 1).read_to_end(&mut bytes).map_err(DataError::io(path))?;
    match (bytes.len() as u64).cmp(&len) {
        std::cmp::Ordering::Equal => Ok(bytes),
        std::cmp::Ordering::Less => Err(DataError::malformed(
            path,
            format!("is cut short ({} of {len} bytes of data): download it again", bytes.len()),
        )),
        std::cmp::Ordering::Greater => Err(DataError::malformed(
            path,
            format!("has more than the {len} bytes its header promises: write it again"),
        )),
    }
}
