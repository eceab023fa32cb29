//! Why a budget cannot be met, how near one can get, and what to relax.

use std::fmt;

use crate::cost::{Cost, Linear};
use crate::policy::Policy;
use crate::units::Quantity;

use super::exact::{Bound, solve};
use super::space::{Site, label};
use super::{Costs, Metric, Problem, SearchError, Selection, Space};

/// A budget that no policy of the space meets.
#[derive(Clone, Debug, PartialEq)]
pub struct Infeasible {
    /// The bounds at fault.
    pub failing: Vec<Failing>,
    /// Whether each of them fails by itself; else they can be met, but not together.
    pub alone: bool,
    /// The policy nearest to the budget.
    pub nearest: Policy,
    /// Its prices.
    pub costs: Costs,
}

/// One bound that cannot be met.
#[derive(Clone, Debug, PartialEq)]
pub struct Failing {
    /// What it bounds.
    pub metric: Metric,
    /// The bound.
    pub bound: Quantity,
    /// The least that is reachable: of all, where the bound fails by itself; else with the other
    /// bounds met, `None` where those too cannot be met together.
    pub least: Option<Quantity>,
    /// The layers that take most of it there, with their share and their decision.
    pub largest: Vec<(String, Quantity)>,
}

/// Explains the budget of `problem`, which no policy is known to meet.
///
/// # Errors
/// As the costs that it asks.
pub fn infeasible(problem: &Problem) -> Result<Box<Infeasible>, SearchError> {
    let bounds = problem.bounds()?;
    let mut met: Vec<Selection> = vec![problem.space.narrowest()];
    let mut alone = Vec::new();
    for &(cost, bound) in &bounds {
        if let Some(selection) = least(problem, cost, &[])? {
            let price = cost.of(&problem.space.policy(&selection))?;
            if price.value() > bound.value() {
                alone.push(failing(problem, cost, bound, Some(&selection))?);
            }
            met.push(selection);
        }
    }
    let by_itself = !alone.is_empty();
    let mut together = Vec::new();
    for (index, &(cost, bound)) in bounds.iter().enumerate() {
        let others: Vec<Bound> = bounds.iter().enumerate().filter(|(i, _)| *i != index).map(|(_, b)| *b).collect();
        let selection = least(problem, cost, &others)?;
        together.push(failing(problem, cost, bound, selection.as_ref())?);
        met.extend(selection);
    }
    // A bound is at fault where the others can be met without it.
    if together.iter().any(|failing| failing.least.is_some()) {
        together.retain(|failing| failing.least.is_some());
    }
    let mut nearest: Option<(f64, Selection)> = None;
    for selection in met {
        let excess = excess(problem, &bounds, &selection)?;
        if nearest.as_ref().is_none_or(|(least, _)| excess < *least) {
            nearest = Some((excess, selection));
        }
    }
    let nearest = problem.space.policy(&nearest.map_or_else(|| problem.space.narrowest(), |(_, s)| s));
    let costs = problem.costs_of(&nearest)?;
    Ok(Box::new(Infeasible { failing: if by_itself { alone } else { together }, alone: by_itself, nearest, costs }))
}

/// The selection of least `cost` within `others`.
fn least(problem: &Problem, cost: &dyn Cost, others: &[Bound]) -> Result<Option<Selection>, SearchError> {
    let space: &Space = problem.space;
    let values = match Linear::around(cost, space, &space.narrowest())? {
        Some(linear) => linear.sum,
        // A cost that is no sum is least where its choices are narrowest.
        None => {
            let narrowest_first = |site: &Site| (0..site.choices.len()).map(|c| c as f64).collect();
            space.sites().iter().map(narrowest_first).collect::<Vec<_>>().into()
        }
    };
    Ok(solve(problem, &values, others)?.map(|solved| solved.selection))
}

fn failing(
    problem: &Problem,
    cost: &dyn Cost,
    bound: Quantity,
    selection: Option<&Selection>,
) -> Result<Failing, SearchError> {
    let mut failing = Failing { metric: cost.metric(), bound, least: None, largest: Vec::new() };
    let Some(selection) = selection else { return Ok(failing) };
    let policy = problem.space.policy(selection);
    failing.least = Some(cost.of(&policy)?);
    let mut shares = cost.per_layer(&policy)?;
    shares.sort_by(|a, b| b.1.total_cmp(&a.1));
    for (name, share) in shares.into_iter().take(3).filter(|(_, share)| *share > 0.0) {
        let decision = policy.layers.get(&name).map(|layer| format!(" at {}", label(layer))).unwrap_or_default();
        failing.largest.push((format!("{name}{decision}"), Quantity::new(share, cost.unit())));
    }
    Ok(failing)
}

/// By how much the worst bound is exceeded, as a share of it.
fn excess(problem: &Problem, bounds: &[Bound], selection: &Selection) -> Result<f64, SearchError> {
    let policy = problem.space.policy(selection);
    let mut worst = 0.0f64;
    for (cost, bound) in bounds {
        worst = worst.max(cost.of(&policy)?.value() / bound.value().max(1e-12));
    }
    Ok(worst)
}

impl std::error::Error for Infeasible {}

impl fmt::Display for Infeasible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.alone {
            for (i, failing) in self.failing.iter().enumerate() {
                f.write_str(if i > 0 { "; " } else { "" })?;
                failing.write_alone(f)?;
            }
        } else {
            let flags: Vec<String> = self.failing.iter().map(|x| format!("{} {}", x.metric.flag(), x.bound)).collect();
            write!(f, "{} cannot be met together", flags.join(" and "))?;
            for failing in &self.failing {
                if let Some(least) = failing.least {
                    write!(f, "; with the others kept, {} goes down to {least}", failing.metric)?;
                }
            }
        }
        let prices: Vec<String> = self.costs.iter().map(|(metric, cost)| format!("{metric} {cost}")).collect();
        write!(f, "; the nearest reachable point is {}", prices.join(", "))?;
        let relaxed = self.failing.iter().filter_map(|x| {
            let reached = *self.costs.get(&x.metric)?;
            (reached.value() > x.bound.value()).then(|| format!("{} to {}", x.metric.flag(), reached.as_bound()))
        });
        let relaxed: Vec<String> = relaxed.collect();
        if !relaxed.is_empty() {
            write!(f, ": raise {}", relaxed.join(" and "))?;
        }
        Ok(())
    }
}

impl Failing {
    fn write_alone(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} cannot be met: the smallest policy takes ", self.metric.flag(), self.bound)?;
        match self.least {
            Some(least) => write!(f, "{least}")?,
            None => f.write_str("more")?,
        }
        let largest: Vec<String> = self.largest.iter().map(|(name, share)| format!("{name}: {share}")).collect();
        if largest.is_empty() { Ok(()) } else { write!(f, " ({})", largest.join(", ")) }
    }
}
