//! Deep Compression (Han, Mao & Dally 2016): prune weights while training goes on, let those that are left share a few
//! values that are trained too, and store what comes out by how likely it is.
//!
//! * [`crate::prune::fine`] prunes, [`shared`] shares, [`crate::storage`] stores; [`huffman`] says what the paper's own
//!   coding would take.

mod huffman;
mod shared;

use std::path::Path;

use crate::data::Split;
use crate::deploy::{DeployError, Deployed, deploy_quantized};
use crate::eval::EvalError;
use crate::ir::Graph;
use crate::lower::LowerConfig;
use crate::policy::{EdgeLayers, Policy, WeightFormat};
use crate::prune::fine::{Pruning, Sparsity};
use crate::quant::{Calibration, CalibrationConfig, CodeBank, QuantConfig, Quantized, calibrate};
use crate::storage;
use crate::task::{Task, TaskError};
use crate::train::qat::latent_graph;
use crate::train::{Event, Norms, Recipe, Start, TrainError, Training};

use self::shared::Sharing;

/// Samples that activations are calibrated on.
const CALIBRATION_INPUTS: usize = 1000;

/// How numbers become codes, before weights are trained and after.
const CODES: QuantConfig = QuantConfig::USUAL;

/// What is compressed, and how far.
pub struct Compression<'a> {
    /// The trained network and its data.
    pub task: &'a Task,
    /// Where pruning begins: that network, or what an allocation has left of it.
    pub start: &'a Graph,
    /// The weights that are left.
    pub sparsity: Sparsity,
    /// Epochs during which weights go; the rest of `pruning` is for the others to make up for them.
    pub shrinking: f32,
    /// How the network is trained meanwhile.
    pub pruning: Recipe,
    /// Values that the weights of a layer share, 0 among them: 2 to the power of this, 2 to 4.
    pub bits: u8,
    /// How these are trained.
    pub sharing: Recipe,
    /// What stands behind convolutions meanwhile; norms end up in factors of their output channels.
    pub norms: Norms,
    /// Fixes every random choice.
    pub seed: u64,
}

/// A compressed network.
pub struct Compressed {
    /// Its weights, few of them and of few values.
    pub graph: Graph,
    /// Validation scores once it was pruned, and once values were shared.
    pub val: [f64; 2],
    quantized: Quantized,
}

/// Bytes of a network in its several forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Sizes {
    /// Weights and biases as floats, and nothing else.
    pub float: u64,
    /// The blob that runs.
    pub blob: u64,
    /// That blob as it is stored, everything that it is decoded from.
    pub stored: u64,
    /// The paper's coding of weights and biases, tables and codebooks counted, without the schedule of layers.
    pub huffman: u64,
}

/// Why a network was not compressed.
#[derive(Debug, thiserror::Error)]
pub enum CompressionError {
    /// Training.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// Data.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// Calibration.
    #[error(transparent)]
    Eval(#[from] EvalError),
    /// From graph to blob.
    #[error(transparent)]
    Deploy(#[from] DeployError),
}

impl Compression<'_> {
    /// Prunes, then shares; checkpoints of both go into folders of `directory`, from which a killed run goes on.
    ///
    /// # Errors
    /// See [`CompressionError`].
    pub fn run(&self, directory: &Path, events: &mut dyn FnMut(Event)) -> Result<Compressed, CompressionError> {
        let Task { graph: teacher, data } = self.task;
        let pruning = Pruning::new(self.sparsity.clone(), 0.0..self.shrinking);
        let training = Training {
            graph: self.start,
            start: Start::Trained,
            norms: self.norms,
            samples: data,
            recipe: &self.pruning,
            teacher: Some(teacher).filter(|_| self.pruning.distillation.is_some()),
            method: Some(&pruning),
            seed: self.seed,
        };
        let pruned = training.run(Some(&directory.join("pruned")), events)?;
        let policy = Policy::uniform(&pruned.graph, WeightFormat::Codebook(self.bits), 8, EdgeLayers::Uniform);
        let start = self.codes(&pruned.graph, &policy)?;
        let sharing = Sharing { start: &start };
        let latent = latent_graph(&start);
        let training = Training { graph: &latent, recipe: &self.sharing, method: Some(&sharing), ..training };
        let (shared, net) = training.run_for_net(Some(&directory.join("shared")), events)?;
        // Activations are those of the trained weights; these have their codes.
        let mut quantized = self.codes(&shared.graph, &Policy::default())?;
        for (&id, start) in &start.weights {
            let (graph, node) = (&shared.graph, shared.graph.node(id));
            let values: Vec<f32> = net.weight_map_parameters(id).flat_map(|own| own.values.clone()).collect();
            let mut scales = start.scales.clone();
            net.fold_norm(id, &mut scales);
            let bias = graph.constant(node, 2).to_vec();
            let codes = shared::codes(start, graph.constant(node, 1), &values, scales, bias);
            quantized.weights.insert(id, codes);
        }
        Ok(Compressed { graph: shared.graph, val: [pruned.val, shared.val], quantized })
    }

    /// Codes of a graph.
    fn codes(&self, graph: &Graph, policy: &Policy) -> Result<Quantized, CompressionError> {
        let inputs = self.task.data.spread(Split::Train, CALIBRATION_INPUTS)?;
        let n = inputs.len() / self.task.input_len();
        let calibration: Calibration = calibrate(graph, &inputs, n, &CalibrationConfig::with_seed(self.seed))?;
        let bank = CodeBank::new(graph, &calibration, &CODES).map_err(DeployError::from)?;
        Ok(bank.quantize(policy).map_err(DeployError::from)?)
    }
}

impl Compressed {
    /// The blob.
    ///
    /// # Errors
    /// When the integers do not fit.
    pub fn deploy(&self, config: &LowerConfig, metadata: &str) -> Result<Deployed, DeployError> {
        deploy_quantized(self.quantized.clone(), config, metadata)
    }

    /// Bytes of this network in its several forms, and its blob as it is stored.
    pub fn sizes(&self, blob: &[u8]) -> (Sizes, Vec<u8>) {
        let constants = |id| self.graph.node(id).inputs.iter().filter(|&&v| self.graph.value(v).is_constant());
        let floats = self.graph.weighted().flat_map(|id| constants(id).map(|&v| self.graph.value(v).len() as u64));
        let stored = storage::encode(blob).unwrap_or_else(|| blob.to_vec());
        let sizes = Sizes {
            float: 4 * floats.sum::<u64>(),
            blob: blob.len() as u64,
            stored: stored.len() as u64,
            huffman: huffman::bytes(self.quantized.weights.values()),
        };
        (sizes, stored)
    }
}
