//! Published systems, one module each, put together from the parts of this crate.

pub mod amc;
pub mod deep_compression;
pub mod haq;
pub mod quantizers;
