//! `--finetune`: training of the codes that a policy makes.

use std::num::NonZeroUsize;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::progress::Progress;
use crate::compile::Workshop;
use crate::data::Metric;
use crate::policy::Policy;
use crate::train::fit::CHECKPOINT_FILE;
use crate::train::{Augmentation, Distillation, Estimator, QuantisedTraining, Recipe, Schedule, TrainedCodes};

/// How codes are trained.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct FinetuneArgs {
    /// Train the codes of the policy for so many epochs (quantisation-aware training); a run that was killed goes on
    /// from the checkpoint among its results.
    #[arg(long, value_name = "EPOCHS")]
    finetune: Option<NonZeroUsize>,
    /// With --finetune: how the steps of the codes are learned.
    #[arg(long, value_enum, default_value = "lsq", requires = "finetune")]
    estimator: EstimatorArg,
    /// With --finetune: the highest learning rate.
    #[arg(long, value_name = "RATE", default_value_t = 3e-4, requires = "finetune")]
    rate: f32,
    /// With --finetune: change images at random: flip, invert, shift=PIXELS, shift-edge=PIXELS.
    #[arg(long, value_name = "HOW", value_delimiter = ',', requires = "finetune")]
    augment: Vec<Augmentation>,
    /// With --finetune: share of the float network's opinion in the loss of a classifier; the labels have the rest.
    #[arg(long, value_name = "SHARE", default_value_t = 0.5, requires = "finetune")]
    distill: f32,
    /// With --finetune: softens that opinion.
    #[arg(long, value_name = "T", default_value_t = 4.0, requires = "finetune")]
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
        self.finetune.is_some()
    }

    /// Trains the codes of `policy`, if that is wanted, with a checkpoint in `directory`.
    pub(super) fn train(
        &self,
        workshop: &Workshop<'_>,
        policy: &Policy,
        directory: &Path,
        progress: &Progress,
    ) -> Result<Option<TrainedCodes>> {
        let Some(epochs) = self.finetune else { return Ok(None) };
        let recipe = self.recipe(epochs.get(), workshop.task.data.metric)?;
        progress.stage("training the codes");
        let start = workshop.bank()?.quantize(policy)?;
        let training = QuantisedTraining {
            start: &start,
            estimator: match self.estimator {
                EstimatorArg::Lsq => Estimator::Lsq,
                EstimatorArg::Pact => Estimator::Pact,
            },
            samples: &workshop.task.data,
            recipe: &recipe,
            teacher: recipe.distillation.as_ref().map(|_| &workshop.task.graph),
            seed: workshop.settings.seed,
        };
        std::fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
        let trained = training.run(Some(directory), &mut |event| progress.training(event)).with_context(|| {
            let checkpoint = directory.join(CHECKPOINT_FILE);
            format!("training stopped; started again, it goes on from {} if that is there", checkpoint.display())
        })?;
        Ok(Some(trained))
    }

    fn recipe(&self, epochs: usize, metric: Metric) -> Result<Recipe> {
        if !(0.0..=1.0).contains(&self.distill) {
            bail!("--distill is a share: give a number from 0 to 1, not {}", self.distill);
        }
        if let Some((name, number)) = [("--rate", self.rate), ("--temperature", self.temperature)]
            .iter()
            .find(|(_, x)| !(*x > 0.0 && x.is_finite()))
        {
            bail!("{name} must be above 0, not {number}");
        }
        let usual = Recipe::fine_tuning(epochs);
        let taught = self.distill > 0.0 && metric == Metric::Top1;
        Ok(Recipe {
            schedule: Schedule { peak: self.rate, ..usual.schedule.clone() },
            augmentations: self.augment.clone(),
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
