//! Loops over rows of channels: what batch norm and clamps need, in vectors.
//!
//! All take rows back to back, `channels` numbers each, and do [`LANES`] channels at once.

use super::simd::{Arithmetic, LANES, Work, dispatch};
use crate::ir::Clamp;

/// Rows whose sums are kept apart, so that one addition need not wait for another.
const APART: usize = 4;

/// Count, mean, and sum of squared distances from it, of each channel.
#[derive(Clone, Debug, Default)]
pub(super) struct Moments {
    pub(super) count: f64,
    pub(super) mean: Vec<f64>,
    pub(super) squares: Vec<f64>,
}

impl Moments {
    /// Of some rows.
    pub(super) fn of(rows: &[f32], channels: usize) -> Self {
        let count = (rows.len() / channels) as f64;
        let sums = reduce(rows, &vec![0.0; channels], Power::One);
        let mean: Vec<f32> = sums.iter().map(|sum| sum / count as f32).collect();
        let squares = reduce(rows, &mean, Power::Two);
        let wide = |numbers: Vec<f32>| numbers.into_iter().map(f64::from).collect();
        Moments { count, mean: wide(mean), squares: wide(squares) }
    }

    /// Of the rows of both (Chan, Golub & LeVeque 1979).
    pub(super) fn join(&mut self, other: &Moments) {
        if self.count == 0.0 {
            *self = other.clone();
            return;
        }
        let count = self.count + other.count;
        for c in 0..self.mean.len() {
            let apart = other.mean[c] - self.mean[c];
            self.mean[c] += apart * other.count / count;
            self.squares[c] += other.squares[c] + apart * apart * self.count * other.count / count;
        }
        self.count = count;
    }

    /// Mean squared distance.
    pub(super) fn variance(&self, channel: usize) -> f64 {
        self.squares[channel] / self.count
    }
}

#[derive(Clone, Copy)]
enum Power {
    One,
    Two,
}

fn reduce(rows: &[f32], centre: &[f32], squared: Power) -> Vec<f32> {
    dispatch(All(Reduce { rows, centre, squared, sums: vec![0.0; centre.len()] }))
}

/// Sums of distances, or their squares, from `centre`.
struct Reduce<'a> {
    rows: &'a [f32],
    centre: &'a [f32],
    squared: Power,
    sums: Vec<f32>,
}

impl ByChannel for Reduce<'_> {
    type Output = Vec<f32>;

    fn channels(&self) -> usize {
        self.centre.len()
    }

    #[inline(always)]
    fn panel<A: Arithmetic, const W: usize>(&mut self, first: usize) {
        let channels = self.centre.len();
        let centre = load::<W>(self.centre, first);
        let mut apart = [[0.0; W]; APART];
        for rows in self.rows.chunks(channels * APART) {
            for (row, sums) in rows.chunks_exact(channels).zip(&mut apart) {
                let x = load::<W>(row, first);
                for lane in 0..W {
                    let x = x[lane] - centre[lane];
                    sums[lane] = match self.squared {
                        Power::One => sums[lane] + x,
                        Power::Two => A::multiply_add(x, x, sums[lane]),
                    };
                }
            }
        }
        for lane in 0..W {
            self.sums[first + lane] = apart.iter().map(|sums| sums[lane]).sum();
        }
    }

    fn finish(self) -> Vec<f32> {
        self.sums
    }
}

/// `target = clamp(rows * factor + shift)`.
pub(super) fn transform(rows: &[f32], line: Line, clamp: Clamp, target: &mut [f32]) {
    dispatch(All(Transform { rows, line, clamp, target }));
}

/// `x * factor + shift`, one of each a channel.
#[derive(Clone, Copy)]
pub(super) struct Line<'a> {
    pub(super) factor: &'a [f32],
    pub(super) shift: &'a [f32],
}

struct Transform<'a> {
    rows: &'a [f32],
    line: Line<'a>,
    clamp: Clamp,
    target: &'a mut [f32],
}

impl ByChannel for Transform<'_> {
    type Output = ();

    fn channels(&self) -> usize {
        self.line.factor.len()
    }

    #[inline(always)]
    fn panel<A: Arithmetic, const W: usize>(&mut self, first: usize) {
        let channels = self.line.factor.len();
        let (factor, shift) = (load::<W>(self.line.factor, first), load::<W>(self.line.shift, first));
        for (row, target) in self.rows.chunks_exact(channels).zip(self.target.chunks_exact_mut(channels)) {
            let (x, target) = (load::<W>(row, first), &mut target[first..first + W]);
            for lane in 0..W {
                target[lane] = self.clamp.apply(A::multiply_add(x[lane], factor[lane], shift[lane]));
            }
        }
    }

    fn finish(self) {}
}

/// Sums over rows that the gradient of batch norm needs.
pub(super) struct GradientSums {
    /// Of the gradient behind the clamp: the gradient of the shift.
    pub(super) gradient: Vec<f32>,
    /// Of the same times the normalised row: the gradient of the factor.
    pub(super) along: Vec<f32>,
}

/// How rows were normalised.
#[derive(Clone, Copy)]
pub(super) struct Normalised<'a> {
    /// What was applied.
    pub(super) line: Line<'a>,
    /// Of each channel.
    pub(super) mean: &'a [f32],
    /// One by the deviation of each channel.
    pub(super) inverse: &'a [f32],
}

/// Sets `gradient` to zero where the clamp held the output, and sums what is left.
pub(super) fn reduce_gradient(rows: &[f32], how: Normalised, clamp: Clamp, gradient: &mut [f32]) -> GradientSums {
    let zeros = || vec![0.0; how.mean.len()];
    let sums = GradientSums { gradient: zeros(), along: zeros() };
    dispatch(All(ReduceGradient { rows, how, clamp, gradient, sums }))
}

struct ReduceGradient<'a> {
    rows: &'a [f32],
    how: Normalised<'a>,
    clamp: Clamp,
    gradient: &'a mut [f32],
    sums: GradientSums,
}

impl ByChannel for ReduceGradient<'_> {
    type Output = GradientSums;

    fn channels(&self) -> usize {
        self.how.mean.len()
    }

    #[inline(always)]
    fn panel<A: Arithmetic, const W: usize>(&mut self, first: usize) {
        let Normalised { line, mean, inverse } = self.how;
        let channels = mean.len();
        let (factor, shift) = (load::<W>(line.factor, first), load::<W>(line.shift, first));
        let (mean, inverse) = (load::<W>(mean, first), load::<W>(inverse, first));
        let (mut total, mut along) = ([[0.0; W]; APART], [[0.0; W]; APART]);
        let together = channels * APART;
        for (rows, gradient) in self.rows.chunks(together).zip(self.gradient.chunks_mut(together)) {
            let rows = rows.chunks_exact(channels).zip(gradient.chunks_exact_mut(channels));
            for ((row, gradient), (total, along)) in rows.zip(total.iter_mut().zip(&mut along)) {
                let (x, gradient) = (load::<W>(row, first), &mut gradient[first..first + W]);
                for lane in 0..W {
                    let y = A::multiply_add(x[lane], factor[lane], shift[lane]);
                    let inside = y > self.clamp.min && y < self.clamp.max;
                    let dy = if inside { gradient[lane] } else { 0.0 };
                    gradient[lane] = dy;
                    total[lane] += dy;
                    along[lane] = A::multiply_add(dy, (x[lane] - mean[lane]) * inverse[lane], along[lane]);
                }
            }
        }
        for lane in 0..W {
            self.sums.gradient[first + lane] = total.iter().map(|sums| sums[lane]).sum();
            self.sums.along[first + lane] = along.iter().map(|sums| sums[lane]).sum();
        }
    }

    fn finish(self) -> GradientSums {
        self.sums
    }
}

/// `target = gradient * own + rows * of_row + shift`, one of each factor a channel.
pub(super) fn combine(gradient: &[f32], rows: &[f32], by: &Combination, target: &mut [f32]) {
    dispatch(All(Combine { gradient, rows, by, target }));
}

/// See [`combine`].
#[derive(Clone, Debug, Default)]
pub(super) struct Combination {
    pub(super) own: Vec<f32>,
    pub(super) of_row: Vec<f32>,
    pub(super) shift: Vec<f32>,
}

struct Combine<'a> {
    gradient: &'a [f32],
    rows: &'a [f32],
    by: &'a Combination,
    target: &'a mut [f32],
}

impl ByChannel for Combine<'_> {
    type Output = ();

    fn channels(&self) -> usize {
        self.by.own.len()
    }

    #[inline(always)]
    fn panel<A: Arithmetic, const W: usize>(&mut self, first: usize) {
        let Combination { own, of_row, shift } = self.by;
        let channels = own.len();
        let (own, of_row, shift) = (load::<W>(own, first), load::<W>(of_row, first), load::<W>(shift, first));
        let rows = self.gradient.chunks_exact(channels).zip(self.rows.chunks_exact(channels));
        for ((gradient, row), target) in rows.zip(self.target.chunks_exact_mut(channels)) {
            let (dy, x) = (load::<W>(gradient, first), load::<W>(row, first));
            let target = &mut target[first..first + W];
            for lane in 0..W {
                let along = A::multiply_add(x[lane], of_row[lane], shift[lane]);
                target[lane] = A::multiply_add(dy[lane], own[lane], along);
            }
        }
    }

    fn finish(self) {}
}

/// Work on rows that is the same for every channel.
trait ByChannel: Sized {
    type Output;

    /// Numbers in a row.
    fn channels(&self) -> usize;

    /// Does `W` channels from `first` on; `#[inline(always)]`, as it is compiled into each copy.
    fn panel<A: Arithmetic, const W: usize>(&mut self, first: usize);

    /// What came of all of them.
    fn finish(self) -> Self::Output;
}

/// All channels: as many as possible in vectors, what is left one by one.
struct All<T>(T);

impl<T: ByChannel> Work for All<T> {
    type Output = T::Output;

    #[inline(always)]
    fn run<A: Arithmetic, const R: usize, const V: usize>(mut self) -> T::Output {
        let channels = self.0.channels();
        let whole = channels / LANES * LANES;
        for first in (0..whole).step_by(LANES) {
            self.0.panel::<A, LANES>(first);
        }
        for first in whole..channels {
            self.0.panel::<A, 1>(first);
        }
        self.0.finish()
    }
}

#[inline(always)]
fn load<const W: usize>(row: &[f32], first: usize) -> [f32; W] {
    let mut lanes = [0.0; W];
    lanes.copy_from_slice(&row[first..first + W]);
    lanes
}
