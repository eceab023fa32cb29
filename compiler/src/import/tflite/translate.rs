//! Operators of TensorFlow Lite into the graph, one function a family.

use std::sync::Arc;

use super::model::{Model, Operator, TensorInfo};
use super::naming::layer_name;
use super::opcodes::operator_name;
use crate::import::builder::{Builder, Problem, Tensor};
use crate::import::{ImportError, UnsupportedNode};
use crate::ir::shape::checked_len;
use crate::ir::{
    Clamp, Conv2d, Coordinates, DepthToSpaceOrder, Graph, Op, Padding, Pool, ResizeMode, Rounding, Unary, ValueId,
};

/// Translates the operators of a model in order.
pub(super) struct Translator<'a> {
    model: &'a Model<'a>,
    file: String,
    builder: Builder,
    /// What each tensor has become; `None` for constants and what is not computed yet.
    values: Vec<Option<ValueId>>,
}

/// What is common to translating any operator.
struct Call<'a> {
    op: &'a Operator<'a>,
    /// Name of the operator in the format.
    kind: &'static str,
    /// Name wanted for the node.
    hint: String,
    /// Tensor number of the result.
    output: usize,
}

/// A fused activation.
#[derive(Clone, Copy, PartialEq)]
enum Fused {
    Clamp(Clamp),
    Tanh,
}

/// Its number in the schema.
const DEQUANTIZE: i32 = 6;
/// `min(max(x, -1), 1)`.
const RELU_N1_TO_1: Clamp = Clamp { min: -1.0, max: 1.0 };
/// `min(max(x, 0), 1)`.
const RELU_0_TO_1: Clamp = Clamp { min: 0.0, max: 1.0 };

impl<'a> Translator<'a> {
    pub(super) fn new(model: &'a Model<'a>, name: &str) -> Result<Translator<'a>, ImportError> {
        let mut translator = Translator {
            model,
            file: name.to_owned(),
            builder: Builder::new(name),
            values: vec![None; model.tensors.len()],
        };
        for &input in &model.inputs {
            translator.input(input)?;
        }
        Ok(translator)
    }

    /// The graph, or everything that did not translate.
    pub(super) fn run(mut self) -> Result<Graph, ImportError> {
        for (position, op) in self.model.operators.iter().enumerate() {
            if let Err((problem, node)) = self.operator(position, op) {
                self.builder.refuse(problem, node)?;
                self.stand_in(op);
            }
        }
        let outputs = self.model.outputs.iter().map(|&index| self.values.get(index).copied().flatten());
        let outputs = outputs.collect::<Option<Vec<ValueId>>>().ok_or_else(|| ImportError::Malformed {
            file: self.file.clone(),
            problem: "an output is computed by no operator".to_owned(),
        })?;
        self.builder.finish(outputs)
    }

    fn input(&mut self, index: usize) -> Result<(), ImportError> {
        let malformed = |problem| ImportError::Malformed { file: self.file.clone(), problem };
        let tensor = self.model.tensors.get(index);
        let tensor = tensor.ok_or_else(|| malformed(format!("input {index} is no tensor of the file")))?;
        let mut shape: Vec<usize> = tensor.shape.iter().map(|&d| usize::try_from(d).unwrap_or(0)).collect();
        match shape.first_mut() {
            Some(batch) if tensor.shape.first().is_some_and(|&d| d <= 1) => *batch = 1,
            _ => {
                let why = format!("an input of shape {:?}", tensor.shape);
                let problem =
                    Problem::unsupported(why).suggest("export the model with a first dimension of 1, the batch");
                let node = UnsupportedNode {
                    node: tensor.name.clone(),
                    op: "input".to_owned(),
                    shapes: vec![shape.clone()],
                    why: String::new(),
                    suggestion: None,
                };
                self.builder.refuse(problem, node)?;
            }
        }
        if checked_len(&shape).is_none() {
            return Err(malformed(format!("input `{}` has the shape {shape:?}", tensor.name)));
        }
        let id = self.builder.input(tensor.name.rsplit('/').next().unwrap_or_default(), shape, tensor.range());
        if let Some(value) = self.values.get_mut(index) {
            *value = Some(id);
        }
        Ok(())
    }

    fn operator(&mut self, position: usize, op: &'a Operator<'a>) -> Result<(), (Problem, UnsupportedNode)> {
        let kind = operator_name(op.code).unwrap_or("UNKNOWN");
        let output = op.outputs.first().copied().flatten();
        let path = output.and_then(|index| self.model.tensors.get(index)).map_or("", |tensor| tensor.name.as_str());
        let hint = layer_name(kind, path);
        let result = match output {
            Some(output) => self.translate(&Call { op, kind, hint: hint.clone(), output }),
            None => Err(Problem::Invalid("it has no output".to_owned())),
        };
        result.map_err(|problem| {
            let kind = match (kind, op.code) {
                ("CUSTOM", _) => format!("CUSTOM {}", op.custom),
                ("UNKNOWN", code) => format!("operator number {code}"),
                (kind, _) => kind.to_owned(),
            };
            let operands = op.inputs.iter().flatten().filter_map(|&index| self.model.tensors.get(index));
            let shapes = operands.filter_map(|tensor| tensor.dims().ok()).collect();
            let node = if path.is_empty() { format!("{hint} at position {position}") } else { path.to_owned() };
            (problem, UnsupportedNode { node, op: kind, shapes, why: String::new(), suggestion: None })
        })
    }

    /// Lets the operators after an unsupported one be checked too.
    fn stand_in(&mut self, op: &Operator<'_>) {
        for &index in op.outputs.iter().flatten() {
            if let (Some(value), Some(tensor)) = (self.values.get_mut(index), self.model.tensors.get(index)) {
                *value = Some(self.builder.placeholder(tensor.dims().unwrap_or_default()));
            }
        }
    }

    fn translate(&mut self, call: &Call<'_>) -> Result<(), Problem> {
        let result = match call.kind {
            "CONV_2D" => self.conv2d(call)?,
            "DEPTHWISE_CONV_2D" => self.depthwise(call)?,
            "FULLY_CONNECTED" => self.fully_connected(call)?,
            "ADD" => self.add(call)?,
            "SUB" => self.sub(call)?,
            "MUL" => self.mul(call)?,
            "DIV" => self.div(call)?,
            "CONCATENATION" => self.concat(call)?,
            "PAD" | "PADV2" => self.pad(call)?,
            "AVERAGE_POOL_2D" | "MAX_POOL_2D" => self.pool(call)?,
            "MEAN" => self.mean(call)?,
            "RELU" => self.clamp(call, Clamp::RELU)?,
            "RELU6" => self.clamp(call, Clamp::RELU6)?,
            "RELU_N1_TO_1" => self.clamp(call, RELU_N1_TO_1)?,
            "RELU_0_TO_1" => self.clamp(call, RELU_0_TO_1)?,
            "LEAKY_RELU" => self.unary(call, Unary::LeakyRelu { alpha: call.op.options.f32(0, 0.0)? })?,
            "PRELU" => self.prelu(call)?,
            "LOGISTIC" => self.unary(call, Unary::Sigmoid)?,
            "TANH" => self.unary(call, Unary::Tanh)?,
            "HARD_SWISH" => self.unary(call, Unary::HardSwish)?,
            "SOFTMAX" => self.softmax(call)?,
            "RESHAPE" | "SQUEEZE" | "EXPAND_DIMS" => self.reshape(call)?,
            "TRANSPOSE" => self.transpose(call)?,
            "RESIZE_BILINEAR" | "RESIZE_NEAREST_NEIGHBOR" => self.resize(call)?,
            "DEPTH_TO_SPACE" => self.depth_to_space(call)?,
            "QUANTIZE" | "DEQUANTIZE" => return self.alias(call),
            kind => return Err(unknown(kind)),
        };
        self.define(call, result)
    }

    fn define(&mut self, call: &Call<'_>, result: ValueId) -> Result<(), Problem> {
        let range = self.model.tensor(call.output)?.range();
        self.builder.record_range(result, range);
        match self.values.get_mut(call.output) {
            Some(Some(_)) => Err(Problem::Invalid("its output is computed twice".to_owned())),
            Some(value) => {
                *value = Some(result);
                Ok(())
            }
            None => Ok(()),
        }
    }

    // Operands.

    fn operand_index(&self, call: &Call<'_>, i: usize) -> Result<usize, Problem> {
        let index = call.op.inputs.get(i).copied().flatten();
        index.ok_or_else(|| Problem::Invalid(format!("operand {i} is missing")))
    }

    fn info(&self, call: &Call<'_>, i: usize) -> Result<&'a TensorInfo<'a>, Problem> {
        self.model.tensor(self.operand_index(call, i)?)
    }

    /// An operand that is computed by the network.
    fn activation(&self, call: &Call<'_>, i: usize) -> Result<ValueId, Problem> {
        let index = self.operand_index(call, i)?;
        if let Some(id) = self.values.get(index).copied().flatten() {
            return Ok(id);
        }
        let tensor = self.model.tensor(index)?;
        if tensor.is_constant() || self.is_folded(index) {
            let why = format!("operand {i} (`{}`) is a constant where an activation belongs", tensor.name);
            return Err(Problem::unsupported(why).suggest("fold constants before export"));
        }
        Err(Problem::Invalid(format!("reads tensor `{}` before it is computed", tensor.name)))
    }

    /// A constant operand; `None` when it is computed by the network or left out.
    fn constant(&self, call: &Call<'_>, i: usize) -> Result<Option<Tensor>, Problem> {
        match call.op.inputs.get(i).copied().flatten() {
            Some(index) => self.model.constant(self.source(index)),
            None => Ok(None),
        }
    }

    fn needed_constant(&self, call: &Call<'_>, i: usize) -> Result<Tensor, Problem> {
        let constant = self.constant(call, i)?;
        constant
            .ok_or_else(|| Problem::unsupported(format!("operand {i} is computed at run time; it must be a constant")))
    }

    /// Small integers: a shape, axes, paddings.
    fn integers(&self, call: &Call<'_>, i: usize) -> Result<Vec<i64>, Problem> {
        let integers = self.model.integers(self.operand_index(call, i)?)?;
        integers
            .ok_or_else(|| Problem::unsupported(format!("operand {i} is computed at run time; it must be a constant")))
    }

    /// The stored constant behind a tensor: float16 weights pass through DEQUANTIZE.
    fn source(&self, index: usize) -> usize {
        let producer = |index| {
            let dequantize = |op: &&Operator<'_>| op.code == DEQUANTIZE && op.outputs.first() == Some(&Some(index));
            self.model.operators.iter().find(dequantize)?.inputs.first().copied().flatten()
        };
        match self.model.tensors.get(index) {
            Some(tensor) if !tensor.is_constant() => producer(index).unwrap_or(index),
            _ => index,
        }
    }

    fn is_folded(&self, index: usize) -> bool {
        let source = self.source(index);
        source != index && self.model.tensors.get(source).is_some_and(TensorInfo::is_constant)
    }

    // Operators.

    /// QUANTIZE and DEQUANTIZE change codes, not numbers: they vanish, the range stays.
    fn alias(&mut self, call: &Call<'_>) -> Result<(), Problem> {
        let operand = self.operand_index(call, 0)?;
        if self.model.tensor(operand)?.is_constant() {
            return Ok(()); // `source` finds the constant behind it.
        }
        let x = self.activation(call, 0)?;
        self.define(call, x)
    }

    fn conv2d(&mut self, call: &Call<'_>) -> Result<ValueId, Problem> {
        let options = &call.op.options;
        let weights = self.needed_constant(call, 1)?;
        let x = self.activation(call, 0)?;
        let channels = self.builder.shape(x).last().copied().unwrap_or(0);
        let groups = channels / weights.shape.get(3).copied().unwrap_or(1).max(1);
        let stride = [positive(options.i32(2, 1)?)?, positive(options.i32(1, 1)?)?];
        let dilation = [positive(options.i32(5, 1)?)?, positive(options.i32(4, 1)?)?];
        let kernel = [weights.shape.get(1).copied().unwrap_or(0), weights.shape.get(2).copied().unwrap_or(0)];
        let pad = self.padding(options.i8(0, 0)?, x, kernel, stride, dilation)?;
        let fused = fused(options.i8(3, 0)?)?;
        self.weighted(call, weights, fused, |clamp| Op::Conv2d(Conv2d { stride, pad, dilation, groups, clamp }))
    }

    fn depthwise(&mut self, call: &Call<'_>) -> Result<ValueId, Problem> {
        let options = &call.op.options;
        let weights = self.needed_constant(call, 1)?;
        let x = self.activation(call, 0)?;
        let &[1, kh, kw, n] = weights.shape.as_slice() else {
            return Err(Problem::Invalid(format!("depthwise weights of shape {:?}", weights.shape)));
        };
        let groups = self.builder.shape(x).last().copied().unwrap_or(0);
        let stride = [positive(options.i32(2, 1)?)?, positive(options.i32(1, 1)?)?];
        let dilation = [positive(options.i32(6, 1)?)?, positive(options.i32(5, 1)?)?];
        let pad = self.padding(options.i8(0, 0)?, x, [kh, kw], stride, dilation)?;
        let fused = fused(options.i8(4, 0)?)?;
        // [1, kh, kw, n] to [n, kh, kw, 1].
        let taps = kh * kw;
        let old = &weights.data;
        let data = (0..n).flat_map(|o| (0..taps).filter_map(move |tap| old.get(tap * n + o).copied())).collect();
        let weights = Tensor { shape: vec![n, kh, kw, 1], data: Arc::new(data) };
        self.weighted(call, weights, fused, |clamp| Op::Conv2d(Conv2d { stride, pad, dilation, groups, clamp }))
    }

    fn fully_connected(&mut self, call: &Call<'_>) -> Result<ValueId, Problem> {
        let options = &call.op.options;
        if options.i8(1, 0)? != 0 {
            return Err(Problem::unsupported("shuffled weights"));
        }
        let weights = self.needed_constant(call, 1)?;
        let fused = fused(options.i8(0, 0)?)?;
        self.weighted(call, weights, fused, |clamp| Op::FullyConnected { clamp })
    }

    /// A layer with weights and perhaps a bias.
    fn weighted(
        &mut self,
        call: &Call<'_>,
        weights: Tensor,
        fused: Fused,
        op: impl Fn(Clamp) -> Op,
    ) -> Result<ValueId, Problem> {
        let mut x = self.activation(call, 0)?;
        let bias = self.bias(call, weights.shape.first().copied().unwrap_or(0))?;
        if let (Op::FullyConnected { .. }, Some(&k)) = (op(Clamp::NONE), weights.shape.get(1)) {
            x = self.rows(call, x, k)?;
        }
        let (name, op) = match fused {
            Fused::Clamp(clamp) => (self.builder.name(&call.hint, "layer"), op(clamp)),
            Fused::Tanh => (self.builder.name(&call.hint, "layer"), op(Clamp::NONE)),
        };
        let mut inputs = vec![x, self.builder.constant(&name, "w", weights)];
        if let Some(bias) = bias {
            inputs.push(self.builder.constant(&name, "b", bias));
        }
        let result = self.builder.node(name, op, inputs)?;
        self.tanh(call, fused, result)
    }

    /// The bias of a layer of `n` outputs. Codes without a scale of their own have the product of
    /// the scales of input and weights.
    fn bias(&self, call: &Call<'_>, n: usize) -> Result<Option<Tensor>, Problem> {
        let Some(mut bias) = self.constant(call, 2)? else {
            return match call.op.inputs.get(2).copied().flatten() {
                Some(_) => Err(Problem::unsupported("the bias is computed at run time; it must be a constant")),
                None => Ok(None),
            };
        };
        let (x, weights, info) = (self.info(call, 0)?, self.info(call, 1)?, self.info(call, 2)?);
        if info.is_integer() && !info.is_quantised() {
            let scale = |i| Some(x.scale(0)? * weights.scale(i)?);
            let scaled = bias.data.iter().enumerate().map(|(i, code)| Some(code * scale(i)?)).collect::<Option<_>>();
            let missing = || Problem::Invalid("an integer bias, but no scales to read it by".to_owned());
            bias.data = Arc::new(scaled.ok_or_else(missing)?);
        }
        bias.shape = vec![n];
        Ok(Some(bias))
    }

    /// `x` as the rows of `k` numbers that a fully connected layer flattens it to.
    fn rows(&mut self, call: &Call<'_>, x: ValueId, k: usize) -> Result<ValueId, Problem> {
        let shape = self.builder.shape(x);
        if call.op.options.bool(2)? || shape == [1, k] {
            return Ok(x);
        }
        if shape.iter().product::<usize>() == k {
            return self.builder.reshape(&format!("{}.in", call.hint), x, &[1, k]);
        }
        let why = format!("several rows of {k} numbers at once, out of {shape:?}");
        Err(Problem::unsupported(why).suggest("use a 1x1 convolution, or keep_num_dims"))
    }

    /// Padding "SAME" or "VALID" in numbers.
    fn padding(
        &self,
        scheme: i8,
        x: ValueId,
        kernel: [usize; 2],
        stride: [usize; 2],
        dilation: [usize; 2],
    ) -> Result<Padding, Problem> {
        let &[_, h, w, _] = self.builder.shape(x) else { return Ok(Padding::default()) };
        let along = |size: usize, axis: usize| -> Option<(usize, usize)> {
            let (kernel, stride, dilation) = (*kernel.get(axis)?, *stride.get(axis)?, *dilation.get(axis)?);
            let extent = kernel.checked_sub(1)?.checked_mul(dilation)?.checked_add(1)?;
            let covered = (size.div_ceil(stride).checked_sub(1)?).checked_mul(stride)?.checked_add(extent)?;
            let total = covered.saturating_sub(size);
            Some((total / 2, total - total / 2))
        };
        match scheme {
            0 => {
                let sides = along(h, 0).zip(along(w, 1));
                let ((top, bottom), (left, right)) =
                    sides.ok_or_else(|| Problem::Invalid(format!("a window of {kernel:?} on {h} x {w}")))?;
                Ok(Padding { top, bottom, left, right })
            }
            1 => Ok(Padding::default()),
            other => Err(Problem::unsupported(format!("padding scheme {other}"))),
        }
    }

    fn add(&mut self, call: &Call<'_>) -> Result<ValueId, Problem> {
        let fused = fused(call.op.options.i8(0, 0)?)?;
        let sum = match (self.constant(call, 0)?, self.constant(call, 1)?) {
            (None, None) => {
                let (a, b) = (self.activation(call, 0)?, self.activation(call, 1)?);
                return self.sum(call, a, b, fused);
            }
            (None, Some(constant)) => self.builder.add_constant(&call.hint, self.activation(call, 0)?, &constant)?,
            (Some(constant), _) => self.builder.add_constant(&call.hint, self.activation(call, 1)?, &constant)?,
        };
        self.activate(call, fused, sum)
    }

    /// The sum of two activations of one shape.
    fn sum(&mut self, call: &Call<'_>, a: ValueId, b: ValueId, fused: Fused) -> Result<ValueId, Problem> {
        if self.builder.shape(a) != self.builder.shape(b) {
            let why =
                format!("activations of different shapes: {:?}, {:?}", self.builder.shape(a), self.builder.shape(b));
            return Err(Problem::unsupported(why).suggest("give both operands the same shape"));
        }
        let clamp = match fused {
            Fused::Clamp(clamp) => clamp,
            Fused::Tanh => Clamp::NONE,
        };
        let name = self.builder.name(&call.hint, "add");
        let sum = self.builder.node(name, Op::Add { clamp }, vec![a, b])?;
        self.tanh(call, fused, sum)
    }

    fn sub(&mut self, call: &Call<'_>) -> Result<ValueId, Problem> {
        let fused = fused(call.op.options.i8(0, 0)?)?;
        let (a, b) = (self.constant(call, 0)?, self.constant(call, 1)?);
        let negated = format!("{}.neg", call.hint);
        let difference = match (a, b) {
            (_, Some(b)) => {
                let data = b.data.iter().map(|x| -x).collect();
                let constant = Tensor { data: Arc::new(data), ..b };
                self.builder.add_constant(&call.hint, self.activation(call, 0)?, &constant)?
            }
            (Some(a), None) => {
                let negated = self.builder.scale(&negated, self.activation(call, 1)?, -1.0)?;
                self.builder.add_constant(&call.hint, negated, &a)?
            }
            (None, None) => {
                let (a, b) = (self.activation(call, 0)?, self.activation(call, 1)?);
                let negated = self.builder.scale(&negated, b, -1.0)?;
                return self.sum(call, a, negated, fused);
            }
        };
        self.activate(call, fused, difference)
    }

    fn mul(&mut self, call: &Call<'_>) -> Result<ValueId, Problem> {
        let fused = fused(call.op.options.i8(0, 0)?)?;
        let (x, constant) = match (self.constant(call, 0)?, self.constant(call, 1)?) {
            (_, Some(constant)) => (self.activation(call, 0)?, constant),
            (Some(constant), None) => (self.activation(call, 1)?, constant),
            (None, None) => {
                let (a, b) = (self.activation(call, 0)?, self.activation(call, 1)?);
                let product = self.builder.product(&call.hint, a, b)?;
                return self.activate(call, fused, product);
            }
        };
        let product = self.builder.mul_constant(&call.hint, x, &constant)?;
        self.activate(call, fused, product)
    }

    fn div(&mut self, call: &Call<'_>) -> Result<ValueId, Problem> {
        let fused = fused(call.op.options.i8(0, 0)?)?;
        let divisor = self.needed_constant(call, 1)?;
        let data = divisor.data.iter().map(|x| 1.0 / x).collect();
        let constant = Tensor { data: Arc::new(data), ..divisor };
        let quotient = self.builder.mul_constant(&call.hint, self.activation(call, 0)?, &constant)?;
        self.activate(call, fused, quotient)
    }

    fn concat(&mut self, call: &Call<'_>) -> Result<ValueId, Problem> {
        let fused = fused(call.op.options.i8(1, 0)?)?;
        let parts = (0..call.op.inputs.len()).map(|i| self.activation(call, i)).collect::<Result<Vec<_>, _>>()?;
        let rank = parts.first().map_or(0, |&id| self.builder.shape(id).len());
        let axis = axis(call.op.options.i32(0, 0)?.into(), rank)?;
        if axis == 0 {
            return Err(Problem::unsupported("joins along the batch"));
        }
        if let [part] = parts.as_slice() {
            return self.activate(call, fused, *part);
        }
        let name = self.builder.name(&call.hint, "concat");
        let joined = self.builder.node(name, Op::Concat { axis }, parts)?;
        self.activate(call, fused, joined)
    }

    fn pad(&mut self, call: &Call<'_>) -> Result<ValueId, Problem> {
        let x = self.activation(call, 0)?;
        let filler = self.constant(call, 2)?;
        if filler.is_some_and(|filler| filler.data.iter().any(|&value| value != 0.0)) {
            return Err(Problem::unsupported("pads with another value than zero"));
        }
        let flat = self.integers(call, 1)?;
        let pads = flat.chunks_exact(2).map(|pair| match *pair {
            [before, after] => Some((usize::try_from(before).ok()?, usize::try_from(after).ok()?)),
            _ => None,
        });
        let pads = pads.collect::<Option<Vec<_>>>().ok_or_else(|| Problem::unsupported("negative padding"))?;
        let name = self.builder.name(&call.hint, "pad");
        self.builder.node(name, Op::Pad { pads }, vec![x])
    }

    fn pool(&mut self, call: &Call<'_>) -> Result<ValueId, Problem> {
        let options = &call.op.options;
        let x = self.activation(call, 0)?;
        let stride = [positive(options.i32(2, 1)?)?, positive(options.i32(1, 1)?)?];
        let kernel = [positive(options.i32(4, 1)?)?, positive(options.i32(3, 1)?)?];
        let pad = self.padding(options.i8(0, 0)?, x, kernel, stride, [1, 1])?;
        let fused = fused(options.i8(5, 0)?)?;
        let clamp = match fused {
            Fused::Clamp(clamp) => clamp,
            Fused::Tanh => Clamp::NONE,
        };
        let pool = Pool { kernel, stride, pad, clamp };
        let op = if call.kind == "MAX_POOL_2D" { Op::MaxPool(pool) } else { Op::AvgPool(pool) };
        let name = self.builder.name(&call.hint, op.name());
        let pooled = self.builder.node(name, op, vec![x])?;
        self.tanh(call, fused, pooled)
    }

    fn mean(&mut self, call: &Call<'_>) -> Result<ValueId, Problem> {
        let x = self.activation(call, 0)?;
        let axes = self.integers(call, 1)?;
        let shape = self.builder.shape(x).to_vec();
        let mut axes = axes.iter().map(|&a| axis(a, shape.len())).collect::<Result<Vec<_>, _>>()?;
        axes.sort_unstable();
        let (&[_, h, w, c], [1, 2]) = (shape.as_slice(), axes.as_slice()) else {
            let problem = Problem::unsupported(format!("the mean of {shape:?} over axes {axes:?}"));
            return Err(problem.suggest("only the mean over height and width of an image is supported"));
        };
        let pool = Pool { kernel: [h, w], stride: [1, 1], pad: Padding::default(), clamp: Clamp::NONE };
        let name = self.builder.name(&call.hint, "mean");
        let mean = self.builder.node(name, Op::AvgPool(pool), vec![x])?;
        if call.op.options.bool(0)? {
            return Ok(mean);
        }
        self.builder.record_range(mean, self.model.tensor(call.output)?.range());
        self.builder.reshape(&format!("{}.flat", call.hint), mean, &[1, c])
    }

    fn clamp(&mut self, call: &Call<'_>, clamp: Clamp) -> Result<ValueId, Problem> {
        self.unary(call, Unary::Clamp(clamp))
    }

    fn unary(&mut self, call: &Call<'_>, function: Unary) -> Result<ValueId, Problem> {
        let x = self.activation(call, 0)?;
        self.builder.unary(&call.hint, function, x)
    }

    fn prelu(&mut self, call: &Call<'_>) -> Result<ValueId, Problem> {
        let slopes = self.needed_constant(call, 1)?;
        match slopes.data.split_first() {
            Some((&alpha, rest)) if rest.iter().all(|&slope| slope == alpha) => {
                self.unary(call, Unary::LeakyRelu { alpha })
            }
            _ => Err(Problem::unsupported("a slope for each channel").suggest("use leaky ReLU, with one slope")),
        }
    }

    fn softmax(&mut self, call: &Call<'_>) -> Result<ValueId, Problem> {
        let mut x = self.activation(call, 0)?;
        let beta = call.op.options.f32(0, 1.0)?;
        // Old writers leave the default 0 where they mean 1.
        if beta != 1.0 && beta != 0.0 {
            x = self.builder.scale(&format!("{}.beta", call.hint), x, beta)?;
        }
        let name = self.builder.name(&call.hint, "softmax");
        self.builder.node(name, Op::Softmax, vec![x])
    }

    /// RESHAPE by its second operand, its options or its declared output; the others by the last.
    fn reshape(&mut self, call: &Call<'_>) -> Result<ValueId, Problem> {
        let x = self.activation(call, 0)?;
        let wanted: Vec<i64> = match call.kind {
            "RESHAPE" if call.op.inputs.len() > 1 => match self.model.integers(self.operand_index(call, 1)?)? {
                Some(shape) => shape,
                None => self.declared(call)?,
            },
            _ => self.declared(call)?,
        };
        let len: usize = self.builder.shape(x).iter().product();
        let known = wanted.iter().filter_map(|&d| usize::try_from(d).ok()).try_fold(1usize, usize::checked_mul);
        let open = known.and_then(|known| len.checked_div(known)).unwrap_or(0);
        let shape: Vec<usize> = wanted.iter().map(|&d| usize::try_from(d).unwrap_or(open)).collect();
        self.builder.reshape(&call.hint, x, &shape)
    }

    fn declared(&self, call: &Call<'_>) -> Result<Vec<i64>, Problem> {
        Ok(self.model.tensor(call.output)?.shape.iter().map(|&d| i64::from(d)).collect())
    }

    fn transpose(&mut self, call: &Call<'_>) -> Result<ValueId, Problem> {
        let x = self.activation(call, 0)?;
        let rank = self.builder.shape(x).len();
        let perm = self.integers(call, 1)?.iter().map(|&a| axis(a, rank)).collect::<Result<Vec<_>, _>>()?;
        if perm.first() != Some(&0) {
            return Err(Problem::unsupported(format!("moves the batch: permutation {perm:?}")));
        }
        let name = self.builder.name(&call.hint, "transpose");
        self.builder.node(name, Op::Transpose { perm }, vec![x])
    }

    fn resize(&mut self, call: &Call<'_>) -> Result<ValueId, Problem> {
        let x = self.activation(call, 0)?;
        let options = &call.op.options;
        let (corners, centres) = match call.kind {
            "RESIZE_BILINEAR" => (options.bool(2)?, options.bool(3)?),
            _ => (options.bool(0)?, options.bool(1)?),
        };
        let coordinates = match (corners, centres) {
            (true, _) => Coordinates::AlignCorners,
            (false, true) => Coordinates::HalfPixel,
            (false, false) => Coordinates::Asymmetric,
        };
        let mode = match (call.kind, coordinates) {
            ("RESIZE_BILINEAR", _) => ResizeMode::Bilinear,
            (_, Coordinates::Asymmetric) => ResizeMode::Nearest(Rounding::Floor),
            _ => ResizeMode::Nearest(Rounding::HalfUp),
        };
        let size: Vec<usize> = self.integers(call, 1)?.iter().map(|&d| usize::try_from(d).unwrap_or(0)).collect();
        let (&[height, width], Some(&channels)) = (size.as_slice(), self.builder.shape(x).last()) else {
            return Err(Problem::Invalid(format!("resizes to {size:?}")));
        };
        let name = self.builder.name(&call.hint, "resize");
        self.builder.node_shaped(name, Op::Resize { mode, coordinates }, vec![x], &[1, height, width, channels])
    }

    fn depth_to_space(&mut self, call: &Call<'_>) -> Result<ValueId, Problem> {
        let x = self.activation(call, 0)?;
        let block = positive(call.op.options.i32(0, 0)?)?;
        let name = self.builder.name(&call.hint, "depth_to_space");
        self.builder.node(name, Op::DepthToSpace { block, order: DepthToSpaceOrder::BlockFirst }, vec![x])
    }

    /// A fused activation as a node of its own.
    fn activate(&mut self, call: &Call<'_>, fused: Fused, x: ValueId) -> Result<ValueId, Problem> {
        match fused {
            Fused::Clamp(clamp) if clamp.is_none() => Ok(x),
            Fused::Clamp(clamp) => self.builder.unary(&format!("{}.act", call.hint), Unary::Clamp(clamp), x),
            Fused::Tanh => self.tanh(call, fused, x),
        }
    }

    /// The part of a fused activation that no clamp expresses.
    fn tanh(&mut self, call: &Call<'_>, fused: Fused, x: ValueId) -> Result<ValueId, Problem> {
        match fused {
            Fused::Tanh => self.builder.unary(&format!("{}.act", call.hint), Unary::Tanh, x),
            Fused::Clamp(_) => Ok(x),
        }
    }
}

fn fused(code: i8) -> Result<Fused, Problem> {
    match code {
        0 => Ok(Fused::Clamp(Clamp::NONE)),
        1 => Ok(Fused::Clamp(Clamp::RELU)),
        2 => Ok(Fused::Clamp(RELU_N1_TO_1)),
        3 => Ok(Fused::Clamp(Clamp::RELU6)),
        4 => Ok(Fused::Tanh),
        other => Err(Problem::unsupported(format!("fused activation number {other}"))),
    }
}

fn positive(number: i32) -> Result<usize, Problem> {
    usize::try_from(number)
        .ok()
        .filter(|&n| n > 0)
        .ok_or_else(|| Problem::Invalid(format!("a stride, dilation, window or block of {number}")))
}

/// An axis that may be counted from the end.
fn axis(axis: i64, rank: usize) -> Result<usize, Problem> {
    let from_start = if axis < 0 { axis.saturating_add(rank as i64) } else { axis };
    let found = usize::try_from(from_start).ok().filter(|&axis| axis < rank);
    found.ok_or_else(|| Problem::Invalid(format!("axis {axis} of {rank} dimensions")))
}

fn unknown(kind: &str) -> Problem {
    let problem = Problem::unsupported("Pare has no such operator");
    match kind {
        "TRANSPOSE_CONV" => problem.suggest("use a resize followed by a convolution, or depth-to-space"),
        "STRIDED_SLICE" | "SLICE" | "SPLIT" | "SPLIT_V" => problem.suggest("give each part a convolution of its own"),
        "GELU" | "ELU" | "EXP" => problem.suggest("use ReLU, hard-swish or leaky ReLU"),
        "ARG_MAX" => problem.suggest("end the model at the scores and take the maximum outside"),
        "BATCH_MATMUL" => problem.suggest("use a fully connected layer with constant weights"),
        "SUM" => problem.suggest("use a mean, and scale the next layer's weights"),
        "MIRROR_PAD" => problem.suggest("pad with zeros"),
        "MINIMUM" | "MAXIMUM" => problem.suggest("use ReLU or ReLU6"),
        _ => problem,
    }
}
