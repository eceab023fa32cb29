//! A look around the knapsack's solution with the true loss.
//!
//! Sensitivities are measured one layer at a time, but losses of many layers do not quite add. So
//! half of the evaluations go to the solutions of knapsacks whose layers count for somewhat more or
//! less, and the rest to trades around the best: one layer widened, another narrowed to pay for it.
//! Loss on the calibration samples decides.

use std::collections::BTreeMap;

use super::exact::Solved;
use super::knapsack::{Knapsack, lagrangian};
use super::widths::Narrowed;
use super::{Event, Problem, SearchError, Selection, SplitMix64};

/// What came of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Refined {
    /// The best selection met; the start, where nothing better was.
    pub selection: Selection,
    /// Its loss on the calibration samples; `None` where nothing was scored.
    pub loss: Option<f64>,
    /// Policies scored.
    pub evaluations: usize,
}

/// Scores at most `evaluations` selections around a solution, within the bounds of `problem`, and returns the best.
///
/// # Errors
/// [`SearchError::Evaluation`], [`SearchError::NotFinite`] and [`SearchError::Cost`].
pub(super) fn refine(
    problem: &Problem,
    solved: &Solved,
    evaluations: usize,
    events: &mut dyn FnMut(Event),
) -> Result<Refined, SearchError> {
    if evaluations < 2 {
        return Ok(Refined { selection: solved.selection.clone(), loss: None, evaluations: 0 });
    }
    events(Event::Stage { name: "refine", steps: evaluations });
    let (start, knapsack) = (solved.selection.clone(), &solved.knapsack);
    let mut tried = Tried { problem, knapsack, losses: BTreeMap::new(), best: start.clone(), least: f64::INFINITY };
    tried.score(&start, events)?;
    for candidate in perturbed(problem, &solved.narrowed, evaluations / 2) {
        if tried.losses.len() < evaluations / 2 + 1 && tried.allowed(&candidate)? {
            tried.score(&candidate, events)?;
        }
    }
    while tried.losses.len() < evaluations {
        let Some(next) = tried.next_trade()? else { break };
        tried.score(&next, events)?;
    }
    events(Event::Finished { summary: format!("loss {:.4} after {} policies", tried.least, tried.losses.len()) });
    Ok(Refined { selection: tried.best, loss: Some(tried.least), evaluations: tried.losses.len() })
}

/// Solutions of the knapsack with every layer's values stretched by up to a factor of 3 either way; widths stay.
fn perturbed(problem: &Problem, narrowed: &Narrowed, wanted: usize) -> Vec<Selection> {
    let knapsack = &narrowed.knapsack;
    let mut random = SplitMix64(problem.seed ^ 0x7265_6669_6e65);
    let mut found = Vec::new();
    let rounds = 4 * wanted;
    for round in 0..rounds {
        if found.len() == wanted {
            break;
        }
        // Small doubts first: near the solution the sum of sensitivities is trusted most.
        let doubt = 3f64.ln() * (round as f64 + 1.0) / rounds as f64;
        let stretch = |row: &Vec<f64>| {
            let factor = (doubt * (2.0 * random.unit() - 1.0)).exp();
            row.iter().map(|v| v * factor).collect()
        };
        let values = knapsack.values.iter().map(stretch).collect();
        let solution = lagrangian(&Knapsack { values, limits: knapsack.limits.clone() }).solution;
        let selection = solution.map(|solution| narrowed.whole(&solution.selection));
        found.extend(selection.filter(|selection| !found.contains(selection)));
    }
    found
}

struct Tried<'a> {
    problem: &'a Problem<'a>,
    knapsack: &'a Knapsack,
    losses: BTreeMap<Selection, f64>,
    best: Selection,
    least: f64,
}

impl Tried<'_> {
    fn score(&mut self, selection: &Selection, events: &mut dyn FnMut(Event)) -> Result<(), SearchError> {
        let loss = self.problem.calibrate(&self.problem.space.policy(selection))?.loss;
        self.losses.insert(selection.clone(), loss);
        if loss < self.least {
            self.least = loss;
            self.best = selection.clone();
        }
        events(Event::Step { label: format!("loss {loss:.4}, best {:.4}", self.least) });
        Ok(())
    }

    fn allowed(&self, selection: &Selection) -> Result<bool, SearchError> {
        if self.losses.contains_key(selection) {
            return Ok(false);
        }
        let costs = self.problem.costs_of(&self.problem.space.policy(selection))?;
        Ok(self.problem.within(&costs))
    }

    /// The untried change around the best that the sensitivities like most: one layer widened, or
    /// one widened and another narrowed.
    fn next_trade(&self) -> Result<Option<Selection>, SearchError> {
        let steps = |layer: usize| {
            let (now, choices) = (self.best.choices()[layer], self.knapsack.values[layer].len());
            (now.saturating_sub(2)..choices.min(now + 3)).filter(move |&c| c != now)
        };
        let layers = self.best.choices().len();
        let mut trades: Vec<(f64, Selection)> = Vec::new();
        for a in 0..layers {
            for choice in steps(a) {
                let one = self.best.with(a, choice);
                trades.push((self.knapsack.value(&one), one.clone()));
                for b in a + 1..layers {
                    trades.extend(steps(b).map(|other| {
                        let two = one.with(b, other);
                        (self.knapsack.value(&two), two)
                    }));
                }
            }
        }
        trades.sort_by(|x, y| x.0.total_cmp(&y.0).then_with(|| x.1.cmp(&y.1)));
        for (_, trade) in trades {
            if self.knapsack.within(&trade) && self.allowed(&trade)? {
                return Ok(Some(trade));
            }
        }
        Ok(None)
    }
}
