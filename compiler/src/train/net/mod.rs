//! A graph whose weights are trained: forward, backward, and back to a graph.
//!
//! The operators of the graph run in order, each over the whole batch, and then in the opposite order
//! for the gradients (reverse-mode differentiation over a fixed list instead of a recorded tape). All
//! buffers are made once for a batch size; a step allocates next to nothing. Candle's own
//! differentiation was measured first: its convolutions have backward passes 5 to 20 times slower than
//! these, and even with operators of our own in its place every intermediate tensor is allocated,
//! zeroed and given back in every step. As both lists are known beforehand there is nothing that a
//! tape could add; tensors of candle appear where networks are evaluated ([`crate::eval`]).
//!
//! * [`build`] makes the steps of a graph, [`step`] runs one.

mod build;
mod step;

use std::collections::BTreeMap;
use std::sync::Arc;

use self::step::{CHUNK, Chunk, Step};
use super::activation_map::{ActivationMap, Mapped};
use super::batch_norm::{Averaging, BatchNorm};
use super::ops::Write;
use super::parameter::{Parameter, Role};
use super::weight_map::WeightMap;
use crate::ir::{Graph, NodeId, Op, Value, ValueId};

/// What stands behind a convolution while it is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Norms {
    /// Its bias, as in the graph.
    Bias,
    /// Batch norm (Ioffe & Szegedy 2015), which becomes weights and bias again in [`Net::graph`].
    Batch,
}

/// Why a graph cannot be trained.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// Weights computed at run time, or a constant where an activation must be.
    #[error("operand {operand} of node `{node}` is no constant: fold constants first")]
    NotConstant {
        /// Name of the node.
        node: String,
        /// Which operand.
        operand: usize,
    },
    /// `x + x`, say.
    #[error("node `{node}` reads one value twice: write the factor into the weights before it")]
    SameOperand {
        /// Name of the node.
        node: String,
    },
    /// A weight map for a node that has no use for it.
    #[error("node `{node}` has no weights that a map could change: name a convolution or a fully connected layer")]
    NoWeights {
        /// Name of the node.
        node: String,
    },
    /// Not one of each.
    #[error("the network has {inputs} inputs and {outputs} outputs; training needs one of each")]
    Endpoints {
        /// How many inputs.
        inputs: usize,
        /// How many outputs.
        outputs: usize,
    },
}

/// A network in training.
pub struct Net {
    graph: Graph,
    steps: Vec<Step>,
    parameters: Vec<Parameter>,
    /// By value: the activation of the batch.
    values: Vec<Vec<f32>>,
    /// By value: its gradient.
    gradients: Vec<Vec<f32>>,
    /// What readers see of some of the values.
    mapped: BTreeMap<ValueId, Mapped>,
    averaging: Averaging,
    chunks: Vec<Chunk>,
    logits: ValueId,
}

impl Net {
    /// What is trained.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// As [`Net::parameters`], to be changed.
    pub fn parameters_mut(&mut self) -> &mut [Parameter] {
        &mut self.parameters
    }

    /// Sends the weights of a layer through a map, behind those that it has. Before the optimiser is made: the
    /// map's own parameters join the others.
    ///
    /// # Errors
    /// When the node has no weights.
    pub fn map_weights(&mut self, layer: NodeId, map: Box<dyn WeightMap>) -> Result<(), NetError> {
        let node = self.graph.node(layer);
        let step = self.steps.iter_mut().find(|step| step.node == layer.0 as usize && node.op.has_weights());
        let step = step.ok_or_else(|| NetError::NoWeights { node: node.name.clone() })?;
        step.maps.push(map, &node.name, &mut self.parameters);
        Ok(())
    }

    /// The maps of a layer, in the order in which weights pass through them. They may be replaced by others with
    /// as many parameters.
    pub fn weight_maps(&mut self, layer: NodeId) -> impl Iterator<Item = &mut Box<dyn WeightMap>> {
        self.steps.iter_mut().filter(move |step| step.node == layer.0 as usize).flat_map(|step| step.maps.iter_mut())
    }

    /// The parameters of a layer's maps, in order.
    pub fn weight_map_parameters(&self, layer: NodeId) -> impl Iterator<Item = &Parameter> {
        let steps = self.steps.iter().filter(move |step| step.node == layer.0 as usize);
        steps.flat_map(|step| step.maps.own()).map(|p| &self.parameters[p])
    }

    /// Lets all readers of some values, inputs or what nodes compute, see what one map makes of them. Before the
    /// optimiser is made; a second map of a value takes the place of the first.
    pub fn map_activations(&mut self, values: &[ValueId], map: &Arc<dyn ActivationMap>) {
        let first = self.parameters.len();
        let name = values.first().map_or("", |&value| &self.graph.value(value).name);
        self.parameters.extend(map.parameters(&format!("{name}.map")));
        for &value in values {
            let own = first..self.parameters.len();
            self.mapped.insert(value, Mapped { map: map.clone(), own, numbers: Vec::new() });
        }
    }

    /// The parameters of a value's map.
    pub fn activation_map_parameters(&self, value: ValueId) -> &[Parameter] {
        self.mapped.get(&value).map_or(&[], |mapped| &self.parameters[mapped.own.clone()])
    }

    /// The latent weights of a layer: those that the optimiser moves. None where a node has no weights.
    pub fn latent(&self, layer: NodeId) -> Option<&Parameter> {
        let step = self.steps.iter().find(|step| step.node == layer.0 as usize)?;
        step.parameters.first().map(|&p| &self.parameters[p]).filter(|p| p.role == Role::Weights)
    }

    /// The layers that have weights, in the order they run, and their names.
    pub fn layers(&self) -> Vec<(NodeId, String)> {
        let weighted = self.steps.iter().filter(|step| self.graph.nodes[step.node].op.has_weights());
        weighted.map(|step| (NodeId(step.node as u32), self.graph.nodes[step.node].name.clone())).collect()
    }

    /// Multiplies the steps of a layer's codes, one an output channel, as the norm behind it multiplies its weights in
    /// [`Net::graph`]. Steps stay positive: a negative factor turns the levels of its channel around.
    pub fn fold_norm(&self, layer: NodeId, steps: &mut [f32]) {
        let step = self.steps.iter().find(|step| step.node == layer.0 as usize);
        let Some(norm) = step.and_then(|step| step.norm.as_ref()) else { return };
        for (step, factor) in steps.iter_mut().zip(norm.factors(&self.parameters)) {
            *step *= factor.abs().max(f32::MIN_POSITIVE);
        }
    }

    /// Whether a layer is a convolution.
    pub fn is_conv(&self, layer: NodeId) -> bool {
        matches!(self.graph.node(layer).op, Op::Conv2d(_))
    }

    /// Weights of an output channel of a layer.
    pub fn row_len(&self, layer: NodeId) -> usize {
        self.graph.input_shape(self.graph.node(layer), 1)[1..].iter().product()
    }

    /// Numbers of one input sample.
    pub fn sample_len(&self) -> usize {
        self.graph.value(self.graph.inputs[0]).len()
    }

    /// What the loss looks at: the output, or what goes into the softmax at the end.
    pub fn logits(&self) -> ValueId {
        self.logits
    }

    /// The output of the node of this name.
    pub fn output_of(&self, node: &str) -> Option<ValueId> {
        self.graph.nodes.iter().find(|other| other.name == node).map(|node| node.output)
    }

    /// All numbers that the next step and the trained graph depend on, by name.
    pub fn tensors(&self) -> BTreeMap<String, Vec<f32>> {
        let mut tensors: BTreeMap<String, Vec<f32>> =
            self.parameters.iter().map(|p| (p.name.clone(), p.values.clone())).collect();
        for step in &self.steps {
            let name = &self.graph.nodes[step.node].name;
            tensors.extend(step.maps.states().map(|(i, state)| (format!("{name}.map{i}"), state)));
            if let Some(norm) = &step.norm {
                tensors.insert(format!("{name}.mean"), norm.running.mean.clone());
                tensors.insert(format!("{name}.variance"), norm.running.variance.clone());
                tensors.insert(format!("{name}.batches"), vec![norm.running.batches as f32]);
            }
        }
        tensors
    }

    /// Takes numbers that [`Net::tensors`] gave; what is missing or of another length stays.
    pub fn restore(&mut self, tensors: &BTreeMap<String, Vec<f32>>) {
        let take = |name: &str, slot: &mut Vec<f32>| {
            if let Some(values) = tensors.get(name).filter(|values| values.len() == slot.len()) {
                slot.clone_from(values);
            }
        };
        for parameter in &mut self.parameters {
            take(&parameter.name, &mut parameter.values);
        }
        for step in &mut self.steps {
            let name = &self.graph.nodes[step.node].name;
            for (i, map) in step.maps.iter_mut().enumerate() {
                if let Some(state) = tensors.get(&format!("{name}.map{i}")) {
                    map.restore(state);
                }
            }
            if let Some(norm) = &mut step.norm {
                take(&format!("{name}.mean"), &mut norm.running.mean);
                take(&format!("{name}.variance"), &mut norm.running.variance);
                let mut batches = vec![norm.running.batches as f32];
                take(&format!("{name}.batches"), &mut batches);
                norm.running.batches = batches[0] as u64;
            }
        }
    }

    /// From now on the statistics of the norms are means over all batches that run forward.
    pub fn begin_statistics(&mut self) {
        self.averaging = Averaging::Even;
        self.norms_mut().for_each(|norm| norm.running.batches = 0);
    }

    /// From now on recent batches count most again.
    pub fn end_statistics(&mut self) {
        self.averaging = Averaging::Recent;
    }

    /// Sets the norms so that, by their statistics, they add the biases that the graph has behind their
    /// layers and change nothing else.
    pub fn unfold_norms(&mut self) {
        for step in &mut self.steps {
            let Some(norm) = &mut step.norm else { continue };
            let bias = self.graph.nodes[step.node].inputs.get(2);
            let bias = bias.and_then(|&id| self.graph.value(id).data.as_deref()).map(Vec::as_slice);
            norm.unfold(bias.unwrap_or(&vec![0.0; norm.channels]), &mut self.parameters);
        }
    }

    fn norms_mut(&mut self) -> impl Iterator<Item = &mut BatchNorm> {
        self.steps.iter_mut().filter_map(|step| step.norm.as_mut())
    }

    /// The value of the last batch behind `id` and its map, sample after sample.
    pub fn value(&self, id: ValueId) -> &[f32] {
        &self.values[id.0 as usize]
    }

    /// Logits of a batch, samples back to back; batch norms take the batch's own statistics and note them.
    pub fn forward(&mut self, batch: &[f32]) -> &[f32] {
        let samples = batch.len() / self.sample_len();
        self.chunks.resize_with(samples.div_ceil(CHUNK), Chunk::default);
        let input = &mut self.values[self.graph.inputs[0].0 as usize];
        input.clear();
        input.extend_from_slice(batch);
        if let Some(mapped) = self.mapped.get_mut(&self.graph.inputs[0]) {
            mapped.forward(input, &self.parameters, CHUNK * batch.len() / samples);
        }
        for step in &mut self.steps {
            let mut output = std::mem::take(&mut self.values[step.output.0 as usize]);
            output.resize(samples * step.len, 0.0);
            step.forward(&self.values, &mut output, &self.parameters, self.averaging, &mut self.chunks);
            if let Some(mapped) = self.mapped.get_mut(&step.output) {
                mapped.forward(&mut output, &self.parameters, CHUNK * step.len);
            }
            self.values[step.output.0 as usize] = output;
        }
        &self.values[self.logits.0 as usize]
    }

    /// The graph with the weights as they are now, behind their maps, batch norms folded into weights and biases.
    pub fn graph(&self) -> Graph {
        let mut graph = self.graph.clone();
        for step in &self.steps {
            let node = self.graph.nodes[step.node].clone();
            let mut own: Vec<Vec<f32>> = step.parameters.iter().map(|&p| self.parameters[p].values.clone()).collect();
            if let Some(weights) = own.first_mut().filter(|_| !step.maps.is_empty()) {
                *weights = step.maps.weights(step.parameters[0], &self.parameters);
            }
            if let Some(norm) = &step.norm {
                let bias = norm.fold(&mut own[0], &self.parameters);
                own.push(bias);
            }
            let constants = node.inputs.iter().copied().filter(|&id| self.graph.value(id).is_constant());
            let constants: Vec<ValueId> = constants.collect();
            for (i, values) in own.into_iter().enumerate() {
                let data = Some(Arc::new(values));
                match constants.get(i) {
                    Some(&id) => graph.values[id.0 as usize].data = data,
                    None => {
                        let (name, shape) = (format!("{}.b", node.name), vec![data.as_ref().map_or(0, |d| d.len())]);
                        let bias = graph.add_value(Value { name, shape, data, range: None });
                        graph.nodes[step.node].inputs.push(bias);
                    }
                }
            }
        }
        graph
    }

    /// From the gradients of some values of the last batch to those of all parameters, which are added to.
    pub fn backward(&mut self, seeds: &BTreeMap<ValueId, Vec<f32>>) {
        let mut known = vec![false; self.values.len()];
        for (&id, seed) in seeds {
            self.gradients[id.0 as usize].clone_from(seed);
            known[id.0 as usize] = true;
        }
        for step in self.steps.iter_mut().rev() {
            if !known[step.output.0 as usize] {
                continue;
            }
            let mut gradient = std::mem::take(&mut self.gradients[step.output.0 as usize]);
            let mut inputs: Vec<Option<(Vec<f32>, Write)>> = Vec::new();
            for &id in &step.inputs {
                let i = id.0 as usize;
                let trained = !self.graph.inputs.contains(&id);
                inputs.push(trained.then(|| {
                    let mut buffer = std::mem::take(&mut self.gradients[i]);
                    buffer.resize(self.values[i].len(), 0.0);
                    (buffer, if std::mem::replace(&mut known[i], true) { Write::Add } else { Write::Set })
                }));
            }
            let output = &mut self.values[step.output.0 as usize];
            let mut mapped = self.mapped.get_mut(&step.output);
            if let Some(mapped) = &mut mapped {
                mapped.backward(&mut gradient, &mut self.parameters, CHUNK * step.len);
                std::mem::swap(&mut mapped.numbers, output);
            }
            step.backward(&self.values, &mut gradient, &mut inputs, &mut self.parameters, &mut self.chunks);
            if let Some(mapped) = mapped {
                std::mem::swap(&mut mapped.numbers, &mut self.values[step.output.0 as usize]);
            }
            for (id, buffer) in step.inputs.iter().zip(inputs) {
                if let Some((buffer, _)) = buffer {
                    self.gradients[id.0 as usize] = buffer;
                }
            }
            self.gradients[step.output.0 as usize] = gradient;
        }
    }
}

#[cfg(test)]
mod tests;
