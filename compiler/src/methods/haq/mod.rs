//! HAQ: a width for each layer's weights and activations, found by an agent (Wang et al., *HAQ: Hardware-Aware Automated
//! Quantization with Mixed Precision*, CVPR 2019).
//!
//! An episode walks through the layers and decides each one's weights, then, where there is a choice, its activations
//! ([`environment`]). The policy that comes out is narrowed to the budget ([`within_budget`], section 3.3) on true costs: a
//! measured latency, the bytes of the blob. Its reward is what it loses of the score (section 3.4), all steps share it.
//! Whether codes are trained a little before that is the scorer's matter ([`crate::tuning`]).

mod environment;

use self::environment::Environment;
use crate::search::ddpg::{Agent, Config, Step, unknown};
use crate::search::guesses::Guesses;
use crate::search::project::within_budget;
use crate::search::{Event, Front, Problem, SearchError, Selection, Strategy};

/// What a point (hundredth) of the score counts in the reward (section 3.4).
const REWARD: f32 = 0.1;

/// What the agent remembers of an episode whose policy was narrowed to the budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Credit {
    /// What was scored: the narrowed decisions, as if the agent had made them.
    #[default]
    Narrowed,
    /// What the agent decided, as the authors' code has it.
    Decided,
}

/// The search.
#[derive(Clone, Debug)]
pub struct Haq {
    /// Policies that the agent tries.
    pub episodes: usize,
    /// What it learns from.
    pub credit: Credit,
}

impl Haq {
    /// Episodes of the paper.
    pub const EPISODES: usize = 600;
}

impl Strategy for Haq {
    fn name(&self) -> &'static str {
        "haq"
    }

    fn search(&mut self, problem: &Problem, events: &mut dyn FnMut(Event)) -> Result<Front, SearchError> {
        problem.bounds()?;
        let environment = Environment::new(problem)?;
        events(Event::Stage { name: "haq", steps: self.episodes });
        let config = Config::new(self.episodes, environment.steps());
        let mut agent = Agent::new(environment.state_len(), config, problem.seed);
        let mut guesses = Guesses::new(problem, "haq");
        for _ in 0..self.episodes {
            let mut episode = |wider| -> Result<(Selection, Vec<Step>), SearchError> {
                let (decided, steps) = environment.walk(|state| agent.explore(state, wider));
                let narrowed = within_budget(problem, &decided)?;
                Ok(match self.credit {
                    Credit::Narrowed => (narrowed.clone(), environment.steps_of(&narrowed)),
                    Credit::Decided => (narrowed, steps),
                })
            };
            let (selection, steps) = unknown(&mut episode, |selection| guesses.contains(selection))?;
            let score = guesses.score(&selection, events)?;
            // The float score is of other samples; what is the same for all episodes the agent's baseline takes off.
            agent.learn(&steps, REWARD * (100.0 * (score.metric - problem.float.metric)) as f32);
        }
        guesses.front(events)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::random::Random;
    use crate::search::testing::{Synthetic, quiet};
    use crate::search::{Budget, Metric, SplitMix64};
    use crate::units::Bytes;

    /// Six layers, 2 to 8 bits, a third of the way from the least bytes to the most.
    fn made_up(seed: u64) -> Synthetic {
        let mut net = Synthetic::new(6, &[2, 3, 4, 5, 6, 7, 8], &[8], seed);
        let bytes = |selection| net.problem().costs_of(&net.space.policy(&selection)).unwrap()[&Metric::Flash].value();
        let [least, most] = [net.space.narrowest(), net.space.widest()].map(bytes);
        net.budget = Budget { flash: Some(Bytes((least + (most - least) / 3.0) as u64)), ..net.budget };
        net
    }

    /// The least loss within the budget, of all 117,649 policies.
    fn optimum(net: &Synthetic) -> f64 {
        let problem = net.problem();
        let n = net.space.sites()[0].choices.len();
        let mut best = f64::INFINITY;
        for number in 0..n.pow(6) {
            let selection = Selection::new((0..6u32).map(|i| number / n.pow(i) % n).collect());
            let policy = net.space.policy(&selection);
            let loss = net.loss(&policy);
            if loss < best && problem.within(&problem.costs_of(&policy).unwrap()) {
                best = loss;
            }
        }
        best
    }

    #[test]
    fn comes_near_the_best_of_all_policies_and_beats_guesses() {
        let (mut learned, mut guessed) = (0.0, 0.0);
        for seed in 0..5 {
            let net = made_up(seed);
            let problem = Problem { seed, ..net.problem() };
            let mut haq = Haq { episodes: 200, credit: Credit::default() };
            let found = haq.search(&problem, &mut quiet()).unwrap().chosen;
            let random = Random { evaluations: 200 }.search(&problem, &mut quiet()).unwrap().chosen;
            let best = 0.9 * (0.3 - optimum(&net)).exp();
            let regret = |metric: f64| (best - metric) / best;
            assert!(problem.within(&found.costs));
            assert!(regret(found.score.metric) <= 0.02, "seed {seed}: {} of {best}", found.score.metric);
            (learned, guessed) = (learned + regret(found.score.metric), guessed + regret(random.score.metric));
        }
        assert!(learned < guessed, "{learned} and {guessed}");
    }

    #[test]
    fn what_the_agent_decided_may_be_remembered_instead() {
        let net = made_up(1);
        let search = |credit| Haq { episodes: 60, credit }.search(&net.problem(), &mut quiet()).unwrap().chosen;
        let [narrowed, decided] = [Credit::Narrowed, Credit::Decided].map(search);
        assert!(net.problem().within(&decided.costs));
        assert!(decided.score.metric > 0.9 * narrowed.score.metric, "{decided:?} and {narrowed:?}");
    }

    #[test]
    fn a_budget_that_nothing_meets_is_said_to_be_so() {
        let mut net = made_up(2);
        net.budget = Budget { flash: Some(Bytes(1)), ..net.budget };
        let error = Haq { episodes: 3, credit: Credit::default() }.search(&net.problem(), &mut quiet()).unwrap_err();
        assert!(matches!(error, SearchError::Infeasible(_)), "{error}");
    }

    #[test]
    fn activations_are_decided_too_where_there_is_a_choice() {
        let mut net = Synthetic::new(4, &[2, 4, 8], &[4, 8], 5);
        let draw = net.space.policy(&crate::search::random::draw(&net.problem(), &mut SplitMix64(1)));
        let bits = net.problem().costs_of(&draw).unwrap()[&Metric::Bitops];
        let crate::units::Quantity::Operations(bits) = bits else { panic!("{bits}") };
        net.budget = Budget { bitops: Some(bits), ..net.budget };
        let found = Haq { episodes: 60, credit: Credit::default() }.search(&net.problem(), &mut quiet()).unwrap();
        assert!(net.problem().within(&found.chosen.costs));
    }
}
