//! The same decision for every layer: what mixed precision must beat.

use super::space::label;
use super::{Event, Front, Point, Problem, SearchError, Selection, Statistics, Strategy};

/// Every decision that all layers with a choice offer, one policy each.
#[derive(Clone, Debug, Default)]
pub struct Uniform;

/// One policy for each decision that all layers with a choice offer, scored and priced, whether or
/// not it is within the budget; layers with a single choice keep it.
///
/// # Errors
/// As [`Problem::point`].
pub fn points(problem: &Problem, events: &mut dyn FnMut(Event)) -> Result<Vec<Point>, SearchError> {
    let sites = problem.space.sites();
    let free: Vec<_> = sites.iter().filter(|site| site.choices.len() > 1).collect();
    let shared = free.first().map_or(&[][..], |site| site.choices.as_slice());
    let shared: Vec<_> = shared.iter().filter(|c| free.iter().all(|site| site.choices.contains(c))).collect();
    events(Event::Stage { name: "uniform", steps: shared.len() });
    let mut points = Vec::new();
    for choice in shared {
        let index = sites.iter().map(|site| site.choices.iter().position(|c| c == choice).unwrap_or(0));
        let selection = Selection::new(index.collect());
        points.push(problem.point(&label(choice), problem.space.policy(&selection))?);
        events(Event::Step { label: label(choice) });
    }
    events(Event::Finished { summary: format!("{} policies", points.len()) });
    Ok(points)
}

impl Strategy for Uniform {
    fn name(&self) -> &'static str {
        "uniform"
    }

    fn search(&mut self, problem: &Problem, events: &mut dyn FnMut(Event)) -> Result<Front, SearchError> {
        problem.bounds()?;
        let points = points(problem, events)?;
        let statistics = Statistics { evaluations: points.len(), ..Statistics::default() };
        problem.front(points, statistics)
    }
}
