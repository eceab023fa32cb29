//! How much scratch a convolution wants: pure arithmetic, the same on every host, since the compiler
//! plans the arena with it.

use super::portable;
use crate::format::{Conv, Layout, PANEL_CHANNELS, PANEL_DEPTH};

/// The most that any kernel, of any instruction set that reads `layout`, wants for this convolution.
pub fn conv_scratch_bytes(conv: &Conv<'_>, layout: Layout) -> usize {
    match layout {
        Layout::Plain => portable::scratch_bytes(conv),
        Layout::Panels => x86_conv(conv).max(portable::scratch_bytes(conv)),
    }
}

/// Output pixels that a dense x86 kernel works on at once, at most.
pub(super) const X86_TILE_PIXELS: usize = 12;
/// Bytes of decoded weights for one step of the depth: 16 channels at 16 bits (AVX2), or two panels at 8.
pub(super) const X86_LEVELS: usize = 2 * PANEL_CHANNELS;
/// What kernels may write beyond a buffer, and may skip to reach an aligned address.
pub(super) const X86_SLACK: usize = 64;

/// Bytes of the widest vector of a depthwise kernel.
pub(super) const X86_STRIP: usize = 64;
/// Bytes of the levels of four rows for a vector of lanes: 64 at 8 bits, or 32 at 16 (AVX2).
pub(super) const X86_CELLS: usize = 256;
/// Bytes that a panel may reach beyond the lanes that it meets.
pub(super) const X86_MARGIN: usize = PANEL_CHANNELS;

/// Bytes that a convolution in [`Layout::Panels`](crate::format::Layout::Panels) wants, the largest need of any
/// instruction set; saturates, so that a hostile shape is merely too large.
pub(super) const fn x86_conv(conv: &Conv<'_>) -> usize {
    let used = if conv.is_depthwise() {
        let [wide, narrow] = [X86Depthwise::of(conv, X86_STRIP).total(), X86Depthwise::of(conv, X86_STRIP / 2).total()];
        most(wide, narrow)
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

/// What a depthwise kernel keeps for a strip of lanes: interleaved levels, and a ring of padded input rows.
pub(super) struct X86Depthwise {
    /// Channels of a strip, and neighbouring pixels.
    pub(super) channels: usize,
    pub(super) pixels: usize,
    /// Output rows computed at once: two if their windows take no more quads of rows than one.
    pub(super) together: usize,
    /// Quads of rows.
    pub(super) quads: usize,
    /// Whether rows are read from the input itself: a strip has one pixel, and a kernel three rows and columns.
    /// The ring is a vector of padding then.
    pub(super) direct: bool,
    /// Rows of the ring.
    pub(super) rows: usize,
    /// Bytes of the pixels of a row that are a multiple of the stride apart.
    pub(super) phase: usize,
    kernel: [usize; 2],
    phases: usize,
}

impl X86Depthwise {
    /// With `lanes` bytes to a vector.
    pub(super) const fn of(conv: &Conv<'_>, lanes: usize) -> X86Depthwise {
        let channels = least(most(conv.input.c, 1), lanes);
        let [kernel, stride, dilation] = [conv.kernel, conv.stride, conv.dilation];
        let quads = kernel[0].div_ceil(4);
        let fits = kernel[0].saturating_add(stride[0]) <= quads.saturating_mul(4);
        let together = if fits && dilation[0] == 1 && conv.output.h > 1 { 2 } else { 1 };
        let width = conv.output.w.saturating_sub(1).saturating_mul(stride[1]).saturating_add(reach(kernel[1], dilation[1]));
        let direct = channels == lanes && kernel[0] == 3 && kernel[1] == 3 && dilation[0] == 1 && dilation[1] == 1;
        X86Depthwise {
            direct,
            channels,
            pixels: lanes / channels,
            together,
            quads,
            rows: reach(kernel[0], dilation[0]).saturating_add((together - 1) * stride[0]),
            phase: width.div_ceil(most(stride[1], 1)).saturating_mul(channels),
            kernel,
            phases: stride[1],
        }
    }

    /// Bytes of a row of the ring.
    pub(super) const fn row(&self) -> usize {
        self.phases.saturating_mul(self.phase)
    }

    /// Bytes of the ring.
    pub(super) const fn ring(&self) -> usize {
        if self.direct { self.channels } else { self.rows.saturating_mul(self.row()) }
    }

    /// Bytes of the interleaved levels.
    pub(super) const fn weights(&self) -> usize {
        (self.together * X86_CELLS).saturating_mul(self.quads).saturating_mul(self.kernel[1])
    }

    /// Bytes of the levels before that: where the ring will be.
    const fn levels(&self) -> usize {
        (X86_STRIP + 2 * X86_MARGIN).saturating_mul(self.kernel[0]).saturating_mul(self.kernel[1])
    }

    /// All of it, a vector may be read that begins at the end.
    const fn total(&self) -> usize {
        most(self.ring().saturating_add(X86_STRIP), self.levels()).saturating_add(self.weights())
    }
}

const fn least(a: usize, b: usize) -> usize {
    if a < b { a } else { b }
}

const fn most(a: usize, b: usize) -> usize {
    if a > b { a } else { b }
}

/// Rows or columns that a window spans.
pub(super) const fn reach(kernel: usize, dilation: usize) -> usize {
    kernel.saturating_sub(1).saturating_mul(dilation).saturating_add(1)
}
