//! One quantiser on one backend: trained if that is wanted, simulated, deployed, scored.

use std::cell::OnceCell;
use std::path::Path;
use std::time::Instant;

use pare_runtime::Isa;
use serde::{Deserialize, Serialize};

use super::{Backend, Quantizer, academic, policy};
use crate::board::AlignedBytes;
use crate::board::host::Host;
use crate::compile::{CompileError, Settings, Workshop};
use crate::data::Split;
use crate::deploy::deploy_quantized;
use crate::policy::WeightFormat;
use crate::quant::Calibration;
use crate::task::Task;
use crate::train::{Event, Norms, QuantisedTraining, Recipe, TrainError};

/// What a pair came to. Figures are the metric's values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The network.
    pub model: String,
    /// [`Quantizer::name`].
    pub quantizer: String,
    /// [`Backend::name`].
    pub backend: String,
    /// As `w4`.
    pub weights: String,
    /// Width of activations.
    pub activation_bits: u8,
    /// Epochs of training.
    pub epochs: usize,
    /// The float network, on validation samples.
    pub float: f64,
    /// As papers do, on validation samples.
    pub academic: f64,
    /// The blob, on validation samples.
    pub deployed: f64,
    /// The blob, on test samples.
    pub test: f64,
    /// Of the blob.
    pub bytes: usize,
    /// That it took.
    pub seconds: f64,
}

impl Row {
    /// What deployment costs, in points (hundredths).
    pub fn gap(&self) -> f64 {
        100.0 * (self.academic - self.deployed)
    }
}

/// What all pairs share.
pub struct Subject<'a> {
    /// The network and its data.
    pub task: &'a Task,
    /// Target, seed and cache; codes are the quantiser's.
    pub settings: &'a Settings,
    /// Made once for all.
    pub calibration: &'a OnceCell<Calibration>,
    /// The float network's metric on the validation samples.
    pub float: f64,
    /// How all are trained; none for not at all.
    pub recipe: Option<&'a Recipe>,
}

impl Subject<'_> {
    /// Scores a pair; training leaves its checkpoint in `directory`.
    ///
    /// # Errors
    /// Whatever keeps the network from being calibrated, trained, deployed or scored.
    pub fn row(
        &self,
        (quantizer, backend): (Quantizer, Backend),
        (format, activation_bits): (WeightFormat, u8),
        directory: &Path,
        events: &mut dyn FnMut(Event),
    ) -> Result<Row, RowError> {
        let clock = Instant::now();
        let task = self.task;
        let settings = Settings { quant: quantizer.config(backend), ..self.settings.clone() };
        let workshop = Workshop::new(task, &settings, self.calibration);
        let mut quantized = workshop.bank()?.quantize(&policy(&task.graph, format, activation_bits))?;
        if let Some(recipe) = self.recipe {
            let training = QuantisedTraining {
                start: &quantized,
                estimator: quantizer.estimator(),
                scheme: backend.scheme(),
                // Batch norms would give every channel a scale of its own.
                norms: Norms::Bias,
                samples: &task.data,
                recipe,
                teacher: recipe.distillation.as_ref().map(|_| &task.graph),
                seed: settings.seed,
            };
            quantized = training.run(Some(directory), events)?.quantized;
        }
        let val = task.data.indices(Split::Val, None)?;
        let simulated = task.data.score_net(&academic(quantized.clone())?, val)?.value;
        let blob = deploy_quantized(quantized, &workshop.lower_config(), &workshop.metadata())?.blob;
        let bytes = AlignedBytes::from(&blob.bytes[..]);
        let score = |indices: &[u32]| {
            Ok::<_, RowError>(task.data.score_blob(&bytes, Host::default(), Isa::best(), indices)?.value)
        };
        Ok(Row {
            model: task.graph.name.clone(),
            quantizer: quantizer.name().to_owned(),
            backend: backend.name().to_owned(),
            weights: format.to_string(),
            activation_bits,
            epochs: self.recipe.map_or(0, |recipe| recipe.epochs),
            float: self.float,
            academic: simulated,
            deployed: score(val)?,
            test: score(task.data.indices(Split::Test, None)?)?,
            bytes: blob.bytes.len(),
            seconds: clock.elapsed().as_secs_f64(),
        })
    }
}

/// Why a pair could not be scored.
#[derive(Debug, thiserror::Error)]
pub enum RowError {
    /// It could not be calibrated.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// It could not be quantised.
    #[error(transparent)]
    Quant(#[from] crate::quant::QuantError),
    /// It could not be deployed.
    #[error(transparent)]
    Deploy(#[from] crate::deploy::DeployError),
    /// The simulation failed.
    #[error(transparent)]
    Eval(#[from] crate::eval::EvalError),
    /// It could not be trained.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// It could not be scored.
    #[error(transparent)]
    Task(#[from] crate::task::TaskError),
}
