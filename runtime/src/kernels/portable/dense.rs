//! Convolutions that sum over channels.

use core::ops::Range;

use super::decode::Decoder;
use super::sparse;
use crate::format::{Conv, Layout};
use crate::kernels::KernelSet;

/// Output channels whose dot products are computed together.
const TILE_CHANNELS: usize = 4;
/// Pixels whose dot products are computed together.
const TILE_PIXELS: usize = 2;
/// Rows of weights and activations are padded to a multiple of this.
const LANES: usize = 16;
/// Blocks of up to 16 channels share a gathered pixel, as long as their weights stay below this.
const BLOCK_BYTES: usize = 4096;

/// A block of decoded weight rows, and a tile of gathered pixels.
pub(super) fn scratch_bytes(p: &Conv<'_>) -> usize {
    row_len(p).saturating_mul(block_channels(p) + TILE_PIXELS)
}

fn row_len(p: &Conv<'_>) -> usize {
    p.depth().div_ceil(LANES).saturating_mul(LANES)
}

fn block_channels(p: &Conv<'_>) -> usize {
    (BLOCK_BYTES / row_len(p).max(1) / TILE_CHANNELS * TILE_CHANNELS).clamp(TILE_CHANNELS, 16)
}

/// See [`reference::conv`](crate::kernels::reference::conv).
pub(super) fn conv(p: &Conv<'_>, input: &[u8], output: &mut [u8], scratch: &mut [u8]) {
    let (row_len, block) = (row_len(p), block_channels(p));
    let Some((rows, tile)) = scratch.split_at_mut_checked(row_len * block) else { return };
    let rows: &mut [i8] = bytemuck::cast_slice_mut(rows);
    let group_outputs = (p.output.c / p.groups).max(1);
    for group in p.weight_groups() {
        if KernelSet::LINKED.has_dense(Layout::Sparse) && group.layout == Layout::Sparse {
            sparse::conv(&Inputs { p, input, first: 0 }, &group, row_len, tile, output);
            continue;
        }
        let decoder = Decoder::new(p, &group);
        for first in (0..group.channels).step_by(block) {
            decoder.rows(first, row_len, rows);
            let last = group.first + group.channels.min(first + block);
            // The channels of a block that read the same inputs.
            let mut from = group.first + first;
            while from < last {
                let channel_group = from / group_outputs;
                let to = last.min((channel_group + 1) * group_outputs);
                let skip = (from - group.first - first) * row_len;
                let inputs = Inputs { p, input, first: channel_group * p.group_inputs() };
                let run = Run { inputs, channels: from..to, rows: rows.get(skip..).unwrap_or(&[]), row_len };
                run.all_pixels(tile, output);
                from = to;
            }
        }
    }
}

/// Output channels that read the same inputs, with their weights.
struct Run<'a> {
    inputs: Inputs<'a>,
    channels: Range<usize>,
    rows: &'a [i8],
    row_len: usize,
}

impl Run<'_> {
    fn all_pixels(&self, tile: &mut [u8], output: &mut [u8]) {
        let pixels = self.inputs.p.output.h * self.inputs.p.output.w;
        let even = pixels - pixels % TILE_PIXELS;
        for first in (0..even).step_by(TILE_PIXELS) {
            self.pixels::<TILE_PIXELS>(first, tile, output);
        }
        for first in even..pixels {
            self.pixels::<1>(first, tile, output);
        }
    }

    fn pixels<const P: usize>(&self, first: usize, tile: &mut [u8], output: &mut [u8]) {
        let p = self.inputs.p;
        let pixels = self.inputs.gather::<P>(first, self.row_len, tile);
        let out = output.get_mut(first * p.output.c..).unwrap_or_default();
        for start in self.channels.clone().step_by(TILE_CHANNELS) {
            let channels = start..self.channels.end.min(start + TILE_CHANNELS);
            let weights = self.rows.get((start - self.channels.start) * self.row_len..).unwrap_or(&[]);
            let sums = dot_products(pixels, weights, self.row_len);
            let (bias, mult) = (p.bias.get(channels.clone()), p.mult.get(channels.clone()));
            for (pixel, sums) in out.chunks_exact_mut(p.output.c).zip(sums) {
                let codes = pixel.get_mut(channels.clone()).unwrap_or_default();
                let numbers = bias.unwrap_or(&[]).iter().zip(mult.unwrap_or(&[]));
                for ((code, sum), (&bias, &mult)) in codes.iter_mut().zip(sums).zip(numbers) {
                    *code = p.requantise.apply(bias.wrapping_add(sum), mult);
                }
            }
        }
    }
}

/// The activations that a run of output channels reads.
#[derive(Clone, Copy)]
pub(super) struct Inputs<'a> {
    pub(super) p: &'a Conv<'a>,
    input: &'a [u8],
    /// First input channel.
    first: usize,
}

impl Inputs<'_> {
    /// The activations under the kernel at `P` output pixels from `first` on, a row of `row_len` each: where
    /// they lie, if they lie there in a row, else copied to `tile`.
    pub(super) fn gather<'t, const P: usize>(
        &'t self,
        first: usize,
        row_len: usize,
        tile: &'t mut [u8],
    ) -> [&'t [u8]; P] {
        let p = self.p;
        let in_place = p.kernel == [1; 2] && p.stride == [1; 2] && p.pad == [0; 2] && p.groups == 1;
        if in_place && p.input.w == p.output.w && row_len == p.input.c {
            let mut pixels = self.input.get(first * row_len..).unwrap_or(&[]).chunks_exact(row_len);
            return [(); P].map(|()| pixels.next().unwrap_or(&[]));
        }
        for (pixel, row) in (first..first + P).zip(tile.chunks_exact_mut(row_len)) {
            self.gather_pixel([pixel / p.output.w, pixel % p.output.w], row);
        }
        let mut rows = tile.chunks_exact(row_len);
        [(); P].map(|()| rows.next().unwrap_or(&[]))
    }

    fn gather_pixel(&self, [y, x]: [usize; 2], row: &mut [u8]) {
        let p = self.p;
        let (segments, len) = p.segments();
        let columns = len / p.group_inputs().max(1);
        let mut row = row.chunks_exact_mut(len.max(1));
        for segment in 0..segments {
            let Some(slots) = row.next() else { return };
            // A segment is a kernel row, or one tap of it.
            let (ky, kx) =
                if columns == p.kernel[1] { (segment, 0) } else { (segment / p.kernel[1], segment % p.kernel[1]) };
            let iy = (y * p.stride[0] + ky * p.dilation[0]).wrapping_sub(p.pad[0]);
            let ix = (x * p.stride[1] + kx * p.dilation[1]) as isize - p.pad[1] as isize;
            if iy >= p.input.h {
                slots.fill(p.zero_in);
                continue;
            }
            let before = ((-ix).max(0) as usize).min(columns);
            let start = (ix.max(0) as usize).min(p.input.w);
            let inside = columns.saturating_sub(before).min(p.input.w - start);
            let pixel = if p.groups == 1 { p.input.c } else { p.group_inputs() };
            let at = (iy * p.input.w + start) * p.input.c + self.first;
            let (lead, rest) = slots.split_at_mut_checked(before * pixel).unwrap_or_default();
            let (middle, trail) = rest.split_at_mut_checked(inside * pixel).unwrap_or_default();
            lead.fill(p.zero_in);
            middle.iter_mut().zip(self.input.get(at..).unwrap_or(&[])).for_each(|(slot, &code)| *slot = code);
            trail.fill(p.zero_in);
        }
    }
}

/// The dot product of every pixel with each of the first rows of weights; at least one row.
///
/// The plainest loop is the one that a compiler turns into pairwise multiply-adds; rows of padded length
/// leave it no tail.
#[inline]
fn dot_products<const P: usize>(pixels: [&[u8]; P], rows: &[i8], row_len: usize) -> [[i32; TILE_CHANNELS]; P] {
    let mut sums = [[0; TILE_CHANNELS]; P];
    // With all lengths equal to one number the loop needs no check.
    let len = row_len / LANES * LANES;
    let mut rows = rows.chunks_exact(row_len);
    let w0 = rows.next().unwrap_or(&[]);
    // Fewer rows than a tile: what stands in for the others is not stored.
    let [w1, w2, w3] = [(); TILE_CHANNELS - 1].map(|()| rows.next().unwrap_or(w0));
    let [Some(w0), Some(w1), Some(w2), Some(w3)] = [w0, w1, w2, w3].map(|row| row.get(..len)) else { return sums };
    let mut exact: [&[u8]; P] = [&[]; P];
    for (exact, pixel) in exact.iter_mut().zip(pixels) {
        let Some(pixel) = pixel.get(..len) else { return sums };
        *exact = pixel;
    }
    for k in 0..len {
        let levels = [w0[k], w1[k], w2[k], w3[k]].map(i32::from);
        for (sums, pixel) in sums.iter_mut().zip(exact) {
            for (sum, level) in sums.iter_mut().zip(levels) {
                *sum = sum.wrapping_add(i32::from(pixel[k]) * level);
            }
        }
    }
    sums
}
