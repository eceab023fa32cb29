//! Random search: what any search with as many evaluations must beat.

use super::guesses::Guesses;
use super::project::within_budget;
use super::{Event, Front, Problem, SearchError, Selection, SplitMix64, Strategy};

/// Best of so many random policies, each brought within the budget.
#[derive(Clone, Debug)]
pub struct Random {
    /// How many policies are drawn; those that were drawn before are not scored again.
    pub evaluations: usize,
}

impl Strategy for Random {
    fn name(&self) -> &'static str {
        "random"
    }

    fn search(&mut self, problem: &Problem, events: &mut dyn FnMut(Event)) -> Result<Front, SearchError> {
        problem.bounds()?;
        events(Event::Stage { name: "random", steps: self.evaluations });
        let mut random = SplitMix64(problem.seed);
        let mut guesses = Guesses::new(problem, "random");
        for _ in 0..self.evaluations {
            guesses.score(&within_budget(problem, &draw(problem, &mut random))?, events)?;
        }
        guesses.front(events)
    }
}

/// Any selection.
pub(crate) fn draw(problem: &Problem, random: &mut SplitMix64) -> Selection {
    Selection::new(problem.space.sites().iter().map(|site| random.below(site.choices.len())).collect())
}
