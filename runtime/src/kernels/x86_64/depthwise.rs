//! The loop nest of depthwise convolution: strips of as many lanes as a vector has bytes.
//!
//! A *strip* is a vector of an output row: neighbouring pixels of a few channels, or some channels of one
//! pixel. A tap of the kernel reads as many bytes of the input, one after the other, provided that the
//! row has `zero_in` around it and that pixels between which the stride steps are apart: so rows of
//! input are copied to a ring in scratch, every pixel to the run (*phase*) of its place modulo the stride,
//! and then no window is special. Where a strip has one pixel, small kernels read the input as it lies.
//!
//! The bytes of four rows are interleaved, so that one instruction multiplies and sums them for each lane;
//! where the kernel has fewer rows, two output rows share them.

use core::marker::PhantomData;
use core::ops::Range;

use crate::format::{Conv, PANEL_CHANNELS, Requantise, WeightGroup};
use crate::kernels::panels::{Panels, is_supported};
use crate::kernels::scratch::{self, X86_CELLS, X86_MARGIN, X86_STRIP, X86Depthwise, reach};
use crate::kernels::work::Work;

/// Rows that are interleaved.
pub(super) const QUAD: usize = 4;

/// What an instruction set brings to depthwise convolution.
///
/// # Safety
/// `LANES` is at most [`X86_STRIP`], and lanes by quads of levels take [`X86_CELLS`] bytes at most.
pub(super) unsafe trait Depthwise {
    /// Bytes of a vector.
    const LANES: usize;

    /// Computes all rows of a strip's channels. The other functions are called from here, through the strip.
    ///
    /// # Safety
    /// The processor has the instructions.
    unsafe fn run(strip: Strip<'_>);

    /// Decodes panels: 16 levels of a byte for each panel, one after the other, and so again `step` bytes further on
    /// for each tap that follows.
    ///
    /// # Safety
    /// The processor has the instructions; the panels are of `group`; all that can be written.
    unsafe fn decode(group: &WeightGroup<'_>, panels: &Panels<'_>, to: *mut u8, step: usize);

    /// Interleaves levels of four rows, in the order and width in which the sums of a strip take them.
    ///
    /// # Safety
    /// The processor has the instructions; `LANES` bytes can be read from each address; `to` takes `X86_CELLS` bytes.
    unsafe fn interleave_levels(rows: [*const u8; QUAD], to: *mut u8);

    /// Copies a row of the input into the ring.
    ///
    /// # Safety
    /// The processor has the instructions, and the invariants of [`InputRow`] hold.
    unsafe fn copy(row: &InputRow);
}

/// Depthwise convolution; leaves the output alone if the arguments do not fit together.
pub(super) fn run<D: Depthwise>(conv: &Conv<'_>, input: &[u8], output: &mut [u8], scratch: &mut [u8]) {
    if !(is_supported(conv) && conv.is_depthwise()) {
        return;
    }
    let plan = X86Depthwise::of(conv, D::LANES);
    let skip = scratch.as_ptr().align_offset(scratch::ALIGN).min(scratch::X86_SLACK);
    let scratch = scratch.get_mut(skip..).unwrap_or_default();
    let held = input.len() >= conv.input.len() && output.len() >= conv.output.len();
    let numbers = conv.bias.len() >= conv.output.c && conv.mult.len() >= conv.output.c;
    if !(held && numbers && scratch.len() >= plan.total()) {
        return;
    }
    let mut next = 0;
    while next < conv.input.c {
        // The last channels may have been computed before: better than a part of a vector.
        let first = next.min(conv.input.c - plan.channels);
        // SAFETY: this kernel was handed out since the processor has the instructions.
        unsafe { D::run(Strip::new(conv, &plan, first, input, output, scratch)) };
        next = first + plan.channels;
    }
}

/// The work of [`run`], from the fourth cause on: strips of channels, their taps, rows of vectors, vectors, products, bytes
/// and pixels copied to the ring.
pub(super) fn work<D: Depthwise>(conv: &Conv<'_>) -> Work {
    let plan = X86Depthwise::of(conv, D::LANES);
    let strips = conv.input.c.div_ceil(plan.channels);
    let rows = strips * conv.output.h.div_ceil(plan.together);
    let vectors = rows * plan.together * conv.output.w.div_ceil(plan.pixels);
    let pixels = if plan.direct { 0 } else { strips * conv.input.h * conv.input.w };
    let products = vectors * plan.quads * conv.kernel[1];
    [0, 0, 0, strips, strips * conv.depth(), rows, vectors, products, pixels * plan.channels, pixels]
}

/// A strip's channels, row after row of the output. Invariants:
///
/// * input and output have the lengths of their shapes, all extents being at least 1 and below 2^24;
/// * scratch leads to `plan.total()` bytes: the interleaved levels, then the ring.
pub(super) struct Strip<'a> {
    conv: &'a Conv<'a>,
    plan: &'a X86Depthwise,
    /// First channel.
    first: usize,
    /// The first channel of the first pixel.
    input: *const u8,
    output: *mut u8,
    weights: *mut u8,
    ring: *mut u8,
    memory: PhantomData<&'a mut [u8]>,
    /// The next row of output.
    y: usize,
    /// The next row of input, rows of padding counted, and its place in the ring.
    next: usize,
    place: usize,
}

impl<'a> Strip<'a> {
    fn new(
        conv: &'a Conv<'a>,
        plan: &'a X86Depthwise,
        first: usize,
        input: &'a [u8],
        output: &'a mut [u8],
        scratch: &'a mut [u8],
    ) -> Strip<'a> {
        let (input, output) = (input.as_ptr().wrapping_add(first), output.as_mut_ptr().wrapping_add(first));
        let weights = scratch.as_mut_ptr();
        let ring = weights.wrapping_add(plan.weights());
        Strip { conv, plan, first, input, output, weights, ring, memory: PhantomData, y: 0, next: 0, place: 0 }
    }

    /// From sums to codes.
    pub(super) fn requantise(&self) -> &Requantise {
        &self.conv.requantise
    }

    /// Whether [`next_columns`](Self::next_columns) leads through the output, or [`next_rows`](Self::next_rows).
    pub(super) fn is_direct(&self) -> bool {
        self.plan.direct
    }

    /// The biases of all lanes.
    pub(super) fn bias<'b>(&'b self, repeated: &'b mut [i32; X86_STRIP]) -> &'b [i32] {
        self.lanes(self.conv.bias, repeated)
    }

    /// The multipliers of all lanes.
    pub(super) fn mult<'b>(&'b self, repeated: &'b mut [i32; X86_STRIP]) -> &'b [i32] {
        self.lanes(self.conv.mult, repeated)
    }

    /// Numbers of the channels, repeated for the pixels of a strip if it has several.
    #[inline(always)]
    fn lanes<'b>(&'b self, numbers: &'b [i32], repeated: &'b mut [i32; X86_STRIP]) -> &'b [i32] {
        let numbers = numbers.get(self.first..self.first + self.plan.channels).unwrap_or_default();
        if self.plan.pixels == 1 && numbers.len() == self.plan.lanes {
            return numbers;
        }
        for lanes in repeated.chunks_mut(self.plan.channels) {
            lanes.iter_mut().zip(numbers).for_each(|(lane, &number)| *lane = number);
        }
        repeated
    }

    /// Decodes the weights of the channels and interleaves them; fills the ring with padding.
    ///
    /// # Safety
    /// The processor has the instructions.
    #[inline(always)]
    pub(super) unsafe fn prepare<D: Depthwise>(&mut self) {
        const ZERO: [u8; X86_STRIP] = [0; X86_STRIP];
        const STEP: usize = X86_STRIP + 2 * X86_MARGIN;
        let (conv, plan, first) = (self.conv, self.plan, self.first);
        let [kh, kw] = conv.kernel;
        // The levels lie where the ring will.
        let levels = self.ring.wrapping_add(X86_MARGIN);
        // SAFETY: each tap has a strip of levels and margins.
        unsafe { decode_channels::<D>(conv, first..first + plan.channels, levels, STEP) };
        if plan.channels < D::LANES {
            for tap in 0..kh * kw {
                // SAFETY: the tap has a strip of levels and a margin.
                unsafe { repeat(levels.wrapping_add(tap * STEP), plan.channels, D::LANES) };
            }
        }
        let mut to = self.weights;
        for together in 0..plan.together {
            // Seen from the first row of the quad, the kernel of a later output row begins further down.
            let down = together * conv.stride[0];
            for quad in 0..plan.quads {
                for column in 0..kw {
                    let mut rows = [ZERO.as_ptr(); QUAD];
                    for (i, row) in rows.iter_mut().enumerate() {
                        let ky = (quad * QUAD + i).wrapping_sub(down);
                        if ky < kh {
                            *row = levels.wrapping_add((ky * kw + column) * STEP);
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
        // SAFETY: the ring is that long.
        unsafe { self.ring.write_bytes(conv.zero_in, plan.ring()) };
    }

    /// The next rows of output, with what they read in the ring.
    ///
    /// # Safety
    /// The processor has the instructions; [`prepare`](Self::prepare) has run.
    #[inline(always)]
    pub(super) unsafe fn next_rows<D: Depthwise>(&mut self) -> Option<(OutputRows, Window)> {
        let (conv, plan) = (self.conv, self.plan);
        let top = self.y * conv.stride[0];
        let rows = self.next_output()?;
        let [kw, dilation, stride] = [conv.kernel[1], conv.dilation[1], conv.stride[1]];
        let width = ((conv.output.w - 1) * stride + reach(kw, dilation)).saturating_sub(conv.pad[1]);
        let end = top + plan.rows - (plan.together - rows.together) * conv.stride[0];
        while self.next < end {
            if self.next >= top {
                let to = self.ring.wrapping_add(self.place * plan.row());
                let y = self.next.wrapping_sub(conv.pad[0]);
                if y < conv.input.h {
                    let row = InputRow {
                        from: self.input.wrapping_add(y * conv.input.w * conv.input.c),
                        to,
                        pixels: conv.input.w.min(width),
                        pixel: conv.input.c,
                        channels: plan.channels,
                        left: conv.pad[1],
                        phases: stride,
                        phase_bytes: plan.phase,
                    };
                    // SAFETY: a row of the input, which fits between the columns of padding.
                    unsafe { D::copy(&row) };
                } else {
                    // SAFETY: the ring has `plan.rows` rows.
                    unsafe { to.write_bytes(conv.zero_in, plan.row()) };
                }
            }
            self.place = if self.place + 1 == plan.rows { 0 } else { self.place + 1 };
            self.next += 1;
        }
        let window = Window {
            ring: self.ring,
            rows: plan.rows,
            row_bytes: plan.row(),
            first: top % plan.rows,
            dilation: conv.dilation[0],
            quads: plan.quads,
            step: plan.pixels * plan.channels,
            columns: kw,
            column: dilation / stride * plan.channels + dilation % stride * plan.phase,
            phase: dilation % stride,
            phases: stride,
            wrap: stride * plan.phase - plan.channels,
        };
        Some((rows, window))
    }

    /// The next rows of output, with the input that they read.
    #[inline(always)]
    pub(super) fn next_columns(&mut self) -> Option<(OutputRows, Columns)> {
        let conv = self.conv;
        let top = (self.y * conv.stride[0]).wrapping_sub(conv.pad[0]);
        let rows = self.next_output()?;
        let mut columns = Columns {
            rows: [self.ring; QUAD],
            there: [0; QUAD],
            outside: self.ring,
            pixel: conv.input.c,
            width: conv.input.w,
            left: conv.pad[1],
            stride: conv.stride[1],
        };
        for i in 0..QUAD {
            let row = top.wrapping_add(i);
            if row < conv.input.h {
                columns.rows[i] = self.input.wrapping_add(row * conv.input.w * conv.input.c);
                columns.there[i] = !0;
            }
        }
        Some((rows, columns))
    }

    #[inline(always)]
    fn next_output(&mut self) -> Option<OutputRows> {
        let (output, plan) = (self.conv.output, self.plan);
        let together = plan.together.min(output.h.checked_sub(self.y).filter(|&left| left > 0)?);
        let strips = output.w.div_ceil(plan.pixels);
        let rows = OutputRows {
            together,
            output: self.output.wrapping_add(self.y * output.w * output.c),
            row: output.w * output.c,
            step: plan.pixels * output.c,
            strips,
            last: (output.w - (strips - 1) * plan.pixels) * plan.channels,
            weights: self.weights,
            weights_step: plan.weights() / plan.together,
        };
        self.y += together;
        Some(rows)
    }
}

/// One or two rows of output for the channels of a strip. Invariants:
///
/// * `LANES` bytes can be written for each strip of a row, in this order, and `last` for its last one;
/// * `weights` has `X86_CELLS` bytes for each quad and column, those of the second row `weights_step` further on.
pub(super) struct OutputRows {
    /// Rows, 1 or 2.
    pub(super) together: usize,
    /// The first strip, bytes from row to row, and from strip to strip.
    pub(super) output: *mut u8,
    pub(super) row: usize,
    pub(super) step: usize,
    /// Strips of a row.
    pub(super) strips: usize,
    /// Bytes of the last one.
    pub(super) last: usize,
    /// Interleaved levels.
    pub(super) weights: *const u8,
    pub(super) weights_step: usize,
}

/// What rows of output read in the ring. Invariant: `LANES` bytes of every strip, `step` bytes from one to the next, can
/// be read at the offset of each column from each row of each quad.
pub(super) struct Window {
    ring: *const u8,
    rows: usize,
    row_bytes: usize,
    /// The ring row of the first row.
    first: usize,
    dilation: usize,
    /// Quads of kernel rows.
    pub(super) quads: usize,
    /// Bytes from strip to strip.
    pub(super) step: usize,
    /// Kernel columns.
    pub(super) columns: usize,
    /// Bytes and phases from one to the next; beyond the last phase it goes on `wrap` bytes before.
    column: usize,
    phase: usize,
    phases: usize,
    wrap: usize,
}

impl Window {
    /// The rows of a quad; those beyond the last one, where levels are 0, are any.
    #[inline(always)]
    pub(super) fn quad(&self, quad: usize) -> [*const u8; QUAD] {
        let mut rows = [self.ring; QUAD];
        for (i, row) in rows.iter_mut().enumerate() {
            let at = self.first + ((quad * QUAD + i) * self.dilation).min(self.rows - 1);
            let at = if at >= self.rows { at - self.rows } else { at };
            *row = self.ring.wrapping_add(at * self.row_bytes);
        }
        rows
    }

    /// The offset of each column.
    #[inline(always)]
    pub(super) fn offsets(&self) -> impl Iterator<Item = usize> {
        let (mut at, mut phase) = (0, 0);
        (0..self.columns).map(move |_| {
            let here = at;
            at += self.column;
            phase += self.phase;
            if phase >= self.phases {
                phase -= self.phases;
                at = at.wrapping_sub(self.wrap);
            }
            here
        })
    }
}

/// Four rows of the input, for kernels of 3 by 3. Invariants: `LANES` bytes can be read `pixel` times `x` bytes from each
/// row that is `there`, for `x < width`, from the others, and from `outside`.
pub(super) struct Columns {
    rows: [*const u8; QUAD],
    /// All bits, or none for a row beyond the edge.
    there: [usize; QUAD],
    /// Padding.
    pub(super) outside: *const u8,
    pixel: usize,
    width: usize,
    /// Columns of padding.
    left: usize,
    pub(super) stride: usize,
}

impl Columns {
    /// Where to read column `x`, counted from the first one of padding; `None` beyond the edges.
    #[inline(always)]
    pub(super) fn at(&self, x: usize) -> Option<[*const u8; QUAD]> {
        let x = x.wrapping_sub(self.left);
        let mut column = self.rows;
        for i in 0..QUAD {
            column[i] = column[i].wrapping_add(x.wrapping_mul(self.pixel) & self.there[i]);
        }
        (x < self.width).then_some(column)
    }
}

/// A row of the input and its place in the ring. Invariants: `channels` bytes can be read for each of `pixels`,
/// `pixel` bytes from one another, and written to the phases in turn, from place `left` of them all on.
#[derive(Clone, Copy)]
pub(super) struct InputRow {
    pub(super) from: *const u8,
    pub(super) to: *mut u8,
    pub(super) pixels: usize,
    pub(super) pixel: usize,
    pub(super) channels: usize,
    pub(super) left: usize,
    pub(super) phases: usize,
    pub(super) phase_bytes: usize,
}

impl InputRow {
    /// Copies pixel by pixel. Inlined, to be compiled for the instruction set.
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

    /// Where the pixel at place `place` of all phases goes.
    #[inline(always)]
    pub(super) fn place(&self, place: usize) -> *mut u8 {
        let (phase, at) = (place % self.phases, place / self.phases);
        self.to.wrapping_add(phase * self.phase_bytes + at * self.channels)
    }

    /// Calls `copy` with the addresses of each pixel.
    #[inline(always)]
    fn each(&self, copy: impl Fn(*const u8, *mut u8)) {
        let (mut from, mut to, mut phase) = (self.from, self.place(self.left), self.left % self.phases);
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

/// Decodes the weights of some channels: the levels of a tap one after the other, those of the next tap `step` bytes
/// further on.
///
/// # Safety
/// The processor has the instructions; for each tap, the channels can be written, and a margin before and after them.
#[inline(always)]
pub(super) unsafe fn decode_channels<D: Depthwise>(conv: &Conv<'_>, channels: Range<usize>, to: *mut u8, step: usize) {
    for group in conv.weight_groups() {
        // From the panel of the first channel on.
        let index = channels.start.saturating_sub(group.first) / PANEL_CHANNELS;
        let end = channels.end.saturating_sub(group.first).div_ceil(PANEL_CHANNELS);
        if let Some(panels) = Panels::of(conv, &group, index, end.saturating_sub(index)) {
            let to = to.wrapping_add(panels.first).wrapping_sub(channels.start);
            // SAFETY: each panel meets the channels, hence its lanes start and end less than a margin away.
            // In the margins, and beyond the end of the group, levels are overwritten or mean nothing.
            unsafe { D::decode(&group, &panels, to, step) };
        }
        if group.first + group.channels >= channels.end {
            break;
        }
    }
}

/// Repeats the first `period` of `lanes` bytes.
///
/// # Safety
/// `at` has `lanes` bytes and a margin.
#[inline(always)]
pub(super) unsafe fn repeat(at: *mut u8, period: usize, lanes: usize) {
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
