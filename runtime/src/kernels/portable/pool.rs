//! Pools: channels innermost.

use core::ops::Range;

use super::lanes::{LANES, Lanes, load};
use crate::format::{AvgPool, MaxPool, Pool};

/// See [`reference::avg_pool`](crate::kernels::reference::avg_pool).
#[inline(always)]
pub fn avg_pool(p: &AvgPool, input: &[u8], output: &mut [u8]) {
    let full = (p.window.kernel[0] * p.window.kernel[1]) as i64;
    let add = |sum: i32, code: u8| sum.wrapping_add(code.into());
    pool(&p.window, input, output, 0, add, |sum, count| {
        let sum = sum.wrapping_sub((count as i32).wrapping_mul(p.zero_in.into()));
        let count = count as i64;
        let whole =
            if count == full { sum } else { (2 * i64::from(sum) * full + count).div_euclid((2 * count).max(1)) as i32 };
        p.requantise.apply(whole, p.mult)
    });
}

/// See [`reference::max_pool`](crate::kernels::reference::max_pool).
#[inline(always)]
pub fn max_pool(p: &MaxPool, input: &[u8], output: &mut [u8]) {
    pool(&p.window, input, output, 0, |highest: u8, code| highest.max(code), |highest, _| highest.min(p.hi).max(p.lo));
}

/// Folds each window, 16 channels at a time, and finishes with the fold and the count of positions.
#[inline(always)]
fn pool<T: Copy>(
    p: &Pool,
    input: &[u8],
    output: &mut [u8],
    start: T,
    fold: impl Fn(T, u8) -> T,
    finish: impl Fn(T, usize) -> u8,
) {
    let mut pixels = output.chunks_exact_mut(p.output.c);
    for y in 0..p.output.h {
        let rows = inside(y, p.stride[0], p.kernel[0], p.pad[0], p.input.h);
        for x in 0..p.output.w {
            let columns = inside(x, p.stride[1], p.kernel[1], p.pad[1], p.input.w);
            let count = rows.len() * columns.len();
            let Some(pixel) = pixels.next() else { return };
            for (block, codes) in pixel.chunks_mut(LANES).enumerate() {
                let mut folds: Lanes<T> = [start; LANES];
                for iy in rows.clone() {
                    for ix in columns.clone() {
                        let from = load(input, (iy * p.input.w + ix) * p.input.c + block * LANES);
                        folds.iter_mut().zip(from).for_each(|(sum, code)| *sum = fold(*sum, code));
                    }
                }
                codes.iter_mut().zip(folds).for_each(|(code, sum)| *code = finish(sum, count));
            }
        }
    }
}

/// The positions of a window inside an axis of `size`.
fn inside(out: usize, stride: usize, taps: usize, pad: usize, size: usize) -> Range<usize> {
    let start = out * stride;
    start.saturating_sub(pad)..(start + taps).saturating_sub(pad).min(size)
}
