//! How much scratch a convolution wants: pure arithmetic, the same on every host, since the compiler
//! plans the arena with it.

use super::portable;
use crate::format::{Conv, Layout, PANEL_CHANNELS, PANEL_DEPTH};

/// The most that any kernel, of any instruction set that reads `layout`, wants for this convolution.
pub fn conv_scratch_bytes(conv: &Conv<'_>, layout: Layout) -> usize {
    match layout {
        Layout::Plain => portable::scratch_bytes(conv),
        Layout::X86 => x86_conv(conv).max(portable::scratch_bytes(conv)),
    }
}

/// Output pixels that a dense x86 kernel works on at once, at most.
pub(super) const X86_TILE_PIXELS: usize = 12;
/// Bytes of decoded weights for one step of the depth: 16 channels at 16 bits (AVX2), or two panels at 8.
pub(super) const X86_LEVELS: usize = 2 * PANEL_CHANNELS;
/// What kernels may write beyond a buffer, and may skip to reach an aligned address.
pub(super) const X86_SLACK: usize = 64;

/// Bytes of a cell: 16 channels of a few neighbouring pixels, interleaved.
pub(super) const X86_CELL: usize = 64;

/// Bytes that a convolution in [`Layout::X86`](crate::format::Layout::X86) wants, the largest need of any
/// instruction set; saturates, so that a hostile shape is merely too large.
pub(super) const fn x86_conv(conv: &Conv<'_>) -> usize {
    let used = if conv.is_depthwise() {
        let levels = conv.kernel[0].saturating_mul(conv.kernel[1]).saturating_mul(PANEL_CHANNELS);
        let [quads, pairs] = [X86Cells::of(conv, 4), X86Cells::of(conv, 2)];
        let cells = if quads.total() > pairs.total() { quads.total() } else { pairs.total() };
        cells.saturating_mul(X86_CELL).saturating_add(levels)
    } else {
        let pixels = conv.output.h.saturating_mul(conv.output.w);
        let pixels = if pixels < X86_TILE_PIXELS { pixels } else { X86_TILE_PIXELS };
        let (segments, len) = conv.segments();
        let depth = segments.saturating_mul(len.saturating_add(PANEL_DEPTH - 1) / PANEL_DEPTH * PANEL_DEPTH);
        depth.saturating_mul(X86_LEVELS + pixels)
    };
    used.saturating_add(2 * X86_SLACK)
}

/// Cells that a depthwise kernel keeps: a ring of input rows, and the weights at each alignment to a cell.
pub(super) struct X86Cells {
    /// Rows of the ring: those that one output row reads.
    pub(super) rows: usize,
    /// Cells of a row of the ring: the columns that a row of output reads.
    pub(super) row: usize,
    /// Cells of the weights at one alignment.
    pub(super) alignment: usize,
    pixels: usize,
}

impl X86Cells {
    /// With `pixels` to a cell.
    pub(super) const fn of(conv: &Conv<'_>, pixels: usize) -> X86Cells {
        let columns = reach(conv.kernel[1], conv.dilation[1]);
        let span = conv.output.w.saturating_sub(1).saturating_mul(conv.stride[1]).saturating_add(columns);
        let weights = columns.saturating_add(2 * pixels - 2) / pixels;
        X86Cells {
            rows: reach(conv.kernel[0], conv.dilation[0]),
            row: span.saturating_add(pixels - 1) / pixels,
            alignment: conv.kernel[0].saturating_mul(weights),
            pixels,
        }
    }

    /// All cells.
    pub(super) const fn total(&self) -> usize {
        self.rows.saturating_mul(self.row).saturating_add(self.alignment.saturating_mul(self.pixels))
    }
}

/// Rows or columns that a window spans.
pub(super) const fn reach(kernel: usize, dilation: usize) -> usize {
    kernel.saturating_sub(1).saturating_mul(dilation).saturating_add(1)
}
