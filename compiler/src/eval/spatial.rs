//! Kernels that walk images without weights: pools, resizes, softmax.

use super::kernel::Kernel;
use crate::ir::{Coordinates, Pool, ResizeMode, Rounding};

/// What a pool makes of its window.
#[derive(Clone, Copy)]
pub(super) enum Reduction {
    /// Mean of the elements that are not padding.
    Mean,
    /// The largest of them.
    Max,
}

/// A pool over images `[h, w, c]`.
pub(super) struct Pooling {
    /// Window and steps; its clamp is left to the node's last step.
    pub(super) pool: Pool,
    /// What becomes of a window.
    pub(super) reduction: Reduction,
    /// `[h, w, c]`.
    pub(super) input: [usize; 3],
    /// Rows and columns of the output.
    pub(super) output: [usize; 2],
}

impl Kernel for Pooling {
    fn run(&self, _samples: usize, input: &[f32], output: &mut [f32]) {
        let [h, w, c] = self.input;
        let [oh, ow] = self.output;
        for (image, output) in input.chunks_exact(h * w * c).zip(output.chunks_exact_mut(oh * ow * c)) {
            for (position, out) in output.chunks_exact_mut(c).enumerate() {
                let rows = window(position / ow, self.pool.stride[0], self.pool.pad.top, self.pool.kernel[0], h);
                let columns = window(position % ow, self.pool.stride[1], self.pool.pad.left, self.pool.kernel[1], w);
                let pixels = rows.clone().flat_map(|y| columns.clone().map(move |x| &image[(y * w + x) * c..][..c]));
                match self.reduction {
                    Reduction::Mean => mean(pixels, (rows.len() * columns.len()) as f32, out),
                    Reduction::Max => max(pixels, out),
                }
            }
        }
    }
}

/// Rows (or columns) that the window at `position` covers within the image's `edge`.
fn window(position: usize, stride: usize, pad: usize, kernel: usize, edge: usize) -> std::ops::Range<usize> {
    let from = position * stride;
    let start = from.saturating_sub(pad).min(edge);
    start..(from + kernel).saturating_sub(pad).clamp(start, edge)
}

fn mean<'a>(pixels: impl Iterator<Item = &'a [f32]>, count: f32, out: &mut [f32]) {
    out.fill(0.0);
    for pixel in pixels {
        for (sum, x) in out.iter_mut().zip(pixel) {
            *sum += x;
        }
    }
    for sum in out {
        *sum /= count.max(1.0);
    }
}

fn max<'a>(pixels: impl Iterator<Item = &'a [f32]>, out: &mut [f32]) {
    out.fill(f32::NEG_INFINITY);
    for pixel in pixels {
        for (best, x) in out.iter_mut().zip(pixel) {
            *best = best.max(*x);
        }
    }
}

/// Softmax over rows of `width` elements.
pub(super) struct Softmax {
    /// Length of the last dimension.
    pub(super) width: usize,
}

impl Kernel for Softmax {
    fn run(&self, _samples: usize, input: &[f32], output: &mut [f32]) {
        for (x, y) in input.chunks_exact(self.width).zip(output.chunks_exact_mut(self.width)) {
            let top = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            for (y, x) in y.iter_mut().zip(x) {
                *y = (x - top).exp();
            }
            let sum: f32 = y.iter().sum();
            for y in y {
                *y /= sum;
            }
        }
    }
}

/// Resize of images `[h, w, c]`.
pub(crate) struct Resizing {
    /// Elements of one input row, of one pixel, and the taps that each output row and column reads.
    row: usize,
    channels: usize,
    image_len: usize,
    rows: Vec<Tap>,
    columns: Vec<Tap>,
}

/// Two neighbours and the share of the second.
#[derive(Clone, Copy)]
struct Tap {
    first: usize,
    second: usize,
    share: f32,
}

impl Resizing {
    /// From `[h, w, c]` to `output` rows and columns.
    pub(crate) fn new(mode: ResizeMode, coordinates: Coordinates, input: [usize; 3], output: [usize; 2]) -> Self {
        let [h, w, channels] = input;
        let taps = |from, to| (0..to).map(|x| tap(mode, coordinates, x, from, to)).collect();
        Resizing {
            row: w * channels,
            channels,
            image_len: h * w * channels,
            rows: taps(h, output[0]),
            columns: taps(w, output[1]),
        }
    }

    /// For each output number the input numbers that it is a sum of, and their weights.
    pub(crate) fn terms(&self) -> impl Iterator<Item = Vec<(u32, f32)>> + '_ {
        let shares = |tap: Tap| [(tap.first, 1.0 - tap.share), (tap.second, tap.share)];
        let pixels = self.rows.iter().flat_map(move |&row| self.columns.iter().map(move |&column| (row, column)));
        pixels.flat_map(move |(row, column)| {
            (0..self.channels).map(move |k| {
                let corners = shares(row).into_iter().flat_map(|row| shares(column).map(|column| (row, column)));
                let corners = corners.filter(|(row, column)| row.1 * column.1 != 0.0);
                corners.map(|(y, x)| ((y.0 * self.row + x.0 * self.channels + k) as u32, y.1 * x.1)).collect()
            })
        })
    }
}

impl Kernel for Resizing {
    fn run(&self, _samples: usize, input: &[f32], output: &mut [f32]) {
        let c = self.channels;
        let out_len = self.rows.len() * self.columns.len() * c;
        for (image, output) in input.chunks_exact(self.image_len).zip(output.chunks_exact_mut(out_len)) {
            for (row, output) in self.rows.iter().zip(output.chunks_exact_mut(self.columns.len() * c)) {
                let (above, below) = (&image[row.first * self.row..], &image[row.second * self.row..]);
                for (column, out) in self.columns.iter().zip(output.chunks_exact_mut(c)) {
                    for (k, out) in out.iter_mut().enumerate() {
                        let (left, right) = (column.first * c + k, column.second * c + k);
                        let upper = above[left] + (above[right] - above[left]) * column.share;
                        let lower = below[left] + (below[right] - below[left]) * column.share;
                        *out = upper + (lower - upper) * row.share;
                    }
                }
            }
        }
    }
}

/// Where output place `x` of `to` reads among `from` input places. Positions are exact fractions, so
/// that "nearest" never hangs on floating-point rounding.
fn tap(mode: ResizeMode, coordinates: Coordinates, x: usize, from: usize, to: usize) -> Tap {
    let (x, from, to) = (x as i64, from as i64, to as i64);
    let (numerator, denominator) = match coordinates {
        Coordinates::Asymmetric => (x * from, to),
        Coordinates::HalfPixel => ((2 * x + 1) * from - to, 2 * to),
        Coordinates::AlignCorners if to == 1 => (0, 1),
        Coordinates::AlignCorners => (x * (from - 1), to - 1),
    };
    let last = from - 1;
    match mode {
        ResizeMode::Nearest(rounding) => {
            let place = nearest(rounding, numerator, denominator).clamp(0, last) as usize;
            Tap { first: place, second: place, share: 0.0 }
        }
        ResizeMode::Bilinear => {
            let numerator = numerator.clamp(0, last * denominator);
            let first = numerator.div_euclid(denominator);
            let share = (numerator - first * denominator) as f32 / denominator as f32;
            Tap { first: first as usize, second: (first + 1).min(last) as usize, share }
        }
    }
}

/// `numerator / denominator` as an integer; halves of negative numbers do not matter, they are cut to 0.
fn nearest(rounding: Rounding, numerator: i64, denominator: i64) -> i64 {
    let ceil = |n: i64, d: i64| -(-n).div_euclid(d);
    match rounding {
        Rounding::Floor => numerator.div_euclid(denominator),
        Rounding::Ceil => ceil(numerator, denominator),
        Rounding::HalfUp => (2 * numerator + denominator).div_euclid(2 * denominator),
        Rounding::HalfDown => ceil(2 * numerator - denominator, 2 * denominator),
    }
}
