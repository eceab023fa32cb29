//! A network and its pruner, as the agent sees them.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{AmcError, Subject};
use crate::cost::Cost;
use crate::cost::latency::Latency;
use crate::cost::table::LatencyTable;
use crate::deploy::layers_as_run;
use crate::files::Lines;
use crate::ir::channels::Kept;
use crate::ir::{Graph, Op};
use crate::lower::LowerConfig;
use crate::policy::{EdgeLayers, Policy, WeightFormat};
use crate::prune::{Group, Groups, Pruner, shrink};
use crate::rng::Pcg32;
use crate::search::ddpg::normalised;

/// Least share of a group's channels that stays.
const LEAST: f64 = 0.2;

/// What a network is priced by.
#[derive(Clone, Debug)]
pub enum Price<'a> {
    /// Multiply-accumulates of one sample.
    Macs,
    /// Weights, biases apart.
    Weights,
    /// Ticks of one inference by measured kernels, all weights and activations in these bits.
    Latency {
        /// What was measured.
        table: &'a LatencyTable,
        /// How layers are run.
        config: LowerConfig,
        /// Bits of the weights.
        weights: WeightFormat,
        /// Bits of the activations.
        activation_bits: u8,
    },
}

impl Price<'_> {
    /// The price of a network.
    ///
    /// # Errors
    /// When it cannot be lowered, or the table has nothing to go by.
    pub fn of(&self, graph: &Graph) -> Result<f64, AmcError> {
        let total = |of: &dyn Fn(&crate::ir::Node) -> u64| graph.nodes.iter().map(of).sum::<u64>() as f64;
        match self {
            Price::Macs => Ok(total(&|node| graph.macs(node))),
            Price::Weights => Ok(total(&|node| {
                let shape = if node.op.has_weights() { graph.input_shape(node, 1) } else { &[0] };
                shape.iter().product::<usize>() as u64
            })),
            Price::Latency { table, config, weights, activation_bits } => {
                let policy = Policy::uniform(graph, *weights, *activation_bits, EdgeLayers::Uniform);
                Ok(Latency::new(layers_as_run(graph, config)?, table).of(&policy)?.value())
            }
        }
    }
}

/// Prunes, prices and scores; remembers what it did.
pub struct Pruning<'a, F> {
    graph: &'a Graph,
    pruner: &'a Pruner<'a>,
    price: Price<'a>,
    score: F,
    widths: Vec<Vec<usize>>,
    features: Vec<Vec<f32>>,
    costs: RefCell<BTreeMap<Vec<usize>, f64>>,
    accuracies: RefCell<BTreeMap<Vec<usize>, f64>>,
    lines: Option<Lines>,
}

/// An episode's outcome as it is written down; the number is text, so that what is read is what was written, to the last
/// bit, and a search that goes on takes the same turns.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    widths: Vec<usize>,
    accuracy: String,
}

impl<'a, F: Fn(Graph, &Kept) -> Result<f64, AmcError>> Pruning<'a, F> {
    /// Widths are multiples of `multiple` channels and all channels; `score` gives the share of right answers of a pruned
    /// network, of which these channels are left, on samples held out of training.
    ///
    /// # Errors
    /// When the network cannot be priced.
    pub fn new(
        graph: &'a Graph,
        pruner: &'a Pruner<'a>,
        price: Price<'a>,
        multiple: usize,
        score: F,
    ) -> Result<Pruning<'a, F>, AmcError> {
        let widths: Vec<Vec<usize>> = pruner.widths(multiple).into_iter().map(wide_enough).collect();
        let (costs, accuracies) = Default::default();
        let (features, lines) = (Vec::new(), None);
        let mut pruning = Pruning { graph, pruner, price, score, widths, features, costs, accuracies, lines };
        pruning.features = pruning.describe()?;
        Ok(pruning)
    }

    /// Writes scores down in a file as they come, and takes those that it holds already: a search that was broken off goes
    /// on where it stopped. The file is to be named by all that scores depend on.
    #[must_use]
    pub fn remembering(mut self, file: PathBuf) -> Self {
        let accuracies = self.accuracies.get_mut();
        self.lines = Some(Lines::open(file, |line| match parse(line) {
            Some((widths, accuracy)) => {
                accuracies.insert(widths, accuracy);
                true
            }
            None => false,
        }));
        self
    }

    /// Place, channels, readers' channels, rows, columns, window, stride, and share of the price, each from 0 to 1 over
    /// the groups.
    fn describe(&self) -> Result<Vec<Vec<f32>>, AmcError> {
        let full: Vec<usize> = self.widths.iter().filter_map(|some| some.last().copied()).collect();
        let dense = self.cost(&full)?;
        let mut rows = Vec::new();
        for (i, group) in self.pruner.groups().iter().enumerate() {
            let mut narrow = full.clone();
            narrow[i] = self.widths[i][0];
            let share = (dense - self.cost(&narrow)?) / dense;
            rows.push([&[i as f64][..], &self.dimensions(group), &[share]].concat());
        }
        Ok(normalised(&rows))
    }

    fn dimensions(&self, group: &Group) -> [f64; 6] {
        let producer = self.graph.node(group.producers[0]);
        let shape = &self.graph.value(producer.output).shape;
        let weights = self.graph.input_shape(producer, 1);
        let (rows, columns) = if shape.len() == 4 { (shape[1], shape[2]) } else { (1, 1) };
        let stride = if let Op::Conv2d(conv) = &producer.op { conv.stride[0] } else { 1 };
        let window: usize = weights[1..weights.len() - 1].iter().product();
        let readers: usize = group.consumers.iter().map(|&id| self.graph.input_shape(self.graph.node(id), 1)[0]).sum();
        [group.units.len(), readers, rows, columns, window, stride].map(|x| x as f64)
    }
}

impl<F: Fn(Graph, &Kept) -> Result<f64, AmcError>> Subject for Pruning<'_, F> {
    fn widths(&self) -> &[Vec<usize>] {
        &self.widths
    }

    fn features(&self) -> &[Vec<f32>] {
        &self.features
    }

    fn cost(&self, widths: &[usize]) -> Result<f64, AmcError> {
        if let Some(&known) = self.costs.borrow().get(widths) {
            return Ok(known);
        }
        let cost = self.price.of(&shrink(self.graph, self.pruner.groups(), &self.pruner.units(widths)))?;
        self.costs.borrow_mut().insert(widths.to_vec(), cost);
        Ok(cost)
    }

    fn accuracy(&self, widths: &[usize]) -> Result<f64, AmcError> {
        if let Some(&known) = self.accuracies.borrow().get(widths) {
            return Ok(known);
        }
        let units = self.pruner.units(widths);
        let accuracy = (self.score)(self.pruner.prune(&units), &self.pruner.groups().kept(&units))?;
        let line = Line { widths: widths.to_vec(), accuracy: accuracy.to_string() };
        if let (Some(lines), Ok(text)) = (&self.lines, serde_json::to_string(&line)) {
            lines.push(&text);
        }
        self.accuracies.borrow_mut().insert(line.widths, accuracy);
        Ok(accuracy)
    }
}

fn parse(line: &str) -> Option<(Vec<usize>, f64)> {
    let line: Line = serde_json::from_str(line).ok()?;
    Some((line.widths, line.accuracy.parse().ok()?))
}

/// Widths that leave a group [`LEAST`] of its channels.
fn wide_enough(some: Vec<usize>) -> Vec<usize> {
    let least = some.last().map_or(0.0, |&all| LEAST * all as f64);
    some.into_iter().filter(|&n| n as f64 >= least).collect()
}

/// The narrowest version of a network that a search may come to, and others at random, `n` in all: what has their shapes,
/// whatever their numbers, has their times.
pub fn shapes(graph: &Graph, multiple: usize, n: usize, seed: u64) -> Vec<Graph> {
    let groups = Groups::of(graph);
    let widths: Vec<Vec<usize>> = groups.iter().map(|group| wide_enough(group.widths(multiple).collect())).collect();
    let mut random = Pcg32::new(seed, 0x5a9e);
    let narrow = widths.iter().map(|_| 0).collect();
    let others = (1..n).map(|_| widths.iter().map(|some| random.below(some.len() as u32) as usize).collect());
    let chosen: BTreeSet<Vec<usize>> = [narrow].into_iter().chain(others).collect();
    let shape = |at: &Vec<usize>| {
        let keep: Vec<Vec<usize>> = widths.iter().zip(at).map(|(some, &at)| (0..some[at]).collect()).collect();
        shrink(graph, &groups, &keep)
    };
    chosen.iter().map(shape).collect()
}
