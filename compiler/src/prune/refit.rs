//! Every layer of a pruned network refitted to what it is given there, so that errors do not add up.
//!
//! Layer by layer, in order, least squares from the inputs that the pruned network computes, its layers before refitted
//! already, to the outputs of the original (He, Zhang and Sun, *Channel Pruning for Accelerating Very Deep Neural
//! Networks*, ICCV 2017, section 3.2). Where a sum adds the layer to another branch, it makes up for that branch's error
//! too. The ridge draws weights to what they were.

use super::regression::ridge;
use super::set_weights;
use crate::cholesky::Cholesky;
use crate::eval::gemm::{Matrix, multiply_add};
use crate::eval::{EvalError, Net, fused_clamp};
use crate::ir::channels::{Kept, channels};
use crate::ir::constants::Rewriting;
use crate::ir::weighted::{Weighted, is_dense};
use crate::ir::{Clamp, Graph, NodeId, Op, ValueId};
use crate::quant::{CalibrationConfig, InputSampler};

/// Samples that run through the networks at once.
const CHUNK: usize = 256;

/// `pruned`, which is `graph` without the channels that `kept` says, refitted on `n` samples, back to back in `samples`.
///
/// # Errors
/// When a network does not run.
pub fn refit(
    graph: &Graph,
    pruned: Graph,
    kept: &Kept,
    samples: &[f32],
    config: &CalibrationConfig,
) -> Result<Graph, EvalError> {
    let mut pruned = pruned;
    for id in graph.weighted().filter(|&id| is_dense(graph.node(id))) {
        if graph.inputs.contains(&graph.node(id).inputs[0]) {
            continue;
        }
        let weights = Layer::new(graph, &pruned, kept, id, samples, config)?.solve(samples)?;
        let mut new = Rewriting::new(&pruned);
        set_weights(&mut new, id, &weights);
        pruned = new.finish().map_or(pruned, |new| new.compact());
    }
    Ok(pruned)
}

/// One layer of both networks.
struct Layer<'a> {
    original: Side<'a>,
    pruned: Side<'a>,
    /// Output channels that are left.
    rows: Vec<usize>,
    samples: usize,
}

/// A layer and what comes before it.
struct Side<'a> {
    graph: &'a Graph,
    id: NodeId,
    net: Net,
    sampler: InputSampler,
    /// What a sum adds to the layer's result, if that is known by then.
    branch: Option<ValueId>,
}

impl<'a> Layer<'a> {
    fn new(
        graph: &'a Graph,
        pruned: &'a Graph,
        kept: &Kept,
        id: NodeId,
        samples: &[f32],
        config: &CalibrationConfig,
    ) -> Result<Layer<'a>, EvalError> {
        let samples = samples.len() / graph.inputs.iter().map(|&input| graph.value(input).len()).sum::<usize>().max(1);
        let sampler = InputSampler::new(graph, id, samples, config);
        let rows = kept.channels(graph, graph.node(id).output);
        let pruned = Side::new(pruned, id, sampler.on(pruned))?;
        Ok(Layer { original: Side::new(graph, id, sampler)?, pruned, rows, samples })
    }

    /// For each output channel that is left the weights of the inputs that are, then the bias.
    fn solve(&self, samples: &[f32]) -> Result<Vec<f64>, EvalError> {
        let (n, m) = (Weighted::of(self.pruned.graph, self.pruned.graph.node(self.pruned.id)).row + 1, self.rows.len());
        let (mut gram, mut slope, mut count) = (vec![0.0; n * n], vec![0.0; n * m], 0.0);
        let sample_len = samples.len() / self.samples.max(1);
        for (c, chunk) in samples.chunks(CHUNK * sample_len).enumerate() {
            let first = c * CHUNK;
            let x = self.pruned.inputs(chunk, first)?;
            let error = self.error(&x, &self.original.inputs(chunk, first)?);
            count += (x.rows.len() / n) as f64;
            add_product(&x.rows, n, &x.rows, n, &mut gram);
            add_product(&x.rows, n, &error, m, &mut slope);
        }
        gram.iter_mut().chain(&mut slope).for_each(|sum| *sum /= count);
        let ridge = ridge(n, &gram);
        let damped = |i: usize, j: usize| gram[i * n + j] + if i == j && i + 1 < n { ridge } else { 0.0 };
        let factor = Cholesky::of(n, damped);
        let mut weights: Vec<f64> = self.pruned.weights().into_iter().map(f64::from).collect();
        let mut step = vec![0.0; n];
        for (o, row) in weights.chunks_exact_mut(n).enumerate() {
            step.iter_mut().enumerate().for_each(|(i, step)| *step = slope[i * m + o]);
            factor.solve(&mut step);
            row.iter_mut().zip(&step).for_each(|(w, step)| *w += step);
        }
        Ok(weights)
    }

    /// What the pruned layer's output, and the branch added to it, lack of the original's, row by row.
    fn error(&self, pruned: &Inputs, original: &Inputs) -> Vec<f32> {
        let m = self.rows.len();
        let (mine, theirs) = (self.pruned.outputs(pruned), self.original.outputs(original));
        let all = theirs.len() * m / mine.len().max(1);
        let kept = theirs.chunks_exact(all.max(1)).flat_map(|row| self.rows.iter().map(|&o| row[o]));
        kept.zip(&mine).map(|(y, mine)| y - mine).collect()
    }
}

/// Inputs of a layer at the sampled places, a constant 1 after each row, and the branch there.
struct Inputs {
    rows: Vec<f32>,
    branch: Vec<f32>,
}

impl<'a> Side<'a> {
    fn new(graph: &'a Graph, id: NodeId, sampler: InputSampler) -> Result<Side<'a>, EvalError> {
        let branch = branch(graph, id);
        let mut before = graph.clone();
        before.nodes.truncate(id.0 as usize);
        before.outputs = [graph.node(id).inputs[0]].into_iter().chain(branch).collect();
        Ok(Side { graph, id, net: Net::float(&before)?, sampler, branch })
    }

    /// Of the samples of a chunk, the first of which is sample `first` of all.
    fn inputs(&self, chunk: &[f32], first: usize) -> Result<Inputs, EvalError> {
        let count = chunk.len() / self.net.sample_len();
        let seen = self.net.forward(chunk, count)?;
        let node = self.graph.node(self.id);
        let (len, m) = (self.graph.input_shape(node, 0).iter().product::<usize>(), channels(self.graph, node.output));
        let per_sample = seen.len() / count.max(1);
        let x: Vec<f32> = seen.chunks_exact(per_sample).flat_map(|sample| &sample[..len]).copied().collect();
        let n = Weighted::of(self.graph, node).row;
        let rows = self.sampler.rows(&x, first, count);
        let rows = rows.chunks_exact(n).flat_map(|row| row.iter().copied().chain([1.0])).collect();
        let at = |(sample, position): (usize, usize)| &seen[sample * per_sample + len + position * m..][..m];
        let places = self.branch.map(|_| self.sampler.places(first, count).flat_map(at).copied().collect());
        Ok(Inputs { rows, branch: places.unwrap_or_default() })
    }

    /// What the layer makes of its inputs, before it clamps, and the branch added.
    fn outputs(&self, inputs: &Inputs) -> Vec<f32> {
        let layer = Weighted::of(self.graph, self.graph.node(self.id));
        let (n, m) = (layer.row + 1, layer.n_rows);
        let count = inputs.rows.len() / n;
        let mut outputs = if inputs.branch.is_empty() { vec![0.0; count * m] } else { inputs.branch.clone() };
        let weights = self.weights();
        let (x, w) = (Matrix::row_major(&inputs.rows, count, n), Matrix::row_major(&weights, m, n));
        multiply_add(x, w.transposed(), &mut outputs, m);
        outputs
    }

    /// Row by row, the bias after the weights.
    fn weights(&self) -> Vec<f32> {
        let layer = Weighted::of(self.graph, self.graph.node(self.id));
        (0..layer.n_rows).flat_map(|o| layer.row(o).iter().copied().chain([layer.bias(o)])).collect()
    }
}

/// The other operand of the sum that alone reads a layer's result, where it is computed before the layer.
fn branch(graph: &Graph, id: NodeId) -> Option<ValueId> {
    let node = graph.node(id);
    let [reader] = graph.consumers(node.output)[..] else { return None };
    let sum = graph.node(reader);
    let other = *sum.inputs.iter().find(|&&input| input != node.output)?;
    let known = graph.producer(other).is_none_or(|producer| producer < id) && !graph.value(other).is_constant();
    let is_sum = matches!(sum.op, Op::Add { .. }) && fused_clamp(&node.op) == Clamp::NONE;
    (is_sum && known && !graph.outputs.contains(&node.output)).then_some(other)
}

/// `sums += aᵀ b` over rows of `n` and `m` numbers.
fn add_product(a: &[f32], n: usize, b: &[f32], m: usize, sums: &mut [f64]) {
    let count = a.len() / n;
    let mut product = vec![0.0; n * m];
    multiply_add(Matrix::row_major(a, count, n).transposed(), Matrix::row_major(b, count, m), &mut product, m);
    sums.iter_mut().zip(&product).for_each(|(sum, &x)| *sum += f64::from(x));
}
