//! The loop nest of depthwise convolution: for each panel of 16 channels, a ring of input rows in cells.
//!
//! A cell holds a few neighbouring pixels of 16 channels, interleaved such that one instruction multiplies
//! and sums them for every channel: 4 pixels of u8 (AVX-512), 2 of u16 (AVX2). A kernel row then is a run
//! of cells too, one run for each alignment that an output pixel can have to the cells, with level 0 at
//! positions that are not taps (beyond the row, between dilated taps). Every input row is put into
//! cells once, `zero_in` around it, so that no window is special.

use super::window::{Frame, Panel, panel};
use crate::format::{Conv, PANEL_CHANNELS, Requantise, WeightGroup};
use crate::kernels::scratch::{X86_CELL, X86Cells};

/// Pixels of the largest cell.
pub(super) const MAX_CELL_PIXELS: usize = 4;

/// What an instruction set brings to depthwise convolution.
///
/// # Safety
/// `CELL_PIXELS` is 2 or 4.
pub(super) unsafe trait Depthwise {
    /// Pixels of a cell.
    const CELL_PIXELS: usize;

    /// Decodes a panel: a level, one byte each, for each code.
    ///
    /// # Safety
    /// The processor has the instructions; `codes` are one panel of `group`; `to` takes a byte for each.
    unsafe fn decode(group: &WeightGroup<'_>, codes: &[u8], to: *mut u8);

    /// Fills `cells` cells with pixels.
    ///
    /// # Safety
    /// The processor has the instructions; `to` takes the cells.
    unsafe fn interleave_pixels(row: &PixelRow, cells: usize, to: *mut u8);

    /// Fills a cell with taps, 16 levels at each address.
    ///
    /// # Safety
    /// The processor has the instructions; 16 bytes can be read from each of the first `CELL_PIXELS` addresses;
    /// `to` takes a cell.
    unsafe fn interleave_taps(taps: &[*const u8; MAX_CELL_PIXELS], to: *mut u8);

    /// Correlates, requantises and stores.
    ///
    /// # Safety
    /// The processor has the instructions, and the invariants of [`OutputRow`] hold.
    unsafe fn row(row: &OutputRow<'_>);
}

/// 16 channels of a row of input as its output sees it: `zero_in` beyond both ends.
pub(super) struct PixelRow {
    /// Padding to the left.
    left: usize,
    /// Pixels of the input; 0 in a row of padding.
    width: usize,
    /// From pixel to pixel.
    step: usize,
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

impl PixelRow {
    /// Where to read 16 channels of pixel `x`; channels beyond the last mean nothing.
    #[inline(always)]
    pub(super) fn pixel(&self, x: usize) -> *const u8 {
        let k = x.wrapping_sub(self.left);
        let at = self.at.wrapping_add(k.wrapping_mul(self.step));
        if k >= self.width {
            self.outside
        } else if at < self.whole {
            self.input.wrapping_add(at)
        } else {
            self.tail.wrapping_add(at - self.whole)
        }
    }
}

/// The pixels of an output row that share an alignment. Invariants: for every pixel `i < pixels` and
/// kernel row `k < rows`, `columns` cells can be read from cell `first_cell + i * cell_step` on of ring row
/// `(first_row + k * row_step) % ring_rows`; `weights` has `rows * columns` cells; the panel's channels
/// lie in the output from `output + i * output_step` on.
pub(super) struct OutputRow<'a> {
    pub(super) panel: &'a Panel<'a>,
    pub(super) requantise: Requantise,
    pub(super) ring: *const u8,
    pub(super) ring_rows: usize,
    pub(super) ring_row_bytes: usize,
    pub(super) first_row: usize,
    pub(super) row_step: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) weights: *const u8,
    pub(super) first_cell: usize,
    pub(super) cell_step: usize,
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
    let Some(mut frame) = Frame::new(conv, input, output, scratch) else { return };
    if !conv.is_depthwise() {
        return;
    }
    for group in conv.weight_groups() {
        let mut index = 0;
        while let Some(panel) = panel(conv, &group, index) {
            channels::<D>(&mut frame, &group, &panel);
            index += 1;
        }
    }
}

fn channels<D: Depthwise>(frame: &mut Frame<'_>, group: &WeightGroup<'_>, panel: &Panel<'_>) {
    let conv = frame.conv;
    let cells = X86Cells::of(conv, D::CELL_PIXELS);
    let [kh, kw] = conv.kernel;
    let levels = (kh * kw * PANEL_CHANNELS).next_multiple_of(X86_CELL);
    let scratch = frame.scratch.as_mut_ptr();
    // SAFETY: scratch holds the levels, the weights at every alignment and the ring; `Frame` checked its
    // length. The instruction set was detected before this kernel was handed out.
    let (weights, ring) = unsafe {
        D::decode(group, panel.codes, scratch);
        let weights = scratch.add(levels);
        align_taps::<D>(conv, &cells, scratch, weights);
        (weights, weights.add(cells.alignment * D::CELL_PIXELS * X86_CELL))
    };

    let outside = [conv.zero_in; PANEL_CHANNELS];
    let whole = frame.input.len().saturating_sub(PANEL_CHANNELS);
    let mut tail = [0; 2 * PANEL_CHANNELS];
    for (to, from) in tail.iter_mut().zip(frame.input.get(whole..).unwrap_or_default()) {
        *to = *from;
    }
    let pixel_row = |y: usize| {
        let y = y.wrapping_sub(conv.pad[0]);
        let inside = y < conv.input.h;
        PixelRow {
            left: conv.pad[1],
            width: if inside { conv.input.w } else { 0 },
            step: conv.input.c,
            at: y.wrapping_mul(conv.input.w).wrapping_mul(conv.input.c).wrapping_add(panel.first),
            input: frame.input.as_ptr(),
            whole,
            tail: tail.as_ptr(),
            outside: outside.as_ptr(),
        }
    };

    let ring_row_bytes = cells.row * X86_CELL;
    // Output pixels `period` apart have the same alignment.
    let period = D::CELL_PIXELS >> conv.stride[1].trailing_zeros().min(D::CELL_PIXELS.trailing_zeros());
    let mut filled = 0;
    for y in 0..conv.output.h {
        let top = y * conv.stride[0];
        for row in top.max(filled)..top + cells.rows {
            // SAFETY: the ring has `cells.rows` rows of `cells.row` cells.
            unsafe {
                let to = ring.add(row % cells.rows * ring_row_bytes);
                D::interleave_pixels(&pixel_row(row), cells.row, to);
            }
        }
        filled = filled.max(top + cells.rows);
        for x in 0..period.min(conv.output.w) {
            let column = x * conv.stride[1];
            let alignment = column % D::CELL_PIXELS;
            let reach = crate::kernels::scratch::reach(kw, conv.dilation[1]);
            // SAFETY: (y, x) is a pixel of the output, the panel's channels follow it there. Cells: the last pixel's
            // window ends with column `(w - 1) * stride + reach`, in the row's last cell at most.
            unsafe {
                D::row(&OutputRow {
                    panel,
                    requantise: conv.requantise,
                    ring,
                    ring_rows: cells.rows,
                    ring_row_bytes,
                    first_row: top % cells.rows,
                    row_step: conv.dilation[0],
                    rows: kh,
                    columns: (alignment + reach).div_ceil(D::CELL_PIXELS),
                    weights: weights.add(alignment * cells.alignment * X86_CELL),
                    first_cell: column / D::CELL_PIXELS,
                    cell_step: period * conv.stride[1] / D::CELL_PIXELS,
                    pixels: (conv.output.w - x).div_ceil(period),
                    output: frame.output.as_mut_ptr().add((y * conv.output.w + x) * conv.output.c + panel.first),
                    output_step: period * conv.output.c,
                });
            }
        }
    }
}

/// Writes the kernel rows at each alignment.
///
/// # Safety
/// The processor has the instructions of `D`; `levels` has 16 for each tap; `to` takes the weight cells.
unsafe fn align_taps<D: Depthwise>(conv: &Conv<'_>, cells: &X86Cells, levels: *const u8, to: *mut u8) {
    const ZERO: [u8; PANEL_CHANNELS] = [0; PANEL_CHANNELS];
    let ([kh, kw], dilation) = (conv.kernel, conv.dilation[1]);
    let reach = crate::kernels::scratch::reach(kw, dilation);
    for alignment in 0..D::CELL_PIXELS {
        let columns = (alignment + reach).div_ceil(D::CELL_PIXELS);
        for index in 0..kh * columns {
            let (ky, column) = (index / columns, index % columns);
            let mut taps = [ZERO.as_ptr(); MAX_CELL_PIXELS];
            for (j, tap) in taps.iter_mut().enumerate().take(D::CELL_PIXELS) {
                let x = (column * D::CELL_PIXELS + j).wrapping_sub(alignment);
                if x < reach && x % dilation == 0 {
                    *tap = levels.wrapping_add((ky * kw + x / dilation) * PANEL_CHANNELS);
                }
            }
            // SAFETY: `x < reach` makes the tap one of the kernel's; cells are at most `cells.alignment` each.
            unsafe { D::interleave_taps(&taps, to.add((alignment * cells.alignment + index) * X86_CELL)) };
        }
    }
}
