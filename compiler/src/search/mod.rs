//! From a space of policies, costs and a budget to the policies worth having.
//!
//! A [`Problem`] says what is wanted; a [`Strategy`] (one small file each) turns it into a
//! [`Front`]. Strategies that guess policies one by one need [`Evaluator`] and [`Problem::costs_of`]
//! alone; those that solve use [`sensitivity`] and [`crate::cost::Linear`] besides.
//!
//! * [`sensitivity`] measures what each choice loses, one layer at a time.
//! * [`knapsack`] solves the sum of those losses under sums of costs, with a bound; [`ilp`] proves it;
//!   [`widths`] does so where the widths of activations are to be chosen, too.
//! * [`exact`] puts them together with the costs that are no sums; [`refine`] then looks around the
//!   solution with the true loss.
//! * [`cache`] keeps scores on disk, whoever asks for them.
//! * [`explain`] says why a budget cannot be met, [`pattern`] where the bits of a policy went.
//! * [`ddpg`] is an agent that learns to decide; [`uniform`], [`manual`], [`random`] and
//!   [`evolution`] are what any search must beat.

pub mod budget;
pub mod cache;
pub mod ddpg;
pub mod evolution;
pub mod exact;
pub mod explain;
pub mod front;
pub(crate) mod guesses;
pub mod ilp;
pub mod knapsack;
pub mod manual;
pub mod pattern;
pub mod project;
pub mod random;
pub mod refine;
pub mod sensitivity;
pub mod space;
#[cfg(test)]
pub(crate) mod testing;
pub mod uniform;
pub mod widths;

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cost::layers::Layers;
use crate::cost::{Cost, CostError};
use crate::policy::Policy;
use crate::units::{Quantity, UnitMismatch};

pub use budget::{Budget, Metric};
pub use front::{Front, Point};
pub use space::{Selection, Space};

/// Measures how good a policy is on one fixed set of samples (never the test split).
///
/// Implementations spread over cores inside; the search calls them one policy at a time.
pub trait Evaluator {
    /// The score of the network under `policy`.
    ///
    /// # Errors
    /// Whatever keeps the network from running.
    fn score(&self, policy: &Policy) -> Result<Score, Box<dyn std::error::Error + Send + Sync>>;
}

/// How good a policy is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// The metric that people read, higher is better: a share of correct answers, an AUC; minus the loss where the
    /// samples lack the labels that it needs.
    pub metric: f64,
    /// A smooth stand-in that tells small damage apart, lower is better: cross entropy, say.
    pub loss: f64,
}

/// What a search is asked for.
pub struct Problem<'a> {
    /// What may be chosen.
    pub space: &'a Space,
    /// The nodes of the network, for strategies that learn from what layers are like.
    pub layers: &'a Layers,
    /// Prices, at most one a metric; a bound on a metric without one is an error.
    pub costs: Vec<&'a dyn Cost>,
    /// What the network may cost and must keep.
    pub budget: Budget,
    /// Scores on training samples: guides the search.
    pub calibration: &'a dyn Evaluator,
    /// Scores on samples held out of training: judges the candidates.
    pub validation: &'a dyn Evaluator,
    /// The float network on the validation samples.
    pub float: Score,
    /// Fixes every random choice.
    pub seed: u64,
}

/// A way to search.
pub trait Strategy {
    /// Its name on the command line.
    fn name(&self) -> &'static str;

    /// Finds policies within the budget of `problem`, the best of them chosen; tells `events` how
    /// far it is.
    ///
    /// # Errors
    /// [`SearchError`]; an impossible budget is [`SearchError::Infeasible`].
    fn search(&mut self, problem: &Problem, events: &mut dyn FnMut(Event)) -> Result<Front, SearchError>;
}

/// How far a search is.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A stage begins; it takes `steps` steps, or fewer.
    Stage {
        /// What it does.
        name: &'static str,
        /// At most so many steps.
        steps: usize,
    },
    /// One step of the stage is done.
    Step {
        /// What was looked at.
        label: String,
    },
    /// The stage is over.
    Finished {
        /// What came of it.
        summary: String,
    },
}

/// What a search did, for the report.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Statistics {
    /// Scores asked for, whether or not the evaluator remembered them.
    pub evaluations: usize,
    /// Predicted loss increase of the solver's solution.
    pub objective: Option<f64>,
    /// No selection within the budget has a smaller predicted loss increase than this.
    pub bound: Option<f64>,
    /// Whether the solution was proved to have the smallest predicted loss increase.
    pub proved: bool,
    /// Time in the solvers.
    pub solve_time: Duration,
    /// Of strategies that guess: the metric of each policy on the calibration samples, in the order they were tried.
    pub tried: Vec<f64>,
}

/// A search that found nothing.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// The budget cannot be met.
    #[error(transparent)]
    Infeasible(#[from] Box<explain::Infeasible>),
    /// The cost bounds can be met, but not with the accuracy asked for.
    #[error(
        "{bound} {wanted:.4} cannot be met: the best policy found within the other bounds reaches {reached:.4}; relax it, \
         raise the cost bounds, or fine-tune with --finetune"
    )]
    Accuracy {
        /// The option that asks for it.
        bound: &'static str,
        /// Least metric.
        wanted: f64,
        /// Best metric.
        reached: f64,
    },
    /// A bound on something that nothing prices.
    #[error("{} is given, but the target has no {metric} figures: measure them or drop the bound", metric.flag())]
    Unpriced {
        /// What is bounded.
        metric: Metric,
    },
    /// A bound in another unit than the target's.
    #[error("{} is not in the unit of the target: {mismatch}", metric.flag())]
    Unit {
        /// What is bounded.
        metric: Metric,
        /// The target's unit and the bound's.
        mismatch: UnitMismatch,
    },
    /// A space for another network.
    #[error(transparent)]
    Space(#[from] space::SpaceError),
    /// There is nothing to choose.
    #[error("the network has no layer with weights: there is nothing to search")]
    Empty,
    /// A cost failed.
    #[error(transparent)]
    Cost(#[from] CostError),
    /// The evaluator failed.
    #[error("scoring a policy failed: {0}")]
    Evaluation(Box<dyn std::error::Error + Send + Sync>),
    /// A loss that is no number.
    #[error("the loss is not a finite number with {0}: take that choice out of the space")]
    NotFinite(String),
    /// The integer solver failed.
    #[error("the integer solver failed: {0}")]
    Solver(String),
}

/// The amounts of a policy, by what they bound.
pub type Costs = BTreeMap<Metric, Quantity>;

impl Problem<'_> {
    /// All prices of a policy.
    ///
    /// # Errors
    /// As [`Cost::of`].
    pub fn costs_of(&self, policy: &Policy) -> Result<Costs, CostError> {
        self.costs.iter().map(|cost| Ok((cost.metric(), cost.of(policy)?))).collect()
    }

    /// The prices of a policy that are bounded: all that tells whether it is within the budget.
    ///
    /// # Errors
    /// As [`Problem::bounds`] and [`Cost::of`].
    pub fn bounded_costs_of(&self, policy: &Policy) -> Result<Costs, SearchError> {
        self.bounds()?.into_iter().map(|(cost, _)| Ok((cost.metric(), cost.of(policy)?))).collect()
    }

    /// The cost bounds with the price that each one limits.
    ///
    /// # Errors
    /// [`SearchError::Unpriced`] and [`SearchError::Unit`].
    pub fn bounds(&self) -> Result<Vec<(&dyn Cost, Quantity)>, SearchError> {
        let mut bounds = Vec::new();
        for (metric, bound) in self.budget.bounds() {
            let cost = self.cost(metric).ok_or(SearchError::Unpriced { metric })?;
            if cost.unit() != bound.unit() {
                let mismatch = UnitMismatch { left: cost.unit(), right: bound.unit() };
                return Err(SearchError::Unit { metric, mismatch });
            }
            bounds.push((cost, bound));
        }
        Ok(bounds)
    }

    /// The price for `metric`.
    pub fn cost(&self, metric: Metric) -> Option<&dyn Cost> {
        self.costs.iter().copied().find(|cost| cost.metric() == metric)
    }

    /// What to minimise where only accuracy is bounded: flash, else latency, else the first price.
    ///
    /// Flash comes first because bytes are exact: the same inputs then lead to the same policy, whatever
    /// the noise in measured times.
    pub fn primary(&self) -> Option<&dyn Cost> {
        self.cost(Metric::Flash).or_else(|| self.cost(Metric::Latency)).or_else(|| self.costs.first().copied())
    }

    /// Whether these amounts are within every bound.
    pub fn within(&self, costs: &Costs) -> bool {
        self.budget.bounds().iter().all(|(metric, bound)| {
            costs.get(metric).is_some_and(|cost| matches!(cost.compare(*bound), Ok(Ordering::Less | Ordering::Equal)))
        })
    }

    /// The score of a policy on the calibration samples.
    ///
    /// # Errors
    /// [`SearchError::Evaluation`] and [`SearchError::NotFinite`].
    pub fn calibrate(&self, policy: &Policy) -> Result<Score, SearchError> {
        finite(self.calibration.score(policy).map_err(SearchError::Evaluation)?, policy)
    }

    /// The score of a policy on the validation samples.
    ///
    /// # Errors
    /// [`SearchError::Evaluation`] and [`SearchError::NotFinite`].
    pub fn validate(&self, policy: &Policy) -> Result<Score, SearchError> {
        finite(self.validation.score(policy).map_err(SearchError::Evaluation)?, policy)
    }

    /// A policy with its score on the validation samples and its prices.
    ///
    /// # Errors
    /// As [`Problem::validate`] and [`Problem::costs_of`].
    pub fn point(&self, name: &str, policy: Policy) -> Result<Point, SearchError> {
        let score = self.validate(&policy)?;
        let costs = self.costs_of(&policy)?;
        Ok(Point { name: name.to_owned(), policy, score, costs })
    }

    /// The front of `points`, the best of those within the budget chosen.
    ///
    /// # Errors
    /// [`SearchError::Accuracy`] where none of them keeps the accuracy asked for, and
    /// [`SearchError::Infeasible`] where none is within the cost bounds.
    pub fn front(&self, points: Vec<Point>, statistics: Statistics) -> Result<Front, SearchError> {
        let within: Vec<&Point> = points.iter().filter(|point| self.within(&point.costs)).collect();
        let best = within.iter().copied().max_by(|a, b| a.better(b));
        let Some(best) = best else { return Err(explain::infeasible(self)?.into()) };
        let chosen = match (self.floor(), self.primary()) {
            (Some(floor), _) if best.score.metric < floor => return Err(self.too_inaccurate(best.score.metric)),
            (Some(floor), Some(primary)) if self.budget.bounds().is_empty() => {
                let price = |point: &Point| point.costs.get(&primary.metric()).map_or(f64::MAX, |cost| cost.value());
                let kept = within.iter().copied().filter(|point| point.score.metric >= floor);
                kept.min_by(|a, b| price(a).total_cmp(&price(b)).then_with(|| b.better(a))).unwrap_or(best)
            }
            _ => best,
        };
        let chosen = chosen.clone();
        Ok(Front::new(chosen, points, statistics))
    }

    /// The least metric wanted: that of the budget, or, where nothing at all is bounded, the float
    /// network's less [`Budget::DEFAULT_DROP`].
    pub fn floor(&self) -> Option<f64> {
        let unbounded = self.budget == Budget::default();
        let budget =
            Budget { max_drop: unbounded.then_some(Budget::DEFAULT_DROP).or(self.budget.max_drop), ..self.budget };
        budget.floor(self.float.metric)
    }

    fn too_inaccurate(&self, reached: f64) -> SearchError {
        let wanted = self.floor().unwrap_or_default();
        let by_accuracy = self.budget.min_accuracy.is_some_and(|floor| floor >= wanted);
        SearchError::Accuracy {
            bound: if by_accuracy { "--min-accuracy" } else { "--max-drop: an accuracy of" },
            wanted,
            reached,
        }
    }
}

fn finite(score: Score, policy: &Policy) -> Result<Score, SearchError> {
    if score.loss.is_finite() && score.metric.is_finite() {
        return Ok(score);
    }
    let layers = policy.layers.iter().map(|(name, layer)| format!("{name} {}", space::label(layer)));
    Err(SearchError::NotFinite(layers.collect::<Vec<_>>().join(", ")))
}

/// A small generator with a full period, good enough to pick candidates (Steele, Lea and Flood,
/// *Fast splittable pseudorandom number generators*, 2014).
#[derive(Clone, Debug)]
pub struct SplitMix64(pub u64);

impl SplitMix64 {
    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0.0 .. 1.0`.
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A number in `0 .. n`; 0 for an empty range.
    pub fn below(&mut self, n: usize) -> usize {
        ((self.unit() * n as f64) as usize).min(n.saturating_sub(1))
    }
}
