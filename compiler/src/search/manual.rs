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
                let statistics = Statistics { evaluations: 1, ..Statistics::default() };
                let point = problem.point("manual", policy)?;
                events(Event::Finished { summary: format!("manual: {:.4}", point.score.metric) });
                return problem.front(vec![point], statistics);
            }
        }
        Err(explain::infeasible(problem)?.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::space::label;
    use crate::search::testing::{Synthetic, quiet};
    use crate::search::{Budget, Metric};
    use crate::units::Bytes;

    #[test]
    fn the_middle_gives_way_and_the_edges_stay() {
        let mut net = Synthetic::new(4, &[2, 4, 8], &[8], 1);
        let bytes = |net: &Synthetic, selection| {
            net.problem().costs_of(&net.space.policy(selection)).unwrap()[&Metric::Flash].value() as u64
        };
        let wanted = Selection::new(vec![2, 1, 1, 2]);
        net.budget = Budget { flash: Some(Bytes(bytes(&net, &wanted))), ..net.budget };
        let chosen = Manual.search(&net.problem(), &mut quiet()).unwrap().chosen;
        let labels: Vec<String> = chosen.policy.layers.values().map(label).collect();
        assert_eq!(labels, ["w8a8", "w4a8", "w4a8", "w8a8"]);
        let edges = Selection::new(vec![2, 0, 0, 2]);
        net.budget = Budget { flash: Some(Bytes(bytes(&net, &edges) - 1)), ..net.budget };
        let none = Manual.search(&net.problem(), &mut quiet());
        assert!(matches!(none, Err(SearchError::Infeasible(_))), "{none:?}");
    }
}
