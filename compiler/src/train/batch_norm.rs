//! Batch norm (Ioffe & Szegedy 2015) between a layer and its clamp.

use super::channels::{Combination, GradientSums, Line, Moments, Normalised};
use super::parameter::{Parameter, Role};

/// Added to variances.
const EPSILON: f64 = 1e-5;

/// Share of the newest batch in the running statistics.
const MOMENTUM: f32 = 0.1;

/// The norm behind one layer.
pub(super) struct BatchNorm {
    pub(super) channels: usize,
    /// Indices of its parameters.
    factor: usize,
    shift: usize,
    /// What the layer gave for the last batch.
    pub(super) raw: Vec<f32>,
    /// Of the last batch.
    mean: Vec<f32>,
    inverse: Vec<f32>,
    /// What is applied to it.
    line: [Vec<f32>; 2],
    /// Means and variances over batches.
    pub(super) running: Running,
}

/// Statistics that outlast a batch.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Running {
    pub(super) mean: Vec<f32>,
    pub(super) variance: Vec<f32>,
    /// How many batches they come from since they were begun; 0 for none.
    pub(super) batches: u64,
}

/// How batches make up the running statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Averaging {
    /// The newest ones count most.
    Recent,
    /// All count the same.
    Even,
}

impl BatchNorm {
    /// Behind the layer of this name; adds factors of one and shifts of zero.
    pub(super) fn new(layer: &str, channels: usize, parameters: &mut Vec<Parameter>) -> Self {
        let factor = parameters.len();
        parameters.push(Parameter::new(format!("{layer}.factor"), Role::Vector, vec![1.0; channels]));
        parameters.push(Parameter::new(format!("{layer}.shift"), Role::Vector, vec![0.0; channels]));
        let zeros = || vec![0.0; channels];
        BatchNorm {
            channels,
            factor,
            shift: factor + 1,
            raw: Vec::new(),
            mean: zeros(),
            inverse: zeros(),
            line: [zeros(), zeros()],
            running: Running { mean: zeros(), variance: vec![1.0; channels], batches: 0 },
        }
    }

    /// Takes the statistics of a batch, chunk by chunk.
    pub(super) fn take(&mut self, chunks: &[Moments], averaging: Averaging, parameters: &[Parameter]) {
        let mut all = Moments::default();
        chunks.iter().for_each(|chunk| all.join(chunk));
        let (factor, shift) = (&parameters[self.factor].values, &parameters[self.shift].values);
        let share = match averaging {
            Averaging::Recent if self.running.batches > 0 => MOMENTUM,
            Averaging::Recent => 1.0,
            Averaging::Even => 1.0 / (self.running.batches + 1) as f32,
        };
        self.running.batches += 1;
        // Of the population that the batch is a sample of.
        let unbiased = all.count / (all.count - 1.0).max(1.0);
        for c in 0..self.channels {
            let (mean, variance) = (all.mean[c] as f32, all.variance(c));
            self.mean[c] = mean;
            self.inverse[c] = (1.0 / (variance + EPSILON).sqrt()) as f32;
            self.line[0][c] = factor[c] * self.inverse[c];
            self.line[1][c] = shift[c] - mean * self.line[0][c];
            self.running.mean[c] += share * (mean - self.running.mean[c]);
            self.running.variance[c] += share * ((variance * unbiased) as f32 - self.running.variance[c]);
        }
    }

    /// What turns the last batch's raw rows into normalised ones.
    pub(super) fn line(&self) -> Line<'_> {
        Line { factor: &self.line[0], shift: &self.line[1] }
    }

    /// How the last batch was normalised.
    pub(super) fn normalised(&self) -> Normalised<'_> {
        Normalised { line: self.line(), mean: &self.mean, inverse: &self.inverse }
    }

    /// Adds to the gradients of the parameters; answers with how the gradient of the raw rows comes from
    /// that behind the norm: `a * (dy - mean(dy) - x̂ * mean(dy * x̂))`.
    pub(super) fn combination(
        &self,
        chunks: &[GradientSums],
        rows: usize,
        parameters: &mut [Parameter],
    ) -> Combination {
        let sum = |of: &dyn Fn(&GradientSums) -> f32| chunks.iter().map(|sums| f64::from(of(sums))).sum::<f64>();
        let mut by = Combination { own: self.line[0].clone(), ..Combination::default() };
        for c in 0..self.channels {
            let (gradient, along) = (sum(&|sums| sums.gradient[c]), sum(&|sums| sums.along[c]));
            parameters[self.shift].gradient[c] += gradient as f32;
            parameters[self.factor].gradient[c] += along as f32;
            let own = f64::from(by.own[c]);
            let of_row = -own * f64::from(self.inverse[c]) * along / rows as f64;
            by.of_row.push(of_row as f32);
            by.shift.push((-own * gradient / rows as f64 - of_row * f64::from(self.mean[c])) as f32);
        }
        by
    }

    /// What the norm, by its running statistics, multiplies each channel by.
    pub(super) fn factors(&self, parameters: &[Parameter]) -> Vec<f32> {
        let factors = parameters[self.factor].values.iter().zip(&self.running.variance);
        factors.map(|(factor, variance)| factor / (variance + EPSILON as f32).sqrt()).collect()
    }

    /// Multiplies the norm, by its running statistics, into weights `[channels, ..]`; answers with the bias.
    pub(super) fn fold(&self, weights: &mut [f32], parameters: &[Parameter]) -> Vec<f32> {
        let shift = &parameters[self.shift].values;
        let row = weights.len() / self.channels;
        let mut bias = Vec::with_capacity(self.channels);
        for (c, factor) in self.factors(parameters).into_iter().enumerate() {
            weights[c * row..][..row].iter_mut().for_each(|w| *w *= factor);
            bias.push(shift[c] - self.running.mean[c] * factor);
        }
        bias
    }

    /// Makes the norm, by its running statistics, add `bias` and nothing else.
    pub(super) fn unfold(&self, bias: &[f32], parameters: &mut [Parameter]) {
        for c in 0..self.channels {
            parameters[self.factor].values[c] = (self.running.variance[c] + EPSILON as f32).sqrt();
            parameters[self.shift].values[c] = self.running.mean[c] + bias[c];
        }
    }
}
