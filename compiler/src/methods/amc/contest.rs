//! The agent beside all that it must beat, each with the same number of episodes.
//!
//! Episodes are judged on few samples ([`Effort::EPISODE`]); the best of each method are refitted and scored on many
//! ([`Effort::LAST`]), and the best of those is what the method came to. The test split is never read.

use std::path::PathBuf;

use sha2::{Digest, Sha256};

use super::baselines::{self, Rule};
use super::judge::{Effort, Judge};
use super::pruning::{Price, Pruning};
use super::{AmcError, Goal, Subject, Trial, search};
use crate::data::Split;
use crate::ir::Graph;
use crate::prune::{Pruner, Selection};
use crate::quant::{CalibrationConfig, calibrate};
use crate::search::Event;
use crate::task::Task;

/// Networks of a method that are refitted and scored on many samples.
const FINALISTS: usize = 5;
/// Budgets, in equal steps up to the whole network, that rules are tried at where there is no budget.
const BUDGETS: usize = 16;

/// How widths are chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Method {
    /// By the agent.
    Amc,
    /// By a rule.
    Rule(Rule),
    /// By guesses.
    Random,
    /// By evolution.
    Evolution,
    /// By the user: one for each group.
    Given(Vec<usize>),
}

/// What is wanted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Aim {
    /// The best network at no more than this share of the whole one's price.
    Share(f64),
    /// The best network at no more than this price.
    Within(f64),
    /// The cheapest network that loses no more of the score than this, in points (hundredths): the accuracy-guaranteed
    /// protocol, whose reward is `-error * ln(price)` (section 3.3).
    Drop(f64),
}

impl Aim {
    /// What episodes are rewarded for, where the whole network costs `dense`.
    pub fn goal(self, dense: f64) -> Goal {
        match self {
            Aim::Share(share) => Goal::Within(share * dense),
            Aim::Within(cost) => Goal::Within(cost),
            Aim::Drop(_) => Goal::Trade,
        }
    }
}

/// What is pruned, and how.
pub struct Contest<'a> {
    /// The network and its data.
    pub task: &'a Task,
    /// What it costs.
    pub price: Price<'a>,
    /// What it shall cost or keep.
    pub aim: Aim,
    /// In which order channels go.
    pub selection: Selection,
    /// Layers keep multiples of so many channels, or all: those that the target's kernels compute at once.
    pub multiple: usize,
    /// How many each method has.
    pub episodes: usize,
    /// Fixes every random choice.
    pub seed: u64,
    /// Where scores of episodes are written down as they come: the next run with this folder goes on from there.
    pub scores: Option<PathBuf>,
}

/// A network before or after pruning.
#[derive(Clone, Debug)]
pub struct Pruned {
    /// Refitted, all its nodes under their names.
    pub graph: Graph,
    /// Channels that are left of each group.
    pub widths: Vec<usize>,
    /// Its price.
    pub cost: f64,
    /// Its score on all validation samples.
    pub score: f64,
}

/// What a method came to.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Which.
    pub method: Method,
    /// Its best network; `None` where it found none that keeps the accuracy wanted.
    pub best: Option<Pruned>,
    /// Its episodes, in order.
    pub trials: Vec<Trial>,
}

/// What came of a contest.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The network as it was.
    pub dense: Pruned,
    /// The layers that compute each group, by name.
    pub groups: Vec<Vec<String>>,
    /// In the order of the methods asked for.
    pub entries: Vec<Entry>,
}

impl Outcome {
    /// What the method that was asked for first came to.
    ///
    /// # Errors
    /// [`AmcError::Inaccurate`] where it found nothing.
    pub fn chosen(&self) -> Result<&Pruned, AmcError> {
        let tried = self.entries.first().map_or(0, |entry| entry.trials.len());
        self.entries.first().and_then(|entry| entry.best.as_ref()).ok_or(AmcError::Inaccurate { tried })
    }
}

impl Method {
    /// The agent and all that it must beat.
    pub const ALL: [Method; 6] = [
        Method::Amc,
        Method::Rule(Rule::Uniform),
        Method::Rule(Rule::Shallow),
        Method::Rule(Rule::Deep),
        Method::Random,
        Method::Evolution,
    ];

    /// In a word.
    pub fn name(&self) -> &'static str {
        match self {
            Method::Given(_) => "given",
            Method::Amc => "amc",
            Method::Rule(Rule::Uniform) => "uniform",
            Method::Rule(Rule::Shallow) => "shallow",
            Method::Rule(Rule::Deep) => "deep",
            Method::Random => "random",
            Method::Evolution => "evolution",
        }
    }

    /// At most `episodes` widths.
    ///
    /// # Errors
    /// See [`AmcError`].
    pub fn trials(
        &self,
        subject: &dyn Subject,
        goal: Goal,
        episodes: usize,
        seed: u64,
        tried: &mut dyn FnMut(&Trial),
    ) -> Result<Vec<Trial>, AmcError> {
        match (self, goal) {
            (Method::Amc, _) => search(subject, goal, episodes, seed, tried),
            (Method::Given(widths), _) => Ok(vec![given(subject, widths)?]),
            (Method::Random, _) => baselines::random(subject, goal, episodes, seed, tried),
            (Method::Evolution, _) => baselines::evolution(subject, goal, episodes, seed, tried),
            (Method::Rule(rule), Goal::Within(_)) => Ok(vec![baselines::by_rule(subject, goal, *rule)?]),
            (Method::Rule(rule), Goal::Trade) => {
                let full: Vec<usize> = subject.widths().iter().filter_map(|some| some.last().copied()).collect();
                let dense = subject.cost(&full)?;
                let budgets = (1..=BUDGETS).rev().map(|step| Goal::Within(dense * step as f64 / BUDGETS as f64));
                let trials = budgets.map(|goal| baselines::by_rule(subject, goal, *rule));
                // From some budget on there is nothing narrow enough.
                trials.take_while(|trial| !matches!(trial, Err(AmcError::Infeasible { .. }))).collect()
            }
        }
    }
}

impl Contest<'_> {
    /// Lets every method prune.
    ///
    /// # Errors
    /// See [`AmcError`].
    pub fn run(&self, methods: &[Method], events: &mut dyn FnMut(Event)) -> Result<Outcome, AmcError> {
        let (task, graph) = (self.task, &self.task.graph);
        events(Event::Stage { name: "orders of channels", steps: 1 });
        let inputs = task.data.spread(Split::Train, Effort::LAST.refitted)?;
        let config = CalibrationConfig { rows_per_layer: Effort::LAST.rows, seed: 0 };
        let calibration = calibrate(graph, &inputs, inputs.len() / task.input_len(), &config)?;
        let pruner = Pruner::new(graph, &calibration, self.selection.clone());
        let glance = Judge::new(task, Effort::EPISODE)?;
        let score = |pruned: Graph, kept: &_| Ok(glance.refit(pruned, kept)?.1);
        let mut subject = Pruning::new(graph, &pruner, self.price.clone(), self.multiple, score)?;
        if let Some(folder) = &self.scores {
            subject = subject.remembering(folder.join(self.file_name()));
        }
        let last = Judge::new(task, Effort::LAST)?;
        let full: Vec<usize> = subject.widths().iter().filter_map(|some| some.last().copied()).collect();
        let (cost, score) = (subject.cost(&full)?, last.score(graph)?);
        task.data.warn_of_few();
        let dense = Pruned { graph: graph.clone(), widths: full, cost, score };
        let mut entries = Vec::new();
        for method in methods {
            events(Event::Stage { name: method.name(), steps: self.episodes });
            let mut tried = |trial: &Trial| events(Event::Step { label: format!("{:.4}", trial.accuracy) });
            let trials = method.trials(&subject, self.aim.goal(cost), self.episodes, self.seed, &mut tried)?;
            let finish = |trial: &Trial| -> Result<Pruned, AmcError> {
                let units = pruner.units(&trial.widths);
                let (graph, score) = last.refit(pruner.prune(&units), &pruner.groups().kept(&units))?;
                Ok(Pruned { graph, widths: trial.widths.clone(), cost: trial.cost, score })
            };
            let best = match self.aim {
                Aim::Drop(points) => {
                    let floor = score - points / 100.0;
                    cheapest(&trials, |trial| Ok(Some(finish(trial)?).filter(|pruned| pruned.score >= floor)))?
                }
                Aim::Share(_) | Aim::Within(_) => best(&trials, self.aim.goal(cost), finish)?,
            };
            let summary = best.as_ref().map_or_else(|| "nothing".to_owned(), |best| format!("{:.4}", best.score));
            events(Event::Finished { summary: format!("{}: {summary}", method.name()) });
            entries.push(Entry { method: method.clone(), best, trials });
        }
        let names =
            |group: &crate::prune::Group| group.producers.iter().map(|&id| graph.node(id).name.clone()).collect();
        Ok(Outcome { dense, groups: pruner.groups().iter().map(names).collect(), entries })
    }

    /// Scores of episodes depend on neither budget, method nor seed.
    fn file_name(&self) -> String {
        let rest = format!("{:?} {:?} {}", self.selection, Effort::EPISODE, env!("PARE_SOURCES"));
        let hash = Sha256::new().chain_update(self.task.fingerprint()).chain_update(rest).finalize();
        let hex: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        format!("prune-{hex}.jsonl")
    }
}

/// Prices and judges widths that the user gives, whatever they cost.
fn given(subject: &dyn Subject, widths: &[usize]) -> Result<Trial, AmcError> {
    let groups = subject.widths();
    if widths.len() != groups.len() {
        return Err(AmcError::Groups { given: widths.len(), groups: groups.len() });
    }
    let mut pairs = widths.iter().zip(groups).enumerate();
    if let Some((group, (&given, some))) = pairs.find(|(_, (given, some))| !some.contains(given)) {
        return Err(AmcError::Width { group, given, some: some.clone() });
    }
    Ok(Trial { cost: subject.cost(widths)?, accuracy: subject.accuracy(widths)?, widths: widths.to_vec() })
}

/// Of the trials that are worth most, the one that is best in the end.
fn best(
    trials: &[Trial],
    goal: Goal,
    mut finish: impl FnMut(&Trial) -> Result<Pruned, AmcError>,
) -> Result<Option<Pruned>, AmcError> {
    let mut sorted: Vec<&Trial> = trials.iter().collect();
    sorted.sort_by(|a, b| goal.reward(b).total_cmp(&goal.reward(a)).then_with(|| a.widths.cmp(&b.widths)));
    sorted.dedup();
    let finished: Vec<Pruned> = sorted.into_iter().take(FINALISTS).map(&mut finish).collect::<Result<_, _>>()?;
    Ok(finished.into_iter().reduce(|best, next| if next.score > best.score { next } else { best }))
}

/// The cheapest of those trials no other of which is both cheaper and better, of which `keep` makes something. Scored on
/// many samples a network may be worse or better than its episode was, but what is dearer is taken to be better.
pub(super) fn cheapest<T>(
    trials: &[Trial],
    mut keep: impl FnMut(&Trial) -> Result<Option<T>, AmcError>,
) -> Result<Option<T>, AmcError> {
    let mut sorted: Vec<&Trial> = trials.iter().collect();
    sorted.sort_by(|a, b| a.cost.total_cmp(&b.cost).then(b.accuracy.total_cmp(&a.accuracy)));
    let mut front: Vec<&Trial> = Vec::new();
    for trial in sorted {
        if front.last().is_none_or(|last| trial.accuracy > last.accuracy) {
            front.push(trial);
        }
    }
    // Bisection between one that does not keep it and one that does.
    let (mut low, mut high, mut found) = (0, front.len(), None);
    while low < high {
        let middle = low + (high - low) / 2;
        match keep(front[middle])? {
            Some(kept) => (high, found) = (middle, Some(kept)),
            None => low = middle + 1,
        }
    }
    Ok(found)
}
