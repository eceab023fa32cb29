//! Runs a packed, mixed-precision network on anything from a microcontroller to a server core.
//!
//! `no_std`, no allocation, no floating point while running, no panic after [`Session::new`]; the
//! only dependency is `bytemuck`. The blob stays where it is (flash, a mapped file); the caller
//! brings one arena whose size is known before anything runs:
//!
//! ```
//! # use pare_runtime::{Model, Session, SetupError};
//! # fn demo(blob: &[u8], arena: &mut [u8]) -> Result<u8, Box<dyn core::error::Error>> {
//! let model = Model::parse(blob)?;
//! let mut session = Session::new(model, arena)?;
//! session.input(0).fill(0);
//! session.run();
//! # Ok(session.output(0)[0])
//! # }
//! ```
//!
//! * [`mod@format`] specifies the blob and the integer semantics of every operator.
//! * [`kernels::reference`] *is* the definition of the arithmetic; every other kernel is bit-exact to it.
#![no_std]
#![deny(unsafe_code)]
// Only what turns codes into real numbers and back, before and after a run.
#![deny(clippy::float_arithmetic)]

#[cfg(target_endian = "big")]
compile_error!("pare-runtime reads little-endian blobs in place: big-endian targets are not supported");

#[deny(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]
pub mod format;
#[deny(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]
pub mod model;
#[deny(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]
mod moving;
#[deny(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]
pub mod session;
#[deny(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]
mod stage;
#[deny(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]
pub mod team;

pub mod arena;
pub mod bits;
pub mod error;
pub mod kernels;
pub mod probe;
pub mod requant;
pub mod sparse;

pub use arena::{Arena, arena_bytes};
pub use error::{Detail, FormatError, SetupError};
pub use kernels::{Isa, KernelSet};
pub use model::Model;
pub use probe::Probe;
pub use session::Session;
pub use team::Team;

/// Version of this crate: latency tables record it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
