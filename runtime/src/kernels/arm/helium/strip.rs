//! Windows brought together: the columns of a row of them, so that each is a run of codes.

use core::arch::naked_asm;

use crate::format::Conv;
use crate::kernels::vectors::Columns;

/// The windows of a row of output.
pub(super) struct Strip<'a> {
    conv: &'a Conv<'a>,
    input: &'a [u8],
    columns: Columns,
    windows: &'a mut [u8],
    /// A pixel of padding.
    edge: &'a [u8],
}

impl<'a> Strip<'a> {
    /// With what [`Dense`](crate::kernels::vectors::Dense) plans for; `None` if something is too short.
    pub(super) fn new(
        conv: &'a Conv<'a>,
        input: &'a [u8],
        columns: Columns,
        windows: &'a mut [u8],
        edge: &'a mut [u8],
    ) -> Option<Strip<'a>> {
        let fits = input.len() == conv.input.len() && windows.len() >= columns.bytes() && edge.len() >= conv.input.c;
        windows.fill(conv.zero_in);
        edge.fill(conv.zero_in);
        fits.then_some(Strip { conv, input, columns, windows, edge })
    }

    /// Bytes from window to window.
    pub(super) fn pitch(&self) -> usize {
        self.columns.step * self.columns.column
    }

    /// The windows of an output row.
    pub(super) fn row(&mut self, y: usize) -> &[u8] {
        let (p, c) = (self.conv, self.conv.input.c);
        let Columns { column, step, run, stride, runs } = self.columns;
        let stride = stride.max(1);
        let to_step = if runs == 1 { column } else { step * column };
        for series in 0..runs {
            // Columns of the series, counted from the edge of the padding on, that lie inside the input.
            let first = series * p.dilation[1];
            let before = p.pad[1].saturating_sub(first).div_ceil(stride).min(run);
            let end = (p.input.w + p.pad[1]).saturating_sub(first).div_ceil(stride).min(run);
            if before >= end {
                continue;
            }
            let x = first + before * stride - p.pad[1];
            for ky in 0..p.kernel[0] {
                let iy = (y * p.stride[0] + ky * p.dilation[0]).wrapping_sub(p.pad[0]);
                let (from, from_step) = if iy < p.input.h {
                    (self.input.as_ptr().wrapping_add((iy * p.input.w + x) * c), stride * c)
                } else {
                    (self.edge.as_ptr(), 0)
                };
                let to = self.windows.as_mut_ptr().wrapping_add(series * column + before * to_step + ky * c);
                let copies = Copies { from_step, to_step, bytes: c };
                // SAFETY: these columns of the input are inside it, and those of the strip inside that.
                unsafe { copy(from, to, end - before, &copies) };
            }
        }
        self.windows
    }
}

/// Copies of runs of bytes, one at least.
#[repr(C)]
struct Copies {
    /// Bytes from run to run.
    from_step: usize,
    to_step: usize,
    /// Of a run.
    bytes: usize,
}

/// Copies so many runs, one at least.
///
/// # Safety
/// The runs can be read, and where they go be written.
#[unsafe(naked)]
unsafe extern "C" fn copy(from: *const u8, to: *mut u8, count: usize, copies: &Copies) {
    naked_asm!(
        helium!(),
        "push {{r4-r7, lr}}",
        "ldm r3, {{r3, r4, r5}}",
        "10:",
        "mov r6, r0",
        "mov r7, r1",
        "dlstp.8 lr, r5",
        "20:",
        "vldrb.u8 q0, [r6], #16",
        "vstrb.8 q0, [r7], #16",
        "letp lr, 20b",
        "add r0, r0, r3",
        "add r1, r1, r4",
        "subs r2, r2, #1",
        "bne 10b",
        "pop {{r4-r7, pc}}",
    )
}
