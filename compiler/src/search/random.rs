//! Random search: what any search with as many evaluations must beat.

use super::project::within_budget;
use super::{Event, Front, Problem, SearchError, Selection, SplitMix64, Statistics, Strategy};

/// Best of so many random policies, each brought within the budget.
#[derive(Clone, Debug)]
pub struct Random {
    /// How many distinct policies are scored at most.
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
        let mut seen = std::collections::BTreeSet::new();
        let mut points = Vec::new();
        for _ in 0..self.evaluations {
            let draw = problem.space.sites().iter().map(|site| random.below(site.choices.len()));
            let selection = within_budget(problem, &Selection::new(draw.collect()))?;
            if seen.insert(selection.clone()) {
                points.push(problem.point("random", problem.space.policy(&selection))?);
                events(Event::Step { label: format!("random {}", points.len()) });
            }
        }
        events(Event::Finished { summary: format!("{} distinct policies", points.len()) });
        let statistics = Statistics { evaluations: points.len(), ..Statistics::default() };
        problem.front(points, statistics)
    }
}
