//! What the conformance tests, the benches and the fuzz targets share: problems and blobs made to order.

pub mod blob;
pub mod fuzz;
pub mod problems;
