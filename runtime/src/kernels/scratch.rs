//! How much scratch a convolution wants: pure arithmetic, the same on every host, since the compiler
//! plans the arena with it.

use super::portable;
use crate::format::{Conv, Layout, PANEL_CHANNELS, PANEL_DEPTH};

/// The most that any kernel, of any instruction set that reads `layout`, wants for this convolution.
pub fn conv_scratch_bytes(conv: &Conv<'_>, layout: Layout) -> usize {
    match layout {
        Layout::Plain => portable::scratch_bytes(conv),
        Layout::Panels => x86_conv(conv).max(aarch64_conv(conv)).max(portable::scratch_bytes(conv)),
    }
}

/// Output pixels that a dense x86 kernel works on at once, at most.
pub(super) const X86_TILE_PIXELS: usize = 12;
/// Bytes of decoded weights for one step of the depth: 16 channels at 16 bits (AVX2), or two panels at 8.
pub(super) const X86_LEVELS: usize = 2 * PANEL_CHANNELS;
/// What kernels may write beyond a buffer, and may skip to reach an aligned address.
pub(super) const X86_SLACK: usize = 64;

/// Bytes of a depthwise cell: 16 channels of a few taps, interleaved.
pub(super) const X86_CELL: usize = 64;
/// Taps of the shortest cell (AVX2's, 16 bits each).
pub(super) const X86_CELL_TAPS_MIN: usize = 2;

/// Bytes that a convolution in [`Layout::Panels`](crate::format::Layout::Panels) wants, the largest need of any
/// instruction set; saturates, so that a hostile shape is merely too large.
pub(super) const fn x86_conv(conv: &Conv<'_>) -> usize {
    let used = if conv.is_depthwise() {
        let levels = conv.kernel[0].saturating_mul(conv.kernel[1]).saturating_mul(PANEL_CHANNELS);
        X86Cells::of(conv, X86_CELL_TAPS_MIN).total().saturating_mul(X86_CELL).saturating_add(levels)
    } else {
        let pixels = conv.output.h.saturating_mul(conv.output.w);
        let (segments, len) = conv.segments();
        let depth = segments.saturating_mul(len.saturating_add(PANEL_DEPTH - 1) / PANEL_DEPTH * PANEL_DEPTH);
        if x86_streams_in_place(conv) {
            return 0;
        }
        match pixels {
            // A window, but no levels: weights are decoded in registers.
            1 => depth,
            2..X86_TILE_PIXELS => depth.saturating_mul(X86_LEVELS + pixels),
            _ => depth.saturating_mul(X86_LEVELS + X86_TILE_PIXELS),
        }
    };
    used.saturating_add(2 * X86_SLACK)
}

/// Whether the output is a single pixel and its window the start of the input, contiguous and whole quads.
pub(super) const fn x86_streams_in_place(conv: &Conv<'_>) -> bool {
    let (segments, len) = conv.segments();
    let [rows, columns] = [reach(conv.kernel[0], conv.dilation[0]), reach(conv.kernel[1], conv.dilation[1])];
    let inside = conv.pad[0] == 0 && conv.pad[1] == 0 && rows <= conv.input.h && columns <= conv.input.w;
    conv.output.h == 1 && conv.output.w == 1 && segments == 1 && len % PANEL_DEPTH == 0 && inside
}

/// Cells that a depthwise kernel keeps: the weights, and a ring of input rows as seen by an output row.
pub(super) struct X86Cells {
    /// Cells of a kernel row, and of an output pixel in a row of the ring.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "for the loop nest; the plan takes the total"))]
    pub(super) columns: usize,
    /// Cells of the weights.
    pub(super) weights: usize,
    /// Cells of a row of the ring.
    pub(super) row: usize,
    /// Rows of the ring: those that one output row spans.
    pub(super) rows: usize,
}

impl X86Cells {
    /// With `taps` to a cell.
    pub(super) const fn of(conv: &Conv<'_>, taps: usize) -> X86Cells {
        let columns = conv.kernel[1].div_ceil(taps);
        X86Cells {
            columns,
            weights: conv.kernel[0].saturating_mul(columns),
            row: conv.output.w.saturating_mul(columns),
            rows: reach(conv.kernel[0], conv.dilation[0]),
        }
    }

    const fn total(&self) -> usize {
        self.rows.saturating_mul(self.row).saturating_add(self.weights)
    }
}

/// Bytes that an AArch64 kernel wants for a convolution in [`Layout::Panels`](crate::format::Layout::Panels), the
/// largest need of its instruction sets; saturates.
pub(super) const fn aarch64_conv(conv: &Conv<'_>) -> usize {
    if !conv.is_depthwise() {
        return 0;
    }
    let [alone, four] = [Aarch64Rows::of(conv, 1).bytes(), Aarch64Rows::of(conv, 4).bytes()];
    if alone > four { alone } else { four }
}

/// What a depthwise AArch64 kernel keeps of 16 channels: a line of input with its padding, a ring of input rows as
/// the kernel multiplies them, the weights.
pub(super) struct Aarch64Rows {
    /// Pixels of the line, 16 bytes each.
    pub(super) line: usize,
    /// Rows of the ring: those that one output row spans.
    pub(super) rows: usize,
    /// Bytes of each.
    pub(super) row_bytes: usize,
    /// Bytes of the weights.
    pub(super) weights: usize,
}

impl Aarch64Rows {
    /// With 16-bit pixels in the ring (`taps` is 1), or cells of so many taps for each output column.
    pub(super) const fn of(conv: &Conv<'_>, taps: usize) -> Aarch64Rows {
        let columns = conv.kernel[1].div_ceil(taps);
        let across = conv.output.w.saturating_sub(1).saturating_mul(conv.stride[1]);
        let line = across.saturating_add(reach(columns.saturating_mul(taps), conv.dilation[1]));
        let (entries, bytes) = match taps {
            1 => (line, 2 * PANEL_CHANNELS),
            _ => (conv.output.w.saturating_mul(columns), taps * PANEL_CHANNELS),
        };
        Aarch64Rows {
            line,
            rows: reach(conv.kernel[0], conv.dilation[0]),
            row_bytes: entries.saturating_mul(bytes),
            weights: conv.kernel[0].saturating_mul(columns).saturating_mul(bytes),
        }
    }

    /// All of it.
    pub(super) const fn bytes(&self) -> usize {
        let ring = self.rows.saturating_mul(self.row_bytes);
        self.line.saturating_mul(PANEL_CHANNELS).saturating_add(ring).saturating_add(self.weights)
    }
}

/// Rows or columns that a window spans.
pub(super) const fn reach(kernel: usize, dilation: usize) -> usize {
    kernel.saturating_sub(1).saturating_mul(dilation).saturating_add(1)
}
