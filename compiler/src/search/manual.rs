//! What an engineer would try first: the first and the last layer and depthwise layers at the widest, all others alike.

use super::space::Site;
use super::{Event, Front, Problem, SearchError, Selection, Statistics, Strategy, explain};

/// The widest policy of that kind within the budget.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manual;

impl Strategy for Manual {
    fn name(&self) -> &'static str {
        "manual"
    }

    fn search(&mut self, problem: &Problem, events: &mut dyn FnMut(Event)) -> Result<Front, SearchError> {
        problem.bounds()?;
        let sites = problem.space.sites();
        let is_delicate = |(place, site): (usize, &Site)| {
            let depthwise = problem.layers.iter().any(|layer| layer.name == site.name && layer.operator == "depthwise");
            depthwise || place == 0 || place + 1 == sites.len()
        };
        let most = sites.iter().map(|site| site.choices.len()).max().unwrap_or(0);
        for step in (0..most).rev() {
            let choose = |(place, site): (usize, &Site)| {
                let last = site.choices.len() - 1;
                if is_delicate((place, site)) { last } else { step.min(last) }
            };
            let selection = Selection::new(sites.iter().enumerate().map(choose).collect());
            let policy = problem.space.policy(&selection);
            if problem.within(&problem.costs_of(&policy)?) {
                events(Event::Finished {
                    summary: super::space::label(&sites[sites.len() / 2].choices[step.min(most - 1)]),
                });
                let statistics = Statistics { evaluations: 1, ..Statistics::default() };
                return problem.front(vec![problem.point("manual", policy)?], statistics);
            }
        }
        Err(explain::infeasible(problem)?.into())
    }
}
