//! Every layer of a pruned network refitted to what it is given there, so that errors do not add up.
//!
//! Layer by layer, in order, least squares from the inputs that the pruned network computes, its layers before refitted
//! already, to the outputs of the original (He, Zhang and Sun, *Channel Pruning for Accelerating Very Deep Neural
//! Networks*, ICCV 2017, section 3.2). Where a sum adds the layer to another branch, it makes up for that branch's error
//! too. The ridge draws weights to what they were.
//!
//! What the original does is looked at once; then each pruned network runs through the samples once, node by node.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use rayon::prelude::*;

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

/// Samples whose windows are multiplied at once.
const CHUNK: usize = 32;
/// Chunks are dealt to this many sums, which are then added up in order: results do not depend on the number of threads.
const LANES: usize = 8;

/// Refits pruned versions of one network, each on the same samples.
pub struct Refitter<'a> {
    graph: &'a Graph,
    samples: Vec<f32>,
    targets: BTreeMap<NodeId, Target>,
}

/// What a layer of the original does.
struct Target {
    sampler: InputSampler,
    /// Row by row, its outputs at the sampled places before it clamps, and the branch added.
    outputs: Vec<f32>,
}

impl<'a> Refitter<'a> {
    /// Runs `graph` over `samples`, back to back. Holds them, and of one network at a time all activations that are still
    /// to be read.
    ///
    /// # Errors
    /// When the network does not run.
    pub fn new(graph: &'a Graph, samples: Vec<f32>, config: &CalibrationConfig) -> Result<Refitter<'a>, EvalError> {
        let mut walk = Walk::new(graph, &samples);
        let mut targets = BTreeMap::new();
        for id in nodes(graph) {
            if is_refitted(graph, id) {
                let sampler = InputSampler::new(graph, id, walk.samples, config);
                let layer = Layer::new(graph, id, &sampler, &walk);
                let outputs = layer.chunks().into_par_iter().map(|first| layer.outputs(&layer.inputs(first), first));
                let outputs = outputs.collect::<Vec<_>>().concat();
                targets.insert(id, Target { sampler, outputs });
            }
            walk.step(graph, id)?;
        }
        Ok(Refitter { graph, samples, targets })
    }

    /// `pruned`, which is the graph without the channels that `kept` lacks, refitted; weights that are 0 stay so.
    ///
    /// # Errors
    /// When it does not run.
    pub fn refit(&self, pruned: Graph, kept: &Kept) -> Result<Graph, EvalError> {
        self.refit_rows(pruned, |output| kept.channels(self.graph, output))
    }

    /// `pruned`, which is the graph with weights that are 0, refitted: they stay so, and the others make up for them.
    ///
    /// # Errors
    /// When it does not run.
    pub fn refit_weights(&self, pruned: Graph) -> Result<Graph, EvalError> {
        self.refit_rows(pruned, |output| (0..channels(self.graph, output)).collect())
    }

    /// `rows` says which channels of the original are those of an output.
    fn refit_rows(&self, pruned: Graph, rows: impl Fn(ValueId) -> Vec<usize>) -> Result<Graph, EvalError> {
        let mut walk = Walk::new(&pruned, &self.samples);
        let mut new = Rewriting::new(&pruned);
        for id in nodes(&pruned) {
            if let Some(target) = self.targets.get(&id) {
                let rows = rows(self.graph.node(id).output);
                let sampler = target.sampler.on(&new.graph);
                let weights = Layer::new(&new.graph, id, &sampler, &walk).solve(target, &rows);
                // What ran out of numbers stays as it is.
                if weights.iter().all(|w| (*w as f32).is_finite()) {
                    set_weights(&mut new, id, &weights);
                }
            }
            walk.step(&new.graph, id)?;
        }
        Ok(new.finish().map_or(pruned, |new| new.compact()))
    }
}

fn nodes(graph: &Graph) -> impl Iterator<Item = NodeId> + use<> {
    (0..graph.nodes.len() as u32).map(NodeId)
}

/// What reads an input of the network is given what it always was.
fn is_refitted(graph: &Graph, id: NodeId) -> bool {
    is_dense(graph.node(id)) && !graph.inputs.contains(&graph.node(id).inputs[0])
}

/// The activations of all samples, node by node.
struct Walk {
    samples: usize,
    /// Those that some node has still to read.
    values: BTreeMap<ValueId, Vec<f32>>,
}

impl Walk {
    fn new(graph: &Graph, samples: &[f32]) -> Walk {
        let lens: Vec<usize> = graph.inputs.iter().map(|&input| graph.value(input).len()).collect();
        let sample_len = lens.iter().sum::<usize>().max(1);
        let mut values = BTreeMap::new();
        let mut start = 0;
        for (&input, len) in graph.inputs.iter().zip(lens) {
            let own = samples.chunks_exact(sample_len).flat_map(|sample| &sample[start..start + len]);
            values.insert(input, own.copied().collect());
            start += len;
        }
        Walk { samples: samples.len() / sample_len, values }
    }

    /// Computes a node.
    fn step(&mut self, graph: &Graph, id: NodeId) -> Result<(), EvalError> {
        let node = graph.node(id);
        let mut alone = graph.clone();
        alone.nodes = vec![node.clone()];
        alone.inputs = node.inputs.iter().copied().filter(|&input| !graph.value(input).is_constant()).collect();
        alone.inputs.dedup();
        alone.outputs = vec![node.output];
        let net = Net::float(&alone)?;
        let operands: Vec<&[f32]> = alone.inputs.iter().map(|&input| self.value(input)).collect();
        let output = match operands[..] {
            [only] => net.forward(only, self.samples)?,
            _ => net.forward(&interleaved(&operands, self.samples), self.samples)?,
        };
        self.values.insert(node.output, output);
        let is_read = |value: ValueId| graph.consumers(value).last().is_some_and(|&reader| reader > id);
        self.values.retain(|&value, _| is_read(value));
        Ok(())
    }

    fn value(&self, id: ValueId) -> &[f32] {
        self.values.get(&id).map_or(&[], Vec::as_slice)
    }

    /// Of `count` samples from `first` on.
    fn chunk(&self, id: ValueId, first: usize, count: usize) -> &[f32] {
        let value = self.value(id);
        let len = value.len() / self.samples.max(1);
        &value[first * len..][..count * len]
    }
}

/// Sample by sample, the elements of one value after another.
fn interleaved(values: &[&[f32]], samples: usize) -> Vec<f32> {
    let of_sample = |s: usize| values.iter().flat_map(move |value| value.chunks(value.len() / samples).nth(s));
    (0..samples).flat_map(of_sample).flatten().copied().collect()
}

/// A layer, and what it is given.
struct Layer<'a> {
    graph: &'a Graph,
    id: NodeId,
    sampler: &'a InputSampler,
    walk: &'a Walk,
    /// What a sum adds to its result, if that is known by then.
    branch: Option<ValueId>,
    /// Row by row, the bias after the weights.
    weights: Vec<f32>,
    /// Inputs, the constant 1 behind them included.
    n: usize,
    /// Output channels.
    m: usize,
}

impl<'a> Layer<'a> {
    fn new(graph: &'a Graph, id: NodeId, sampler: &'a InputSampler, walk: &'a Walk) -> Layer<'a> {
        let layer = Weighted::of(graph, graph.node(id));
        let row = |o: usize| layer.row(o).iter().copied().chain([layer.bias(o)]);
        let weights = (0..layer.n_rows).flat_map(row).collect();
        Layer { graph, id, sampler, walk, branch: branch(graph, id), weights, n: layer.row + 1, m: layer.n_rows }
    }

    /// The first samples of all chunks.
    fn chunks(&self) -> Vec<usize> {
        (0..self.walk.samples).step_by(CHUNK).collect()
    }

    fn count(&self, first: usize) -> usize {
        CHUNK.min(self.walk.samples - first)
    }

    /// Inputs at the sampled places of a chunk, a constant 1 after each row.
    fn inputs(&self, first: usize) -> Vec<f32> {
        let count = self.count(first);
        let seen = self.walk.chunk(self.graph.node(self.id).inputs[0], first, count);
        let rows = self.sampler.rows(seen, first, count);
        rows.chunks_exact(self.n - 1).flat_map(|row| row.iter().copied().chain([1.0])).collect()
    }

    /// What the layer makes of its inputs, before it clamps, and the branch added.
    fn outputs(&self, inputs: &[f32], first: usize) -> Vec<f32> {
        let (n, m, count) = (self.n, self.m, self.count(first));
        let mut outputs = vec![0.0; inputs.len() / n * m];
        if let Some(branch) = self.branch {
            let seen = self.walk.chunk(branch, first, count);
            let len = seen.len() / count.max(1);
            for (row, (sample, position)) in outputs.chunks_exact_mut(m).zip(self.sampler.places(first, count)) {
                row.copy_from_slice(&seen[sample * len + position * m..][..m]);
            }
        }
        let x = Matrix::row_major(inputs, inputs.len() / n, n);
        multiply_add(x, Matrix::row_major(&self.weights, m, n).transposed(), &mut outputs, m);
        outputs
    }

    /// For each output channel the weights, then the bias, with which it does most nearly what the channels `rows` of the
    /// original do.
    fn solve(&self, target: &Target, rows: &[usize]) -> Vec<f64> {
        let (n, m) = (self.n, self.m);
        let Sums { mut gram, mut slope, count } = self.sums(target, rows);
        gram.iter_mut().chain(&mut slope).for_each(|sum| *sum /= count.max(1.0));
        let ridge = ridge(n, &gram);
        let damped = |i: usize, j: usize| gram[i * n + j] + if i == j && i + 1 < n { ridge } else { 0.0 };
        let whole = OnceLock::new();
        let mut weights: Vec<f64> = self.weights.iter().copied().map(f64::from).collect();
        weights.par_chunks_exact_mut(n).enumerate().for_each(|(o, row)| {
            let left: Vec<usize> = (0..n).filter(|&i| i + 1 == n || row[i] != 0.0).collect();
            let mut step: Vec<f64> = left.iter().map(|&i| slope[i * m + o]).collect();
            if left.len() == n {
                whole.get_or_init(|| Cholesky::of(n, damped)).solve(&mut step);
            } else {
                Cholesky::of(left.len(), |i, j| damped(left[i], left[j])).solve(&mut step);
            }
            left.iter().zip(&step).for_each(|(&i, step)| row[i] += step);
        });
        weights
    }

    fn sums(&self, target: &Target, rows: &[usize]) -> Sums {
        let (n, m) = (self.n, self.m);
        let per_sample = target.outputs.len() / self.walk.samples.max(1);
        let lane = |lane: usize| {
            let mut sums = Sums::new(n, m);
            for first in self.chunks().into_iter().skip(lane).step_by(LANES) {
                let x = self.inputs(first);
                let mine = self.outputs(&x, first);
                let theirs = &target.outputs[first * per_sample..][..self.count(first) * per_sample];
                let all = theirs.len() * m / mine.len().max(1);
                let theirs = theirs.chunks_exact(all.max(1)).flat_map(|row| rows.iter().map(|&o| row[o]));
                let error: Vec<f32> = theirs.zip(&mine).map(|(y, mine)| y - mine).collect();
                sums.add(&x, &error);
            }
            sums
        };
        let lanes: Vec<Sums> = (0..LANES).into_par_iter().map(lane).collect();
        lanes.into_iter().fold(Sums::new(n, m), Sums::plus)
    }
}

/// Over rows of inputs `x` and errors `e`.
struct Sums {
    /// `sum x xᵀ`.
    gram: Vec<f64>,
    /// `sum x eᵀ`.
    slope: Vec<f64>,
    count: f64,
}

impl Sums {
    fn new(n: usize, m: usize) -> Sums {
        Sums { gram: vec![0.0; n * n], slope: vec![0.0; n * m], count: 0.0 }
    }

    fn add(&mut self, x: &[f32], error: &[f32]) {
        let n = self.gram.len().isqrt();
        let (rows, m) = (x.len() / n, self.slope.len() / n);
        add_product(Matrix::row_major(x, rows, n), Matrix::row_major(x, rows, n), n, &mut self.gram);
        add_product(Matrix::row_major(x, rows, n), Matrix::row_major(error, rows, m), m, &mut self.slope);
        self.count += rows as f64;
    }

    fn plus(mut self, other: Sums) -> Sums {
        let pairs = self.gram.iter_mut().zip(&other.gram).chain(self.slope.iter_mut().zip(&other.slope));
        pairs.for_each(|(sum, x)| *sum += x);
        self.count += other.count;
        self
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

/// `sums += aᵀ b`, `m` numbers a row.
fn add_product(a: Matrix<'_>, b: Matrix<'_>, m: usize, sums: &mut [f64]) {
    let mut product = vec![0.0; sums.len()];
    multiply_add(a.transposed(), b, &mut product, m);
    sums.iter_mut().zip(&product).for_each(|(sum, &x)| *sum += f64::from(x));
}

#[cfg(test)]
mod tests {
    use super::super::regression::tests::least_squares;
    use super::super::{Groups, shrink};
    use super::*;
    use crate::ir::text::{parse, parse_with};
    use crate::rng::Pcg32;

    const SAMPLES: usize = 24;

    #[test]
    fn weights_that_are_left_make_up_for_those_that_are_not() {
        let mut random = Pcg32::new(8, 8);
        let mut numbers = |n: usize| -> Vec<f32> { (0..n).map(|_| random.between(-1.0, 1.0)).collect() };
        let graph = parse_with(
            "graph two\ninput %x: [1, 4, 4, 2]\nconst %w: [6, 1, 1, 2]\nconst %b: [6]\n\
             %y: [1, 4, 4, 6] = conv2d(%x, %w, %b) clamp=[0.0, inf]\nconst %v: [3, 2, 2, 6]\n\
             %z: [1, 3, 3, 3] = conv2d(%y, %v)\noutput %z\n",
            |_, shape| Ok(numbers(shape.iter().product())),
        )
        .unwrap();
        let samples = numbers(SAMPLES * 32);
        let pruned = crate::prune::fine::Sparsity::Global(0.6).prune(&graph);
        let config = CalibrationConfig { rows_per_layer: usize::MAX, seed: 0 };
        let refitted = Refitter::new(&graph, samples.clone(), &config).unwrap().refit_weights(pruned.clone()).unwrap();
        let of = |graph: &Graph| graph.constant(graph.node(NodeId(1)), 1).to_vec();
        assert!(of(&pruned).iter().zip(of(&refitted)).all(|(&before, after)| (before == 0.0) == (after == 0.0)));
        let error = |other: &Graph| -> f32 {
            let of = |graph| Net::float(graph).unwrap().forward(&samples, SAMPLES).unwrap();
            of(&graph).iter().zip(of(other)).map(|(a, b)| (a - b).powi(2)).sum()
        };
        assert!(error(&refitted) < 0.8 * error(&pruned), "{} and {}", error(&refitted), error(&pruned));
    }

    /// What orthogonal transformations find, from the same windows.
    #[test]
    fn weights_are_those_of_a_dense_solver() {
        let mut random = Pcg32::new(6, 6);
        let mut text = |n: usize| {
            let numbers: Vec<String> = (0..n).map(|_| random.between(-1.0, 1.0).to_string()).collect();
            numbers.join(", ")
        };
        let graph = parse(&format!(
            "graph two\ninput %x: [1, 4, 4, 2]\nconst %w: [6, 1, 1, 2] = [{}]\nconst %b: [6] = [{}]\n\
             %y: [1, 4, 4, 6] = conv2d(%x, %w, %b) clamp=[0.0, inf]\nconst %v: [3, 2, 2, 6] = [{}]\n\
             %z: [1, 3, 3, 3] = conv2d(%y, %v)\noutput %z\n",
            text(12),
            text(6),
            text(72)
        ))
        .unwrap();
        let samples: Vec<f32> = (0..SAMPLES * 32).map(|_| random.between(-1.0, 1.0)).collect();
        let groups = Groups::of(&graph);
        let units = vec![vec![0, 2, 3, 5]];
        let kept = groups.kept(&units);
        let pruned = shrink(&graph, &groups, &units);
        let config = CalibrationConfig { rows_per_layer: usize::MAX, seed: 0 };
        let refitter = Refitter::new(&graph, samples.clone(), &config).unwrap();
        let refitted = refitter.refit(pruned.clone(), &kept).unwrap();

        let before = |graph: &Graph| {
            let mut before = graph.clone();
            before.nodes.truncate(1);
            before.outputs = vec![before.nodes[0].output];
            Net::float(&before).unwrap().forward(&samples, SAMPLES).unwrap()
        };
        let windows = |y: &[f32], c: usize| -> Vec<Vec<f64>> {
            let places = (0..SAMPLES * 9).map(|i| (i / 9, i % 9 / 3, i % 3));
            let tap = |s: usize, r: usize, q: usize| y[((s * 4 + r) * 4 + q) * c..][..c].iter().map(|&x| f64::from(x));
            let window =
                |(s, r, q)| [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(i, j)| tap(s, r + i, q + j)).into_iter().flatten();
            places.map(|place| window(place).chain([1.0]).collect()).collect()
        };
        let (mine, theirs) = (windows(&before(&pruned), 4), windows(&before(&graph), 6));
        let n = mine[0].len();
        let squares: f64 = mine.iter().flat_map(|row| &row[..n - 1]).map(|x| x * x).sum();
        let ridge = (super::super::regression::RIDGE * squares / (n - 1) as f64).sqrt();
        let last = NodeId(1);
        let [old, start, new] = [&graph, &pruned, &refitted].map(|graph| Weighted::of(graph, graph.node(last)));
        for o in 0..3 {
            let of = |row: &[f32], x: &[f64]| row.iter().zip(x).map(|(w, x)| f64::from(*w) * x).sum::<f64>();
            let lack = theirs.iter().zip(&mine).map(|(y, x)| of(old.row(o), y) - of(start.row(o), x));
            let damping = (0..n - 1).map(|i| (0..n).map(|j| if i == j { ridge } else { 0.0 }).collect());
            let rows: Vec<Vec<f64>> = mine.iter().cloned().chain(damping).collect();
            let expected = least_squares(rows, lack.chain((0..n - 1).map(|_| 0.0)).collect());
            let found = new.row(o).iter().zip(start.row(o)).map(|(new, old)| f64::from(new - old));
            for (found, expected) in found.chain([f64::from(new.bias(o))]).zip(expected) {
                assert!((found - expected).abs() < 1e-4, "{found} {expected}");
            }
        }
    }
}
