//! Widths of activations: what couples a layer with those that read it.
//!
//! With a width decided for every layer, costs are sums over layers, and the knapsack of the other decisions is solved by
//! prices. Over the widths goes a descent, from one width for all layers, each in turn: at the prices found, layer after
//! layer takes the width that promises most, then the knapsack of the widths arrived at is solved anew. Where no layer can
//! choose its width there is one assignment, and what is found is the knapsack's own solution.

use crate::cost::Sum;

use super::knapsack::{Knapsack, Limit, Relaxed, lagrangian, scale};
use super::space::Site;
use super::{Selection, Space};

/// A sum over layers and pairs, and its limit.
#[derive(Clone, Debug)]
pub struct Bounded<'a> {
    /// The sum.
    pub sum: &'a Sum,
    /// Most that it may be.
    pub at_most: f64,
}

/// The knapsack of one width a layer.
#[derive(Clone, Debug)]
pub struct Narrowed {
    /// Its values, and the limits in the order given, cuts last.
    pub knapsack: Knapsack,
    /// What prices make of it.
    pub relaxed: Relaxed,
    /// By layer, the choices in the whole space that its choices stand for.
    choices: Vec<Vec<usize>>,
}

impl Narrowed {
    /// The selection in the whole space.
    pub fn whole(&self, selection: &Selection) -> Selection {
        Selection::new(self.choices.iter().zip(selection.choices()).map(|(choices, &c)| choices[c]).collect())
    }

    /// By how much the limits are exceeded at the least, in spreads of each; then the least value.
    fn rank(&self) -> (f64, f64) {
        match &self.relaxed.solution {
            Some(solution) => (0.0, solution.value),
            None => (self.knapsack.limits.iter().map(lacking).sum::<f64>().max(f64::MIN_POSITIVE), f64::INFINITY),
        }
    }
}

fn lacking(limit: &Limit) -> f64 {
    let least: f64 = limit.weights.iter().map(|row| row.iter().copied().fold(f64::INFINITY, f64::min)).sum();
    ((least - limit.at_most) / scale(limit)).max(0.0)
}

/// Minimises `values` within `limits` and `cuts`, as far as a descent does.
pub fn descend(space: &Space, values: &Sum, limits: &[Bounded], cuts: &[Limit]) -> Narrowed {
    let network = Network { space, values, limits, cuts };
    let mut best = network.solve(&widths_near(space, u8::MAX));
    for start in offered(space) {
        let mut widths = widths_near(space, start);
        let mut here = network.solve(&widths);
        while let Some((better, found)) = network.better(&widths, &here) {
            (widths, here) = (better, found);
        }
        if here.rank() < best.rank() {
            best = here;
        }
    }
    best
}

struct Network<'a> {
    space: &'a Space,
    values: &'a Sum,
    limits: &'a [Bounded<'a>],
    cuts: &'a [Limit],
}

impl Network<'_> {
    fn solve(&self, widths: &[u8]) -> Narrowed {
        let choices = self.choices(widths);
        let knapsack = self.knapsack(&choices);
        let relaxed = lagrangian(&knapsack);
        Narrowed { knapsack, relaxed, choices }
    }

    /// Widths with a solution of lower rank: those that a walk at its prices ends at, or one step of it alone.
    fn better(&self, widths: &[u8], here: &Narrowed) -> Option<(Vec<u8>, Narrowed)> {
        /// Steps that are tried one by one.
        const SINGLE: usize = 4;
        let mut end = widths.to_vec();
        while let Some((_, next)) = self.steps(&end, here).into_iter().next() {
            end = next;
        }
        let single = self.steps(widths, here).into_iter().map(|(_, next)| next).take(SINGLE);
        let tried = std::iter::once(end).filter(|end| end != widths).chain(single);
        tried.map(|next| (self.solve(&next), next)).find(|(found, _)| found.rank() < here.rank()).map(|(f, n)| (n, f))
    }

    /// The changes of one layer's width that promise less than none does, the best first.
    fn steps(&self, widths: &[u8], here: &Narrowed) -> Vec<(f64, Vec<u8>)> {
        let now = self.promise(widths, here);
        let enough = now - 1e-9 * now.abs();
        let mut steps = Vec::new();
        for layer in 0..self.space.len() {
            for width in widths_of(self.space, layer).into_iter().filter(|&width| width != widths[layer]) {
                let mut next = widths.to_vec();
                next[layer] = width;
                steps.push((self.promise(&next, here), next));
            }
        }
        steps.retain(|(promise, _)| *promise < enough);
        steps.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(&b.1)));
        steps
    }

    /// What the prices of a solution make of other widths; where there is none, what they lack.
    fn promise(&self, widths: &[u8], here: &Narrowed) -> f64 {
        let knapsack = self.knapsack(&self.choices(widths));
        match here.relaxed.solution {
            Some(_) => knapsack.bound(&here.relaxed.prices),
            None => knapsack.limits.iter().map(lacking).sum(),
        }
    }

    /// The choices that have these widths.
    fn choices(&self, widths: &[u8]) -> Vec<Vec<usize>> {
        let of = |(site, width): (&Site, &u8)| {
            (0..site.choices.len()).filter(|&c| site.choices[c].activation_bits == *width).collect()
        };
        self.space.sites().iter().zip(widths).map(of).collect()
    }

    fn knapsack(&self, choices: &[Vec<usize>]) -> Knapsack {
        let bounded =
            self.limits.iter().map(|limit| Limit { weights: rows(limit.sum, choices), at_most: limit.at_most });
        let cut = |cut: &Limit| {
            let pick = |(row, list): (&Vec<f64>, &Vec<usize>)| list.iter().map(|&c| row[c]).collect();
            Limit { weights: cut.weights.iter().zip(choices).map(pick).collect(), at_most: cut.at_most }
        };
        Knapsack { values: rows(self.values, choices), limits: bounded.chain(self.cuts.iter().map(cut)).collect() }
    }
}

/// What each of the `choices` adds, where the layers before it have the widths of theirs.
fn rows(sum: &Sum, choices: &[Vec<usize>]) -> Vec<Vec<f64>> {
    let mut rows: Vec<Vec<f64>> =
        sum.rows.iter().zip(choices).map(|(row, list)| list.iter().map(|&c| row[c]).collect()).collect();
    for pair in &sum.pairs {
        let amounts = &pair.amounts[choices[pair.writer][0]];
        for (own, &choice) in rows[pair.reader].iter_mut().zip(&choices[pair.reader]) {
            *own += amounts[choice];
        }
    }
    rows
}

/// All widths that any layer can choose.
fn offered(space: &Space) -> Vec<u8> {
    let mut widths: Vec<u8> = (0..space.len()).flat_map(|layer| widths_of(space, layer)).collect();
    widths.sort_unstable();
    widths.dedup();
    widths
}

/// The widths that a layer can choose, narrowest first.
fn widths_of(space: &Space, layer: usize) -> Vec<u8> {
    let mut widths: Vec<u8> = space.sites()[layer].choices.iter().map(|choice| choice.activation_bits).collect();
    widths.sort_unstable();
    widths.dedup();
    widths
}

/// For every layer, of the widths that it can choose, the one nearest to `width`.
fn widths_near(space: &Space, width: u8) -> Vec<u8> {
    let nearest = |layer| widths_of(space, layer).into_iter().min_by_key(|own| own.abs_diff(width)).unwrap_or(width);
    (0..space.len()).map(nearest).collect()
}

#[cfg(test)]
mod tests {
    use super::super::SplitMix64;
    use super::super::testing::Synthetic;
    use super::*;
    use crate::cost::Pair;

    /// Of a chain: few bits of weights save something only if the layer before writes few bits, too.
    fn multiplied(space: &Space, random: &mut SplitMix64) -> Sum {
        let choices = |layer: usize| &space.sites()[layer].choices;
        let mut pair = |reader: usize| {
            let saving = 1.0 + random.unit();
            let amount = |w: usize, r: usize| {
                let few_bits = choices(reader - 1)[w].activation_bits < 8;
                let few_weight_bits = choices(reader)[r].weights != choices(0)[choices(0).len() - 1].weights;
                if few_bits && few_weight_bits { -saving } else { 0.0 }
            };
            let row = |w: usize| (0..choices(reader).len()).map(|r| amount(w, r)).collect();
            Pair { writer: reader - 1, reader, amounts: (0..choices(reader - 1).len()).map(row).collect() }
        };
        let pairs = (1..space.len()).map(&mut pair).collect();
        Sum { rows: (0..space.len()).map(|layer| vec![0.0; choices(layer).len()]).collect(), pairs }
    }

    fn least_by_brute_force(space: &Space, values: &Sum, limit: &Bounded) -> Option<f64> {
        let mut selections = vec![space.narrowest()];
        for (layer, site) in space.sites().iter().enumerate() {
            let with =
                |selection: &Selection| (0..site.choices.len()).map(|c| selection.with(layer, c)).collect::<Vec<_>>();
            selections = selections.iter().flat_map(with).collect();
        }
        let within = selections.iter().filter(|selection| limit.sum.of(selection) <= limit.at_most + 1e-9);
        within.map(|selection| values.of(selection)).min_by(f64::total_cmp)
    }

    #[test]
    fn finds_what_pays_only_when_two_layers_change() {
        let mut random = SplitMix64(9);
        let mut optimal = 0;
        for seed in 0..60 {
            let space = Synthetic::new(5, &[4, 8], &[4, 8], seed).space;
            let loss = |choice: &crate::policy::LayerPolicy, random: &mut SplitMix64| {
                if choice.activation_bits < 8 { random.unit() } else { 0.0 }
            };
            let rows = space.sites().iter().map(|site| {
                let mut narrower = 0.0;
                let values = site.choices.iter().rev().map(|choice| {
                    narrower += 0.2 * random.unit();
                    narrower + loss(choice, &mut random)
                });
                let mut values: Vec<f64> = values.collect();
                values.reverse();
                values
            });
            let values: Sum = rows.collect::<Vec<_>>().into();
            let sum = multiplied(&space, &mut random);
            let limit = Bounded { sum: &sum, at_most: -1.0 - 4.0 * random.unit() };
            let least = least_by_brute_force(&space, &values, &limit);
            let found = descend(&space, &values, std::slice::from_ref(&limit), &[]);
            let found = found.relaxed.solution.as_ref().map(|solution| {
                let selection = found.whole(&solution.selection);
                assert!(limit.sum.of(&selection) <= limit.at_most + 1e-9, "seed {seed}");
                assert!(
                    (values.of(&selection) - solution.value).abs() < 1e-9,
                    "seed {seed}: one value for both spaces"
                );
                solution.value
            });
            assert_eq!(found.is_some(), least.is_some(), "seed {seed}: found wherever there is one");
            if let (Some(found), Some(least)) = (found, least) {
                assert!(found <= 1.5 * least + 1e-9, "seed {seed}: {found} for {least}");
                optimal += usize::from(found <= least + 1e-9);
            }
        }
        assert!(optimal >= 40, "{optimal} of 60 are optimal");
    }
}
