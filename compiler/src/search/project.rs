//! From any selection to one within the budget: what strategies that guess need.

use super::explain;
use super::space::Site;
use super::{Problem, SearchError, Selection};

/// Narrows one layer after another, last to first, its activations by one step and then its weights, until the costs are
/// within their bounds: the action-space limit of HAQ (Wang et al., CVPR 2019, section 3.3), on true costs.
///
/// # Errors
/// [`SearchError::Infeasible`] where the narrowest selection is still above a bound.
pub fn within_budget(problem: &Problem, selection: &Selection) -> Result<Selection, SearchError> {
    let is_within = |selection: &Selection| -> Result<bool, SearchError> {
        Ok(problem.within(&problem.costs_of(&problem.space.policy(selection))?))
    };
    let mut current = selection.clone();
    if is_within(&current)? {
        return Ok(current);
    }
    loop {
        let before = current.clone();
        for (layer, site) in problem.space.sites().iter().enumerate().rev() {
            for narrower in [Site::narrower_activations, Site::narrower_weights] {
                let Some(choice) = narrower(site, current.choices()[layer]) else { continue };
                current = current.with(layer, choice);
                if is_within(&current)? {
                    return Ok(current);
                }
            }
        }
        if current == before {
            return Err(explain::infeasible(problem)?.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::testing::Synthetic;
    use crate::search::{Budget, SplitMix64};
    use crate::units::Bytes;

    #[test]
    fn every_selection_comes_within_any_budget_that_can_be_met() {
        let mut random = SplitMix64(3);
        for seed in 0..40 {
            let mut net = Synthetic::new(2 + seed as usize % 6, &[2, 3, 4, 8], &[4, 8], seed);
            let [least, most] = [net.space.narrowest(), net.space.widest()].map(|selection| {
                let problem = net.problem();
                problem.costs_of(&net.space.policy(&selection)).unwrap()[&crate::search::Metric::Flash].value()
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
        let all = problem.costs_of(&net.space.policy(&widest)).unwrap()[&crate::search::Metric::Flash].value();
        net.budget = Budget { flash: Some(Bytes(all as u64 - 1)), ..net.budget };
        let to = within_budget(&net.problem(), &widest).unwrap();
        // Activations do not count in flash, but they go before the weights that do.
        let labels: Vec<String> = net.space.policy(&to).layers.values().map(crate::search::space::label).collect();
        assert_eq!(labels, ["w8a8", "w8a8", "w4a4"]);
    }
}
