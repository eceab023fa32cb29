//! Small networks at random: every operator, odd shapes, weights of which training left some for dead.

use pare::ir::shape::infer;
use pare::ir::{
    Clamp, Conv2d, Coordinates, DepthToSpaceOrder, Graph, Node, Op, Padding, Pool, ResizeMode, Rounding, Unary, Value,
    ValueId,
};

use crate::problems::Random;

/// A network of some `nodes` operators; one or two outputs. Images have up to `extent` rows and columns.
pub fn random_graph(seed: u64, nodes: usize, extent: usize) -> Graph {
    let most = 40 * extent * extent;
    let mut growing = Growing { graph: Graph::default(), random: Random(seed), activations: Vec::new(), most };
    growing.graph.name = "random".to_owned();
    let shape = vec![1, growing.between(1, extent), growing.between(1, extent), growing.between(1, 6)];
    let input = growing.value("x".to_owned(), shape, None);
    growing.graph.inputs.push(input);
    growing.activations.push(input);
    for _ in 0..4 * nodes {
        if growing.graph.nodes.len() >= nodes {
            break;
        }
        growing.grow();
    }
    let last = growing.last();
    growing.graph.outputs.push(last);
    if growing.chance(4) {
        let other = growing.any();
        growing.graph.outputs.push(other);
    }
    growing.graph.compact()
}

struct Growing {
    graph: Graph,
    random: Random,
    /// Inputs and results so far.
    activations: Vec<ValueId>,
    /// Most elements of a value.
    most: usize,
}

impl Growing {
    fn below(&mut self, n: usize) -> usize {
        (self.random.next() % n as u64) as usize
    }

    fn between(&mut self, from: usize, to: usize) -> usize {
        from + self.below(to - from + 1)
    }

    fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }

    /// From -1 to 1.
    fn real(&mut self) -> f32 {
        (self.random.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    fn last(&self) -> ValueId {
        self.activations[self.activations.len() - 1]
    }

    fn any(&mut self) -> ValueId {
        let at = self.below(self.activations.len());
        self.activations[at]
    }

    fn shape(&self, id: ValueId) -> Vec<usize> {
        self.graph.value(id).shape.clone()
    }

    fn value(&mut self, name: String, shape: Vec<usize>, data: Option<Vec<f32>>) -> ValueId {
        self.graph.add_value(Value { name, shape, data: data.map(Into::into), range: None })
    }

    fn constant(&mut self, shape: Vec<usize>, data: Vec<f32>) -> ValueId {
        let name = format!("k{}", self.graph.values.len());
        self.value(name, shape, Some(data))
    }

    /// One more operator, on the last value mostly; none where what was thought of does not fit.
    fn grow(&mut self) {
        let x = if self.chance(5) { self.any() } else { self.last() };
        let shape = self.shape(x);
        let c = shape[shape.len() - 1];
        match self.below(if shape.len() == 4 { 20 } else { 8 }) {
            0 => {
                let function = self.unary();
                self.push(Op::Unary(function), vec![x], None)
            }
            1 => {
                let operand = self.per_channel(c);
                self.push(Op::Mul, vec![x, operand], None)
            }
            2 => {
                let (operand, clamp) = (self.per_channel(c), self.clamp());
                self.push(Op::Add { clamp }, vec![x, operand], None)
            }
            3 | 4 => {
                let fitting: Vec<_> = self.activations.iter().copied().filter(|&a| self.shape(a) == shape).collect();
                let (other, clamp) = (fitting[self.below(fitting.len())], self.clamp());
                self.push(Op::Add { clamp }, vec![x, other], None)
            }
            5 => {
                let axis = self.between(1, shape.len() - 1);
                let alike = |other: &[usize]| {
                    other.len() == shape.len() && (0..shape.len()).all(|i| i == axis || other[i] == shape[i])
                };
                let fitting: Vec<_> = self.activations.iter().copied().filter(|&a| alike(&self.shape(a))).collect();
                let other = fitting[self.below(fitting.len())];
                self.push(Op::Concat { axis }, vec![x, other], None)
            }
            6 => {
                let n = self.between(1, 12);
                let (weights, bias) = (self.weights(vec![n, c]), self.bias(n));
                let clamp = self.clamp();
                self.push(Op::FullyConnected { clamp }, [vec![x, weights], bias].concat(), None)
            }
            7 => {
                let mut pads: Vec<_> = shape.iter().map(|_| (self.below(3), self.below(3))).collect();
                pads[0] = (0, 0);
                self.push(Op::Pad { pads }, vec![x], None)
            }
            8..=12 => self.conv(x, &shape),
            13 => {
                let pool = self.pool();
                self.push(Op::AvgPool(pool), vec![x], None)
            }
            14 => {
                let pool = self.pool();
                self.push(Op::MaxPool(pool), vec![x], None)
            }
            15 => {
                let flat = vec![1, shape.iter().product()];
                self.push(Op::Reshape, vec![x], Some(flat))
            }
            16 => {
                let perm = [[0, 1, 2, 3], [0, 2, 1, 3], [0, 3, 1, 2], [0, 2, 3, 1]][self.below(4)].to_vec();
                self.push(Op::Transpose { perm }, vec![x], None)
            }
            17 => {
                let op =
                    Op::Resize { mode: ResizeMode::Nearest(Rounding::Floor), coordinates: Coordinates::Asymmetric };
                let resized = vec![1, self.between(1, 9), self.between(1, 9), c];
                self.push(op, vec![x], Some(resized))
            }
            18 => {
                let order =
                    if self.chance(2) { DepthToSpaceOrder::BlockFirst } else { DepthToSpaceOrder::ChannelFirst };
                self.push(Op::DepthToSpace { block: 2, order }, vec![x], None)
            }
            _ => self.push(Op::Softmax, vec![x], None),
        }
    }

    fn conv(&mut self, x: ValueId, shape: &[usize]) {
        let c = shape[3];
        let (groups, outputs) = match self.below(4) {
            0 => (c, 1),
            1 => (c, self.between(1, 2)),
            2 if c.is_multiple_of(2) => (2, self.between(1, 6)),
            _ => (1, self.between(1, 20)),
        };
        let shape = vec![groups * outputs, self.between(1, 3), self.between(1, 3), c / groups];
        let weights = self.weights(shape);
        let bias = self.bias(groups * outputs);
        let conv = Conv2d {
            stride: [self.between(1, 2), self.between(1, 2)],
            pad: self.padding(),
            dilation: [self.between(1, 2), 1],
            groups,
            clamp: self.clamp(),
        };
        self.push(Op::Conv2d(conv), [vec![x, weights], bias].concat(), None);
    }

    fn pool(&mut self) -> Pool {
        Pool {
            kernel: [self.between(1, 4), self.between(1, 4)],
            stride: [self.between(1, 3), self.between(1, 3)],
            pad: self.padding(),
            clamp: self.clamp(),
        }
    }

    fn padding(&mut self) -> Padding {
        if self.chance(2) {
            return Padding::default();
        }
        let [top, bottom, left, right] = [(); 4].map(|()| self.below(3));
        Padding { top, bottom, left, right }
    }

    fn clamp(&mut self) -> Clamp {
        [Clamp::NONE, Clamp::RELU, Clamp::RELU, Clamp::RELU6, Clamp { min: -0.5, max: 0.25 }][self.below(5)]
    }

    fn unary(&mut self) -> Unary {
        let functions = [
            Unary::Clamp(Clamp::RELU),
            Unary::LeakyRelu { alpha: 0.1 },
            Unary::Sigmoid,
            Unary::Tanh,
            Unary::HardSigmoid { alpha: 0.2, beta: 0.5 },
            Unary::HardSwish,
        ];
        functions[self.below(functions.len())]
    }

    /// Rows and columns of them may be zero, or what training lets them decay to.
    fn weights(&mut self, shape: Vec<usize>) -> ValueId {
        let (rows, depth) = (shape[0], shape[shape.len() - 1]);
        let row: usize = shape[1..].iter().product();
        let sparse = self.chance(2);
        let mut factors = |n: usize| -> Vec<f32> {
            (0..n).map(|_| if sparse { [1.0, 1.0, 0.0, 1e-30][self.below(4)] } else { 1.0 }).collect()
        };
        let (of_row, of_column) = (factors(rows), factors(depth));
        let scale = 2.0 / (row as f32).sqrt();
        let weight = |i: usize| scale * of_row[i / row] * of_column[i % depth];
        let data = (0..rows * row).map(|i| weight(i) * self.real()).collect();
        self.constant(shape, data)
    }

    fn bias(&mut self, n: usize) -> Vec<ValueId> {
        if self.chance(3) {
            return Vec::new();
        }
        let data = (0..n).map(|_| self.real()).collect();
        vec![self.constant(vec![n], data)]
    }

    fn per_channel(&mut self, channels: usize) -> ValueId {
        let n = if self.chance(2) { channels } else { 1 };
        let data = (0..n).map(|_| if self.chance(5) { 0.0 } else { 1.5 * self.real() }).collect();
        self.constant(vec![n], data)
    }

    fn push(&mut self, op: Op, inputs: Vec<ValueId>, declared: Option<Vec<usize>>) {
        let shapes: Vec<Vec<usize>> = inputs.iter().map(|&id| self.shape(id)).collect();
        let shapes: Vec<&[usize]> = shapes.iter().map(Vec::as_slice).collect();
        let Ok(shape) = infer(&op, &shapes, &declared.unwrap_or_default()) else { return };
        if shape.iter().product::<usize>() > self.most {
            return;
        }
        let name = format!("n{}", self.graph.nodes.len());
        let output = self.value(name.clone(), shape, None);
        self.graph.nodes.push(Node { name, op, inputs, output });
        self.activations.push(output);
    }
}
