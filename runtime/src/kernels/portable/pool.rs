//! Pools: channels innermost.

use core::ops::Range;

use crate::format::{AvgPool, MaxPool, Pool};

/// Channels that are pooled at once.
const WIDE: usize = 64;

/// See [`reference::avg_pool`](crate::kernels::reference::avg_pool).
#[inline(always)]
pub fn avg_pool(p: &AvgPool, input: &[u8], output: &mut [u8]) {
    let full = p.window.kernel[0] as i64 * p.window.kernel[1] as i64;
    windows(
        &p.window,
        output,
        #[inline(always)]
        |window, codes| {
            let mut sums = [0i32; WIDE];
            window.runs(
                #[inline(always)]
                |start, count| {
                    // Sums of 16 bits, while they cannot overflow.
                    for from in (0..count).step_by(256) {
                        let start = start + from * window.channels;
                        let add = |sum: u16, code: u8| sum + u16::from(code);
                        let some = fold(input, start, (count - from).min(256), window.channels, add);
                        sums.iter_mut().zip(some).for_each(|(sum, some)| *sum = sum.wrapping_add(some.into()));
                    }
                },
            );
            let count = window.rows.len() * window.columns.len();
            let zeros = (count as i32).wrapping_mul(p.zero_in.into());
            sums.iter_mut().for_each(|sum| *sum = sum.wrapping_sub(zeros));
            let count = count as i64;
            if count < full {
                for sum in &mut sums {
                    *sum = (2 * i64::from(*sum) * full + count).div_euclid((2 * count).max(1)) as i32;
                }
            }
            codes.iter_mut().zip(sums).for_each(|(code, sum)| *code = p.requantise.apply(sum, p.mult));
        },
    );
}

/// See [`reference::max_pool`](crate::kernels::reference::max_pool).
#[inline(always)]
pub fn max_pool(p: &MaxPool, input: &[u8], output: &mut [u8]) {
    windows(
        &p.window,
        output,
        #[inline(always)]
        |window, codes| {
            let mut highest = [p.lo; WIDE];
            window.runs(
                #[inline(always)]
                |start, count| {
                    let some = fold(input, start, count, window.channels, |highest: u8, code| highest.max(code));
                    highest.iter_mut().zip(some).for_each(|(highest, some)| *highest = some.max(*highest));
                },
            );
            codes.iter_mut().zip(highest).for_each(|(code, highest)| *code = highest.min(p.hi));
        },
    );
}

/// A window and some of its channels.
struct Window {
    /// Positions inside the input.
    rows: Range<usize>,
    columns: Range<usize>,
    /// Extents of the input, and the first of the channels.
    width: usize,
    channels: usize,
    first: usize,
}

impl Window {
    /// Shows each run of neighbouring positions: the first byte of the first one, and how many.
    #[inline(always)]
    fn runs(&self, mut show: impl FnMut(usize, usize)) {
        let start = |y: usize, x: usize| (y * self.width + x) * self.channels + self.first;
        if self.columns.len() == self.width {
            return show(start(self.rows.start, 0), self.rows.len() * self.width);
        }
        for y in self.rows.clone() {
            show(start(y, self.columns.start), self.columns.len());
        }
    }
}

/// Folds the codes of so many positions, from the first one's first byte on, channel by channel; beyond the end of the
/// input there are none.
#[inline(always)]
fn fold<T: Copy + Default>(
    input: &[u8],
    start: usize,
    count: usize,
    step: usize,
    fold: impl Fn(T, u8) -> T,
) -> [T; WIDE] {
    let mut folds = [T::default(); WIDE];
    let mut left = count;
    let mut rest = input.get(start..).unwrap_or(&[]);
    // Whole vectors first: the loop has nothing else in it, so that the folds stay in registers.
    while let Some(codes) = rest.first_chunk::<WIDE>().filter(|_| left > 0) {
        folds.iter_mut().zip(codes).for_each(|(folded, &code)| *folded = fold(*folded, code));
        rest = rest.get(step..).unwrap_or(&[]);
        left -= 1;
    }
    for _ in 0..left {
        folds.iter_mut().zip(rest).for_each(|(folded, &code)| *folded = fold(*folded, code));
        rest = rest.get(step..).unwrap_or(&[]);
    }
    folds
}

/// Calls `pool` for the codes of each window, some channels at a time.
#[inline(always)]
fn windows(p: &Pool, output: &mut [u8], pool: impl Fn(&Window, &mut [u8])) {
    let mut pixels = output.chunks_exact_mut(p.output.c);
    for y in 0..p.output.h {
        let rows = inside(y, p.stride[0], p.kernel[0], p.pad[0], p.input.h);
        for x in 0..p.output.w {
            let columns = inside(x, p.stride[1], p.kernel[1], p.pad[1], p.input.w);
            let Some(pixel) = pixels.next() else { return };
            let mut window = Window { rows: rows.clone(), columns, width: p.input.w, channels: p.input.c, first: 0 };
            for codes in pixel.chunks_mut(WIDE) {
                pool(&window, codes);
                window.first += WIDE;
            }
        }
    }
}

/// The positions of a window inside an axis of `size`.
fn inside(out: usize, stride: usize, taps: usize, pad: usize, size: usize) -> Range<usize> {
    let start = out * stride;
    start.saturating_sub(pad)..(start + taps).saturating_sub(pad).min(size)
}
