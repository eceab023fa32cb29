//! AVX-512 with VBMI and VNNI: 64 multiplications an instruction, 16 channels by 4 codes.

mod add;
mod dense;
mod depthwise;
mod levels;
mod narrow;
pub(super) mod planes;
mod pool;
mod requantise;
pub(super) mod sparse;
mod stream;
pub(super) mod windows;

pub(super) use add::add;
pub(super) use pool::avg_pool;

use core::arch::x86_64::__mmask64;

use crate::format::PANEL_CHANNELS;

/// The leaves of this folder. A value is proof that the processor has the instructions: only
/// [`detected`](crate::kernels::panels::dense::Dense::detected) makes one.
#[derive(Clone, Copy)]
pub(super) struct Avx512(());

/// Bytes of 16 channels by 4 levels.
const STEP: usize = 64;

/// The lowest `n` of 64 lanes.
#[inline(always)]
fn lanes(n: usize) -> __mmask64 {
    if n >= 64 { !0 } else { (1 << n) - 1 }
}

const _: () = assert!(PANEL_CHANNELS == 16);
