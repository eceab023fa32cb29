//! Convolution of every channel by itself: vectors of channels instead of sums over channels.

use super::super::simd::{Arithmetic, LANES, Lanes, Work, dispatch};
use super::super::sweep::{Sweep, Walk, Write, write_lanes};
use super::conv::add_columns;
use super::frame::{Shapes, Windows};
use super::{Operator, Scratch, Wanted, room};
use crate::ir::Conv2d;

/// See the module.
pub(in crate::train) struct Depthwise {
    windows: Windows,
    channels: usize,
    taps: usize,
    bias: Vec<f32>,
    /// `[panels][taps]`.
    forward: Vec<Lanes>,
    /// One a phase of the gradient by the input.
    backward: Vec<Vec<Lanes>>,
}

impl Depthwise {
    /// `input` is `[1, h, w, c]`, `weights` `[c, kh, kw, 1]`, `output` `[1, oh, ow, c]`.
    pub(in crate::train) fn new(conv: &Conv2d, input: &[usize], weights: &[usize], output: &[usize]) -> Self {
        let channels = input[3];
        let padded = channels.next_multiple_of(LANES);
        let windows = Windows::new(conv, &Shapes { input, weights, output }, padded, padded);
        let backward = vec![Vec::new(); windows.backward.len()];
        let taps = weights[1] * weights[2];
        Depthwise { windows, channels, taps, bias: Vec::new(), forward: Vec::new(), backward }
    }

    fn panels(&self) -> usize {
        self.channels.div_ceil(LANES)
    }

    /// Weights of some taps, `[panels][taps]`.
    fn lanes(&self, weights: &[f32], taps: impl Iterator<Item = usize> + Clone) -> Vec<Lanes> {
        let lanes = |panel: usize, tap: usize| {
            std::array::from_fn(|lane| weights.get((panel * LANES + lane) * self.taps + tap).copied().unwrap_or(0.0))
        };
        (0..self.panels()).flat_map(|panel| taps.clone().map(move |tap| lanes(panel, tap))).collect()
    }
}

impl Operator for Depthwise {
    fn load(&mut self, parameters: &[&[f32]]) {
        self.bias = parameters.get(1).map_or_else(Vec::new, |bias| bias.to_vec());
        self.forward = self.lanes(parameters[0], 0..self.taps);
        self.backward =
            self.windows.backward.iter().map(|phase| self.lanes(parameters[0], phase.taps.iter().copied())).collect();
    }

    fn sums_len(&self) -> usize {
        self.panels() * (self.taps + 1)
    }

    fn forward(&self, inputs: &[&[f32]], output: &mut [f32], scratch: &mut Scratch) {
        let Windows { input: frame, gradient, forward, .. } = &self.windows;
        let (c, image_len, out_len) =
            (self.channels, frame.pixels() * self.channels, gradient.pixels() * self.channels);
        let source = room(&mut scratch.source, frame.len());
        for (image, target) in inputs[0].chunks_exact(image_len).zip(output.chunks_exact_mut(out_len)) {
            frame.fill(image, c, 0, c, source);
            let (weights, bias) = (&self.forward, &self.bias);
            dispatch(Stencil { sweep: forward, channels: c, source, weights, bias, target, write: Write::Set });
        }
    }

    fn backward(&self, inputs: &[&[f32]], gradient: &[f32], wanted: &mut Wanted, scratch: &mut Scratch) {
        let Windows { input: frame, gradient: padded, forward, backward } = &self.windows;
        let (c, image_len, out_len) = (self.channels, frame.pixels() * self.channels, padded.pixels() * self.channels);
        let (sums, bias_sums) = wanted.sums.split_at_mut(self.panels() * self.taps);
        add_columns(gradient, c, bias_sums.as_flattened_mut());
        let source = room(&mut scratch.source, frame.len());
        let framed = room(&mut scratch.gradient, padded.len());
        for (s, dy) in gradient.chunks_exact(out_len).enumerate() {
            frame.fill(&inputs[0][s * image_len..][..image_len], c, 0, c, source);
            padded.fill(dy, c, 0, c, framed);
            dispatch(StencilGradient { sweep: forward, source, gradients: framed, at: padded.walk(), sums });
            let Some(target) = &mut wanted.inputs[0] else { continue };
            for (phase, weights) in backward.iter().zip(&self.backward) {
                let write = target.write;
                let target = &mut target.gradient[s * image_len..][..image_len];
                let sweep = &phase.sweep;
                dispatch(Stencil { sweep, channels: c, source: framed, weights, bias: &[], target, write });
            }
        }
    }

    fn collect(&self, sums: &[Lanes], gradients: &mut [&mut [f32]]) {
        let (weights, bias) = sums.split_at(self.panels() * self.taps);
        for (channel, row) in gradients[0].chunks_exact_mut(self.taps).enumerate() {
            let panel = &weights[channel / LANES * self.taps..][..self.taps];
            row.iter_mut().zip(panel).for_each(|(w, lanes)| *w += lanes[channel % LANES]);
        }
        if let Some(gradient) = gradients.get_mut(1) {
            gradient.iter_mut().zip(bias.as_flattened()).for_each(|(b, sum)| *b += sum);
        }
    }
}

/// Where a window's taps are, relative to its beginning.
fn offsets(sweep: &Sweep, pixel: usize) -> Vec<usize> {
    sweep.runs.iter().flat_map(|run| (run.offset..run.offset + run.len).step_by(pixel)).collect()
}

/// Sums over taps, channel by channel.
struct Stencil<'a> {
    sweep: &'a Sweep,
    channels: usize,
    source: &'a [f32],
    weights: &'a [Lanes],
    bias: &'a [f32],
    target: &'a mut [f32],
    write: Write,
}

impl Work for Stencil<'_> {
    type Output = ();

    #[inline(always)]
    fn run<A: Arithmetic, const R: usize, const V: usize>(self) {
        let offsets = offsets(self.sweep, self.channels.next_multiple_of(LANES));
        let Sweep { rows, columns, source, target, .. } = self.sweep;
        for panel in 0..self.channels.div_ceil(LANES) {
            let weights = &self.weights[panel * offsets.len()..][..offsets.len()];
            let first = panel * LANES;
            let width = LANES.min(self.channels - first);
            let mut bias = [0.0; LANES];
            bias.iter_mut().zip(self.bias.iter().skip(first)).for_each(|(slot, bias)| *slot = *bias);
            for row in 0..*rows {
                let mut column = 0;
                while column < *columns {
                    let mut sums = [bias; R];
                    // The last tile repeats its last window.
                    let mut places = [0; R];
                    for r in 0..R {
                        places[r] = source.at(row, (column + r).min(columns - 1)) + first;
                    }
                    for (offset, w) in offsets.iter().zip(weights) {
                        for r in 0..R {
                            let x = &self.source[places[r] + offset..][..LANES];
                            for lane in 0..LANES {
                                sums[r][lane] = A::multiply_add(x[lane], w[lane], sums[r][lane]);
                            }
                        }
                    }
                    for (r, sums) in sums.iter().enumerate().take(columns - column) {
                        let out = &mut self.target[target.at(row, column + r) + first..][..width];
                        write_lanes(sums, out, self.write);
                    }
                    column += R;
                }
            }
        }
    }
}

/// Adds the gradients of a stencil's weights to `sums`.
struct StencilGradient<'a> {
    sweep: &'a Sweep,
    source: &'a [f32],
    gradients: &'a [f32],
    at: Walk,
    sums: &'a mut [Lanes],
}

impl Work for StencilGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn run<A: Arithmetic, const R: usize, const V: usize>(mut self) {
        let offsets = offsets(self.sweep, self.at.column);
        for panel in 0..self.sums.len() / offsets.len() {
            let mut tap = 0;
            while tap < offsets.len() {
                let sums = panel * offsets.len() + tap;
                let left = &offsets[tap..];
                tap += match left.len() {
                    9.. => self.taps::<A, 9>(panel, sums, left),
                    3.. => self.taps::<A, 3>(panel, sums, left),
                    _ => self.taps::<A, 1>(panel, sums, left),
                };
            }
        }
    }
}

impl StencilGradient<'_> {
    /// The next `T` taps.
    #[inline(always)]
    fn taps<A: Arithmetic, const T: usize>(&mut self, panel: usize, first: usize, offsets: &[usize]) -> usize {
        let (mut sums, mut places) = ([[0.0; LANES]; T], [0; T]);
        for t in 0..T {
            (sums[t], places[t]) = (self.sums[first + t], offsets[t] + panel * LANES);
        }
        for row in 0..self.sweep.rows {
            let (mut from, mut at) = (self.sweep.source.at(row, 0), self.at.at(row, 0) + panel * LANES);
            for _ in 0..self.sweep.columns {
                let dy = &self.gradients[at..][..LANES];
                for t in 0..T {
                    let x = &self.source[from + places[t]..][..LANES];
                    for lane in 0..LANES {
                        sums[t][lane] = A::multiply_add(x[lane], dy[lane], sums[t][lane]);
                    }
                }
                from += self.sweep.source.column;
                at += self.at.column;
            }
        }
        self.sums[first..first + T].copy_from_slice(&sums);
        T
    }
}
