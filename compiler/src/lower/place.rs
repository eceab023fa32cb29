//! Where the tensors of a legalised network lie: which of them share memory, how long each piece of it
//! lives, and the arena that [`super::memory`] packs from that.

use pare_runtime::kernels::scratch;

use super::legalise::Lowering;
use super::memory::{self, Buffer, Overlap, Placement};
use super::plan::{MemoryBlock, Plan, PlannedLayer, PlannedOp, PlannedWeights};
use super::stages::PlannedStage;
use crate::ir::ValueId;

/// Where everything lies if these stages run together.
struct Packed {
    stages: Vec<PlannedStage>,
    buffers: Vec<Buffer>,
    overlaps: Vec<Overlap>,
    placement: Placement,
}

impl Lowering<'_> {
    /// Shares memory between operands and results where the operator allows it, then packs the arena.
    pub(super) fn place(mut self) -> Plan {
        self.reuse_dying_operands();
        let stages = self.chosen_stages();
        let whole = self.pack(Vec::new());
        let staged =
            (!stages.is_empty()).then(|| self.pack(stages)).filter(|it| it.placement.bytes < whole.placement.bytes);
        let Packed { stages, buffers, overlaps, placement } = staged.unwrap_or(whole);
        let scratch_of = buffers.len() - self.layers.len();
        for (tensor, &buffer) in self.tensors.iter_mut().zip(&self.buffers) {
            tensor.offset = placement.offsets[buffer];
        }
        for stage in &stages {
            for (layer, [before, _]) in self.layers[stage.first..].iter().zip(&stage.held) {
                self.tensors[layer.output].offset += before;
            }
        }
        for (layer, offset) in self.layers.iter_mut().zip(&placement.offsets[scratch_of..]) {
            layer.scratch = *offset;
        }
        let memory = buffers.iter().enumerate().filter(|(_, b)| b.bytes > 0).map(|(i, buffer)| MemoryBlock {
            name: match i.checked_sub(scratch_of) {
                Some(layer) => format!("{} (scratch)", self.layers[layer].name),
                None => self.names_in(i),
            },
            scratch: i >= scratch_of,
            offset: placement.offsets[i],
            bytes: buffer.bytes,
            first: buffer.first,
            last: buffer.last,
        });
        let tensor = |v: &ValueId| self.tensor(*v);
        Plan {
            name: self.quantized.graph.name.clone(),
            memory: memory.collect(),
            inputs: self.quantized.graph.inputs.iter().map(tensor).collect(),
            outputs: self.quantized.graph.outputs.iter().map(tensor).collect(),
            arena_bytes: placement.bytes,
            arena_lower_bound: memory::lower_bound(&buffers, &overlaps),
            stages,
            tensors: self.tensors,
            layers: self.layers,
        }
    }

    /// The buffers, then the scratch of every layer.
    fn pack(&self, stages: Vec<PlannedStage>) -> Packed {
        let (mut buffers, overlaps) = self.staged_lifetimes(&stages);
        let scratch = self.staged_scratch(&stages).into_iter().enumerate();
        buffers.extend(scratch.map(|(layer, bytes)| Buffer { bytes, first: layer, last: layer }));
        let placement = memory::plan(&buffers, &overlaps);
        Packed { stages, buffers, overlaps, placement }
    }

    /// An Add or a table whose first operand is read for the last time writes onto it.
    pub(super) fn reuse_dying_operands(&mut self) {
        let end = self.layers.len();
        for index in 0..end {
            let dying = |this: &Self, operand: usize| {
                let buffer = this.buffers[operand];
                this.lifetimes(end)[buffer].last == index
            };
            let layer = &self.layers[index];
            let (inputs, output) = (layer.inputs.clone(), layer.output);
            let in_place = match &layer.op {
                PlannedOp::Lut(_) => dying(self, inputs[0]),
                PlannedOp::Add { .. } if self.buffers[inputs[0]] == self.buffers[inputs[1]] => false,
                PlannedOp::Add { .. } if dying(self, inputs[0]) => true,
                PlannedOp::Add { .. } if dying(self, inputs[1]) => {
                    self.swap_operands(index);
                    true
                }
                _ => false,
            };
            if in_place {
                self.share(output, self.layers[index].inputs[0]);
            }
        }
    }

    /// Lays a tensor, and all that share its memory, onto another.
    pub(super) fn share(&mut self, tensor: usize, other: usize) {
        let (from, to) = (self.buffers[tensor], self.buffers[other]);
        self.buffers.iter_mut().filter(|b| **b == from).for_each(|b| *b = to);
    }

    fn swap_operands(&mut self, index: usize) {
        let layer = &mut self.layers[index];
        layer.inputs.swap(0, 1);
        if let PlannedOp::Add { ma, mb, .. } = &mut layer.op {
            std::mem::swap(ma, mb);
        }
    }

    /// What the kernels of a layer may want.
    pub(super) fn scratch_bytes(&self, layer: &PlannedLayer) -> usize {
        let PlannedOp::Conv(conv) = &layer.op else { return 0 };
        let geometry = conv.geometry(&self.tensors[layer.inputs[0]], &self.tensors[layer.output]);
        let of = |group: &PlannedWeights| scratch::conv_scratch_bytes(&geometry, group.layout, group.format.into());
        conv.weights.iter().map(of).max().unwrap_or(0)
    }

    /// Size and lifetime of every buffer; graph inputs live from the start, outputs to the end.
    pub(super) fn lifetimes(&self, end: usize) -> Vec<Buffer> {
        let mut buffers = vec![Buffer { bytes: 0, first: end, last: 0 }; self.n_buffers];
        let mut touch = |tensor: usize, layer: usize| {
            let buffer = &mut buffers[self.buffers[tensor]];
            buffer.bytes = buffer.bytes.max(self.tensors[tensor].shape.len());
            buffer.first = buffer.first.min(layer);
            buffer.last = buffer.last.max(layer);
        };
        let graph = &self.quantized.graph;
        graph.inputs.iter().for_each(|&v| touch(self.tensor(v), 0));
        for (index, layer) in self.layers.iter().enumerate() {
            layer.inputs.iter().for_each(|&t| touch(t, index));
            touch(layer.output, index);
        }
        graph.outputs.iter().for_each(|&v| touch(self.tensor(v), end));
        for buffer in buffers.iter_mut().filter(|b| b.bytes == 0) {
            *buffer = Buffer { bytes: 0, first: 0, last: 0 };
        }
        buffers
    }

    fn names_in(&self, buffer: usize) -> String {
        let shared = self.tensors.iter().zip(&self.buffers).filter(|(_, b)| **b == buffer);
        shared.map(|(t, _)| t.name.as_str()).collect::<Vec<_>>().join(", ")
    }
}
