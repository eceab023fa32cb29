//! The invariants of a [`Graph`], and the check that they hold.
//!
//! Importers end with it, and it runs between any two passes; every later stage relies on it and
//! checks nothing again.
//!
//! 1. Every id in a node, in `inputs` or in `outputs` exists.
//! 2. Names of values are unique, and so are names of nodes; a name is one or more of `A-Z`, `a-z`,
//!    `0-9`, `_`, `.`, `-`, `/` (the textual form and the command line rely on it).
//! 3. Single assignment: a value is a graph input, a constant or the output of one node, and only
//!    one of the three; inputs are listed once.
//! 4. Topological order: a node reads only inputs, constants and outputs of earlier nodes.
//! 5. No dimension is zero and no value has more than [`shape::MAX_ELEMENTS`] elements; an
//!    activation's first dimension, the batch, is 1.
//! 6. A constant has as many elements as its shape says, all of them finite.
//! 7. The first operand of a node is an activation; weights and biases are constants; the second
//!    operand of `mul` is a constant, that of `add` a scalar or per-channel constant or an activation
//!    of the same shape; all operands of `concat` are activations.
//! 8. The shape of a node's output is the one that [`shape::infer`] finds.
//! 9. Attributes are in their domain: clamps have `min <= max`, slopes are finite.
//! 10. A recorded range is finite and ordered.
//! 11. There is an input and an output, and no output is a constant.

use std::collections::BTreeSet;

use super::shape::{self, ShapeError};
use super::{Clamp, Graph, Node, Op, Unary, Value, ValueId};

/// The first invariant found broken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// Invariant 1.
    #[error("{place} refers to value {id}, which does not exist")]
    UnknownValue {
        /// Node or list with the reference.
        place: String,
        /// The index.
        id: u32,
    },
    /// Invariant 2.
    #[error("the name `{0}` is given twice")]
    DuplicateName(String),
    /// Invariant 2.
    #[error("`{0}` is no valid name: use letters, digits and _ . - /")]
    InvalidName(String),
    /// Invariant 3.
    #[error("value `{0}` is defined more than once")]
    DefinedTwice(String),
    /// Invariant 4.
    #[error("{place} reads value `{value}` before it is computed")]
    Undefined {
        /// Reader.
        place: String,
        /// What it reads.
        value: String,
    },
    /// Invariant 3.
    #[error("value `{0}` is neither an input nor a constant, and no node computes it")]
    Orphan(String),
    /// Invariant 5.
    #[error("value `{value}` has the shape {shape:?}: {problem}")]
    Shape {
        /// Its name.
        value: String,
        /// Its shape.
        shape: Vec<usize>,
        /// What is wrong.
        problem: &'static str,
    },
    /// Invariant 6.
    #[error("constant `{value}` has {found} elements, its shape says {expected}")]
    ConstantLength {
        /// Its name.
        value: String,
        /// By the shape.
        expected: usize,
        /// In the data.
        found: usize,
    },
    /// Invariant 6.
    #[error(
        "constant `{value}` is not finite: element {index} is NaN or infinite; the network was not trained to an end"
    )]
    NotFinite {
        /// Its name.
        value: String,
        /// First offender.
        index: usize,
    },
    /// Invariant 7.
    #[error("node `{node}`: operand {operand} (`{value}`) must be {expected}")]
    Operand {
        /// The node.
        node: String,
        /// Which operand.
        operand: usize,
        /// Its name.
        value: String,
        /// What it must be.
        expected: &'static str,
    },
    /// Invariant 8: operands that do not fit.
    #[error("node `{node}`: {source}")]
    Inference {
        /// The node.
        node: String,
        /// The reason.
        source: ShapeError,
    },
    /// Invariant 8: a result of another shape.
    #[error("node `{node}` gives {inferred:?}, but its output is declared {declared:?}")]
    OutputShape {
        /// The node.
        node: String,
        /// By its operands.
        inferred: Vec<usize>,
        /// By its output value.
        declared: Vec<usize>,
    },
    /// Invariant 9.
    #[error("node `{node}`: {problem}")]
    Attribute {
        /// The node.
        node: String,
        /// What is out of its domain.
        problem: &'static str,
    },
    /// Invariant 10.
    #[error("value `{0}` records a range that is not finite or not ordered")]
    Range(String),
    /// Invariant 11.
    #[error("the graph has no {0}")]
    Empty(&'static str),
    /// Invariant 11.
    #[error("output `{0}` is a constant")]
    ConstantOutput(String),
}

/// Checks every invariant of the module's list, in order of the graph, and reports the first that
/// does not hold.
pub fn verify(graph: &Graph) -> Result<(), VerifyError> {
    names(graph)?;
    graph.values.iter().try_for_each(value)?;
    let mut defined = vec![false; graph.values.len()];
    for (i, value) in graph.values.iter().enumerate() {
        defined[i] = value.is_constant();
    }
    for &input in &graph.inputs {
        lookup(graph, input, || "the list of inputs".to_owned())?;
        define(graph, &mut defined, input)?;
    }
    for node in &graph.nodes {
        let place = || format!("node `{}`", node.name);
        for &input in &node.inputs {
            let value = lookup(graph, input, place)?;
            if !defined[input.0 as usize] {
                return Err(VerifyError::Undefined { place: place(), value: value.name.clone() });
            }
        }
        lookup(graph, node.output, place)?;
        operands(graph, node)?;
        attributes(node)?;
        let shapes: Vec<&[usize]> = node.inputs.iter().map(|&id| graph.value(id).shape.as_slice()).collect();
        let declared = &graph.value(node.output).shape;
        let inferred = shape::infer(&node.op, &shapes, declared)
            .map_err(|source| VerifyError::Inference { node: node.name.clone(), source })?;
        if inferred != *declared {
            return Err(VerifyError::OutputShape { node: node.name.clone(), inferred, declared: declared.clone() });
        }
        define(graph, &mut defined, node.output)?;
    }
    if let Some(orphan) = defined.iter().position(|&defined| !defined) {
        return Err(VerifyError::Orphan(graph.values[orphan].name.clone()));
    }
    outputs(graph)
}

/// Whether the textual form and the command line can write `name` without quotes.
pub fn is_valid_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(is_name_byte)
}

/// Whether `byte` may stand in a name.
pub fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-' | b'/')
}

fn names(graph: &Graph) -> Result<(), VerifyError> {
    let unique = |names: &mut dyn Iterator<Item = &String>| {
        let mut seen = BTreeSet::new();
        for name in names {
            if !is_valid_name(name) {
                return Err(VerifyError::InvalidName(name.clone()));
            }
            if !seen.insert(name) {
                return Err(VerifyError::DuplicateName(name.clone()));
            }
        }
        Ok(())
    };
    unique(&mut std::iter::once(&graph.name))?;
    unique(&mut graph.values.iter().map(|value| &value.name))?;
    unique(&mut graph.nodes.iter().map(|node| &node.name))
}

fn value(value: &Value) -> Result<(), VerifyError> {
    let shape_error =
        |problem| Err(VerifyError::Shape { value: value.name.clone(), shape: value.shape.clone(), problem });
    let len = match shape::checked_len(&value.shape) {
        Some(0) => return shape_error("a dimension is zero"),
        None => return shape_error("more than 2^28 elements"),
        Some(len) => len,
    };
    if !value.is_constant() && value.shape.first() != Some(&1) {
        return shape_error("the first dimension of an activation, the batch, must be 1");
    }
    if let Some(data) = &value.data {
        if data.len() != len {
            return Err(VerifyError::ConstantLength { value: value.name.clone(), expected: len, found: data.len() });
        }
        if let Some(index) = data.iter().position(|x| !x.is_finite()) {
            return Err(VerifyError::NotFinite { value: value.name.clone(), index });
        }
    }
    match value.range {
        Some((min, max)) if !(min.is_finite() && max.is_finite() && min <= max) => {
            Err(VerifyError::Range(value.name.clone()))
        }
        _ => Ok(()),
    }
}

fn lookup(graph: &Graph, id: ValueId, place: impl Fn() -> String) -> Result<&Value, VerifyError> {
    graph.values.get(id.0 as usize).ok_or_else(|| VerifyError::UnknownValue { place: place(), id: id.0 })
}

fn define(graph: &Graph, defined: &mut [bool], id: ValueId) -> Result<(), VerifyError> {
    if std::mem::replace(&mut defined[id.0 as usize], true) {
        return Err(VerifyError::DefinedTwice(graph.value(id).name.clone()));
    }
    Ok(())
}

fn operands(graph: &Graph, node: &Node) -> Result<(), VerifyError> {
    for (operand, &id) in node.inputs.iter().enumerate() {
        let value = graph.value(id);
        let problem = match (&node.op, operand) {
            (Op::Concat { .. }, _) | (_, 0) if value.is_constant() => Some("an activation"),
            (Op::Concat { .. }, _) | (_, 0) => None,
            (Op::Conv2d(_) | Op::FullyConnected { .. } | Op::Mul, _) if !value.is_constant() => Some("a constant"),
            (Op::Add { .. }, 1) if value.is_constant() && value.shape.len() > 1 => {
                Some("a constant scalar, one number a channel, or an activation")
            }
            (Op::Add { .. }, 1) if !value.is_constant() && value.shape != graph.input_shape(node, 0) => {
                Some("of the first operand's shape")
            }
            _ => None,
        };
        if let Some(expected) = problem {
            let value = value.name.clone();
            return Err(VerifyError::Operand { node: node.name.clone(), operand, value, expected });
        }
    }
    Ok(())
}

fn attributes(node: &Node) -> Result<(), VerifyError> {
    let clamp_holds = |clamp: &Clamp| clamp.min <= clamp.max;
    let (holds, problem) = match &node.op {
        Op::Conv2d(conv) => (clamp_holds(&conv.clamp), "the clamp has min > max"),
        Op::FullyConnected { clamp } | Op::Add { clamp } | Op::Unary(Unary::Clamp(clamp)) => {
            (clamp_holds(clamp), "the clamp has min > max")
        }
        Op::AvgPool(pool) | Op::MaxPool(pool) => (clamp_holds(&pool.clamp), "the clamp has min > max"),
        Op::Unary(Unary::LeakyRelu { alpha }) => (alpha.is_finite(), "the slope is not finite"),
        Op::Unary(Unary::HardSigmoid { alpha, beta }) => {
            (alpha.is_finite() && beta.is_finite(), "slope or offset is not finite")
        }
        _ => (true, ""),
    };
    if holds { Ok(()) } else { Err(VerifyError::Attribute { node: node.name.clone(), problem }) }
}

fn outputs(graph: &Graph) -> Result<(), VerifyError> {
    if graph.inputs.is_empty() {
        return Err(VerifyError::Empty("input"));
    }
    if graph.outputs.is_empty() {
        return Err(VerifyError::Empty("output"));
    }
    for &id in &graph.outputs {
        let value = lookup(graph, id, || "the list of outputs".to_owned())?;
        if value.is_constant() {
            return Err(VerifyError::ConstantOutput(value.name.clone()));
        }
    }
    Ok(())
}
