//! From a graph to steps: which operator a node is, and which of its constants are trained.

use super::step::Step;
use super::{Net, NetError, Norms};
use crate::eval::fused_clamp;
use crate::ir::{Graph, Node, Op, ValueId};
use crate::train::batch_norm::{Averaging, BatchNorm};
use crate::train::ops::Operator;
use crate::train::ops::affine::{Affine, Kind as AffineKind};
use crate::train::ops::conv::Conv;
use crate::train::ops::depthwise::Depthwise;
use crate::train::ops::linear::Linear;
use crate::train::ops::linear_map::LinearMap;
use crate::train::ops::max_pool::MaxPool;
use crate::train::ops::simple::{Concat, Softmax, Sum};
use crate::train::parameter::{Parameter, Role};
use crate::train::weight_map::WeightMaps;

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
            mapped: Default::default(),
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
            maps: WeightMaps::default(),
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
