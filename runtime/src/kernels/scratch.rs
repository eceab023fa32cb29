//! How much scratch a convolution wants: pure arithmetic, the same on every host, since the compiler
//! plans the arena with it.

use super::planes::Planes;
use super::polynomial::Polynomial;
use super::{KernelSet, portable, residual, scalar, vectors};
use crate::format::{
    Conv, Layout, PANEL_CHANNELS, PANEL_DEPTH, SPARSE_WINDOW, WORD_CHANNELS, WORD_CODES, WeightFormat, WeightGroup,
};

/// The most that any kernel that blobs plan for, of any instruction set that reads `layout`, wants for this
/// convolution and a weight group of this format; its other groups may want more.
pub fn conv_scratch_bytes(conv: &Conv<'_>, layout: Layout, format: WeightFormat) -> usize {
    if conv.residual.is_some() {
        let adding = match layout {
            Layout::Panels if !conv.is_depthwise() => dense(conv, format),
            Layout::Words => packed(conv, format),
            _ => 0,
        };
        return residual::scratch_bytes(conv, |strip| conv_scratch_bytes(strip, layout, format)).max(adding);
    }
    match layout {
        Layout::Sparse => portable::scratch_bytes(conv).max(sparse(conv)),
        Layout::Plain => portable::scratch_bytes(conv).max(scalar::scratch_bytes(conv, format)),
        Layout::Words => packed(conv, format).max(words(conv, format)),
        Layout::Vectors => vectors::scratch_bytes(conv, format),
        Layout::Panels => panels(conv, format).max(portable::scratch_bytes(conv)),
        Layout::Planes => {
            let planes = Planes::of(conv).map_or(0, |planes| planes.scratch_bytes(conv, format));
            planes.max(portable::scratch_bytes(conv))
        }
    }
}

/// What packed multiplication wants, where it is used.
fn packed(conv: &Conv<'_>, format: WeightFormat) -> usize {
    Polynomial::of(conv, format).map_or(0, |plan| plan.scratch_bytes(conv))
}

/// What the kernels of an instruction set want for this convolution: the largest need of its weight groups.
#[cfg_attr(
    not(any(target_arch = "x86_64", target_arch = "aarch64", pare_dsp)),
    allow(dead_code, reason = "for kernels of an instruction set")
)]
pub(super) fn of_groups(conv: &Conv<'_>) -> usize {
    let wanted = |group: WeightGroup<'_>| match group.layout {
        Layout::Words if linked(Layout::Words) => words(conv, group.format),
        Layout::Panels if linked(Layout::Panels) => panels(conv, group.format),
        Layout::Planes if linked(Layout::Planes) => {
            Planes::of(conv).map_or(0, |planes| planes.scratch_bytes(conv, group.format))
        }
        Layout::Vectors if linked(Layout::Vectors) => vectors::scratch_bytes(conv, group.format),
        Layout::Sparse if linked(Layout::Sparse) => sparse(conv),
        _ => 0,
    };
    conv.weight_groups().map(wanted).max().unwrap_or(0)
}

const fn linked(layout: Layout) -> bool {
    KernelSet::LINKED.has_dense(layout) || KernelSet::LINKED.has_depthwise(layout)
}

/// Whether blobs plan for what the portable kernels want of weights in `layout`. Not on microcontrollers, whose memory
/// is dear and which have kernels of their own; a host that runs their blobs has memory to spare.
pub(super) const fn plans_for_portable(layout: Layout) -> bool {
    !matches!(layout, Layout::Words | Layout::Vectors)
}

/// Bytes that the kernels which read [`Layout::Panels`] want, the largest need of any instruction set;
/// saturates, so that a hostile shape is merely too large.
pub(super) const fn panels(conv: &Conv<'_>, format: WeightFormat) -> usize {
    if !conv.is_depthwise() {
        return dense(conv, format);
    }
    let (x86, aarch64) = (x86_depthwise(conv), aarch64_depthwise(conv));
    if x86 > aarch64 { x86 } else { aarch64 }
}

/// What sparse kernels want: a window to copy pixels to that are shorter than it.
pub(super) const fn sparse(conv: &Conv<'_>) -> usize {
    if conv.input.c < SPARSE_WINDOW { SPARSE_WINDOW } else { 0 }
}

/// Alignment of what kernels keep in scratch: a cache line.
pub(super) const ALIGN: usize = 64;
/// What a kernel may skip to reach an aligned address, and write beyond a buffer.
pub(super) const X86_SLACK: usize = ALIGN;

/// Panels that a dense kernel decodes at once, at most.
pub(super) const DECODED_PANELS: usize = 2;
/// Bytes of a strip of input rows that a dense kernel copies at once, unless one row of windows takes more.
const STRIP_BYTES: usize = 8192;

/// Whether a dense kernel decodes weights of a format to scratch: codes of 8 bits are levels already.
pub(super) const fn decodes(format: WeightFormat) -> bool {
    KernelSet::LINKED.has_narrow_formats() && format.bits() < 8
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
    let used = used.saturating_add(sums(conv));
    if used == 0 { 0 } else { used.saturating_add(ALIGN) }
}

/// Bytes of the codes that a dense kernel adds at once, where it adds.
pub(super) const fn sums(conv: &Conv<'_>) -> usize {
    match conv.residual {
        Some(_) => aligned(residual::strip_bytes(conv)),
        None => 0,
    }
}

/// Whether every window lies inside the input, segments being whole quads.
const fn reads_in_place(conv: &Conv<'_>) -> bool {
    let (_, len) = conv.segments();
    len.is_multiple_of(PANEL_DEPTH) && reads_inside(conv)
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
#[cfg_attr(
    not(any(target_arch = "x86_64", target_arch = "aarch64")),
    allow(dead_code, reason = "for the loop nest; the plan takes the total")
)]
pub(super) struct Strip {
    /// Bytes of a row.
    pub(super) pitch: usize,
    /// Rows of output that it serves.
    pub(super) outputs: usize,
    /// Rows.
    pub(super) rows: usize,
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
        // As many strips as there must be, of equal size; where codes are added, theirs.
        let outputs = match conv.residual {
            Some(_) => residual::strip_rows(conv),
            None => conv.output.h.div_ceil(conv.output.h.div_ceil(fitting)),
        };
        Some(Strip { pitch, outputs, rows: padded(conv, 0, outputs) })
    }

    /// Bytes of all rows, and of those beyond the last that padding to whole quads reads.
    pub(super) const fn bytes(&self) -> usize {
        self.rows.saturating_mul(self.pitch).saturating_add(PANEL_DEPTH - 1 + ALIGN - 1) / ALIGN * ALIGN
    }
}

/// Bytes of the widest vector of a depthwise kernel.
pub(super) const X86_STRIP: usize = 64;
/// Bytes of the levels of four rows for a vector of lanes: 64 at 8 bits, or 32 at 16 (AVX2).
pub(super) const X86_CELLS: usize = 256;
/// Bytes that a panel may reach beyond the lanes that it meets.
pub(super) const X86_MARGIN: usize = PANEL_CHANNELS;

/// What depthwise kernels want: narrower vectors want no more than the widest.
pub(super) const fn x86_depthwise(conv: &Conv<'_>) -> usize {
    most(X86Depthwise::of(conv, X86_STRIP).total(), conv.input.w.saturating_mul(conv.input.c)).saturating_add(X86_SLACK)
}

/// What a depthwise kernel keeps for a strip of lanes: interleaved levels, and a ring of padded input rows.
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "for the kernels; the plan needs the rest"))]
pub(super) struct X86Depthwise {
    /// Bytes of a vector.
    pub(super) lanes: usize,
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
        let width =
            conv.output.w.saturating_sub(1).saturating_mul(stride[1]).saturating_add(reach(kernel[1], dilation[1]));
        let direct = channels == lanes && kernel[0] == 3 && kernel[1] == 3 && dilation[0] == 1 && dilation[1] == 1;
        X86Depthwise {
            lanes,
            direct,
            channels,
            pixels: lanes / channels,
            together,
            quads,
            rows: reach(kernel[0], dilation[0]).saturating_add((together - 1) * stride[0]),
            phase: aligned(width.div_ceil(most(stride[1], 1)).saturating_mul(channels)),
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
    pub(super) const fn total(&self) -> usize {
        most(self.ring().saturating_add(X86_STRIP), self.levels()).saturating_add(self.weights())
    }
}

/// The next whole number of cache lines.
const fn aligned(bytes: usize) -> usize {
    bytes.saturating_add(ALIGN - 1) / ALIGN * ALIGN
}

const fn least(a: usize, b: usize) -> usize {
    if a < b { a } else { b }
}

pub(super) const fn most(a: usize, b: usize) -> usize {
    if a > b { a } else { b }
}

/// What depthwise AArch64 kernels want.
const fn aarch64_depthwise(conv: &Conv<'_>) -> usize {
    let [alone, four] = [Aarch64Rows::of(conv, 1).bytes(), Aarch64Rows::of(conv, 4).bytes()];
    if alone > four { alone } else { four }
}

/// What a depthwise AArch64 kernel keeps of 16 channels: a ring of padded input rows, cells of a few rows together,
/// the weights in the same form.
pub(super) struct Aarch64Rows {
    /// Pixels of a row, 16 bytes each.
    pub(super) line: usize,
    /// Rows of the ring: those that one output row spans.
    pub(super) rows: usize,
    /// Bytes of the cells.
    pub(super) cells: usize,
    /// Bytes of the weights.
    pub(super) weights: usize,
}

impl Aarch64Rows {
    /// With so many rows to a cell; a single row needs none.
    pub(super) const fn of(conv: &Conv<'_>, together: usize) -> Aarch64Rows {
        let line = padded(conv, 1, conv.output.w);
        let cells = if together == 1 { 0 } else { conv.kernel[0].div_ceil(together) };
        let taps = conv.kernel[0].next_multiple_of(together).saturating_mul(conv.kernel[1]);
        Aarch64Rows {
            line,
            rows: reach(conv.kernel[0], conv.dilation[0]),
            cells: cells.saturating_mul(line).saturating_mul(together * PANEL_CHANNELS),
            weights: taps.saturating_mul(PANEL_CHANNELS),
        }
    }

    /// All of it.
    pub(super) const fn bytes(&self) -> usize {
        let ring = self.rows.saturating_mul(self.line).saturating_mul(PANEL_CHANNELS);
        ring.saturating_add(self.cells).saturating_add(self.weights)
    }
}

/// Bytes that the kernels which read [`Layout::Words`] want.
pub(super) const fn words(conv: &Conv<'_>, format: WeightFormat) -> usize {
    let used = match conv.is_depthwise() {
        true if KernelSet::LINKED.has_depthwise(Layout::Words) => WordDepthwise::of(conv).total(),
        false if KernelSet::LINKED.has_dense(Layout::Words) => WordDense::of(conv, format).total(),
        _ => 0,
    };
    if used == 0 { 0 } else { used.saturating_add(align_of::<WordAlign>() - 1) }
}

/// What the scratch of those kernels is aligned to.
pub(super) type WordAlign = u32;

/// Memory from its first aligned byte on.
#[cfg(pare_dsp)]
pub(super) fn aligned_words(bytes: &mut [u8]) -> &mut [u8] {
    let skip = bytes.as_ptr().align_offset(align_of::<WordAlign>());
    bytes.get_mut(skip..).unwrap_or_default()
}

/// Bytes of the bias and the multiplier of a channel.
const NUMBERS: usize = 2 * size_of::<i32>();

/// Codes of a channel in a step of the kernel that multiplies weights as they are coded.
pub(super) const STREAM_CODES: usize = 8;

/// What a dense kernel of [`Layout::Words`] keeps.
pub(super) struct WordDense {
    /// Bytes of the windows of a tile, or of one by itself, two for each code; 0 where they lie elsewhere.
    pub(super) windows: usize,
    /// Bytes of a pixel of padding, or of copies of windows.
    pub(super) edges: usize,
    /// Bytes of the biases and multipliers of copied levels.
    pub(super) numbers: usize,
    /// Bytes of decoded or copied levels; 0 where these are read as they lie.
    pub(super) levels: usize,
}

impl WordDense {
    /// Windows of a tile.
    const WINDOWS: usize = 3;
    /// Bytes of levels that are decoded at once, unless a pair of channels takes more.
    const LEVELS: usize = 2048;
    /// Bytes of levels of 8 bits that are copied at once, at most: flash keeps the core waiting whenever they are read.
    const COPIED: usize = 2560;
    /// Pairs of channels that are copied at once, at least, unless these are all.
    const COPIED_PAIRS: usize = 8;

    pub(super) const fn of(conv: &Conv<'_>, format: WeightFormat) -> WordDense {
        let depth = conv.depth().div_ceil(WORD_CODES).saturating_mul(WORD_CODES);
        if WordDense::streams(conv, format) {
            let edges = if WordDense::reads_in_place(conv) { 0 } else { depth };
            return WordDense { windows: depth.saturating_mul(2), edges, numbers: 0, levels: 0 };
        }
        let (pair, pairs) = (depth.saturating_mul(WORD_CHANNELS), conv.output.c.div_ceil(WORD_CHANNELS));
        let (numbers, levels) = if decodes(format) {
            (0, pair.saturating_mul(least(most(WordDense::LEVELS / most(pair, 1), 1), pairs)))
        } else {
            // A block that is copied is worth that windows are gathered again for it.
            let copied = least(WordDense::COPIED / most(pair, 1), pairs);
            let pays = copied >= least(WordDense::COPIED_PAIRS, pairs) && WordDense::is_reused(conv);
            if pays { (copied * WORD_CHANNELS * NUMBERS, pair.saturating_mul(copied)) } else { (0, 0) }
        };
        let (windows, edges) = if !WordDense::is_tiled(conv) {
            (0, if WordDense::reads_in_place(conv) { 0 } else { depth })
        } else {
            let edges = if !conv.input.c.is_multiple_of(WORD_CODES) {
                depth.saturating_mul(WordDense::WINDOWS)
            } else if reads_inside(conv) {
                0
            } else {
                conv.input.c
            };
            let in_tail = levels == 0 && WordDense::is_tailed(conv);
            (if in_tail { 0 } else { WordDense::tile_bytes(conv) }, edges)
        };
        WordDense { windows, edges, numbers, levels }
    }

    /// Bytes of the windows of a tile, and of their sums.
    #[cfg_attr(not(target_os = "none"), inline)]
    #[cfg_attr(target_os = "none", inline(never))]
    pub(super) const fn tile_bytes(conv: &Conv<'_>) -> usize {
        let depth = conv.depth().div_ceil(WORD_CODES).saturating_mul(WORD_CODES);
        depth.saturating_mul(2).saturating_add(size_of::<u32>()).saturating_mul(WordDense::WINDOWS)
    }

    /// Whether the windows of a tile lie in the end of the output, which is memory too until it is written: where that
    /// is a small part of it, since its pixels are done one by one, and windows need not be copied for that.
    #[cfg_attr(not(target_os = "none"), inline)]
    #[cfg_attr(target_os = "none", inline(never))]
    pub(super) const fn is_tailed(conv: &Conv<'_>) -> bool {
        let small = WordDense::tile_bytes(conv).saturating_add(align_of::<WordAlign>()) <= conv.output.len() / 16;
        small && conv.kernel[0] == 1 && conv.kernel[1] == 1 && WordDense::reads_in_place(conv)
    }

    /// Whether there are windows enough for a tile.
    pub(super) const fn is_tiled(conv: &Conv<'_>) -> bool {
        conv.output.h.saturating_mul(conv.output.w) >= WordDense::WINDOWS
    }

    /// Whether weights are read often enough that it pays to copy them.
    const fn is_reused(conv: &Conv<'_>) -> bool {
        conv.output.h.saturating_mul(conv.output.w) >= 4 * WordDense::WINDOWS
    }

    /// Whether weights are multiplied as they are coded: windows are few and whole steps, and sums leave room for levels
    /// in the highest bits of half a word.
    #[cfg_attr(not(target_os = "none"), inline)]
    #[cfg_attr(target_os = "none", inline(never))]
    pub(super) const fn streams(conv: &Conv<'_>, format: WeightFormat) -> bool {
        let largest = conv.depth().saturating_mul((1 << least(conv.bits_in as usize, 8)) - 1);
        let coded = decodes(format) && matches!(format, WeightFormat::Linear(2 | 4) | WeightFormat::Ternary);
        coded && !WordDense::is_tiled(conv) && conv.depth().is_multiple_of(STREAM_CODES) && largest < 1 << 16
    }

    /// Whether every window is whole words that lie in a row in the input.
    #[cfg_attr(not(target_os = "none"), inline)]
    #[cfg_attr(target_os = "none", inline(never))]
    pub(super) const fn reads_in_place(conv: &Conv<'_>) -> bool {
        let columns = conv.kernel[1] == 1 || conv.dilation[1] == 1;
        let rows = conv.kernel[0] == 1 || conv.dilation[0] == 1 && conv.kernel[1] == conv.input.w;
        columns && rows && conv.depth().is_multiple_of(WORD_CODES) && reads_inside(conv)
    }

    const fn total(&self) -> usize {
        self.windows.saturating_add(self.edges).saturating_add(self.numbers).saturating_add(self.levels)
    }
}

/// What a depthwise kernel of [`Layout::Words`] keeps.
pub(super) struct WordDepthwise {
    /// Bytes of two tables of taps.
    pub(super) tables: usize,
    /// Bytes of a pixel of padding.
    pub(super) edge: usize,
    /// Bytes of a window for less than four channels.
    pub(super) part: usize,
    /// Quads of channels of a block.
    pub(super) quads: usize,
    /// Bytes of the levels of a quad, two for each.
    pub(super) quad: usize,
}

impl WordDepthwise {
    pub(super) const fn of(conv: &Conv<'_>) -> WordDepthwise {
        let taps = conv.depth();
        let quad = taps.saturating_add(taps % 2).saturating_mul(2 * WORD_CODES);
        let quads = least(most(WordDense::LEVELS / most(quad, 1), 1), conv.output.c.div_ceil(WORD_CODES));
        let edge = conv.input.c.div_ceil(WORD_CODES).saturating_mul(WORD_CODES);
        WordDepthwise { tables: taps.saturating_mul(8), edge, part: taps.saturating_mul(WORD_CODES), quads, quad }
    }

    /// Bytes of the biases and multipliers of a block.
    pub(super) const fn numbers(&self) -> usize {
        self.quads.saturating_mul(WORD_CODES * NUMBERS)
    }

    /// Bytes of its levels.
    pub(super) const fn levels(&self) -> usize {
        self.quads.saturating_mul(self.quad)
    }

    const fn total(&self) -> usize {
        let block = self.numbers().saturating_add(self.levels());
        self.tables.saturating_add(self.edge).saturating_add(self.part).saturating_add(block)
    }
}

/// Whether every window lies inside the input.
#[inline(never)]
pub(super) const fn reads_inside(conv: &Conv<'_>) -> bool {
    let [h, w] = [padded(conv, 0, conv.output.h), padded(conv, 1, conv.output.w)];
    conv.pad[0] == 0 && conv.pad[1] == 0 && h <= conv.input.h && w <= conv.input.w
}

/// Rows or columns that a window spans.
pub(super) const fn reach(kernel: usize, dilation: usize) -> usize {
    kernel.saturating_sub(1).saturating_mul(dilation).saturating_add(1)
}
