//! Quantisation-aware training: a network learns to live with the small integers that will stand for its numbers.
//!
//! It starts at a [`Quantized`] graph, as a [`crate::quant::CodeBank`] makes it under any policy, and ends at another
//! one that is deployed the same way ([`crate::deploy::deploy_quantized`]): formats, widths and zero points stay; weights,
//! biases and the steps of the codes are trained. Forward, training computes what [`crate::eval::Net::fake_quantized`] does,
//! but for the rounding of floating-point sums; backward, it takes the gradients of an [`Estimator`]. Epochs are judged by that
//! network, which is the deployed integers to the bit.
//!
//! Latent weights start as near to the float ones as the codes allow, so that training begins where quantisation
//! without training ends. A teacher, of the recipe's [`super::Distillation`], sees floats.

mod activations;
mod estimator;
mod weights;

use std::path::Path;
use std::sync::Arc;

use self::activations::CodedActivation;
pub use self::estimator::Estimator;
use self::weights::CodedWeights;
use super::activation_map::ActivationMap;
use super::fit::{EpochFigures, Event, Recipe, Start, TrainError, Training};
use super::method::Method;
use super::net::{Net, NetError, Norms};
use crate::eval::{self, EvalError};
use crate::ir::{Graph, NodeId, Op, Value, ValueId};
use crate::quant::{Quantized, Scheme, fixed_code, only_moves};
use crate::task::Samples;

/// What is trained, from which codes on, on what.
pub struct QuantisedTraining<'a> {
    /// The network with the codes of a policy.
    pub start: &'a Quantized,
    /// How the steps of its codes are learned.
    pub estimator: Estimator,
    /// Which steps there are. Where channels share theirs, or only powers of two are there, `norms` must be biases.
    pub scheme: Scheme,
    /// What stands behind its convolutions meanwhile. Norms become part of the steps of weights, which each channel has of
    /// its own, so that integers compute them too; a negative factor turns the levels of a channel around.
    pub norms: Norms,
    /// Its data; the test split is never read.
    pub samples: &'a Samples,
    /// How; [`Recipe::fine_tuning`] suits.
    pub recipe: &'a Recipe,
    /// A float network on the same data, most often the one that was quantised; needed for [`Recipe::distillation`].
    pub teacher: Option<&'a Graph>,
    /// Fixes every random choice.
    pub seed: u64,
}

/// A network whose codes are trained.
#[derive(Clone, Debug)]
pub struct TrainedCodes {
    /// That of the best epoch, or of the start where none was better.
    pub quantized: Quantized,
    /// Its score on the validation samples, by the fake-quantised network, and so by the integers.
    pub val: f64,
    /// Every epoch.
    pub epochs: Vec<EpochFigures>,
}

impl QuantisedTraining<'_> {
    /// Trains, from the checkpoint in `directory` if there is one, and leaves one after every epoch.
    ///
    /// # Errors
    /// See [`TrainError`]; the last checkpoint stays.
    pub fn run(&self, directory: Option<&Path>, events: &mut dyn FnMut(Event)) -> Result<TrainedCodes, TrainError> {
        let graph = latent_graph(self.start);
        let codes = Codes { start: self.start, estimator: self.estimator, scheme: self.scheme };
        let training = Training {
            graph: &graph,
            start: Start::Trained,
            norms: self.norms,
            samples: self.samples,
            recipe: self.recipe,
            teacher: self.teacher,
            method: Some(&codes),
            seed: self.seed,
        };
        let (trained, net) = training.run_for_net(directory, events)?;
        Ok(TrainedCodes { quantized: codes.of(&net), val: trained.val, epochs: trained.epochs })
    }
}

/// The codes of all weights and activations, as maps of a network in training.
struct Codes<'a> {
    start: &'a Quantized,
    estimator: Estimator,
    scheme: Scheme,
}

impl Codes<'_> {
    /// The codes as they are trained now.
    fn of(&self, net: &Net) -> Quantized {
        let graph = net.graph();
        let mut activations = vec![None; graph.values.len()];
        for (value, source) in sources(&graph) {
            let start = self.start.activations.get(value.0 as usize).copied().flatten();
            let own = net.activation_map_parameters(source);
            activations[value.0 as usize] = start.map(|start| CodedActivation::code(start, own, self.scheme.scales));
        }
        let weights = self.start.weights.iter().map(|(&id, start)| {
            let node = graph.node(id);
            let trained = net.weight_map_parameters(id).last().map_or(&[][..], |steps| &steps.values);
            let mut scales = weights::steps(&start.scales, trained, self.scheme);
            net.fold_norm(id, &mut scales);
            (id, weights::codes(start, graph.constant(node, 1), scales, graph.constant(node, 2).to_vec()))
        });
        let weights = weights.collect();
        Quantized { weights, activations, graph }
    }
}

impl Method for Codes<'_> {
    fn identity(&self) -> String {
        format!("{:?} {:?} {:?} {:?}", self.estimator, self.scheme, self.start.activations, self.start.weights)
    }

    fn attach(&self, net: &mut Net) -> Result<(), NetError> {
        for (&id, codes) in &self.start.weights {
            net.map_weights(id, Box::new(CodedWeights::new(codes, self.estimator, self.scheme)))?;
        }
        let graph = &self.start.graph;
        let sources = sources(graph);
        for &(value, _) in sources.iter().filter(|(value, source)| value == source) {
            let Some(code) = self.start.activations.get(value.0 as usize).copied().flatten() else { continue };
            let producer = graph.producer(value).map(|id| graph.node(id));
            let given = producer.is_none_or(|node| fixed_code(node, code.bits).is_some());
            let numbers = graph.value(value).len();
            let map: Arc<dyn ActivationMap> = Arc::new(match given {
                true => CodedActivation::fixed(code),
                false => CodedActivation::trained(code, self.estimator, self.scheme.scales, numbers),
            });
            let moved = sources.iter().filter(|(other, source)| *source == value && is_blend(graph, *other));
            let values: Vec<ValueId> = std::iter::once(value).chain(moved.map(|(other, _)| *other)).collect();
            net.map_activations(&values, &map);
        }
        Ok(())
    }

    fn evaluated(&self, net: &Net) -> Result<eval::Net, EvalError> {
        eval::Net::fake_quantized(&self.of(net))
    }
}

/// Every activation with the one whose code it has: its own, or that from which its elements are moved.
fn sources(graph: &Graph) -> Vec<(ValueId, ValueId)> {
    let mut sources: Vec<(ValueId, ValueId)> = graph.inputs.iter().map(|&input| (input, input)).collect();
    for node in &graph.nodes {
        let moved = node.inputs.first().filter(|_| only_moves(&node.op));
        let source = moved.and_then(|moved| sources.iter().find(|(value, _)| value == moved));
        sources.push((node.output, source.map_or(node.output, |(_, source)| *source)));
    }
    sources
}

/// Whether a value lies between elements of the one that it was moved from, and so between its codes.
fn is_blend(graph: &Graph, value: ValueId) -> bool {
    graph.producer(value).is_some_and(|id| matches!(graph.node(id).op, Op::Resize { .. }))
}

/// The graph with latent weights for float ones, and the biases of the codes.
pub(crate) fn latent_graph(start: &Quantized) -> Graph {
    let mut graph = start.graph.clone();
    for (&NodeId(node), codes) in &start.weights {
        let operands = graph.nodes[node as usize].inputs.clone();
        let weights = &mut graph.values[operands[1].0 as usize];
        let latent = |floats: &Vec<f32>| Arc::new(weights::latent(codes, floats));
        weights.data = weights.data.as_deref().map(latent);
        let bias = Some(Arc::new(codes.bias.clone()));
        match operands.get(2) {
            Some(&value) => graph.values[value.0 as usize].data = bias,
            None => {
                let name = format!("{}.b", graph.nodes[node as usize].name);
                let value = Value { name, shape: vec![codes.bias.len()], data: bias, range: None };
                let value = graph.add_value(value);
                graph.nodes[node as usize].inputs.push(value);
            }
        }
    }
    graph
}
