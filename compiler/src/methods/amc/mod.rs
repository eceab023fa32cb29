//! AMC: how many channels each layer keeps, found by an agent (He et al., *AMC: AutoML for Model Compression and
//! Acceleration on Mobile Devices*, ECCV 2018).
//!
//! A [`Subject`] is what is to be made smaller. An episode decides the width of one group after another; a [`Wall`] keeps
//! each decision within the budget (section 3.2, algorithm 1). No episode trains: its network is judged as pruning and
//! refitting leave it ([`Judge`]). [`baselines`] decide by rule or by chance, within the same wall. [`Contest`] is all of it.

pub mod baselines;
mod contest;
pub mod densities;
mod judge;
mod pruning;
mod wall;

use std::collections::BTreeSet;

pub use self::contest::{Aim, Contest, Entry, Method, Outcome, Pruned};
pub use self::judge::{Effort, Judge};
pub use self::pruning::{Price, Pruning, shapes};
pub use self::wall::Wall;
use crate::cost::CostError;
use crate::data::Metric;
use crate::eval::EvalError;
use crate::search::ddpg::{Agent, Config, Step, unknown};
use crate::task::TaskError;

/// A network whose groups can each take some widths.
pub trait Subject {
    /// For each group its widths, in rising order; the last is all it has.
    fn widths(&self) -> &[Vec<usize>];

    /// What the agent is told of each group: as many numbers for each, in [0, 1].
    fn features(&self) -> &[Vec<f32>];

    /// The price of the network of these widths.
    ///
    /// # Errors
    /// When it cannot be priced.
    fn cost(&self, widths: &[usize]) -> Result<f64, AmcError>;

    /// The share of right answers of the network of these widths, on samples held out of training.
    ///
    /// # Errors
    /// When it does not run.
    fn accuracy(&self, widths: &[usize]) -> Result<f64, AmcError>;
}

/// Why a search found nothing.
#[derive(Debug, thiserror::Error)]
pub enum AmcError {
    /// Not even the narrowest network is within the budget.
    #[error(
        "the budget of {budget} cannot be met: with every group at its narrowest the network costs {least}; raise it"
    )]
    Infeasible {
        /// What was asked for.
        budget: f64,
        /// The least there is.
        least: f64,
    },
    /// Widths for other groups than there are.
    #[error("there are {given} widths for {groups} groups of layers: give one for each")]
    Groups {
        /// How many are given.
        given: usize,
        /// How many there are.
        groups: usize,
    },
    /// A width that a group cannot have.
    #[error("group {group}, counted from 0, cannot have {given} channels: choose from {some:?}")]
    Width {
        /// Which group.
        group: usize,
        /// What is given.
        given: usize,
        /// What it can have.
        some: Vec<usize>,
    },
    /// Nothing can be cut.
    #[error(
        "the network has no channels that can be cut: each reaches an input or output, or an operator that mixes them"
    )]
    Empty,
    /// A price could not be given.
    #[error(transparent)]
    Cost(#[from] CostError),
    /// The network could not be lowered, which its price depends on.
    #[error(transparent)]
    Lower(#[from] crate::lower::LowerError),
    /// The network does not run.
    #[error(transparent)]
    Eval(#[from] EvalError),
    /// Network and data do not go together.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// No network keeps the accuracy that is wanted.
    #[error("none of the {tried} networks that were tried loses so little: allow more, or try more")]
    Inaccurate {
        /// How many were tried.
        tried: usize,
    },
    /// Nothing tells how good a network is.
    #[error(
        "the validation samples of `{data}` lack the labels that {metric} needs, so that no pruned network can be judged: give labelled data"
    )]
    Unjudged {
        /// The set.
        data: String,
        /// What is measured.
        metric: Metric,
    },
}

/// What is wanted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// The best answers at no more than this price.
    Within(f64),
    /// Both good answers and a low price: the reward is `-error * ln(price)`, and there is no bound.
    Trade,
}

/// Widths that were tried.
#[derive(Clone, Debug, PartialEq)]
pub struct Trial {
    /// Of each group.
    pub widths: Vec<usize>,
    /// Their price.
    pub cost: f64,
    /// Share of right answers.
    pub accuracy: f64,
}

impl Goal {
    /// The most a network may cost.
    pub fn budget(self) -> f64 {
        match self {
            Goal::Within(budget) => budget,
            Goal::Trade => f64::INFINITY,
        }
    }

    /// What a trial is worth.
    pub fn reward(self, trial: &Trial) -> f64 {
        let error = 1.0 - trial.accuracy;
        match self {
            Goal::Within(_) => -error,
            Goal::Trade => -error * trial.cost.max(1.0).ln(),
        }
    }

    /// The trial that is worth most; the first of equals.
    pub fn best(self, trials: &[Trial]) -> Option<&Trial> {
        trials.iter().rev().max_by(|a, b| self.reward(a).total_cmp(&self.reward(b)))
    }
}

/// Lets an agent try `episodes` widths; returns them in order and calls `tried` after each.
///
/// # Errors
/// See [`AmcError`].
pub fn search(
    subject: &dyn Subject,
    goal: Goal,
    episodes: usize,
    seed: u64,
    tried: &mut dyn FnMut(&Trial),
) -> Result<Vec<Trial>, AmcError> {
    let wall = Wall::new(subject, goal.budget())?;
    let steps = subject.widths().len();
    let state_len = subject.features().first().map_or(0, Vec::len) + 3;
    let mut agent = Agent::new(state_len, Config::new(episodes, steps), seed);
    let mut trials = Vec::with_capacity(episodes);
    let mut known = BTreeSet::new();
    for _ in 0..episodes {
        let mut begin = |wider| episode(subject, &wall, &mut agent, wider);
        let (widths, steps) = unknown(&mut begin, |widths: &Vec<usize>| !known.insert(widths.clone()))?;
        let trial = wall.trial(widths)?;
        agent.learn(&steps, goal.reward(&trial) as f32);
        tried(&trial);
        trials.push(trial);
    }
    Ok(trials)
}

/// Decides the width of one group after another, exploring `wider` than usual.
fn episode(
    subject: &dyn Subject,
    wall: &Wall<'_>,
    agent: &mut Agent,
    wider: f32,
) -> Result<(Vec<usize>, Vec<Step>), AmcError> {
    let mut decided = Vec::new();
    let mut episode: Vec<Step> = Vec::new();
    for features in subject.features() {
        let [reduced, rest] = wall.share(&decided)?;
        let before = episode.last().map_or(1.0, |step| step.action);
        let state: Vec<f32> = features.iter().copied().chain([reduced as f32, rest as f32, before]).collect();
        let (width, action) = wall.decide(&decided, agent.explore(&state, wider))?;
        decided.push(width);
        episode.push(Step { state, action });
    }
    Ok((decided, episode))
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;
    use crate::rng::Pcg32;

    /// Groups in a chain, some of which lose little by becoming narrow.
    pub(in crate::methods) struct Chain {
        widths: Vec<Vec<usize>>,
        features: Vec<Vec<f32>>,
        /// Share of each group's channels that counts.
        needed: Vec<f64>,
        rounded: usize,
    }

    impl Chain {
        pub(in crate::methods) fn new(groups: usize, multiple: usize, seed: u64) -> Chain {
            let mut random = Pcg32::new(seed, 2);
            let full: Vec<usize> = (0..groups).map(|_| 8 + random.below(60) as usize).collect();
            let widths = |&all: &usize| (1..=all).filter(|n| n % multiple == 0 || *n == all).collect();
            let last = (groups.max(2) - 1) as f32;
            Chain {
                widths: full.iter().map(widths).collect(),
                features: (0..groups).map(|i| vec![i as f32 / last, full[i] as f32 / 68.0]).collect(),
                needed: (0..groups).map(|_| [0.3, 0.6, 1.0][random.below(3) as usize]).collect(),
                rounded: multiple,
            }
        }
    }

    impl Subject for Chain {
        fn widths(&self) -> &[Vec<usize>] {
            &self.widths
        }

        fn features(&self) -> &[Vec<f32>] {
            &self.features
        }

        /// Products of neighbours, counted in blocks as kernels do: more than a sum of groups, and in steps.
        fn cost(&self, widths: &[usize]) -> Result<f64, AmcError> {
            let blocks: Vec<usize> = widths.iter().map(|n| n.next_multiple_of(self.rounded)).collect();
            let ends = [&[3], &blocks[..], &[10]].concat();
            Ok(ends.windows(2).map(|pair| (pair[0] * pair[1]) as f64).sum())
        }

        fn accuracy(&self, widths: &[usize]) -> Result<f64, AmcError> {
            let lacks = widths.iter().zip(&self.widths).zip(&self.needed).map(|((&n, all), needed)| {
                let share = n as f64 / *all.last().unwrap() as f64;
                ((needed - share).max(0.0) / needed).powi(2)
            });
            Ok(0.9 * (-3.0 * lacks.sum::<f64>()).exp())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::Chain;
    use super::*;

    #[test]
    fn every_trial_of_every_method_is_within_the_budget() {
        for seed in 0..60 {
            let chain = Chain::new(2 + seed as usize % 5, [1, 4, 8][seed as usize % 3], seed);
            let [least, most] = [0, usize::MAX].map(|at| {
                let widths: Vec<usize> = chain.widths().iter().map(|some| some[at.min(some.len() - 1)]).collect();
                chain.cost(&widths).unwrap()
            });
            let goal = Goal::Within(least + (most - least) * (seed % 7) as f64 / 8.0);
            let mut trials = search(&chain, goal, 12, seed, &mut |_| ()).unwrap();
            assert_eq!(trials.len(), 12);
            trials.extend(baselines::random(&chain, goal, 12, seed, &mut |_| ()).unwrap());
            trials.extend(baselines::evolution(&chain, goal, 40, seed, &mut |_| ()).unwrap());
            for rule in baselines::Rule::ALL {
                trials.push(baselines::by_rule(&chain, goal, rule).unwrap());
            }
            for trial in trials {
                assert!(trial.cost <= goal.budget(), "{trial:?} {goal:?}");
                assert_eq!(trial.cost, chain.cost(&trial.widths).unwrap());
                assert!(trial.widths.iter().zip(chain.widths()).all(|(n, some)| some.contains(n)));
            }
            let error = search(&chain, Goal::Within(least - 1.0), 3, seed, &mut |_| ()).unwrap_err();
            assert!(matches!(error, AmcError::Infeasible { .. }), "{error}");
        }
    }

    #[test]
    fn widths_that_are_given_are_taken_or_refused() {
        let chain = Chain::new(3, 4, 0);
        let narrow: Vec<usize> = chain.widths().iter().map(|some| some[0]).collect();
        let of = |widths: Vec<usize>| Method::Given(widths).trials(&chain, Goal::Within(1e9), 300, 0, &mut |_| ());
        assert_eq!(of(narrow.clone()).unwrap().iter().map(|trial| &trial.widths).collect::<Vec<_>>(), [&narrow]);
        assert!(matches!(of(narrow[1..].to_vec()), Err(AmcError::Groups { given: 2, groups: 3 })));
        let odd = [narrow[0], 5, narrow[2]].to_vec();
        assert!(matches!(of(odd), Err(AmcError::Width { group: 1, given: 5, .. })));
    }

    #[test]
    fn finds_which_groups_need_their_channels() {
        for seed in 0..2 {
            let chain = Chain::new(6, 4, seed);
            let full: Vec<usize> = chain.widths().iter().map(|some| *some.last().unwrap()).collect();
            let goal = Goal::Within(0.5 * chain.cost(&full).unwrap());
            let best = |trials: Vec<Trial>| goal.best(&trials).unwrap().accuracy;
            let learned = best(search(&chain, goal, 150, seed, &mut |_| ()).unwrap());
            let guessed = best(baselines::random(&chain, goal, 150, seed, &mut |_| ()).unwrap());
            let uniform = baselines::by_rule(&chain, goal, baselines::Rule::Uniform).unwrap().accuracy;
            assert!(learned >= guessed - 0.005 && learned >= uniform, "{learned} {guessed} {uniform}");
        }
    }
}
