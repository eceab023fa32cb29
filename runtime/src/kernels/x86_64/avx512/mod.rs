//! AVX-512 with VBMI and VNNI: 64 multiplications an instruction, 16 channels by 4 codes.

/// Does something for `$i` from 0 to a constant, 18 at most, in as many statements: what a loop indexes by a
/// variable is kept in memory, and compilers leave loops of this size as they are.
macro_rules! unroll {
    ($i:ident in 0..$n:expr => $body:block) => {
        unroll!(@ $i, $n, $body, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17)
    };
    (@ $i:ident, $n:expr, $body:block, $($k:literal)*) => {
        const { assert!($n <= 18) };
        $(if $k < $n {
            let $i: usize = $k;
            $body
        })*
    };
}

/// A copy of the sums of `$n` pixels by `$p` panels, to hand on: sums whose address is taken are kept in memory all along.
macro_rules! copy {
    ($sums:ident, $p:expr, $n:expr) => {{
        let mut copy = [[_mm512_setzero_si512(); $p]; $n];
        for n in 0..$n {
            for p in 0..$p {
                copy[n][p] = $sums[n][p];
            }
        }
        copy
    }};
}

mod add;
mod dense;
mod depthwise;
mod levels;
mod narrow;
mod paired;
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
