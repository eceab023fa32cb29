//! In what order units go, so that the layers that read them can make up for as much as possible.
//!
//! Backward elimination: again and again that unit goes without which, the weights of all others refitted, the outputs
//! of the layers that read the group change least. With the inverse `H⁻¹` of what is left of the normal equations, the
//! squared error grows by `tr(W_B (H⁻¹_BB)⁻¹ W_Bᵀ)` when the block `B` of inputs goes, exactly: Optimal Brain Surgeon
//! (Hassibi and Stork, 1993) by blocks, as in Frantar and Alistarh, *Optimal Brain Compression*, NeurIPS 2022, section 4.

use super::groups::Group;
use super::regression::Regression;
use crate::cholesky::Cholesky;

/// The units of a group in the order in which they go; `readers` are the layers of [`Group::consumers`].
pub fn order(group: &Group, readers: &[&Regression]) -> Vec<usize> {
    let mut layers: Vec<Elimination> = readers.iter().map(|reader| Elimination::new(reader)).collect();
    let mut left: Vec<usize> = (0..group.units.len()).collect();
    let mut order = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let price = |&unit: &usize| -> f64 {
            let columns = &group.units[unit].columns;
            layers.iter().zip(columns).map(|(layer, columns)| layer.price(&layer.regression.inputs_of(columns))).sum()
        };
        let cheapest = left.iter().enumerate().map(|(at, unit)| (at, price(unit))).min_by(|a, b| a.1.total_cmp(&b.1));
        let Some((at, _)) = cheapest else { break };
        let unit = left.remove(at);
        for (layer, columns) in layers.iter_mut().zip(&group.units[unit].columns) {
            layer.remove(&layer.regression.inputs_of(columns));
        }
        order.push(unit);
    }
    order
}

/// A layer while its inputs go.
struct Elimination<'a> {
    regression: &'a Regression,
    n: usize,
    /// Of the normal equations of the inputs that are left.
    inverse: Vec<f64>,
    /// Output channel by output channel, refitted to the inputs that are left.
    weights: Vec<f64>,
    /// One over the variance of the outputs: errors of several layers are added up relative to it.
    scale: f64,
}

impl<'a> Elimination<'a> {
    fn new(regression: &'a Regression) -> Self {
        let scale = 1.0 / regression.variance().max(f64::MIN_POSITIVE);
        let (n, inverse) = (regression.inputs(), regression.inverse());
        Elimination { regression, n, inverse, weights: regression.weights().to_vec(), scale }
    }

    /// By how much the error grows without these inputs.
    fn price(&self, inputs: &[usize]) -> f64 {
        let factor = self.factor(inputs);
        let mut x = vec![0.0; inputs.len()];
        let mut total = 0.0;
        for row in self.weights.chunks_exact(self.n) {
            x.iter_mut().zip(inputs).for_each(|(x, &i)| *x = row[i]);
            factor.solve(&mut x);
            total += x.iter().zip(inputs).map(|(x, &i)| x * row[i]).sum::<f64>();
        }
        total * self.scale
    }

    /// Takes these inputs out.
    fn remove(&mut self, inputs: &[usize]) {
        let (n, factor) = (self.n, self.factor(inputs));
        let rows: Vec<f64> = inputs.iter().flat_map(|&i| self.inverse[i * n..][..n].to_vec()).collect();
        let mut x = vec![0.0; inputs.len()];
        // The rows of weights and those of the inverse lose the same: what they have at the inputs, made up for.
        for row in self.weights.chunks_exact_mut(n).chain(self.inverse.chunks_exact_mut(n)) {
            x.iter_mut().zip(inputs).for_each(|(x, &i)| *x = row[i]);
            factor.solve(&mut x);
            for (x, of_input) in x.iter().zip(rows.chunks_exact(n)) {
                row.iter_mut().zip(of_input).for_each(|(w, h)| *w -= x * h);
            }
            inputs.iter().for_each(|&i| row[i] = 0.0);
        }
        for &i in inputs {
            self.inverse[i * n..][..n].fill(0.0);
        }
    }

    fn factor(&self, inputs: &[usize]) -> Cholesky {
        Cholesky::of(inputs.len(), |i, j| self.inverse[inputs[i] * self.n + inputs[j]])
    }
}

#[cfg(test)]
mod tests {
    use super::super::regression::tests::{inputs, regression};
    use super::*;
    use crate::rng::Pcg32;

    #[test]
    fn prices_are_what_refitting_finds() {
        let mut random = Pcg32::new(8, 3);
        let rows = inputs(14, 400, &mut random);
        let regression = regression(7, &rows, &mut random);
        let mut layer = Elimination::new(&regression);
        let mut left: Vec<usize> = (0..7).collect();
        let mut sum = 0.0;
        for gone in [3, 0, 5] {
            sum += layer.price(&regression.inputs_of(&[gone]));
            layer.remove(&regression.inputs_of(&[gone]));
            left.retain(|&c| c != gone);
            let refitted = regression.refit(&left);
            let close = |(a, b): (&f64, &f64)| (a - b).abs() < 1e-2;
            assert!(layer.weights.iter().zip(&refitted).all(close), "{:?}\n{refitted:?}", layer.weights);
            let error = regression.error(&refitted) * layer.scale;
            assert!((sum - error).abs() < 0.05 * error, "{sum} {error}");
        }
    }
}
