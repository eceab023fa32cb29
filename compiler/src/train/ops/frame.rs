//! Images with a margin of zeros, and the windows of a convolution over them.

use super::super::simd::LANES;
use super::super::sweep::{Run, Sweep, Walk};
use crate::ir::Conv2d;

/// An image among zeros.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    /// Of the image: rows, columns.
    image: [usize; 2],
    /// Rows above, columns before.
    margin: [usize; 2],
    /// With the margin.
    size: [usize; 2],
    /// From one pixel to the next.
    pixel: usize,
}

impl Frame {
    /// Numbers in all.
    pub(super) fn len(&self) -> usize {
        self.size[0] * self.size[1] * self.pixel
    }

    /// Pixels of the image itself.
    pub(super) fn pixels(&self) -> usize {
        self.image[0] * self.image[1]
    }

    /// Copies channels `from .. from + take` of an image whose pixels have `channels`.
    pub(super) fn fill(&self, image: &[f32], channels: usize, from: usize, take: usize, out: &mut [f32]) {
        out.fill(0.0);
        for y in 0..self.image[0] {
            let row = &image[y * self.image[1] * channels..][..self.image[1] * channels];
            let to = &mut out[self.place(y, 0)..][..self.image[1] * self.pixel];
            if channels == take && take == self.pixel {
                to.copy_from_slice(row);
                continue;
            }
            for (to, pixel) in to.chunks_exact_mut(self.pixel).zip(row.chunks_exact(channels)) {
                to[..take].copy_from_slice(&pixel[from..from + take]);
            }
        }
    }

    /// Where a pixel of the image is.
    fn place(&self, y: usize, x: usize) -> usize {
        ((y + self.margin[0]) * self.size[1] + x + self.margin[1]) * self.pixel
    }

    /// The pixels of the image.
    pub(super) fn walk(&self) -> Walk {
        Walk { origin: self.place(0, 0), row: self.size[1] * self.pixel, column: self.pixel }
    }
}

/// The three sweeps of a convolution with `channels_in` input and `channels_out` output channels a group.
#[derive(Clone, Debug)]
pub(super) struct Windows {
    /// The input among zeros.
    pub(super) input: Frame,
    /// The gradient of the output among zeros, channels padded to whole vectors.
    pub(super) gradient: Frame,
    /// The convolution: reads `input`. The gradient of the weights sweeps likewise.
    pub(super) forward: Sweep,
    /// The gradient by the input: sweeps that read `gradient` and write disjoint pixels, with the taps of each.
    pub(super) backward: Vec<Phase>,
}

/// The input pixels that see the same taps.
#[derive(Clone, Debug)]
pub(super) struct Phase {
    pub(super) sweep: Sweep,
    /// Numbers of the taps, in the order in which the sweep reads.
    pub(super) taps: Vec<usize>,
}

/// Shapes that a convolution is between.
pub(super) struct Shapes<'a> {
    /// `[1, h, w, c_in]`.
    pub(super) input: &'a [usize],
    /// `[c_out, kh, kw, c_in / groups]`.
    pub(super) weights: &'a [usize],
    /// `[1, oh, ow, c_out]`.
    pub(super) output: &'a [usize],
}

impl Windows {
    pub(super) fn new(conv: &Conv2d, shapes: &Shapes, channels_in: usize, channels_out: usize) -> Self {
        let axis = |i: usize| Axis {
            input: shapes.input[1 + i],
            output: shapes.output[1 + i],
            kernel: shapes.weights[1 + i],
            stride: conv.stride[i],
            dilation: conv.dilation[i],
            pad: [conv.pad.top, conv.pad.left][i],
        };
        let [rows, columns] = [axis(0), axis(1)];
        let input = Frame {
            image: [rows.input, columns.input],
            margin: [rows.pad, columns.pad],
            size: [rows.padded_input(), columns.padded_input()],
            pixel: channels_in,
        };
        let gradient = Frame {
            image: [rows.output, columns.output],
            margin: [rows.reach(), columns.reach()],
            size: [rows.padded_gradient(), columns.padded_gradient()],
            pixel: channels_out.next_multiple_of(LANES),
        };
        let [pixel_in, pixel_out] = [shapes.input[3], shapes.output[3]];
        let (line, pixel) = (input.size[1] * input.pixel, input.pixel);
        let taps = (0..rows.kernel).flat_map(|ky| (0..columns.kernel).map(move |kx| (ky, kx)));
        let offsets = taps.map(|(ky, kx)| ky * rows.dilation * line + kx * columns.dilation * pixel);
        let forward = Sweep {
            rows: rows.output,
            columns: columns.output,
            source: Walk { origin: 0, row: rows.stride * line, column: columns.stride * pixel },
            target: Walk { origin: 0, row: columns.output * pixel_out, column: pixel_out },
            runs: runs(offsets, channels_in),
        };
        let mut backward = Vec::new();
        for py in 0..rows.stride {
            for px in 0..columns.stride {
                backward.extend(phase(&rows, &columns, [py, px], &gradient, pixel_in));
            }
        }
        Windows { input, gradient, forward, backward }
    }
}

/// One dimension of a convolution.
struct Axis {
    input: usize,
    output: usize,
    kernel: usize,
    stride: usize,
    dilation: usize,
    pad: usize,
}

impl Axis {
    /// The margin before, the input, and what the last window reaches behind it.
    fn padded_input(&self) -> usize {
        let reached = (self.output - 1) * self.stride + (self.kernel - 1) * self.dilation + 1;
        reached.max(self.pad + self.input)
    }

    /// How many outputs before its own an input can touch.
    fn reach(&self) -> usize {
        (self.kernel - 1) * self.dilation / self.stride
    }

    fn padded_gradient(&self) -> usize {
        self.reach() + self.output.max((self.pad + self.input - 1) / self.stride + 1)
    }

    /// The inputs (padding included) `stride * q + residue`: the first `q` in the image, and how many.
    fn inputs(&self, residue: usize) -> (usize, usize) {
        let first = (self.pad.saturating_sub(residue)).div_ceil(self.stride);
        let end = (self.pad + self.input).saturating_sub(residue).div_ceil(self.stride);
        (first, end.saturating_sub(first))
    }

    /// Taps that those inputs meet, and how many outputs before `q` each leads to; the farthest first.
    fn taps(&self, residue: usize) -> impl Iterator<Item = (usize, usize)> + Clone + '_ {
        let meets = move |&tap: &usize| {
            tap * self.dilation >= residue && (tap * self.dilation - residue).is_multiple_of(self.stride)
        };
        (0..self.kernel).rev().filter(meets).map(move |tap| (tap, (tap * self.dilation - residue) / self.stride))
    }
}

/// The sweep over the input pixels of one residue of the strides; `None` when there are none.
fn phase(rows: &Axis, columns: &Axis, residue: [usize; 2], gradient: &Frame, pixel_in: usize) -> Option<Phase> {
    let (top, height) = rows.inputs(residue[0]);
    let (left, width) = columns.inputs(residue[1]);
    if height == 0 || width == 0 {
        return None;
    }
    let (line, pixel) = (gradient.size[1] * gradient.pixel, gradient.pixel);
    let taps = rows.taps(residue[0]).flat_map(|y| columns.taps(residue[1]).map(move |x| (y, x)));
    // Relative to the farthest output that any input touches.
    let offset = |back_y: usize, back_x: usize| (rows.reach() - back_y) * line + (columns.reach() - back_x) * pixel;
    let offsets = taps.clone().map(|((_, back_y), (_, back_x))| offset(back_y, back_x));
    let start = [rows.stride * top + residue[0] - rows.pad, columns.stride * left + residue[1] - columns.pad];
    let sweep = Sweep {
        rows: height,
        columns: width,
        source: Walk { origin: top * line + left * pixel, row: line, column: pixel },
        target: Walk {
            origin: (start[0] * columns.input + start[1]) * pixel_in,
            row: rows.stride * columns.input * pixel_in,
            column: columns.stride * pixel_in,
        },
        runs: runs(offsets, pixel),
    };
    Some(Phase { sweep, taps: taps.map(|((ky, _), (kx, _))| ky * columns.kernel + kx).collect() })
}

/// Runs of `len` at these offsets; those that touch are one.
fn runs(offsets: impl Iterator<Item = usize>, len: usize) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for offset in offsets {
        match runs.last_mut() {
            Some(last) if last.offset + last.len == offset => last.len += len,
            _ => runs.push(Run { offset, len }),
        }
    }
    runs
}
