//! How much scratch a convolution wants: pure arithmetic, the same on every host, since the compiler
//! plans the arena with it.

use super::lookup::Lookups;
use super::portable;
use crate::format::{Conv, Layout, PANEL_CHANNELS, PANEL_DEPTH, WeightFormat};

/// The most that any kernel, of any instruction set that reads `layout`, wants for this convolution and a
/// weight group of this format; its other groups may want more.
pub fn conv_scratch_bytes(conv: &Conv<'_>, layout: Layout, format: WeightFormat) -> usize {
    match layout {
        Layout::Plain => portable::scratch_bytes(conv),
        Layout::Panels => panels(conv, format).max(portable::scratch_bytes(conv)),
        Layout::Lookup => {
            Lookups::of(conv, format).map_or(0, |lookups| lookups.scratch_bytes()).max(portable::scratch_bytes(conv))
        }
    }
}

/// Bytes that the kernels which read [`Layout::Panels`] want, the largest need of any instruction set;
/// saturates, so that a hostile shape is merely too large.
pub(super) const fn panels(conv: &Conv<'_>, format: WeightFormat) -> usize {
    if conv.is_depthwise() { x86_depthwise(conv) } else { dense(conv, format) }
}

/// Alignment of what kernels keep in scratch: a cache line.
pub(super) const ALIGN: usize = 64;
/// What a kernel may skip to reach an aligned address, and write beyond a buffer.
pub(super) const X86_SLACK: usize = ALIGN;

/// Panels that a dense kernel decodes at once, at most.
pub(super) const DECODED_PANELS: usize = 2;
/// Bytes of a strip of input rows that a dense kernel copies at once, unless one row of windows takes more.
const STRIP_BYTES: usize = 4096;

/// Whether a dense kernel decodes weights of a format to scratch: codes of 8 bits are levels already.
pub(super) const fn decodes(format: WeightFormat) -> bool {
    format.bits() < 8
}

/// What dense kernels want: a strip of input rows and the levels of a few panels.
const fn dense(conv: &Conv<'_>, format: WeightFormat) -> usize {
    let (segments, len) = conv.segments();
    let depth = segments.saturating_mul(len.div_ceil(PANEL_DEPTH)).saturating_mul(PANEL_DEPTH);
    let used = if conv.output.h == 1 && conv.output.w == 1 {
        // A window, but no levels: weights are decoded in registers.
        if streams_in_place(conv) { 0 } else { depth }
    } else {
        let panels = conv.output.c.div_ceil(PANEL_CHANNELS);
        let panels = if panels < DECODED_PANELS { panels } else { DECODED_PANELS };
        let levels = if decodes(format) { depth.saturating_mul(panels * PANEL_CHANNELS) } else { 0 };
        let strip = match Strip::of(conv) {
            Some(strip) => strip.bytes(),
            None => 0,
        };
        levels.saturating_add(strip)
    };
    if used == 0 { 0 } else { used.saturating_add(ALIGN) }
}

/// Whether every window lies inside the input, segments being whole quads.
const fn reads_in_place(conv: &Conv<'_>) -> bool {
    let (_, len) = conv.segments();
    let [h, w] = [padded(conv, 0, conv.output.h), padded(conv, 1, conv.output.w)];
    len.is_multiple_of(PANEL_DEPTH) && conv.pad[0] == 0 && conv.pad[1] == 0 && h <= conv.input.h && w <= conv.input.w
}

/// Whether the output is a single pixel and its window the start of the input, contiguous and whole quads.
pub(super) const fn streams_in_place(conv: &Conv<'_>) -> bool {
    let (segments, _) = conv.segments();
    segments == 1 && conv.output.h == 1 && conv.output.w == 1 && reads_in_place(conv)
}

/// Rows or columns that so many windows span, along an axis.
pub(super) const fn padded(conv: &Conv<'_>, axis: usize, windows: usize) -> usize {
    let steps = windows.saturating_sub(1).saturating_mul(conv.stride[axis]);
    steps.saturating_add(reach(conv.kernel[axis], conv.dilation[axis]))
}

/// Rows of input with what surrounds them, as so many rows of windows read them.
pub(super) struct Strip {
    /// Bytes of a row.
    pub(super) pitch: usize,
    /// Rows of output that it serves.
    pub(super) outputs: usize,
    /// Rows.
    rows: usize,
}

impl Strip {
    /// `None` when windows can be read where they lie.
    pub(super) const fn of(conv: &Conv<'_>) -> Option<Strip> {
        if reads_in_place(conv) {
            return None;
        }
        let pitch = padded(conv, 1, conv.output.w).saturating_mul(conv.input.c);
        let fitting =
            (STRIP_BYTES / pitch).saturating_sub(reach(conv.kernel[0], conv.dilation[0])) / conv.stride[0] + 1;
        // As many strips as there must be, of equal size.
        let outputs = conv.output.h.div_ceil(conv.output.h.div_ceil(fitting));
        Some(Strip { pitch, outputs, rows: padded(conv, 0, outputs) })
    }

    /// Bytes of all rows, and of those beyond the last that padding to whole quads reads.
    pub(super) const fn bytes(&self) -> usize {
        self.rows.saturating_mul(self.pitch).saturating_add(PANEL_DEPTH - 1 + ALIGN - 1) / ALIGN * ALIGN
    }
}

/// Bytes of a depthwise cell: 16 channels of a few taps, interleaved.
pub(super) const X86_CELL: usize = 64;
/// Taps of the shortest cell (AVX2's, 16 bits each).
pub(super) const X86_CELL_TAPS_MIN: usize = 2;

/// What depthwise kernels want.
pub(super) const fn x86_depthwise(conv: &Conv<'_>) -> usize {
    let levels = conv.kernel[0].saturating_mul(conv.kernel[1]).saturating_mul(PANEL_CHANNELS);
    let cells = X86Cells::of(conv, X86_CELL_TAPS_MIN).total().saturating_mul(X86_CELL);
    cells.saturating_add(levels).saturating_add(2 * X86_SLACK)
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

/// Rows or columns that a window spans.
pub(super) const fn reach(kernel: usize, dilation: usize) -> usize {
    kernel.saturating_sub(1).saturating_mul(dilation).saturating_add(1)
}
