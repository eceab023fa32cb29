//! The fine-grained mode (section 4.1): not which channels a layer keeps, but what share of its weights.
//!
//! An episode takes the smallest weights out of every layer and scores what is left, on few samples and without training.
//! What each rival comes to is refitted: the weights that are left make up for the others by least squares. Where far more
//! than half of the weights go, nothing is left to score: go there in several runs, as the paper does.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::baselines::Rule;
use super::contest::cheapest;
use super::judge::{Effort, Judge};
use super::{Aim, AmcError, Method, Subject, Trial};
use crate::ir::{Graph, NodeId};
use crate::prune::fine::Sparsity;
use crate::search::Event;
use crate::task::Task;

/// Shares that a layer may keep, in hundredths.
const SHARES: [usize; 14] = [2, 3, 5, 7, 10, 15, 20, 30, 40, 50, 60, 70, 85, 100];
/// Those that divide shares among layers.
const RIVALS: [Method; 4] = [Method::Amc, Method::Rule(Rule::Uniform), Method::Random, Method::Evolution];

/// Shares of the weights of each layer, and what they were chosen over.
#[derive(Clone, Debug)]
pub struct Allocation {
    /// What the best of all rivals keeps.
    pub sparsity: Sparsity,
    /// The network with those weights alone, refitted.
    pub graph: Graph,
    /// Each by name, and what it came to, if anything: the agent, the same share everywhere, guesses, evolution, and
    /// magnitudes over all layers ([`Sparsity::Global`]).
    pub rivals: Vec<(&'static str, Option<Allotted>)>,
}

/// What a rival came to.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Allotted {
    /// The share of all weights that is left.
    pub density: f64,
    /// The score on all validation samples, refitted, before training.
    pub val: f64,
    #[serde(skip)]
    sparsity: Sparsity,
    #[serde(skip)]
    graph: Graph,
}

/// Lets the agent try `episodes` allocations to the layers of a network, within a share or a number of weights or, where only
/// the loss is bounded, for few weights and few errors (section 3.3); rules, guesses and evolution try as many. The best of
/// all within the bound is chosen, or the one of fewest weights that loses so little.
///
/// # Errors
/// See [`AmcError`].
pub fn allocate(
    task: &Task,
    aim: Aim,
    episodes: usize,
    seed: u64,
    events: &mut dyn FnMut(Event),
) -> Result<Allocation, AmcError> {
    task.data.warn_of_few();
    let [judge, last] = [Judge::new(task, Effort::EPISODE)?, Judge::new(task, Effort::LAST)?];
    let score = |sparsity: &Sparsity| judge.score(&sparsity.prune(&task.graph));
    let subject = Densities::new(&task.graph, &score);
    let whole = subject.weights.iter().sum::<usize>() as f64;
    let goal = aim.goal(whole);
    let floor = match aim {
        Aim::Drop(points) => last.score(&task.graph)? - points / 100.0,
        Aim::Share(_) | Aim::Within(_) => f64::NEG_INFINITY,
    };
    let settle = |trials: &[Trial], sparsity: &dyn Fn(&Trial) -> Sparsity| -> Result<Option<Allotted>, AmcError> {
        let allot = |trial: &Trial| -> Result<Option<Allotted>, AmcError> {
            let sparsity = sparsity(trial);
            let (graph, val) = last.refit_weights(sparsity.prune(&task.graph))?;
            let allotted = Allotted { density: trial.cost / whole, val, sparsity, graph };
            Ok(Some(allotted).filter(|allotted| allotted.val >= floor))
        };
        match aim {
            Aim::Drop(_) => cheapest(trials, allot),
            Aim::Share(_) | Aim::Within(_) => goal.best(trials).map_or(Ok(None), allot),
        }
    };

    let mut rivals = Vec::new();
    for method in RIVALS {
        events(Event::Stage { name: method.name(), steps: episodes });
        let mut tried = |trial: &Trial| events(Event::Step { label: format!("{:.4}", trial.accuracy) });
        let trials = method.trials(&subject, goal, episodes, seed, &mut tried)?;
        rivals.push((method.name(), settle(&trials, &|trial| subject.sparsity(&trial.widths))?));
    }
    let bounded = [goal.budget() / whole];
    let steps = SHARES.map(|hundredths| hundredths as f64 / 100.0);
    let by_magnitude = |&share: &f64| {
        let accuracy = score(&Sparsity::Global(share))?;
        Ok(Trial { widths: Vec::new(), cost: share * whole, accuracy })
    };
    let shares = if matches!(aim, Aim::Drop(_)) { &steps[..] } else { &bounded[..] };
    let trials: Vec<Trial> = shares.iter().map(by_magnitude).collect::<Result<_, AmcError>>()?;
    rivals.push(("magnitude", settle(&trials, &|trial| Sparsity::Global(trial.cost / whole))?));

    let summary = |(name, rival): &(&str, Option<Allotted>)| match rival {
        Some(Allotted { density, val, .. }) => format!("{name} {val:.4} with {:.1} %", 100.0 * density),
        None => format!("{name} nothing"),
    };
    events(Event::Finished { summary: rivals.iter().map(summary).collect::<Vec<_>>().join(", ") });
    let better = |a: &&Allotted, b: &&Allotted| match aim {
        Aim::Drop(_) => b.density.total_cmp(&a.density),
        Aim::Share(_) | Aim::Within(_) => a.val.total_cmp(&b.val),
    };
    // Of equals, the first.
    let chosen = rivals.iter().rev().filter_map(|(_, rival)| rival.as_ref()).max_by(better);
    let Allotted { sparsity, graph, .. } = chosen.ok_or(AmcError::Inaccurate { tried: episodes })?.clone();
    Ok(Allocation { sparsity, graph, rivals })
}

/// The layers of a network, each of which keeps a share of its weights.
struct Densities<'a> {
    names: Vec<String>,
    weights: Vec<usize>,
    shares: Vec<Vec<usize>>,
    features: Vec<Vec<f32>>,
    score: &'a dyn Fn(&Sparsity) -> Result<f64, AmcError>,
    known: RefCell<BTreeMap<Vec<usize>, f64>>,
}

impl<'a> Densities<'a> {
    fn new(graph: &Graph, score: &'a dyn Fn(&Sparsity) -> Result<f64, AmcError>) -> Densities<'a> {
        let layers: Vec<NodeId> = graph.weighted().collect();
        let shape = |id: NodeId| graph.input_shape(graph.node(id), 1);
        let weights: Vec<usize> = layers.iter().map(|&id| shape(id).iter().product()).collect();
        let all = weights.iter().sum::<usize>().max(1) as f32;
        let last = layers.len().max(2) as f32 - 1.0;
        let describe = |(i, &id): (usize, &NodeId)| {
            let (shape, macs) = (shape(id), graph.macs(graph.node(id)) as f32);
            let row: usize = shape[1..].iter().product();
            let logs = [shape[0], row].map(|n| (n as f32).ln() / 10.0);
            vec![i as f32 / last, logs[0], logs[1], weights[i] as f32 / all, macs.max(1.0).ln() / 20.0]
        };
        Densities {
            names: layers.iter().map(|&id| graph.node(id).name.clone()).collect(),
            features: layers.iter().enumerate().map(describe).collect(),
            shares: vec![SHARES.to_vec(); layers.len()],
            known: RefCell::default(),
            weights,
            score,
        }
    }

    fn sparsity(&self, shares: &[usize]) -> Sparsity {
        let share = |(name, share): (&String, &usize)| (name.clone(), *share as f64 / 100.0);
        Sparsity::Layers(self.names.iter().zip(shares).map(share).collect())
    }
}

impl Subject for Densities<'_> {
    fn widths(&self) -> &[Vec<usize>] {
        &self.shares
    }

    fn features(&self) -> &[Vec<f32>] {
        &self.features
    }

    /// Weights that are left.
    fn cost(&self, shares: &[usize]) -> Result<f64, AmcError> {
        Ok(self.weights.iter().zip(shares).map(|(&n, &share)| (n * share) as f64 / 100.0).sum())
    }

    fn accuracy(&self, shares: &[usize]) -> Result<f64, AmcError> {
        if let Some(&known) = self.known.borrow().get(shares) {
            return Ok(known);
        }
        let accuracy = (self.score)(&self.sparsity(shares))?;
        self.known.borrow_mut().insert(shares.to_vec(), accuracy);
        Ok(accuracy)
    }
}
