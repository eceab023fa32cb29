//! Random weights for a graph (He et al. 2015), so that a network can be trained from nothing.

use std::sync::Arc;

use crate::eval::fused_clamp;
use crate::ir::Graph;
use crate::rng::Pcg32;

/// Stream of the generator that weights come from; others are for the order of samples.
const STREAM: u64 = 0x1417;

/// The same graph with random weights and zero biases: of deviation `sqrt(2 / inputs)` before a clamp, which halves
/// the variance, else `sqrt(1 / inputs)`.
pub fn randomised(graph: &Graph, seed: u64) -> Graph {
    let rng = &mut Pcg32::new(seed, STREAM);
    let mut random = graph.clone();
    for id in graph.weighted() {
        let node = graph.node(id);
        let weights = graph.value(node.inputs[1]);
        let per_output = weights.len() / weights.shape.first().copied().unwrap_or(1).max(1);
        let gain: f32 = if fused_clamp(&node.op).is_none() { 1.0 } else { 2.0 };
        let deviation = (gain / per_output as f32).sqrt();
        let drawn = (0..weights.len()).map(|_| normal(rng) * deviation).collect();
        random.values[node.inputs[1].0 as usize].data = Some(Arc::new(drawn));
        if let Some(bias) = node.inputs.get(2) {
            let zeros = vec![0.0; graph.value(*bias).len()];
            random.values[bias.0 as usize].data = Some(Arc::new(zeros));
        }
    }
    random
}

/// A nearly normal number: the sum of twelve uniform ones, which all machines round alike.
fn normal(rng: &mut Pcg32) -> f32 {
    (0..12).map(|_| rng.unit()).sum::<f32>() - 6.0
}
