//! The loop nest of dense convolution: blocks of panels, tiles of pixels.
//!
//! Windows inside the input are read where they lie. Those that reach beyond an edge, or whose padded
//! last segment would reach beyond the end of the input, are fetched into scratch first. Weights of fewer
//! than 8 bits are decoded once a block.

use core::ops::Range;

use super::window::{Frame, Panels, Walk};
use crate::format::{Conv, PANEL_CHANNELS, PANEL_DEPTH, Requantise, WeightGroup};
use crate::kernels::scratch;

/// Pixels of the largest tile of any instruction set.
pub(super) const MAX_PIXELS: usize = scratch::X86_TILE_PIXELS;

/// Windows to multiply with one block, and where their results go. Entries from `len` on repeat one below.
pub(super) struct Tile {
    /// First byte of each window.
    pub(super) windows: [*const u8; MAX_PIXELS],
    /// Offset of each pixel in the output.
    pub(super) outputs: [usize; MAX_PIXELS],
    pub(super) len: usize,
}

/// A few panels, ready to multiply.
pub(super) struct Block<'a> {
    pub(super) panels: Panels<'a>,
    /// Levels of the panels, in the form of the instruction set, and bytes from panel to panel.
    pub(super) levels: *const u8,
    pub(super) level_step: usize,
    pub(super) requantise: Requantise,
    pub(super) output: *mut u8,
}

/// What an instruction set brings to dense convolution.
///
/// # Safety
/// `PIXELS <= MAX_PIXELS`, and the levels of `PANELS` panels take [`scratch::X86_LEVELS`] bytes for each
/// step of the depth, at most.
pub(super) unsafe trait Dense {
    /// Pixels of a full tile.
    const PIXELS: usize;
    /// Panels of a full block.
    const PANELS: usize;
    /// Panels of a full stream.
    const STREAM_PANELS: usize;
    /// Bytes of a level in scratch.
    const LEVEL_BYTES: usize;

    /// The codes of this group if they are levels that [`tile`](Self::tile) takes as they are.
    fn levels_in_place(frame: &Frame<'_>, group: &WeightGroup<'_>) -> bool;

    /// Decodes a panel; levels at padding positions become 0.
    ///
    /// # Safety
    /// The processor has the instructions; `codes` are one panel of `group`, a group of the frame's
    /// convolution; `to` takes `depth * 16 * LEVEL_BYTES` bytes.
    unsafe fn decode(frame: &Frame<'_>, group: &WeightGroup<'_>, codes: &[u8], to: *mut u8);

    /// Copies the window of output pixel (y, x), `zero_in` where it is beyond an edge, 0 at padding.
    ///
    /// # Safety
    /// The processor has the instructions; `to` takes the frame's `depth` and 64 bytes more.
    unsafe fn fetch(frame: &Frame<'_>, y: usize, x: usize, to: *mut u8);

    /// Multiplies, requantises and stores.
    ///
    /// # Safety
    /// The processor has the instructions. `1 <= tile.len <= PIXELS`, `1 <= block.panels.len <= PANELS`. Every window
    /// can be read along `walk`, which has as many quads as the levels of a panel. The panels' channels of each
    /// pixel at `tile.outputs` lie in the output.
    unsafe fn tile(walk: &Walk, tile: &Tile, block: &Block<'_>);

    /// Multiplies a single window, decoding in registers.
    ///
    /// # Safety
    /// The processor has the instructions. `1 <= stream.panels.len <= STREAM_PANELS`, panels of `group`, a panel
    /// having `stream.quads` steps of codes and the window as many quads; at padding, the window is 0. The
    /// panels' channels lie in the output.
    unsafe fn stream(group: &WeightGroup<'_>, stream: &Stream<'_>);
}

/// A few panels and the one window that all of them meet.
pub(super) struct Stream<'a> {
    pub(super) panels: Panels<'a>,
    /// `quads` times 4 codes.
    pub(super) window: *const u8,
    pub(super) quads: usize,
    pub(super) requantise: Requantise,
    pub(super) output: *mut u8,
}

impl Tile {
    const EMPTY: Tile = Tile { windows: [core::ptr::null(); MAX_PIXELS], outputs: [0; MAX_PIXELS], len: 0 };

    /// Adds the windows of a run while there are fewer than `most`; returns how many.
    #[inline]
    fn extend(&mut self, most: usize, run: Run) -> usize {
        let added = run.count.min(most.min(MAX_PIXELS) - self.len);
        let slots = self.len..self.len + added;
        let (mut window, mut output) = (run.window, run.output);
        for slot in self.windows.get_mut(slots.clone()).unwrap_or_default() {
            *slot = window;
            window = window.wrapping_add(run.step);
        }
        for slot in self.outputs.get_mut(slots).unwrap_or_default() {
            *slot = output;
            output += run.output_step;
        }
        self.len += added;
        added
    }

    /// Fills the entries from `len` on.
    fn repeat_first(&mut self) {
        let ([window, ..], [output, ..]) = (self.windows, self.outputs);
        self.windows.iter_mut().skip(self.len).for_each(|w| *w = window);
        self.outputs.iter_mut().skip(self.len).for_each(|o| *o = output);
    }
}

/// Pixels at equal distances.
struct Run {
    count: usize,
    window: *const u8,
    step: usize,
    output: usize,
    output_step: usize,
}

/// Dense convolution; leaves the output alone if the arguments do not fit together.
pub(super) fn run<D: Dense>(conv: &Conv<'_>, input: &[u8], output: &mut [u8], scratch: &mut [u8]) {
    let Some(frame) = Frame::new(conv, input, output, scratch) else { return };
    if conv.groups != 1 {
        return;
    }
    if conv.output.h == 1 && conv.output.w == 1 {
        return single::<D>(&frame);
    }
    for group in conv.weight_groups() {
        let mut index = 0;
        while let Some(panels) = Panels::of(conv, &group, index, D::PANELS) {
            index += panels.len;
            let (levels, level_step) = if D::levels_in_place(&frame, &group) {
                (panels.codes.as_ptr(), panels.step)
            } else {
                let step = frame.depth() * PANEL_CHANNELS * D::LEVEL_BYTES;
                let levels = frame.scratch;
                for (k, codes) in panels.codes.chunks(panels.step).enumerate() {
                    // SAFETY: the instruction set was detected before this kernel was handed out. The frame's scratch
                    // begins with X86_LEVELS bytes for each step of the depth, room for the levels of PANELS panels.
                    unsafe { D::decode(&frame, &group, codes, levels.add(k * step)) };
                }
                (levels.cast_const(), step)
            };
            let output = frame.output;
            let block = Block { panels, levels, level_step, requantise: conv.requantise, output };
            pixels::<D>(&frame, &block);
        }
    }
}

/// A single pixel, as fully connected layers have: each weight is used once.
fn single<D: Dense>(frame: &Frame<'_>) {
    let conv = frame.conv;
    let window = if scratch::x86_streams_in_place(conv) {
        frame.input.as_ptr()
    } else {
        // SAFETY: the instruction set was detected before this kernel was handed out. Scratch has room for the
        // depth and 64 bytes, since nothing is decoded to it.
        unsafe { D::fetch(frame, 0, 0, frame.scratch) };
        frame.scratch.cast_const()
    };
    for group in conv.weight_groups() {
        let mut index = 0;
        while let Some(panels) = Panels::of(conv, &group, index, D::STREAM_PANELS) {
            index += panels.len;
            let (quads, output) = (frame.depth() / PANEL_DEPTH, frame.output);
            let stream = Stream { panels, window, quads, requantise: conv.requantise, output };
            // SAFETY: the instruction set was detected; the depth of a panel is that of the window.
            unsafe { D::stream(&group, &stream) };
        }
    }
}

/// All pixels of the output, for one block.
fn pixels<D: Dense>(frame: &Frame<'_>, block: &Block<'_>) {
    let conv = frame.conv;
    let walk = frame.walk_input();
    let [rows, columns] = frame.inside();
    let (pitch, step) = (conv.input.w * conv.input.c, conv.stride[1] * conv.input.c);
    // A window must start before this byte for its last, padded segment to end within the input.
    let last_row = (walk.rows - 1).saturating_mul(walk.row_step);
    let last_tap = (walk.taps - 1).saturating_mul(walk.tap_step);
    let reach = last_row.saturating_add(last_tap).saturating_add(frame.padded);
    let starts = (frame.input.len() + 1).saturating_sub(reach);
    let mut inside = Tile::EMPTY;
    let mut edge = Edge { tile: Tile::EMPTY, walk: frame.walk_fetched() };
    for y in 0..conv.output.h {
        let mut columns = if rows.contains(&y) { columns.clone() } else { 0..0 };
        let row = (y * conv.stride[0]).wrapping_sub(conv.pad[0]).wrapping_mul(pitch);
        let start = |x: usize| row.wrapping_add(x * step).wrapping_sub(conv.pad[1] * conv.input.c);
        while !columns.is_empty() && start(columns.end - 1) >= starts {
            columns.end -= 1;
        }
        edge.pixels::<D>(frame, block, y, 0..columns.start);
        let mut x = columns.start;
        while x < columns.end {
            x += inside.extend(
                D::PIXELS,
                Run {
                    count: columns.end - x,
                    window: frame.input.as_ptr().wrapping_add(start(x)),
                    step,
                    output: (y * conv.output.w + x) * conv.output.c,
                    output_step: conv.output.c,
                },
            );
            if inside.len == D::PIXELS {
                // SAFETY: the instruction set was detected before this kernel was handed out. The windows lie
                // in the input up to their reach; channels of a panel and pixels are inside the output.
                unsafe { D::tile(&walk, &inside, block) };
                inside.len = 0;
            }
        }
        edge.pixels::<D>(frame, block, y, columns.end..conv.output.w);
    }
    if inside.len > 0 {
        inside.repeat_first();
        // SAFETY: as above.
        unsafe { D::tile(&walk, &inside, block) };
    }
    edge.flush::<D>(block);
}

/// Pixels whose windows have to be fetched.
struct Edge {
    tile: Tile,
    walk: Walk,
}

impl Edge {
    /// Adds pixels of row `y`.
    fn pixels<D: Dense>(&mut self, frame: &Frame<'_>, block: &Block<'_>, y: usize, columns: Range<usize>) {
        let (depth, conv) = (frame.depth(), frame.conv);
        for x in columns {
            // SAFETY: behind the levels, scratch holds a window for each pixel of a tile, or for each of the
            // output if those are fewer, and 64 bytes; the instruction set was detected.
            let window = unsafe {
                let to = frame.scratch.add(depth * (scratch::X86_LEVELS + self.tile.len));
                D::fetch(frame, y, x, to);
                to
            };
            let output = (y * conv.output.w + x) * conv.output.c;
            self.tile.extend(D::PIXELS, Run { count: 1, window, step: 0, output, output_step: 0 });
            if self.tile.len == D::PIXELS {
                self.flush::<D>(block);
            }
        }
    }

    /// Multiplies what there is.
    fn flush<D: Dense>(&mut self, block: &Block<'_>) {
        if self.tile.len > 0 {
            self.tile.repeat_first();
            // SAFETY: the instruction set was detected; the windows lie in scratch, a panel's depth each; channels of
            // a panel and pixels are inside the output.
            unsafe { D::tile(&self.walk, &self.tile, block) };
            self.tile.len = 0;
        }
    }
}
