//! Rows times a matrix: fully connected layers, and convolutions that look at single pixels.

use super::super::simd::{LANES, Lanes};
use super::super::sweep::{Panels, Sweep, Walk, Write};
use super::conv::add_columns;
use super::{Operator, Scratch, Wanted, room};

/// See the module.
pub(in crate::train) struct Linear {
    depth: usize,
    width: usize,
    bias: Vec<f32>,
    forward: Panels,
    backward: Panels,
}

impl Linear {
    /// From rows of `depth` numbers to rows of `width`; weights are `[width, depth]`.
    pub(in crate::train) fn new(depth: usize, width: usize) -> Self {
        Linear { depth, width, bias: Vec::new(), forward: Panels::default(), backward: Panels::default() }
    }

    fn weight_sums(&self) -> usize {
        self.depth * self.width.div_ceil(LANES)
    }
}

impl Operator for Linear {
    fn load(&mut self, parameters: &[&[f32]]) {
        let (weights, depth) = (parameters[0], self.depth);
        self.bias = parameters.get(1).map_or_else(Vec::new, |bias| bias.to_vec());
        self.forward.load(depth, self.width, |k, o| weights[o * depth + k]);
        self.backward.load(self.width, depth, |o, k| weights[o * depth + k]);
    }

    fn sums_len(&self) -> usize {
        self.weight_sums() + self.width.div_ceil(LANES)
    }

    fn forward(&self, inputs: &[&[f32]], output: &mut [f32], _scratch: &mut Scratch) {
        let sweep = Sweep::over_rows(output.len() / self.width, self.depth, self.width);
        sweep.apply(inputs[0], &self.forward, &self.bias, output, Write::Set);
    }

    fn backward(&self, inputs: &[&[f32]], gradient: &[f32], wanted: &mut Wanted, scratch: &mut Scratch) {
        let (sums, bias_sums) = wanted.sums.split_at_mut(self.weight_sums());
        add_columns(gradient, self.width, bias_sums.as_flattened_mut());
        let rows = gradient.len() / self.width;
        let padded = self.width.next_multiple_of(LANES);
        let whole = if padded == self.width {
            gradient
        } else {
            let whole = room(&mut scratch.gradient, rows * padded);
            for (to, from) in whole.chunks_exact_mut(padded).zip(gradient.chunks_exact(self.width)) {
                to[..self.width].copy_from_slice(from);
                to[self.width..].fill(0.0);
            }
            whole
        };
        let sweep = Sweep::over_rows(rows, self.depth, self.width);
        sweep.add_weight_gradients(inputs[0], whole, Walk { origin: 0, row: 0, column: padded }, sums);
        if let Some(target) = &mut wanted.inputs[0] {
            let sweep = Sweep::over_rows(rows, self.width, self.depth);
            sweep.apply(gradient, &self.backward, &[], target.gradient, target.write);
        }
    }

    fn collect(&self, sums: &[Lanes], gradients: &mut [&mut [f32]]) {
        let (weights, bias) = sums.split_at(self.weight_sums());
        for (o, row) in gradients[0].chunks_exact_mut(self.depth).enumerate() {
            let panel = &weights[o / LANES * self.depth..][..self.depth];
            row.iter_mut().zip(panel).for_each(|(w, lanes)| *w += lanes[o % LANES]);
        }
        if let Some(gradient) = gradients.get_mut(1) {
            gradient.iter_mut().zip(bias.as_flattened()).for_each(|(b, sum)| *b += sum);
        }
    }
}
