//! A perceptron with two hidden layers and one output, its gradient, and Adam (Kingma and Ba, ICLR 2015).

use crate::eval::gemm::{Matrix, multiply_add};
use crate::rng::Pcg32;

/// Layers of a [`Network`].
const LAYERS: usize = 3;
/// Weights of the last layer start within this, so that actions start in the middle and values near zero.
const LAST: f32 = 3e-3;

/// What the output passes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Head {
    Linear,
    Sigmoid,
}

/// Weights of three layers, rectified between them.
#[derive(Clone, Debug)]
pub(super) struct Network {
    layers: [Dense; LAYERS],
    head: Head,
}

/// `[outputs, inputs]` weights, then the biases.
#[derive(Clone, Debug)]
struct Dense {
    inputs: usize,
    outputs: usize,
    parameters: Vec<f32>,
}

/// What each layer was given, and the output at last; rows of samples.
pub(super) struct Pass {
    values: [Vec<f32>; LAYERS + 1],
}

impl Pass {
    pub(super) fn outputs(&self) -> &[f32] {
        &self.values[LAYERS]
    }
}

/// One slope for each parameter, layer by layer.
pub(super) type Gradient = [Vec<f32>; LAYERS];

impl Network {
    pub(super) fn new(inputs: usize, hidden: usize, head: Head, random: &mut Pcg32) -> Network {
        let mut dense = |inputs: usize, outputs: usize, reach: f32| Dense {
            inputs,
            outputs,
            parameters: (0..(inputs + 1) * outputs).map(|_| random.between(-reach, reach)).collect(),
        };
        let reach = |inputs: usize| 1.0 / (inputs as f32).sqrt();
        let layers =
            [dense(inputs, hidden, reach(inputs)), dense(hidden, hidden, reach(hidden)), dense(hidden, 1, LAST)];
        Network { layers, head }
    }

    /// The outputs for rows of inputs.
    pub(super) fn outputs(&self, inputs: &[f32]) -> Vec<f32> {
        let Pass { values: [.., outputs] } = self.forward(inputs);
        outputs
    }

    pub(super) fn forward(&self, inputs: &[f32]) -> Pass {
        let first = self.layers[0].forward(inputs, relu);
        let second = self.layers[1].forward(&first, relu);
        let output = match self.head {
            Head::Linear => self.layers[2].forward(&second, |x| x),
            Head::Sigmoid => self.layers[2].forward(&second, |x| 1.0 / (1.0 + (-x).exp())),
        };
        Pass { values: [inputs.to_vec(), first, second, output] }
    }

    /// From the slope of the outputs to that of what each layer sums up, the first layer's first.
    pub(super) fn backward(&self, pass: &Pass, slope: &[f32]) -> [Vec<f32>; LAYERS] {
        let through_head = |(slope, y): (&f32, &f32)| match self.head {
            Head::Linear => *slope,
            Head::Sigmoid => slope * y * (1.0 - y),
        };
        let third: Vec<f32> = slope.iter().zip(pass.outputs()).map(through_head).collect();
        let second = rectified(self.layers[2].backward(&third), &pass.values[2]);
        let first = rectified(self.layers[1].backward(&second), &pass.values[1]);
        [first, second, third]
    }

    /// The slope of the parameters, from those of [`Network::backward`].
    pub(super) fn gradient(&self, pass: &Pass, slopes: &[Vec<f32>; LAYERS]) -> Gradient {
        [0, 1, 2].map(|at| self.layers[at].gradient(&pass.values[at], &slopes[at]))
    }

    /// The slope of the inputs, from those of [`Network::backward`].
    pub(super) fn towards(&self, slopes: &[Vec<f32>; LAYERS]) -> Vec<f32> {
        self.layers[0].backward(&slopes[0])
    }

    /// Moves all parameters towards another's by a share.
    pub(super) fn follow(&mut self, other: &Network, share: f32) {
        for (mine, theirs) in self.layers.iter_mut().zip(&other.layers) {
            mine.parameters
                .iter_mut()
                .zip(&theirs.parameters)
                .for_each(|(mine, theirs)| *mine += share * (theirs - *mine));
        }
    }
}

impl Dense {
    fn forward(&self, inputs: &[f32], activation: impl Fn(f32) -> f32) -> Vec<f32> {
        let n = inputs.len() / self.inputs;
        let (weights, biases) = self.parameters.split_at(self.inputs * self.outputs);
        let mut outputs = biases.repeat(n);
        let weights = Matrix::row_major(weights, self.outputs, self.inputs).transposed();
        multiply_add(Matrix::row_major(inputs, n, self.inputs), weights, &mut outputs, self.outputs);
        outputs.iter_mut().for_each(|x| *x = activation(*x));
        outputs
    }

    fn gradient(&self, inputs: &[f32], slope: &[f32]) -> Vec<f32> {
        let n = inputs.len() / self.inputs;
        let mut gradient = vec![0.0; self.parameters.len()];
        let (weights, biases) = gradient.split_at_mut(self.inputs * self.outputs);
        let slopes = Matrix::row_major(slope, n, self.outputs).transposed();
        multiply_add(slopes, Matrix::row_major(inputs, n, self.inputs), weights, self.inputs);
        for row in slope.chunks_exact(self.outputs) {
            biases.iter_mut().zip(row).for_each(|(sum, slope)| *sum += slope);
        }
        gradient
    }

    fn backward(&self, slope: &[f32]) -> Vec<f32> {
        let n = slope.len() / self.outputs;
        let mut back = vec![0.0; n * self.inputs];
        let weights = Matrix::row_major(&self.parameters, self.outputs, self.inputs);
        multiply_add(Matrix::row_major(slope, n, self.outputs), weights, &mut back, self.inputs);
        back
    }
}

fn relu(x: f32) -> f32 {
    x.max(0.0)
}

/// The slope before a rectification that left `values`.
fn rectified(mut slope: Vec<f32>, values: &[f32]) -> Vec<f32> {
    slope.iter_mut().zip(values).for_each(|(slope, &x)| *slope = if x > 0.0 { *slope } else { 0.0 });
    slope
}

/// Adam's moments of one network's gradient.
#[derive(Clone, Debug)]
pub(super) struct Optimizer {
    rate: f32,
    steps: i32,
    first: Gradient,
    second: Gradient,
}

impl Optimizer {
    const FIRST: f32 = 0.9;
    const SECOND: f32 = 0.999;
    const EPSILON: f32 = 1e-8;

    pub(super) fn new(network: &Network, rate: f32) -> Optimizer {
        let zeros: Gradient = [0, 1, 2].map(|at| vec![0.0; network.layers[at].parameters.len()]);
        Optimizer { rate, steps: 0, first: zeros.clone(), second: zeros }
    }

    pub(super) fn step(&mut self, network: &mut Network, gradient: &Gradient) {
        self.steps += 1;
        let correction = (1.0 - Self::SECOND.powi(self.steps)).sqrt() / (1.0 - Self::FIRST.powi(self.steps));
        let rate = self.rate * correction;
        for (at, layer) in network.layers.iter_mut().enumerate() {
            let moments = self.first[at].iter_mut().zip(&mut self.second[at]);
            for ((x, g), (first, second)) in layer.parameters.iter_mut().zip(&gradient[at]).zip(moments) {
                *first += (1.0 - Self::FIRST) * (g - *first);
                *second += (1.0 - Self::SECOND) * (g * g - *second);
                *x -= rate * *first / (second.sqrt() + Self::EPSILON);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gradients_match_finite_differences() {
        let mut random = Pcg32::new(5, 5);
        for head in [Head::Linear, Head::Sigmoid] {
            let mut network = Network::new(3, 8, head, &mut random);
            network.layers[2].parameters.iter_mut().for_each(|w| *w = random.between(-1.0, 1.0));
            let inputs: Vec<f32> = (0..12).map(|_| random.between(-1.0, 1.0)).collect();
            // The sum of squared outputs.
            let loss = |network: &Network, inputs: &[f32]| -> f64 {
                network.outputs(inputs).iter().map(|&y| f64::from(y) * f64::from(y)).sum()
            };
            let pass = network.forward(&inputs);
            let slope: Vec<f32> = pass.outputs().iter().map(|y| 2.0 * y).collect();
            let slopes = network.backward(&pass, &slope);
            let (gradient, of_inputs) = (network.gradient(&pass, &slopes), network.towards(&slopes));
            let step = 1e-3;
            let near = |slope: f32, up: f64, down: f64| {
                let found = (up - down) / (2.0 * f64::from(step));
                assert!((f64::from(slope) - found).abs() < 2e-3 * (1.0 + found.abs()), "{slope} {found}");
            };
            for (layer, slopes) in gradient.iter().enumerate() {
                for at in (0..slopes.len()).step_by(5) {
                    let moved = |by: f32| {
                        let mut moved = network.clone();
                        moved.layers[layer].parameters[at] += by;
                        loss(&moved, &inputs)
                    };
                    near(slopes[at], moved(step), moved(-step));
                }
            }
            for at in 0..inputs.len() {
                let moved = |by: f32| {
                    let mut moved = inputs.clone();
                    moved[at] += by;
                    loss(&network, &moved)
                };
                near(of_inputs[at], moved(step), moved(-step));
            }
        }
    }
}
