//! Where blobs run: the host now, emulators and serial boards beside it later.

mod aligned;
pub mod host;

pub use aligned::AlignedBytes;
