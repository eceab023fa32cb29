//! The same knapsack as a 0/1 program, solved to the end: the proof behind [`super::knapsack`].

use good_lp::{
    Expression, ProblemVariables, ResolutionError, Solution as _, SolverModel, Variable, WithTimeLimit, microlp,
    variable,
};

use super::knapsack::{Knapsack, Relaxed, Solution, scale};
use super::{SearchError, Selection};

/// Seconds after which the best selection so far is taken, unproved.
const TIME_LIMIT: f64 = 20.0;
/// Solvers accept sums a hair above their limit; a limit that they broke is lowered by this share
/// of its spread and solved again.
const MARGIN: f64 = 1e-6;

/// The optimum of `knapsack`, starting from what [`super::knapsack::lagrangian`] found; `None` where
/// no selection is within the limits. `bound == value` says that it is proved.
///
/// # Errors
/// [`SearchError::Solver`] where the solver gives up for a reason of its own.
pub fn solve(knapsack: &Knapsack, relaxed: &Relaxed) -> Result<Option<Solution>, SearchError> {
    if relaxed.bound == f64::INFINITY {
        return Ok(None);
    }
    let incumbent = relaxed.solution.clone();
    if incumbent.as_ref().is_some_and(|solution| solution.gap() <= tolerance(knapsack)) {
        return Ok(incumbent.map(proved));
    }
    let open = open_choices(knapsack, relaxed);
    let mut margins = vec![0.0; knapsack.limits.len()];
    for _ in 0..4 {
        let answer = match program(knapsack, &open, &margins)? {
            Answer::Selection { selection, .. } if breaks(knapsack, &selection, &mut margins) => continue,
            Answer::Selection { selection, complete } => {
                let solution = Solution { value: knapsack.value(&selection), selection, bound: relaxed.bound };
                let best = match incumbent {
                    Some(incumbent) if incumbent.value <= solution.value => incumbent,
                    _ => solution,
                };
                Some(if complete { proved(best) } else { best })
            }
            // Every selection as good as the incumbent was open: it is the optimum.
            Answer::Infeasible => incumbent.map(proved),
            Answer::OutOfTime => incumbent,
        };
        return Ok(answer);
    }
    Ok(incumbent)
}

enum Answer {
    Selection { selection: Selection, complete: bool },
    Infeasible,
    OutOfTime,
}

fn proved(solution: Solution) -> Solution {
    Solution { bound: solution.value, ..solution }
}

/// Values nearer than this are the same.
fn tolerance(knapsack: &Knapsack) -> f64 {
    let largest = knapsack.values.iter().flatten().fold(0.0, |m: f64, v| m.max(v.abs()));
    1e-9 * largest
}

/// Leaves out what cannot be in a better selection: choices that another beats in everything, and
/// choices whose reduced value alone lifts the bound above the incumbent.
fn open_choices(knapsack: &Knapsack, relaxed: &Relaxed) -> Vec<Vec<usize>> {
    let incumbent = relaxed.solution.as_ref().map_or(f64::INFINITY, |solution| solution.value);
    let room = incumbent - relaxed.bound + tolerance(knapsack);
    let open = |layer: usize| -> Vec<usize> {
        let priced = |c: usize| knapsack.values[layer][c] + knapsack.charge(&relaxed.prices, layer, c);
        let choices = knapsack.values[layer].len();
        let least = (0..choices).map(priced).fold(f64::INFINITY, f64::min);
        (0..choices)
            .filter(|&c| priced(c) - least <= room)
            .filter(|&c| !(0..choices).any(|other| beats(knapsack, layer, other, c)))
            .collect()
    };
    (0..knapsack.values.len()).map(open).collect()
}

/// Whether `a` is nowhere worse than `b`; of two equal choices, the first.
fn beats(knapsack: &Knapsack, layer: usize, a: usize, b: usize) -> bool {
    let columns = || {
        let weights = knapsack.limits.iter().map(|limit| &limit.weights[layer]);
        weights.chain([&knapsack.values[layer]])
    };
    a != b && columns().all(|row| row[a] <= row[b]) && (a < b || columns().any(|row| row[a] < row[b]))
}

fn program(knapsack: &Knapsack, open: &[Vec<usize>], margins: &[f64]) -> Result<Answer, SearchError> {
    if open.iter().any(Vec::is_empty) {
        return Ok(Answer::Infeasible);
    }
    let mut variables = ProblemVariables::new();
    let chosen: Vec<Vec<Variable>> =
        open.iter().map(|row| row.iter().map(|_| variables.add(variable().binary())).collect()).collect();
    let weighted = |rows: &[Vec<f64>], by: f64| -> Expression {
        let mut sum = Expression::from(0.0);
        for ((row, choices), variables) in rows.iter().zip(open).zip(&chosen) {
            let least = choices.iter().map(|&c| row[c]).fold(f64::INFINITY, f64::min);
            for (&c, &v) in choices.iter().zip(variables) {
                sum.add_mul((row[c] - least) / by, v);
            }
        }
        sum
    };
    let least = |rows: &[Vec<f64>]| -> f64 {
        rows.iter().zip(open).map(|(row, cs)| cs.iter().map(|&c| row[c]).fold(f64::INFINITY, f64::min)).sum()
    };
    let largest = knapsack.values.iter().flatten().fold(f64::MIN_POSITIVE, |m: f64, v| m.max(v.abs()));
    let mut model = variables.minimise(weighted(&knapsack.values, largest)).using(microlp).with_time_limit(TIME_LIMIT);
    for row in &chosen {
        let mut one = Expression::from(0.0);
        row.iter().for_each(|&v| one.add_mul(1.0, v));
        model = model.with(one.eq(1.0));
    }
    for (limit, margin) in knapsack.limits.iter().zip(margins) {
        let room = (limit.at_most - least(&limit.weights)) / scale(limit) - margin;
        model = model.with(weighted(&limit.weights, scale(limit)).leq(room));
    }
    match model.solve() {
        Ok(answer) => {
            let pick = |(choices, variables): (&Vec<usize>, &Vec<Variable>)| {
                let best =
                    choices.iter().zip(variables).max_by(|a, b| answer.value(*a.1).total_cmp(&answer.value(*b.1)));
                best.map_or(0, |(&c, _)| c)
            };
            let selection = Selection::new(open.iter().zip(&chosen).map(pick).collect());
            let complete = matches!(answer.status(), good_lp::solvers::SolutionStatus::Optimal);
            Ok(Answer::Selection { selection, complete })
        }
        Err(ResolutionError::Infeasible) => Ok(Answer::Infeasible),
        Err(ResolutionError::Other(_)) => Ok(Answer::OutOfTime),
        Err(error) => Err(SearchError::Solver(error.to_string())),
    }
}

/// Whether the selection is above a limit after all; raises the margin of each such limit.
fn breaks(knapsack: &Knapsack, selection: &Selection, margins: &mut [f64]) -> bool {
    let mut broken = false;
    for (limit, margin) in knapsack.limits.iter().zip(margins) {
        if !limit.holds(selection) {
            *margin += MARGIN;
            broken = true;
        }
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::super::SplitMix64;
    use super::super::knapsack::tests::{brute_force, instance};
    use super::super::knapsack::{Limit, lagrangian};
    use super::*;

    #[test]
    fn equals_brute_force() {
        let mut random = SplitMix64(2);
        for round in 0..600 {
            let knapsack = instance(&mut random);
            let solution = solve(&knapsack, &lagrangian(&knapsack)).unwrap();
            match (brute_force(&knapsack), solution) {
                (None, None) => {}
                (Some((optimum, _)), Some(solution)) => {
                    assert!(knapsack.within(&solution.selection));
                    assert!((solution.value - optimum).abs() < 1e-7, "{round}: {} for {optimum}", solution.value);
                    assert!(solution.gap() < 1e-9, "{round}: proved");
                }
                (truth, found) => panic!("round {round}: {truth:?} but {found:?}"),
            }
        }
    }

    #[test]
    fn fifty_layers_with_twenty_choices_take_seconds_at_most() {
        let mut random = SplitMix64(3);
        let falling = |random: &mut SplitMix64| {
            let mut row: Vec<f64> = (0..20).map(|_| random.unit().powi(3)).collect();
            row.sort_by(|a, b| b.total_cmp(a));
            row
        };
        let rows = |random: &mut SplitMix64| (0..50).map(|_| falling(random)).collect::<Vec<_>>();
        let values = rows(&mut random);
        let limits = (0..2)
            .map(|_| Limit {
                weights: rows(&mut random).into_iter().map(|row| row.into_iter().rev().collect()).collect(),
                at_most: 8.0,
            })
            .collect();
        let knapsack = Knapsack { values, limits };
        let start = std::time::Instant::now();
        let relaxed = lagrangian(&knapsack);
        let first = start.elapsed();
        let solution = solve(&knapsack, &relaxed).unwrap().unwrap();
        eprintln!(
            "lagrangian {:.5} in {first:?}, bound {:.5}; proved {:.5} in {:?}",
            relaxed.solution.as_ref().unwrap().value,
            relaxed.bound,
            solution.value,
            start.elapsed()
        );
        assert!(knapsack.within(&solution.selection));
        assert!(solution.value <= relaxed.solution.unwrap().value);
        assert!(start.elapsed().as_secs() < 30);
    }
}
