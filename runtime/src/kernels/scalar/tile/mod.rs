//! The innermost loops: sums of products of a few windows by a few filters.

#[cfg(not(all(target_arch = "riscv32", target_feature = "m")))]
mod plain;
#[cfg(all(target_arch = "riscv32", target_feature = "m"))]
mod riscv;

#[cfg(not(all(target_arch = "riscv32", target_feature = "m")))]
pub(super) use plain::{FILTERS, WINDOWS, bytes, words};
#[cfg(all(target_arch = "riscv32", target_feature = "m"))]
pub(super) use riscv::{FILTERS, WINDOWS, bytes, words};

/// The sums of so many windows.
pub(super) type Sums<const N: usize> = [[i32; FILTERS]; N];

/// How a window lies in memory: runs of neighbours. The levels of a filter follow one another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Runs {
    /// Activations of a run.
    pub(super) len: usize,
    /// How many.
    pub(super) count: usize,
    /// Activations from the start of one to that of the next.
    pub(super) pitch: usize,
}

impl Runs {
    /// Whether windows and filters hold as many as are read, one at least.
    #[cfg(target_arch = "riscv32")]
    fn fit<A, L>(&self, windows: &[&[A]], filters: &[&[L]]) -> Option<bool> {
        let window = self.count.checked_sub(1)?.checked_mul(self.pitch)?.checked_add(self.len)?;
        let filter = self.count.checked_mul(self.len)?;
        let whole = self.len > 0 && self.pitch >= self.len;
        let fit = windows.iter().all(|of| of.len() >= window) && filters.iter().all(|of| of.len() >= filter);
        Some(whole && fit)
    }
}
