//! A layer's weights refitted to fewer inputs: least squares on the normal equations, which for any choice of inputs
//! are part of the same matrix. So once that is known, no choice needs a look at data.

use crate::cholesky::{Cholesky, dot};
use crate::ir::weighted::Weighted;
use crate::quant::Moments;

/// Share of the mean diagonal added to the normal equations.
pub const RIDGE: f64 = 1e-4;

/// A layer in one group of channels, and what its inputs are like. The last input is a constant 1, whose weight is the
/// bias.
#[derive(Clone, Debug)]
pub struct Regression {
    /// Inputs.
    n: usize,
    /// Input channels.
    depth: usize,
    /// `E[x xᵀ]`, row by row.
    gram: Vec<f64>,
    /// Added to the diagonal, the constant's apart.
    ridge: f64,
    /// Output channel by output channel.
    weights: Vec<f64>,
}

impl Regression {
    /// Of a layer with these `moments`.
    pub fn new(layer: &Weighted<'_>, moments: &Moments) -> Regression {
        let (k, n) = (layer.row, layer.row + 1);
        let (mean, second) = (moments.mean(), moments.uncentred());
        let mut gram = vec![1.0; n * n];
        for i in 0..k {
            gram[i * n..][..k].copy_from_slice(&second[i * k..][..k]);
            gram[i * n + k] = mean[i];
            gram[k * n + i] = mean[i];
        }
        let ridge = ridge(n, &gram);
        let row = |o| layer.row(o).iter().copied().chain([layer.bias(o)]).map(f64::from);
        Regression { n, depth: layer.depth, gram, ridge, weights: (0..layer.n_rows).flat_map(row).collect() }
    }

    /// Number of inputs, the constant included.
    pub fn inputs(&self) -> usize {
        self.n
    }

    /// The layer's own weights: for each output channel those of all inputs.
    pub fn weights(&self) -> &[f64] {
        &self.weights
    }

    /// The inputs that some input channels are, tap by tap.
    pub fn inputs_of(&self, channels: &[usize]) -> Vec<usize> {
        let taps = (self.n - 1) / self.depth;
        (0..taps).flat_map(|tap| channels.iter().map(move |c| tap * self.depth + c)).collect()
    }

    /// The weights, zero but for these input channels and the bias, with which the layer's outputs differ least in the
    /// mean square.
    pub fn refit(&self, channels: &[usize]) -> Vec<f64> {
        let mut inputs = self.inputs_of(channels);
        if inputs.len() + 1 == self.n {
            return self.weights.clone();
        }
        inputs.push(self.n - 1);
        let factor = Cholesky::of(inputs.len(), |i, j| self.damped(inputs[i], inputs[j]));
        let mut refitted = vec![0.0; self.weights.len()];
        let mut x = vec![0.0; inputs.len()];
        for (new, old) in refitted.chunks_exact_mut(self.n).zip(self.weights.chunks_exact(self.n)) {
            x.iter_mut().zip(&inputs).for_each(|(x, &i)| *x = dot(self.row(i), old));
            factor.solve(&mut x);
            inputs.iter().zip(&x).for_each(|(&i, &x)| new[i] = x);
        }
        refitted
    }

    /// Mean squared difference of the outputs under other weights, summed over output channels.
    pub fn error(&self, weights: &[f64]) -> f64 {
        let difference =
            |(new, old): (&[f64], &[f64])| -> Vec<f64> { new.iter().zip(old).map(|(a, b)| a - b).collect() };
        let rows = weights.chunks_exact(self.n).zip(self.weights.chunks_exact(self.n)).map(difference);
        rows.map(|e| (0..self.n).map(|i| e[i] * dot(self.row(i), &e)).sum::<f64>()).sum()
    }

    /// Variance of the outputs, summed over output channels.
    pub fn variance(&self) -> f64 {
        let constant = self.row(self.n - 1);
        let of_row = |w: &[f64]| {
            let mean = dot(constant, w);
            (0..self.n).map(|i| w[i] * dot(self.row(i), w)).sum::<f64>() - mean * mean
        };
        self.weights.chunks_exact(self.n).map(of_row).sum()
    }

    /// The inverse of the damped `E[x xᵀ]`.
    pub fn inverse(&self) -> Vec<f64> {
        Cholesky::of(self.n, |i, j| self.damped(i, j)).inverse()
    }

    fn row(&self, i: usize) -> &[f64] {
        &self.gram[i * self.n..][..self.n]
    }

    fn damped(&self, i: usize, j: usize) -> f64 {
        self.gram[i * self.n + j] + if i == j && i + 1 < self.n { self.ridge } else { 0.0 }
    }
}

/// What [`RIDGE`] is for a matrix `n` by `n` whose last row is that of the constant.
pub fn ridge(n: usize, gram: &[f64]) -> f64 {
    let trace: f64 = (0..n.saturating_sub(1)).map(|i| gram[i * n + i]).sum();
    (RIDGE * trace / n.saturating_sub(1).max(1) as f64).max(f64::MIN_POSITIVE)
}
