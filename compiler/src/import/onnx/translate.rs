//! Operators of ONNX into the graph, one function a family.

use std::collections::BTreeMap;

use rten_onnx::onnx::{AttributeProto, DataType, GraphProto, NodeProto, TypeProto, ValueInfoProto};

use super::constant::{self, Constant, axes, lowest_and_highest, reshape_dims, squeezed, unsqueezed};
use crate::import::builder::{Builder, MAX_NODES, Problem, Tensor};
use crate::import::{ImportError, UnsupportedNode};
use crate::ir::shape::{checked_len, windows};
use crate::ir::{
    Clamp, Conv2d, Coordinates, DepthToSpaceOrder, Graph, Op, Padding, Pool, ResizeMode, Rounding, Unary, ValueId,
};

/// How an image is stored: axis `i` in memory is axis `CHANNELS_LAST[i]` of the file.
const CHANNELS_LAST: [usize; 4] = [0, 2, 3, 1];

/// Translates the nodes of a graph in order.
pub(super) struct Translator<'a> {
    proto: &'a GraphProto,
    opset: i64,
    file: String,
    builder: Builder,
    values: BTreeMap<&'a str, Known>,
    /// Elements of constants that may still be made by folding.
    budget: usize,
}

/// What a name of the file stands for.
#[derive(Clone, Debug)]
enum Known {
    Constant(Constant),
    Activation(Activation),
    /// The result of an unsupported node, of unknown shape.
    Unknown,
}

/// A value of the graph as the file sees it.
#[derive(Clone, Debug)]
struct Activation {
    id: ValueId,
    /// In the file's order of axes.
    dims: Vec<usize>,
    /// Axis `i` in memory is axis `order[i]` of the file.
    order: Vec<usize>,
}

/// One node with its operands.
struct Call<'a> {
    kind: &'a str,
    hint: String,
    attributes: Attributes<'a>,
    operands: Vec<Option<Known>>,
}

/// The attributes of a node, by name.
pub(super) struct Attributes<'a>(&'a [AttributeProto]);

impl<'a> Attributes<'a> {
    fn find(&self, name: &str) -> Option<&'a AttributeProto> {
        self.0.iter().find(|attribute| attribute.name.as_deref() == Some(name))
    }

    pub(super) fn int(&self, name: &str, default: i64) -> i64 {
        self.find(name).and_then(|attribute| attribute.i).unwrap_or(default)
    }

    pub(super) fn ints(&self, name: &str) -> Option<Vec<i64>> {
        self.find(name).map(|attribute| attribute.ints.clone())
    }

    pub(super) fn float(&self, name: &str, default: f32) -> f32 {
        self.find(name).and_then(|attribute| attribute.f).unwrap_or(default)
    }

    pub(super) fn text(&self, name: &str, default: &'a str) -> &'a str {
        self.find(name).and_then(|attribute| attribute.s.as_deref()).unwrap_or(default)
    }

    pub(super) fn tensor(&self, name: &str) -> Result<Option<Constant>, Problem> {
        self.find(name).and_then(|attribute| attribute.t.as_ref()).map(Constant::decode).transpose()
    }

    /// Sizes, `count` of them; `default` for each where the attribute is absent.
    fn sizes(&self, name: &str, count: usize, default: usize) -> Result<Vec<usize>, Problem> {
        let Some(given) = self.ints(name) else { return Ok(vec![default; count]) };
        let sizes = given.iter().map(|&n| usize::try_from(n).ok()).collect::<Option<Vec<usize>>>();
        let sizes = sizes.filter(|sizes| sizes.len() == count);
        sizes.ok_or_else(|| Problem::unsupported(format!("{name} = {given:?}, not {count} sizes")))
    }

    fn pair(&self, name: &str, default: usize) -> Result<[usize; 2], Problem> {
        match self.sizes(name, 2, default)?.as_slice() {
            &[a, b] => Ok([a, b]),
            _ => Err(Problem::Invalid(format!("{name} is no pair"))),
        }
    }
}

impl<'a> Translator<'a> {
    pub(super) fn new(
        proto: &'a GraphProto,
        opset: i64,
        name: &str,
        file_bytes: usize,
    ) -> Result<Translator<'a>, ImportError> {
        let mut translator = Translator {
            proto,
            opset,
            file: name.to_owned(),
            builder: Builder::new(name),
            values: BTreeMap::new(),
            budget: file_bytes.saturating_mul(4).saturating_add(1 << 16),
        };
        if proto.node.len() > MAX_NODES {
            let problem = format!("{} nodes, more than any model for a small device has", proto.node.len());
            return Err(ImportError::Malformed { file: name.to_owned(), problem });
        }
        for tensor in &proto.initializer {
            let name = tensor.name.as_deref().unwrap_or_default();
            match Constant::decode(tensor) {
                Ok(constant) => {
                    translator.values.insert(name, Known::Constant(constant));
                }
                Err(problem) => {
                    translator.builder.refuse(problem, described(name, "initializer", vec![]))?;
                    translator.values.insert(name, Known::Unknown);
                }
            }
        }
        for input in &proto.input {
            translator.input(input)?;
        }
        Ok(translator)
    }

    /// The graph, or everything that did not translate.
    pub(super) fn run(mut self) -> Result<Graph, ImportError> {
        for (position, node) in self.proto.node.iter().enumerate() {
            self.node(position, node)?;
        }
        let mut outputs = Vec::new();
        for output in &self.proto.output {
            outputs.push(self.output(output.name.as_deref().unwrap_or_default())?);
        }
        self.builder.finish(outputs)
    }

    fn input(&mut self, info: &'a ValueInfoProto) -> Result<(), ImportError> {
        let name = info.name.as_deref().unwrap_or_default();
        if self.values.contains_key(name) {
            return Ok(()); // Old files list initialisers among the inputs.
        }
        let dims = declared_dims(info);
        let mut dims = dims.unwrap_or_default();
        let open = dims.iter().skip(1).any(|&d| d == 0);
        if dims.first() == Some(&0) {
            dims[0] = 1;
        }
        if open || dims.first() != Some(&1) {
            let problem = Problem::unsupported(format!("an input of shape {dims:?} (0 where the file leaves it open)"));
            let problem = problem.suggest("export the model with fixed sizes and a first dimension of 1, the batch");
            self.builder.refuse(problem, described(name, "input", vec![]))?;
        }
        if checked_len(&dims).is_none() {
            let problem = format!("the input `{name}` has the shape {dims:?}");
            return Err(ImportError::Malformed { file: self.file.clone(), problem });
        }
        let order = self.input_order(name, dims.len());
        let shape = order.iter().filter_map(|&axis| dims.get(axis).copied()).collect();
        let id = self.builder.input(name, shape, None);
        self.values.insert(name, Known::Activation(Activation { id, dims, order }));
        Ok(())
    }

    /// Channels last, unless the model brings them there from the file's own order at once.
    fn input_order(&self, name: &str, rank: usize) -> Vec<usize> {
        let mut readers = self.proto.node.iter().filter(|node| node.input.iter().any(|input| input == name)).peekable();
        let is_nhwc = readers.peek().is_some()
            && readers.all(|node| {
                let perm = Attributes(&node.attribute).ints("perm");
                node.op_type.as_deref() == Some("Transpose") && perm.as_deref() == Some(&[0, 3, 1, 2])
            });
        if rank == 4 && !is_nhwc { CHANNELS_LAST.to_vec() } else { (0..rank).collect() }
    }

    fn output(&mut self, name: &str) -> Result<ValueId, ImportError> {
        let Some(Known::Activation(activation)) = self.values.get(name).cloned() else {
            if let Some(Known::Unknown) = self.values.get(name) {
                return Ok(self.builder.placeholder(vec![]));
            }
            let problem = format!("the output `{name}` is computed by no node");
            return Err(ImportError::Malformed { file: self.file.clone(), problem });
        };
        let is_transposed = self.proto.node.iter().any(|node| {
            node.op_type.as_deref() == Some("Transpose") && node.output.first().map(String::as_str) == Some(name)
        });
        let rank = activation.dims.len();
        let order = if rank == 4 && !is_transposed { CHANNELS_LAST.to_vec() } else { (0..rank).collect() };
        match self.stored(&activation, &order, name) {
            Ok(id) => Ok(id),
            Err(problem) => {
                self.builder.refuse(problem, described(name, "output", vec![]))?;
                Ok(activation.id)
            }
        }
    }

    fn node(&mut self, position: usize, node: &'a NodeProto) -> Result<(), ImportError> {
        let kind = node.op_type.as_deref().unwrap_or_default();
        let output = node.output.first().map(String::as_str).unwrap_or_default();
        let given = node.name.as_deref().filter(|name| !name.is_empty());
        let hint = short_name(given.unwrap_or(output));
        let name = given.map_or_else(|| format!("{kind} at position {position}"), str::to_owned);
        let mut operands = Vec::new();
        for input in &node.input {
            operands.push(match (input.as_str(), self.values.get(input.as_str())) {
                ("", _) => None,
                (_, Some(known)) => Some(known.clone()),
                (_, None) => {
                    let problem = format!("reads `{input}` before it is computed");
                    return Err(ImportError::Node { file: self.file.clone(), node: name, problem });
                }
            });
        }
        let call = Call { kind, hint, attributes: Attributes(&node.attribute), operands };
        let is_unknown = call.operands.iter().flatten().any(|known| matches!(known, Known::Unknown));
        let is_standard = matches!(node.domain.as_deref(), None | Some("" | "ai.onnx"));
        let result = if !is_standard {
            Err(Problem::unsupported(format!(
                "an operator of the domain `{}`",
                node.domain.as_deref().unwrap_or_default()
            )))
        } else if !OPERATORS.contains(&kind) {
            Err(unknown(kind))
        } else if is_unknown {
            Ok(Known::Unknown)
        } else {
            self.translate(&call)
        };
        let known = match result {
            Ok(known) => known,
            Err(problem) => {
                let shapes = call.operands.iter().flatten().filter_map(Known::dims).collect();
                self.builder.refuse(problem, described(&name, kind, shapes))?;
                self.stand_in(output)
            }
        };
        for extra in node.output.iter().skip(1) {
            self.values.insert(extra, Known::Unknown);
        }
        self.values.insert(output, known);
        Ok(())
    }

    /// What the nodes after an unsupported one see: the shape that the file records, if it does.
    fn stand_in(&mut self, output: &str) -> Known {
        let info = self.proto.value_info.iter().find(|info| info.name.as_deref() == Some(output));
        let is_sound = |dims: &Vec<usize>| checked_len(dims).is_some() && dims.iter().skip(1).all(|&d| d > 0);
        let dims = info.and_then(declared_dims).filter(is_sound);
        match dims {
            Some(mut dims) if matches!(dims.first(), Some(0 | 1)) => {
                dims[0] = 1;
                let order = if dims.len() == 4 { CHANNELS_LAST.to_vec() } else { (0..dims.len()).collect() };
                let shape = order.iter().filter_map(|&axis| dims.get(axis).copied()).collect();
                Known::Activation(Activation { id: self.builder.placeholder(shape), dims, order })
            }
            _ => Known::Unknown,
        }
    }

    fn translate(&mut self, call: &Call<'_>) -> Result<Known, Problem> {
        if let Some(constant) = self.folded(call)? {
            return Ok(Known::Constant(constant));
        }
        let result = match call.kind {
            "Conv" => self.conv(call)?,
            "Gemm" => self.gemm(call)?,
            "MatMul" => self.matmul(call)?,
            "BatchNormalization" => self.batch_norm(call)?,
            "Add" => self.add(call)?,
            "Sub" => self.sub(call)?,
            "Mul" => self.mul(call)?,
            "Div" => self.div(call)?,
            "Neg" => self.scale(call, -1.0)?,
            "Min" | "Max" | "Clip" => self.clip(call)?,
            "Relu" => self.unary(call, Unary::Clamp(Clamp::RELU))?,
            "LeakyRelu" => self.unary(call, Unary::LeakyRelu { alpha: call.attributes.float("alpha", 0.01) })?,
            "PRelu" => self.prelu(call)?,
            "Sigmoid" => self.unary(call, Unary::Sigmoid)?,
            "Tanh" => self.unary(call, Unary::Tanh)?,
            "HardSigmoid" => {
                let (alpha, beta) = (call.attributes.float("alpha", 0.2), call.attributes.float("beta", 0.5));
                self.unary(call, Unary::HardSigmoid { alpha, beta })?
            }
            "HardSwish" => self.unary(call, Unary::HardSwish)?,
            "Softmax" => self.softmax(call)?,
            "Concat" => self.concat(call)?,
            "Pad" => self.pad(call)?,
            "AveragePool" | "MaxPool" => self.pool(call)?,
            "GlobalAveragePool" | "GlobalMaxPool" => self.global_pool(call)?,
            "ReduceMean" => self.reduce_mean(call)?,
            "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" => self.reshape(call)?,
            "Transpose" => self.transpose(call)?,
            "Resize" | "Upsample" => self.resize(call)?,
            "DepthToSpace" => self.depth_to_space(call)?,
            "Expand" => self.expand(call)?,
            "Identity" | "Dropout" | "Cast" => self.activation(call, 0)?,
            "QuantizeLinear" | "DequantizeLinear" => self.quantised(call)?,
            "Shape" => {
                let x = self.activation(call, 0)?;
                return Ok(Known::Constant(Constant::integers(x.dims.iter().map(|&d| d as i64))));
            }
            kind => return Err(unknown(kind)),
        };
        Ok(Known::Activation(result))
    }

    /// The result of a node that reads constants alone.
    fn folded(&mut self, call: &Call<'_>) -> Result<Option<Constant>, Problem> {
        if call.kind == "Constant" {
            return constant_node(&call.attributes).map(Some);
        }
        let is_constant = |operand: &Option<Known>| matches!(operand, None | Some(Known::Constant(_)));
        if !call.operands.iter().all(is_constant) {
            return Ok(None);
        }
        let operands: Vec<Option<Constant>> = (0..call.operands.len()).map(|i| call.constant(i).cloned()).collect();
        let Some(folded) = constant::fold(call.kind, &call.attributes, &operands)? else {
            let problem = Problem::unsupported("all its operands are constants");
            return Err(problem.suggest("fold constants before export (onnxsim)"));
        };
        match self.budget.checked_sub(folded.data.len()) {
            Some(left) => self.budget = left,
            None => return Err(Problem::Invalid("its constants grow beyond the size of the file".to_owned())),
        }
        Ok(Some(folded))
    }

    // Operands.

    fn activation(&self, call: &Call<'_>, i: usize) -> Result<Activation, Problem> {
        match call.operands.get(i) {
            Some(Some(Known::Activation(activation))) => Ok(activation.clone()),
            Some(Some(Known::Constant(_))) => {
                let problem = Problem::unsupported(format!("operand {i} is a constant where an activation belongs"));
                Err(problem.suggest("swap the operands, or fold constants before export (onnxsim)"))
            }
            _ => Err(Problem::Invalid(format!("operand {i} is missing"))),
        }
    }

    /// The activation stored with its axes in another order, through a transpose where need be.
    fn stored(&mut self, x: &Activation, order: &[usize], hint: &str) -> Result<ValueId, Problem> {
        if x.order == order {
            return Ok(x.id);
        }
        let shape: Vec<usize> = order.iter().filter_map(|&axis| x.dims.get(axis).copied()).collect();
        let place = |axis: &usize| x.order.iter().position(|stored| stored == axis);
        let perm: Vec<usize> = order.iter().filter_map(place).collect();
        let hint = format!("{hint}.order");
        if moves_only_ones(&perm, self.builder.shape(x.id)) {
            return self.builder.reshape(&hint, x.id, &shape);
        }
        let name = self.builder.name(&hint, "transpose");
        self.builder.node(name, Op::Transpose { perm }, vec![x.id])
    }

    /// The activation as an image with its channels last.
    fn image(&mut self, call: &Call<'_>, i: usize) -> Result<(ValueId, [usize; 3]), Problem> {
        let x = self.activation(call, i)?;
        let &[_, c, h, w] = x.dims.as_slice() else {
            let problem = Problem::unsupported(format!("works on {:?}, not on an image", x.dims));
            return Err(problem
                .suggest("reshape to [1, channels, height, width] around it; 1-D layers are 2-D ones of height 1"));
        };
        Ok((self.stored(&x, &CHANNELS_LAST, &call.hint)?, [h, w, c]))
    }

    /// The activation with axis `last` last in memory.
    fn ending_with(&mut self, call: &Call<'_>, x: &Activation, last: usize) -> Result<Activation, Problem> {
        if x.order.last() == Some(&last) {
            return Ok(x.clone());
        }
        let order: Vec<usize> = if x.dims.len() == 4 && last == 1 {
            CHANNELS_LAST.to_vec()
        } else {
            (0..x.dims.len()).filter(|&axis| axis != last).chain([last]).collect()
        };
        let id = self.stored(x, &order, &call.hint)?;
        Ok(Activation { id, dims: x.dims.clone(), order })
    }

    /// A result stored with its channels last.
    fn channels_last(&self, id: ValueId) -> Activation {
        let shape = self.builder.shape(id);
        match *shape {
            [n, h, w, c] => Activation { id, dims: vec![n, c, h, w], order: CHANNELS_LAST.to_vec() },
            _ => self.in_order(id),
        }
    }

    /// A result stored in the file's own order.
    fn in_order(&self, id: ValueId) -> Activation {
        let dims = self.builder.shape(id).to_vec();
        Activation { id, order: (0..dims.len()).collect(), dims }
    }

    // Layers with weights.

    fn conv(&mut self, call: &Call<'_>) -> Result<Activation, Problem> {
        let (x, size) = self.image(call, 0)?;
        let weights = call.needed_constant(1)?;
        let &[_, _, kh, kw] = weights.dims.as_slice() else {
            return Err(Problem::Invalid(format!("weights of shape {:?}", weights.dims)));
        };
        let stride = call.attributes.pair("strides", 1)?;
        let dilation = call.attributes.pair("dilations", 1)?;
        let pad = call.padding([size[0], size[1]], [kh, kw], stride, dilation)?;
        let groups = usize::try_from(call.attributes.int("group", 1)).unwrap_or(0);
        let weights = weights.transposed(&CHANNELS_LAST).map(|weights| weights.tensor());
        let weights = weights.ok_or_else(|| Problem::Invalid("weights of another rank".to_owned()))?;
        let bias = call.optional_constant(2)?.map(Constant::tensor);
        let op = Op::Conv2d(Conv2d { stride, pad, dilation, groups, clamp: Clamp::NONE });
        let result = self.weighted(call, op, x, weights, bias)?;
        Ok(self.channels_last(result))
    }

    fn weighted(
        &mut self,
        call: &Call<'_>,
        op: Op,
        x: ValueId,
        weights: Tensor,
        bias: Option<Tensor>,
    ) -> Result<ValueId, Problem> {
        let name = self.builder.name(&call.hint, "layer");
        let mut inputs = vec![x, self.builder.constant(&name, "w", weights)];
        if let Some(bias) = bias {
            inputs.push(self.builder.constant(&name, "b", bias));
        }
        self.builder.node(name, op, inputs)
    }

    /// `alpha * A * B + beta * C`.
    fn gemm(&mut self, call: &Call<'_>) -> Result<Activation, Problem> {
        let x = self.activation(call, 0)?;
        let x = self.stored(&x, &(0..x.dims.len()).collect::<Vec<_>>(), &call.hint)?;
        if call.attributes.int("transA", 0) != 0 {
            return Err(Problem::unsupported("transposes its first operand, which moves the batch"));
        }
        let (alpha, beta) = (call.attributes.float("alpha", 1.0), call.attributes.float("beta", 1.0));
        let weights = call.needed_constant(1)?;
        let weights =
            if call.attributes.int("transB", 0) != 0 { Some(weights.clone()) } else { weights.transposed(&[1, 0]) };
        let mut weights = weights.ok_or_else(|| Problem::Invalid("weights that are no matrix".to_owned()))?.tensor();
        scale_all(&mut weights, alpha);
        let n = weights.shape.first().copied().unwrap_or(0);
        let bias = match call.optional_constant(2)? {
            None => None,
            Some(bias) => {
                let mut bias = bias.tensor();
                scale_all(&mut bias, beta);
                Some(spread(bias, n)?)
            }
        };
        let op = Op::FullyConnected { clamp: Clamp::NONE };
        let result = self.weighted(call, op, x, weights, bias)?;
        Ok(self.in_order(result))
    }

    fn matmul(&mut self, call: &Call<'_>) -> Result<Activation, Problem> {
        let x = self.activation(call, 0)?;
        let x = self.stored(&x, &(0..x.dims.len()).collect::<Vec<_>>(), &call.hint)?;
        let weights = call.needed_constant(1)?.transposed(&[1, 0]);
        let weights = weights.ok_or_else(|| Problem::unsupported("a product with a constant that is no matrix"))?;
        let result = self.weighted(call, Op::FullyConnected { clamp: Clamp::NONE }, x, weights.tensor(), None)?;
        Ok(self.in_order(result))
    }

    /// Unfused batch normalisation: a product and a sum for each channel, which the passes fold into
    /// the layer before.
    fn batch_norm(&mut self, call: &Call<'_>) -> Result<Activation, Problem> {
        if call.attributes.int("training_mode", 0) != 0 {
            return Err(Problem::unsupported("in training mode").suggest("export the model in evaluation mode"));
        }
        let x = self.activation(call, 0)?;
        let x = self.ending_with(call, &x, 1)?;
        let list = |i| call.needed_constant(i).map(|constant| constant.data.as_slice());
        let (scale, shift, mean, variance) = (list(1)?, list(2)?, list(3)?, list(4)?);
        let epsilon = f64::from(call.attributes.float("epsilon", 1e-5));
        let factors: Vec<f64> = scale.iter().zip(variance).map(|(s, v)| s / (v + epsilon).sqrt()).collect();
        let offsets = shift.iter().zip(mean).zip(&factors).map(|((b, m), f)| (b - m * f) as f32).collect();
        let factors: Vec<f32> = factors.iter().map(|&f| f as f32).collect();
        let per_channel = |data: Vec<f32>| Tensor { shape: vec![data.len()], data: data.into() };
        let scaled = self.builder.mul_constant(&format!("{}.mul", call.hint), x.id, &per_channel(factors))?;
        let id = self.builder.add_constant(&call.hint, scaled, &per_channel(offsets))?;
        Ok(Activation { id, ..x })
    }

    // Element by element.

    fn add(&mut self, call: &Call<'_>) -> Result<Activation, Problem> {
        match (call.constant(0), call.constant(1)) {
            (None, None) => {
                let (a, b) = (self.activation(call, 0)?, self.activation(call, 1)?);
                self.sum(call, a, b)
            }
            (None, Some(constant)) => self.affine(call, 0, constant, Builder::add_constant),
            (Some(constant), _) => self.affine(call, 1, constant, Builder::add_constant),
        }
    }

    fn sub(&mut self, call: &Call<'_>) -> Result<Activation, Problem> {
        let negated = format!("{}.neg", call.hint);
        match (call.constant(0), call.constant(1)) {
            (_, Some(constant)) => {
                let constant =
                    Constant { data: constant.data.iter().map(|x| -x).collect::<Vec<_>>().into(), ..constant.clone() };
                self.affine(call, 0, &constant, Builder::add_constant)
            }
            (Some(constant), None) => {
                let x = self.activation(call, 1)?;
                let x = Activation { id: self.builder.scale(&negated, x.id, -1.0)?, ..x };
                self.affine_of(call, &x, constant, Builder::add_constant)
            }
            (None, None) => {
                let (a, b) = (self.activation(call, 0)?, self.activation(call, 1)?);
                let b = Activation { id: self.builder.scale(&negated, b.id, -1.0)?, ..b };
                self.sum(call, a, b)
            }
        }
    }

    fn mul(&mut self, call: &Call<'_>) -> Result<Activation, Problem> {
        match (call.constant(0), call.constant(1)) {
            (None, None) => {
                let (a, b) = (self.activation(call, 0)?, self.activation(call, 1)?);
                let b = self.stored(&b, &a.order, &call.hint)?;
                Ok(Activation { id: self.builder.product(&call.hint, a.id, b)?, ..a })
            }
            (None, Some(constant)) => self.affine(call, 0, constant, Builder::mul_constant),
            (Some(constant), _) => self.affine(call, 1, constant, Builder::mul_constant),
        }
    }

    fn div(&mut self, call: &Call<'_>) -> Result<Activation, Problem> {
        let divisor = call.needed_constant(1)?;
        let inverse = divisor.data.iter().map(|x| 1.0 / x).collect::<Vec<_>>();
        let constant = Constant { data: inverse.into(), ..divisor.clone() };
        self.affine(call, 0, &constant, Builder::mul_constant)
    }

    fn scale(&mut self, call: &Call<'_>, factor: f32) -> Result<Activation, Problem> {
        let x = self.activation(call, 0)?;
        Ok(Activation { id: self.builder.scale(&call.hint, x.id, factor)?, ..x })
    }

    /// The sum of two activations of one shape.
    fn sum(&mut self, call: &Call<'_>, a: Activation, b: Activation) -> Result<Activation, Problem> {
        if a.dims != b.dims {
            let problem = Problem::unsupported(format!("activations of different shapes: {:?}, {:?}", a.dims, b.dims));
            return Err(problem.suggest("give both operands the same shape"));
        }
        let other = self.stored(&b, &a.order, &call.hint)?;
        let name = self.builder.name(&call.hint, "add");
        let id = self.builder.node(name, Op::Add { clamp: Clamp::NONE }, vec![a.id, other])?;
        Ok(Activation { id, ..a })
    }

    fn affine(
        &mut self,
        call: &Call<'_>,
        operand: usize,
        constant: &Constant,
        apply: fn(&mut Builder, &str, ValueId, &Tensor) -> Result<ValueId, Problem>,
    ) -> Result<Activation, Problem> {
        let x = self.activation(call, operand)?;
        self.affine_of(call, &x, constant, apply)
    }

    /// Adds or multiplies a constant that varies along one axis at most, which is put last.
    fn affine_of(
        &mut self,
        call: &Call<'_>,
        x: &Activation,
        constant: &Constant,
        apply: fn(&mut Builder, &str, ValueId, &Tensor) -> Result<ValueId, Problem>,
    ) -> Result<Activation, Problem> {
        let rank = x.dims.len();
        let long: Vec<usize> = (0..constant.dims.len()).filter(|&i| constant.dims.get(i) != Some(&1)).collect();
        let refused = || {
            let problem = Problem::unsupported(format!("a constant of shape {:?} against {:?}", constant.dims, x.dims));
            problem.suggest("use a scalar or one number a channel")
        };
        let lead = rank.checked_sub(constant.dims.len()).ok_or_else(refused)?;
        let x = match long.as_slice() {
            [] => x.clone(),
            [axis] if constant.dims.get(*axis) == x.dims.get(lead + axis) => self.ending_with(call, x, lead + axis)?,
            _ => return Err(refused()),
        };
        let mut tensor = constant.tensor();
        tensor.shape = vec![tensor.data.len()];
        Ok(Activation { id: apply(&mut self.builder, &call.hint, x.id, &tensor)?, ..x })
    }

    fn unary(&mut self, call: &Call<'_>, function: Unary) -> Result<Activation, Problem> {
        let x = self.activation(call, 0)?;
        Ok(Activation { id: self.builder.unary(&call.hint, function, x.id)?, ..x })
    }

    /// Clip, and Min or Max with a number.
    fn clip(&mut self, call: &Call<'_>) -> Result<Activation, Problem> {
        let bound = |i: usize, name: &str, open: f32| match call.optional_constant(i)? {
            Some(constant) => {
                let number = constant.scalar().map(|x| x as f32);
                number
                    .ok_or_else(|| Problem::unsupported(format!("a bound of shape {:?}, not a number", constant.dims)))
            }
            None => Ok(call.attributes.float(name, open)),
        };
        let clamp = match call.kind {
            "Min" if call.operands.len() == 2 => Clamp { min: f32::NEG_INFINITY, max: bound(1, "", f32::INFINITY)? },
            "Max" if call.operands.len() == 2 => Clamp { min: bound(1, "", f32::NEG_INFINITY)?, max: f32::INFINITY },
            "Clip" => Clamp { min: bound(1, "min", f32::NEG_INFINITY)?, max: bound(2, "max", f32::INFINITY)? },
            _ => return Err(Problem::unsupported("more than two operands")),
        };
        self.unary(call, Unary::Clamp(clamp))
    }

    fn prelu(&mut self, call: &Call<'_>) -> Result<Activation, Problem> {
        let slopes = call.needed_constant(1)?;
        match slopes.data.split_first() {
            Some((&alpha, rest)) if rest.iter().all(|&slope| slope == alpha) => {
                self.unary(call, Unary::LeakyRelu { alpha: alpha as f32 })
            }
            _ => Err(Problem::unsupported("a slope for each channel").suggest("use leaky ReLU, with one slope")),
        }
    }

    fn softmax(&mut self, call: &Call<'_>) -> Result<Activation, Problem> {
        let x = self.activation(call, 0)?;
        let default = if self.opset < 13 { 1 } else { -1 };
        let axis = axes(&[call.attributes.int("axis", default)], x.dims.len())?.first().copied().unwrap_or(0);
        let behind: usize = x.dims.iter().skip(axis + 1).product();
        if self.opset < 13 && behind != 1 {
            let problem = Problem::unsupported("before opset 13, a softmax over several axes at once");
            return Err(problem.suggest("flatten before it, or export with opset 13 or later"));
        }
        if axis == 0 {
            return Err(Problem::unsupported("a softmax over the batch"));
        }
        let x = self.ending_with(call, &x, axis)?;
        let name = self.builder.name(&call.hint, "softmax");
        Ok(Activation { id: self.builder.node(name, Op::Softmax, vec![x.id])?, ..x })
    }

    // Space.

    fn concat(&mut self, call: &Call<'_>) -> Result<Activation, Problem> {
        let first = self.activation(call, 0)?;
        let axis = axes(&[call.attributes.int("axis", 1)], first.dims.len())?.first().copied().unwrap_or(0);
        let mut parts = vec![first.id];
        let mut dims = first.dims.clone();
        for i in 1..call.operands.len() {
            let part = self.activation(call, i)?;
            if part.dims.len() != dims.len() {
                return Err(Problem::Invalid(format!("joins {:?} with {:?}", first.dims, part.dims)));
            }
            if let (Some(d), Some(more)) = (dims.get_mut(axis), part.dims.get(axis)) {
                *d = d.saturating_add(*more);
            }
            parts.push(self.stored(&part, &first.order, &call.hint)?);
        }
        let place = first.order.iter().position(|&stored| stored == axis).unwrap_or(0);
        if parts.len() == 1 {
            return Ok(first);
        }
        if place == 0 {
            return Err(Problem::unsupported("joins along the batch"));
        }
        let name = self.builder.name(&call.hint, "concat");
        let id = self.builder.node(name, Op::Concat { axis: place }, parts)?;
        Ok(Activation { id, dims, order: first.order })
    }

    fn pad(&mut self, call: &Call<'_>) -> Result<Activation, Problem> {
        let x = self.activation(call, 0)?;
        let filler =
            call.optional_constant(2)?.map_or(Some(call.attributes.float("value", 0.0).into()), Constant::scalar);
        if call.attributes.text("mode", "constant") != "constant" || filler != Some(0.0) {
            return Err(Problem::unsupported("pads with something else than zeros").suggest("pad with zeros"));
        }
        let flat = match call.optional_constant(1)? {
            Some(pads) => pads.to_integers(),
            None => call.attributes.ints("pads").unwrap_or_default(),
        };
        let rank = x.dims.len();
        let along = match call.optional_constant(3)? {
            Some(given) => axes(&given.to_integers(), rank)?,
            None => (0..rank).collect(),
        };
        let pair = |axis: &usize| -> Option<(usize, usize)> {
            let Some(i) = along.iter().position(|padded| padded == axis) else { return Some((0, 0)) };
            let size = |i: usize| usize::try_from(*flat.get(i)?).ok();
            Some((size(i)?, size(i + along.len())?))
        };
        let pads = x.order.iter().map(pair).collect::<Option<Vec<_>>>();
        let pads =
            pads.ok_or_else(|| Problem::unsupported(format!("pads by {flat:?}")).suggest("crop with a convolution"))?;
        let name = self.builder.name(&call.hint, "pad");
        let id = self.builder.node(name, Op::Pad { pads }, vec![x.id])?;
        Ok(self.with_order(id, x.order))
    }

    /// A result whose memory order is known: the file's dimensions follow.
    fn with_order(&self, id: ValueId, order: Vec<usize>) -> Activation {
        let shape = self.builder.shape(id);
        let size = |axis: usize| order.iter().position(|&stored| stored == axis).and_then(|i| shape.get(i)).copied();
        let dims = (0..shape.len()).filter_map(size).collect();
        Activation { id, dims, order }
    }

    fn pool(&mut self, call: &Call<'_>) -> Result<Activation, Problem> {
        let (mut x, [h, w, _]) = self.image(call, 0)?;
        let kernel = call.attributes.pair("kernel_shape", 0)?;
        let stride = call.attributes.pair("strides", 1)?;
        if call.attributes.pair("dilations", 1)? != [1, 1] {
            return Err(Problem::unsupported("a dilated pool"));
        }
        let mut pad = call.padding([h, w], kernel, stride, [1, 1])?;
        let counts_padding = call.kind == "AveragePool" && call.attributes.int("count_include_pad", 0) != 0;
        let mut size = [h, w];
        if counts_padding && pad != Padding::default() {
            let pads = vec![(0, 0), (pad.top, pad.bottom), (pad.left, pad.right), (0, 0)];
            let name = self.builder.name(&format!("{}.pad", call.hint), "pad");
            x = self.builder.node(name, Op::Pad { pads }, vec![x])?;
            if let &[_, h, w, _] = self.builder.shape(x) {
                size = [h, w];
            }
            pad = Padding::default();
        }
        if call.attributes.int("ceil_mode", 0) != 0 {
            pad.bottom = ceiled(size[0], [pad.top, pad.bottom], kernel[0], stride[0]);
            pad.right = ceiled(size[1], [pad.left, pad.right], kernel[1], stride[1]);
        }
        let pool = Pool { kernel, stride, pad, clamp: Clamp::NONE };
        let op = if call.kind == "MaxPool" { Op::MaxPool(pool) } else { Op::AvgPool(pool) };
        let name = self.builder.name(&call.hint, op.name());
        let id = self.builder.node(name, op, vec![x])?;
        Ok(self.channels_last(id))
    }

    fn global_pool(&mut self, call: &Call<'_>) -> Result<Activation, Problem> {
        let (x, [h, w, _]) = self.image(call, 0)?;
        let pool = Pool { kernel: [h, w], stride: [1, 1], pad: Padding::default(), clamp: Clamp::NONE };
        let op = if call.kind == "GlobalMaxPool" { Op::MaxPool(pool) } else { Op::AvgPool(pool) };
        let name = self.builder.name(&call.hint, op.name());
        let id = self.builder.node(name, op, vec![x])?;
        Ok(self.channels_last(id))
    }

    /// The mean over two axes of four, as a pool over the whole image of the other.
    fn reduce_mean(&mut self, call: &Call<'_>) -> Result<Activation, Problem> {
        let x = self.activation(call, 0)?;
        let given = match call.optional_constant(1)? {
            Some(given) => given.to_integers(),
            None => call.attributes.ints("axes").unwrap_or_default(),
        };
        let mut reduced = axes(&given, x.dims.len())?;
        reduced.sort_unstable();
        let kept: Vec<usize> = (1..x.dims.len()).filter(|axis| !reduced.contains(axis)).collect();
        let (&[a, b], &[c], 4) = (reduced.as_slice(), kept.as_slice(), x.dims.len()) else {
            let problem = Problem::unsupported(format!("the mean of {:?} over axes {reduced:?}", x.dims));
            return Err(problem.suggest("only the mean over height and width of an image is supported"));
        };
        let order = vec![0, a, b, c];
        let id = self.stored(&x, &order, &call.hint)?;
        let &[_, h, w, channels] = self.builder.shape(id) else { return Err(Problem::Invalid("no image".to_owned())) };
        let pool = Pool { kernel: [h, w], stride: [1, 1], pad: Padding::default(), clamp: Clamp::NONE };
        let name = self.builder.name(&call.hint, "mean");
        let mean = self.builder.node(name, Op::AvgPool(pool), vec![id])?;
        if call.attributes.int("keepdims", 1) != 0 {
            return Ok(self.with_order(mean, order));
        }
        let flat = self.builder.reshape(&format!("{}.flat", call.hint), mean, &[1, channels])?;
        Ok(self.in_order(flat))
    }

    fn reshape(&mut self, call: &Call<'_>) -> Result<Activation, Problem> {
        let x = self.activation(call, 0)?;
        let given = |attribute: &str| match call.optional_constant(1)? {
            Some(constant) => Ok::<_, Problem>(Some(constant.to_integers())),
            None => Ok(call.attributes.ints(attribute)),
        };
        let dims = match call.kind {
            "Reshape" => {
                let wanted = given("shape")?.unwrap_or_default();
                reshape_dims(&x.dims, &wanted, call.attributes.int("allowzero", 0) != 0)?
            }
            "Squeeze" => squeezed(&x.dims, given("axes")?)?,
            "Unsqueeze" => unsqueezed(&x.dims, given("axes")?)?,
            _ => {
                let axis = call.attributes.int("axis", 1);
                let axis = if axis < 0 { axis.saturating_add(x.dims.len() as i64) } else { axis };
                let axis = usize::try_from(axis).unwrap_or(usize::MAX).min(x.dims.len());
                vec![x.dims.iter().take(axis).product(), x.dims.iter().skip(axis).product()]
            }
        };
        if dims == x.dims {
            return Ok(x);
        }
        // Elements follow the file's order of axes, whatever the order in memory.
        let in_order: Vec<usize> = (0..x.dims.len()).collect();
        let perm: Vec<usize> = in_order.iter().filter_map(|axis| x.order.iter().position(|s| s == axis)).collect();
        let id = if moves_only_ones(&perm, self.builder.shape(x.id)) {
            x.id
        } else {
            self.stored(&x, &in_order, &call.hint)?
        };
        let id = self.builder.reshape(&call.hint, id, &dims)?;
        Ok(self.in_order(id))
    }

    /// Only renumbers the axes.
    fn transpose(&mut self, call: &Call<'_>) -> Result<Activation, Problem> {
        let x = self.activation(call, 0)?;
        let rank = x.dims.len();
        let reversed = || (0..rank as i64).rev().collect();
        let perm = axes(&call.attributes.ints("perm").unwrap_or_else(reversed), rank)?;
        if perm.first() != Some(&0) {
            let problem = Problem::unsupported(format!("moves the batch: permutation {perm:?}"));
            return Err(problem.suggest("keep the batch as the first dimension"));
        }
        let renumbered = |axis: &usize| perm.iter().position(|from| from == axis);
        let order = x.order.iter().map(renumbered).collect::<Option<Vec<usize>>>();
        let order = order.filter(|_| perm.len() == rank);
        let order = order.ok_or_else(|| Problem::Invalid(format!("permutation {perm:?} of {rank} axes")))?;
        let dims = perm.iter().filter_map(|&axis| x.dims.get(axis).copied()).collect();
        Ok(Activation { id: x.id, dims, order })
    }

    fn resize(&mut self, call: &Call<'_>) -> Result<Activation, Problem> {
        let (x, [h, w, c]) = self.image(call, 0)?;
        let (scales, sizes) = match (call.kind, call.operands.len()) {
            ("Upsample", 1) => {
                (call.attributes.find("scales").map(|a| a.floats.iter().map(|&s| s.into()).collect()), None)
            }
            ("Upsample", _) | ("Resize", 2) => (call.optional_constant(1)?.map(|s| s.data.to_vec()), None),
            _ => (call.optional_constant(2)?.map(|s| s.data.to_vec()), call.optional_constant(3)?),
        };
        let scales: Option<Vec<f64>> = scales.filter(|scales: &Vec<f64>| !scales.is_empty());
        let size = match (&scales, sizes) {
            (_, Some(sizes)) if !sizes.data.is_empty() => match sizes.to_integers().as_slice() {
                &[1, channels, height, width] if usize::try_from(channels) == Ok(c) => [height as f64, width as f64],
                sizes => return Err(Problem::unsupported(format!("resizes to {sizes:?}"))),
            },
            (Some(scales), _) => match scales.as_slice() {
                &[1.0, 1.0, sh, sw] if whole(h as f64 * sh) && whole(w as f64 * sw) => {
                    [(h as f64 * sh).round(), (w as f64 * sw).round()]
                }
                scales => {
                    let problem = Problem::unsupported(format!("scales {scales:?}, which give no whole size"));
                    return Err(problem.suggest("scale height and width to whole sizes, or give the sizes"));
                }
            },
            _ => return Err(Problem::Invalid("neither scales nor sizes".to_owned())),
        };
        let [height, width] = size.map(|edge| edge as usize);
        let (mode, coordinates) = self.resize_mode(call, height.min(width))?;
        let name = self.builder.name(&call.hint, "resize");
        let op = Op::Resize { mode, coordinates };
        let id = self.builder.node_shaped(name, op, vec![x], &[1, height, width, c])?;
        Ok(self.channels_last(id))
    }

    fn resize_mode(&self, call: &Call<'_>, smallest: usize) -> Result<(ResizeMode, Coordinates), Problem> {
        let is_old = call.kind == "Upsample" || self.opset < 11;
        let default = if is_old { "asymmetric" } else { "half_pixel" };
        let coordinates = match call.attributes.text("coordinate_transformation_mode", default) {
            "half_pixel" => Coordinates::HalfPixel,
            "pytorch_half_pixel" if smallest > 1 => Coordinates::HalfPixel,
            "asymmetric" => Coordinates::Asymmetric,
            "align_corners" => Coordinates::AlignCorners,
            other => {
                return Err(Problem::unsupported(format!("coordinate_transformation_mode {other}"))
                    .suggest("use half_pixel, asymmetric or align_corners"));
            }
        };
        let default = if is_old { "floor" } else { "round_prefer_floor" };
        let rounding = match call.attributes.text("nearest_mode", default) {
            "floor" => Rounding::Floor,
            "ceil" => Rounding::Ceil,
            "round_prefer_floor" => Rounding::HalfDown,
            "round_prefer_ceil" => Rounding::HalfUp,
            other => return Err(Problem::unsupported(format!("nearest_mode {other}"))),
        };
        match call.attributes.text("mode", "nearest") {
            "nearest" => Ok((ResizeMode::Nearest(rounding), coordinates)),
            "linear" | "bilinear" if call.attributes.int("antialias", 0) == 0 => {
                Ok((ResizeMode::Bilinear, coordinates))
            }
            other => {
                Err(Problem::unsupported(format!("mode {other}")).suggest("use nearest or linear without antialias"))
            }
        }
    }

    fn depth_to_space(&mut self, call: &Call<'_>) -> Result<Activation, Problem> {
        let (x, _) = self.image(call, 0)?;
        let block = usize::try_from(call.attributes.int("blocksize", 0)).unwrap_or(0);
        let order = match call.attributes.text("mode", "DCR") {
            "DCR" => DepthToSpaceOrder::BlockFirst,
            "CRD" => DepthToSpaceOrder::ChannelFirst,
            other => return Err(Problem::Invalid(format!("mode {other}"))),
        };
        let name = self.builder.name(&call.hint, "depth_to_space");
        let id = self.builder.node(name, Op::DepthToSpace { block, order }, vec![x])?;
        Ok(self.channels_last(id))
    }

    fn expand(&mut self, call: &Call<'_>) -> Result<Activation, Problem> {
        let x = self.activation(call, 0)?;
        let wanted = call.needed_constant(1)?.to_integers();
        let lead = x.dims.len().checked_sub(wanted.len());
        let keeps = |lead: usize| {
            wanted.iter().zip(x.dims.iter().skip(lead)).all(|(&d, &have)| d == 1 || usize::try_from(d) == Ok(have))
        };
        if lead.is_some_and(keeps) {
            return Ok(x);
        }
        Err(Problem::unsupported(format!("repeats {:?} to {wanted:?}", x.dims)))
    }

    /// QuantizeLinear and DequantizeLinear change codes, not numbers: they vanish, the range stays.
    fn quantised(&mut self, call: &Call<'_>) -> Result<Activation, Problem> {
        let x = self.activation(call, 0)?;
        let scale = call.needed_constant(1)?.scalar();
        let zero = call.optional_constant(2)?;
        let kind = zero.map_or(DataType::UINT8, |zero| zero.kind);
        let scale = scale.ok_or_else(|| Problem::unsupported("an activation quantised for each channel"))?;
        if let (Some((lowest, highest)), Some(zero)) =
            (lowest_and_highest(kind), zero.map_or(Some(0.0), Constant::scalar))
        {
            let (min, max) = (((lowest - zero) * scale) as f32, ((highest - zero) * scale) as f32);
            let is_range = min.is_finite() && max.is_finite() && min <= max;
            self.builder.record_range(x.id, is_range.then_some((min, max)));
        }
        Ok(x)
    }
}

impl Call<'_> {
    fn constant(&self, i: usize) -> Option<&Constant> {
        match self.operands.get(i) {
            Some(Some(Known::Constant(constant))) => Some(constant),
            _ => None,
        }
    }

    /// A constant operand that may be left out, but not computed.
    fn optional_constant(&self, i: usize) -> Result<Option<&Constant>, Problem> {
        match self.operands.get(i) {
            Some(Some(Known::Constant(constant))) => Ok(Some(constant)),
            None | Some(None) => Ok(None),
            Some(Some(_)) => {
                Err(Problem::unsupported(format!("operand {i} is computed at run time; it must be a constant")))
            }
        }
    }

    fn needed_constant(&self, i: usize) -> Result<&Constant, Problem> {
        self.optional_constant(i)?.ok_or_else(|| Problem::Invalid(format!("operand {i} is missing")))
    }

    /// Padding in numbers, from `pads` or `auto_pad`.
    fn padding(
        &self,
        size: [usize; 2],
        kernel: [usize; 2],
        stride: [usize; 2],
        dilation: [usize; 2],
    ) -> Result<Padding, Problem> {
        let same = |axis: usize| -> Option<usize> {
            let (kernel, stride, dilation, size) =
                (*kernel.get(axis)?, *stride.get(axis)?, *dilation.get(axis)?, *size.get(axis)?);
            let extent = kernel.checked_sub(1)?.checked_mul(dilation)?.checked_add(1)?;
            let steps = size.checked_add(stride)?.checked_sub(1)?.checked_div(stride)?.checked_sub(1)?;
            Some(steps.checked_mul(stride)?.checked_add(extent)?.saturating_sub(size))
        };
        let scheme = self.attributes.text("auto_pad", "NOTSET");
        let [height, width] = match scheme {
            "NOTSET" | "" => {
                return match self.attributes.sizes("pads", 4, 0)?.as_slice() {
                    &[top, left, bottom, right] => Ok(Padding { top, bottom, left, right }),
                    _ => Err(Problem::Invalid("pads are no four sizes".to_owned())),
                };
            }
            "VALID" => return Ok(Padding::default()),
            "SAME_UPPER" | "SAME_LOWER" => {
                let sides = same(0).zip(same(1));
                sides
                    .map(|(h, w)| [h, w])
                    .ok_or_else(|| Problem::Invalid(format!("a window of {kernel:?} on {size:?}")))?
            }
            other => return Err(Problem::Invalid(format!("auto_pad {other}"))),
        };
        // The odd one goes to the end, or to the start.
        let split = |total: usize| if scheme == "SAME_UPPER" { total / 2 } else { total - total / 2 };
        let (top, left) = (split(height), split(width));
        Ok(Padding { top, bottom: height - top, left, right: width - left })
    }
}

impl Known {
    fn dims(&self) -> Option<Vec<usize>> {
        match self {
            Known::Constant(constant) => Some(constant.dims.clone()),
            Known::Activation(activation) => Some(activation.dims.clone()),
            Known::Unknown => None,
        }
    }
}

/// Whether a permutation keeps the order of all axes above 1, so that memory stays as it is.
fn moves_only_ones(perm: &[usize], shape: &[usize]) -> bool {
    let long: Vec<usize> = perm.iter().copied().filter(|&axis| shape.get(axis) != Some(&1)).collect();
    long.is_sorted()
}

/// Padding at the end that makes room for the last, partial window of `ceil_mode`. A window that
/// would start in the padding is left out.
fn ceiled(size: usize, pads: [usize; 2], kernel: usize, stride: usize) -> usize {
    let extended = || -> Option<usize> {
        let full = windows(size, pads, kernel, stride, 1)?;
        let start = full.checked_mul(stride)?;
        let covered = start.checked_sub(stride)?.checked_add(kernel)?;
        let padded = size.checked_add(pads[0])?.checked_add(pads[1])?;
        if covered < padded && start < size.checked_add(pads[0])? {
            start.checked_add(kernel)?.checked_sub(size)?.checked_sub(pads[0])
        } else {
            Some(pads[1])
        }
    };
    extended().unwrap_or(pads[1])
}

fn whole(edge: f64) -> bool {
    (edge - edge.round()).abs() < 1e-4 && (1.0..1e6).contains(&edge)
}

fn scale_all(tensor: &mut Tensor, factor: f32) {
    if factor != 1.0 {
        tensor.data = tensor.data.iter().map(|x| x * factor).collect::<Vec<_>>().into();
    }
}

/// A bias of one number for each of `n` outputs.
fn spread(bias: Tensor, n: usize) -> Result<Tensor, Problem> {
    match bias.data.as_slice() {
        &[x] => Ok(Tensor { shape: vec![n], data: vec![x; n].into() }),
        data if data.len() == n => Ok(Tensor { shape: vec![n], data: bias.data }),
        _ => Err(Problem::unsupported(format!("a bias of shape {:?} for {n} outputs", bias.shape))),
    }
}

/// The value of a Constant node.
fn constant_node(attributes: &Attributes<'_>) -> Result<Constant, Problem> {
    if let Some(constant) = attributes.tensor("value")? {
        return Ok(constant);
    }
    let float = |data: Vec<f64>, dims| Constant { dims, kind: DataType::FLOAT, data: data.into() };
    let find = |name| attributes.find(name);
    if let Some(x) = find("value_float").and_then(|attribute| attribute.f) {
        Ok(float(vec![x.into()], vec![]))
    } else if let Some(list) = find("value_floats") {
        Ok(float(list.floats.iter().map(|&x| x.into()).collect(), vec![list.floats.len()]))
    } else if let Some(x) = find("value_int").and_then(|attribute| attribute.i) {
        Ok(Constant { dims: vec![], ..Constant::integers([x]) })
    } else if let Some(list) = find("value_ints") {
        Ok(Constant::integers(list.ints.iter().copied()))
    } else {
        Err(Problem::unsupported("a constant of a kind that is no number"))
    }
}

/// Dimensions of a declared value, 0 where the file leaves one open; `None` without any.
fn declared_dims(info: &ValueInfoProto) -> Option<Vec<usize>> {
    let tensor = info.r#type.as_ref().and_then(|r#type: &TypeProto| r#type.tensor_type.as_ref())?;
    let dims = tensor.shape.as_ref()?.dim.iter().take(9);
    Some(dims.map(|dim| dim.dim_value.and_then(|d| usize::try_from(d).ok()).unwrap_or(0)).collect())
}

fn described(node: &str, op: &str, shapes: Vec<Vec<usize>>) -> UnsupportedNode {
    UnsupportedNode { node: node.to_owned(), op: op.to_owned(), shapes, why: String::new(), suggestion: None }
}

/// The last component of a path that has a letter in it: exporters write `/features/0/Conv`.
fn short_name(name: &str) -> String {
    name.rsplit('/').find(|part| !part.is_empty()).unwrap_or_default().to_owned()
}

/// Every operator with a translation or folded on constants.
#[rustfmt::skip]
const OPERATORS: [&str; 46] = [
    "Add", "AveragePool", "BatchNormalization", "Cast", "Clip", "Concat", "Constant", "ConstantOfShape", "Conv",
    "DepthToSpace", "DequantizeLinear", "Div", "Dropout", "Expand", "Flatten", "Gather", "Gemm", "GlobalAveragePool",
    "GlobalMaxPool", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "MatMul", "Max", "MaxPool", "Min", "Mul",
    "Neg", "PRelu", "Pad", "QuantizeLinear", "ReduceMean", "Relu", "Reshape", "Resize", "Shape", "Sigmoid", "Slice",
    "Softmax", "Squeeze", "Sub", "Tanh", "Transpose", "Unsqueeze", "Upsample",
];

fn unknown(kind: &str) -> Problem {
    let problem = Problem::unsupported("Pare has no such operator");
    match kind {
        "ConvTranspose" => problem.suggest("use a resize followed by a convolution, or depth-to-space"),
        "Slice" | "Split" | "Gather" => problem.suggest("give each part a convolution of its own"),
        "Gelu" | "Elu" | "Selu" | "Mish" | "Erf" | "Softplus" => problem.suggest("use ReLU, hard-swish or leaky ReLU"),
        "ArgMax" => problem.suggest("end the model at the scores and take the maximum outside"),
        "LSTM" | "GRU" | "RNN" => problem.suggest("use convolutions over time"),
        "InstanceNormalization" | "LayerNormalization" | "GroupNormalization" => {
            problem.suggest("use batch normalisation")
        }
        "ReduceSum" => problem.suggest("use a mean, and scale the next layer's weights"),
        _ if kind.starts_with("QLinear") || kind.ends_with("Integer") => {
            problem.suggest("export with QuantizeLinear/DequantizeLinear pairs (QDQ) around float operators")
        }
        _ => problem,
    }
}
