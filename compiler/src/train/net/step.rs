//! One node: its operator over a whole batch, forward and backward.
//!
//! A batch is cut into chunks of [`CHUNK`] samples that threads share. Sums over samples are made
//! chunk by chunk and then over the chunks in order: their number does not depend on that of the threads,
//! so neither do the results.

use rayon::prelude::*;

use crate::ir::{Clamp, ValueId};
use crate::train::batch_norm::{Averaging, BatchNorm};
use crate::train::channels::{self, Moments};
use crate::train::ops::{Operator, Scratch, Target, Wanted, Write, room};
use crate::train::parameter::Parameter;
use crate::train::simd::Lanes;
use crate::train::weight_map::WeightMaps;

/// Samples whose sums are made one after another.
pub(super) const CHUNK: usize = 16;

/// Numbers that samples which pass through an operator together should have: part of a second-level cache.
const TOGETHER: usize = 1 << 14;

/// One node.
pub(super) struct Step {
    /// Index in the graph.
    pub(super) node: usize,
    pub(super) operator: Box<dyn Operator>,
    pub(super) inputs: Vec<ValueId>,
    pub(super) output: ValueId,
    /// Numbers of one sample's output.
    pub(super) len: usize,
    /// Indices of those among the constants that are trained, weights first.
    pub(super) parameters: Vec<usize>,
    /// From the first of them to the weights of the operator.
    pub(super) maps: WeightMaps,
    pub(super) norm: Option<BatchNorm>,
    pub(super) clamp: Clamp,
}

/// What the samples of a chunk need besides values.
#[derive(Default)]
pub(super) struct Chunk {
    scratch: Scratch,
    gradient: Vec<f32>,
    sums: Vec<Lanes>,
}

impl Step {
    /// Samples that run through the operator together.
    fn together(&self, values: &[Vec<f32>], samples: usize) -> usize {
        let largest = self.inputs.iter().map(|id| values[id.0 as usize].len() / samples).fold(self.len, usize::max);
        (TOGETHER / largest.max(1)).clamp(1, CHUNK)
    }

    /// Gives the operator its parameters as they are now.
    fn load(&mut self, parameters: &[Parameter]) {
        let mut own: Vec<&[f32]> = self.parameters.iter().map(|&p| &*parameters[p].values).collect();
        if !self.maps.is_empty() {
            own[0] = self.maps.forward(self.parameters[0], parameters);
        }
        self.operator.load(&own);
    }

    /// The output of the batch.
    pub(super) fn forward(
        &mut self,
        values: &[Vec<f32>],
        output: &mut [f32],
        parameters: &[Parameter],
        averaging: Averaging,
        chunks: &mut [Chunk],
    ) {
        self.load(parameters);
        let samples = output.len() / self.len;
        let together = self.together(values, samples);
        let clamp = if self.norm.is_some() { Clamp::NONE } else { self.clamp };
        let (operator, len) = (&self.operator, self.len);
        let inputs: Vec<(&[f32], usize)> =
            self.inputs.iter().map(|id| values[id.0 as usize].as_slice()).map(|v| (v, v.len() / samples)).collect();
        let run = |first: usize, out: &mut [f32], chunk: &mut Chunk, see: &mut dyn FnMut(&[f32])| {
            for (i, out) in out.chunks_mut(together * len).enumerate() {
                let (at, count) = (first + i * together, out.len() / len);
                let some: Vec<&[f32]> = inputs.iter().map(|(v, n)| &v[at * n..(at + count) * n]).collect();
                operator.forward(&some, out, &mut chunk.scratch);
                if !clamp.is_none() {
                    out.iter_mut().for_each(|x| *x = clamp.apply(*x));
                }
                see(out);
            }
        };
        let Some(norm) = &mut self.norm else {
            let work = output.par_chunks_mut(CHUNK * len).zip(chunks.par_iter_mut()).enumerate();
            work.for_each(|(c, (out, chunk))| run(c * CHUNK, out, chunk, &mut |_| ()));
            return;
        };
        let raw = room(&mut norm.raw, output.len());
        let work = raw.par_chunks_mut(CHUNK * len).zip(chunks.par_iter_mut()).enumerate();
        let channels = norm.channels;
        let moments: Vec<_> = work
            .map(|(c, (out, chunk))| {
                let mut moments = Moments::default();
                run(c * CHUNK, out, chunk, &mut |rows| moments.join(&Moments::of(rows, channels)));
                moments
            })
            .collect();
        norm.take(&moments, averaging, parameters);
        let norm = &*norm;
        let work = output.par_chunks_mut(CHUNK * len).zip(norm.raw.par_chunks(CHUNK * len));
        work.for_each(|(out, raw)| channels::transform(raw, norm.line(), self.clamp, out));
    }

    /// From the gradient of the output, which it changes, to those of the targets and the parameters.
    pub(super) fn backward(
        &mut self,
        values: &[Vec<f32>],
        gradient: &mut [f32],
        targets: &mut [Option<(Vec<f32>, Write)>],
        parameters: &mut [Parameter],
        chunks: &mut [Chunk],
    ) {
        let (len, clamp) = (self.len, self.clamp);
        let samples = gradient.len() / len;
        let together = self.together(values, samples);
        let through_norm = self.norm.as_ref().map(|norm| {
            let work = gradient.par_chunks_mut(CHUNK * len).zip(norm.raw.par_chunks(CHUNK * len));
            let sums: Vec<_> =
                work.map(|(dy, raw)| channels::reduce_gradient(raw, norm.normalised(), clamp, dy)).collect();
            (norm, norm.combination(&sums, samples * len / norm.channels, parameters))
        });
        let (operator, output) = (&self.operator, &values[self.output.0 as usize]);
        let inputs: Vec<(&[f32], usize)> =
            self.inputs.iter().map(|id| values[id.0 as usize].as_slice()).map(|v| (v, v.len() / samples)).collect();
        let sums_len = operator.sums_len();
        let chunk_targets = by_chunk(targets, samples);
        let work = gradient.par_chunks(CHUNK * len).zip(chunks.par_iter_mut()).zip(chunk_targets).enumerate();
        work.for_each(|(c, ((gradient, chunk), mut targets))| {
            chunk.sums.clear();
            chunk.sums.resize(sums_len, Lanes::default());
            for (i, gradient) in gradient.chunks(together * len).enumerate() {
                let (at, count) = (c * CHUNK + i * together, gradient.len() / len);
                let span = at * len..(at + count) * len;
                let buffer = room(&mut chunk.gradient, gradient.len());
                let dy: &[f32] = match &through_norm {
                    Some((norm, combination)) => {
                        channels::combine(gradient, &norm.raw[span], combination, buffer);
                        buffer
                    }
                    None if clamp.is_none() => gradient,
                    None => {
                        for ((to, dy), y) in buffer.iter_mut().zip(gradient).zip(&output[span]) {
                            *to = if *y > clamp.min && *y < clamp.max { *dy } else { 0.0 };
                        }
                        buffer
                    }
                };
                let some: Vec<&[f32]> = inputs.iter().map(|(v, n)| &v[at * n..(at + count) * n]).collect();
                let wanted = targets.iter_mut().zip(&inputs).map(|(target, (_, n))| {
                    let Target { gradient, write } = target.as_mut()?;
                    Some(Target { gradient: &mut gradient[i * together * n..][..count * n], write: *write })
                });
                let mut wanted = Wanted { inputs: wanted.collect(), sums: &mut chunk.sums };
                operator.backward(&some, dy, &mut wanted, &mut chunk.scratch);
            }
        });
        if let Some((first, others)) = chunks.split_first_mut() {
            for other in others {
                for (sum, more) in first.sums.as_flattened_mut().iter_mut().zip(other.sums.as_flattened()) {
                    *sum += more;
                }
            }
            self.collect(&first.sums, parameters);
        }
    }

    /// Adds the sums over all samples to the gradients of the parameters.
    fn collect(&self, sums: &[Lanes], parameters: &mut [Parameter]) {
        let mut own: Vec<Vec<f32>> =
            self.parameters.iter().map(|&p| std::mem::take(&mut parameters[p].gradient)).collect();
        let latent = self.parameters.first().filter(|_| !self.maps.is_empty());
        let through = latent.map(|&p| (p, std::mem::replace(&mut own[0], vec![0.0; parameters[p].values.len()])));
        let mut gradients: Vec<&mut [f32]> = own.iter_mut().map(Vec::as_mut_slice).collect();
        self.operator.collect(sums, &mut gradients);
        if let Some((latent, so_far)) = through {
            parameters[latent].gradient = so_far;
            self.maps.backward(latent, parameters, std::mem::take(&mut own[0]));
            own[0] = std::mem::take(&mut parameters[latent].gradient);
        }
        self.parameters.iter().zip(own).for_each(|(&p, gradient)| parameters[p].gradient = gradient);
    }
}

/// The gradients of the inputs, cut where chunks are.
fn by_chunk(targets: &mut [Option<(Vec<f32>, Write)>], samples: usize) -> Vec<Vec<Option<Target<'_>>>> {
    let mut chunks: Vec<Vec<Option<Target>>> = (0..samples.div_ceil(CHUNK)).map(|_| Vec::new()).collect();
    for target in targets {
        let Some((buffer, write)) = target else {
            chunks.iter_mut().for_each(|chunk| chunk.push(None));
            continue;
        };
        let len = buffer.len() / samples;
        for (chunk, gradient) in chunks.iter_mut().zip(buffer.chunks_mut(CHUNK * len)) {
            chunk.push(Some(Target { gradient, write: *write }));
        }
    }
    chunks
}
