//! A little training before a policy is scored: few bits look worse than they are where nothing was trained (Wang et al., *HAQ*,
//! CVPR 2019, section 3.4, where it is an epoch).

use crate::data::Metric;
use crate::ir::Graph;
use crate::quant::{Quantized, Scheme};
use crate::task::Samples;
use crate::train::fit::TrainError;
use crate::train::{Distillation, Estimator, Norms, QuantisedTraining, Recipe, Schedule};

/// Validation samples that training itself looks at: they choose nothing but whether it did any good.
const JUDGED: usize = 512;

/// Trains the codes of policies, each on the same few samples.
pub struct Tuning<'a> {
    teacher: &'a Graph,
    samples: Samples,
    recipe: Recipe,
    seed: u64,
}

impl<'a> Tuning<'a> {
    /// On the first `samples` training samples of `data`; `teacher` is the float network.
    pub fn new(teacher: &'a Graph, data: &Samples, samples: usize, seed: u64) -> Tuning<'a> {
        let mut few = data.clone();
        few.dataset.splits.train.truncate(samples);
        few.dataset.splits.val.truncate(JUDGED);
        let usual = Recipe::fine_tuning(1);
        let distillation = (data.metric == Metric::Top1).then_some(Distillation {
            logits: 0.7,
            temperature: 4.0,
            features: 0.0,
            maps: Vec::new(),
        });
        let recipe =
            Recipe { batch: 32, schedule: Schedule { peak: 1e-3, ..usual.schedule.clone() }, distillation, ..usual };
        Tuning { teacher, samples: few, recipe, seed }
    }

    /// The codes of a policy after training.
    ///
    /// # Errors
    /// See [`TrainError`].
    pub fn train(&self, start: &Quantized) -> Result<Quantized, TrainError> {
        let training = QuantisedTraining {
            start,
            estimator: Estimator::Lsq,
            scheme: Scheme::FINEST,
            norms: Norms::Bias,
            samples: &self.samples,
            recipe: &self.recipe,
            teacher: self.recipe.distillation.as_ref().map(|_| self.teacher),
            seed: self.seed,
        };
        Ok(training.run(None, &mut |_| ())?.quantized)
    }
}
