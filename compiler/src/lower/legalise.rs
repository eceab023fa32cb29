//! Node by node: the integer form of each operator; [`super::place`] then gives them memory.

use pare_runtime::format::{Layout, SPARSE_DEPTH, Shape};
use pare_runtime::kernels::reference;

use super::arithmetic::{add_multipliers, clamp_codes, coarsen, multipliers, requantise, weight_scales};
use super::plan::{PlannedConv, PlannedLayer, PlannedOp, PlannedTensor, PlannedWeights, PlannedWindow};
use super::{LowerConfig, LowerError};
use crate::cost::layers::{Layers, Steps};
use crate::ir::{
    Clamp, Conv2d, Coordinates, DepthToSpaceOrder, Node, NodeId, Op, Padding, Pool, ResizeMode, Rounding, ValueId,
};
use crate::policy::WeightFormat;
use crate::quant::{ActivationCode, Quantized};

/// The level that stands for 1 in per-channel products, and its real step.
const UNIT_LEVEL: i8 = 127;

/// Positions of a pool's window at most: so many codes surely add up within 32 bits.
const MAX_WINDOW: usize = 1 << 23;

/// Most that a bias may be, shifted for the multiply: 32 bits hold more, but the multiplier that brings it
/// down to a code would have few bits left.
const BIAS_LIMIT: f64 = (1 << 26) as f64;

/// State while walking the nodes.
pub(super) struct Lowering<'a> {
    pub(super) quantized: &'a Quantized,
    pub(super) config: &'a LowerConfig,
    pub(super) facts: Layers,
    pub(super) tensors: Vec<PlannedTensor>,
    /// Memory that each tensor lies in; reshapes and in-place operators share it.
    pub(super) buffers: Vec<usize>,
    pub(super) n_buffers: usize,
    pub(super) layers: Vec<PlannedLayer>,
    pub(super) of_value: Vec<Option<usize>>,
}

/// Weights of a convolution with their real scales.
struct RealConv<'a> {
    conv: &'a Conv2d,
    kernel: [usize; 2],
    formats: &'a [WeightFormat],
    levels: &'a [i8],
    codebook: &'a [i8],
    scales: &'a [f32],
    bias: &'a [f32],
}

impl<'a> Lowering<'a> {
    pub(super) fn new(quantized: &'a Quantized, config: &'a LowerConfig) -> Result<Self, LowerError> {
        let mut lowering = Lowering {
            quantized,
            config,
            facts: Layers::of(&quantized.graph),
            tensors: Vec::new(),
            buffers: Vec::new(),
            n_buffers: 0,
            layers: Vec::new(),
            of_value: vec![None; quantized.graph.values.len()],
        };
        for &input in &quantized.graph.inputs {
            lowering.define(input)?;
        }
        Ok(lowering)
    }

    pub(super) fn node(&mut self, index: usize) -> Result<(), LowerError> {
        let quantized = self.quantized;
        let node = &quantized.graph.nodes[index];
        let id = NodeId(index as u32);
        match &node.op {
            Op::Conv2d(conv) => self.weighted(node, id, conv),
            Op::FullyConnected { clamp } => self.weighted(node, id, &pointwise(1, *clamp)),
            Op::Add { clamp } => match self.constant(node, 1) {
                Some(addend) => self.affine(node, id, None, Some(addend), *clamp),
                None => self.add(node, id, *clamp),
            },
            Op::Mul => {
                let factor = self.constant(node, 1);
                self.affine(node, id, factor, None, Clamp::NONE)
            }
            Op::Unary(unary) => {
                let unary = *unary;
                self.table(node, id, |x| unary.apply(x))
            }
            Op::Concat { axis } => self.concat(node, id, *axis),
            Op::Pad { pads } => self.pad(node, id, pads),
            Op::AvgPool(pool) => self.avg_pool(node, id, pool),
            Op::MaxPool(pool) => {
                let (lo, hi) = clamp_codes(&self.code(node.output), pool.clamp);
                let window = pool_window(pool);
                self.check_pool(node, pool, &window)?;
                self.push(node, id, PlannedOp::MaxPool { window, lo, hi })
            }
            Op::Softmax => {
                let mult = reference::softmax_mult(self.code(node.inputs[0]).scale);
                self.push(node, id, PlannedOp::Softmax(mult))
            }
            Op::Reshape => {
                let source = self.tensor(node.inputs[0]);
                let alias = self.define(node.output)?;
                self.n_buffers -= 1;
                self.buffers[alias] = self.buffers[source];
                Ok(())
            }
            Op::Transpose { perm } => {
                let skipped = 4 - perm.len();
                let mut aligned = [0, 1, 2];
                for (i, &p) in perm.iter().enumerate().skip(1) {
                    aligned[skipped + i - 1] = (skipped + p - 1) as u8;
                }
                self.push(node, id, PlannedOp::Transpose(aligned))
            }
            Op::Resize { mode, coordinates } => self.resize(node, id, *mode, *coordinates),
            Op::DepthToSpace { block, order } => {
                let order = match order {
                    DepthToSpaceOrder::BlockFirst => 0,
                    DepthToSpaceOrder::ChannelFirst => 1,
                };
                self.push(node, id, PlannedOp::DepthToSpace { block: *block, order })
            }
        }
    }

    fn weighted(&mut self, node: &Node, id: NodeId, conv: &Conv2d) -> Result<(), LowerError> {
        let codes = &self.quantized.weights[&id];
        let shape = self.quantized.graph.input_shape(node, 1);
        let kernel = if shape.len() == 4 { [shape[1], shape[2]] } else { [1, 1] };
        let real = RealConv {
            conv,
            kernel,
            formats: &codes.formats,
            levels: &codes.levels,
            codebook: &codes.codebook,
            scales: &codes.scales,
            bias: &codes.bias,
        };
        self.conv(node, id, &real)
    }

    fn conv(&mut self, node: &Node, id: NodeId, real: &RealConv<'_>) -> Result<(), LowerError> {
        let (input, output) = (self.code(node.inputs[0]), self.code(node.output));
        let depth = real.levels.len() / real.scales.len();
        let (scale_in, scale_out) = (f64::from(input.scale), f64::from(output.scale));
        let mut levels = real.levels.to_vec();
        let mut scales = weight_scales(&levels, real.scales, scale_in, scale_out);
        let factors = |scales: &[f64]| scales.iter().map(|s| scale_in * s / scale_out).collect::<Vec<f64>>();
        let given = factors(&scales);
        let pre = multipliers(&given).ok_or_else(|| self.factor(node, &given))?.pre;
        // Where weights are so small that the bias, counted in their steps, leaves 32 bits, the steps grow.
        for (channel, levels) in levels.chunks_mut(depth).enumerate() {
            let least = f64::from(real.bias[channel]).abs() / scale_in / BIAS_LIMIT * 2f64.powi(pre.into());
            if scales[channel] < least {
                coarsen(levels, least / scales[channel], real.formats[channel].into(), real.codebook);
                scales[channel] = least;
            }
        }
        let mut bias = Vec::with_capacity(real.scales.len());
        for (channel, levels) in levels.chunks(depth).enumerate() {
            let scale = scales[channel];
            let sum: i64 = levels.iter().map(|&l| i64::from(l)).sum();
            let folded =
                (f64::from(real.bias[channel]) / (scale_in * scale)).round() - (i64::from(input.zero) * sum) as f64;
            let (mut low, mut high) = (folded as i64, folded as i64);
            for &level in levels {
                let reach = i64::from(level) * i64::from(input.max_code());
                low += reach.min(0);
                high += reach.max(0);
            }
            let bound = if -low > high { low } else { high };
            if bound.unsigned_abs() > i32::MAX as u64 || !folded.is_finite() {
                return Err(LowerError::Accumulator { layer: node.name.clone(), channel, bound });
            }
            bias.push((folded as i32, bound.unsigned_abs()));
        }
        let factors = factors(&scales);
        let m = multipliers(&factors).ok_or_else(|| self.factor(node, &factors))?;
        if let Some((channel, &(_, bound))) = bias.iter().enumerate().find(|(_, (_, b))| b << m.pre > i32::MAX as u64) {
            return Err(LowerError::Accumulator { layer: node.name.clone(), channel, bound: (bound << m.pre) as i64 });
        }
        let groups = real.conv.groups;
        let c_out = real.scales.len();
        let c_in = self.tensors[self.tensor(node.inputs[0])].shape.c;
        let by_panels = groups == 1 || (groups == c_in && groups == c_out);
        let layout = match self.config.layout {
            _ if !by_panels => Layout::Plain,
            Layout::Planes if groups > 1 => Layout::Panels,
            Layout::Planes if self.skips_zeros(id, real, &levels, input.bits) => Layout::Sparse,
            Layout::Planes => self.config.layouts.of(self.facts.shape(id), real.formats, input.bits),
            layout => layout,
        };
        let planned = PlannedConv {
            window: PlannedWindow {
                kernel: real.kernel,
                stride: real.conv.stride,
                pad: [real.conv.pad.top, real.conv.pad.left],
            },
            dilation: real.conv.dilation,
            groups,
            bias: bias.into_iter().map(|(b, _)| b).collect(),
            mult: m.mult,
            requantise: requantise(&output, real.conv.clamp, m.pre),
            residual: None,
            weights: runs(real, &levels, depth, layout),
        };
        self.check_conv(node, &planned, real.conv.pad)?;
        self.push(node, id, PlannedOp::Conv(planned))
    }

    /// Whether the levels of a dense convolution go without their zeros.
    fn skips_zeros(&self, id: NodeId, real: &RealConv<'_>, levels: &[i8], activation_bits: u8) -> bool {
        let depth = levels.len() / real.scales.len();
        let mut formats = real.formats.iter().map(|&format| pare_runtime::format::WeightFormat::from(format));
        let has_zero = real.codebook.is_empty() || real.codebook.contains(&0);
        if !has_zero || !formats.all(|format| format.has_zero()) || depth > SPARSE_DEPTH {
            return false;
        }
        let steps = Steps::of(levels, depth);
        self.config.layouts.skips_zeros(self.facts.shape(id), real.formats, activation_bits, steps)
    }

    /// Products and sums with constants: a table for one constant, a depthwise convolution for one a channel.
    fn affine(
        &mut self,
        node: &Node,
        id: NodeId,
        factor: Option<&[f32]>,
        addend: Option<&[f32]>,
        clamp: Clamp,
    ) -> Result<(), LowerError> {
        let channels = factor.or(addend).map_or(1, <[f32]>::len);
        if channels == 1 {
            let (m, a) = (factor.map_or(1.0, |f| f[0]), addend.map_or(0.0, |a| a[0]));
            return self.table(node, id, |x| clamp.apply(x * m + a));
        }
        let factors = factor.map_or_else(|| vec![1.0; channels], <[f32]>::to_vec);
        let levels: Vec<i8> = factors.iter().map(|f| if *f < 0.0 { -UNIT_LEVEL } else { UNIT_LEVEL }).collect();
        let scales: Vec<f32> = factors.iter().map(|f| f.abs() / f32::from(UNIT_LEVEL)).collect();
        let conv = pointwise(channels, clamp);
        let real = RealConv {
            conv: &conv,
            kernel: [1, 1],
            formats: &vec![WeightFormat::Linear(8); channels],
            levels: &levels,
            codebook: &[],
            scales: &scales.iter().map(|s| s.max(f32::MIN_POSITIVE)).collect::<Vec<_>>(),
            bias: &addend.map_or_else(|| vec![0.0; channels], <[f32]>::to_vec),
        };
        self.conv(node, id, &real)
    }

    fn add(&mut self, node: &Node, id: NodeId, clamp: Clamp) -> Result<(), LowerError> {
        let [a, b] = [node.inputs[0], node.inputs[1]].map(|v| f64::from(self.code(v).scale));
        let output = self.code(node.output);
        let factors = [a / f64::from(output.scale), b / f64::from(output.scale)];
        let (ma, mb, shift) = add_multipliers(factors[0], factors[1]).ok_or_else(|| self.factor(node, &factors))?;
        let (lo, hi) = clamp_codes(&output, clamp);
        self.push(node, id, PlannedOp::Add { ma, mb, shift, lo, hi })
    }

    fn table(&mut self, node: &Node, id: NodeId, function: impl Fn(f32) -> f32) -> Result<(), LowerError> {
        let (input, output) = (self.code(node.inputs[0]), self.code(node.output));
        let table = table_between(&input, &output, function);
        self.push(node, id, PlannedOp::Lut(table))
    }

    fn concat(&mut self, node: &Node, id: NodeId, axis: usize) -> Result<(), LowerError> {
        let output = self.code(node.output);
        let mut operands = Vec::with_capacity(node.inputs.len());
        for &value in &node.inputs {
            let input = self.code(value);
            let mut tensor = self.tensor(value);
            if input != output {
                let source = &self.tensors[tensor];
                let rescaled = PlannedTensor { code: output, name: source.name.clone(), ..source.clone() };
                let op = PlannedOp::Lut(table_between(&input, &output, |x| x));
                let name = format!("{}_rescale{}", node.name, operands.len());
                let operand = tensor;
                tensor = self.new_tensor(rescaled);
                self.layers.push(PlannedLayer {
                    name,
                    node: None,
                    sum: None,
                    op,
                    inputs: vec![operand],
                    output: tensor,
                    scratch: 0,
                });
            }
            operands.push(tensor);
        }
        let outer = self.quantized.graph.value(node.output).shape[1..axis].iter().product();
        let result = self.define(node.output)?;
        self.layers.push(PlannedLayer {
            name: node.name.clone(),
            node: Some(id),
            sum: None,
            op: PlannedOp::Concat { outer },
            inputs: operands,
            output: result,
            scratch: 0,
        });
        Ok(())
    }

    fn pad(&mut self, node: &Node, id: NodeId, pads: &[(usize, usize)]) -> Result<(), LowerError> {
        let mut before = [0; 3];
        let skipped = 4 - pads.len();
        for (i, pad) in pads.iter().enumerate().skip(1) {
            before[skipped + i - 1] = pad.0;
        }
        let [top, left, front] = before;
        self.push(node, id, PlannedOp::Pad { top, left, front })
    }

    fn avg_pool(&mut self, node: &Node, id: NodeId, pool: &Pool) -> Result<(), LowerError> {
        let (input, output) = (self.code(node.inputs[0]), self.code(node.output));
        let window = pool_window(pool);
        self.check_pool(node, pool, &window)?;
        let count = pool.kernel[0] * pool.kernel[1];
        let factors = [f64::from(input.scale) / (f64::from(output.scale) * count as f64)];
        let fits = |pre: u8| (count as u64 * u64::from(input.max_code())) << pre <= i32::MAX as u64;
        let m = multipliers(&factors).filter(|m| fits(m.pre)).ok_or_else(|| self.factor(node, &factors))?;
        let requantise = requantise(&output, pool.clamp, m.pre);
        self.push(node, id, PlannedOp::AvgPool { window, mult: m.mult[0], requantise })
    }

    fn resize(
        &mut self,
        node: &Node,
        id: NodeId,
        mode: ResizeMode,
        coordinates: Coordinates,
    ) -> Result<(), LowerError> {
        let from = self.tensors[self.tensor(node.inputs[0])].shape;
        let to = aligned_shape(&self.quantized.graph.value(node.output).shape);
        let axes = [(from.h, to.h), (from.w, to.w)];
        let op = match mode {
            ResizeMode::Nearest(rounding) => {
                let [rows, columns] = axes.map(|(i, o)| nearest(i, o, coordinates, rounding));
                PlannedOp::ResizeNearest { rows, columns }
            }
            ResizeMode::Bilinear => {
                let [rows, columns] = axes.map(|(i, o)| bilinear(i, o, coordinates));
                PlannedOp::ResizeBilinear { rows, columns }
            }
        };
        self.push(node, id, op)
    }

    fn push(&mut self, node: &Node, id: NodeId, op: PlannedOp) -> Result<(), LowerError> {
        let output = self.define(node.output)?;
        let inputs = node.inputs.iter().filter(|v| !self.quantized.graph.value(**v).is_constant());
        let inputs = inputs.map(|&v| self.tensor(v)).collect();
        let (name, node) = (node.name.clone(), Some(id));
        self.layers.push(PlannedLayer { name, node, sum: None, op, inputs, output, scratch: 0 });
        Ok(())
    }

    fn define(&mut self, value: ValueId) -> Result<usize, LowerError> {
        let source = self.quantized.graph.value(value);
        let rank = source.shape.len().saturating_sub(1);
        if rank > 3 {
            return Err(LowerError::Rank { value: source.name.clone(), rank });
        }
        let shape = aligned_shape(&source.shape);
        if shape.h > usize::from(u16::MAX) || shape.w > usize::from(u16::MAX) {
            return Err(LowerError::Limit { layer: source.name.clone(), what: "its height or width", limit: 65_535 });
        }
        let code = self.code(value);
        let tensor =
            self.new_tensor(PlannedTensor { name: source.name.clone(), shape, rank: rank as u8, code, offset: 0 });
        self.of_value[value.0 as usize] = Some(tensor);
        Ok(tensor)
    }

    fn new_tensor(&mut self, tensor: PlannedTensor) -> usize {
        self.tensors.push(tensor);
        self.buffers.push(self.n_buffers);
        self.n_buffers += 1;
        self.tensors.len() - 1
    }

    pub(super) fn tensor(&self, value: ValueId) -> usize {
        self.of_value[value.0 as usize].expect("the verifier ensures that values are defined before use")
    }

    fn code(&self, value: ValueId) -> ActivationCode {
        self.quantized.activations[value.0 as usize].expect("quantisation gives every activation a code")
    }

    fn constant(&self, node: &Node, operand: usize) -> Option<&'a [f32]> {
        let quantized = self.quantized;
        quantized.graph.value(node.inputs[operand]).data.as_deref().map(Vec::as_slice)
    }

    fn factor(&self, node: &Node, factors: &[f64]) -> LowerError {
        LowerError::Factor { layer: node.name.clone(), factor: factors.iter().copied().fold(0.0, f64::max) }
    }

    fn check_conv(&self, node: &Node, conv: &PlannedConv, pad: Padding) -> Result<(), LowerError> {
        self.check_window(node, &conv.window, pad)?;
        let limit = |what, value: usize, limit| {
            if value > limit { Err(LowerError::Limit { layer: node.name.clone(), what, limit }) } else { Ok(()) }
        };
        limit("a dilation", conv.dilation[0].max(conv.dilation[1]), 255)?;
        limit("its number of groups", conv.groups, 65_535)?;
        limit("its number of output channels", conv.bias.len(), 65_535)?;
        limit("its number of differently coded channel runs", conv.weights.len(), 255)
    }

    fn check_pool(&self, node: &Node, pool: &Pool, window: &PlannedWindow) -> Result<(), LowerError> {
        if pool.kernel[0].saturating_mul(pool.kernel[1]) > MAX_WINDOW {
            return Err(LowerError::Limit { layer: node.name.clone(), what: "its window", limit: MAX_WINDOW });
        }
        self.check_window(node, window, pool.pad)
    }

    fn check_window(&self, node: &Node, window: &PlannedWindow, pad: Padding) -> Result<(), LowerError> {
        let limit = |what, value: usize, limit| {
            if value > limit { Err(LowerError::Limit { layer: node.name.clone(), what, limit }) } else { Ok(()) }
        };
        limit("its kernel", window.kernel[0].max(window.kernel[1]), 65_535)?;
        limit("its stride", window.stride[0].max(window.stride[1]), 255)?;
        limit("its padding", pad.top.max(pad.bottom).max(pad.left).max(pad.right), 255)
    }
}

fn pointwise(groups: usize, clamp: Clamp) -> Conv2d {
    Conv2d { stride: [1, 1], pad: Padding::default(), dilation: [1, 1], groups, clamp }
}

fn pool_window(pool: &Pool) -> PlannedWindow {
    PlannedWindow { kernel: pool.kernel, stride: pool.stride, pad: [pool.pad.top, pool.pad.left] }
}

/// The extents beside the batch, aligned to the right.
fn aligned_shape(shape: &[usize]) -> Shape {
    let from_right = |i: usize| if i + 1 < shape.len() { shape[shape.len() - 1 - i] } else { 1 };
    Shape { h: from_right(2), w: from_right(1), c: from_right(0) }
}

fn table_between(input: &ActivationCode, output: &ActivationCode, function: impl Fn(f32) -> f32) -> Vec<u8> {
    (0..=input.max_code()).map(|code| output.encode(function(input.decode(code)))).collect()
}

/// Neighbouring channels of one format, as one group each.
fn runs(real: &RealConv<'_>, levels: &[i8], depth: usize, layout: Layout) -> Vec<PlannedWeights> {
    let mut first = 0;
    let mut groups = Vec::new();
    for run in real.formats.chunk_by(|a, b| a == b) {
        let end = first + run.len();
        let codebook = match run[0] {
            WeightFormat::Codebook(_) => real.codebook.to_vec(),
            _ => Vec::new(),
        };
        groups.push(PlannedWeights {
            format: run[0],
            layout,
            levels: levels[first * depth..end * depth].to_vec(),
            channels: run.len(),
            codebook,
        });
        first = end;
    }
    groups
}

/// Where output position `i` lies in the input, as a real number.
fn source(i: usize, size_in: usize, size_out: usize, coordinates: Coordinates) -> f64 {
    let (i, from, to) = (i as f64, size_in as f64, size_out as f64);
    match coordinates {
        Coordinates::Asymmetric => i * from / to,
        Coordinates::HalfPixel => (i + 0.5) * from / to - 0.5,
        Coordinates::AlignCorners if size_out == 1 => 0.0,
        Coordinates::AlignCorners => i * (from - 1.0) / (to - 1.0),
    }
}

fn nearest(size_in: usize, size_out: usize, coordinates: Coordinates, rounding: Rounding) -> Vec<u16> {
    let round = |x: f64| match rounding {
        Rounding::Floor => x.floor(),
        Rounding::HalfUp => (x + 0.5).floor(),
        Rounding::HalfDown => (x - 0.5).ceil(),
        Rounding::Ceil => x.ceil(),
    };
    let last = (size_in - 1) as f64;
    (0..size_out).map(|i| round(source(i, size_in, size_out, coordinates)).clamp(0.0, last) as u16).collect()
}

fn bilinear(size_in: usize, size_out: usize, coordinates: Coordinates) -> Vec<[u16; 3]> {
    let last = (size_in - 1) as f64;
    let entry = |i: usize| {
        let at = source(i, size_in, size_out, coordinates).clamp(0.0, last);
        let low = at.floor();
        [low as u16, (low + 1.0).min(last) as u16, ((at - low) * 256.0).round() as u16]
    };
    (0..size_out).map(entry).collect()
}
