//! In plain Rust, for processors that have no loops of their own.

use super::{Runs, Sums};
use crate::kernels::scalar::words::Packing;

/// Windows of a tile.
pub(in crate::kernels::scalar) const WINDOWS: usize = 3;
/// Filters of a tile.
pub(in crate::kernels::scalar) const FILTERS: usize = 4;

/// Codes by levels. `None` if the slices end before the runs do.
pub(in crate::kernels::scalar) fn bytes<const N: usize>(
    windows: [&[u8]; N],
    filters: [&[i8]; FILTERS],
    runs: &Runs,
) -> Option<Sums<N>> {
    if !runs.fit(&windows, &filters) {
        return None;
    }
    let mut sums = [[0i32; FILTERS]; N];
    for run in 0..runs.count {
        for (sums, window) in sums.iter_mut().zip(windows) {
            let window = window.get(run * runs.pitch..)?.get(..runs.len)?;
            for (sum, filter) in sums.iter_mut().zip(filters) {
                let filter = filter.get(run * runs.len..)?.get(..runs.len)?;
                let products = window.iter().zip(filter).map(|(&code, &level)| i32::from(code) * i32::from(level));
                *sum = products.fold(*sum, i32::wrapping_add);
            }
        }
    }
    Some(sums)
}

/// Words of both. `None` if the slices end before the runs do.
pub(in crate::kernels::scalar) fn words<const N: usize>(
    windows: [&[u32]; N],
    filters: [&[u32]; FILTERS],
    runs: &Runs,
    packing: Packing,
) -> Option<Sums<N>> {
    let (shift, half) = (packing.shift(), 1u32 << (packing.shift() - 1));
    if !runs.fit(&windows, &filters) {
        return None;
    }
    let mut sums = [[0i32; FILTERS]; N];
    for run in 0..runs.count {
        for (sums, window) in sums.iter_mut().zip(windows) {
            let window = window.get(run * runs.pitch..)?.get(..runs.len)?;
            for (sum, filter) in sums.iter_mut().zip(filters) {
                let filter = filter.get(run * runs.len..)?.get(..runs.len)?;
                for (window, filter) in window.chunks(packing.room).zip(filter.chunks(packing.room)) {
                    let products = window.iter().zip(filter).map(|(&codes, &levels)| codes.wrapping_mul(levels));
                    *sum = sum.wrapping_add(products.fold(half, u32::wrapping_add) as i32 >> shift);
                }
            }
        }
    }
    Some(sums)
}
