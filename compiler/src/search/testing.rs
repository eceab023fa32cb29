//! A made-up network with a loss by formula: what the tests of all strategies search.

use std::cell::Cell;

use crate::cost::bitops::Bitops;
use crate::cost::layers::Layers;
use crate::cost::ram::Ram;
use crate::cost::size::Size;
use crate::ir::{Clamp, Conv2d, Graph, Node, Op, Padding, Value};
use crate::policy::{Policy, WeightChoice, WeightFormat};
use crate::units::Bytes;

use super::{Budget, Evaluator, Event, Problem, Score, Space, SplitMix64};

type Planner = fn(&Policy) -> Result<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// A chain of pointwise convolutions.
pub(crate) struct Synthetic {
    pub space: Space,
    pub budget: Budget,
    pub fails_after: Option<usize>,
    pub size: Size,
    pub bitops: Bitops,
    pub ram: Ram<Planner>,
    weight_loss: Vec<f64>,
    width_loss: Vec<f64>,
    scored: Cell<usize>,
}

impl Synthetic {
    pub(crate) fn new(layers: usize, weights: &[u8], widths: &[u8], seed: u64) -> Synthetic {
        let mut random = SplitMix64(seed);
        let graph = chain(layers, &mut random);
        let formats: Vec<WeightFormat> = weights.iter().map(|&b| WeightFormat::Linear(b)).collect();
        let draw = |random: &mut SplitMix64| (0..layers).map(|_| 0.1 + 4.0 * random.unit().powi(3)).collect();
        Synthetic {
            space: Space::of(&graph, &formats, widths).unwrap(),
            budget: Budget::default(),
            fails_after: None,
            size: Size(Layers::of(&graph)),
            bitops: Bitops(Layers::of(&graph)),
            ram: Ram(peak),
            weight_loss: draw(&mut random),
            width_loss: draw(&mut random),
            scored: Cell::new(0),
        }
    }

    pub(crate) fn problem(&self) -> Problem<'_> {
        Problem {
            space: &self.space,
            layers: &self.size.0,
            costs: vec![&self.size, &self.bitops, &self.ram],
            budget: self.budget,
            calibration: self,
            validation: self,
            float: Score { metric: 0.9, loss: 0.3 },
            seed: 1,
        }
    }

    pub(crate) fn scored(&self) -> usize {
        self.scored.get()
    }

    /// The loss: a sum over layers, and something for neighbours that both suffer.
    pub(crate) fn loss(&self, policy: &Policy) -> f64 {
        let damage: Vec<f64> = self
            .space
            .sites()
            .iter()
            .enumerate()
            .map(|(i, site)| {
                let layer = &policy.layers[&site.name];
                let Some(WeightChoice::Layer(format)) = &layer.weights else { panic!("a chain of plain layers") };
                self.weight_loss[i] * 0.4f64.powi(format.bits().into())
                    + self.width_loss[i] * 0.3f64.powi(layer.activation_bits.into())
            })
            .collect();
        let shared: f64 = damage.windows(2).map(|pair| pair[0] * pair[1]).sum();
        0.3 + damage.iter().sum::<f64>() + shared
    }
}

impl Evaluator for Synthetic {
    fn score(&self, policy: &Policy) -> Result<Score, Box<dyn std::error::Error + Send + Sync>> {
        if self.fails_after.is_some_and(|n| self.scored.get() >= n) {
            return Err("interrupted".into());
        }
        self.scored.set(self.scored.get() + 1);
        let loss = self.loss(policy);
        Ok(Score { metric: 0.9 * (0.3 - loss).exp(), loss })
    }
}

/// The largest sum of two neighbouring tensors, 1000 elements each, packed.
fn peak(policy: &Policy) -> Result<Bytes, Box<dyn std::error::Error + Send + Sync>> {
    let widths: Vec<u64> =
        std::iter::once(8).chain(policy.layers.values().map(|layer| u64::from(layer.activation_bits))).collect();
    Ok(Bytes(widths.windows(2).map(|pair| 1000 * (pair[0] + pair[1]) / 8).max().unwrap_or(0)))
}

/// Pointwise convolutions `conv0`, `conv1` … on 8 by 8 pixels, from 3 channels to random numbers.
pub(crate) fn chain(layers: usize, random: &mut SplitMix64) -> Graph {
    let mut graph = Graph { name: "chain".into(), ..Graph::default() };
    let value = |name: String, shape: Vec<usize>, data| Value { name, shape, data, range: None };
    let mut channels = 3;
    let mut from = graph.add_value(value("input".into(), vec![1, 8, 8, channels], None));
    graph.inputs.push(from);
    for i in 0..layers {
        let wider = 4 + 4 * random.below(12);
        let zeros = |n: usize| Some(std::sync::Arc::new(vec![0.0f32; n]));
        let weights = graph.add_value(value(format!("w{i}"), vec![wider, 1, 1, channels], zeros(wider * channels)));
        let output = graph.add_value(value(format!("y{i}"), vec![1, 8, 8, wider], None));
        let op = Op::Conv2d(Conv2d {
            stride: [1, 1],
            pad: Padding::default(),
            dilation: [1, 1],
            groups: 1,
            clamp: Clamp::RELU,
        });
        graph.nodes.push(Node { name: format!("conv{i}"), op, inputs: vec![from, weights], output });
        (from, channels) = (output, wider);
    }
    graph.outputs.push(from);
    graph
}

/// Listens to nothing.
pub(crate) fn quiet() -> impl FnMut(Event) {
    |_| {}
}
