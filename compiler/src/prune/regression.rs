//! A layer's weights refitted to fewer inputs: least squares on the normal equations, which for any choice of inputs
//! are part of the same matrix. So once that is known, no choice needs a look at data.

use crate::cholesky::{Cholesky, dot};
use crate::ir::weighted::Weighted;
use crate::quant::Moments;

/// Share of the mean diagonal added to the normal equations.
pub const RIDGE: f64 = 1e-4;
/// Added at least: inputs that are never more than rounding of nothing do not tell anything.
const LEAST_RIDGE: f64 = 1e-20;

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

    /// What the ridge adds to the error, biases apart.
    pub fn penalty(&self, weights: &[f64]) -> f64 {
        let squares = |row: &[f64]| row[..self.n - 1].iter().map(|w| w * w).sum::<f64>();
        self.ridge * weights.chunks_exact(self.n).map(squares).sum::<f64>()
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
    (RIDGE * trace / n.saturating_sub(1).max(1) as f64).max(LEAST_RIDGE)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::ir::text::parse;
    use crate::rng::Pcg32;

    /// Rows of `k` inputs that hang together, as activations do.
    pub(in crate::prune) fn inputs(k: usize, rows: usize, random: &mut Pcg32) -> Vec<Vec<f64>> {
        let mix: Vec<f32> = (0..k * k).map(|_| random.between(-1.0, 1.0)).collect();
        let row = |random: &mut Pcg32| {
            let z: Vec<f32> = (0..k).map(|_| random.between(-0.5, 1.0)).collect();
            let seen = |i: usize| z[i] + mix[i * k..][..k].iter().zip(&z).map(|(m, z)| m * z).sum::<f32>() / 2.0;
            (0..k).map(|i| f64::from(seen(i).max(0.0))).collect()
        };
        (0..rows).map(|_| row(random)).collect()
    }

    /// A convolution of `depth` channels, 2 taps and 3 outputs that meets these rows.
    pub(in crate::prune) fn regression(depth: usize, rows: &[Vec<f64>], random: &mut Pcg32) -> Regression {
        let text = |n: usize, random: &mut Pcg32| {
            let numbers: Vec<String> = (0..n).map(|_| random.between(-1.0, 1.0).to_string()).collect();
            numbers.join(", ")
        };
        let (weights, bias) = (text(6 * depth, random), text(3, random));
        let graph = parse(&format!(
            "graph g\ninput %x: [1, 2, 1, {depth}]\nconst %w: [3, 2, 1, {depth}] = [{weights}]\n\
             const %b: [3] = [{bias}]\n%y: [1, 1, 1, 3] = conv2d(%x, %w, %b)\noutput %y\n"
        ))
        .unwrap();
        let k = 2 * depth;
        let mut moments = Moments::new(k);
        moments.rows = rows.len() as f64;
        for row in rows {
            for i in 0..k {
                moments.first[i] += row[i];
                (0..k).for_each(|j| moments.second[i * k + j] += row[i] * row[j]);
            }
        }
        Regression::new(&Weighted::of(&graph, &graph.nodes[0]), &moments)
    }

    /// The `x` of least `|a x - b|`, by Householder's reflections.
    pub(in crate::prune) fn least_squares(mut a: Vec<Vec<f64>>, mut b: Vec<f64>) -> Vec<f64> {
        let n = a[0].len();
        for k in 0..n {
            let norm = a[k..].iter().map(|row| row[k] * row[k]).sum::<f64>().sqrt();
            let mut v: Vec<f64> = a[k..].iter().map(|row| row[k]).collect();
            v[0] += norm.copysign(v[0]);
            let square = dot(&v, &v);
            for j in k..n {
                let along = 2.0 * v.iter().zip(&a[k..]).map(|(v, row)| v * row[j]).sum::<f64>() / square;
                v.iter().zip(&mut a[k..]).for_each(|(v, row)| row[j] -= along * v);
            }
            let along = 2.0 * dot(&v, &b[k..]) / square;
            v.iter().zip(&mut b[k..]).for_each(|(v, b)| *b -= along * v);
        }
        let mut x = vec![0.0; n];
        for i in (0..n).rev() {
            x[i] = (b[i] - dot(&a[i][i + 1..], &x[i + 1..])) / a[i][i];
        }
        x
    }

    #[test]
    fn equals_a_dense_factorisation_of_the_rows() {
        let mut random = Pcg32::new(3, 3);
        for _ in 0..20 {
            let depth = 4 + random.below(4) as usize;
            let rows = inputs(2 * depth, 200, &mut random);
            let regression = regression(depth, &rows, &mut random);
            let channels: Vec<usize> = (0..depth).filter(|c| c % 2 == 0).collect();
            let kept = regression.inputs_of(&channels);
            let refitted = regression.refit(&channels);
            let n = regression.inputs();
            for (new, old) in refitted.chunks_exact(n).zip(regression.weights().chunks_exact(n)) {
                let mut a: Vec<Vec<f64>> =
                    rows.iter().map(|row| kept.iter().map(|&i| row[i]).chain([1.0]).collect()).collect();
                let mut b: Vec<f64> = rows.iter().map(|row| dot(row, &old[..n - 1]) + old[n - 1]).collect();
                let weight = (regression.ridge * rows.len() as f64).sqrt();
                for i in 0..kept.len() {
                    a.push((0..=kept.len()).map(|j| if i == j { weight } else { 0.0 }).collect());
                    b.push(0.0);
                }
                let expected = least_squares(a, b);
                for (&i, expected) in kept.iter().chain([&(n - 1)]).zip(expected) {
                    assert!((new[i] - expected).abs() < 1e-4, "{} {expected}", new[i]);
                }
            }
        }
    }

    #[test]
    fn errs_less_than_leaving_out() {
        let mut random = Pcg32::new(4, 3);
        let rows = inputs(12, 300, &mut random);
        let regression = regression(6, &rows, &mut random);
        let kept = regression.inputs_of(&[1, 2, 5]);
        let mut masked = regression.weights().to_vec();
        for row in masked.chunks_exact_mut(13) {
            (0..12).filter(|i| !kept.contains(i)).for_each(|i| row[i] = 0.0);
        }
        let (refitted, masked) = (regression.error(&regression.refit(&[1, 2, 5])), regression.error(&masked));
        assert!(refitted < 0.5 * masked, "{refitted} {masked}");
        assert_eq!(regression.error(regression.weights()), 0.0);
    }
}
