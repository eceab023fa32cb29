//! Convolution and fully connected layers as candle operators: im2col and a matrix product, or
//! channels side by side where each input channel has one output of its own.

use super::gemm::{Matrix, multiply_add};
use super::kernel::Kernel;
use super::patches::Patches;
use crate::ir::Conv2d;

/// Floats of the im2col buffer: half of a small second-level cache.
const BUFFER: usize = 1 << 16;

/// Channels that the depthwise loop keeps in registers.
const LANES: usize = 16;

/// A fully connected layer, its weights held as `[k, n]`.
pub(super) struct Linear {
    weights: Vec<f32>,
    bias: Vec<f32>,
}

impl Linear {
    /// `weights` is `[n, k]`; an absent bias is zeros.
    pub(super) fn new(weights: &[f32], bias: Vec<f32>) -> Self {
        Linear { weights: transpose(weights, bias.len()), bias }
    }
}

impl Kernel for Linear {
    fn run(&self, _samples: usize, input: &[f32], output: &mut [f32]) {
        let n = self.bias.len();
        let k = self.weights.len() / n;
        fill_rows(output, &self.bias);
        let rows = output.len() / n;
        multiply_add(Matrix::row_major(input, rows, k), Matrix::row_major(&self.weights, k, n), output, n);
    }
}

/// A convolution with any number of groups.
pub(super) struct GroupedConv {
    patches: Patches,
    /// For each group `[kh * kw * c_in / groups, c_out / groups]`.
    weights: Vec<Vec<f32>>,
    bias: Vec<f32>,
}

impl GroupedConv {
    /// `weights` is `[c_out, kh, kw, c_in / groups]`.
    pub(super) fn new(conv: &Conv2d, patches: Patches, weights: &[f32], bias: Vec<f32>) -> Self {
        let columns = bias.len() / conv.groups;
        let weights = weights.chunks_exact(weights.len() / conv.groups).map(|w| transpose(w, columns)).collect();
        GroupedConv { patches, weights, bias }
    }
}

impl Kernel for GroupedConv {
    fn run(&self, samples: usize, input: &[f32], output: &mut [f32]) {
        let (groups, c_out) = (self.weights.len(), self.bias.len());
        let columns = c_out / groups;
        fill_rows(output, &self.bias);
        if groups == 1 && self.patches.is_pointwise() {
            let (rows, k) = (samples * self.patches.positions(), self.patches.channels());
            let weights = Matrix::row_major(&self.weights[0], k, c_out);
            return multiply_add(Matrix::row_major(input, rows, k), weights, output, c_out);
        }
        let per_group = self.patches.channels() / groups;
        let k = self.patches.taps() * per_group;
        let (positions, image_len) = (self.patches.positions(), self.patches.image_len());
        let strip = (BUFFER / k).clamp(1, samples * positions);
        let mut rows = vec![0.0; strip * k];
        for (s, output) in output.chunks_mut(strip * c_out).enumerate() {
            let count = output.len() / c_out;
            for (g, weights) in self.weights.iter().enumerate() {
                for (i, row) in rows.chunks_exact_mut(k).take(count).enumerate() {
                    let (sample, position) = ((s * strip + i) / positions, (s * strip + i) % positions);
                    let image = &input[sample * image_len..][..image_len];
                    self.patches.copy(image, position, g * per_group..(g + 1) * per_group, row);
                }
                let weights = Matrix::row_major(weights, k, columns);
                multiply_add(Matrix::row_major(&rows, count, k), weights, &mut output[g * columns..], c_out);
            }
        }
    }
}

/// A convolution where every input channel has exactly one output channel.
pub(super) struct DepthwiseConv {
    patches: Patches,
    /// `[kh * kw, c]`.
    weights: Vec<f32>,
    bias: Vec<f32>,
}

impl DepthwiseConv {
    /// `weights` is `[c, kh, kw, 1]`.
    pub(super) fn new(patches: Patches, weights: &[f32], bias: Vec<f32>) -> Self {
        DepthwiseConv { patches, weights: transpose(weights, bias.len()), bias }
    }
}

impl Kernel for DepthwiseConv {
    fn run(&self, _samples: usize, input: &[f32], output: &mut [f32]) {
        let (c, positions) = (self.bias.len(), self.patches.positions());
        let images = input.chunks_exact(self.patches.image_len());
        let mut taps = Vec::with_capacity(self.patches.taps());
        for (image, output) in images.zip(output.chunks_exact_mut(positions * c)) {
            for (position, out) in output.chunks_exact_mut(c).enumerate() {
                taps.clear();
                taps.extend(self.patches.pixels(position).enumerate().filter_map(|(t, at)| Some((t * c, at? * c))));
                self.pixel(&taps, image, out);
            }
        }
    }
}

impl DepthwiseConv {
    /// One output pixel; `taps` pairs places in the weights and in the image.
    fn pixel(&self, taps: &[(usize, usize)], image: &[f32], out: &mut [f32]) {
        let c = out.len();
        let mut from = 0;
        while from + LANES <= c {
            let mut sums = [0.0f32; LANES];
            sums.copy_from_slice(&self.bias[from..from + LANES]);
            for &(w, x) in taps {
                let w = &self.weights[w + from..][..LANES];
                let x = &image[x + from..][..LANES];
                for ((sum, w), x) in sums.iter_mut().zip(w).zip(x) {
                    *sum += w * x;
                }
            }
            out[from..from + LANES].copy_from_slice(&sums);
            from += LANES;
        }
        out[from..].copy_from_slice(&self.bias[from..]);
        for &(w, x) in taps {
            let (w, x) = (&self.weights[w + from..w + c], &image[x + from..x + c]);
            for ((sum, w), x) in out[from..].iter_mut().zip(w).zip(x) {
                *sum += w * x;
            }
        }
    }
}

/// `[rows, k]` to `[k, rows]`.
fn transpose(matrix: &[f32], rows: usize) -> Vec<f32> {
    let k = matrix.len() / rows;
    (0..k * rows).map(|i| matrix[(i % rows) * k + i / rows]).collect()
}

fn fill_rows(output: &mut [f32], row: &[f32]) {
    for out in output.chunks_exact_mut(row.len()) {
        out.copy_from_slice(row);
    }
}
