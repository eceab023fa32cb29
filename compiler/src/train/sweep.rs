//! Windows that slide over an image: the geometry that convolution shares with its two gradients.
//!
//! A convolution reads, for each output pixel, a few runs of memory of its padded input. Its gradient
//! by the input does the same over the padded gradient of its output, once for each residue of the
//! stride; its gradient by the weights goes over the same windows as the convolution itself. So all
//! three are a [`Sweep`], and no copy of the windows (im2col) is ever made.

use super::simd::{Arithmetic, LANES, Lanes, Work, dispatch};
use super::tile::{Series, Tile, accumulate, accumulate_outer};

/// A grid of windows.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sweep {
    /// Rows of windows.
    pub(super) rows: usize,
    /// Windows in a row.
    pub(super) columns: usize,
    /// Where the windows begin.
    pub(super) source: Walk,
    /// Where their results go.
    pub(super) target: Walk,
    /// What each window reads, relative to its beginning.
    pub(super) runs: Vec<Run>,
}

/// Places on a grid, counted in numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Walk {
    /// The first place.
    pub(super) origin: usize,
    /// From a row to the next.
    pub(super) row: usize,
    /// From a column to the next.
    pub(super) column: usize,
}

/// Numbers side by side.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Run {
    pub(super) offset: usize,
    pub(super) len: usize,
}

/// Weights of a sweep: for each [`LANES`] results the factors of all that a window reads, zeros where
/// there are fewer results.
#[derive(Clone, Debug, Default)]
pub(super) struct Panels {
    lanes: Vec<Lanes>,
    depth: usize,
    /// Results of a window.
    width: usize,
}

/// What happens to what the target holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Write {
    /// It is replaced.
    Set,
    /// It is added to.
    Add,
}

impl Walk {
    /// Where a row and column begin.
    #[inline(always)]
    pub(super) fn at(&self, row: usize, column: usize) -> usize {
        self.origin + row * self.row + column * self.column
    }
}

impl Sweep {
    /// Windows one after another: `count` rows of `depth` numbers give rows of `width`.
    pub(super) fn over_rows(count: usize, depth: usize, width: usize) -> Self {
        Sweep {
            rows: 1,
            columns: count,
            source: Walk { origin: 0, row: 0, column: depth },
            target: Walk { origin: 0, row: 0, column: width },
            runs: vec![Run { offset: 0, len: depth }],
        }
    }

    /// Numbers that a window reads.
    pub(super) fn depth(&self) -> usize {
        self.runs.iter().map(|run| run.len).sum()
    }

    /// Results of every window, `bias` (one number a result, or none) added.
    pub(super) fn apply(&self, source: &[f32], weights: &Panels, bias: &[f32], target: &mut [f32], write: Write) {
        dispatch(Apply { sweep: self, source, weights, bias, target, write });
    }

    /// Adds to `sums`, laid out as [`Panels`] are, the gradients of the weights: `gradients` has
    /// [`LANES`]-padded results of the windows on the places of `at`.
    pub(super) fn add_weight_gradients(&self, source: &[f32], gradients: &[f32], at: Walk, sums: &mut [Lanes]) {
        dispatch(Outer { sweep: self, source, gradients, at, sums });
    }
}

impl Panels {
    /// Takes `weight(k, result)`.
    pub(super) fn load(&mut self, depth: usize, width: usize, weight: impl Fn(usize, usize) -> f32) {
        (self.depth, self.width) = (depth, width);
        self.lanes.resize(depth * width.div_ceil(LANES), [0.0; LANES]);
        for (i, lanes) in self.lanes.iter_mut().enumerate() {
            let (panel, k) = (i / depth, i % depth);
            for (lane, slot) in lanes.iter_mut().enumerate() {
                let result = panel * LANES + lane;
                *slot = if result < width { weight(k, result) } else { 0.0 };
            }
        }
    }
}

struct Apply<'a> {
    sweep: &'a Sweep,
    source: &'a [f32],
    weights: &'a Panels,
    bias: &'a [f32],
    target: &'a mut [f32],
    write: Write,
}

impl Work for Apply<'_> {
    type Output = ();

    #[inline(always)]
    fn run<A: Arithmetic, const R: usize, const V: usize>(mut self) {
        let panels = self.weights.width.div_ceil(LANES);
        let mut panel = 0;
        while panel < panels {
            if panel + V <= panels {
                self.panels::<A, R, V>(panel);
                panel += V;
            } else {
                self.panels::<A, R, 1>(panel);
                panel += 1;
            }
        }
    }
}

impl Apply<'_> {
    #[inline(always)]
    fn panels<A: Arithmetic, const R: usize, const V: usize>(&mut self, first: usize) {
        let Sweep { rows, columns, source, target, runs } = self.sweep;
        let depth = self.weights.depth;
        let mut weights: [&[Lanes]; V] = [&[]; V];
        for v in 0..V {
            weights[v] = &self.weights.lanes[(first + v) * depth..][..depth];
        }
        let mut bias = [[0.0; LANES]; V];
        for (slot, bias) in bias.as_flattened_mut().iter_mut().zip(self.bias.iter().skip(first * LANES)) {
            *slot = *bias;
        }
        let width = (V * LANES).min(self.weights.width - first * LANES);
        let windows = rows * columns;
        let (mut row, mut column) = (0, 0);
        let mut done = 0;
        while done < windows {
            let count = R.min(windows - done);
            // The last tile repeats its last window.
            let mut places = [(0, 0); R];
            for place in &mut places[..count] {
                *place = (source.at(row, column), target.at(row, column));
                column += 1;
                if column == *columns {
                    (row, column) = (row + 1, 0);
                }
            }
            let last = places[count - 1];
            places[count..].fill(last);
            let mut tile: Tile<R, V> = [bias; R];
            let mut k = 0;
            for run in runs {
                let (mut rows, mut panels): ([&[f32]; R], [&[Lanes]; V]) = ([&[]; R], weights);
                for r in 0..R {
                    rows[r] = &self.source[places[r].0 + run.offset..][..run.len];
                }
                for panel in &mut panels {
                    *panel = &panel[k..k + run.len];
                }
                accumulate::<A, R, V>(rows, panels, &mut tile);
                k += run.len;
            }
            for (sums, &(_, to)) in tile.iter().zip(&places[..count]) {
                let out = &mut self.target[to + first * LANES..][..width];
                write_lanes(sums.as_flattened(), out, self.write);
            }
            done += count;
        }
    }
}

/// Writes the first numbers of whole vectors.
#[inline(always)]
pub(super) fn write_lanes(sums: &[f32], out: &mut [f32], write: Write) {
    match (write, out.as_chunks_mut::<LANES>()) {
        (Write::Set, (chunks, [])) => {
            chunks.iter_mut().zip(sums.as_chunks().0).for_each(|(out, sums)| *out = *sums);
        }
        (Write::Add, (chunks, [])) => {
            for (out, sums) in chunks.iter_mut().zip(sums.as_chunks::<LANES>().0) {
                for lane in 0..LANES {
                    out[lane] += sums[lane];
                }
            }
        }
        (Write::Set, _) => out.copy_from_slice(&sums[..out.len()]),
        (Write::Add, _) => out.iter_mut().zip(sums).for_each(|(out, sum)| *out += sum),
    }
}

struct Outer<'a> {
    sweep: &'a Sweep,
    source: &'a [f32],
    gradients: &'a [f32],
    at: Walk,
    sums: &'a mut [Lanes],
}

impl Work for Outer<'_> {
    type Output = ();

    #[inline(always)]
    fn run<A: Arithmetic, const R: usize, const V: usize>(mut self) {
        let depth = self.sweep.depth();
        let panels = self.sums.len() / depth;
        let mut panel = 0;
        while panel < panels {
            let mut k = 0;
            let width = if panel + V <= panels { V } else { 1 };
            for run in &self.sweep.runs {
                let mut within = 0;
                while within < run.len {
                    let height = if within + R <= run.len { R } else { 1 };
                    let (offset, k) = (run.offset + within, k + within);
                    match (height == R, width == V) {
                        (true, true) => self.tile::<A, R, V>(panel, offset, k, depth),
                        (true, false) => self.tile::<A, R, 1>(panel, offset, k, depth),
                        (false, true) => self.tile::<A, 1, V>(panel, offset, k, depth),
                        (false, false) => self.tile::<A, 1, 1>(panel, offset, k, depth),
                    }
                    within += height;
                }
                k += run.len;
            }
            panel += width;
        }
    }
}

impl Outer<'_> {
    #[inline(always)]
    fn tile<A: Arithmetic, const R: usize, const V: usize>(
        &mut self,
        panel: usize,
        offset: usize,
        k: usize,
        depth: usize,
    ) {
        let mut tile: Tile<R, V> = [[[0.0; LANES]; V]; R];
        for r in 0..R {
            for v in 0..V {
                tile[r][v] = self.sums[(panel + v) * depth + k + r];
            }
        }
        let source = self.sweep.source;
        for row in 0..self.sweep.rows {
            let left = Series { data: &self.source[source.at(row, 0) + offset..], stride: source.column };
            let right = Series { data: &self.gradients[self.at.at(row, 0) + panel * LANES..], stride: self.at.column };
            accumulate_outer::<A, R, V>(self.sweep.columns, left, right, &mut tile);
        }
        for (r, sums) in tile.iter().enumerate() {
            for (v, lanes) in sums.iter().enumerate() {
                self.sums[(panel + v) * depth + k + r] = *lanes;
            }
        }
    }
}
