//! From any selection to one within the budget: what strategies that guess need.

use super::explain;
use super::space::Site;
use super::{Costs, Problem, SearchError, Selection};

/// Narrows one layer after another, last to first, its activations by one step and then its weights, until the costs are
/// within their bounds: the action-space limit of HAQ (Wang et al., CVPR 2019, section 3.3), on true costs. A step that
/// lowers none of the costs that are too high is left out: bits of activations take no flash. Where no single step
/// lowers any, as where two tensors share the peak of RAM, all layers go a step.
///
/// # Errors
/// [`SearchError::Infeasible`] where the narrowest selection is still above a bound.
pub fn within_budget(problem: &Problem, selection: &Selection) -> Result<Selection, SearchError> {
    let mut at = Priced::new(problem, selection.clone())?;
    while !problem.within(&at.costs) {
        let before = at.selection.clone();
        at = sweep(problem, at, |next, now| next.is_cheaper(now, problem))?;
        if at.selection == before {
            at = sweep(problem, at, |_, _| true)?;
        }
        if at.selection == before {
            return Err(explain::infeasible(problem)?.into());
        }
    }
    Ok(at.selection)
}

/// One step of every layer that `wanted` lets pass, until the selection is within the bounds.
fn sweep(problem: &Problem, mut at: Priced, wanted: impl Fn(&Priced, &Priced) -> bool) -> Result<Priced, SearchError> {
    for (layer, site) in problem.space.sites().iter().enumerate().rev() {
        for narrower in [Site::narrower_activations, Site::narrower_weights] {
            if problem.within(&at.costs) {
                return Ok(at);
            }
            let Some(choice) = narrower(site, at.selection.choices()[layer]) else { continue };
            let next = Priced::new(problem, at.selection.with(layer, choice))?;
            if wanted(&next, &at) {
                at = next;
            }
        }
    }
    Ok(at)
}

/// A selection and what it costs, as far as that is bounded.
struct Priced {
    selection: Selection,
    costs: Costs,
}

impl Priced {
    fn new(problem: &Problem, selection: Selection) -> Result<Priced, SearchError> {
        Ok(Priced { costs: problem.bounded_costs_of(&problem.space.policy(&selection))?, selection })
    }

    /// Whether a cost that is too high `before` is lower.
    fn is_cheaper(&self, before: &Priced, problem: &Problem) -> bool {
        let amount = |priced: &Priced, metric| priced.costs.get(&metric).map_or(f64::INFINITY, |cost| cost.value());
        problem.budget.bounds().iter().any(|&(metric, bound)| {
            let now = amount(before, metric);
            now > bound.value() && amount(self, metric) < now
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::space::label;
    use crate::search::testing::Synthetic;
    use crate::search::{Budget, Metric, SplitMix64};
    use crate::units::{Bytes, Count};

    #[test]
    fn every_selection_comes_within_any_budget_that_can_be_met() {
        let mut random = SplitMix64(3);
        for seed in 0..40 {
            let mut net = Synthetic::new(2 + seed as usize % 6, &[2, 3, 4, 8], &[4, 8], seed);
            let [least, most] = [net.space.narrowest(), net.space.widest()].map(|selection| {
                let problem = net.problem();
                problem.costs_of(&net.space.policy(&selection)).unwrap()[&Metric::Flash].value()
            });
            net.budget = Budget { flash: Some(Bytes((least + (most - least) * random.unit()) as u64)), ..net.budget };
            let problem = net.problem();
            for _ in 0..10 {
                let draw = net.space.sites().iter().map(|site| random.below(site.choices.len()));
                let from = Selection::new(draw.collect());
                let to = within_budget(&problem, &from).unwrap();
                assert!(problem.within(&problem.costs_of(&net.space.policy(&to)).unwrap()));
                assert!(to.choices().iter().zip(from.choices()).all(|(to, from)| to <= from));
            }
            net.budget = Budget { flash: Some(Bytes(least as u64 - 1)), ..net.budget };
            let error = within_budget(&net.problem(), &net.space.widest()).unwrap_err();
            assert!(matches!(error, SearchError::Infeasible(_)), "{error}");
        }
    }

    #[test]
    fn the_last_layer_gives_way_first_and_one_step_at_a_time() {
        let mut net = Synthetic::new(3, &[2, 4, 8], &[4, 8], 1);
        let problem = net.problem();
        let widest = net.space.widest();
        let all = problem.costs_of(&net.space.policy(&widest)).unwrap()[&Metric::Flash].value();
        net.budget = Budget { flash: Some(Bytes(all as u64 - 1)), ..net.budget };
        let to = within_budget(&net.problem(), &widest).unwrap();
        let labels = |to: &Selection| net.space.policy(to).layers.values().map(label).collect::<Vec<_>>();
        assert_eq!(labels(&to), ["w8a8", "w8a8", "w4a8"], "activations take no flash");
        let all = costs(&net, &widest)[&Metric::Bitops].value();
        net.budget = Budget { bitops: Some(Count(all as u64 - 1)), ..Budget::default() };
        let to = within_budget(&net.problem(), &widest).unwrap();
        let labels = |to: &Selection| net.space.policy(to).layers.values().map(label).collect::<Vec<_>>();
        assert_eq!(labels(&to), ["w8a8", "w8a8", "w4a8"], "nothing reads the last layer's activations");
    }

    #[test]
    fn a_peak_that_several_tensors_share_comes_down_too() {
        let mut net = Synthetic::new(4, &[8], &[2, 4, 8], 1);
        let least = costs(&net, &net.space.narrowest())[&Metric::Ram];
        net.budget = Budget { ram: Some(Bytes(least.value() as u64)), ..Budget::default() };
        let to = within_budget(&net.problem(), &net.space.widest()).unwrap();
        assert_eq!(costs(&net, &to)[&Metric::Ram], least);
    }

    fn costs(net: &Synthetic, selection: &Selection) -> Costs {
        net.problem().costs_of(&net.space.policy(selection)).unwrap()
    }
}
