//! The one graph every stage before lowering works on.
//!
//! A [`Graph`] is in static single assignment form: every [`Value`] is a graph input, a constant or
//! the output of exactly one [`Node`]; nodes stand in topological order. Activations are `f32`,
//! NHWC, with an explicit batch dimension of 1 in front (`[1, h, w, c]` or `[1, features]`);
//! evaluation may run many samples at once, so no operator may mix samples.
//!
//! The operator set is closed: importers translate into it, and every later stage matches on it
//! exhaustively, so that an operator cannot be half supported.
//!
//! * [`shape`] infers the shape of an operator's result.
//! * [`text`] prints a graph and parses it back.
//! * [`verify`] lists the invariants and checks them between any two passes.
//! * [`weighted`] reads a layer's weights row by row, [`constants`] puts others in their place.
//! * [`channels`] says which channels can only stay or go together, and cuts some out.

pub mod channels;
pub mod constants;
pub mod shape;
pub mod text;
pub mod verify;
pub mod weighted;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// Index of a [`Value`] in [`Graph::values`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValueId(pub u32);

/// Index of a [`Node`] in [`Graph::nodes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u32);

/// A network: values, and the nodes that compute them, in topological order.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Graph {
    /// Name of the network, usually the stem of the file it came from.
    pub name: String,
    /// Every value, in no particular order.
    pub values: Vec<Value>,
    /// Every node, in topological order.
    pub nodes: Vec<Node>,
    /// What the caller provides.
    pub inputs: Vec<ValueId>,
    /// What the caller gets.
    pub outputs: Vec<ValueId>,
}

/// A tensor: an activation, or a constant when `data` is given.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// Unique within the graph.
    pub name: String,
    /// Dimensions, outermost first; an activation's first dimension is the batch, 1.
    pub shape: Vec<usize>,
    /// The elements of a constant, row-major, `shape.iter().product()` of them.
    pub data: Option<Arc<Vec<f32>>>,
    /// The real range `(min, max)` that the model file records for it, where it was quantised there.
    pub range: Option<(f32, f32)>,
}

/// One operator applied to values.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Unique within the graph; the key of a layer in policies, tables and reports.
    pub name: String,
    /// What it computes.
    pub op: Op,
    /// Operands, in the order that [`Op`] documents.
    pub inputs: Vec<ValueId>,
    /// The one result.
    pub output: ValueId,
}

/// The closed set of operators.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Inputs: activation `[1, h, w, c_in]`, weights `[c_out, kh, kw, c_in / groups]` (constant),
    /// bias `[c_out]` (constant, may be absent). Depthwise is `groups == c_in`.
    Conv2d(Conv2d),
    /// Inputs: activation whose last dimension is `k`, weights `[n, k]` (constant), bias `[n]`
    /// (constant, may be absent). Output: the same leading dimensions, then `n`.
    FullyConnected {
        /// Fused activation.
        clamp: Clamp,
    },
    /// Element-wise sum. Inputs: activation, and an activation of the same shape or a constant that
    /// is a scalar or one number a channel (last dimension).
    Add {
        /// Fused activation.
        clamp: Clamp,
    },
    /// Element-wise product of an activation with a constant that is a scalar or one number a
    /// channel (last dimension).
    Mul,
    /// A function of each element.
    Unary(Unary),
    /// Inputs: two or more activations, joined along `axis` (never 0).
    Concat {
        /// The dimension that grows.
        axis: usize,
    },
    /// Surrounds with zeros: `(before, after)` for each dimension, (0, 0) for the batch.
    Pad {
        /// One pair a dimension.
        pads: Vec<(usize, usize)>,
    },
    /// Mean over a window of `[1, h, w, c]`; padding does not count.
    AvgPool(Pool),
    /// Maximum over a window of `[1, h, w, c]`; padding does not count.
    MaxPool(Pool),
    /// Softmax over the last dimension.
    Softmax,
    /// The same elements in the same order under another shape.
    Reshape,
    /// `output.shape[i] = input.shape[perm[i]]`; `perm[0] == 0`.
    Transpose {
        /// The permutation.
        perm: Vec<usize>,
    },
    /// Resize of `[1, h, w, c]` to the output's height and width.
    Resize {
        /// How positions between pixels are read.
        mode: ResizeMode,
        /// How an output pixel finds its place in the input.
        coordinates: Coordinates,
    },
    /// Moves blocks of channels into space: `[1, h, w, c·b²] -> [1, h·b, w·b, c]`.
    DepthToSpace {
        /// Edge of a block.
        block: usize,
        /// Order of the channels read.
        order: DepthToSpaceOrder,
    },
}

/// Attributes of [`Op::Conv2d`].
#[derive(Clone, Debug, PartialEq)]
pub struct Conv2d {
    /// Rows, columns.
    pub stride: [usize; 2],
    /// Zeros around the input.
    pub pad: Padding,
    /// Rows, columns.
    pub dilation: [usize; 2],
    /// Input channels are split into this many groups.
    pub groups: usize,
    /// Fused activation.
    pub clamp: Clamp,
}

/// Attributes of the pools.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    /// Window: rows, columns.
    pub kernel: [usize; 2],
    /// Rows, columns.
    pub stride: [usize; 2],
    /// Positions around the input that the window may cover.
    pub pad: Padding,
    /// Fused activation.
    pub clamp: Clamp,
}

/// Rows and columns added around an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Padding {
    /// Rows above.
    pub top: usize,
    /// Rows below.
    pub bottom: usize,
    /// Columns before.
    pub left: usize,
    /// Columns after.
    pub right: usize,
}

/// `y = min(max(x, min), max)`: none, ReLU, ReLU6 and clip in one form.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clamp {
    /// Lower bound; `-inf` for none.
    pub min: f32,
    /// Upper bound; `+inf` for none.
    pub max: f32,
}

impl Clamp {
    /// No clamp at all.
    pub const NONE: Clamp = Clamp { min: f32::NEG_INFINITY, max: f32::INFINITY };
    /// `max(x, 0)`.
    pub const RELU: Clamp = Clamp { min: 0.0, max: f32::INFINITY };
    /// `min(max(x, 0), 6)`.
    pub const RELU6: Clamp = Clamp { min: 0.0, max: 6.0 };

    /// Whether it leaves every number as it is.
    pub fn is_none(&self) -> bool {
        *self == Clamp::NONE
    }

    /// `x` within the bounds.
    pub fn apply(&self, x: f32) -> f32 {
        x.max(self.min).min(self.max)
    }

    /// First `self`, then `next`, as one clamp.
    pub fn then(&self, next: Clamp) -> Clamp {
        Clamp { min: next.apply(self.min), max: next.apply(self.max) }
    }
}

/// Functions of one element.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Unary {
    /// See [`Clamp`].
    Clamp(Clamp),
    /// `x < 0 ? alpha * x : x`.
    LeakyRelu {
        /// Slope below zero.
        alpha: f32,
    },
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
    /// `min(max(alpha * x + beta, 0), 1)`.
    HardSigmoid {
        /// Slope.
        alpha: f32,
        /// Value at zero.
        beta: f32,
    },
    /// `x * min(max(x + 3, 0), 6) / 6`.
    HardSwish,
}

impl Unary {
    /// The function's value at `x`.
    pub fn apply(&self, x: f32) -> f32 {
        match *self {
            Unary::Clamp(clamp) => clamp.apply(x),
            Unary::LeakyRelu { alpha } => {
                if x < 0.0 {
                    alpha * x
                } else {
                    x
                }
            }
            Unary::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Unary::Tanh => x.tanh(),
            Unary::HardSigmoid { alpha, beta } => (alpha * x + beta).clamp(0.0, 1.0),
            Unary::HardSwish => x * (x + 3.0).clamp(0.0, 6.0) / 6.0,
        }
    }
}

/// How [`Op::Resize`] reads between pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResizeMode {
    /// The nearest pixel.
    Nearest(Rounding),
    /// The four neighbours, weighted.
    Bilinear,
}

/// What "nearest" means at fractions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// Towards minus infinity.
    Floor,
    /// Half away from zero (TensorFlow Lite with half-pixel centres or aligned corners).
    HalfUp,
    /// Half towards minus infinity (the default of ONNX).
    HalfDown,
    /// Towards plus infinity.
    Ceil,
}

/// How an output pixel finds its place in the input, `in/out` being the ratio of the edges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coordinates {
    /// `x * in / out`.
    Asymmetric,
    /// `(x + 0.5) * in / out - 0.5`.
    HalfPixel,
    /// `x * (in - 1) / (out - 1)`.
    AlignCorners,
}

/// Which input channel lands where in [`Op::DepthToSpace`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DepthToSpaceOrder {
    /// Channel `(dy * b + dx) * c + k` (TensorFlow; "DCR" in ONNX).
    BlockFirst,
    /// Channel `(k * b + dy) * b + dx` ("CRD" in ONNX).
    ChannelFirst,
}

impl Graph {
    /// The value behind `id`.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.0 as usize]
    }

    /// The node behind `id`.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    /// Adds a value and returns its id.
    pub fn add_value(&mut self, value: Value) -> ValueId {
        self.values.push(value);
        ValueId(self.values.len() as u32 - 1)
    }

    /// The same network without nodes and values that no output needs, the rest numbered in the order
    /// in which the textual form defines them: inputs, then for each node its constants and its output.
    /// A graph input stays even where nothing reads it.
    pub fn compact(&self) -> Graph {
        let mut needed: BTreeSet<ValueId> = self.outputs.iter().copied().collect();
        for node in self.nodes.iter().rev() {
            if needed.contains(&node.output) {
                needed.extend(&node.inputs);
            }
        }
        let mut compact = Graph { name: self.name.clone(), ..Graph::default() };
        let mut renamed = BTreeMap::new();
        let mut keep = |graph: &mut Graph, id: ValueId| {
            *renamed.entry(id).or_insert_with(|| graph.add_value(self.value(id).clone()))
        };
        for &id in &self.inputs {
            let id = keep(&mut compact, id);
            compact.inputs.push(id);
        }
        for node in self.nodes.iter().filter(|node| needed.contains(&node.output)) {
            let inputs = node.inputs.iter().map(|&id| keep(&mut compact, id)).collect();
            let output = keep(&mut compact, node.output);
            compact.nodes.push(Node { inputs, output, ..node.clone() });
        }
        for &id in &self.outputs {
            let id = keep(&mut compact, id);
            compact.outputs.push(id);
        }
        compact
    }

    /// The node that computes `id`; `None` for inputs and constants.
    pub fn producer(&self, id: ValueId) -> Option<NodeId> {
        self.nodes.iter().position(|node| node.output == id).map(|i| NodeId(i as u32))
    }

    /// Nodes that read `id`, in order.
    pub fn consumers(&self, id: ValueId) -> Vec<NodeId> {
        (0..self.nodes.len()).filter(|&i| self.nodes[i].inputs.contains(&id)).map(|i| NodeId(i as u32)).collect()
    }

    /// Nodes with trained weights (convolutions and fully connected), in order: the layers of a policy.
    pub fn weighted(&self) -> impl Iterator<Item = NodeId> + '_ {
        (0..self.nodes.len()).filter(|&i| self.nodes[i].op.has_weights()).map(|i| NodeId(i as u32))
    }

    /// The shape of the `i`-th operand of a node.
    pub fn input_shape(&self, node: &Node, i: usize) -> &[usize] {
        &self.value(node.inputs[i]).shape
    }

    /// The numbers of a constant operand of a node; none where there is no such operand, or it is computed.
    pub fn constant(&self, node: &Node, i: usize) -> &[f32] {
        let data = node.inputs.get(i).and_then(|&value| self.value(value).data.as_deref());
        data.map_or(&[], Vec::as_slice)
    }

    /// Multiply-accumulates of a node for one sample: those of weighted layers; 0 for the others.
    pub fn macs(&self, node: &Node) -> u64 {
        if !node.op.has_weights() {
            return 0;
        }
        let output: usize = self.value(node.output).shape.iter().product();
        let per_output: usize = self.input_shape(node, 1)[1..].iter().product();
        (output * per_output) as u64
    }
}

impl Value {
    /// Number of elements of one sample.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it has no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether its elements are known.
    pub fn is_constant(&self) -> bool {
        self.data.is_some()
    }
}

impl Op {
    /// Whether it is a layer with trained weights, at operand 1.
    pub fn has_weights(&self) -> bool {
        matches!(self, Op::Conv2d(_) | Op::FullyConnected { .. })
    }

    /// Its name in the textual form.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Conv2d(_) => "conv2d",
            Op::FullyConnected { .. } => "fully_connected",
            Op::Add { .. } => "add",
            Op::Mul => "mul",
            Op::Unary(Unary::Clamp(_)) => "clamp",
            Op::Unary(Unary::LeakyRelu { .. }) => "leaky_relu",
            Op::Unary(Unary::Sigmoid) => "sigmoid",
            Op::Unary(Unary::Tanh) => "tanh",
            Op::Unary(Unary::HardSigmoid { .. }) => "hard_sigmoid",
            Op::Unary(Unary::HardSwish) => "hard_swish",
            Op::Concat { .. } => "concat",
            Op::Pad { .. } => "pad",
            Op::AvgPool(_) => "avg_pool",
            Op::MaxPool(_) => "max_pool",
            Op::Softmax => "softmax",
            Op::Reshape => "reshape",
            Op::Transpose { .. } => "transpose",
            Op::Resize { .. } => "resize",
            Op::DepthToSpace { .. } => "depth_to_space",
        }
    }
}

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        text::print(self, f)
    }
}
