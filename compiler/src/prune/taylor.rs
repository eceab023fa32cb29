//! What the loss would lose with output channels, to first order: weights times their gradients.
//!
//! A group's share of the loss is about the sum of `g w` over its weights, squared and averaged over batches (Molchanov et
//! al., *Importance Estimation for Neural Network Pruning*, CVPR 2019, section 3.1).

use std::collections::BTreeMap;

use super::groups::{Group, Unit};
use crate::data::{Metric, Split};
use crate::ir::weighted::Weighted;
use crate::ir::{Graph, NodeId};
use crate::task::{Samples, TaskError};
use crate::train::{Net, NetError, Norms, Objective, distributions};

/// Batches whose gradients count.
const BATCHES: usize = 16;
/// Samples of a batch.
const BATCH: usize = 128;

/// For each batch and layer with weights, the sum of weights and bias times their gradients of each output channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Contributions(Vec<BTreeMap<NodeId, Vec<f64>>>);

/// Why there are no gradients.
#[derive(Debug, thiserror::Error)]
pub enum TaylorError {
    /// The network cannot be differentiated.
    #[error(transparent)]
    Net(#[from] NetError),
    /// There are no samples.
    #[error(transparent)]
    Task(#[from] TaskError),
}

impl Contributions {
    /// On training samples: of the cross entropy where they have classes, of the squared distance to the input where the
    /// network is to give that back.
    ///
    /// # Errors
    /// See [`TaylorError`].
    pub fn of(graph: &Graph, samples: &Samples) -> Result<Contributions, TaylorError> {
        let mut net = Net::new(graph, Norms::Bias)?;
        let (inputs, labels) = samples.spread_labelled(Split::Train, BATCHES * BATCH)?;
        let len = net.sample_len();
        let batches = inputs.chunks(BATCH * len).zip(labels.chunks(BATCH));
        Ok(Contributions(
            batches.map(|(inputs, labels)| batch(&mut net, graph, samples.metric, inputs, labels)).collect(),
        ))
    }

    /// What the loss would lose with a unit of a group.
    pub fn of_unit(&self, group: &Group, unit: &Unit) -> f64 {
        let lost = |layers: &BTreeMap<NodeId, Vec<f64>>| -> f64 {
            let rows = group.producers.iter().zip(&unit.rows);
            let rows = rows.flat_map(|(id, rows)| rows.iter().filter_map(|&row| layers.get(id)?.get(row)));
            rows.sum::<f64>().powi(2)
        };
        self.0.iter().map(lost).sum::<f64>() / self.0.len().max(1) as f64
    }
}

fn batch(
    net: &mut Net,
    graph: &Graph,
    metric: Metric,
    inputs: &[f32],
    labels: &[Option<u32>],
) -> BTreeMap<NodeId, Vec<f64>> {
    let outputs = net.forward(inputs).to_vec();
    let width = outputs.len() / labels.len().max(1);
    let loss = match metric {
        Metric::Top1 => {
            let labels: Vec<u32> = labels.iter().map(|label| label.unwrap_or_default()).collect();
            Objective::CrossEntropy.of(&outputs, &distributions(&labels, width, 0.0), width)
        }
        Metric::Auc | Metric::Mse | Metric::Psnr => Objective::SquaredError.of(&outputs, inputs, width),
    };
    net.parameters_mut().iter_mut().for_each(|parameter| parameter.gradient.fill(0.0));
    net.backward(&BTreeMap::from([(net.logits(), loss.gradient)]));
    let products: BTreeMap<&str, Vec<f64>> = net
        .parameters()
        .iter()
        .map(|p| (p.name.as_str(), p.values.iter().zip(&p.gradient).map(|(w, g)| f64::from(w * g)).collect()))
        .collect();
    let of_layer = |id: NodeId| {
        let node = graph.node(id);
        let layer = Weighted::of(graph, node);
        let of = |operand: usize| products.get(graph.value(*node.inputs.get(operand)?).name.as_str());
        let mut sums: Vec<f64> = of(1)?.chunks_exact(layer.row).map(|row| row.iter().sum()).collect();
        if let Some(biases) = of(2) {
            sums.iter_mut().zip(biases).for_each(|(sum, bias)| *sum += bias);
        }
        Some((id, sums))
    };
    graph.weighted().filter_map(of_layer).collect()
}
