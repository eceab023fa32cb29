//! Policies that were guessed one by one: scored on calibration samples, the best of them on validation samples.

use std::collections::BTreeMap;

use super::{Event, Front, Problem, Score, SearchError, Selection, Statistics};

/// Guesses that are scored on validation samples.
const FINALISTS: usize = 16;

/// What a strategy has tried so far.
pub(crate) struct Guesses<'a, 'b> {
    problem: &'a Problem<'b>,
    name: &'static str,
    /// Scores on the calibration samples.
    scores: BTreeMap<Selection, Score>,
    /// Metrics in the order they came.
    tried: Vec<f64>,
}

impl<'a, 'b> Guesses<'a, 'b> {
    /// None yet, for the strategy of this name.
    pub(crate) fn new(problem: &'a Problem<'b>, name: &'static str) -> Guesses<'a, 'b> {
        Guesses { problem, name, scores: BTreeMap::new(), tried: Vec::new() }
    }

    /// How many distinct selections were scored.
    pub(crate) fn len(&self) -> usize {
        self.scores.len()
    }

    /// Whether a selection was scored before.
    pub(crate) fn contains(&self, selection: &Selection) -> bool {
        self.scores.contains_key(selection)
    }

    /// The score of a selection on the calibration samples, remembered.
    ///
    /// # Errors
    /// As [`Problem::calibrate`].
    pub(crate) fn score(&mut self, selection: &Selection, events: &mut dyn FnMut(Event)) -> Result<Score, SearchError> {
        if let Some(&known) = self.scores.get(selection) {
            return Ok(known);
        }
        let score = self.problem.calibrate(&self.problem.space.policy(selection))?;
        self.scores.insert(selection.clone(), score);
        self.tried.push(score.metric);
        events(Event::Step { label: format!("{} {}: {:.4}", self.name, self.len(), score.metric) });
        Ok(score)
    }

    /// Scored selections, best first.
    pub(crate) fn best(&self) -> Vec<(&Selection, Score)> {
        let mut sorted: Vec<_> = self.scores.iter().map(|(selection, score)| (selection, *score)).collect();
        sorted.sort_by(|a, b| a.1.loss.total_cmp(&b.1.loss).then_with(|| a.0.cmp(b.0)));
        sorted
    }

    /// The front of the best ones.
    ///
    /// # Errors
    /// As [`Problem::point`] and [`Problem::front`].
    pub(crate) fn front(&self, events: &mut dyn FnMut(Event)) -> Result<Front, SearchError> {
        let finalists = self.best().into_iter().take(FINALISTS);
        let points =
            finalists.map(|(selection, _)| self.problem.point(self.name, self.problem.space.policy(selection)));
        let points: Vec<_> = points.collect::<Result<_, _>>()?;
        events(Event::Finished { summary: format!("{} distinct policies", self.len()) });
        let (evaluations, tried) = (self.len(), self.tried.clone());
        self.problem.front(points, Statistics { evaluations, tried, ..Statistics::default() })
    }
}
