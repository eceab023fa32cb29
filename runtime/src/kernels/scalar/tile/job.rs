//! The loops in assembly, and what they go through.
//!
//! Soundness: slices are checked here against all that a loop reads.

use core::ptr::{null, null_mut};

use super::native::{self, FILTERS, WINDOWS};
use super::{Runs, Sums};
use crate::kernels::scalar::words::{BLOCK, Packing};

/// What a loop goes through.
#[repr(C)]
pub(super) struct Job {
    /// The first run of each.
    pub(super) windows: [*const u8; WINDOWS],
    pub(super) filters: [*const u8; FILTERS],
    /// Bytes of a run.
    pub(super) len: usize,
    /// Bytes from the end of a run to the next.
    pub(super) gap: usize,
    /// How many runs.
    pub(super) runs: usize,
    /// Window after window.
    pub(super) sums: *mut i32,
    /// Of words, bytes whose products may add up, a run at most.
    pub(super) room: usize,
    /// Whether those of all runs may.
    pub(super) whole: usize,
    /// Of words, where the sum of products begins, and half of what that bit is worth.
    pub(super) shift: u32,
    pub(super) half: u32,
}

impl Job {
    /// Of activations and levels of equal size; `None` if a slice ends before the runs do.
    fn new<A, L>(windows: &[&[A]], filters: [&[L]; FILTERS], runs: &Runs) -> Option<Job> {
        if !runs.fit(windows, &filters) {
            return None;
        }
        let mut first = [null(); WINDOWS];
        first.iter_mut().zip(windows).for_each(|(to, window)| *to = window.as_ptr().cast());
        Some(Job {
            windows: first,
            filters: filters.map(|filter| filter.as_ptr().cast()),
            len: size_of::<A>() * runs.len,
            gap: size_of::<A>() * runs.pitch.saturating_sub(runs.len),
            runs: runs.count,
            sums: null_mut(),
            room: 0,
            whole: 0,
            shift: 0,
            half: 0,
        })
    }
}

/// Codes by levels. `None` if the slices end before the runs do.
pub(in crate::kernels::scalar) fn bytes<const N: usize>(
    windows: [&[u8]; N],
    filters: [&[i8]; FILTERS],
    runs: &Runs,
) -> Option<Sums<N>> {
    let mut job = Job::new(&windows, filters, runs)?;
    let mut sums = [[0; FILTERS]; N];
    job.sums = sums.as_mut_ptr().cast();
    let leaf = if N == WINDOWS { native::bytes_tile } else { native::bytes_single };
    // SAFETY: the job is of as many windows as the loop takes, or more, and there are as many sums.
    unsafe { leaf(&mut job) };
    Some(sums)
}

/// Words of both. `None` if the slices end before the runs do, or runs are no whole blocks.
pub(in crate::kernels::scalar) fn words<const N: usize>(
    windows: [&[u32]; N],
    filters: [&[u32]; FILTERS],
    runs: &Runs,
    packing: Packing,
) -> Option<Sums<N>> {
    let mut job = Job::new(&windows, filters, runs)?;
    let mut sums = [[0; FILTERS]; N];
    job.sums = sums.as_mut_ptr().cast();
    job.room = packing.room.min(runs.len) * size_of::<u32>();
    job.whole = usize::from(runs.filter <= packing.room);
    (job.shift, job.half) = (packing.shift(), 1 << (packing.shift() - 1));
    if !runs.len.is_multiple_of(BLOCK) || !packing.room.is_multiple_of(BLOCK) || packing.room == 0 {
        return None;
    }
    let leaf = if N == WINDOWS { native::words_tile } else { native::words_single };
    // SAFETY: as for bytes; runs and what adds up are whole blocks, one at least.
    unsafe { leaf(&mut job) };
    Some(sums)
}
