//! The multiple-choice knapsack: one choice a layer, least summed value under summed limits.
//!
//! [`lagrangian`] prices the limits (Everett, *Generalized Lagrange multiplier method*, Operations
//! Research 1963): with prices fixed, layers decide alone, and the sum less what the limits are
//! worth bounds the optimum from below. One limit: the prices on the lower hull are walked exactly.
//! Several: projected subgradient steps. A greedy pass then turns what was met on the way into
//! selections within the limits and spends what they leave.

use std::collections::BTreeSet;

use super::Selection;

/// A knapsack.
#[derive(Clone, Debug, PartialEq)]
pub struct Knapsack {
    /// To be minimised: one value by layer and choice.
    pub values: Vec<Vec<f64>>,
    /// Sums that stay within their limits.
    pub limits: Vec<Limit>,
}

/// One sum and its limit.
#[derive(Clone, Debug, PartialEq)]
pub struct Limit {
    /// By layer and choice, shaped like [`Knapsack::values`].
    pub weights: Vec<Vec<f64>>,
    /// Most that the chosen weights may sum up to.
    pub at_most: f64,
}

/// A selection within the limits, and what is known about better ones.
#[derive(Clone, Debug, PartialEq)]
pub struct Solution {
    /// The choices.
    pub selection: Selection,
    /// Their summed value.
    pub value: f64,
    /// No selection within the limits has a smaller value than this.
    pub bound: f64,
}

/// What the multipliers tell, whether or not a selection within the limits was met.
#[derive(Clone, Debug, PartialEq)]
pub struct Relaxed {
    /// The best selection met within the limits.
    pub solution: Option<Solution>,
    /// No selection within the limits has a smaller value than this; infinite where it is certain
    /// that there is none.
    pub bound: f64,
    /// The best prices, one a limit, for the limits as given.
    pub prices: Vec<f64>,
}

/// Share of a sum's spread that counts as rounding error.
const SLACK: f64 = 1e-9;
/// Steps of the subgradient method.
const STEPS: usize = 400;

impl Solution {
    /// How far from the optimum the value may be at most.
    pub fn gap(&self) -> f64 {
        (self.value - self.bound).max(0.0)
    }
}

impl Limit {
    /// Whether the chosen weights are within the limit, rounding errors aside.
    pub fn holds(&self, selection: &Selection) -> bool {
        sum(&self.weights, selection) <= self.at_most + slack(self)
    }
}

impl Knapsack {
    /// The summed value of a selection.
    pub fn value(&self, selection: &Selection) -> f64 {
        sum(&self.values, selection)
    }

    /// Whether a selection is within every limit.
    pub fn within(&self, selection: &Selection) -> bool {
        self.limits.iter().all(|limit| limit.holds(selection))
    }

    /// The selection that minimises the value plus the priced weights; ties go to lighter choices.
    fn priced(&self, prices: &[f64]) -> Selection {
        let choose = |layer: usize| {
            let cost = |c: usize| self.values[layer][c] + self.charge(prices, layer, c);
            let weight = |c: usize| self.limits.iter().map(|l| l.weights[layer][c] / scale(l)).sum::<f64>();
            (0..self.values[layer].len())
                .min_by(|&a, &b| cost(a).total_cmp(&cost(b)).then_with(|| weight(a).total_cmp(&weight(b))))
                .unwrap_or(0)
        };
        Selection::new((0..self.values.len()).map(choose).collect())
    }

    /// What the prices make of one choice.
    pub(super) fn charge(&self, prices: &[f64], layer: usize, choice: usize) -> f64 {
        self.limits.iter().zip(prices).map(|(limit, price)| price * limit.weights[layer][choice]).sum()
    }

    /// No selection within the limits has a smaller value than this, whatever the prices.
    pub fn bound(&self, prices: &[f64]) -> f64 {
        self.dual(prices, &self.priced(prices))
    }

    /// The dual value at `prices`, which `selection` minimises.
    fn dual(&self, prices: &[f64], selection: &Selection) -> f64 {
        let excess = self.limits.iter().zip(prices);
        self.value(selection) + excess.map(|(l, price)| price * (sum(&l.weights, selection) - l.at_most)).sum::<f64>()
    }
}

/// Solves by prices; the bound is valid, the selection often the optimum.
pub fn lagrangian(knapsack: &Knapsack) -> Relaxed {
    let mut search = Search::new(knapsack);
    if knapsack.limits.iter().any(|limit| lightest(limit) > limit.at_most + slack(limit)) {
        search.bound = f64::INFINITY;
        return search.finish();
    }
    match knapsack.limits.as_slice() {
        [] => {
            search.meet(&[]);
        }
        [_] => search.walk_hull(),
        _ => search.subgradient(),
    }
    search.finish()
}

struct Search<'a> {
    knapsack: &'a Knapsack,
    best: Option<(f64, Selection)>,
    bound: f64,
    prices: Vec<f64>,
    met: BTreeSet<Selection>,
}

impl<'a> Search<'a> {
    fn new(knapsack: &'a Knapsack) -> Search<'a> {
        let prices = vec![0.0; knapsack.limits.len()];
        Search { knapsack, best: None, bound: f64::NEG_INFINITY, prices, met: BTreeSet::new() }
    }

    /// Looks at the selection that `prices` lead to, and at its repaired form.
    fn meet(&mut self, prices: &[f64]) -> Selection {
        let selection = self.knapsack.priced(prices);
        let dual = self.knapsack.dual(prices, &selection);
        if dual > self.bound {
            self.bound = dual;
            self.prices = prices.to_vec();
        }
        if self.met.insert(selection.clone())
            && let Some(repaired) = repair(self.knapsack, selection.clone())
        {
            self.offer(fill(self.knapsack, repaired));
        }
        selection
    }

    fn offer(&mut self, selection: Selection) {
        let value = self.knapsack.value(&selection);
        if self.best.as_ref().is_none_or(|(best, _)| value < *best) {
            self.best = Some((value, selection));
        }
    }

    /// One limit: between a selection that breaks it and one that meets it, the price at which both
    /// are equally good leads to a third below both, until there is none.
    fn walk_hull(&mut self) {
        let limit = &self.knapsack.limits[0];
        let weight = |selection: &Selection| sum(&limit.weights, selection);
        let mut heavy = self.meet(&[0.0]);
        if limit.holds(&heavy) {
            return;
        }
        let by_weight = Knapsack { values: limit.weights.clone(), limits: Vec::new() };
        let mut light = by_weight.priced(&[]);
        self.offer(fill(self.knapsack, light.clone()));
        loop {
            let span = weight(&heavy) - weight(&light);
            let price = (self.knapsack.value(&light) - self.knapsack.value(&heavy)) / span;
            if !(price.is_finite() && price > 0.0) {
                break;
            }
            let middle = self.meet(&[price]);
            let below = self.knapsack.value(&middle) + price * weight(&middle);
            let line = self.knapsack.value(&light) + price * weight(&light);
            if below >= line - 1e-12 * line.abs().max(1e-12) {
                break;
            }
            if limit.holds(&middle) {
                light = middle;
            } else {
                heavy = middle;
            }
        }
    }

    /// Several limits: steps along the excess, halved whenever the bound stalls (Held, Wolfe and
    /// Crowder, *Validation of subgradient optimization*, 1974).
    fn subgradient(&mut self) {
        let scales: Vec<f64> = self.knapsack.limits.iter().map(scale).collect();
        let mut prices = vec![0.0; scales.len()];
        let mut pace = 2.0;
        let mut stalled = 0;
        for _ in 0..STEPS {
            let before = self.bound;
            let selection = self.meet(&prices);
            let dual = self.knapsack.dual(&prices, &selection);
            stalled = if self.bound > before { 0 } else { stalled + 1 };
            if stalled == 12 {
                pace *= 0.5;
                stalled = 0;
                prices.clone_from(&self.prices);
                if pace < 1e-4 {
                    break;
                }
                continue;
            }
            let excess: Vec<f64> = (self.knapsack.limits.iter().zip(&scales))
                .map(|(limit, scale)| (sum(&limit.weights, &selection) - limit.at_most) / scale)
                .collect();
            let norm: f64 = excess.iter().map(|e| e * e).sum();
            let spread: f64 = self.knapsack.values.iter().map(|row| range(row)).sum();
            let target = self.best.as_ref().map_or(dual + spread, |(value, _)| *value);
            if norm < 1e-18 || target - dual <= 1e-12 * target.abs() {
                break;
            }
            let step = pace * (target - dual) / norm;
            for ((price, e), scale) in prices.iter_mut().zip(&excess).zip(&scales) {
                *price = (*price * scale + step * e).max(0.0) / scale;
            }
        }
    }

    fn finish(self) -> Relaxed {
        let bound = self.bound;
        let solution = self.best.map(|(value, selection)| Solution { selection, value, bound: bound.min(value) });
        Relaxed { bound: solution.as_ref().map_or(bound, |s| s.bound), solution, prices: self.prices }
    }
}

/// Takes lighter choices, the one first that loses least for the excess it removes, until the
/// selection is within the limits; `None` where this gets stuck.
pub fn repair(knapsack: &Knapsack, selection: Selection) -> Option<Selection> {
    let mut state = State::new(knapsack, selection);
    while state.excess() > 0.0 {
        let over = state.excess();
        let (_, layer, choice) = state
            .changes()
            .filter_map(|(layer, choice, gain)| {
                let left = state.excess_with(layer, choice);
                (left < over).then(|| ((-gain).max(0.0) / (over - left), layer, choice))
            })
            .min_by(|a, b| a.0.total_cmp(&b.0))?;
        state.take(layer, choice);
    }
    Some(state.selection)
}

/// Takes better choices, the most valuable first, as long as the limits leave room.
pub fn fill(knapsack: &Knapsack, selection: Selection) -> Selection {
    let mut state = State::new(knapsack, selection);
    loop {
        let better = state
            .changes()
            .filter(|&(layer, choice, gain)| gain > 1e-15 && state.excess_with(layer, choice) == 0.0)
            .max_by(|a, b| a.2.total_cmp(&b.2));
        match better {
            Some((layer, choice, _)) => state.take(layer, choice),
            None => return state.selection,
        }
    }
}

/// A selection with its sums, so that a change of one layer is priced without summing again.
struct State<'a> {
    knapsack: &'a Knapsack,
    selection: Selection,
    sums: Vec<f64>,
    scales: Vec<f64>,
}

impl<'a> State<'a> {
    fn new(knapsack: &'a Knapsack, selection: Selection) -> State<'a> {
        let sums = knapsack.limits.iter().map(|limit| sum(&limit.weights, &selection)).collect();
        State { knapsack, selection, sums, scales: knapsack.limits.iter().map(scale).collect() }
    }

    /// Every change of one layer, with the value that it saves.
    fn changes(&self) -> impl Iterator<Item = (usize, usize, f64)> + '_ {
        self.knapsack.values.iter().zip(self.selection.choices()).enumerate().flat_map(|(layer, (row, &now))| {
            (0..row.len()).filter(move |&c| c != now).map(move |c| (layer, c, row[now] - row[c]))
        })
    }

    fn excess(&self) -> f64 {
        let limits = self.knapsack.limits.iter().zip(&self.sums).zip(&self.scales);
        limits.map(|((limit, sum), scale)| over(limit, *sum, *scale)).sum()
    }

    fn excess_with(&self, layer: usize, choice: usize) -> f64 {
        let now = self.selection.choices()[layer];
        let limits = self.knapsack.limits.iter().zip(&self.sums).zip(&self.scales);
        let change = |limit: &Limit| limit.weights[layer][choice] - limit.weights[layer][now];
        limits.map(|((limit, sum), scale)| over(limit, sum + change(limit), *scale)).sum()
    }

    fn take(&mut self, layer: usize, choice: usize) {
        self.selection = self.selection.with(layer, choice);
        self.sums = self.knapsack.limits.iter().map(|limit| sum(&limit.weights, &self.selection)).collect();
    }
}

/// By how much a sum is above its limit, in spreads of it.
fn over(limit: &Limit, sum: f64, scale: f64) -> f64 {
    ((sum - limit.at_most) / scale - SLACK).max(0.0)
}

fn sum(rows: &[Vec<f64>], selection: &Selection) -> f64 {
    rows.iter().zip(selection.choices()).map(|(row, &c)| row[c]).sum()
}

fn lightest(limit: &Limit) -> f64 {
    limit.weights.iter().map(|row| row.iter().copied().fold(f64::INFINITY, f64::min)).sum()
}

/// The size that a limit's sum varies by, to compare limits of different units.
pub(super) fn scale(limit: &Limit) -> f64 {
    let spread: f64 = limit.weights.iter().map(|row| range(row)).sum();
    if spread > 0.0 { spread } else { 1.0 }
}

/// Rounding errors of a sum that must not count as an excess.
fn slack(limit: &Limit) -> f64 {
    SLACK * scale(limit)
}

fn range(row: &[f64]) -> f64 {
    let (low, high) = row.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), &x| (l.min(x), h.max(x)));
    if high > low { high - low } else { 0.0 }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::SplitMix64;
    use super::*;

    /// A random instance with falling values and rising weights, most of them feasible.
    pub(crate) fn instance(random: &mut SplitMix64) -> Knapsack {
        let layers = 1 + random.below(6);
        let sizes: Vec<usize> = (0..layers).map(|_| 1 + random.below(5)).collect();
        let falling = |random: &mut SplitMix64, n: usize| {
            let mut row: Vec<f64> = (0..n).map(|_| random.unit()).collect();
            row.sort_by(|a, b| b.total_cmp(a));
            row
        };
        let values = sizes.iter().map(|&n| falling(random, n)).collect();
        let limits = (0..1 + random.below(3))
            .map(|_| {
                let size = 10f64.powf(6.0 * random.unit());
                let weights: Vec<Vec<f64>> = sizes
                    .iter()
                    .map(|&n| falling(random, n).iter().rev().map(|x| (x * size * 8.0).round() / 8.0).collect())
                    .collect();
                let low: f64 = weights.iter().map(|row| row[0]).sum();
                let high: f64 = weights.iter().map(|row: &Vec<f64>| row[row.len() - 1]).sum();
                Limit { weights, at_most: low + (high - low) * (random.unit() * 1.1 - 0.05) }
            })
            .collect();
        Knapsack { values, limits }
    }

    pub(crate) fn brute_force(knapsack: &Knapsack) -> Option<(f64, Selection)> {
        let mut best: Option<(f64, Selection)> = None;
        let mut choices = vec![0; knapsack.values.len()];
        loop {
            let selection = Selection::new(choices.clone());
            let value = knapsack.value(&selection);
            if knapsack.within(&selection) && best.as_ref().is_none_or(|(v, _)| value < *v) {
                best = Some((value, selection));
            }
            let Some(layer) = (0..choices.len()).find(|&l| choices[l] + 1 < knapsack.values[l].len()) else {
                return best;
            };
            choices[layer] += 1;
            choices[..layer].fill(0);
        }
    }

    #[test]
    fn never_beats_the_optimum_and_bounds_it() {
        let mut random = SplitMix64(1);
        let (mut solved, mut optimal, mut missed) = (0, 0, 0);
        for _ in 0..600 {
            let knapsack = instance(&mut random);
            let relaxed = lagrangian(&knapsack);
            let Some((optimum, _)) = brute_force(&knapsack) else {
                assert!(relaxed.solution.is_none());
                continue;
            };
            assert!(relaxed.bound <= optimum + 1e-9, "bound {} above the optimum {optimum}", relaxed.bound);
            let Some(solution) = relaxed.solution else {
                missed += 1;
                continue;
            };
            assert!(knapsack.within(&solution.selection));
            assert!((knapsack.value(&solution.selection) - solution.value).abs() < 1e-12);
            assert!(solution.value >= optimum - 1e-9);
            solved += 1;
            optimal += usize::from(solution.value <= optimum + 1e-9);
        }
        assert!(solved > 300 && missed * 20 < solved, "{solved} solved, {missed} missed");
        assert!(optimal * 10 > solved * 7, "{optimal} of {solved} optimal");
        eprintln!("lagrangian: {solved} solved, {optimal} optimal, {missed} missed");
    }

    #[test]
    fn one_limit_on_the_hull_is_solved_exactly() {
        let knapsack = Knapsack {
            values: vec![vec![4.0, 1.0, 0.0], vec![2.0, 1.0, 0.0]],
            limits: vec![Limit { weights: vec![vec![0.0, 1.0, 2.0], vec![0.0, 1.0, 2.0]], at_most: 1.0 }],
        };
        let solution = lagrangian(&knapsack).solution.unwrap();
        assert_eq!((solution.value, solution.gap()), (3.0, 0.0));
    }
}
