//! What stands between the numbers that are trained and the weights that a layer computes with.
//!
//! Pruning, shared and quantised weights are all of this kind: the optimiser moves *latent* weights, the
//! operator sees what a map makes of them, and the gradient comes back through the map. A layer may have
//! several, one behind the other: a mask first, then codes, say.

use std::ops::Range;

use super::parameter::Parameter;

/// A differentiable function, or a surrogate of one, from latent weights to those of a layer.
pub trait WeightMap: Send + Sync {
    /// Numbers of its own that are trained too, at their start; their names begin with `prefix` and a dot.
    fn parameters(&self, _prefix: &str) -> Vec<Parameter> {
        Vec::new()
    }

    /// Writes the weights that `latent` stands for, in the same layout (output channels outermost).
    fn forward(&self, latent: &[f32], own: &[Parameter], weights: &mut [f32]);

    /// Turns the gradient by the weights into that by the latent ones, in place, and adds to the gradients of its
    /// own parameters.
    fn backward(&self, latent: &[f32], own: &mut [Parameter], gradient: &mut [f32]);

    /// Numbers that are not trained but change during training: they go into checkpoints.
    fn state(&self) -> Vec<f32> {
        Vec::new()
    }

    /// Takes what [`WeightMap::state`] gave.
    fn restore(&mut self, _state: &[f32]) {}
}

/// The maps of one layer, in the order in which weights pass through them.
#[derive(Default)]
pub(super) struct WeightMaps(Vec<Stage>);

struct Stage {
    map: Box<dyn WeightMap>,
    /// Its parameters among those of the network.
    own: Range<usize>,
    /// What it gave for the last batch.
    weights: Vec<f32>,
}

impl WeightMaps {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a map behind the others; its parameters join those of the network.
    pub(super) fn push(&mut self, map: Box<dyn WeightMap>, layer: &str, parameters: &mut Vec<Parameter>) {
        let first = parameters.len();
        parameters.extend(map.parameters(&format!("{layer}.map{}", self.0.len())));
        self.0.push(Stage { map, own: first..parameters.len(), weights: Vec::new() });
    }

    /// Where their parameters stand among those of the network.
    pub(super) fn own(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().flat_map(|stage| stage.own.clone())
    }

    /// All of them, the first one first.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Box<dyn WeightMap>> {
        self.0.iter_mut().map(|stage| &mut stage.map)
    }

    /// Their states, where they have one.
    pub(super) fn states(&self) -> impl Iterator<Item = (usize, Vec<f32>)> {
        self.0.iter().map(|stage| stage.map.state()).enumerate().filter(|(_, state)| !state.is_empty())
    }

    /// The weights that the parameter `latent` stands for.
    pub(super) fn forward<'a>(&'a mut self, latent: usize, parameters: &'a [Parameter]) -> &'a [f32] {
        let mut input = parameters[latent].values.as_slice();
        for Stage { map, own, weights } in &mut self.0 {
            weights.resize(input.len(), 0.0);
            map.forward(input, &parameters[own.clone()], weights);
            input = weights;
        }
        input
    }

    /// As [`WeightMaps::forward`], for once.
    pub(super) fn weights(&self, latent: usize, parameters: &[Parameter]) -> Vec<f32> {
        let mut weights = parameters[latent].values.clone();
        for Stage { map, own, .. } in &self.0 {
            let mut output = vec![0.0; weights.len()];
            map.forward(&weights, &parameters[own.clone()], &mut output);
            weights = output;
        }
        weights
    }

    /// Adds to the gradients of the parameters, those of the maps included, what comes from the gradient by the
    /// weights of the last [`WeightMaps::forward`].
    pub(super) fn backward(&self, latent: usize, parameters: &mut [Parameter], mut gradient: Vec<f32>) {
        for (i, Stage { map, own, .. }) in self.0.iter().enumerate().rev() {
            let (before, rest) = parameters.split_at_mut(own.start);
            let input = if i > 0 { &self.0[i - 1].weights } else { &before[latent].values };
            map.backward(input, &mut rest[..own.len()], &mut gradient);
        }
        parameters[latent].gradient.iter_mut().zip(gradient).for_each(|(sum, g)| *sum += g);
    }
}
