//! `--finetune`: training of a pruned network, and of the codes that a policy makes.

use std::num::NonZeroUsize;
use std::path::Path;

use anyhow::{Context, Result};

use super::args::{self, NormsArg};
use super::progress::Progress;
use crate::compile::Workshop;
use crate::data::Metric;
use crate::ir::Graph;
use crate::policy::Policy;
use crate::quant::Scheme;
use crate::task::Samples;
use crate::train::fit::CHECKPOINT_FILE;
use crate::train::{
    Augmentation, Distillation, Estimator, QuantisedTraining, Recipe, Schedule, Start, TrainedCodes, Training,
};

/// How codes are trained.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct FinetuneArgs {
    #[command(flatten)]
    recipe: RecipeArgs,
    /// With --finetune: how the steps of the codes are learned.
    #[arg(long, value_enum, default_value = "lsq", requires = "finetune")]
    estimator: EstimatorArg,
    /// With --finetune: what stands behind convolutions while training.
    #[arg(long, value_enum, default_value = "bias", requires = "finetune")]
    norms: NormsArg,
}

/// For how long, and how fast.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct RecipeArgs {
    /// Train the codes of the policy for so many epochs (quantisation-aware training), and before that, with --prune, the
    /// weights that are left; a run that was killed goes on from the checkpoints among its results.
    #[arg(long, value_name = "EPOCHS")]
    finetune: Option<NonZeroUsize>,
    /// With --finetune: samples of a step; fewer make for more steps, and better networks in few epochs.
    #[arg(long, value_name = "N", default_value_t = 128, requires = "finetune", value_parser = args::batch)]
    batch: usize,
    /// With --finetune: the highest learning rate.
    #[arg(long, value_name = "RATE", default_value_t = 3e-4, requires = "finetune", value_parser = args::positive)]
    rate: f32,
    /// With --finetune: keep the average of what is trained over steps: the share of the old in it, as 0.998.
    #[arg(long, value_name = "SHARE", requires = "finetune", value_parser = args::share)]
    average: Option<f32>,
    /// With --finetune: change images at random: flip, invert, shift=PIXELS, shift-edge=PIXELS.
    #[arg(long, value_name = "HOW", value_delimiter = ',', requires = "finetune")]
    augment: Vec<Augmentation>,
    /// With --finetune: share of the float network's opinion in the loss of a classifier; the labels have the rest.
    #[arg(long, value_name = "SHARE", default_value_t = 0.5, requires = "finetune", value_parser = args::share)]
    distill: f32,
    /// With --finetune: softens that opinion.
    #[arg(long, value_name = "T", default_value_t = 4.0, requires = "finetune", value_parser = args::positive)]
    temperature: f32,
}

#[derive(Clone, Copy, Debug, PartialEq, clap::ValueEnum)]
enum EstimatorArg {
    /// From rounding and clipping (Esser et al. 2020).
    Lsq,
    /// From clipping alone (Choi et al. 2018).
    Pact,
}

impl FinetuneArgs {
    /// Whether anything is to be trained.
    pub(super) fn is_wanted(&self) -> bool {
        self.recipe.finetune.is_some()
    }

    /// Trains the weights of a pruned network, if that is wanted, with a checkpoint in `directory`.
    pub(super) fn train_weights(
        &self,
        graph: &Graph,
        teacher: &Graph,
        samples: &Samples,
        directory: &Path,
        seed: u64,
        progress: &Progress,
    ) -> Result<Option<Graph>> {
        let Some(recipe) = self.recipe.recipe(samples.metric) else { return Ok(None) };
        progress.stage("training what is left");
        let training = Training {
            graph,
            start: Start::Trained,
            norms: self.norms.into(),
            samples,
            recipe: &recipe,
            teacher: recipe.distillation.as_ref().map(|_| teacher),
            method: None,
            seed,
        };
        let trained = training.run(Some(directory), &mut |event| progress.training(event));
        Ok(Some(trained.with_context(|| stopped(directory))?.graph))
    }

    /// Trains the codes of `policy`, if that is wanted, with a checkpoint in `directory`.
    pub(super) fn train_codes(
        &self,
        workshop: &Workshop<'_>,
        policy: &Policy,
        teacher: &Graph,
        directory: &Path,
        progress: &Progress,
    ) -> Result<Option<TrainedCodes>> {
        let Some(recipe) = self.recipe.recipe(workshop.task.data.metric) else { return Ok(None) };
        progress.stage("training the codes");
        let start = workshop.bank()?.quantize(policy)?;
        let training = QuantisedTraining {
            start: &start,
            estimator: match self.estimator {
                EstimatorArg::Lsq => Estimator::Lsq,
                EstimatorArg::Pact => Estimator::Pact,
            },
            scheme: Scheme::FINEST,
            norms: self.norms.into(),
            samples: &workshop.task.data,
            recipe: &recipe,
            teacher: recipe.distillation.as_ref().map(|_| teacher),
            seed: workshop.settings.seed,
        };
        std::fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
        let trained = training.run(Some(directory), &mut |event| progress.training(event));
        Ok(Some(trained.with_context(|| stopped(directory))?))
    }
}

impl RecipeArgs {
    /// The recipe for a network that is judged by `metric`; none without --finetune.
    pub(super) fn recipe(&self, metric: Metric) -> Option<Recipe> {
        let usual = Recipe::fine_tuning(self.finetune?.get());
        let taught = self.distill > 0.0 && metric == Metric::Top1;
        Some(Recipe {
            batch: self.batch,
            schedule: Schedule { peak: self.rate, ..usual.schedule.clone() },
            augmentations: self.augment.clone(),
            averaging: self.average,
            distillation: taught.then(|| Distillation {
                logits: self.distill,
                temperature: self.temperature,
                features: 0.0,
                maps: Vec::new(),
            }),
            ..usual
        })
    }
}

fn stopped(directory: &Path) -> String {
    let checkpoint = directory.join(CHECKPOINT_FILE);
    format!("training stopped; started again, it goes on from {} if that is there", checkpoint.display())
}
