//! Evolution: children of the best policies so far.

use super::guesses::Guesses;
use super::project::within_budget;
use super::random::draw;
use super::{Event, Front, Problem, SearchError, Selection, SplitMix64, Strategy};

/// Parents at a time.
const PARENTS: usize = 16;
/// One layer of so many is decided anew in a child.
const ONE_OF: usize = 6;
/// Children in a row that were there before, after which evolution has come to its end.
const PATIENCE: usize = 200;

/// Best of so many policies, each brought within the budget: random ones at first, then children of two of the best.
#[derive(Clone, Debug)]
pub struct Evolution {
    /// How many policies are scored at most.
    pub evaluations: usize,
}

impl Strategy for Evolution {
    fn name(&self) -> &'static str {
        "evolution"
    }

    fn search(&mut self, problem: &Problem, events: &mut dyn FnMut(Event)) -> Result<Front, SearchError> {
        problem.bounds()?;
        events(Event::Stage { name: "evolution", steps: self.evaluations });
        let mut random = SplitMix64(problem.seed ^ 0x6576_6f6c);
        let mut guesses = Guesses::new(problem, "evolution");
        let mut known = 0;
        while guesses.len() < self.evaluations && known < PATIENCE {
            let from = match guesses.len() < 2 * PARENTS.min(self.evaluations / 4) {
                true => draw(problem, &mut random),
                false => child(&guesses, problem, &mut random),
            };
            let selection = within_budget(problem, &from)?;
            known = if guesses.contains(&selection) { known + 1 } else { 0 };
            guesses.score(&selection, events)?;
        }
        guesses.front(events)
    }
}

fn child(guesses: &Guesses<'_, '_>, problem: &Problem, random: &mut SplitMix64) -> Selection {
    let parents: Vec<&Selection> = guesses.best().into_iter().take(PARENTS).map(|(selection, _)| selection).collect();
    let [one, other] = [(); 2].map(|()| parents[random.below(parents.len())].choices());
    let sites = problem.space.sites().iter().enumerate();
    let decide = |(layer, site): (usize, &super::space::Site)| {
        let inherited = if random.below(2) == 0 { one[layer] } else { other[layer] };
        if random.below(ONE_OF) == 0 { random.below(site.choices.len()) } else { inherited }
    };
    Selection::new(sites.map(decide).collect())
}
