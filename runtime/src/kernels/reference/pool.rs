//! Means and maxima over windows.

use super::{at, elements, put, source};
use crate::format::{AvgPool, MaxPool, Pool};

/// `requantise(sum of (in - zero_in) over the window, mult)`, `mult` holding `1 / n` for the full window
/// of `n` positions. Where only `count < n` of them lie inside the input, the sum is first brought to
/// the full window: `floor((2 * sum * n + count) / (2 * count))`, that is `sum * n / count` rounded half up.
pub fn avg_pool(p: &AvgPool, input: &[u8], output: &mut [u8]) {
    let window = &p.window;
    let full = (window.kernel[0] * window.kernel[1]) as i64;
    for [y, x, c] in elements(window.output) {
        let (mut sum, mut count) = (0i32, 0i64);
        for [iy, ix] in positions(window, [y, x]) {
            sum = sum.wrapping_add(i32::from(at(input, window.input, [iy, ix, c])) - i32::from(p.zero_in));
            count += 1;
        }
        if count < full {
            sum = (2 * i64::from(sum) * full + count).div_euclid((2 * count).max(1)) as i32;
        }
        put(output, window.output, [y, x, c], p.requantise.apply(sum, p.mult));
    }
}

/// The highest code of the part of the window inside the input, clamped to `lo..=hi`.
pub fn max_pool(p: &MaxPool, input: &[u8], output: &mut [u8]) {
    for [y, x, c] in elements(p.window.output) {
        let codes = positions(&p.window, [y, x]).map(|[iy, ix]| at(input, p.window.input, [iy, ix, c]));
        put(output, p.window.output, [y, x, c], codes.max().unwrap_or(0).min(p.hi).max(p.lo));
    }
}

/// The positions of a window that lie inside the input.
fn positions(p: &Pool, [y, x]: [usize; 2]) -> impl Iterator<Item = [usize; 2]> {
    let rows = inside(y, p.stride[0], p.kernel[0], p.pad[0], p.input.h);
    let columns = inside(x, p.stride[1], p.kernel[1], p.pad[1], p.input.w);
    rows.flat_map(move |iy| columns.clone().map(move |ix| [iy, ix]))
}

fn inside(out: usize, stride: usize, taps: usize, pad: usize, size: usize) -> impl Iterator<Item = usize> + Clone {
    (0..taps).filter_map(move |tap| source(out, stride, tap, 1, pad, size))
}
