//! Grows a [`Graph`] node by node: infers shapes, gives names, gathers what is unsupported.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{ImportError, UnsupportedNode};
use crate::ir::shape::{self, ShapeError};
use crate::ir::verify::{is_name_byte, verify};
use crate::ir::{Clamp, Graph, Node, Op, Unary, Value, ValueId};

/// Nodes that a file may have: bounds the time that a hostile one can take.
pub(super) const MAX_NODES: usize = 4096;

/// Bytes of a node's name; its constants add two.
const MAX_NAME: usize = 22;

/// Why one node does not translate.
#[derive(Debug)]
pub(super) enum Problem {
    /// Pare has no operator for it.
    Unsupported { why: String, suggestion: Option<String> },
    /// It makes no sense in its own format.
    Invalid(String),
}

impl Problem {
    pub(super) fn unsupported(why: impl Into<String>) -> Problem {
        Problem::Unsupported { why: why.into(), suggestion: None }
    }

    pub(super) fn suggest(self, rewrite: impl Into<String>) -> Problem {
        match self {
            Problem::Unsupported { why, .. } => Problem::Unsupported { why, suggestion: Some(rewrite.into()) },
            invalid => invalid,
        }
    }
}

impl From<ShapeError> for Problem {
    fn from(error: ShapeError) -> Problem {
        Problem::Invalid(error.to_string())
    }
}

/// Numbers with a shape: a constant of the file, decoded.
#[derive(Clone, Debug)]
pub(super) struct Tensor {
    pub shape: Vec<usize>,
    pub data: Arc<Vec<f32>>,
}

pub(super) struct Builder {
    graph: Graph,
    /// Names given, and the suffix to try next when one is wanted again.
    names: BTreeMap<String, usize>,
    unsupported: Vec<UnsupportedNode>,
}

impl Builder {
    pub(super) fn new(name: &str) -> Builder {
        let graph = Graph { name: sanitise(name, "model", 64), ..Graph::default() };
        Builder { graph, names: BTreeMap::new(), unsupported: Vec::new() }
    }

    pub(super) fn input(&mut self, hint: &str, shape: Vec<usize>, range: Option<(f32, f32)>) -> ValueId {
        let name = self.name(hint, "input");
        let id = self.graph.add_value(Value { name, shape, data: None, range });
        self.graph.inputs.push(id);
        id
    }

    /// A constant that belongs to the node `owner`: `role` is `w` for weights, `b` for a bias, `c`
    /// for the operand of an addition or product.
    pub(super) fn constant(&mut self, owner: &str, role: &str, tensor: Tensor) -> ValueId {
        let name = self.unused(format!("{owner}.{role}"));
        self.graph.add_value(Value { name, shape: tensor.shape, data: Some(tensor.data), range: None })
    }

    /// A name for a node that nothing bears yet, as like `hint` as can be.
    pub(super) fn name(&mut self, hint: &str, fallback: &str) -> String {
        let name = sanitise(hint, fallback, MAX_NAME);
        self.unused(name)
    }

    /// Adds a node under a name from [`Builder::name`]; its output bears the same.
    pub(super) fn node(&mut self, name: String, op: Op, inputs: Vec<ValueId>) -> Result<ValueId, Problem> {
        self.node_shaped(name, op, inputs, &[])
    }

    /// Adds a node whose operator chooses its shape: reshape, resize.
    pub(super) fn node_shaped(
        &mut self,
        name: String,
        op: Op,
        inputs: Vec<ValueId>,
        declared: &[usize],
    ) -> Result<ValueId, Problem> {
        let shapes: Vec<&[usize]> = inputs.iter().map(|&id| self.shape(id)).collect();
        let shape = shape::infer(&op, &shapes, declared)?;
        if shape.first() != Some(&1) {
            let problem = Problem::unsupported(format!("the result {shape:?} has no batch of 1 in front"));
            return Err(problem.suggest("keep the batch as the first dimension, of size 1"));
        }
        let output = self.graph.add_value(Value { name: name.clone(), shape, data: None, range: None });
        self.graph.nodes.push(Node { name, op, inputs, output });
        Ok(output)
    }

    /// The same elements under another shape; nothing to do when it is the same.
    pub(super) fn reshape(&mut self, hint: &str, x: ValueId, shape: &[usize]) -> Result<ValueId, Problem> {
        if self.shape(x) == shape {
            return Ok(x);
        }
        let name = self.name(hint, "reshape");
        self.node_shaped(name, Op::Reshape, vec![x], shape)
    }

    pub(super) fn unary(&mut self, hint: &str, function: Unary, x: ValueId) -> Result<ValueId, Problem> {
        let op = Op::Unary(function);
        let name = self.name(hint, op.name());
        self.node(name, op, vec![x])
    }

    /// `x + constant`, the constant broadcast to the last dimension.
    pub(super) fn add_constant(&mut self, hint: &str, x: ValueId, constant: &Tensor) -> Result<ValueId, Problem> {
        let name = self.name(hint, "add");
        let constant = self.channel_constant(&name, x, constant)?;
        self.node(name, Op::Add { clamp: Clamp::NONE }, vec![x, constant])
    }

    /// `x * constant`, the constant broadcast to the last dimension.
    pub(super) fn mul_constant(&mut self, hint: &str, x: ValueId, constant: &Tensor) -> Result<ValueId, Problem> {
        let name = self.name(hint, "mul");
        let constant = self.channel_constant(&name, x, constant)?;
        self.node(name, Op::Mul, vec![x, constant])
    }

    /// `x * factor`.
    pub(super) fn scale(&mut self, hint: &str, x: ValueId, factor: f32) -> Result<ValueId, Problem> {
        self.mul_constant(hint, x, &Tensor { shape: vec![], data: Arc::new(vec![factor]) })
    }

    /// `a * b`, which is supported where the one is a gate of the other: hard-swish written out, as
    /// exporters do that lack the operator.
    pub(super) fn product(&mut self, hint: &str, a: ValueId, b: ValueId) -> Result<ValueId, Problem> {
        let gated = self.gate(b, a).map(|factor| (a, factor)).or_else(|| self.gate(a, b).map(|factor| (b, factor)));
        let Some((x, factor)) = gated else {
            let problem = Problem::unsupported("the product of two activations");
            return Err(problem.suggest("multiply by a constant, or leave out squeeze-and-excitation"));
        };
        if factor == 1.0 {
            return self.unary(hint, Unary::HardSwish, x);
        }
        let swish = self.unary(&format!("{hint}.swish"), Unary::HardSwish, x)?;
        self.scale(hint, swish, factor)
    }

    /// The factor `f` for which `gate` is `f * min(max(x + 3, 0), 6) / 6`.
    fn gate(&self, gate: ValueId, x: ValueId) -> Option<f32> {
        let node = self.graph.node(self.graph.producer(gate)?);
        let operand = *node.inputs.first()?;
        let number = |node: &Node| match self.graph.value(*node.inputs.get(1)?).data.as_ref()?.as_slice() {
            &[number] => Some(number),
            _ => None,
        };
        match node.op {
            Op::Unary(Unary::HardSigmoid { alpha, beta: 0.5 }) if operand == x => {
                ((alpha - 1.0 / 6.0).abs() < 1e-6).then_some(1.0)
            }
            Op::Unary(Unary::Clamp(Clamp::RELU6)) => {
                let sum = self.graph.node(self.graph.producer(operand)?);
                let is_shifted = matches!(sum.op, Op::Add { clamp: Clamp::NONE }) && sum.inputs.first() == Some(&x);
                (is_shifted && number(sum) == Some(3.0)).then_some(6.0)
            }
            Op::Mul => {
                let factor = self.gate(operand, x)? * number(node)?;
                Some(if (factor - 1.0).abs() < 1e-6 { 1.0 } else { factor })
            }
            _ => None,
        }
    }

    /// A scalar, or as many numbers as `x` has channels with no other dimension above 1.
    fn channel_constant(&mut self, owner: &str, x: ValueId, constant: &Tensor) -> Result<ValueId, Problem> {
        let channels = self.shape(x).last().copied();
        let outer_ones = constant.shape.split_last().is_some_and(|(_, outer)| outer.iter().all(|&d| d == 1));
        let shape = if constant.data.len() == 1 {
            vec![]
        } else if outer_ones && constant.shape.last().copied() == channels {
            vec![constant.data.len()]
        } else {
            let why = format!("a constant of shape {:?} against {:?}", constant.shape, self.shape(x));
            return Err(Problem::unsupported(why).suggest("use a scalar or one number a channel"));
        };
        Ok(self.constant(owner, "c", Tensor { shape, data: constant.data.clone() }))
    }

    pub(super) fn shape(&self, id: ValueId) -> &[usize] {
        &self.graph.value(id).shape
    }

    /// Notes the real range that the file records for a value; the first record stands, being
    /// nearest to what computes it.
    pub(super) fn record_range(&mut self, id: ValueId, range: Option<(f32, f32)>) {
        if let Some(value) = self.graph.values.get_mut(id.0 as usize) {
            value.range = value.range.or(range);
        }
    }

    /// Stands for the result of an unsupported node, so that the nodes after it can be checked.
    pub(super) fn placeholder(&mut self, shape: Vec<usize>) -> ValueId {
        let shape = if shape::checked_len(&shape).is_some() { shape } else { vec![1] };
        self.graph.add_value(Value { name: String::new(), shape, data: None, range: None })
    }

    /// Notes a node that does not translate. Nonsense after an unsupported node may come of standing
    /// in for it, so only the first error of that kind counts, and only with nothing before it.
    pub(super) fn refuse(&mut self, problem: Problem, node: UnsupportedNode) -> Result<(), ImportError> {
        match problem {
            Problem::Unsupported { why, suggestion } => {
                self.unsupported.push(UnsupportedNode { why, suggestion, ..node });
                Ok(())
            }
            Problem::Invalid(problem) if self.unsupported.is_empty() => {
                Err(ImportError::Node { file: self.graph.name.clone(), node: node.node, problem })
            }
            Problem::Invalid(_) => Ok(()),
        }
    }

    /// The finished graph, verified.
    pub(super) fn finish(mut self, outputs: Vec<ValueId>) -> Result<Graph, ImportError> {
        let file = self.graph.name.clone();
        if !self.unsupported.is_empty() {
            return Err(ImportError::Unsupported { file, items: self.unsupported });
        }
        self.graph.outputs = outputs;
        let graph = self.graph.compact();
        match verify(&graph) {
            Ok(()) => Ok(graph),
            Err(source) => Err(ImportError::Invalid { file, source }),
        }
    }

    /// `name`, or `name` cut and numbered where something bears it.
    fn unused(&mut self, name: String) -> String {
        let mut candidate = name.clone();
        while self.names.contains_key(&candidate) {
            let number = self.names.entry(name.clone()).or_insert(2);
            let suffix = format!("_{number}");
            *number += 1;
            let kept = name.len().min(MAX_NAME.saturating_sub(suffix.len()));
            candidate = format!("{}{suffix}", name.get(..kept).unwrap_or_default());
        }
        self.names.insert(candidate.clone(), 2);
        candidate
    }
}

/// `hint` with unusual characters replaced and cut to `max` bytes, which spares a part after its last
/// dot; `fallback` where nothing is left.
fn sanitise(hint: &str, fallback: &str, max: usize) -> String {
    let usual = |c: char| if u8::try_from(c).is_ok_and(is_name_byte) { c } else { '_' };
    let name: String = hint.trim_matches('/').chars().map(usual).collect();
    let (stem, part) = match name.rsplit_once('.') {
        Some((stem, part)) if name.len() > max && part.len() < max / 2 => (stem, format!(".{part}")),
        _ => (name.as_str(), String::new()),
    };
    let kept = stem.len().min(max - part.len());
    let name = format!("{}{part}", stem.get(..kept).unwrap_or_default());
    if name.is_empty() { fallback.to_owned() } else { name }
}
