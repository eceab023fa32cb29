//! The loop nest of depthwise convolution: for each strip of lanes, a ring of padded input rows.
//!
//! A vector of bytes holds a *strip* of an output row: neighbouring pixels of a few channels, or one
//! pixel of many. A tap of the kernel reads as many bytes, one after the other, provided that the input
//! row has `zero_in` around it and that the pixels between which the stride steps are stored in runs
//! (*phases*) of their own: so the rows are put into a ring in scratch, and then no window is special.
//! The bytes of four rows are interleaved, such that one instruction multiplies and sums them for each lane;
//! where the kernel has fewer rows, two output rows share them.

use super::window::{Frame, Panels};
use crate::format::{Conv, PANEL_CHANNELS, Requantise, WeightGroup};
use crate::kernels::scratch::{X86_CELLS, X86_MARGIN, X86_STRIP, X86Depthwise, reach};

/// Rows that are interleaved.
pub(super) const QUAD: usize = 4;

/// What an instruction set brings to depthwise convolution.
///
/// # Safety
/// `LANES` is at most [`X86_STRIP`], and lanes by quads of levels take [`X86_CELLS`] bytes at most.
pub(super) unsafe trait Depthwise {
    /// Bytes of a vector.
    const LANES: usize;

    /// Decodes a panel: 16 levels, one byte each, at `to` and at every `step` bytes from there for the taps that follow.
    ///
    /// # Safety
    /// The processor has the instructions; `codes` are one panel of `group`; 16 bytes can be written for each tap.
    unsafe fn decode(group: &WeightGroup<'_>, codes: &[u8], to: *mut u8, step: usize);

    /// Interleaves the levels of four rows at one column, as [`rows`](Self::rows) takes them.
    ///
    /// # Safety
    /// The processor has the instructions; `LANES` bytes can be read from each address; `to` takes `X86_CELLS` bytes.
    unsafe fn interleave_levels(rows: [*const u8; QUAD], to: *mut u8);

    /// [`prepare`], compiled for the instructions.
    ///
    /// # Safety
    /// The processor has the instructions, and the contract of [`prepare`].
    unsafe fn prepare(conv: &Conv<'_>, plan: &X86Depthwise, first: usize, levels: *mut u8, to: *mut u8);

    /// Copies the pixels of a row of the input to their places in the ring.
    ///
    /// # Safety
    /// The processor has the instructions, and the invariants of [`InputRow`] hold.
    unsafe fn copy(row: &InputRow);

    /// Multiplies, requantises and stores.
    ///
    /// # Safety
    /// The processor has the instructions, and the invariants of [`OutputRows`] hold.
    unsafe fn rows(rows: &OutputRows<'_>);

    /// The same straight from the input, for kernels of 3 by 3.
    ///
    /// # Safety
    /// The processor has the instructions, and the invariants of [`Columns`] hold.
    unsafe fn columns(rows: &OutputRows<'_>, columns: &Columns);
}

/// The columns of four rows of the input. Invariants: `LANES` bytes can be read from each row at `pixel`
/// times any `x < width`, masked by `there`, and from `outside`.
pub(super) struct Columns {
    pub(super) rows: [*const u8; QUAD],
    /// All bits for a row of the input; none for one beyond the edge, which is `outside`.
    pub(super) there: [usize; QUAD],
    pub(super) outside: *const u8,
    pub(super) pixel: usize,
    pub(super) width: usize,
    /// Columns of padding.
    pub(super) left: usize,
    pub(super) stride: usize,
}

impl Columns {
    /// Where to read column `x`, counted from the first one of padding.
    #[inline(always)]
    pub(super) fn at(&self, x: usize) -> Option<[*const u8; QUAD]> {
        let x = x.wrapping_sub(self.left);
        let mut column = self.rows;
        for i in 0..QUAD {
            column[i] = column[i].wrapping_add(x * self.pixel & self.there[i]);
        }
        (x < self.width).then_some(column)
    }
}

/// A row of the input and its place in the ring. Invariants: `pixels` times `channels` bytes can be read `pixel`
/// bytes from one another, and written, pixel after pixel, to the phases in turn from pixel `left` of them on.
pub(super) struct InputRow {
    from: *const u8,
    to: *mut u8,
    pixels: usize,
    pixel: usize,
    channels: usize,
    left: usize,
    phases: usize,
    phase_bytes: usize,
}

impl InputRow {
    /// Copies. Inlined, to be compiled for the instruction set.
    ///
    /// # Safety
    /// The invariants of the type.
    #[inline(always)]
    pub(super) unsafe fn copy(&self) {
        // SAFETY: the contract.
        unsafe {
            match self.channels {
                channels if self.phases == 1 && self.pixel == channels => {
                    let to = self.to.wrapping_add(self.left * channels);
                    self.from.copy_to_nonoverlapping(to, self.pixels * channels);
                }
                64 => self.each(|from, to| from.copy_to_nonoverlapping(to, 64)),
                32 => self.each(|from, to| from.copy_to_nonoverlapping(to, 32)),
                16 => self.each(|from, to| from.copy_to_nonoverlapping(to, 16)),
                8 => self.each(|from, to| from.copy_to_nonoverlapping(to, 8)),
                channels => self.each(|from, to| from.copy_to_nonoverlapping(to, channels)),
            }
        }
    }

    /// Calls `copy` with the addresses of each pixel.
    #[inline(always)]
    fn each(&self, copy: impl Fn(*const u8, *mut u8)) {
        let mut phase = self.left % self.phases;
        let mut to = self.to.wrapping_add(self.left / self.phases * self.channels + phase * self.phase_bytes);
        let mut from = self.from;
        for _ in 0..self.pixels {
            copy(from, to);
            from = from.wrapping_add(self.pixel);
            to = to.wrapping_add(self.phase_bytes);
            phase += 1;
            if phase == self.phases {
                phase = 0;
                to = to.wrapping_sub(self.phases * self.phase_bytes).wrapping_add(self.channels);
            }
        }
    }
}

/// The numbers of the lanes of a strip, those of a channel wherever it comes again.
pub(super) struct Lanes {
    pub(super) bias: [i32; X86_STRIP],
    pub(super) mult: [i32; X86_STRIP],
}

/// One or two rows of output for the channels of a strip. Invariants:
///
/// * strips follow one another `step` bytes apart in the rows of the ring and `output_step` apart in the output;
/// * at all taps, `LANES` bytes of every strip can be read;
/// * `weights` has `X86_CELLS` bytes for each quad and column, those of the second row `weights_step` further on;
/// * `LANES` bytes can be written for each strip of a row, in this order, and `last` for its last one.
pub(super) struct OutputRows<'a> {
    pub(super) lanes: &'a Lanes,
    pub(super) requantise: Requantise,
    /// Rows of output, 1 or 2, and bytes from the first to the second.
    pub(super) together: usize,
    pub(super) output: *mut u8,
    pub(super) output_row: usize,
    pub(super) output_step: usize,
    pub(super) strips: usize,
    pub(super) last: usize,
    pub(super) weights: *const u8,
    pub(super) weights_step: usize,
    /// Quads of kernel rows.
    pub(super) quads: usize,
    pub(super) taps: Taps,
    ring: *const u8,
    ring_rows: usize,
    ring_row_bytes: usize,
    first_row: usize,
    row_step: usize,
    pub(super) step: usize,
}

impl OutputRows<'_> {
    /// The ring rows of a quad; beyond the last one, where levels are 0, any.
    #[inline(always)]
    pub(super) fn quad(&self, quad: usize) -> [*const u8; QUAD] {
        let mut rows = [self.ring; QUAD];
        for (i, row) in rows.iter_mut().enumerate() {
            let at = self.first_row + ((quad * QUAD + i) * self.row_step).min(self.ring_rows - 1);
            let at = if at >= self.ring_rows { at - self.ring_rows } else { at };
            *row = self.ring.wrapping_add(at * self.ring_row_bytes);
        }
        rows
    }
}

/// Where the columns of the kernel read in a row of the ring.
#[derive(Clone, Copy)]
pub(super) struct Taps {
    pub(super) count: usize,
    /// Bytes from one to the next, and phases; beyond the last phase it goes on `wrap` bytes before.
    step: usize,
    phase_step: usize,
    phases: usize,
    wrap: usize,
}

impl Taps {
    /// The offset of each.
    #[inline(always)]
    pub(super) fn offsets(&self) -> impl Iterator<Item = usize> {
        let (mut at, mut phase) = (0, 0);
        (0..self.count).map(move |_| {
            let here = at;
            at += self.step;
            phase += self.phase_step;
            if phase >= self.phases {
                phase -= self.phases;
                at = at.wrapping_sub(self.wrap);
            }
            here
        })
    }
}

/// Depthwise convolution; leaves the output alone if the arguments do not fit together.
pub(super) fn run<D: Depthwise>(conv: &Conv<'_>, input: &[u8], output: &mut [u8], scratch: &mut [u8]) {
    let Some(frame) = Frame::new(conv, input, output, scratch) else { return };
    if !conv.is_depthwise() {
        return;
    }
    let plan = X86Depthwise::of(conv, D::LANES);
    let mut next = 0;
    while next < conv.input.c {
        // The last channels may have been computed before: better than a part of a strip.
        let first = next.min(conv.input.c - plan.channels);
        channels::<D>(&frame, &plan, first);
        next = first + plan.channels;
    }
}

/// All pixels of a strip's channels.
fn channels<D: Depthwise>(frame: &Frame<'_>, plan: &X86Depthwise, first: usize) {
    let conv = frame.conv;
    let ring = frame.scratch.wrapping_add(plan.weights());
    // SAFETY: scratch holds the weights, then the ring; the levels lie where the ring will.
    // The instruction set was detected before this kernel was handed out.
    unsafe {
        D::prepare(conv, plan, first, ring, frame.scratch);
        ring.write_bytes(conv.zero_in, plan.ring());
    }
    let lanes = Lanes::of(conv, plan, first);
    let [kw, dilation, stride] = [conv.kernel[1], conv.dilation[1], conv.stride[1]];
    let width = ((conv.output.w - 1) * stride + reach(kw, dilation)).saturating_sub(conv.pad[1]);
    let mut from = InputRow {
        from: frame.input.as_ptr(),
        to: ring,
        pixels: conv.input.w.min(width),
        pixel: conv.input.c,
        channels: plan.channels,
        left: conv.pad[1],
        phases: stride,
        phase_bytes: plan.phase,
    };
    let pixels = plan.pixels;
    let strips = conv.output.w.div_ceil(pixels);
    let mut to = OutputRows {
        lanes: &lanes,
        requantise: conv.requantise,
        together: plan.together,
        // SAFETY: the channels are among those of the first pixel.
        output: unsafe { frame.output.add(first) },
        output_row: conv.output.w * conv.output.c,
        output_step: pixels * conv.output.c,
        strips,
        last: (conv.output.w - (strips - 1) * pixels) * plan.channels,
        weights: frame.scratch,
        weights_step: plan.weights() / plan.together,
        quads: plan.quads,
        taps: Taps {
            count: kw,
            step: dilation / stride * plan.channels + dilation % stride * plan.phase,
            phase_step: dilation % stride,
            phases: stride,
            wrap: stride * plan.phase - plan.channels,
        },
        ring,
        ring_rows: plan.rows,
        ring_row_bytes: plan.row(),
        first_row: 0,
        row_step: conv.dilation[0],
        step: pixels * plan.channels,
    };
    if plan.direct {
        let mut columns = Columns {
            rows: [ring; QUAD],
            there: [0; QUAD],
            outside: ring,
            pixel: conv.input.c,
            width: conv.input.w,
            left: conv.pad[1],
            stride,
        };
        let mut y = 0;
        while y < conv.output.h {
            to.together = plan.together.min(conv.output.h - y);
            for i in 0..QUAD {
                let row = (y * conv.stride[0] + i).wrapping_sub(conv.pad[0]);
                let there = row < conv.input.h;
                columns.there[i] = if there { !0 } else { 0 };
                columns.rows[i] = ring;
                if there {
                    columns.rows[i] = frame.input.as_ptr().wrapping_add(row * conv.input.w * conv.input.c + first);
                }
            }
            // SAFETY: rows of the input where they are there; the output as below.
            unsafe { D::columns(&to, &columns) };
            y += to.together;
            to.output = to.output.wrapping_add(to.together * to.output_row);
        }
        return;
    }
    // The next row to fill and its place in the ring; rows of padding count.
    let (mut next, mut place, mut y) = (0, 0, 0);
    while y < conv.output.h {
        to.together = plan.together.min(conv.output.h - y);
        let top = y * conv.stride[0];
        let rows = plan.rows - (plan.together - to.together) * conv.stride[0];
        while next < top + rows {
            if next >= top {
                from.to = ring.wrapping_add(place * plan.row());
                let row = next.wrapping_sub(conv.pad[0]);
                // SAFETY: the ring has `plan.rows` rows. The row is one of the input, or becomes one of padding.
                unsafe {
                    if row < conv.input.h {
                        from.from = frame.input.as_ptr().add(row * conv.input.w * conv.input.c + first);
                        D::copy(&from);
                    } else {
                        from.to.write_bytes(conv.zero_in, plan.row());
                    }
                }
            }
            (next, place) = (next + 1, if place + 1 == plan.rows { 0 } else { place + 1 });
        }
        to.first_row = top % plan.rows;
        // SAFETY: the rows of the windows have been filled; each strip's channels lie in this row of the output, and
        // a vector that reaches beyond its strip ends in the next one.
        unsafe { D::rows(&to) };
        y += to.together;
        to.output = to.output.wrapping_add(to.together * to.output_row);
    }
}

impl Lanes {
    fn of(conv: &Conv<'_>, plan: &X86Depthwise, first: usize) -> Lanes {
        let repeat = |numbers: &[i32]| {
            let mut lanes = [0; X86_STRIP];
            let numbers = numbers.get(first..first + plan.channels).unwrap_or_default();
            for lanes in lanes.chunks_mut(plan.channels) {
                lanes.iter_mut().zip(numbers).for_each(|(lane, &number)| *lane = number);
            }
            lanes
        };
        Lanes { bias: repeat(conv.bias), mult: repeat(conv.mult) }
    }
}

/// Decodes the weights of `plan.channels` channels from `first` on, and interleaves them.
///
/// # Safety
/// The processor has the instructions of `D`; `levels` takes `plan.levels()` and `to` takes `plan.weights()` bytes.
#[inline(always)]
pub(super) unsafe fn prepare<D: Depthwise>(
    conv: &Conv<'_>,
    plan: &X86Depthwise,
    first: usize,
    levels: *mut u8,
    to: *mut u8,
) {
    const ZERO: [u8; X86_STRIP] = [0; X86_STRIP];
    let [kh, kw] = conv.kernel;
    let step = X86_STRIP + 2 * X86_MARGIN;
    let levels = levels.wrapping_add(X86_MARGIN);
    for group in conv.weight_groups() {
        // Panels from the one of the first channel on.
        let mut index = first.saturating_sub(group.first) / PANEL_CHANNELS;
        while let Some(panel) = Panels::of(conv, &group, index, 1) {
            if panel.first >= first + plan.channels {
                break;
            }
            // SAFETY: the panel meets the strip's channels, hence its lanes start and end less than a margin away.
            // In the margins, and beyond the end of the group, levels are overwritten or mean nothing.
            unsafe {
                D::decode(&group, panel.codes, levels.wrapping_add(panel.first).wrapping_sub(first), step);
            }
            index += 1;
        }
    }
    for tap in 0..kh * kw {
        // SAFETY: the tap has a strip of levels and a margin.
        unsafe { repeat(levels.wrapping_add(tap * step), plan.channels, D::LANES) };
    }
    let mut to = to;
    for together in 0..plan.together {
        // Seen from the first row of the quad, the kernel of a later output row begins further down.
        let down = together * conv.stride[0];
        for quad in 0..plan.quads {
            for column in 0..kw {
                let mut rows = [ZERO.as_ptr(); QUAD];
                for (i, row) in rows.iter_mut().enumerate() {
                    let ky = (quad * QUAD + i).wrapping_sub(down);
                    if ky < kh {
                        *row = levels.wrapping_add((ky * kw + column) * step);
                    }
                }
                // SAFETY: a strip of levels, or of zeros; there are that many cells.
                unsafe {
                    D::interleave_levels(rows, to);
                    to = to.add(X86_CELLS);
                }
            }
        }
    }
}

/// Repeats the first `period` of `lanes` bytes.
///
/// # Safety
/// `at` has `lanes` bytes and a margin.
#[inline(always)]
unsafe fn repeat(at: *mut u8, period: usize, lanes: usize) {
    // SAFETY: 16 bytes from below the last lane on end in the margin; others lie within the lanes.
    unsafe {
        if period <= X86_MARGIN {
            let first = at.cast::<[u8; X86_MARGIN]>().read();
            for lane in (period..lanes).step_by(period) {
                at.add(lane).cast::<[u8; X86_MARGIN]>().write(first);
            }
        } else {
            for lane in (period..lanes).step_by(period) {
                at.copy_to_nonoverlapping(at.add(lane), period.min(lanes - lane));
            }
        }
    }
}
