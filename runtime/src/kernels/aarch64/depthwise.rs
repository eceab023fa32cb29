//! Depthwise convolution: for each panel of 16 channels, a ring of input rows.
//!
//! Every input row is brought to the ring once, `zero_in` around it; then no window is special.

use core::arch::aarch64::{vdupq_n_u8, veorq_u8, vld1q_u8, vst1q_u8};

use super::requantise::Scale;
use crate::format::{Conv, PANEL_CHANNELS, WeightGroup};
use crate::kernels::panels::{self, Panels};
use crate::kernels::scratch::Aarch64Rows;

/// Pixels of the largest tile: what the registers hold the sums of.
pub(super) const MOST: usize = 5;

/// The codes of a panel's channels at one pixel.
pub(super) type Pixel = [u8; PANEL_CHANNELS];

/// What an instruction set brings to depthwise convolution. A value is proof that the processor has the
/// instructions.
pub(super) trait Depthwise: Copy {
    /// Rows that are multiplied together, as [`Aarch64Rows::of`] takes it.
    const TOGETHER: usize;
    /// Combined with every code, by exclusive or, before it comes to the ring.
    const FLIP: u8;
    /// What is worked out of a panel before its first row.
    type Panel;

    /// The proof, if the processor has them.
    fn detected() -> Option<Self>;

    /// Decodes a panel to `weights`.
    ///
    /// # Safety
    /// `weights` takes as many bytes as `Aarch64Rows` says.
    unsafe fn decode(
        self,
        conv: &Conv<'_>,
        group: &WeightGroup<'_>,
        panel: &Panels<'_>,
        weights: *mut u8,
    ) -> Self::Panel;

    /// Multiplies, requantises and stores.
    ///
    /// # Safety
    /// The invariants of [`OutputRow`] hold; `panel` is what came of decoding.
    unsafe fn row(self, panel: &Self::Panel, row: &OutputRow<'_>);
}

/// A row of output for the channels of a panel. Invariants: `weights` are decoded; the rows of the ring that the
/// kernel meets have `line` pixels each; cells take what `Aarch64Rows` says; the panel's channels lie in the output
/// from `output` on, at distances of `conv.output.c`, for every pixel of the row.
pub(super) struct OutputRow<'a> {
    pub(super) conv: &'a Conv<'a>,
    pub(super) scale: &'a Scale,
    pub(super) weights: *const u8,
    pub(super) cells: *mut u8,
    pub(super) line: usize,
    ring: *const u8,
    ring_rows: usize,
    first_row: usize,
    pub(super) output: *mut u8,
}

impl OutputRow<'_> {
    /// The row that kernel row `k` meets.
    #[inline(always)]
    pub(super) fn ring_row(&self, k: usize) -> *const u8 {
        let row = self.first_row + k * self.conv.dilation[0];
        let row = if row >= self.ring_rows { row - self.ring_rows } else { row };
        self.ring.wrapping_add(row * self.line * PANEL_CHANNELS)
    }

    /// Hands out tiles of nearly equal size, of [`MOST`] pixels at most: the first pixel and how many.
    #[inline(always)]
    pub(super) fn tiles(&self, mut tile: impl FnMut(usize, usize)) {
        let mut first = 0;
        for tiles in (1..=self.conv.output.w.div_ceil(MOST)).rev() {
            let pixels = (self.conv.output.w - first).div_ceil(tiles);
            tile(first, pixels);
            first += pixels;
        }
    }
}

/// Depthwise convolution; leaves the output alone if the arguments do not fit together.
pub(super) fn run<D: Depthwise>(conv: &Conv<'_>, input: &[u8], output: &mut [u8], scratch: &mut [u8]) {
    let rows = Aarch64Rows::of(conv, D::TOGETHER);
    let held = input.len() >= conv.input.len() && output.len() >= conv.output.len() && scratch.len() >= rows.bytes();
    let Some(isa) = D::detected().filter(|_| held && conv.is_depthwise() && panels::is_supported(conv)) else { return };
    let (ring, rest) = scratch.split_at_mut(rows.rows * rows.line * PANEL_CHANNELS);
    let (cells, weights) = rest.split_at_mut(rows.cells);
    let ring = ring.as_chunks_mut().0;
    for group in conv.weight_groups() {
        let mut index = 0;
        while let Some(panel) = Panels::of(conv, &group, index, 1) {
            index += 1;
            // SAFETY: the lengths are those of `rows`.
            let decoded = unsafe { isa.decode(conv, &group, &panel, weights.as_mut_ptr()) };
            // SAFETY: NEON is there.
            let scale = unsafe { Scale::new(&conv.requantise, &panel, 0) };
            let mut output = output.as_mut_ptr().wrapping_add(panel.first);
            ring.fill([conv.zero_in ^ D::FLIP; PANEL_CHANNELS]);
            // Rows are counted from the first row of padding.
            let mut next = 0;
            for y in 0..conv.output.h {
                let top = y * conv.stride[0];
                for row in next.max(top)..top + rows.rows {
                    let line = ring.chunks_exact_mut(rows.line).nth(row % rows.rows).unwrap_or_default();
                    read(conv, input, panel.first, row, D::FLIP, line);
                }
                next = top + rows.rows;
                let to = OutputRow {
                    conv,
                    scale: &scale,
                    weights: weights.as_ptr(),
                    cells: cells.as_mut_ptr(),
                    line: rows.line,
                    ring: ring.as_ptr().cast(),
                    ring_rows: rows.rows,
                    first_row: top % rows.rows,
                    output,
                };
                // SAFETY: the lengths are those of `rows`; the panel's channels lie in the output, which has this row.
                unsafe { isa.row(&decoded, &to) };
                output = output.wrapping_add(conv.output.w * conv.output.c);
            }
        }
    }
}

/// Brings the channels from `first` on of a row, counted from the first row of padding, to a line of the ring, whose
/// padding is there already. Channels beyond the last mean nothing.
fn read(conv: &Conv<'_>, input: &[u8], first: usize, row: usize, flip: u8, line: &mut [Pixel]) {
    let y = row.wrapping_sub(conv.pad[0]);
    let end = line.len().min(conv.pad[1] + conv.input.w);
    let inside = line.get_mut(conv.pad[1]..end).unwrap_or_default();
    if y >= conv.input.h {
        return inside.fill([conv.zero_in ^ flip; PANEL_CHANNELS]);
    }
    let start = y * conv.input.w * conv.input.c + first;
    let rest = input.get(start..).unwrap_or_default();
    // Pixels behind which, or behind whose channels, 16 bytes are there to read.
    let whole = rest.len().checked_sub(PANEL_CHANNELS).map_or(0, |last| last / conv.input.c + 1);
    let (whole, last) = inside.split_at_mut(whole.min(inside.len()));
    for (x, pixel) in whole.iter_mut().enumerate() {
        // SAFETY: `x * c + 16 <= rest.len()`, by the count of these pixels; NEON is there.
        unsafe {
            let codes = vld1q_u8(rest.as_ptr().add(x * conv.input.c));
            vst1q_u8(pixel.as_mut_ptr(), veorq_u8(codes, vdupq_n_u8(flip)));
        }
    }
    for (x, pixel) in (whole.len()..).zip(last) {
        let codes = rest.get(x * conv.input.c..).unwrap_or_default();
        pixel.iter_mut().zip(codes).for_each(|(to, &from)| *to = from ^ flip);
    }
}
