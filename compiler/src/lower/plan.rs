//! The integer-only network: the stage between a quantised graph and bytes.

use pare_runtime::format::{Add, Conv, Layout, Requantise, Shape};

use super::stages::PlannedStage;
use crate::ir::NodeId;
use crate::policy::WeightFormat;
use crate::quant::ActivationCode;

/// Everything a blob holds, with weights still as levels.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Name of the network.
    pub name: String,
    /// Tensors of the blob, in the order of their records.
    pub tensors: Vec<PlannedTensor>,
    /// Layers, in the order they run.
    pub layers: Vec<PlannedLayer>,
    /// Which of them run together in bands of rows.
    pub stages: Vec<PlannedStage>,
    /// Graph inputs, as indices of `tensors`.
    pub inputs: Vec<usize>,
    /// Graph outputs, as indices of `tensors`.
    pub outputs: Vec<usize>,
    /// Size of the arena.
    pub arena_bytes: usize,
    /// The largest sum of bytes live at one layer: no plan can be smaller.
    pub arena_lower_bound: usize,
    /// What lies where in the arena, and when.
    pub memory: Vec<MemoryBlock>,
}

/// An activation in the arena.
#[derive(Clone, Debug)]
pub struct PlannedTensor {
    /// Name of the value it came from.
    pub name: String,
    /// Extents, right-aligned.
    pub shape: Shape,
    /// Dimensions in the model, the batch apart.
    pub rank: u8,
    /// Scale, zero point and width.
    pub code: ActivationCode,
    /// First byte in the arena.
    pub offset: usize,
}

/// One step.
#[derive(Clone, Debug)]
pub struct PlannedLayer {
    /// Name of the node it came from.
    pub name: String,
    /// That node; `None` for steps that lowering added in front of it (rescaling the operand of a concat).
    pub node: Option<NodeId>,
    /// The node of the sum that is part of it.
    pub sum: Option<NodeId>,
    /// What it does.
    pub op: PlannedOp,
    /// Operands, as indices of the tensors; of a convolution that adds, what it adds to is the second.
    pub inputs: Vec<usize>,
    /// Result, as an index of the tensors.
    pub output: usize,
    /// First byte of its scratch memory.
    pub scratch: usize,
}

/// The operators of [`pare_runtime::format`], owned.
#[derive(Clone, Debug)]
pub enum PlannedOp {
    /// Convolution, fully connected, and per-channel products and sums.
    Conv(PlannedConv),
    /// See [`pare_runtime::format::Add`].
    Add {
        /// Multiplier of the first operand.
        ma: i32,
        /// Multiplier of the second operand.
        mb: i32,
        /// Right shift of the sum.
        shift: u8,
        /// Lowest code out.
        lo: u8,
        /// Highest code out.
        hi: u8,
    },
    /// See [`pare_runtime::format::AvgPool`].
    AvgPool {
        /// The window.
        window: PlannedWindow,
        /// Multiplier of the sum over a full window.
        mult: i32,
        /// From sum to code.
        requantise: Requantise,
    },
    /// See [`pare_runtime::format::MaxPool`].
    MaxPool {
        /// The window.
        window: PlannedWindow,
        /// Lowest code out.
        lo: u8,
        /// Highest code out.
        hi: u8,
    },
    /// One output code for each input code.
    Lut(Vec<u8>),
    /// Softmax over the channels.
    Softmax(u32),
    /// Joins the operands in `outer` rounds.
    Concat {
        /// Rounds.
        outer: usize,
    },
    /// Surrounds with zero points.
    Pad {
        /// Rows above.
        top: usize,
        /// Columns before.
        left: usize,
        /// Channels before.
        front: usize,
    },
    /// Output extent `i` is input extent `perm[i]`.
    Transpose([u8; 3]),
    /// Input row of each output row, and column of each column.
    ResizeNearest {
        /// Rows.
        rows: Vec<u16>,
        /// Columns.
        columns: Vec<u16>,
    },
    /// Low, high and weight of the high in 1/256, of each output row and column.
    ResizeBilinear {
        /// Rows.
        rows: Vec<[u16; 3]>,
        /// Columns.
        columns: Vec<[u16; 3]>,
    },
    /// Channels into space.
    DepthToSpace {
        /// Edge of a block.
        block: usize,
        /// 0: block first (DCR); 1: channel first (CRD).
        order: u8,
    },
}

/// Kernel, stride and leading padding of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedWindow {
    /// Rows, columns.
    pub kernel: [usize; 2],
    /// Rows, columns.
    pub stride: [usize; 2],
    /// Rows above, columns to the left.
    pub pad: [usize; 2],
}

/// A convolution.
#[derive(Clone, Debug)]
pub struct PlannedConv {
    /// Kernel, stride, padding.
    pub window: PlannedWindow,
    /// Rows, columns.
    pub dilation: [usize; 2],
    /// Channel groups.
    pub groups: usize,
    /// One an output channel, the input's zero point folded in.
    pub bias: Vec<i32>,
    /// One an output channel.
    pub mult: Vec<i32>,
    /// From accumulator to code.
    pub requantise: Requantise,
    /// The sum that the code is the second operand of.
    pub residual: Option<Add>,
    /// Runs of output channels coded alike.
    pub weights: Vec<PlannedWeights>,
}

/// A run of output channels coded alike.
#[derive(Clone, Debug)]
pub struct PlannedWeights {
    /// Coding.
    pub format: WeightFormat,
    /// Order of the codes in the blob.
    pub layout: Layout,
    /// `channels` rows of the layer's depth.
    pub levels: Vec<i8>,
    /// Output channels.
    pub channels: usize,
    /// Ascending levels of a codebook format; empty otherwise.
    pub codebook: Vec<i8>,
}

/// Something in the arena, from one layer to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryBlock {
    /// Names of the tensors that share it, or the layer whose scratch it is.
    pub name: String,
    /// Whether kernels write their intermediate values there.
    pub scratch: bool,
    /// First byte.
    pub offset: usize,
    /// Size.
    pub bytes: usize,
    /// First layer that touches it.
    pub first: usize,
    /// Last layer that touches it.
    pub last: usize,
}

impl Plan {
    /// The node that each layer serves: its own, or for a step that lowering added that of the layer after it.
    pub fn served(&self) -> Vec<Option<NodeId>> {
        let mut next = None;
        let mut served: Vec<Option<NodeId>> = self
            .layers
            .iter()
            .rev()
            .map(|layer| {
                next = layer.node.or(next);
                next
            })
            .collect();
        served.reverse();
        served
    }
}

impl PlannedConv {
    /// The convolution as the runtime's kernels see it, without its weights.
    pub fn geometry(&self, input: &PlannedTensor, output: &PlannedTensor) -> Conv<'_> {
        let mut conv: Conv<'_> = Conv::EMPTY;
        conv.input = input.shape;
        conv.output = output.shape;
        conv.kernel = self.window.kernel;
        conv.stride = self.window.stride;
        conv.dilation = self.dilation;
        conv.pad = self.window.pad;
        conv.groups = self.groups;
        conv.bits_in = input.code.bits;
        conv.zero_in = input.code.zero;
        conv.bias = &self.bias;
        conv.mult = &self.mult;
        conv.requantise = self.requantise;
        conv.residual = self.residual;
        conv
    }
}

impl From<WeightFormat> for pare_runtime::format::WeightFormat {
    fn from(format: WeightFormat) -> Self {
        match format {
            WeightFormat::Linear(bits) => Self::Linear(bits),
            WeightFormat::Ternary => Self::Ternary,
            WeightFormat::Codebook(bits) => Self::Codebook(bits),
        }
    }
}
