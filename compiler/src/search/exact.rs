//! Measured sensitivities and costs, solved to the optimum: the default strategy.
//!
//! Cost bounds given: least predicted loss within them, by prices, proved by the integer program,
//! then refined with the true loss. Accuracy bounds alone: the least primary cost (flash, else
//! latency) whose *measured* metric holds, found by bisection along the front. Nothing given: the
//! same, with a drop of [`Budget::DEFAULT_DROP`] points.
//!
//! Costs that are sums enter the knapsack as they are. Costs that also depend on the widths between
//! layers are solved for one assignment of widths after another ([`super::widths`]; then nothing is claimed
//! proved). A cost that is no sum at all (RAM) is checked on each solution;
//! a broken one yields a cut that forbids what broke it, and the knapsack is solved again. Cuts
//! assume that RAM never falls when a tensor gets wider.
//!
//! [`Budget::DEFAULT_DROP`]: super::Budget::DEFAULT_DROP

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::cost::{Cost, Coupling, Linear, Sum};
use crate::units::Quantity;

use super::knapsack::{Knapsack, Limit};
use super::refine::refine;
use super::sensitivity::{self, Sensitivity};
use super::widths::{Bounded, Narrowed, descend};
use super::{Event, Front, Point, Problem, SearchError, Selection, Statistics, Strategy, explain, ilp, uniform};

/// The strategy and its settings.
#[derive(Clone, Debug)]
pub struct Exact {
    /// Policies that [`refine`] may score on the calibration samples; 0 for none.
    pub refinements: usize,
    /// Points along the front that are scored for the report, beside the solution.
    pub front_points: usize,
}

impl Default for Exact {
    fn default() -> Exact {
        Exact { refinements: 24, front_points: 6 }
    }
}

impl Strategy for Exact {
    fn name(&self) -> &'static str {
        "exact"
    }

    fn search(&mut self, problem: &Problem, events: &mut dyn FnMut(Event)) -> Result<Front, SearchError> {
        if problem.space.is_empty() {
            return Err(SearchError::Empty);
        }
        let bounds = problem.bounds()?;
        // Bounds that no policy meets are told before anything slow is done.
        if solve(problem, &flat(problem), &bounds)?.is_none() {
            return Err(explain::infeasible(problem)?.into());
        }
        let sensitivity = sensitivity::measure(problem, events)?;
        if bounds.is_empty() {
            cheapest(problem, &sensitivity, events)
        } else {
            self.most_accurate(problem, &sensitivity, &bounds, events)
        }
    }
}

impl Exact {
    fn most_accurate(
        &self,
        problem: &Problem,
        sensitivity: &Sensitivity,
        bounds: &[Bound],
        events: &mut dyn FnMut(Event),
    ) -> Result<Front, SearchError> {
        events(Event::Stage { name: "solve", steps: 1 });
        let solved = solve(problem, &sensitivity.increases.clone().into(), bounds)?;
        let Some(solved) = solved else { return Err(explain::infeasible(problem)?.into()) };
        events(Event::Finished { summary: solved.summary() });

        let refined = refine(problem, &solved, self.refinements, events)?;
        let mut points = vec![problem.point("exact", problem.space.policy(&refined.selection))?];
        // No search may recommend what one choice for all layers beats.
        points.extend(uniform::points(problem, events)?);
        let axis = bounds.iter().map(|(cost, _)| *cost).find(|cost| cost.coupling() != Coupling::Whole);
        if let Some(axis) = axis.or_else(|| problem.primary()) {
            let ladder = ladder(problem, axis, &sensitivity.increases, self.front_points)?;
            events(Event::Stage { name: "front", steps: ladder.len() });
            for (selection, _) in ladder {
                points.push(problem.point("front", problem.space.policy(&selection))?);
                events(Event::Step { label: format!("front {}", points.len() - 1) });
            }
            events(Event::Finished { summary: format!("{} points", points.len()) });
        }
        let evaluations = sensitivity.evaluations + refined.evaluations + points.len();
        problem.front(points, solved.statistics(evaluations))
    }
}

/// Bisects the ladder of least-loss selections along the primary cost for the cheapest that keeps
/// the accuracy asked for.
fn cheapest(problem: &Problem, sensitivity: &Sensitivity, events: &mut dyn FnMut(Event)) -> Result<Front, SearchError> {
    /// Rungs of the ladder: costs differ by a few percent from one to the next.
    const RUNGS: usize = 48;
    let start = Instant::now();
    let floor = problem.floor().unwrap_or(f64::NEG_INFINITY);
    let ladder = match problem.primary() {
        Some(primary) => ladder(problem, primary, &sensitivity.increases, RUNGS)?,
        None => vec![(problem.space.widest(), 0.0)],
    };
    let solve_time = start.elapsed();
    events(Event::Stage { name: "front", steps: ladder.len().max(2).ilog2() as usize + 3 });
    let mut points: BTreeMap<usize, Point> = BTreeMap::new();
    let mut keeps = |rung: usize| -> Result<bool, SearchError> {
        if let Some(point) = points.get(&rung) {
            return Ok(point.score.metric >= floor);
        }
        let (selection, _) = &ladder[rung];
        let point = problem.point("exact", problem.space.policy(selection))?;
        events(Event::Step { label: format!("rung {rung} of {}", ladder.len()) });
        let keeps = point.score.metric >= floor;
        points.insert(rung, point);
        Ok(keeps)
    };
    let (mut low, mut high) = (0, ladder.len() - 1);
    if keeps(high)? {
        while low < high {
            let middle = (low + high) / 2;
            if keeps(middle)? {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        // The metric is noisy from rung to rung: two cheaper ones get their chance.
        for rung in high.saturating_sub(2)..high {
            keeps(rung)?;
        }
    }
    let evaluations = sensitivity.evaluations + points.len();
    events(Event::Finished { summary: format!("{} policies scored", points.len()) });
    problem.front(points.into_values().collect(), Statistics { evaluations, solve_time, ..Statistics::default() })
}

/// Selections of least predicted loss under bounds on one cost, evenly spaced on a logarithmic scale
/// from the least to the most that it can be; cheapest first, no two alike.
fn ladder(
    problem: &Problem,
    axis: &dyn Cost,
    values: &[Vec<f64>],
    rungs: usize,
) -> Result<Vec<(Selection, f64)>, SearchError> {
    let price = |selection: &Selection| Ok::<_, SearchError>(axis.of(&problem.space.policy(selection))?.value());
    let widest = problem.space.widest();
    let mut found = BTreeMap::new();
    found.insert(widest.clone(), price(&widest)?);
    if let Some(linear) = Linear::around(axis, problem.space, &widest)? {
        let least = descend(problem.space, &linear.sum, &[], &[]);
        let low = linear.constant + least.relaxed.solution.map_or(0.0, |solution| solution.value);
        let most = |row: &Vec<f64>| row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let high = linear.constant + linear.sum.rows.iter().map(most).sum::<f64>();
        let values = values.to_vec().into();
        for rung in 0..rungs {
            let share = rung as f64 / rungs as f64;
            let at_most = low * (high / low).powf(share) - linear.constant;
            let narrowed = descend(problem.space, &values, &[Bounded { sum: &linear.sum, at_most }], &[]);
            if let Some(solution) = &narrowed.relaxed.solution {
                let selection = narrowed.whole(&solution.selection);
                let cost = price(&selection)?;
                found.insert(selection, cost);
            }
        }
    }
    let mut ladder: Vec<(Selection, f64)> = found.into_iter().collect();
    ladder.sort_by(|a, b| a.1.total_cmp(&b.1).then_with(|| a.0.cmp(&b.0)));
    Ok(ladder)
}

/// A cost and the most it may be.
pub(super) type Bound<'a> = (&'a dyn Cost, Quantity);

/// A selection within all bounds.
pub(super) struct Solved {
    /// The choices.
    pub selection: Selection,
    /// The knapsack of their widths, which they solve.
    pub narrowed: Narrowed,
    /// The knapsack of the whole space as it is next to them.
    pub knapsack: Knapsack,
    value: f64,
    bound: Option<f64>,
    time: Duration,
}

impl Solved {
    fn proved(&self) -> bool {
        self.bound.is_some_and(|bound| self.value <= bound + 1e-9 * self.value.abs())
    }

    fn summary(&self) -> String {
        let claim = match self.bound {
            Some(_) if self.proved() => "proved optimal".to_owned(),
            Some(bound) => format!("at most {:.2e} above the optimum", self.value - bound),
            None => "not proved, since widths of activations vary".to_owned(),
        };
        format!("predicted loss increase {:.4}, {claim}, in {:.3} s", self.value, self.time.as_secs_f64())
    }

    fn statistics(&self, evaluations: usize) -> Statistics {
        Statistics {
            evaluations,
            objective: Some(self.value),
            bound: self.bound,
            proved: self.proved(),
            solve_time: self.time,
            tried: Vec::new(),
        }
    }
}

/// Values for which any selection is as good as any other.
fn flat(problem: &Problem) -> Sum {
    problem.space.sites().iter().map(|site| vec![0.0; site.choices.len()]).collect::<Vec<_>>().into()
}

/// Minimises the summed `values` within `bounds`; `None` where no selection is within them.
pub(super) fn solve(problem: &Problem, values: &Sum, bounds: &[Bound]) -> Result<Option<Solved>, SearchError> {
    /// Cuts and margins in all; far more than any network has needed.
    const ROUNDS: usize = 64;
    let start = Instant::now();
    let mut instance = Instance::new(problem, bounds)?;
    for _ in 0..ROUNDS {
        let narrowed = instance.descend(values);
        let Some(solution) = ilp::solve(&narrowed.knapsack, &narrowed.relaxed)? else { break };
        let selection = narrowed.whole(&solution.selection);
        if instance.check(&selection)? {
            let bound = (!problem.space.varies_activations()).then_some(solution.bound);
            let knapsack = instance.around(values, &selection);
            let (value, time) = (solution.value, start.elapsed());
            return Ok(Some(Solved { selection, narrowed, knapsack, value, bound, time }));
        }
    }
    Ok(None)
}

/// The bounds as limits of a knapsack, tightened by what solutions taught.
struct Instance<'a> {
    problem: &'a Problem<'a>,
    bounds: &'a [Bound<'a>],
    prices: Vec<Priced>,
    cuts: Vec<Limit>,
}

/// A bound on a cost that splits.
struct Priced {
    linear: Linear,
    at_most: f64,
    /// What the limit was lowered by, because the sum promised less than the cost was.
    margin: f64,
    bound: usize,
}

impl<'a> Instance<'a> {
    fn new(problem: &'a Problem<'a>, bounds: &'a [Bound<'a>]) -> Result<Instance<'a>, SearchError> {
        let mut instance = Instance { problem, bounds, prices: Vec::new(), cuts: Vec::new() };
        for (index, (cost, bound)) in bounds.iter().enumerate() {
            match Linear::around(*cost, problem.space, &problem.space.widest())? {
                Some(linear) => {
                    instance.prices.push(Priced { linear, at_most: bound.value(), margin: 0.0, bound: index });
                }
                None => instance.cut_hopeless(*cost, *bound)?,
            }
        }
        Ok(instance)
    }

    fn descend(&self, values: &Sum) -> Narrowed {
        let limit = |price: &'_ Priced| price.at_most - price.linear.constant - price.margin;
        let limits: Vec<Bounded> =
            self.prices.iter().map(|price| Bounded { sum: &price.linear.sum, at_most: limit(price) }).collect();
        descend(self.problem.space, values, &limits, &self.cuts)
    }

    /// The knapsack of the whole space as it is next to `selection`: exact where one layer changes.
    fn around(&self, values: &Sum, selection: &Selection) -> Knapsack {
        let limit = |price: &Priced| {
            let (weights, here) = (price.linear.sum.around(selection), price.linear.of(selection));
            Limit { weights, at_most: price.at_most - price.margin - here }
        };
        let limits = self.prices.iter().map(limit).chain(self.cuts.iter().cloned()).collect();
        Knapsack { values: values.rows.clone(), limits }
    }

    /// Whether the true costs are within the bounds; learns from those that are not.
    fn check(&mut self, selection: &Selection) -> Result<bool, SearchError> {
        let mut held = true;
        for (index, (cost, bound)) in self.bounds.iter().enumerate() {
            let price = cost.of(&self.problem.space.policy(selection))?.value();
            if price <= bound.value() {
                continue;
            }
            held = false;
            match self.prices.iter_mut().find(|price| price.bound == index) {
                Some(price_of) => price_of.margin += 0.5 * (price - bound.value()) + 1e-9 * bound.value().abs(),
                None => self.cut(*cost, *bound, selection)?,
            }
        }
        Ok(held)
    }

    /// Forbids the choices that break a bound even where all else is narrowest.
    fn cut_hopeless(&mut self, cost: &dyn Cost, bound: Quantity) -> Result<(), SearchError> {
        let narrowest = self.problem.space.narrowest();
        let mut hopeless = vec![Vec::new(); self.problem.space.len()];
        for (layer, site) in self.problem.space.sites().iter().enumerate() {
            for choice in 0..site.choices.len() {
                if self.breaks(cost, bound, &narrowest.with(layer, choice))? {
                    hopeless[layer].push(choice);
                }
            }
        }
        self.forbid(&hopeless, 0);
        Ok(())
    }

    /// Forbids what makes `selection` break a bound: the fewest layers that do so by themselves, at
    /// any choice that does.
    fn cut(&mut self, cost: &dyn Cost, bound: Quantity, selection: &Selection) -> Result<(), SearchError> {
        let mut core = selection.clone();
        for layer in 0..core.choices().len() {
            let without = core.with(layer, 0);
            if self.breaks(cost, bound, &without)? {
                core = without;
            }
        }
        let mut guilty = vec![Vec::new(); core.choices().len()];
        let mut layers = 0;
        for (layer, site) in self.problem.space.sites().iter().enumerate() {
            if core.choices()[layer] == 0 {
                continue;
            }
            layers += 1;
            for choice in 0..site.choices.len() {
                if self.breaks(cost, bound, &core.with(layer, choice))? {
                    guilty[layer].push(choice);
                }
            }
        }
        self.forbid(&guilty, layers - 1);
        Ok(())
    }

    fn breaks(&self, cost: &dyn Cost, bound: Quantity, selection: &Selection) -> Result<bool, SearchError> {
        Ok(cost.of(&self.problem.space.policy(selection))?.value() > bound.value())
    }

    /// At most so many layers may take a choice of their list.
    fn forbid(&mut self, choices: &[Vec<usize>], at_most: i32) {
        let row = |(site, list): (&super::space::Site, &Vec<usize>)| -> Vec<f64> {
            (0..site.choices.len()).map(|c| f64::from(u8::from(list.contains(&c)))).collect()
        };
        let weights: Vec<Vec<f64>> = self.problem.space.sites().iter().zip(choices).map(row).collect();
        if weights.iter().flatten().any(|&w| w > 0.0) {
            self.cuts.push(Limit { weights, at_most: f64::from(at_most) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::explain::Infeasible;
    use super::super::random::Random;
    use super::super::testing::{Synthetic, quiet};
    use super::super::uniform::Uniform;
    use super::super::{Budget, Metric, Strategy};
    use super::*;
    use crate::units::{Bytes, Count, Ticks};

    fn exact() -> Exact {
        Exact::default()
    }

    fn price(net: &Synthetic, metric: Metric, selection: &Selection) -> f64 {
        net.problem().cost(metric).unwrap().of(&net.space.policy(selection)).unwrap().value()
    }

    /// Between the least and the most that a cost can be.
    fn between(net: &Synthetic, metric: Metric, share: f64) -> u64 {
        let low = price(net, metric, &net.space.narrowest());
        let high = price(net, metric, &net.space.widest());
        (low + share * (high - low)) as u64
    }

    fn best_by_brute_force(net: &Synthetic) -> f64 {
        let mut choices = vec![0; net.space.len()];
        let mut best = f64::INFINITY;
        loop {
            let policy = net.space.policy(&Selection::new(choices.clone()));
            if net.problem().within(&net.problem().costs_of(&policy).unwrap()) {
                best = best.min(net.loss(&policy));
            }
            let sites = net.space.sites();
            let Some(layer) = (0..choices.len()).find(|&l| choices[l] + 1 < sites[l].choices.len()) else {
                return best;
            };
            choices[layer] += 1;
            choices[..layer].fill(0);
        }
    }

    #[test]
    fn stays_within_every_budget_and_near_the_best_true_loss() {
        for seed in 0..30 {
            let widths: &[u8] = if seed % 2 == 0 { &[8] } else { &[4, 8] };
            let mut net = Synthetic::new(5, &[2, 3, 4, 8], widths, seed);
            net.budget.flash = Some(Bytes(between(&net, Metric::Flash, 0.4)));
            net.budget.bitops = Some(Count(between(&net, Metric::Bitops, 0.5)));
            if seed % 3 == 1 {
                net.budget.ram = Some(Bytes(between(&net, Metric::Ram, 0.7)));
            }
            let front = exact().search(&net.problem(), &mut quiet()).unwrap();
            assert!(net.problem().within(&front.chosen.costs), "seed {seed}");
            let best = best_by_brute_force(&net);
            let found = net.loss(&front.chosen.policy);
            assert!(found >= best - 1e-12);
            assert!(found - 0.3 <= 1.3 * (best - 0.3) + 1e-3, "seed {seed}: loss {found}, best {best}");
            if seed % 2 == 0 {
                assert!(front.statistics.proved, "seed {seed}: sums are proved");
            } else {
                assert_eq!(front.statistics.bound, None, "widths between layers: nothing is claimed");
            }
        }
    }

    #[test]
    fn beats_random_search_and_uniform_widths() {
        let mut wins = 0;
        for seed in 0..10 {
            let mut net = Synthetic::new(10, &[2, 3, 4, 5, 6, 8], &[8], 100 + seed);
            net.budget.flash = Some(Bytes(between(&net, Metric::Flash, 0.35)));
            let problem = net.problem();
            let front = exact().search(&problem, &mut quiet()).unwrap();
            let uniform = Uniform.search(&problem, &mut quiet()).unwrap();
            let mut random = Random { evaluations: front.statistics.evaluations };
            let random = random.search(&problem, &mut quiet()).unwrap();
            assert!(front.chosen.score.metric >= uniform.chosen.score.metric, "seed {seed}");
            wins += usize::from(front.chosen.score.metric >= random.chosen.score.metric);
        }
        assert!(wins >= 9, "{wins} of 10 against random search");
    }

    #[test]
    fn ram_is_checked_by_the_planner_and_cut() {
        let mut net = Synthetic::new(6, &[4, 8], &[2, 4, 8], 5);
        net.budget.ram = Some(Bytes(1500));
        let front = exact().search(&net.problem(), &mut quiet()).unwrap();
        let Some(Quantity::Bytes(ram)) = front.chosen.costs.get(&Metric::Ram) else { panic!("RAM is priced") };
        assert!(ram.0 <= 1500);
        let best = best_by_brute_force(&net);
        assert!(net.loss(&front.chosen.policy) - best < 0.05 * (best - 0.3).max(0.01));
    }

    #[test]
    fn an_accuracy_bound_alone_gives_the_cheapest_that_holds_it() {
        let mut net = Synthetic::new(6, &[2, 3, 4, 6, 8], &[8], 21);
        net.budget.max_drop = Some(2.0);
        let front = exact().search(&net.problem(), &mut quiet()).unwrap();
        assert!(front.chosen.score.metric >= 0.88);
        let flash = front.chosen.costs[&Metric::Flash].value();
        assert!(flash < price(&net, Metric::Flash, &net.space.widest()));
        for point in &front.points {
            assert!(point.score.metric < 0.88 || point.costs[&Metric::Flash].value() >= flash);
        }
        net.budget = Budget::default();
        let default = exact().search(&net.problem(), &mut quiet()).unwrap();
        assert!(default.chosen.score.metric >= 0.89, "a drop of one point, where nothing is asked for");
        net.budget.min_accuracy = Some(0.95);
        let error = exact().search(&net.problem(), &mut quiet()).unwrap_err();
        assert!(error.to_string().contains("--min-accuracy 0.95"), "{error}");
    }

    #[test]
    fn the_same_seed_gives_the_same_front() {
        let mut net = Synthetic::new(8, &[2, 3, 4, 8], &[4, 8], 3);
        net.budget.flash = Some(Bytes(between(&net, Metric::Flash, 0.3)));
        let search = || {
            let front = exact().search(&net.problem(), &mut quiet()).unwrap();
            (front.chosen, front.points)
        };
        assert_eq!(search(), search());
    }

    fn explanation(net: &Synthetic) -> Box<Infeasible> {
        let scored = net.scored();
        let error = exact().search(&net.problem(), &mut quiet()).unwrap_err();
        assert_eq!(net.scored(), scored, "told before anything is scored");
        match error {
            SearchError::Infeasible(infeasible) => infeasible,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn an_impossible_bound_is_named_with_what_is_reachable() {
        let mut net = Synthetic::new(5, &[2, 4, 8], &[8], 9);
        net.budget.flash = Some(Bytes(100));
        net.budget.bitops = Some(Count(between(&net, Metric::Bitops, 0.9)));
        let infeasible = explanation(&net);
        assert!(infeasible.alone && infeasible.failing.len() == 1);
        let least = infeasible.failing[0].least.unwrap().value();
        assert_eq!(least, price(&net, Metric::Flash, &net.space.narrowest()));
        let text = infeasible.to_string();
        for part in ["--max-flash 100 B cannot be met", "w2a8", "nearest reachable point", "raise --max-flash"] {
            assert!(text.contains(part), "{text}");
        }
        assert!(!text.contains("--max-bitops"), "{text}");
        eprintln!("{text}");

        net.budget = Budget { ram: Some(Bytes(10)), ..Budget::default() };
        let text = explanation(&net).to_string();
        assert!(text.contains("--max-ram 10 B cannot be met: the smallest policy takes 1.95 KiB"), "{text}");
    }

    /// A cost that falls as weights get wider, as decoding costs time.
    struct Decoding;

    impl crate::cost::Cost for Decoding {
        fn metric(&self) -> Metric {
            Metric::Latency
        }

        fn unit(&self) -> crate::units::Unit {
            crate::units::Unit::Ticks(crate::units::TickUnit::Cycles)
        }

        fn coupling(&self) -> Coupling {
            Coupling::Weights
        }

        fn of(&self, policy: &crate::policy::Policy) -> Result<Quantity, crate::cost::CostError> {
            let bits = |layer: &crate::policy::LayerPolicy| match &layer.weights {
                Some(crate::policy::WeightChoice::Layer(format)) => f64::from(format.bits()),
                _ => 8.0,
            };
            let total = policy.layers.values().map(|layer| 1000.0 - 100.0 * bits(layer)).sum();
            Ok(Quantity::new(total, self.unit()))
        }

        fn per_layer(&self, _: &crate::policy::Policy) -> Result<Vec<(String, f64)>, crate::cost::CostError> {
            Ok(Vec::new())
        }
    }

    #[test]
    fn bounds_that_conflict_are_named_together_and_the_innocent_is_not() {
        let mut net = Synthetic::new(5, &[2, 4, 8], &[8], 9);
        net.budget.flash = Some(Bytes(between(&net, Metric::Flash, 0.1)));
        net.budget.latency = Some("1500 cycles".parse().unwrap());
        net.budget.ram = Some(Bytes(1 << 20));
        let mut problem = net.problem();
        problem.costs.push(&Decoding);
        let error = exact().search(&problem, &mut quiet()).unwrap_err();
        let text = error.to_string();
        for part in ["--max-latency", "--max-flash", "cannot be met together", "goes down to", "raise"] {
            assert!(text.contains(part), "{text}");
        }
        assert!(!text.contains("--max-ram"), "{text}");
        eprintln!("{text}");
    }

    #[test]
    fn refinement_finds_what_the_sum_of_sensitivities_misses() {
        let (mut plain, mut refined) = (0.0, 0.0);
        for seed in 0..20 {
            let mut net = Synthetic::new(9, &[2, 3, 4, 5, 6, 8], &[8], 200 + seed);
            net.budget.flash = Some(Bytes(between(&net, Metric::Flash, 0.25)));
            let loss = |refinements| {
                let mut strategy = Exact { refinements, front_points: 0 };
                net.loss(&strategy.search(&net.problem(), &mut quiet()).unwrap().chosen.policy) - 0.3
            };
            let (without, with) = (loss(0), loss(24));
            assert!(with <= without, "seed {seed}");
            plain += without;
            refined += with;
        }
        eprintln!("loss increase over 20 nets: {plain:.4} solved, {refined:.4} refined");
        assert!(refined < plain);
    }

    #[test]
    fn a_blob_larger_than_its_formula_still_fits() {
        let mut net = Synthetic::new(6, &[2, 3, 4, 6, 8], &[8], 31);
        net.budget.flash = Some(Bytes(between(&net, Metric::Flash, 0.4)));
        let padded = |policy: &crate::policy::Policy| {
            let Quantity::Bytes(bytes) = net.size.of(policy)? else { return Err("bytes".into()) };
            Ok(Bytes(bytes.0.next_multiple_of(64) + 64 * (bytes.0 % 7)))
        };
        let exact_size = crate::cost::size::ExactSize { formula: net.size.clone(), lowered: padded };
        let mut problem = net.problem();
        problem.costs[0] = &exact_size;
        let front = exact().search(&problem, &mut quiet()).unwrap();
        assert!(problem.within(&front.chosen.costs), "{:?}", front.chosen.costs);
    }

    #[test]
    fn a_large_space_takes_seconds_at_most() {
        for widths in [&[8][..], &[4, 6, 8]] {
            let mut net = Synthetic::new(28, &[1, 2, 3, 4, 5, 6, 7, 8], widths, 77);
            net.budget.flash = Some(Bytes(between(&net, Metric::Flash, 0.35)));
            net.budget.bitops = Some(Count(between(&net, Metric::Bitops, 0.4)));
            net.budget.ram = Some(Bytes(between(&net, Metric::Ram, 0.8)));
            let start = Instant::now();
            let front = exact().search(&net.problem(), &mut quiet()).unwrap();
            eprintln!("28 layers, widths {widths:?}: {:?}, {:?}", start.elapsed(), front.statistics);
            assert!(net.problem().within(&front.chosen.costs));
            assert!(start.elapsed().as_secs() < 40);
        }
    }

    #[test]
    fn a_unit_that_the_target_does_not_count_is_refused() {
        let mut net = Synthetic::new(3, &[4, 8], &[8], 1);
        net.budget.latency = Some("5ms".parse::<Ticks>().unwrap());
        let error = exact().search(&net.problem(), &mut quiet()).unwrap_err();
        assert!(error.to_string().contains("--max-latency"), "{error}");
    }
}
