//! Which level each weight of an output channel takes.
//!
//! With `H` the second moment of the channel's inputs, an error `e` in its weights costs `eᵀ H e` of
//! squared error at its output. [`Rounding::Nearest`] looks at each weight alone. [`Rounding::DataAware`]
//! rounds one after another, each making up for the errors before it (GPTQ, which is Babai's nearest
//! plane on a factor of `H`), then moves single levels while that lowers the cost (the goal of
//! AdaRound, by coordinate descent), re-fitting the scale in between. Weights of 0 stay 0 where that is a level: they
//! were pruned, and what is left out of a layer makes it smaller and faster.

use serde::{Deserialize, Serialize};

use super::levels::Levels;
use crate::cholesky::dot;

/// Scales tried between a part of the largest weight and all of it.
const SCALES: usize = 48;

/// The smallest scale tried, as a share of the one at which nothing is clipped.
const SMALLEST_SCALE: f64 = 0.1;

/// Share of the mean diagonal added to `H` before it is factored, against noise in its small directions.
const DAMPING: f64 = 0.01;

/// Rescalings of the nearest rounding's scale from which the data-aware rounding starts.
const STARTS: [f64; 4] = [0.8, 0.9, 1.0, 1.1];

/// Most rounds of descent and re-fitting of the scale.
const ROUNDS: usize = 20;

/// How weights become levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rounding {
    /// Each weight to the level nearest to it.
    Nearest,
    /// All weights of a channel together, for the least error of the channel's output.
    DataAware,
}

/// What an error in the weights of a channel costs: `eᵀ H e`, `H` positive semidefinite.
pub(super) struct Objective {
    k: usize,
    hessian: Vec<f64>,
    /// What an error in one weight alone costs, per square; never 0.
    importance: Vec<f64>,
    /// Indices by ascending diagonal: the weights that matter most are rounded first, from the end.
    order: Vec<usize>,
    /// Upper triangular `U`, row-major: in this order and damped, `e` costs `|U e|²`.
    factor: Vec<f64>,
}

/// Levels of one channel and the real step between them.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rounded {
    pub(super) scale: f64,
    pub(super) levels: Vec<i8>,
}

impl Objective {
    /// `hessian` is `k * k`.
    pub(super) fn new(k: usize, hessian: Vec<f64>) -> Self {
        let diagonal = |i: usize| hessian[i * k + i].max(0.0);
        let mean = (0..k).map(diagonal).sum::<f64>() / k.max(1) as f64;
        let damping = if mean > 0.0 { DAMPING * mean } else { 1.0 };
        let importance = (0..k).map(|i| diagonal(i) + damping).collect();
        let mut order: Vec<usize> = (0..k).collect();
        order.sort_by(|&a, &b| diagonal(a).total_cmp(&diagonal(b)));
        let factor = factor(k, &hessian, &order, damping);
        Objective { k, hessian, importance, order, factor }
    }

    /// What an error in each weight alone costs, per square.
    pub(super) fn importance(&self) -> &[f64] {
        &self.importance
    }

    /// `H v`.
    fn times(&self, v: &[f64]) -> Vec<f64> {
        self.hessian.chunks_exact(self.k).map(|row| dot(row, v)).collect()
    }

    /// `eᵀ H e` of a channel's rounding.
    pub(super) fn cost(&self, weights: &[f64], rounded: &Rounded) -> f64 {
        let error: Vec<f64> =
            weights.iter().zip(&rounded.levels).map(|(w, &q)| rounded.scale * f64::from(q) - w).collect();
        dot(&error, &self.times(&error))
    }
}

/// Each weight at its nearest level, the scale being that of least importance-weighted squared error.
pub(super) fn nearest(weights: &[f64], objective: &Objective, levels: &Levels) -> Rounded {
    let largest = weights.iter().fold(0.0f64, |max, w| max.max(w.abs()));
    let full = largest / levels.top();
    let mut best = (f64::INFINITY, Rounded { scale: 0.0, levels: vec![levels.nearest(0.0); weights.len()] });
    if full <= 0.0 {
        return best.1;
    }
    for i in 0..SCALES {
        let share = SMALLEST_SCALE.powf(i as f64 / (SCALES - 1) as f64);
        let mut scale = full * share;
        let mut chosen = round(weights, scale, levels);
        // Lloyd: the best scale for these levels, then the best levels for that scale.
        for _ in 0..3 {
            scale = fit_diagonal(weights, &chosen, objective).unwrap_or(scale);
            chosen = round(weights, scale, levels);
        }
        let cost = diagonal_cost(weights, scale, &chosen, objective);
        if cost < best.0 {
            best = (cost, Rounded { scale, levels: chosen });
        }
    }
    best.1
}

/// All weights together; never costs more than [`nearest`].
pub(super) fn data_aware(weights: &[f64], objective: &Objective, levels: &Levels) -> Rounded {
    let start = nearest(weights, objective, levels);
    if start.scale == 0.0 {
        return start;
    }
    let target = objective.times(weights);
    let descend = |start: Rounded| Descent::new(weights, objective, &target, start).run(levels);
    let (mut least, mut best) = descend(start.clone());
    for share in STARTS {
        let scale = start.scale * share;
        let (cost, rounded) = descend(Rounded { scale, levels: feedback(weights, objective, scale, levels) });
        if cost < least {
            (least, best) = (cost, rounded);
        }
    }
    best
}

/// The levels of weights whose scale is given.
pub(super) fn at_scale(
    rounding: Rounding,
    weights: &[f64],
    objective: &Objective,
    scale: f64,
    levels: &Levels,
) -> Rounded {
    if scale <= 0.0 {
        return Rounded { scale: 0.0, levels: vec![levels.nearest(0.0); weights.len()] };
    }
    let start = Rounded { scale, levels: round(weights, scale, levels) };
    match rounding {
        Rounding::Nearest => start,
        Rounding::DataAware => {
            let target = objective.times(weights);
            let fed = Rounded { scale, levels: feedback(weights, objective, scale, levels) };
            let descended =
                [start, fed].map(|start| Descent::new(weights, objective, &target, start).levels_alone(levels));
            let [a, b] = descended.map(|rounded| (objective.cost(weights, &rounded), rounded));
            if b.0 < a.0 { b.1 } else { a.1 }
        }
    }
}

/// The scale of least importance-weighted squared error for all of these channels.
pub(super) fn shared_scale(channels: &[(&[f64], &Objective)], levels: &Levels) -> f64 {
    let largest = channels.iter().flat_map(|(weights, _)| *weights).fold(0.0f64, |max, w| max.max(w.abs()));
    let cost = |scale: f64| -> f64 {
        let of = |(weights, objective): &(&[f64], &Objective)| {
            diagonal_cost(weights, scale, &round(weights, scale, levels), objective)
        };
        channels.iter().map(of).sum()
    };
    let scales = (0..SCALES).map(|i| SMALLEST_SCALE.powf(i as f64 / (SCALES - 1) as f64) * largest / levels.top());
    scales.map(|scale| (cost(scale), scale)).min_by(|a, b| a.0.total_cmp(&b.0)).map_or(0.0, |(_, scale)| scale)
}

fn round(weights: &[f64], scale: f64, levels: &Levels) -> Vec<i8> {
    weights.iter().map(|w| levels.nearest(w / scale)).collect()
}

/// The scale of least squared error weighted by importance; `None` if it would not be positive.
fn fit_diagonal(weights: &[f64], levels: &[i8], objective: &Objective) -> Option<f64> {
    let (mut cross, mut square) = (0.0, 0.0);
    for (i, (w, &q)) in weights.iter().zip(levels).enumerate() {
        let (q, importance) = (f64::from(q), objective.importance[i]);
        cross += importance * w * q;
        square += importance * q * q;
    }
    (cross > 0.0).then(|| cross / square)
}

fn diagonal_cost(weights: &[f64], scale: f64, levels: &[i8], objective: &Objective) -> f64 {
    let terms = weights.iter().zip(levels).enumerate();
    terms.map(|(i, (w, &q))| objective.importance[i] * (scale * f64::from(q) - w).powi(2)).sum()
}

/// Babai's nearest plane: from the weight of largest importance on, each goes to the level nearest to
/// where it would cancel the errors made so far.
fn feedback(weights: &[f64], objective: &Objective, scale: f64, levels: &Levels) -> Vec<i8> {
    let k = objective.k;
    let mut chosen = vec![0; k];
    let mut error = vec![0.0; k];
    for place in (0..k).rev() {
        let row = &objective.factor[place * k..(place + 1) * k];
        let weight = weights[objective.order[place]];
        let ideal = weight - dot(&row[place + 1..], &error[place + 1..]) / row[place];
        let level = if is_pruned(weight, levels) { 0 } else { levels.nearest(ideal / scale) };
        error[place] = scale * f64::from(level) - weight;
        chosen[objective.order[place]] = level;
    }
    chosen
}

/// Whether a weight is to stay 0.
fn is_pruned(weight: f64, levels: &Levels) -> bool {
    weight == 0.0 && levels.nearest(0.0) == 0
}

/// Coordinate descent on the levels of one channel.
struct Descent<'a> {
    objective: &'a Objective,
    weights: &'a [f64],
    /// `H w`.
    target: &'a [f64],
    rounded: Rounded,
    /// `H q` for the current levels `q`.
    image: Vec<f64>,
}

impl<'a> Descent<'a> {
    fn new(weights: &'a [f64], objective: &'a Objective, target: &'a [f64], start: Rounded) -> Self {
        let levels: Vec<f64> = start.levels.iter().copied().map(f64::from).collect();
        Descent { objective, weights, target, image: objective.times(&levels), rounded: start }
    }

    /// Moves levels and scale by turns until neither helps; returns the cost too.
    fn run(mut self, levels: &Levels) -> (f64, Rounded) {
        for _ in 0..ROUNDS {
            let moved = self.sweep(levels);
            self.fit_scale();
            if !moved {
                break;
            }
        }
        (self.objective.cost(self.weights, &self.rounded), self.rounded)
    }

    /// Moves levels until that does not help.
    fn levels_alone(mut self, levels: &Levels) -> Rounded {
        for _ in 0..ROUNDS {
            if !self.sweep(levels) {
                break;
            }
        }
        self.rounded
    }

    /// Puts every level in turn where, the others staying, the cost is least. Returns whether any moved.
    fn sweep(&mut self, levels: &Levels) -> bool {
        let k = self.objective.k;
        let mut moved = false;
        for i in 0..k {
            let row = &self.objective.hessian[i * k..(i + 1) * k];
            if row[i] <= 0.0 || is_pruned(self.weights[i], levels) {
                continue;
            }
            let level = self.rounded.levels[i];
            let slope = self.image[i] - self.target[i] / self.rounded.scale;
            let best = levels.nearest(f64::from(level) - slope / row[i]);
            if best != level {
                let step = f64::from(best) - f64::from(level);
                for (image, h) in self.image.iter_mut().zip(row) {
                    *image += step * h;
                }
                self.rounded.levels[i] = best;
                moved = true;
            }
        }
        moved
    }

    /// The scale of least cost for the current levels, if it is positive.
    fn fit_scale(&mut self) {
        let (mut cross, mut square) = (0.0, 0.0);
        for ((&q, target), image) in self.rounded.levels.iter().zip(self.target).zip(&self.image) {
            cross += f64::from(q) * target;
            square += f64::from(q) * image;
        }
        if cross > 0.0 && square > 0.0 {
            self.rounded.scale = cross / square;
        }
    }
}

/// Cholesky factor of `hessian`, damped and in `order`, as an upper triangle.
fn factor(k: usize, hessian: &[f64], order: &[usize], damping: f64) -> Vec<f64> {
    let mut lower = vec![0.0; k * k];
    for i in 0..k {
        for j in 0..=i {
            let (row_i, row_j) = (&lower[i * k..i * k + j], &lower[j * k..j * k + j]);
            let rest = hessian[order[i] * k + order[j]] - dot(row_i, row_j);
            lower[i * k + j] =
                if i == j { (rest + damping).max(damping * 1e-3).sqrt() } else { rest / lower[j * k + j] };
        }
    }
    let mut upper = vec![0.0; k * k];
    for i in 0..k {
        for j in 0..=i {
            upper[j * k + i] = lower[i * k + j];
        }
    }
    upper
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::policy::WeightFormat;
    use crate::quant::codebook;

    /// `XᵀX / rows` of correlated inputs.
    fn hessian(k: usize, rows: &[f64]) -> Vec<f64> {
        let mut hessian = vec![0.0; k * k];
        for row in rows.chunks_exact(k) {
            let mean = row.iter().sum::<f64>() / k as f64;
            for i in 0..k {
                for j in 0..k {
                    hessian[i * k + j] += (row[i] + mean) * (row[j] + mean);
                }
            }
        }
        hessian
    }

    proptest! {
        #[test]
        fn data_aware_never_costs_more_than_nearest(
            k in 1usize..24,
            weights in prop::collection::vec(-1.0f64..1.0, 24),
            rows in prop::collection::vec(-1.0f64..3.0, 24 * 30),
            format in prop::sample::select(WeightFormat::ALL.to_vec()),
        ) {
            let objective = Objective::new(k, hessian(k, &rows));
            let weights = &weights[..k];
            let levels = Levels::fixed(format).unwrap_or_else(|| {
                Levels::new(codebook::choose(weights.iter().map(|w| (w * 127.0, 1.0)), 1 << format.bits()))
            });
            let (plain, aware) = (nearest(weights, &objective, &levels), data_aware(weights, &objective, &levels));
            let (plain_cost, aware_cost) = (objective.cost(weights, &plain), objective.cost(weights, &aware));
            prop_assert!(aware_cost <= plain_cost * (1.0 + 1e-9) + 1e-12, "{aware_cost} > {plain_cost}");
            for rounded in [plain, aware] {
                prop_assert!(rounded.scale > 0.0);
                prop_assert!(rounded.levels.iter().all(|level| levels.as_slice().contains(level)));
            }
        }
    }

    #[test]
    fn data_aware_lets_errors_cancel() {
        // Two inputs that are always equal: only the sum of their weights counts.
        let objective = Objective::new(2, vec![1.0, 1.0, 1.0, 1.0]);
        let levels = Levels::fixed(WeightFormat::Ternary).unwrap();
        let aware = data_aware(&[0.6, 0.4], &objective, &levels);
        assert!(objective.cost(&[0.6, 0.4], &aware) < 1e-12, "{aware:?}");
    }

    #[test]
    fn inputs_that_are_always_zero_do_no_harm() {
        let objective = Objective::new(2, vec![0.0; 4]);
        let levels = Levels::fixed(WeightFormat::Linear(4)).unwrap();
        let rounded = data_aware(&[0.5, -0.25], &objective, &levels);
        assert!((rounded.scale * f64::from(rounded.levels[0]) - 0.5).abs() < 0.05, "{rounded:?}");
        assert_eq!(data_aware(&[0.0, 0.0], &objective, &levels).levels, [0, 0]);
    }
}
