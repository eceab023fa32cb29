//! The loop nest of depthwise convolution: for each panel of 16 channels, a ring of input rows in cells.
//!
//! A cell holds what a few taps of one kernel row read, for 16 channels, interleaved such that one
//! instruction multiplies and sums them for every channel: 4 taps of u8 (AVX-512), 2 of u16 (AVX2).
//! Every input row is put into cells once, `zero_in` around it, one run of cells for each output
//! column; then no window is special, and stride, dilation and padding are gone. Cells of the weights
//! have level 0 at taps beyond the kernel row.

use core::ops::Range;

use super::window::{Frame, Panels};
use crate::format::{Conv, PANEL_CHANNELS, Requantise, WeightGroup};
use crate::kernels::scratch::{X86_CELL, X86Cells};

/// Taps of the longest cell.
pub(super) const MAX_TAPS: usize = 4;

/// What an instruction set brings to depthwise convolution.
///
/// # Safety
/// `TAPS` is 2 or 4.
pub(super) unsafe trait Depthwise {
    /// Taps of a cell.
    const TAPS: usize;

    /// Decodes a panel: a level, one byte each, for each code.
    ///
    /// # Safety
    /// The processor has the instructions; `codes` are one panel of `group`; `to` takes a byte for each.
    unsafe fn decode(group: &WeightGroup<'_>, codes: &[u8], to: *mut u8);

    /// Fills the cells of every output column.
    ///
    /// # Safety
    /// The processor has the instructions; `to` takes `row.outputs * row.columns` cells.
    unsafe fn interleave_pixels(row: &InputRow, to: *mut u8);

    /// Fills a cell with taps, 16 levels at each address.
    ///
    /// # Safety
    /// The processor has the instructions; 16 bytes can be read from each of the first `TAPS` addresses;
    /// `to` takes a cell.
    unsafe fn interleave_taps(taps: &[*const u8; MAX_TAPS], to: *mut u8);

    /// Multiplies, requantises and stores.
    ///
    /// # Safety
    /// The processor has the instructions, and the invariants of [`OutputRow`] hold.
    unsafe fn row(row: &OutputRow<'_>);
}

/// 16 channels of a row of input as a row of output reads it.
pub(super) struct InputRow {
    /// Output columns.
    pub(super) outputs: usize,
    /// Cells of each.
    pub(super) columns: usize,
    /// Output columns of which no tap is beyond an edge, 16 bytes being there to read for all taps of all cells.
    pub(super) inside: Range<usize>,
    /// Bytes from tap to tap.
    pub(super) tap_step: usize,
    stride: usize,
    dilation: usize,
    /// Padding to the left.
    left: usize,
    /// Pixels of the input; 0 in a row of padding.
    width: usize,
    /// Bytes of a pixel.
    pixel: usize,
    /// The first pixel's channels.
    at: usize,
    /// 16 bytes can be read at any offset below `whole`.
    input: *const u8,
    whole: usize,
    /// Bytes of the input from `whole` on, then 16 more.
    tail: *const u8,
    /// 16 times `zero_in`.
    outside: *const u8,
}

impl InputRow {
    /// No row yet.
    fn new(frame: &Frame<'_>, panel: &Panels<'_>, around: &Around, columns: usize) -> InputRow {
        let conv = frame.conv;
        InputRow {
            outputs: conv.output.w,
            columns,
            inside: 0..0,
            tap_step: conv.dilation[1] * conv.input.c,
            stride: conv.stride[1],
            dilation: conv.dilation[1],
            left: conv.pad[1],
            width: 0,
            pixel: conv.input.c,
            at: panel.first,
            input: frame.input.as_ptr(),
            whole: around.whole,
            tail: around.tail.as_ptr(),
            outside: around.outside.as_ptr(),
        }
    }

    /// Goes to row `y` of the input, counted from the first row of padding.
    fn seek(&mut self, conv: &Conv<'_>, panel: &Panels<'_>, around: &Around, y: usize) {
        let y = y.wrapping_sub(conv.pad[0]);
        let inside = y < conv.input.h;
        self.width = if inside { conv.input.w } else { 0 };
        self.at = if inside { y * conv.input.w * self.pixel + panel.first } else { 0 };
        let readable = inside && self.at + (self.width + around.beyond) * self.pixel <= self.whole;
        self.inside = if readable { around.inside.clone() } else { 0..0 };
    }

    /// Where to read 16 channels for the taps from `first` on of an output column; channels beyond the last
    /// mean nothing. Not inlined: the loops around would carry a dozen pointers along.
    #[inline(never)]
    pub(super) fn taps(&self, output: usize, first: usize) -> [*const u8; MAX_TAPS] {
        let x = (output * self.stride + first * self.dilation).wrapping_sub(self.left);
        let mut taps = [self.outside; MAX_TAPS];
        for (k, tap) in taps.iter_mut().enumerate() {
            let x = x.wrapping_add(k * self.dilation);
            let at = self.at.wrapping_add(x.wrapping_mul(self.pixel));
            if x < self.width {
                *tap =
                    if at < self.whole { self.input.wrapping_add(at) } else { self.tail.wrapping_add(at - self.whole) };
            }
        }
        taps
    }

    /// The first tap of an output column that is `inside`; the others follow at `tap_step`.
    #[inline(always)]
    pub(super) fn first_tap(&self, output: usize) -> *const u8 {
        self.input.wrapping_add(self.at + (output * self.stride - self.left) * self.pixel)
    }
}

/// A row of output for 16 channels. Invariants: for every kernel row `k < rows`, `pixels * columns` cells can
/// be read from ring row `(first_row + k * row_step) % ring_rows` on; `weights` has `rows * columns` cells;
/// the panel's channels lie in the output from `output + i * output_step` on for `i < pixels`.
pub(super) struct OutputRow<'a> {
    pub(super) panel: &'a Panels<'a>,
    pub(super) requantise: Requantise,
    pub(super) ring: *const u8,
    pub(super) ring_rows: usize,
    pub(super) ring_row_bytes: usize,
    pub(super) first_row: usize,
    pub(super) row_step: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) weights: *const u8,
    pub(super) pixels: usize,
    pub(super) output: *mut u8,
    pub(super) output_step: usize,
}

impl OutputRow<'_> {
    /// Kernel row `k` of the ring.
    #[inline(always)]
    pub(super) fn ring_row(&self, k: usize) -> *const u8 {
        let row = self.first_row + k * self.row_step;
        let row = if row >= self.ring_rows { row - self.ring_rows } else { row };
        self.ring.wrapping_add(row * self.ring_row_bytes)
    }
}

/// Depthwise convolution; leaves the output alone if the arguments do not fit together.
pub(super) fn run<D: Depthwise>(conv: &Conv<'_>, input: &[u8], output: &mut [u8], scratch: &mut [u8]) {
    let Some(frame) = Frame::new(conv, input, output, scratch) else { return };
    if !conv.is_depthwise() {
        return;
    }
    let whole = frame.input.len().saturating_sub(PANEL_CHANNELS);
    let mut tail = [0; 2 * PANEL_CHANNELS];
    for (to, from) in tail.iter_mut().zip(frame.input.get(whole..).unwrap_or_default()) {
        *to = *from;
    }
    let [_, inside] = frame.inside();
    // Taps beyond the kernel row meet level 0 and may be anything that can be read.
    let beyond = (conv.kernel[1].next_multiple_of(D::TAPS) - conv.kernel[1]) * conv.dilation[1];
    let around = Around { inside, beyond, outside: [conv.zero_in; PANEL_CHANNELS], whole, tail };
    for group in conv.weight_groups() {
        let mut index = 0;
        while let Some(panel) = Panels::of(conv, &group, index, 1) {
            channels::<D>(&frame, &group, &panel, &around);
            index += 1;
        }
    }
}

/// Output columns of which no tap is beyond an edge, and what is read there and near the end of the input.
struct Around {
    inside: Range<usize>,
    /// Pixels that the last column of those reads beyond its window.
    beyond: usize,
    outside: [u8; PANEL_CHANNELS],
    whole: usize,
    tail: [u8; 2 * PANEL_CHANNELS],
}

fn channels<D: Depthwise>(frame: &Frame<'_>, group: &WeightGroup<'_>, panel: &Panels<'_>, around: &Around) {
    let conv = frame.conv;
    let cells = X86Cells::of(conv, D::TAPS);
    let [kh, kw] = conv.kernel;
    let ring_row_bytes = cells.row * X86_CELL;
    let levels = frame.scratch;
    // SAFETY: scratch holds the levels, the weights and the ring; `Frame` checked its length. The
    // instruction set was detected before this kernel was handed out.
    let (weights, ring) = unsafe {
        D::decode(group, panel.codes, levels);
        let weights = levels.add((kh * kw * PANEL_CHANNELS).next_multiple_of(X86_CELL));
        pack_taps::<D>(conv, cells.columns, levels, weights);
        (weights, weights.add(cells.weights * X86_CELL))
    };
    let mut from = InputRow::new(frame, panel, around, cells.columns);
    let mut to = OutputRow {
        panel,
        requantise: conv.requantise,
        ring,
        ring_rows: cells.rows,
        ring_row_bytes,
        first_row: 0,
        row_step: conv.dilation[0],
        rows: kh,
        columns: cells.columns,
        weights,
        pixels: conv.output.w,
        // SAFETY: the panel's channels are among those of the first pixel.
        output: unsafe { frame.output.add(panel.first) },
        output_step: conv.output.c,
    };
    // The next row to fill and its place in the ring, the first row of the window; rows of padding count.
    let (mut next, mut place, mut top) = (0, 0, 0);
    let step = conv.stride[0] % cells.rows;
    for _ in 0..conv.output.h {
        while next < top + cells.rows {
            if next >= top {
                from.seek(conv, panel, around, next);
                // SAFETY: the ring has `cells.rows` rows of `cells.row` cells.
                unsafe { D::interleave_pixels(&from, ring.add(place * ring_row_bytes)) };
            }
            (next, place) = (next + 1, if place + 1 == cells.rows { 0 } else { place + 1 });
        }
        // SAFETY: the rows of the window have been filled, cells for every output column; the panel's channels
        // follow the pixels of this row of the output.
        unsafe { D::row(&to) };
        top += conv.stride[0];
        to.first_row =
            if to.first_row + step >= cells.rows { to.first_row + step - cells.rows } else { to.first_row + step };
        to.output = to.output.wrapping_add(conv.output.w * conv.output.c);
    }
}

/// Writes the kernel rows, `columns` cells each.
///
/// # Safety
/// The processor has the instructions of `D`; `levels` has 16 for each tap; `to` takes the cells.
unsafe fn pack_taps<D: Depthwise>(conv: &Conv<'_>, columns: usize, levels: *const u8, to: *mut u8) {
    const ZERO: [u8; PANEL_CHANNELS] = [0; PANEL_CHANNELS];
    let [kh, kw] = conv.kernel;
    for row in 0..kh {
        for column in 0..columns {
            let mut taps = [ZERO.as_ptr(); MAX_TAPS];
            for (tap, x) in taps.iter_mut().zip(column * D::TAPS..kw) {
                *tap = levels.wrapping_add((row * kw + x) * PANEL_CHANNELS);
            }
            // SAFETY: `x < kw` makes the tap one of the kernel's; the contract.
            unsafe { D::interleave_taps(&taps, to.add((row * columns + column) * X86_CELL)) };
        }
    }
}
