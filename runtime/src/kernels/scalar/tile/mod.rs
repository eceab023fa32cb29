//! The innermost loops: sums of products of a few windows by a few filters.
//!
//! In assembly for the cores that these kernels are meant for: `job` is what the loops have in common, `native` those
//! of the core. In plain Rust for all others.
#![cfg_attr(pare_loops, allow(unsafe_code, reason = "loops in assembly"))]

#[cfg(pare_loops)]
mod job;
#[cfg_attr(pare_loops = "riscv", path = "riscv.rs")]
#[cfg_attr(pare_loops = "thumb1", path = "thumb1.rs")]
#[cfg_attr(pare_loops = "thumb2", path = "thumb2.rs")]
#[cfg(pare_loops)]
mod native;
#[cfg(not(pare_loops))]
mod plain;

#[cfg(not(pare_loops))]
pub(super) use self::plain::{FILTERS, WINDOWS, bytes, words};
#[cfg(pare_loops)]
pub(super) use self::{
    job::{bytes, words},
    native::{FILTERS, WINDOWS},
};

/// The sums of so many windows.
pub(super) type Sums<const N: usize> = [[i32; FILTERS]; N];

/// How a window lies in memory: runs of neighbours. The levels of a filter follow one another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Runs {
    /// Activations of a run, one at least.
    len: usize,
    /// How many, one at least.
    count: usize,
    /// Activations from the start of one to that of the next.
    pitch: usize,
    /// Activations from the start of the first to the end of the last.
    window: usize,
    /// Levels of a filter.
    filter: usize,
}

impl Runs {
    /// `count` runs of `len` activations, each `pitch` from the one before; `None` if there are none, or they overlap.
    pub(super) fn new(len: usize, count: usize, pitch: usize) -> Option<Runs> {
        let window = count.checked_sub(1)?.checked_mul(pitch)?.checked_add(len)?;
        let filter = count.checked_mul(len)?;
        (len > 0 && (pitch >= len || count == 1)).then_some(Runs { len, count, pitch, window, filter })
    }

    /// Whether windows and filters are as long as that.
    fn fit<A, L>(&self, windows: &[&[A]], filters: &[&[L]]) -> bool {
        windows.iter().all(|of| of.len() >= self.window) && filters.iter().all(|of| of.len() >= self.filter)
    }
}
