//! Pruning of single weights, by magnitude, while the network is trained.
//!
//! Fewer and fewer weights are left along a cubic schedule (Zhu & Gupta 2017). As long as that goes on, gradients reach
//! those that are masked too, so that a weight that turns out to matter comes back (dynamic network surgery, Guo et al.
//! 2016); then the mask stands.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::ir::{Graph, NodeId, ValueId};
use crate::train::method::Method;
use crate::train::net::{Net, NetError};
use crate::train::parameter::Parameter;
use crate::train::weight_map::WeightMap;

/// Updates of the masks in an epoch.
const UPDATES: f32 = 8.0;

/// Which weights are to be left in the end.
#[derive(Clone, Debug, PartialEq)]
pub enum Sparsity {
    /// This share of all, shared out by what magnitudes say (LAMP, Lee et al. 2021): the score of a weight is its square
    /// over the sum of the squares of those of its layer that are no smaller.
    Global(f64),
    /// Of each layer, by name, its own share; of those without one, all.
    Layers(BTreeMap<String, f64>),
    /// So many of every few that follow one another in an output channel.
    OfEvery {
        /// How many are left.
        keep: usize,
        /// Out of how many.
        of: usize,
    },
}

impl Sparsity {
    /// A graph without the weights that go.
    pub fn prune(&self, graph: &Graph) -> Graph {
        let layers: Vec<(NodeId, ValueId)> = graph.weighted().map(|id| (id, graph.node(id).inputs[1])).collect();
        let weights: Vec<(String, &[f32], usize)> = layers
            .iter()
            .map(|&(id, value)| {
                let value = graph.value(value);
                let numbers = value.data.as_deref().map(Vec::as_slice).unwrap_or_default();
                (graph.node(id).name.clone(), numbers, value.shape[1..].iter().product())
            })
            .collect();
        let masks = self.masks(&weights, 0.0);
        let mut pruned = graph.clone();
        for ((&(_, value), (_, numbers, _)), mask) in layers.iter().zip(&weights).zip(masks) {
            let left = numbers.iter().zip(mask).map(|(&w, keep)| if keep { w } else { 0.0 });
            pruned.values[value.0 as usize].data = Some(Arc::new(left.collect()));
        }
        pruned
    }

    /// The masks when `left` of the way to the end is still to go: 1 for all weights, 0 for the share that is wanted.
    /// Layers are name, weights and length of a row.
    fn masks(&self, layers: &[(String, &[f32], usize)], left: f64) -> Vec<Vec<bool>> {
        let share = |end: f64| end + (1.0 - end) * left;
        match self {
            Sparsity::Global(end) => {
                let scores: Vec<Vec<f64>> = layers.iter().map(|(_, weights, _)| lamp(weights)).collect();
                let all: usize = scores.iter().map(Vec::len).sum();
                let threshold = nth_largest(scores.concat(), (share(*end) * all as f64).round() as usize);
                scores.iter().map(|scores| scores.iter().map(|&score| score >= threshold).collect()).collect()
            }
            Sparsity::Layers(ends) => {
                let mask = |(name, weights, _): &(String, &[f32], usize)| {
                    let kept = (share(ends.get(name).copied().unwrap_or(1.0)) * weights.len() as f64).round() as usize;
                    largest(weights, kept)
                };
                layers.iter().map(mask).collect()
            }
            &Sparsity::OfEvery { keep, of } => {
                let kept = (share(keep as f64 / of as f64) * of as f64).ceil() as usize;
                let rows = |(_, weights, row): &(String, &[f32], usize)| {
                    let runs = weights.chunks((*row).max(1)).flat_map(|row| row.chunks(of));
                    runs.flat_map(|run| largest(run, kept)).collect()
                };
                layers.iter().map(rows).collect()
            }
        }
    }
}

/// The scores of a layer's weights.
fn lamp(weights: &[f32]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by(|&a, &b| weights[b].abs().total_cmp(&weights[a].abs()).then(a.cmp(&b)));
    let (mut scores, mut sum) = (vec![0.0; weights.len()], f64::MIN_POSITIVE);
    for i in order {
        let square = f64::from(weights[i]).powi(2);
        sum += square;
        scores[i] = square / sum;
    }
    scores
}

/// A mask of the `count` weights of the largest magnitude.
fn largest(weights: &[f32], count: usize) -> Vec<bool> {
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by(|&a, &b| weights[b].abs().total_cmp(&weights[a].abs()).then(a.cmp(&b)));
    let mut mask = vec![false; weights.len()];
    order.into_iter().take(count).for_each(|i| mask[i] = true);
    mask
}

/// The smallest of the `count` largest; above all if there is none.
fn nth_largest(mut values: Vec<f64>, count: usize) -> f64 {
    match count.min(values.len()).checked_sub(1) {
        Some(last) => *values.select_nth_unstable_by(last, |a, b| b.total_cmp(a)).1,
        None => f64::INFINITY,
    }
}

/// Masks the weights of all layers while a network is trained.
#[derive(Debug)]
pub struct Pruning {
    sparsity: Sparsity,
    /// Epochs during which weights go.
    during: Range<f32>,
    /// The last update of the masks, counted from 1; 0 for none.
    updated: AtomicUsize,
}

impl Pruning {
    /// Weights go during these epochs; they are best whole.
    pub fn new(sparsity: Sparsity, during: Range<f32>) -> Pruning {
        Pruning { sparsity, during, updated: AtomicUsize::new(0) }
    }
}

impl Method for Pruning {
    fn identity(&self) -> String {
        format!("{:?} {:?}", self.sparsity, self.during)
    }

    fn attach(&self, net: &mut Net) -> Result<(), NetError> {
        for (layer, _) in net.layers() {
            let weights = net.latent(layer).map_or(0, |latent| latent.values.len());
            net.map_weights(layer, Box::new(Mask { keep: vec![true; weights], open: true }))?;
        }
        Ok(())
    }

    /// The last masks are those of the first step behind the end.
    fn is_done(&self, epochs: f32) -> bool {
        epochs > self.during.end
    }

    fn advance(&self, net: &mut Net, epochs: f32) {
        let number = |epochs: f32| (epochs * UPDATES) as usize + 1;
        let now = number(epochs);
        // Behind the end masks stand, and training that goes on there has its own in the checkpoint.
        if now > number(self.during.end)
            || epochs < self.during.start
            || self.updated.swap(now, Ordering::Relaxed) == now
        {
            return;
        }
        let span = f64::from(self.during.end - self.during.start).max(f64::MIN_POSITIVE);
        let left = (f64::from(self.during.end - epochs) / span).clamp(0.0, 1.0).powi(3);
        let layers = net.layers();
        let weights: Vec<(String, &[f32], usize)> = layers
            .iter()
            .filter_map(|(layer, name)| {
                let values = net.latent(*layer)?.values.as_slice();
                Some((name.clone(), values, net.row_len(*layer)))
            })
            .collect();
        let masks = self.sparsity.masks(&weights, left);
        for ((layer, _), keep) in layers.into_iter().zip(masks) {
            if let Some(map) = net.weight_maps(layer).next() {
                *map = Box::new(Mask { keep, open: now < number(self.during.end) });
            }
        }
    }
}

/// Weights, some of them 0.
struct Mask {
    keep: Vec<bool>,
    /// Whether gradients pass where weights do not.
    open: bool,
}

impl WeightMap for Mask {
    fn forward(&self, latent: &[f32], _own: &[Parameter], weights: &mut [f32]) {
        for ((weight, &latent), &keep) in weights.iter_mut().zip(latent).zip(&self.keep) {
            *weight = if keep { latent } else { 0.0 };
        }
    }

    fn backward(&self, _latent: &[f32], _own: &mut [Parameter], gradient: &mut [f32]) {
        if !self.open {
            gradient.iter_mut().zip(&self.keep).filter(|(_, keep)| !**keep).for_each(|(g, _)| *g = 0.0);
        }
    }

    fn state(&self) -> Vec<f32> {
        self.keep.iter().chain([&self.open]).map(|&flag| f32::from(u8::from(flag))).collect()
    }

    fn restore(&mut self, state: &[f32]) {
        if let Some((open, keep)) = state.split_last() {
            self.open = *open != 0.0;
            self.keep = keep.iter().map(|&flag| flag != 0.0).collect();
        }
    }
}

/// The share of weights that are not 0, of every layer by name and of all.
pub fn density(graph: &Graph) -> (BTreeMap<String, f64>, f64) {
    let mut layers = BTreeMap::new();
    let (mut left, mut all) = (0, 0);
    for id in graph.weighted() {
        let node = graph.node(id);
        let weights = graph.value(node.inputs[1]).data.as_deref().map(Vec::as_slice).unwrap_or_default();
        let here = weights.iter().filter(|&&w| w != 0.0).count();
        layers.insert(node.name.clone(), here as f64 / weights.len().max(1) as f64);
        (left, all) = (left + here, all + weights.len());
    }
    (layers, left as f64 / all.max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_every_run_the_largest_are_left() {
        let weights = [0.1, -0.9, 0.5, 0.2, 0.0, 0.3, -0.1, 0.2];
        let layers = [("a".to_owned(), &weights[..], 8)];
        let masks = |left| Sparsity::OfEvery { keep: 2, of: 4 }.masks(&layers, left);
        assert_eq!(masks(0.0), [[false, true, true, false, false, true, false, true]]);
        assert_eq!(masks(1.0), [[true; 8]]);
    }

    #[test]
    fn a_global_share_leaves_every_layer_its_largest_weight() {
        let (small, large) = ([1e-3, 2e-3, 3e-3, 4e-3], [1.0, 2.0, 3.0, 4.0]);
        let layers = [("a".to_owned(), &small[..], 4), ("b".to_owned(), &large[..], 4)];
        let masks = Sparsity::Global(0.25).masks(&layers, 0.0);
        assert_eq!(masks, [[false, false, false, true], [false, false, false, true]]);
        let half = Sparsity::Layers([("b".to_owned(), 0.5)].into()).masks(&layers, 0.0);
        assert_eq!(half, [[true, true, true, true], [false, false, true, true]]);
    }
}
