//! For Armv7-M, in assembly: tiles of two windows by two filters, whose sums and pointers fill the registers.
//!
//! Soundness: callers have checked that windows and filters are as long as the loops go.
#![allow(unsafe_code, reason = "loops in assembly")]

use core::arch::naked_asm;

use super::job::Job;

/// Windows of a tile.
pub(in crate::kernels::scalar) const WINDOWS: usize = 2;
/// Filters of a tile.
pub(in crate::kernels::scalar) const FILTERS: usize = 2;
