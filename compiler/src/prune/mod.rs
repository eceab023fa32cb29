//! Structured pruning: channels go from the graph, with all that computes and reads them, and what is left makes up for
//! them.
//!
//! * [`groups`] finds which channels one decision is about.
//! * [`saliency`] and [`elimination`] say in which order those of a group go.
//! * [`regression`] refits a layer to the inputs that it has left, from second moments of its inputs alone; so
//!   [`Pruner::prune`] reads no data, and costs little enough to be asked hundreds of times.
//! * [`refit`] then goes through the network once more with data, each layer making up for all before it.

pub mod elimination;
pub mod groups;
pub mod refit;
pub mod regression;
pub mod saliency;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

pub use self::groups::{Group, Groups, Unit};
pub use self::refit::refit;
pub use self::regression::Regression;
pub use self::saliency::Saliency;
use crate::ir::channels::cut;
use crate::ir::constants::Rewriting;
use crate::ir::weighted::{Weighted, is_dense};
use crate::ir::{Graph, NodeId};
use crate::quant::Calibration;

/// The graph with, of each group, the units of these numbers; what the others contributed to layers is gone with them.
pub fn shrink(graph: &Graph, groups: &Groups, keep: &[Vec<usize>]) -> Graph {
    cut(graph, &groups.kept(graph, keep))
}

/// In which order the units of a group go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    /// Those of the least figure first.
    Least(Saliency),
    /// Those first without which the layers that read the group, refitted, change least.
    Elimination,
}

/// Prunes one graph to any widths.
#[derive(Debug)]
pub struct Pruner<'a> {
    graph: &'a Graph,
    groups: Groups,
    regressions: BTreeMap<NodeId, Regression>,
    /// For each group its units in the order in which they go.
    orders: Vec<Vec<usize>>,
    /// Refitted weights by the layer and the input channels it reads.
    refitted: RefCell<BTreeMap<(NodeId, Vec<usize>), Rc<Vec<f64>>>>,
}

impl<'a> Pruner<'a> {
    /// `calibration` is that of `graph`.
    pub fn new(graph: &'a Graph, calibration: &Calibration, selection: Selection) -> Pruner<'a> {
        let groups = Groups::of(graph);
        let regression = |id: NodeId| {
            let moments = calibration.moments.get(&id).and_then(|groups| groups.first())?;
            Some((id, Regression::new(&Weighted::of(graph, graph.node(id)), moments)))
        };
        let regressions: BTreeMap<_, _> =
            graph.weighted().filter(|&id| is_dense(graph.node(id))).filter_map(regression).collect();
        let order = |group: &Group| match selection {
            Selection::Elimination => {
                let readers: Vec<&Regression> = group.consumers.iter().filter_map(|id| regressions.get(id)).collect();
                elimination::order(group, &readers)
            }
            Selection::Least(saliency) => {
                let figures = saliency.of(graph, group);
                let mut order: Vec<usize> = (0..figures.len()).collect();
                order.sort_by(|&a, &b| figures[a].total_cmp(&figures[b]));
                order
            }
        };
        let orders = groups.iter().map(order).collect();
        Pruner { graph, groups, regressions, orders, refitted: RefCell::default() }
    }

    /// What can be cut.
    pub fn groups(&self) -> &Groups {
        &self.groups
    }

    /// The units that stay where each group keeps so many.
    pub fn units(&self, widths: &[usize]) -> Vec<Vec<usize>> {
        let last = |(order, &width): (&Vec<usize>, &usize)| {
            let mut units = order[order.len().saturating_sub(width.max(1))..].to_vec();
            units.sort_unstable();
            units
        };
        self.orders.iter().zip(widths).map(last).collect()
    }

    /// The graph with these units, every layer refitted to the inputs that it has left.
    pub fn prune(&self, units: &[Vec<usize>]) -> Graph {
        let kept = self.groups.kept(self.graph, units);
        let mut new = Rewriting::new(self.graph);
        for (&id, regression) in &self.regressions {
            let node = self.graph.node(id);
            let channels = kept.channels(self.graph, node.inputs[0]);
            if regression.inputs_of(&channels).len() + 1 == regression.inputs() {
                continue;
            }
            let key = (id, channels);
            let known = self.refitted.borrow().get(&key).cloned();
            let weights = known.unwrap_or_else(|| Rc::new(regression.refit(&key.1)));
            set_weights(&mut new, id, &weights);
            self.refitted.borrow_mut().insert(key, weights);
        }
        // A regression that ran out of numbers is left out: then the weights stay as they are.
        cut(&new.finish().unwrap_or_else(|| self.graph.clone()), &kept)
    }
}

/// Gives a layer its weights: for each output channel those of its inputs, then the bias.
fn set_weights(graph: &mut Rewriting, id: NodeId, weights: &[f64]) {
    let node = graph.graph.node(id);
    let shape = graph.graph.input_shape(node, 1).to_vec();
    let n: usize = shape[1..].iter().product::<usize>() + 1;
    let rows = || weights.chunks_exact(n).filter_map(|row| row.split_last());
    let biases = rows().map(|(bias, _)| *bias as f32).collect();
    let weights = rows().flat_map(|(_, row)| row.iter().map(|&w| w as f32)).collect();
    graph.replace(id, 1, shape, weights);
    graph.set_bias(id, biases);
}
