//! Pruning. Structured: channels go from the graph, with all that computes and reads them, and what is left makes up for
//! them.
//!
//! * [`groups`] finds which channels one decision is about.
//! * [`saliency`] and [`elimination`] say in which order those of a group go; [`taylor`] asks the gradients of training.
//! * [`regression`] refits a layer to the inputs that it has left, from second moments of its inputs alone; so
//!   [`Pruner::prune`] reads no data, and costs little enough to be asked hundreds of times.
//! * [`fine`] masks single weights while a network is trained, which leaves all shapes as they are.
//! * [`mod@refit`] then goes through the network once more with data, each layer making up for all before it.

pub mod elimination;
pub mod fine;
pub mod groups;
pub mod refit;
pub mod regression;
pub mod saliency;
pub mod taylor;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

pub use self::groups::{Group, Groups, Unit};
pub use self::refit::Refitter;
pub use self::regression::Regression;
pub use self::saliency::Saliency;
use crate::ir::channels::cut;
use crate::ir::constants::Rewriting;
use crate::ir::weighted::{Weighted, is_dense};
use crate::ir::{Graph, NodeId};
use crate::quant::Calibration;

/// The graph with, of each group, the units of these numbers; what the others contributed to layers is gone with them.
pub fn shrink(graph: &Graph, groups: &Groups, keep: &[Vec<usize>]) -> Graph {
    cut(graph, &groups.kept(keep))
}

/// In which order the units of a group go.
#[derive(Clone, Debug, PartialEq)]
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
    orders: Vec<Order>,
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
        let order = |group: &Group| match &selection {
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
        let orders = groups.iter().map(|group| Order::new(group, order(group))).collect();
        Pruner { graph, groups, regressions, orders, refitted: RefCell::default() }
    }

    /// What can be cut.
    pub fn groups(&self) -> &Groups {
        &self.groups
    }

    /// For each group the numbers of units that it may keep, in rising order: those with which the layer that computes
    /// them has a multiple of `multiple` channels, and all.
    pub fn widths(&self, multiple: usize) -> Vec<Vec<usize>> {
        let of_group =
            |(group, order): (&Group, &Order)| group.widths(multiple).filter(|&n| n >= order.least).collect();
        self.groups.iter().zip(&self.orders).map(of_group).collect()
    }

    /// The units that stay where each group keeps so many.
    pub fn units(&self, widths: &[usize]) -> Vec<Vec<usize>> {
        self.orders.iter().zip(widths).map(|(order, &width)| order.last(width)).collect()
    }

    /// The graph with these units, every layer refitted to the inputs that it has left.
    pub fn prune(&self, units: &[Vec<usize>]) -> Graph {
        let kept = self.groups.kept(units);
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

/// The units of a group in the order in which they go.
#[derive(Debug)]
struct Order {
    units: Vec<usize>,
    /// So many stay at least, for every layer of the group to have one.
    least: usize,
}

impl Order {
    fn new(group: &Group, order: Vec<usize>) -> Order {
        let mut last: Vec<usize> = Vec::new();
        for producer in 0..group.producers.len() {
            let computes = |unit: &usize| !group.units[*unit].rows[producer].is_empty();
            if !last.iter().any(computes) {
                last.extend(order.iter().rev().find(|unit| computes(unit)));
            }
        }
        let first = order.into_iter().filter(|unit| !last.contains(unit));
        Order { least: last.len(), units: first.chain(last.iter().copied()).collect() }
    }

    fn last(&self, width: usize) -> Vec<usize> {
        let mut units = self.units[self.units.len().saturating_sub(width.max(self.least))..].to_vec();
        units.sort_unstable();
        units
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
