//! When a layer of a stage computes which rows.
//!
//! A stage runs in *bands*. In each, its first layer computes so many rows of its output, and every other as many
//! as its input's rows then suffice for. All of it follows from the geometry of the layers, so that a blob
//! states no more than the rows of the first.

use core::ops::Range;

use super::{Conv, Shape};

/// How the rows of a layer's output come about in a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Rows of a band.
    pub step: usize,
    /// Rows that it lags behind: the first bands compute so many less.
    pub delay: usize,
}

impl Pace {
    /// That of a stage's first layer.
    pub const fn first(rows: usize) -> Pace {
        Pace { step: rows, delay: 0 }
    }

    /// That of a convolution whose input comes at this pace; `None` if its stride does not divide the step.
    pub fn of_reader(self, conv: &Conv<'_>) -> Option<Pace> {
        let stride = conv.stride[0];
        let (step, rest) = (self.step.checked_div(stride)?, self.step.checked_rem(stride)?);
        // The last row of a window comes as late as the rows between it and the next window's first are many.
        let behind = self.delay.saturating_add(reach(conv)).saturating_sub(stride.saturating_add(conv.pad[0]));
        (rest == 0 && step > 0).then_some(Pace { step, delay: behind.div_ceil(stride) })
    }

    /// Rows of earlier bands that a convolution with an input of this pace reads, being of pace `reader` itself.
    pub fn kept(self, conv: &Conv<'_>, reader: Pace) -> usize {
        reader.delay.saturating_mul(conv.stride[0]).saturating_add(conv.pad[0]).saturating_sub(self.delay)
    }

    /// The rows of a band, of `rows` in all.
    pub fn rows(self, band: usize, rows: usize) -> Range<usize> {
        self.before(band, rows)..self.before(band.saturating_add(1), rows)
    }

    /// Bands until there are so many rows.
    pub fn bands(self, rows: usize) -> usize {
        rows.saturating_add(self.delay).div_ceil(self.step.max(1))
    }

    /// Bytes in front of a tensor's offset and from there on that hold what a stage has of it: rows that are `kept`,
    /// and those of a band.
    pub fn held(self, shape: Shape, kept: usize) -> (usize, usize) {
        let row = shape.w.saturating_mul(shape.c);
        (kept.saturating_mul(row), self.step.min(shape.h).saturating_mul(row))
    }

    fn before(self, band: usize, rows: usize) -> usize {
        band.saturating_mul(self.step).saturating_sub(self.delay).min(rows)
    }
}

/// A stage's two ends: what it reads whole and what it writes whole.
#[derive(Clone, Copy, Debug)]
pub struct StageEnds<'c, 'a> {
    /// The first layer.
    pub first: &'c Conv<'a>,
    /// Its pace.
    pub from: Pace,
    /// The last layer.
    pub last: &'c Conv<'a>,
    /// Its pace.
    pub to: Pace,
    /// Whether they are one and the same.
    pub is_single: bool,
}

impl StageEnds<'_, '_> {
    /// Bytes that the stage's input must lie above its output at least, for no row to be overwritten that will be
    /// read again: where it is the input's last reader, the two may overlap so far.
    pub fn distance(&self) -> usize {
        // What a band writes must not be read by the next one; of a single layer, not by itself.
        let (ahead, fewer) = if self.is_single { (0, 1) } else { (1, 2) };
        // It grows or falls from band to band, always by the same.
        let excess = |band| self.excess(band, ahead).map_or(usize::MAX, |excess| excess.max(0).unsigned_abs());
        match self.to.bands(self.last.output.h).checked_sub(fewer) {
            Some(last) => excess(0).max(excess(last)),
            None => 0,
        }
    }

    /// Bytes written after a band, beyond those that are not read any more `ahead` bands later; `None` of extents that
    /// no memory has.
    #[inline(never)]
    fn excess(&self, band: usize, ahead: usize) -> Option<isize> {
        let signed = |n: usize| isize::try_from(n).ok();
        let row = |shape: Shape| signed(shape.w.checked_mul(shape.c)?);
        let done = signed(self.to.step.checked_mul(band.checked_add(1)?)?)?.checked_sub(signed(self.to.delay)?)?;
        let step = self.first.stride[0].checked_mul(self.from.step)?;
        let begun = signed(step.checked_mul(band.checked_add(ahead)?)?)?.checked_sub(signed(self.first.pad[0])?)?;
        row(self.last.output)?.checked_mul(done)?.checked_sub(row(self.first.input)?.checked_mul(begun)?)
    }
}

/// Rows that a window spans.
fn reach(conv: &Conv<'_>) -> usize {
    conv.kernel[0].saturating_sub(1).saturating_mul(conv.dilation[0]).saturating_add(1)
}
