//! A convolution by rows: some rows of its output are a convolution of some rows of its input.

use core::ops::Range;

use super::{Conv, Shape};

/// Some rows of the output of a convolution.
#[derive(Clone, Debug)]
pub struct Part<'a> {
    /// What computes them, of the same weights; it adds if the whole does.
    pub conv: Conv<'a>,
    /// Bytes of the whole input that it reads: none where all windows lie in the padding.
    pub input: Range<usize>,
    /// Bytes of the whole output that it writes.
    pub output: Range<usize>,
}

impl<'a> Conv<'a> {
    /// The part that computes `rows` of the output, as far as there are such rows.
    #[cfg_attr(not(target_os = "none"), inline)]
    #[cfg_attr(target_os = "none", inline(never))]
    pub fn part(&self, rows: Range<usize>) -> Part<'a> {
        let first = rows.start.min(self.output.h);
        let count = rows.end.min(self.output.h).saturating_sub(first);
        // Rows of the padded input that the windows span.
        let top = first.saturating_mul(self.stride[0]);
        let steps = count.saturating_sub(1).saturating_mul(self.stride[0]);
        let window = self.kernel[0].saturating_sub(1).saturating_mul(self.dilation[0]).saturating_add(1);
        let bottom = top.saturating_add(steps).saturating_add(window);
        let inside = |row: usize| row.saturating_sub(self.pad[0]).min(self.input.h);
        let (from, to) = (inside(top), inside(bottom));
        let mut conv = *self;
        (conv.input.h, conv.output.h, conv.pad[0]) = (to - from, count, self.pad[0].saturating_sub(top));
        let bytes = |shape: Shape, rows: Range<usize>| {
            let row = shape.w.saturating_mul(shape.c);
            rows.start.saturating_mul(row)..rows.end.saturating_mul(row)
        };
        Part { conv, input: bytes(self.input, from..to), output: bytes(self.output, first..first + count) }
    }

    /// All of it, so many rows at a time.
    pub fn parts(&self, rows: usize) -> impl Iterator<Item = Part<'a>> + use<'a> {
        let whole = *self;
        (0..self.output.h).step_by(rows.max(1)).map(move |first| whole.part(first..first.saturating_add(rows)))
    }
}
