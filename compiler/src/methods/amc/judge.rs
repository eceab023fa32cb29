//! How good a pruned network is before any training: refitted on some samples, scored on others.

use super::AmcError;
use crate::data::Split;
use crate::eval::Net;
use crate::ir::Graph;
use crate::ir::channels::Kept;
use crate::prune::Refitter;
use crate::quant::CalibrationConfig;
use crate::task::Task;

/// How much is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// Training inputs that layers are refitted on.
    pub refitted: usize,
    /// Most windows of them for a layer.
    pub rows: usize,
    /// Validation samples that are scored.
    pub scored: usize,
}

impl Effort {
    /// Of an episode: a fraction of a second for a network of ten million multiply-accumulates.
    pub const EPISODE: Effort = Effort { refitted: 256, rows: 10_000, scored: 1000 };
    /// Of a network that is to be kept.
    pub const LAST: Effort = Effort { refitted: 3000, rows: 60_000, scored: usize::MAX };
}

/// Refits and scores pruned versions of one network, each on the same samples.
pub struct Judge<'a> {
    task: &'a Task,
    refitter: Refitter<'a>,
    scored: &'a [u32],
}

impl<'a> Judge<'a> {
    /// # Errors
    /// When the validation samples do not say how good a network is, or it does not run.
    pub fn new(task: &'a Task, effort: Effort) -> Result<Judge<'a>, AmcError> {
        let data = &task.data;
        if !data.judges(Split::Val) {
            return Err(AmcError::Unjudged { data: data.dataset.name.clone(), metric: data.metric });
        }
        let config = CalibrationConfig { rows_per_layer: effort.rows, seed: 0 };
        let refitter = Refitter::new(&task.graph, data.spread(Split::Train, effort.refitted)?, &config)?;
        Ok(Judge { task, refitter, scored: data.indices(Split::Val, Some(effort.scored))? })
    }

    /// `pruned`, of which the channels `kept` are left, refitted; and its score.
    ///
    /// # Errors
    /// When it does not run.
    pub fn refit(&self, pruned: Graph, kept: &Kept) -> Result<(Graph, f64), AmcError> {
        let refitted = self.refitter.refit(pruned, kept)?;
        let score = self.score(&refitted)?;
        Ok((refitted, score))
    }

    /// `pruned`, of which single weights are left, refitted; and its score.
    ///
    /// # Errors
    /// When it does not run.
    pub fn refit_weights(&self, pruned: Graph) -> Result<(Graph, f64), AmcError> {
        let refitted = self.refitter.refit_weights(pruned)?;
        let score = self.score(&refitted)?;
        Ok((refitted, score))
    }

    /// The score of a network as it is.
    ///
    /// # Errors
    /// When it does not run.
    pub fn score(&self, graph: &Graph) -> Result<f64, AmcError> {
        Ok(self.task.data.score_net(&Net::float(graph)?, self.scored)?.value)
    }
}
