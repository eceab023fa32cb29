//! Packed codes.
