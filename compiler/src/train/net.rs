//! A graph whose weights are trained: forward, backward, and back to a graph.
//!
//! The operators of the graph run in order, each over the whole batch, and then in the opposite order
//! for the gradients (reverse-mode differentiation over a fixed list instead of a recorded tape). All
//! buffers are made once for a batch size; a step allocates next to nothing. Candle's own
//! differentiation was measured first: its convolutions have backward passes 5 to 20 times slower than
//! these, and even with operators of our own in its place every intermediate tensor is allocated,
//! zeroed and given back in every step. As both lists are known beforehand there is nothing that a
//! tape could add; tensors of candle appear where networks are evaluated ([`crate::eval`]).
//!
//! A batch is cut into chunks of [`CHUNK`] samples that threads share. Sums over samples are made
//! chunk by chunk and then over the chunks in order: their number does not depend on that of the threads,
//! so neither do the results.

use std::collections::BTreeMap;
use std::sync::Arc;

use rayon::prelude::*;

use super::batch_norm::{Averaging, BatchNorm};
use super::channels::{self, Moments};
use super::ops::affine::{Affine, Kind as AffineKind};
use super::ops::conv::Conv;
use super::ops::depthwise::Depthwise;
use super::ops::linear::Linear;
use super::ops::linear_map::LinearMap;
use super::ops::max_pool::MaxPool;
use super::ops::simple::{Concat, Softmax, Sum};
use super::ops::{Operator, Scratch, Target, Wanted, Write, room};
use super::parameter::{Parameter, Role};
use super::simd::Lanes;
use crate::eval::fused_clamp;
use crate::ir::{Clamp, Graph, Node, Op, Value, ValueId};

/// Samples whose sums are made one after another.
pub(super) const CHUNK: usize = 16;

/// Numbers that samples which pass through an operator together should have: part of a second-level cache.
const TOGETHER: usize = 1 << 14;

/// What stands behind a convolution while it is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Norms {
    /// Its bias, as in the graph.
    Bias,
    /// Batch norm (Ioffe & Szegedy 2015), which becomes weights and bias again in [`Net::graph`].
    Batch,
}

/// Why a graph cannot be trained.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// Weights computed at run time, or a constant where an activation must be.
    #[error("operand {operand} of node `{node}` is no constant: fold constants first")]
    NotConstant {
        /// Name of the node.
        node: String,
        /// Which operand.
        operand: usize,
    },
    /// `x + x`, say.
    #[error("node `{node}` reads one value twice: write the factor into the weights before it")]
    SameOperand {
        /// Name of the node.
        node: String,
    },
    /// Not one of each.
    #[error("the network has {inputs} inputs and {outputs} outputs; training needs one of each")]
    Endpoints {
        /// How many inputs.
        inputs: usize,
        /// How many outputs.
        outputs: usize,
    },
}

/// A network in training.
pub struct Net {
    graph: Graph,
    steps: Vec<Step>,
    parameters: Vec<Parameter>,
    /// By value: the activation of the batch.
    values: Vec<Vec<f32>>,
    /// By value: its gradient.
    gradients: Vec<Vec<f32>>,
    averaging: Averaging,
    chunks: Vec<Chunk>,
    logits: ValueId,
}

/// One node.
struct Step {
    /// Index in the graph.
    node: usize,
    operator: Box<dyn Operator>,
    inputs: Vec<ValueId>,
    output: ValueId,
    /// Numbers of one sample's output.
    len: usize,
    parameters: Vec<usize>,
    norm: Option<BatchNorm>,
    clamp: Clamp,
}

/// What the samples of a chunk need besides values.
#[derive(Default)]
struct Chunk {
    scratch: Scratch,
    gradient: Vec<f32>,
    sums: Vec<Lanes>,
}

impl Net {
    /// Makes the weights of a verified graph trainable. A softmax at its end is left to the loss.
    ///
    /// # Errors
    /// When something in the graph cannot be trained.
    pub fn new(graph: &Graph, norms: Norms) -> Result<Self, NetError> {
        let (&[_], &[output]) = (&graph.inputs[..], &graph.outputs[..]) else {
            return Err(NetError::Endpoints { inputs: graph.inputs.len(), outputs: graph.outputs.len() });
        };
        let last = graph.producer(output).map(|id| graph.node(id)).filter(|node| node.op == Op::Softmax);
        let logits = last.map_or(output, |softmax| softmax.inputs[0]);
        let mut net = Net {
            graph: graph.clone(),
            steps: Vec::new(),
            parameters: Vec::new(),
            values: vec![Vec::new(); graph.values.len()],
            gradients: vec![Vec::new(); graph.values.len()],
            averaging: Averaging::Recent,
            chunks: Vec::new(),
            logits,
        };
        for (i, node) in graph.nodes.iter().enumerate() {
            if node.output != output || logits == output {
                let step = net.step(i, node, norms)?;
                net.steps.push(step);
            }
        }
        Ok(net)
    }

    fn step(&mut self, index: usize, node: &Node, norms: Norms) -> Result<Step, NetError> {
        let graph = self.graph.clone();
        let output = &graph.value(node.output).shape;
        let inputs: Vec<ValueId> = node.inputs.iter().copied().filter(|&v| !graph.value(v).is_constant()).collect();
        if (1..inputs.len()).any(|i| inputs[..i].contains(&inputs[i])) {
            return Err(NetError::SameOperand { node: node.name.clone() });
        }
        let mut norm = None;
        let mut parameters = Vec::new();
        if node.op.has_weights() {
            parameters.push(self.parameter(node, 1, Role::Weights)?);
            if norms == Norms::Batch && matches!(node.op, Op::Conv2d(_)) {
                let channels = output[output.len() - 1];
                norm = Some(BatchNorm::new(&node.name, channels, &mut self.parameters));
            } else if node.inputs.len() > 2 {
                parameters.push(self.parameter(node, 2, Role::Vector)?);
            }
        } else if matches!(node.op, Op::Mul | Op::Add { .. }) && inputs.len() == 1 {
            let operand = node.inputs.iter().position(|&id| graph.value(id).is_constant()).unwrap_or(1);
            if graph.input_shape(node, operand).iter().product::<usize>() > 1 {
                parameters.push(self.parameter(node, operand, Role::Vector)?);
            }
        }
        Ok(Step {
            node: index,
            operator: operator(&graph, node, &inputs)?,
            len: output.iter().product(),
            clamp: fused_clamp(&node.op),
            output: node.output,
            inputs,
            parameters,
            norm,
        })
    }

    /// Takes a constant operand as a parameter.
    fn parameter(&mut self, node: &Node, operand: usize, role: Role) -> Result<usize, NetError> {
        let not_constant = || NetError::NotConstant { node: node.name.clone(), operand };
        let value = self.graph.value(*node.inputs.get(operand).ok_or_else(not_constant)?);
        let values = value.data.as_deref().ok_or_else(not_constant)?.clone();
        self.parameters.push(Parameter::new(value.name.clone(), role, values));
        Ok(self.parameters.len() - 1)
    }

    /// What is trained.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// As [`Net::parameters`], to be changed.
    pub fn parameters_mut(&mut self) -> &mut [Parameter] {
        &mut self.parameters
    }

    /// Numbers of one input sample.
    pub fn sample_len(&self) -> usize {
        self.graph.value(self.graph.inputs[0]).len()
    }

    /// What the loss looks at: the output, or what goes into the softmax at the end.
    pub fn logits(&self) -> ValueId {
        self.logits
    }

    /// The output of the node of this name.
    pub fn output_of(&self, node: &str) -> Option<ValueId> {
        self.graph.nodes.iter().find(|other| other.name == node).map(|node| node.output)
    }

    /// All numbers that the next step and the trained graph depend on, by name.
    pub fn tensors(&self) -> BTreeMap<String, Vec<f32>> {
        let mut tensors: BTreeMap<String, Vec<f32>> =
            self.parameters.iter().map(|p| (p.name.clone(), p.values.clone())).collect();
        for step in &self.steps {
            if let Some(norm) = &step.norm {
                let name = &self.graph.nodes[step.node].name;
                tensors.insert(format!("{name}.mean"), norm.running.mean.clone());
                tensors.insert(format!("{name}.variance"), norm.running.variance.clone());
                tensors.insert(format!("{name}.batches"), vec![norm.running.batches as f32]);
            }
        }
        tensors
    }

    /// Takes numbers that [`Net::tensors`] gave; what is missing or of another length stays.
    pub fn restore(&mut self, tensors: &BTreeMap<String, Vec<f32>>) {
        let take = |name: &str, slot: &mut Vec<f32>| {
            if let Some(values) = tensors.get(name).filter(|values| values.len() == slot.len()) {
                slot.clone_from(values);
            }
        };
        for parameter in &mut self.parameters {
            take(&parameter.name, &mut parameter.values);
        }
        for step in &mut self.steps {
            if let Some(norm) = &mut step.norm {
                let name = &self.graph.nodes[step.node].name;
                take(&format!("{name}.mean"), &mut norm.running.mean);
                take(&format!("{name}.variance"), &mut norm.running.variance);
                let mut batches = vec![norm.running.batches as f32];
                take(&format!("{name}.batches"), &mut batches);
                norm.running.batches = batches[0] as u64;
            }
        }
    }

    /// From now on the statistics of the norms are means over all batches that run forward.
    pub fn begin_statistics(&mut self) {
        self.averaging = Averaging::Even;
        self.norms_mut().for_each(|norm| norm.running.batches = 0);
    }

    /// From now on recent batches count most again.
    pub fn end_statistics(&mut self) {
        self.averaging = Averaging::Recent;
    }

    /// Sets the norms so that, by their statistics, they add the biases that the graph has behind their
    /// layers and change nothing else.
    pub fn unfold_norms(&mut self) {
        for step in &mut self.steps {
            let Some(norm) = &mut step.norm else { continue };
            let bias = self.graph.nodes[step.node].inputs.get(2);
            let bias = bias.and_then(|&id| self.graph.value(id).data.as_deref()).map(Vec::as_slice);
            norm.unfold(bias.unwrap_or(&vec![0.0; norm.channels]), &mut self.parameters);
        }
    }

    fn norms_mut(&mut self) -> impl Iterator<Item = &mut BatchNorm> {
        self.steps.iter_mut().filter_map(|step| step.norm.as_mut())
    }

    /// The value of the last batch behind `id`, sample after sample.
    pub fn value(&self, id: ValueId) -> &[f32] {
        &self.values[id.0 as usize]
    }

    /// Logits of a batch, samples back to back; batch norms take the batch's own statistics and note them.
    pub fn forward(&mut self, batch: &[f32]) -> &[f32] {
        let samples = batch.len() / self.sample_len();
        self.chunks.resize_with(samples.div_ceil(CHUNK), Chunk::default);
        let input = &mut self.values[self.graph.inputs[0].0 as usize];
        input.clear();
        input.extend_from_slice(batch);
        for step in &mut self.steps {
            let parameters: Vec<&[f32]> = step.parameters.iter().map(|&p| &*self.parameters[p].values).collect();
            step.operator.load(&parameters);
            let mut output = std::mem::take(&mut self.values[step.output.0 as usize]);
            output.resize(samples * step.len, 0.0);
            step.forward(&self.values, &mut output, &self.parameters, self.averaging, &mut self.chunks);
            self.values[step.output.0 as usize] = output;
        }
        &self.values[self.logits.0 as usize]
    }

    /// The graph with the weights as they are now, batch norms folded into weights and biases.
    pub fn graph(&self) -> Graph {
        let mut graph = self.graph.clone();
        for step in &self.steps {
            let node = self.graph.nodes[step.node].clone();
            let mut own: Vec<Vec<f32>> = step.parameters.iter().map(|&p| self.parameters[p].values.clone()).collect();
            if let Some(norm) = &step.norm {
                let bias = norm.fold(&mut own[0], &self.parameters);
                own.push(bias);
            }
            let constants = node.inputs.iter().copied().filter(|&id| self.graph.value(id).is_constant());
            let constants: Vec<ValueId> = constants.collect();
            for (i, values) in own.into_iter().enumerate() {
                let data = Some(Arc::new(values));
                match constants.get(i) {
                    Some(&id) => graph.values[id.0 as usize].data = data,
                    None => {
                        let (name, shape) = (format!("{}.b", node.name), vec![data.as_ref().map_or(0, |d| d.len())]);
                        let bias = graph.add_value(Value { name, shape, data, range: None });
                        graph.nodes[step.node].inputs.push(bias);
                    }
                }
            }
        }
        graph
    }

    /// From the gradients of some values of the last batch to those of all parameters, which are added to.
    pub fn backward(&mut self, seeds: &BTreeMap<ValueId, Vec<f32>>) {
        let mut known = vec![false; self.values.len()];
        for (&id, seed) in seeds {
            self.gradients[id.0 as usize].clone_from(seed);
            known[id.0 as usize] = true;
        }
        for step in self.steps.iter_mut().rev() {
            if !known[step.output.0 as usize] {
                continue;
            }
            let mut gradient = std::mem::take(&mut self.gradients[step.output.0 as usize]);
            let mut inputs: Vec<Option<(Vec<f32>, Write)>> = Vec::new();
            for &id in &step.inputs {
                let i = id.0 as usize;
                let trained = !self.graph.inputs.contains(&id);
                inputs.push(trained.then(|| {
                    let mut buffer = std::mem::take(&mut self.gradients[i]);
                    buffer.resize(self.values[i].len(), 0.0);
                    (buffer, if std::mem::replace(&mut known[i], true) { Write::Add } else { Write::Set })
                }));
            }
            step.backward(&self.values, &mut gradient, &mut inputs, &mut self.parameters, &mut self.chunks);
            for (id, buffer) in step.inputs.iter().zip(inputs) {
                if let Some((buffer, _)) = buffer {
                    self.gradients[id.0 as usize] = buffer;
                }
            }
            self.gradients[step.output.0 as usize] = gradient;
        }
    }
}

impl Step {
    /// Samples that run through the operator together.
    fn together(&self, values: &[Vec<f32>], samples: usize) -> usize {
        let largest = self.inputs.iter().map(|id| values[id.0 as usize].len() / samples).fold(self.len, usize::max);
        (TOGETHER / largest.max(1)).clamp(1, CHUNK)
    }

    fn forward(
        &mut self,
        values: &[Vec<f32>],
        output: &mut [f32],
        parameters: &[Parameter],
        averaging: Averaging,
        chunks: &mut [Chunk],
    ) {
        let samples = output.len() / self.len;
        let together = self.together(values, samples);
        let clamp = if self.norm.is_some() { Clamp::NONE } else { self.clamp };
        let (operator, len) = (&self.operator, self.len);
        let inputs: Vec<(&[f32], usize)> =
            self.inputs.iter().map(|id| values[id.0 as usize].as_slice()).map(|v| (v, v.len() / samples)).collect();
        let run = |first: usize, out: &mut [f32], chunk: &mut Chunk, see: &mut dyn FnMut(&[f32])| {
            for (i, out) in out.chunks_mut(together * len).enumerate() {
                let (at, count) = (first + i * together, out.len() / len);
                let some: Vec<&[f32]> = inputs.iter().map(|(v, n)| &v[at * n..(at + count) * n]).collect();
                operator.forward(&some, out, &mut chunk.scratch);
                if !clamp.is_none() {
                    out.iter_mut().for_each(|x| *x = clamp.apply(*x));
                }
                see(out);
            }
        };
        let Some(norm) = &mut self.norm else {
            let work = output.par_chunks_mut(CHUNK * len).zip(chunks.par_iter_mut()).enumerate();
            work.for_each(|(c, (out, chunk))| run(c * CHUNK, out, chunk, &mut |_| ()));
            return;
        };
        let raw = room(&mut norm.raw, output.len());
        let work = raw.par_chunks_mut(CHUNK * len).zip(chunks.par_iter_mut()).enumerate();
        let channels = norm.channels;
        let moments: Vec<_> = work
            .map(|(c, (out, chunk))| {
                let mut moments = Moments::default();
                run(c * CHUNK, out, chunk, &mut |rows| moments.join(&Moments::of(rows, channels)));
                moments
            })
            .collect();
        norm.take(&moments, averaging, parameters);
        let norm = &*norm;
        let work = output.par_chunks_mut(CHUNK * len).zip(norm.raw.par_chunks(CHUNK * len));
        work.for_each(|(out, raw)| channels::transform(raw, norm.line(), self.clamp, out));
    }

    fn backward(
        &mut self,
        values: &[Vec<f32>],
        gradient: &mut [f32],
        targets: &mut [Option<(Vec<f32>, Write)>],
        parameters: &mut [Parameter],
        chunks: &mut [Chunk],
    ) {
        let (len, clamp) = (self.len, self.clamp);
        let samples = gradient.len() / len;
        let together = self.together(values, samples);
        let through_norm = self.norm.as_ref().map(|norm| {
            let work = gradient.par_chunks_mut(CHUNK * len).zip(norm.raw.par_chunks(CHUNK * len));
            let sums: Vec<_> =
                work.map(|(dy, raw)| channels::reduce_gradient(raw, norm.normalised(), clamp, dy)).collect();
            (norm, norm.combination(&sums, samples * len / norm.channels, parameters))
        });
        let (operator, output) = (&self.operator, &values[self.output.0 as usize]);
        let inputs: Vec<(&[f32], usize)> =
            self.inputs.iter().map(|id| values[id.0 as usize].as_slice()).map(|v| (v, v.len() / samples)).collect();
        let sums_len = operator.sums_len();
        let chunk_targets = by_chunk(targets, samples);
        let work = gradient.par_chunks(CHUNK * len).zip(chunks.par_iter_mut()).zip(chunk_targets).enumerate();
        work.for_each(|(c, ((gradient, chunk), mut targets))| {
            chunk.sums.clear();
            chunk.sums.resize(sums_len, Lanes::default());
            for (i, gradient) in gradient.chunks(together * len).enumerate() {
                let (at, count) = (c * CHUNK + i * together, gradient.len() / len);
                let span = at * len..(at + count) * len;
                let buffer = room(&mut chunk.gradient, gradient.len());
                let dy: &[f32] = match &through_norm {
                    Some((norm, combination)) => {
                        channels::combine(gradient, &norm.raw[span], combination, buffer);
                        buffer
                    }
                    None if clamp.is_none() => gradient,
                    None => {
                        for ((to, dy), y) in buffer.iter_mut().zip(gradient).zip(&output[span]) {
                            *to = if *y > clamp.min && *y < clamp.max { *dy } else { 0.0 };
                        }
                        buffer
                    }
                };
                let some: Vec<&[f32]> = inputs.iter().map(|(v, n)| &v[at * n..(at + count) * n]).collect();
                let wanted = targets.iter_mut().zip(&inputs).map(|(target, (_, n))| {
                    let Target { gradient, write } = target.as_mut()?;
                    Some(Target { gradient: &mut gradient[i * together * n..][..count * n], write: *write })
                });
                let mut wanted = Wanted { inputs: wanted.collect(), sums: &mut chunk.sums };
                operator.backward(&some, dy, &mut wanted, &mut chunk.scratch);
            }
        });
        let mut own: Vec<(usize, Vec<f32>)> =
            self.parameters.iter().map(|&p| (p, std::mem::take(&mut parameters[p].gradient))).collect();
        if let Some((first, others)) = chunks.split_first_mut() {
            for other in others {
                for (sum, more) in first.sums.as_flattened_mut().iter_mut().zip(other.sums.as_flattened()) {
                    *sum += more;
                }
            }
            let mut gradients: Vec<&mut [f32]> = own.iter_mut().map(|(_, gradient)| gradient.as_mut_slice()).collect();
            operator.collect(&first.sums, &mut gradients);
        }
        own.into_iter().for_each(|(p, gradient)| parameters[p].gradient = gradient);
    }
}

/// The gradients of the inputs, cut where chunks are.
fn by_chunk(targets: &mut [Option<(Vec<f32>, Write)>], samples: usize) -> Vec<Vec<Option<Target<'_>>>> {
    let mut chunks: Vec<Vec<Option<Target>>> = (0..samples.div_ceil(CHUNK)).map(|_| Vec::new()).collect();
    for target in targets {
        let Some((buffer, write)) = target else {
            chunks.iter_mut().for_each(|chunk| chunk.push(None));
            continue;
        };
        let len = buffer.len() / samples;
        for (chunk, gradient) in chunks.iter_mut().zip(buffer.chunks_mut(CHUNK * len)) {
            chunk.push(Some(Target { gradient, write: *write }));
        }
    }
    chunks
}

/// The arithmetic of a node.
fn operator(graph: &Graph, node: &Node, inputs: &[ValueId]) -> Result<Box<dyn Operator>, NetError> {
    if let Some(map) = LinearMap::of(graph, node) {
        return Ok(Box::new(map));
    }
    let (input, output) = (&graph.value(inputs[0]).shape, &graph.value(node.output).shape);
    let last = |shape: &[usize]| shape.last().copied().unwrap_or(1);
    Ok(match &node.op {
        Op::Conv2d(conv) => {
            let weights = graph.input_shape(node, 1);
            let single = weights[1..3] == [1, 1] && conv.stride == [1, 1] && conv.pad == Default::default();
            if single && conv.groups == 1 {
                Box::new(Linear::new(input[3], output[3]))
            } else if conv.groups > 1 && conv.groups == input[3] && output[3] == input[3] {
                Box::new(Depthwise::new(conv, input, weights, output))
            } else {
                Box::new(Conv::new(conv, input, weights, output))
            }
        }
        Op::FullyConnected { .. } => Box::new(Linear::new(last(input), last(output))),
        Op::Unary(unary) => Box::new(*unary),
        Op::Softmax => Box::new(Softmax { width: last(input) }),
        Op::MaxPool(pool) => {
            let (input, output) = ([input[1], input[2], input[3]], [output[1], output[2]]);
            Box::new(MaxPool { pool: pool.clone(), input, output })
        }
        Op::Concat { axis } => {
            let block = |id: &ValueId| graph.value(*id).shape[*axis..].iter().product();
            Box::new(Concat { widths: inputs.iter().map(block).collect() })
        }
        Op::Add { .. } if inputs.len() == 2 => Box::new(Sum),
        Op::Add { .. } => Box::new(Affine { kind: AffineKind::Addend, constant: constant(graph, node)? }),
        Op::Mul => Box::new(Affine { kind: AffineKind::Factor, constant: constant(graph, node)? }),
        Op::Pad { .. }
        | Op::AvgPool(_)
        | Op::Reshape
        | Op::Transpose { .. }
        | Op::Resize { .. }
        | Op::DepthToSpace { .. } => unreachable!("a linear map"),
    })
}

/// The constant operand of a node.
fn constant(graph: &Graph, node: &Node) -> Result<Vec<f32>, NetError> {
    let data = node.inputs.iter().find_map(|&id| graph.value(id).data.as_deref());
    data.cloned().ok_or_else(|| NetError::NotConstant { node: node.name.clone(), operand: 1 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::text::parse_with;

    /// A graph whose constants are waves.
    fn graph(text: &str) -> Graph {
        parse_with(text, |name, shape| Ok(numbers(shape.iter().product(), name.len() as f32, 0.5))).unwrap()
    }

    fn numbers(n: usize, phase: f32, scale: f32) -> Vec<f32> {
        (0..n).map(|i| (i as f32 * 1.7 + phase).sin() * scale).collect()
    }

    /// A smooth function of the outputs, and its gradient.
    fn loss(outputs: &[f32]) -> (f64, Vec<f32>) {
        let weights = numbers(outputs.len(), 0.4, 1.0);
        let terms = outputs.iter().zip(&weights).map(|(y, w)| f64::from(*y) * f64::from(*w));
        (terms.sum(), weights)
    }

    /// Compares gradients with slopes, for some numbers of every parameter: that to the left, to the right, or
    /// between both, as a corner of a clamp may lie on one side.
    fn check(text: &str, norms: Norms, samples: usize) {
        const STEP: f32 = 2e-3;
        let graph = graph(text);
        crate::ir::verify::verify(&graph).unwrap();
        let mut net = Net::new(&graph, norms).unwrap();
        let batch = numbers(samples * net.sample_len(), 0.1, 1.0);
        let (here, gradient) = loss(net.forward(&batch));
        net.backward(&[(net.logits(), gradient)].into());
        let gradients: Vec<Vec<f32>> = net.parameters().iter().map(|p| p.gradient.clone()).collect();
        for (p, gradient) in gradients.iter().enumerate() {
            let scale = gradient.iter().fold(0.1, |top: f32, g| top.max(g.abs()));
            for i in (0..gradient.len()).step_by(gradient.len().div_ceil(23)) {
                let start = net.parameters()[p].values[i];
                let [before, after] = [-STEP, STEP].map(|by| {
                    net.parameters_mut()[p].values[i] = start + by;
                    loss(net.forward(&batch)).0
                });
                net.parameters_mut()[p].values[i] = start;
                let step = f64::from(STEP);
                let slopes = [(here - before) / step, (after - here) / step, (after - before) / (2.0 * step)];
                let off = slopes.map(|slope| (slope as f32 - gradient[i]).abs()).into_iter().fold(f32::MAX, f32::min);
                let name = &net.parameters()[p].name;
                // Where the slopes to both sides differ, that between them is known less well.
                let tolerance = 0.01 * scale + 0.1 * (slopes[1] - slopes[0]).abs() as f32;
                assert!(off < tolerance, "{name}[{i}]: {}, slopes {slopes:?}, scale {scale}", gradient[i]);
            }
        }
    }

    const CONVOLUTIONS: &str = "graph g
input %x: [1, 7, 6, 3]
const %a.w: [5, 3, 3, 3]
const %a.b: [5] = [0.1, 0.2, 0.3, 0.1, 0.2]
%a: [1, 4, 3, 5] = conv2d(%x, %a.w, %a.b) stride=[2, 2] pad=[1, 1, 0, 1]
const %b.w: [20, 2, 3, 5]
%b: [1, 4, 3, 20] = conv2d(%a, %b.w) pad=[0, 1, 1, 1]
const %c.w: [20, 3, 3, 1]
const %c.b: [20] = [0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]
%c: [1, 2, 3, 20] = conv2d(%b, %c.w, %c.b) stride=[2, 1] pad=[1, 0, 1, 1] groups=20
const %d.w: [8, 2, 2, 5]
%d: [1, 2, 3, 8] = conv2d(%c, %d.w) pad=[1, 0, 0, 1] groups=4
const %e.w: [33, 1, 1, 8]
%e: [1, 2, 3, 33] = conv2d(%d, %e.w)
const %f.w: [4, 1, 1, 33]
%f: [1, 1, 2, 4] = conv2d(%e, %f.w) stride=[2, 2]
const %g.w: [8, 2, 1, 1]
%g: [1, 1, 2, 8] = conv2d(%f, %g.w) pad=[2, 0, 0, 0] dilation=[2, 1] groups=4
output %g
";

    #[test]
    fn gradients_of_convolutions_are_slopes() {
        check(CONVOLUTIONS, Norms::Bias, 3);
        check(CONVOLUTIONS, Norms::Bias, 19);
    }

    #[test]
    fn gradients_of_batch_norm_are_slopes() {
        check(CONVOLUTIONS, Norms::Batch, 19);
    }

    /// Few outputs, so that corners are hardly ever met on both sides.
    #[test]
    fn gradients_behind_clamps_are_slopes() {
        let text = "graph g
input %x: [1, 3, 3, 2]
const %a.w: [5, 2, 2, 2]
const %a.b: [5] = [0.1, 0.2, 0.3, 0.1, 0.2]
%a: [1, 2, 2, 5] = conv2d(%x, %a.w, %a.b) clamp=[-0.2, 0.6]
const %b.w: [3, 1, 1, 5]
const %b.b: [3] = [0.3, 0.2, 0.1]
%b: [1, 2, 2, 3] = conv2d(%a, %b.w, %b.b) clamp=[0.0, inf]
output %b
";
        check(text, Norms::Bias, 3);
        check(text, Norms::Batch, 3);
    }

    #[test]
    fn gradients_of_everything_else_are_slopes() {
        let text = "graph g
input %x: [1, 4, 4, 4]
const %a.w: [4, 1, 1, 4]
%a: [1, 4, 4, 4] = conv2d(%x, %a.w)
%pad: [1, 5, 6, 4] = pad(%a) pads=[0, 0, 1, 0, 1, 1, 0, 0]
%max: [1, 3, 3, 4] = max_pool(%pad) kernel=[2, 2] stride=[2, 2] pad=[0, 1, 0, 0]
%mean: [1, 3, 3, 4] = avg_pool(%pad) kernel=[2, 2] stride=[2, 2] pad=[0, 1, 0, 0]
const %factor: [4] = [0.5, -1.0, 2.0, 1.5]
%scaled: [1, 3, 3, 4] = mul(%max, %factor)
const %addend: [4] = [0.5, -1.0, 2.0, 1.5]
%moved: [1, 3, 3, 4] = add(%mean, %addend)
%sum: [1, 3, 3, 4] = add(%scaled, %moved) clamp=[-2.0, inf]
%spread: [1, 6, 6, 1] = depth_to_space(%sum) block=2 order=block_first
%resized: [1, 4, 3, 1] = resize(%spread) mode=bilinear coordinates=half_pixel
%turned: [1, 3, 4, 1] = transpose(%resized) perm=[0, 2, 1, 3]
%s: [1, 3, 4, 1] = sigmoid(%turned)
%t: [1, 3, 4, 1] = tanh(%turned)
%l: [1, 3, 4, 1] = leaky_relu(%turned) alpha=0.1
%h: [1, 3, 4, 1] = hard_swish(%turned)
%all: [1, 3, 4, 4] = concat(%s, %t, %l, %h) axis=3
%soft: [1, 3, 4, 4] = softmax(%all)
%flat: [1, 48] = reshape(%soft)
const %fc.w: [5, 48]
const %fc.b: [5] = [0.1, 0.2, 0.3, 0.4, 0.5]
%fc: [1, 5] = fully_connected(%flat, %fc.w, %fc.b)
output %fc
";
        check(text, Norms::Bias, 17);
    }

    #[test]
    fn a_batch_is_that_of_the_oracle() {
        let graph = graph(CONVOLUTIONS);
        let mut net = Net::new(&graph, Norms::Bias).unwrap();
        let batch = numbers(20 * net.sample_len(), 0.1, 1.0);
        let expected = crate::eval::Net::float(&net.graph()).unwrap().forward(&batch, 20).unwrap();
        for (a, b) in net.forward(&batch).iter().zip(expected) {
            assert!((a - b).abs() < 1e-5, "{a} against {b}");
        }
    }

    #[test]
    fn folded_norms_are_the_norms() {
        let mut net = Net::new(&graph(CONVOLUTIONS), Norms::Batch).unwrap();
        let batch = numbers(64 * net.sample_len(), 0.1, 1.0);
        net.forward(&batch);
        let folded = crate::eval::Net::float(&net.graph()).unwrap().forward(&batch, 64).unwrap();
        let apart = net.forward(&batch).iter().zip(&folded).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        // The running variance is that of the population, a little above that of the batch.
        assert!(apart < 0.05, "{apart}");
    }

    #[test]
    fn threads_change_nothing() {
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let mut net = Net::new(&graph(CONVOLUTIONS), Norms::Batch).unwrap();
                let batch = numbers(50 * net.sample_len(), 0.1, 1.0);
                let (_, gradient) = loss(net.forward(&batch));
                net.backward(&[(net.logits(), gradient)].into());
                net.parameters().to_vec()
            })
        };
        assert_eq!(run(1), run(3));
    }
}
