//! How much units matter by the weights that would go with them.

use super::groups::{Group, Unit};
use super::taylor::Contributions;
use crate::ir::weighted::Weighted;
use crate::ir::{Graph, NodeId, Op};

/// A figure for a unit.
#[derive(Clone, Debug, PartialEq)]
pub enum Saliency {
    /// Sum of the absolute weights that read the unit (AMC's).
    L1,
    /// Sum of the squared weights that read the unit.
    L2,
    /// Product of the factors that its channels are multiplied by: scales of batch normalisation that is not folded.
    Scale,
    /// What the loss would lose with it, to first order.
    Taylor(Contributions),
}

impl Saliency {
    /// The figure of each unit of a group.
    pub fn of(&self, graph: &Graph, group: &Group) -> Vec<f64> {
        group.units.iter().map(|unit| self.unit(graph, group, unit)).collect()
    }

    fn unit(&self, graph: &Graph, group: &Group, unit: &Unit) -> f64 {
        let read = || group.consumers.iter().zip(&unit.columns).flat_map(|(&id, columns)| column(graph, id, columns));
        match self {
            Saliency::L1 => read().map(f64::abs).sum(),
            Saliency::L2 => read().map(|w| w * w).sum(),
            Saliency::Scale => {
                let rows = group.producers.iter().zip(&unit.rows);
                rows.flat_map(|(&id, rows)| rows.iter().map(move |&row| scale(graph, id, row))).product()
            }
            Saliency::Taylor(contributions) => contributions.of_unit(group, unit),
        }
    }
}

/// The weights of a layer that read some of its input channels.
fn column<'a>(graph: &'a Graph, id: NodeId, columns: &'a [usize]) -> impl Iterator<Item = f64> + 'a {
    let layer = Weighted::of(graph, graph.node(id));
    let read = move |o| layer.terms(o).filter(|(c, _)| columns.contains(c)).map(|(_, w)| f64::from(w));
    (0..layer.n_rows).flat_map(read)
}

/// What an output channel of a layer is multiplied by next; 1 where it is not.
fn scale(graph: &Graph, id: NodeId, row: usize) -> f64 {
    let readers = graph.consumers(graph.node(id).output).into_iter().map(|id| graph.node(id));
    let factor = |node: &crate::ir::Node| {
        let factors = graph.value(node.inputs[1]).data.as_deref()?;
        factors.get(row).or(factors.first()).map(|&factor| f64::from(factor).abs())
    };
    readers.filter(|node| node.op == Op::Mul).find_map(factor).unwrap_or(1.0)
}
