//! What the conformance tests, the benches and the fuzz targets share: problems and blobs made to order.

pub mod blob;
pub mod fuzz;
#[cfg(feature = "compiler")]
pub mod graphs;
pub mod problems;
