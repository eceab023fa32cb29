//! What stands between what an operator computes and what its readers see: codes, most often.

use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use super::parameter::Parameter;

/// A differentiable function, or a surrogate of one, of each number of an activation.
pub trait ActivationMap: Send + Sync {
    /// Numbers of its own that are trained, at their start; their names begin with `prefix` and a dot.
    fn parameters(&self, _prefix: &str) -> Vec<Parameter> {
        Vec::new()
    }

    /// Writes what readers see of some numbers.
    fn forward(&self, numbers: &[f32], own: &[Parameter], mapped: &mut [f32]);

    /// Turns the gradient by the mapped numbers into that by the numbers, in place, and adds those by its own
    /// parameters to `sums`: one for each of their numbers, in order.
    fn backward(&self, numbers: &[f32], own: &[Parameter], gradient: &mut [f32], sums: &mut [f64]);
}

/// A map where it stands.
pub(super) struct Mapped {
    pub(super) map: Arc<dyn ActivationMap>,
    /// Its parameters among those of the network.
    pub(super) own: Range<usize>,
    /// What the operator gave for the last batch; the value holds what the map makes of it.
    pub(super) numbers: Vec<f32>,
}

impl Mapped {
    /// Takes the operator's numbers out of `value` and puts there what readers see; cut into chunks of so many
    /// numbers, which threads share.
    pub(super) fn forward(&mut self, value: &mut Vec<f32>, parameters: &[Parameter], chunk: usize) {
        std::mem::swap(&mut self.numbers, value);
        value.resize(self.numbers.len(), 0.0);
        let (map, own) = (&self.map, &parameters[self.own.clone()]);
        let work = value.par_chunks_mut(chunk).zip(self.numbers.par_chunks(chunk));
        work.for_each(|(mapped, numbers)| map.forward(numbers, own, mapped));
    }

    /// From the gradient by what readers see to that by the operator's numbers; adds to those of the parameters.
    pub(super) fn backward(&self, gradient: &mut [f32], parameters: &mut [Parameter], chunk: usize) {
        let own = &mut parameters[self.own.clone()];
        let len = own.iter().map(|p| p.values.len()).sum();
        let (map, shared) = (&self.map, &*own);
        let work = gradient.par_chunks_mut(chunk).zip(self.numbers.par_chunks(chunk));
        let sums: Vec<Vec<f64>> = work
            .map(|(gradient, numbers)| {
                let mut sums = vec![0.0; len];
                map.backward(numbers, shared, gradient, &mut sums);
                sums
            })
            .collect();
        let slots = own.iter_mut().flat_map(|p| &mut p.gradient);
        slots.enumerate().for_each(|(i, slot)| *slot += sums.iter().map(|sums| sums[i]).sum::<f64>() as f32);
    }
}
