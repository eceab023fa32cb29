//! Evaluation of a graph in floats on candle: the oracle that every later stage is held against, and
//! the same evaluator with small-integer weights and activations ("fake quantisation").
//!
//! A batch is cut into strips of samples whose size depends on the graph alone; each strip runs
//! through the whole network on one thread. Results are therefore the same for any number of threads.

mod conv;
pub(crate) mod gemm;
mod integers;
mod kernel;
pub(crate) mod patches;
pub(crate) mod spatial;
pub mod sqnr;

use candle_core::{CpuStorage, Device, Shape, Storage, Tensor};
use rayon::prelude::*;

use self::conv::{DepthwiseConv, GroupedConv, Linear};
use self::integers::Requantised;
use self::kernel::{Affine, Batched, Finish, Kernel, Pairwise};
use self::patches::Patches;
use self::spatial::{Pooling, Reduction, Resizing, Softmax};
use crate::ir::{Clamp, DepthToSpaceOrder, Graph, Node, NodeId, Op, ValueId};
use crate::lower::arithmetic::weight_scales;
use crate::quant::{ActivationCode, Quantized, WeightCodes};

/// Floats of the largest activation of a strip: about a core's share of the second-level cache.
const STRIP_ELEMENTS: usize = 1 << 18;

/// Most samples in a strip.
const STRIP_SAMPLES: usize = 64;

/// Why a graph cannot be evaluated.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// The slice does not hold the samples it should.
    #[error("{samples} samples of {per_sample} elements were announced, but the batch has {elements} elements")]
    BatchLength {
        /// Samples announced.
        samples: usize,
        /// Elements that one sample has.
        per_sample: usize,
        /// Elements given.
        elements: usize,
    },
    /// An operand that must be constant is not.
    #[error("operand {operand} of node `{node}` has no constant data; run the verifier and constant folding first")]
    NotConstant {
        /// Name of the node.
        node: String,
        /// Which operand.
        operand: usize,
    },
    /// Weights were quantised for another graph.
    #[error("node `{node}` has no quantised weights; quantise the graph that is evaluated")]
    NoWeights {
        /// Name of the node.
        node: String,
    },
    /// The tensor library refused.
    #[error("node `{node}` cannot be evaluated: {source}")]
    Tensor {
        /// Name of the node.
        node: String,
        /// What it said.
        source: Box<candle_core::Error>,
    },
}

/// A graph made ready for evaluation.
pub struct Net {
    inputs: Vec<Input>,
    outputs: Vec<ValueId>,
    values: usize,
    steps: Vec<Step>,
    strip: usize,
}

/// One graph input.
struct Input {
    value: ValueId,
    /// Dimensions of one sample, without the batch.
    shape: Vec<usize>,
    finish: Finish,
}

/// One node.
struct Step {
    name: String,
    compute: Compute,
    operands: Vec<ValueId>,
    output: ValueId,
    /// Dimensions of one sample's output, without the batch.
    shape: Vec<usize>,
    finish: Finish,
    /// Values that no later step reads.
    dead: Vec<ValueId>,
}

/// How a node's output comes from its operands.
enum Compute {
    /// A function of the first operand.
    Kernel(Box<dyn Kernel>),
    /// A function of the first two, element by element.
    Pairs(Box<dyn Fn(f32, f32) -> f32 + Send + Sync>),
    Concat(usize),
    Pad(Vec<(usize, usize)>),
    Reshape,
    Transpose(Vec<usize>),
    DepthToSpace(usize, DepthToSpaceOrder),
}

impl Net {
    /// The float oracle of a verified graph.
    pub fn float(graph: &Graph) -> Result<Self, EvalError> {
        Net::build(graph, |_| None, |_| None)
    }

    /// The same graph with weights `scale * level`, and every activation, the input too, passed
    /// through its code: layers with weights, sums and means exactly as integers compute them.
    pub fn fake_quantized(quantized: &Quantized) -> Result<Self, EvalError> {
        let code = |value: ValueId| quantized.activations.get(value.0 as usize).copied().flatten();
        let mut missing = quantized.graph.weighted().filter(|node| !quantized.weights.contains_key(node));
        if let Some(node) = missing.next() {
            return Err(EvalError::NoWeights { node: quantized.graph.node(node).name.clone() });
        }
        Net::build(&quantized.graph, code, |node| quantized.weights.get(&node))
    }

    fn build<'a>(
        graph: &Graph,
        code: impl Fn(ValueId) -> Option<ActivationCode>,
        weights: impl Fn(NodeId) -> Option<&'a WeightCodes>,
    ) -> Result<Self, EvalError> {
        let input = |&value: &ValueId| Input {
            value,
            shape: graph.value(value).shape[1..].to_vec(),
            finish: Finish { clamp: Clamp::NONE, code: code(value) },
        };
        let mut steps = Vec::with_capacity(graph.nodes.len());
        for (i, node) in graph.nodes.iter().enumerate() {
            let codes = weights(NodeId(i as u32));
            let integers = node.inputs.first().copied().and_then(&code).zip(code(node.output));
            let compute = match integers {
                Some((input, output)) => {
                    let second = node.inputs.get(1).copied().and_then(&code);
                    in_integers(graph, node, codes, [input, second.unwrap_or(input)], output)?
                }
                None => compute(graph, node, codes)?,
            };
            steps.push(Step {
                name: node.name.clone(),
                compute,
                operands: node.inputs.iter().copied().filter(|&v| !graph.value(v).is_constant()).collect(),
                output: node.output,
                shape: graph.value(node.output).shape[1..].to_vec(),
                finish: Finish { clamp: fused_clamp(&node.op), code: code(node.output) },
                dead: Vec::new(),
            });
        }
        mark_dead(&mut steps, graph);
        let largest = graph.values.iter().filter(|v| !v.is_constant()).map(|v| v.len()).max().unwrap_or(1);
        Ok(Net {
            inputs: graph.inputs.iter().map(input).collect(),
            outputs: graph.outputs.clone(),
            values: graph.values.len(),
            steps,
            strip: (STRIP_ELEMENTS / largest.max(1)).clamp(1, STRIP_SAMPLES),
        })
    }

    /// Elements of one sample: those of all inputs, back to back.
    pub fn sample_len(&self) -> usize {
        self.inputs.iter().map(Input::len).sum()
    }

    /// Samples that run through the network together; strips start at multiples of it.
    pub fn strip_samples(&self) -> usize {
        self.strip
    }

    /// Outputs of `n` samples, back to back. A sample is the NHWC elements of its inputs (outputs), one
    /// input (output) after another if there are several. Strips run in parallel.
    pub fn forward(&self, batch: &[f32], n: usize) -> Result<Vec<f32>, EvalError> {
        self.check(batch, n)?;
        let strips: Result<Vec<Vec<f32>>, EvalError> = batch
            .par_chunks((self.strip * self.sample_len()).max(1))
            .map(|strip| self.run(strip, &mut |_, _| ()))
            .collect();
        Ok(strips?.concat())
    }

    /// As [`Net::forward`], on the calling thread; `observer` is shown every activation of each
    /// strip (`[samples, ...]`), the inputs first, then the nodes' outputs in order.
    pub fn forward_observed(
        &self,
        batch: &[f32],
        n: usize,
        observer: &mut dyn FnMut(ValueId, &Tensor),
    ) -> Result<Vec<f32>, EvalError> {
        self.check(batch, n)?;
        let mut outputs = Vec::new();
        for strip in batch.chunks((self.strip * self.sample_len()).max(1)) {
            outputs.extend(self.run(strip, observer)?);
        }
        Ok(outputs)
    }

    /// Whether `batch` holds `n` samples.
    pub(crate) fn check(&self, batch: &[f32], n: usize) -> Result<(), EvalError> {
        let per_sample = self.sample_len();
        if n.checked_mul(per_sample) != Some(batch.len()) {
            return Err(EvalError::BatchLength { samples: n, per_sample, elements: batch.len() });
        }
        Ok(())
    }

    /// All steps for one strip.
    fn run(&self, strip: &[f32], observer: &mut dyn FnMut(ValueId, &Tensor)) -> Result<Vec<f32>, EvalError> {
        let samples = strip.len() / self.sample_len().max(1);
        let mut values: Vec<Option<Tensor>> = vec![None; self.values];
        let mut offset = 0;
        for input in &self.inputs {
            let tensor =
                input.tensor(strip, samples, self.sample_len(), offset).map_err(|source| refused("input", source))?;
            offset += input.len();
            observer(input.value, &tensor);
            values[input.value.0 as usize] = Some(tensor);
        }
        for step in &self.steps {
            let operands: Vec<&Tensor> = step.operands.iter().filter_map(|v| values[v.0 as usize].as_ref()).collect();
            let output = step.run(samples, &operands).map_err(|source| refused(&step.name, source))?;
            observer(step.output, &output);
            values[step.output.0 as usize] = Some(output);
            for dead in &step.dead {
                values[dead.0 as usize] = None;
            }
        }
        self.collect(samples, &values)
    }

    /// Sample by sample, the outputs in order.
    fn collect(&self, samples: usize, values: &[Option<Tensor>]) -> Result<Vec<f32>, EvalError> {
        let mut outputs = Vec::new();
        for value in &self.outputs {
            let Some(tensor) = &values[value.0 as usize] else { continue };
            let elements = elements(tensor).map_err(|source| refused("output", source))?;
            outputs.push(elements);
        }
        if let [only] = outputs.as_mut_slice() {
            return Ok(std::mem::take(only));
        }
        let mut interleaved = Vec::with_capacity(outputs.iter().map(Vec::len).sum());
        for sample in 0..samples {
            for output in &outputs {
                let n = output.len() / samples;
                interleaved.extend_from_slice(&output[sample * n..(sample + 1) * n]);
            }
        }
        Ok(interleaved)
    }
}

impl Input {
    /// Elements in one sample.
    fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Its part of every sample: `stride` elements each, of which its own start at `offset`.
    fn tensor(&self, strip: &[f32], samples: usize, stride: usize, offset: usize) -> candle_core::Result<Tensor> {
        let own = strip.chunks_exact(stride.max(1)).flat_map(|sample| &sample[offset..offset + self.len()]);
        let mut elements = Vec::with_capacity(samples * self.len());
        elements.extend(own);
        self.finish.run(&mut elements);
        Tensor::from_vec(elements, batched(samples, &self.shape), &Device::Cpu)
    }
}

impl Step {
    fn run(&self, samples: usize, operands: &[&Tensor]) -> candle_core::Result<Tensor> {
        let x = operands[0];
        let shape = batched(samples, &self.shape);
        let output = match &self.compute {
            Compute::Kernel(kernel) => x.apply_op1_no_bwd(&Batched { kernel: kernel.as_ref(), output: shape })?,
            Compute::Pairs(function) => x.apply_op2_no_bwd(operands[1], &Pairwise(function))?,
            Compute::Concat(axis) => Tensor::cat(operands, *axis)?.contiguous()?,
            Compute::Pad(pads) => pad(x, pads)?.contiguous()?,
            // Shares its source's memory and code, so there is nothing to finish.
            Compute::Reshape => return x.reshape(shape),
            Compute::Transpose(perm) => x.permute(perm.as_slice())?.contiguous()?,
            Compute::DepthToSpace(block, order) => depth_to_space(x, *block, *order, shape)?,
        };
        if !self.finish.is_identity() {
            output.inplace_op1(&self.finish)?;
        }
        Ok(output)
    }
}

/// Shows the elements of a contiguous `f32` tensor without copying them.
pub(crate) fn with_elements(tensor: &Tensor, see: impl FnOnce(&[f32])) {
    let (storage, layout) = tensor.storage_and_layout();
    if let (Storage::Cpu(CpuStorage::F32(elements)), Some((from, to))) = (&*storage, layout.contiguous_offsets()) {
        see(&elements[from..to]);
    }
}

/// The elements of an `f32` tensor.
pub(crate) fn elements(tensor: &Tensor) -> candle_core::Result<Vec<f32>> {
    tensor.flatten_all()?.to_vec1::<f32>()
}

/// Prepares a node; weights and bias are those of `codes` where given.
fn compute(graph: &Graph, node: &Node, codes: Option<&WeightCodes>) -> Result<Compute, EvalError> {
    let input = graph.input_shape(node, 0);
    let output = &graph.value(node.output).shape;
    let kernel: Box<dyn Kernel> = match &node.op {
        Op::Conv2d(_) | Op::FullyConnected { .. } => {
            let (weights, bias) = parameters(graph, node, codes)?;
            products(graph, node, &weights, bias)
        }
        Op::Unary(unary) => Box::new(*unary),
        Op::AvgPool(pool) => pooling(pool, Reduction::Mean, input, output),
        Op::MaxPool(pool) => pooling(pool, Reduction::Max, input, output),
        Op::Softmax => Box::new(Softmax { width: input[input.len() - 1] }),
        Op::Resize { mode, coordinates } => {
            Box::new(Resizing::new(*mode, *coordinates, [input[1], input[2], input[3]], [output[1], output[2]]))
        }
        Op::Add { .. } if !graph.value(node.inputs[1]).is_constant() => {
            return Ok(Compute::Pairs(Box::new(|a, b| a + b)));
        }
        Op::Add { .. } => Box::new(Affine::add(constant(graph, node, 1)?)),
        Op::Mul => Box::new(Affine::multiply(constant(graph, node, 1)?)),
        Op::Concat { axis } => return Ok(Compute::Concat(*axis)),
        Op::Pad { pads } => return Ok(Compute::Pad(pads.clone())),
        Op::Reshape => return Ok(Compute::Reshape),
        Op::Transpose { perm } => return Ok(Compute::Transpose(perm.clone())),
        Op::DepthToSpace { block, order } => return Ok(Compute::DepthToSpace(*block, *order)),
    };
    Ok(Compute::Kernel(kernel))
}

fn pooling(pool: &crate::ir::Pool, reduction: Reduction, input: &[usize], output: &[usize]) -> Box<dyn Kernel> {
    let (input, output) = ([input[1], input[2], input[3]], [output[1], output[2]]);
    Box::new(Pooling { pool: pool.clone(), reduction, input, output })
}

/// Prepares a node whose activations have codes; weights are those of `codes` where it has any.
fn in_integers(
    graph: &Graph,
    node: &Node,
    codes: Option<&WeightCodes>,
    inputs: [ActivationCode; 2],
    output: ActivationCode,
) -> Result<Compute, EvalError> {
    let channels = graph.value(node.output).shape.last().copied().unwrap_or(1);
    let (sums, scales, bias) = match (codes, &node.op) {
        (Some(codes), _) => {
            let levels: Vec<f32> = codes.levels.iter().map(|&level| level.into()).collect();
            let sums = products(graph, node, &levels, vec![0.0; codes.bias.len()]);
            let [scale_in, scale_out] = [inputs[0].scale, output.scale].map(f64::from);
            (sums, weight_scales(&codes.levels, &codes.scales, scale_in, scale_out), codes.bias.clone())
        }
        (None, Op::AvgPool(pool)) => {
            let shape = &graph.value(node.output).shape;
            let means = pooling(pool, Reduction::Mean, graph.input_shape(node, 0), shape);
            (means, vec![1.0; channels], vec![0.0; channels])
        }
        (None, Op::Add { .. }) if !graph.value(node.inputs[1]).is_constant() => {
            let sum = integers::sum(inputs, output);
            return sum.map_or_else(|| compute(graph, node, None), |sum| Ok(Compute::Pairs(Box::new(sum))));
        }
        _ => return compute(graph, node, None),
    };
    let requantised = Requantised::new(sums, [inputs[0], output], &scales, &bias);
    Ok(Compute::Kernel(Box::new(requantised)))
}

/// Weights and bias of a weighted node.
fn parameters(graph: &Graph, node: &Node, codes: Option<&WeightCodes>) -> Result<(Vec<f32>, Vec<f32>), EvalError> {
    if let Some(codes) = codes {
        return Ok((codes.decode(), codes.bias.clone()));
    }
    let bias = match node.inputs.len() {
        2 => vec![0.0; graph.input_shape(node, 1)[0]],
        _ => constant(graph, node, 2)?.to_vec(),
    };
    Ok((constant(graph, node, 1)?.to_vec(), bias))
}

/// The sums of products of a layer with weights.
fn products(graph: &Graph, node: &Node, weights: &[f32], bias: Vec<f32>) -> Box<dyn Kernel> {
    let input = graph.input_shape(node, 0);
    let Op::Conv2d(conv) = &node.op else { return Box::new(Linear::new(weights, bias)) };
    let patches = Patches::new(conv, input, graph.input_shape(node, 1), &graph.value(node.output).shape);
    if conv.groups > 1 && conv.groups == input[3] && bias.len() == input[3] {
        Box::new(DepthwiseConv::new(patches, weights, bias))
    } else {
        Box::new(GroupedConv::new(conv, patches, weights, bias))
    }
}

fn constant<'a>(graph: &'a Graph, node: &Node, operand: usize) -> Result<&'a [f32], EvalError> {
    let data = graph.value(node.inputs[operand]).data.as_deref();
    data.map(Vec::as_slice).ok_or_else(|| EvalError::NotConstant { node: node.name.clone(), operand })
}

/// The clamp that is part of an operator.
pub(crate) fn fused_clamp(op: &Op) -> Clamp {
    match op {
        Op::Conv2d(conv) => conv.clamp,
        Op::AvgPool(pool) | Op::MaxPool(pool) => pool.clamp,
        Op::FullyConnected { clamp } | Op::Add { clamp } => *clamp,
        _ => Clamp::NONE,
    }
}

/// Notes for each step which values nobody reads after it.
fn mark_dead(steps: &mut [Step], graph: &Graph) {
    let mut read_later = vec![false; graph.values.len()];
    for output in &graph.outputs {
        read_later[output.0 as usize] = true;
    }
    for step in steps.iter_mut().rev() {
        for &operand in &step.operands {
            if !std::mem::replace(&mut read_later[operand.0 as usize], true) {
                step.dead.push(operand);
            }
        }
    }
}

fn refused(node: &str, source: candle_core::Error) -> EvalError {
    EvalError::Tensor { node: node.to_owned(), source: Box::new(source) }
}

fn batched(samples: usize, shape: &[usize]) -> Shape {
    let mut dims = vec![samples];
    dims.extend_from_slice(shape);
    Shape::from(dims)
}

fn pad(x: &Tensor, pads: &[(usize, usize)]) -> candle_core::Result<Tensor> {
    let mut padded = x.clone();
    for (dim, &(before, after)) in pads.iter().enumerate() {
        padded = padded.pad_with_zeros(dim, before, after)?;
    }
    Ok(padded)
}

fn depth_to_space(x: &Tensor, b: usize, order: DepthToSpaceOrder, shape: Shape) -> candle_core::Result<Tensor> {
    let (n, h, w, channels) = x.dims4()?;
    let c = channels / (b * b);
    let spread = match order {
        DepthToSpaceOrder::BlockFirst => x.reshape(&[n, h, w, b, b, c])?.permute([0, 1, 3, 2, 4, 5].as_slice())?,
        DepthToSpaceOrder::ChannelFirst => x.reshape(&[n, h, w, c, b, b])?.permute([0, 1, 4, 2, 5, 3].as_slice())?,
    };
    spread.contiguous()?.reshape(shape)
}
