//! From any selection to one within the budget: what strategies that guess need.

use super::explain;
use super::{Problem, SearchError, Selection};

/// Narrows one layer after another, last to first and one step at a time, until the costs are within
/// their bounds: the action-space limit of HAQ (Wang et al., CVPR 2019, section 3.3), on true costs.
///
/// # Errors
/// [`SearchError::Infeasible`] where the narrowest selection is still above a bound.
pub fn within_budget(problem: &Problem, selection: &Selection) -> Result<Selection, SearchError> {
    let mut current = selection.clone();
    loop {
        for layer in (0..current.choices().len()).rev() {
            if problem.within(&problem.costs_of(&problem.space.policy(&current))?) {
                return Ok(current);
            }
            current = current.with(layer, current.choices()[layer].saturating_sub(1));
        }
        if current == problem.space.narrowest() {
            if problem.within(&problem.costs_of(&problem.space.policy(&current))?) {
                return Ok(current);
            }
            return Err(explain::infeasible(problem)?.into());
        }
    }
}
