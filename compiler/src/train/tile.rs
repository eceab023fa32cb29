//! The two innermost loops of training: everything that multiplies matrices ends here.
//!
//! (No closures in here, nor in what calls it for each tile: they may be compiled apart, for the least of machines.)
//!
//! Numbers that are added up stay in registers, `R` rows by `V` vectors of them, while the loop runs
//! over what they are sums of.

use super::simd::{Arithmetic, LANES, Lanes};

/// Sums in registers.
pub(super) type Tile<const R: usize, const V: usize> = [[Lanes; V]; R];

/// `sums[r] += Σ_k rows[r][k] * weights[..][k]`: some outputs of as many windows.
#[inline(always)]
pub(super) fn accumulate<A: Arithmetic, const R: usize, const V: usize>(
    rows: [&[f32]; R],
    weights: [&[Lanes]; V],
    sums: &mut Tile<R, V>,
) {
    let depth = weights[0].len();
    let (mut rows, mut weights) = (rows, weights);
    for row in &mut rows {
        *row = &row[..depth];
    }
    for panel in &mut weights {
        *panel = &panel[..depth];
    }
    let mut tile = *sums;
    for k in 0..depth {
        let mut w = [[0.0; LANES]; V];
        for v in 0..V {
            w[v] = weights[v][k];
        }
        for r in 0..R {
            let x = rows[r][k];
            for v in 0..V {
                for lane in 0..LANES {
                    tile[r][v][lane] = A::multiply_add(x, w[v][lane], tile[r][v][lane]);
                }
            }
        }
    }
    *sums = tile;
}

/// `count` places in memory, `stride` apart.
#[derive(Clone, Copy)]
pub(super) struct Series<'a> {
    pub(super) data: &'a [f32],
    pub(super) stride: usize,
}

/// `sums[r] += Σ_p left[p][r] * right[p]`: some gradients of weights, over `count` windows.
#[inline(always)]
pub(super) fn accumulate_outer<A: Arithmetic, const R: usize, const V: usize>(
    count: usize,
    left: Series,
    right: Series,
    sums: &mut Tile<R, V>,
) {
    let mut tile = *sums;
    let (mut x, mut y) = (0, 0);
    for _ in 0..count {
        let mut w = [[0.0; LANES]; V];
        for v in 0..V {
            w[v].copy_from_slice(&right.data[y + v * LANES..][..LANES]);
        }
        for r in 0..R {
            let x = left.data[x + r];
            for v in 0..V {
                for lane in 0..LANES {
                    tile[r][v][lane] = A::multiply_add(x, w[v][lane], tile[r][v][lane]);
                }
            }
        }
        x += left.stride;
        y += right.stride;
    }
    *sums = tile;
}
