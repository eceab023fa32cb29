//! What an agent must beat within the same budget: rules of thumb, guesses, and evolution.

use super::{AmcError, Goal, Subject, Trial, Wall};
use crate::rng::Pcg32;

/// Most individuals that evolution keeps.
const POPULATION: usize = 24;
/// Steps in which a rule's share of channels falls until the budget is met.
const SHARES: usize = 400;

/// A share of channels for each group, by its place in the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// The same everywhere.
    Uniform,
    /// The first groups lose most.
    Shallow,
    /// The last groups lose most.
    Deep,
}

impl Rule {
    /// Every rule.
    pub const ALL: [Rule; 3] = [Rule::Uniform, Rule::Shallow, Rule::Deep];

    /// How much a group at `place`, from 0 to 1, keeps beside the others.
    fn weight(self, place: f64) -> f64 {
        match self {
            Rule::Uniform => 1.0,
            Rule::Shallow => 0.5 + place,
            Rule::Deep => 1.5 - place,
        }
    }
}

/// The widest network that the rule gives within the budget.
///
/// # Errors
/// See [`AmcError`].
pub fn by_rule(subject: &dyn Subject, goal: Goal, rule: Rule) -> Result<Trial, AmcError> {
    let wall = Wall::new(subject, goal.budget())?;
    let last = subject.widths().len().max(2) - 1;
    for step in (0..=SHARES).rev() {
        let share = |group: usize| 2.0 * step as f64 / SHARES as f64 * rule.weight(group as f64 / last as f64);
        let width = |(group, some): (usize, &Vec<usize>)| {
            let most = share(group) * some[some.len() - 1] as f64;
            some.iter().copied().take_while(|&n| n as f64 <= most).last().unwrap_or(some[0])
        };
        let widths: Vec<usize> = subject.widths().iter().enumerate().map(width).collect();
        if wall.allows(&widths)? {
            return wall.trial(widened(subject, &wall, widths)?);
        }
    }
    // A share of nothing is the narrowest network, which the wall allowed.
    wall.trial(subject.widths().iter().map(|some| some[0]).collect())
}

/// Each group in turn a step wider, where what rounding left of the budget allows it.
fn widened(subject: &dyn Subject, wall: &Wall<'_>, mut widths: Vec<usize>) -> Result<Vec<usize>, AmcError> {
    for (group, some) in subject.widths().iter().enumerate() {
        let now = widths[group];
        widths[group] = some.iter().copied().find(|&width| width > now).unwrap_or(now);
        if !wall.allows(&widths)? {
            widths[group] = now;
        }
    }
    Ok(widths)
}

/// Random actions.
///
/// # Errors
/// See [`AmcError`].
pub fn random(
    subject: &dyn Subject,
    goal: Goal,
    trials: usize,
    seed: u64,
    tried: &mut dyn FnMut(&Trial),
) -> Result<Vec<Trial>, AmcError> {
    let wall = Wall::new(subject, goal.budget())?;
    let mut random = Pcg32::new(seed, 0x3a4d);
    let guess = |_| {
        let actions: Vec<f32> = subject.widths().iter().map(|_| random.unit()).collect();
        let trial = wall.trial(wall.decide_all(&actions)?)?;
        tried(&trial);
        Ok(trial)
    };
    (0..trials).map(guess).collect()
}

/// Random actions first; then children of the best so far, each gene from either parent, some changed.
///
/// # Errors
/// See [`AmcError`].
pub fn evolution(
    subject: &dyn Subject,
    goal: Goal,
    trials: usize,
    seed: u64,
    tried: &mut dyn FnMut(&Trial),
) -> Result<Vec<Trial>, AmcError> {
    let wall = Wall::new(subject, goal.budget())?;
    let mut random = Pcg32::new(seed, 0xe701);
    let genes = subject.widths().len();
    let mut all = Vec::with_capacity(trials);
    // The best first.
    let mut population: Vec<(f64, Vec<f32>)> = Vec::new();
    for n in 0..trials {
        let actions: Vec<f32> = if n < POPULATION.min(trials / 3 + 1) {
            (0..genes).map(|_| random.unit()).collect()
        } else {
            let mut parent = || {
                // The better of two.
                let n = population.len() as u32;
                random.below(n).min(random.below(n)) as usize
            };
            let (a, b) = (parent(), parent());
            let inherit = |gene: usize| {
                let from = if random.below(2) == 0 { a } else { b };
                let inherited = population[from].1[gene];
                let changed = random.below(genes as u32 + 1) == 0;
                if changed { (inherited + random.between(-0.4, 0.4)).clamp(0.0, 1.0) } else { inherited }
            };
            (0..genes).map(inherit).collect()
        };
        let trial = wall.trial(wall.decide_all(&actions)?)?;
        tried(&trial);
        let reward = goal.reward(&trial);
        let place = population.partition_point(|(other, _)| *other >= reward);
        population.insert(place, (reward, actions));
        population.truncate(POPULATION);
        all.push(trial);
    }
    Ok(all)
}
