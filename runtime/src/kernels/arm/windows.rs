//! Where windows lie.

use core::num::NonZero;

use crate::format::Conv;

/// Which windows of a convolution lie inside the input.
#[derive(Clone, Copy)]
pub(super) struct Windows {
    /// Rows of output, and columns, whose windows do: the first, and how many.
    inside: [(usize, usize); 2],
}

impl Windows {
    #[inline(never)]
    pub(super) fn of(conv: &Conv<'_>) -> Windows {
        let along = |axis: usize, size: usize, outputs: usize| {
            let (stride, pad) = (conv.stride[axis], conv.pad[axis]);
            let reach = (conv.kernel[axis] - 1) * conv.dilation[axis] + 1;
            let stride = NonZero::new(stride).unwrap_or(NonZero::<usize>::MIN);
            let first = (pad + stride.get() - 1) / stride;
            let end = (size + pad).checked_sub(reach).map_or(0, |last| last / stride + 1).min(outputs);
            (first, end.saturating_sub(first))
        };
        let inside = [along(0, conv.input.h, conv.output.h), along(1, conv.input.w, conv.output.w)];
        Windows { inside }
    }

    /// Whether the window of an output pixel is one of them.
    #[inline(always)]
    pub(super) fn is_inside(&self, [y, x]: [usize; 2]) -> bool {
        let [rows, columns] = self.inside;
        y.wrapping_sub(rows.0) < rows.1 && x.wrapping_sub(columns.0) < columns.1
    }

    /// How many pixels of a row, from this one on, are such that their windows do.
    #[inline(always)]
    pub(super) fn inside_from(&self, [y, x]: [usize; 2]) -> usize {
        let [_, columns] = self.inside;
        if self.is_inside([y, x]) { columns.0 + columns.1 - x } else { 0 }
    }

    /// Where a tap of the window of an output pixel reads; `None` outside the input.
    #[inline(always)]
    pub(super) fn source(&self, p: &Conv<'_>, pixel: [usize; 2], tap: [usize; 2]) -> Option<[usize; 2]> {
        let along =
            |axis: usize| (pixel[axis] * p.stride[axis] + tap[axis] * p.dilation[axis]).wrapping_sub(p.pad[axis]);
        let [y, x] = [along(0), along(1)];
        (y < p.input.h && x < p.input.w).then_some([y, x])
    }
}
