//! The policies that no other beats in everything.

use std::cmp::Ordering;

use serde::Serialize;

use crate::policy::Policy;

use super::{Costs, Score, Statistics};

/// One policy, scored and priced.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Point {
    /// Where it comes from, as `exact` or `w4`.
    pub name: String,
    /// The decisions.
    pub policy: Policy,
    /// On the validation samples.
    pub score: Score,
    /// All prices.
    pub costs: Costs,
}

/// Non-dominated points, cheapest first, and the one that a search recommends.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Front {
    /// No point here is at least as good as another in the metric and all costs.
    pub points: Vec<Point>,
    /// The one to deploy.
    pub chosen: Point,
    /// What it took.
    pub statistics: Statistics,
}

impl Point {
    /// Which has the better score: by loss, then by metric, then by costs and name, so that no two
    /// different points are equal.
    ///
    /// The loss comes first because it averages over every output of every sample, where the metric
    /// counts samples: on two thousand of them, policies half a point apart cannot be told apart by it.
    pub fn better(&self, other: &Point) -> Ordering {
        let by_loss = other.score.loss.total_cmp(&self.score.loss);
        by_loss
            .then_with(|| self.score.metric.total_cmp(&other.score.metric))
            .then_with(|| other.total_cost().total_cmp(&self.total_cost()))
            .then_with(|| other.name.cmp(&self.name))
    }

    /// Whether it is as good as `other` in everything and better in something.
    pub fn dominates(&self, other: &Point) -> bool {
        let cheaper = |(metric, cost): (_, &crate::units::Quantity)| {
            other.costs.get(metric).is_some_and(|theirs| cost.value() <= theirs.value())
        };
        self.score.metric >= other.score.metric
            && self.costs.iter().all(cheaper)
            && (self.score.metric > other.score.metric || self.costs != other.costs)
    }

    /// A number to order points by; prices have different units, so their logarithms are summed.
    fn total_cost(&self) -> f64 {
        self.costs.values().map(|cost| cost.value().max(1e-12).ln()).sum()
    }
}

impl Front {
    /// The non-dominated among `points`.
    pub fn new(chosen: Point, mut points: Vec<Point>, statistics: Statistics) -> Front {
        points.sort_by(|a, b| a.total_cost().total_cmp(&b.total_cost()).then_with(|| b.better(a)));
        points.dedup_by(|a, b| a.policy == b.policy);
        let kept: Vec<bool> = points.iter().map(|p| !points.iter().any(|q| q.dominates(p))).collect();
        let mut keep = kept.into_iter();
        points.retain(|_| keep.next().unwrap_or(false));
        Front { points, chosen, statistics }
    }
}
