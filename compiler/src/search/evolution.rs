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
            let from = match guesses.len() < (2 * PARENTS).min(self.evaluations / 2).max(1) {
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

/// Each layer as one of two parents has it, or decided anew.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::random::Random;
    use crate::search::testing::{Synthetic, quiet};
    use crate::search::{Budget, Metric};
    use crate::units::Bytes;

    #[test]
    fn children_are_better_than_guesses() {
        let (mut bred, mut guessed) = (0.0, 0.0);
        for seed in 0..10 {
            let mut net = Synthetic::new(8, &[2, 3, 4, 6, 8], &[8], seed);
            let widest =
                net.problem().costs_of(&net.space.policy(&net.space.widest())).unwrap()[&Metric::Flash].value();
            net.budget = Budget { flash: Some(Bytes((0.7 * widest) as u64)), ..net.budget };
            let chosen = |strategy: &mut dyn Strategy| strategy.search(&net.problem(), &mut quiet()).unwrap().chosen;
            let found = chosen(&mut Evolution { evaluations: 100 });
            assert!(net.problem().within(&found.costs));
            bred += found.score.loss;
            guessed += chosen(&mut Random { evaluations: 100 }).score.loss;
        }
        assert!(bred < guessed, "{bred} and {guessed}");
    }

    #[test]
    fn one_policy_is_enough_to_begin_with() {
        let mut net = Synthetic::new(3, &[2, 8], &[8], 0);
        net.budget = Budget { flash: Some(Bytes(1 << 20)), ..net.budget };
        for evaluations in 1..5 {
            let front = Evolution { evaluations }.search(&net.problem(), &mut quiet());
            assert!(matches!(front, Ok(front) if front.statistics.evaluations <= evaluations));
        }
    }
}
