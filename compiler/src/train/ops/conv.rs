//! Convolution with any kernel, stride, padding, dilation and number of groups.

use super::super::simd::{LANES, Lanes};
use super::super::sweep::{Panels, Write};
use super::frame::{Shapes, Windows};
use super::{Operator, Scratch, Wanted, room};
use crate::ir::Conv2d;

/// See the module.
pub(in crate::train) struct Conv {
    windows: Windows,
    /// Input and output channels in all, and of a group.
    channels: [usize; 2],
    group: [usize; 2],
    bias: Vec<f32>,
    groups: Vec<Group>,
}

/// Weights of a group.
struct Group {
    forward: Panels,
    /// One a phase of the gradient by the input.
    backward: Vec<Panels>,
}

impl Conv {
    /// `input` is `[1, h, w, c_in]`, `weights` `[c_out, kh, kw, c_in / groups]`, `output` `[1, oh, ow, c_out]`.
    pub(in crate::train) fn new(conv: &Conv2d, input: &[usize], weights: &[usize], output: &[usize]) -> Self {
        let channels = [input[3], output[3]];
        let group = channels.map(|channels| channels / conv.groups);
        let windows = Windows::new(conv, &Shapes { input, weights, output }, group[0], group[1]);
        let phases = windows.backward.len();
        let groups = (0..conv.groups)
            .map(|_| Group { forward: Panels::default(), backward: vec![Panels::default(); phases] })
            .collect();
        Conv { windows, channels, group, bias: Vec::new(), groups }
    }

    /// Vectors for the sums of one group's weights.
    fn group_sums(&self) -> usize {
        self.windows.forward.depth() * self.group[1].div_ceil(LANES)
    }
}

impl Operator for Conv {
    fn load(&mut self, parameters: &[&[f32]]) {
        let weights = parameters[0];
        self.bias = parameters.get(1).map_or_else(Vec::new, |bias| bias.to_vec());
        let [c_in, c_out] = self.group;
        let depth = self.windows.forward.depth();
        let padded = c_out.next_multiple_of(LANES);
        for (g, group) in self.groups.iter_mut().enumerate() {
            let weights = &weights[g * c_out * depth..][..c_out * depth];
            group.forward.load(depth, c_out, |k, o| weights[o * depth + k]);
            for (phase, panels) in self.windows.backward.iter().zip(&mut group.backward) {
                panels.load(phase.sweep.depth(), c_in, |k, i| {
                    let (tap, o) = (phase.taps[k / padded], k % padded);
                    if o < c_out { weights[o * depth + tap * c_in + i] } else { 0.0 }
                });
            }
        }
    }

    fn sums_len(&self) -> usize {
        self.groups.len() * self.group_sums() + self.channels[1].div_ceil(LANES)
    }

    fn forward(&self, inputs: &[&[f32]], output: &mut [f32], scratch: &mut Scratch) {
        let Windows { input: frame, forward, .. } = &self.windows;
        let (image_len, out_len) = self.lens();
        let [c_in, c_out] = self.group;
        let source = room(&mut scratch.source, frame.len());
        for (image, out) in inputs[0].chunks_exact(image_len).zip(output.chunks_exact_mut(out_len)) {
            for (g, group) in self.groups.iter().enumerate() {
                frame.fill(image, self.channels[0], g * c_in, c_in, source);
                let bias = self.bias.get(g * c_out..(g + 1) * c_out).unwrap_or_default();
                forward.apply(source, &group.forward, bias, &mut out[g * c_out..], Write::Set);
            }
        }
    }

    fn backward(&self, inputs: &[&[f32]], gradient: &[f32], wanted: &mut Wanted, scratch: &mut Scratch) {
        let Windows { input: frame, gradient: padded, forward, backward } = &self.windows;
        let (image_len, out_len) = self.lens();
        let [c_in, c_out] = self.group;
        let (sums, bias_sums) = wanted.sums.split_at_mut(self.groups.len() * self.group_sums());
        add_columns(gradient, self.channels[1], bias_sums.as_flattened_mut());
        let source = room(&mut scratch.source, frame.len());
        let framed = room(&mut scratch.gradient, padded.len());
        for (s, dy) in gradient.chunks_exact(out_len).enumerate() {
            let image = &inputs[0][s * image_len..][..image_len];
            for (g, group) in self.groups.iter().enumerate() {
                frame.fill(image, self.channels[0], g * c_in, c_in, source);
                padded.fill(dy, self.channels[1], g * c_out, c_out, framed);
                let sums = &mut sums[g * self.group_sums()..][..self.group_sums()];
                forward.add_weight_gradients(source, framed, padded.walk(), sums);
                let Some(target) = &mut wanted.inputs[0] else { continue };
                let dx = &mut target.gradient[s * image_len..][..image_len];
                for (phase, panels) in backward.iter().zip(&group.backward) {
                    phase.sweep.apply(framed, panels, &[], &mut dx[g * c_in..], target.write);
                }
            }
        }
    }

    fn collect(&self, sums: &[Lanes], gradients: &mut [&mut [f32]]) {
        let depth = self.windows.forward.depth();
        let (weights, bias) = sums.split_at(self.groups.len() * self.group_sums());
        for (o, row) in gradients[0].chunks_exact_mut(depth).enumerate() {
            let (g, o) = (o / self.group[1], o % self.group[1]);
            let panel = &weights[g * self.group_sums() + o / LANES * depth..][..depth];
            row.iter_mut().zip(panel).for_each(|(w, lanes)| *w += lanes[o % LANES]);
        }
        if let Some(gradient) = gradients.get_mut(1) {
            gradient.iter_mut().zip(bias.as_flattened()).for_each(|(b, sum)| *b += sum);
        }
    }
}

impl Conv {
    /// Numbers of an input and of an output image.
    fn lens(&self) -> (usize, usize) {
        let Windows { input, gradient, .. } = &self.windows;
        (input.pixels() * self.channels[0], gradient.pixels() * self.channels[1])
    }
}

/// Adds each row of `rows` to `sums`.
pub(super) fn add_columns(rows: &[f32], width: usize, sums: &mut [f32]) {
    for row in rows.chunks_exact(width) {
        sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
    }
}
