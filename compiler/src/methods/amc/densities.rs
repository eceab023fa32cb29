//! The fine-grained mode (section 4.1): not which channels a layer keeps, but what share of its weights.
//!
//! An episode takes the smallest weights out of every layer and scores what is left, on few samples and without training.
//! Where far more than half of the weights go, nothing is left to score: go there in several runs, as the paper does.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::baselines::{self, Rule};
use super::judge::{Effort, Judge};
use super::{AmcError, Goal, Subject, search};
use crate::ir::{Graph, NodeId};
use crate::prune::fine::Sparsity;
use crate::search::Event;
use crate::task::Task;

/// Shares that a layer may keep, in hundredths.
const SHARES: [usize; 14] = [2, 3, 5, 7, 10, 15, 20, 30, 40, 50, 60, 70, 85, 100];

/// Shares of each layer's weights, and what they were chosen over.
#[derive(Clone, Debug)]
pub struct Allocation {
    /// Those of the best score.
    pub sparsity: Sparsity,
    /// Scores before training: of the agent's best, of the same share everywhere, and by magnitude over all layers
    /// ([`Sparsity::Global`]).
    pub agent: f64,
    /// See [`Allocation::agent`].
    pub uniform: f64,
    /// See [`Allocation::agent`].
    pub magnitude: f64,
}

/// Lets the agent try `episodes` allocations of this share of all weights, which it never exceeds, to the layers of a
/// network; rules are tried beside it, and the best of all is chosen.
///
/// # Errors
/// See [`AmcError`].
pub fn allocate(
    task: &Task,
    density: f64,
    episodes: usize,
    seed: u64,
    events: &mut dyn FnMut(Event),
) -> Result<Allocation, AmcError> {
    let judge = Judge::new(task, Effort::EPISODE)?;
    let score = |sparsity: &Sparsity| judge.score(&sparsity.prune(&task.graph));
    let subject = Densities::new(&task.graph, &score);
    let goal = Goal::Within(density * subject.weights.iter().sum::<usize>() as f64);
    events(Event::Stage { name: "shares of weights", steps: episodes });
    let mut tried = |trial: &super::Trial| events(Event::Step { label: format!("{:.4}", trial.accuracy) });
    let trials = search(&subject, goal, episodes, seed, &mut tried)?;
    let agent = goal.best(&trials).ok_or(AmcError::Empty)?;
    let uniform = baselines::by_rule(&subject, goal, Rule::Uniform)?;
    let magnitude = score(&Sparsity::Global(density))?;
    let by_layer = if agent.accuracy >= uniform.accuracy { agent } else { &uniform };
    let sparsity = match by_layer.accuracy >= magnitude {
        true => subject.sparsity(&by_layer.widths),
        false => Sparsity::Global(density),
    };
    let (agent, uniform) = (agent.accuracy, uniform.accuracy);
    events(Event::Finished {
        summary: format!("agent {agent:.4}, uniform {uniform:.4}, magnitude {magnitude:.4} before training"),
    });
    Ok(Allocation { sparsity, agent, uniform, magnitude })
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
