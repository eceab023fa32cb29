//! The loop nest of dense convolution: blocks of panels, tiles of pixels.
//!
//! Windows inside the input are read where they lie. Those that reach beyond an edge, or whose padded
//! last segment would reach beyond the end of the input, are fetched into scratch first. Weights of fewer
//! than 8 bits are decoded once a block.

use super::window::{Frame, Panel, Walk, panel};
use crate::format::{Conv, PANEL_CHANNELS, Requantise, WeightGroup};
use crate::kernels::scratch;

/// Pixels of the largest tile of any instruction set.
pub(super) const MAX_PIXELS: usize = scratch::X86_TILE_PIXELS;
/// Panels of the largest block of any instruction set.
pub(super) const MAX_PANELS: usize = 2;

/// Windows to multiply with one block, and where their results go.
pub(super) struct Tile {
    /// First byte of each window.
    pub(super) windows: [*const u8; MAX_PIXELS],
    /// Offset of each pixel in the output. Entries from `len` on repeat the first.
    pub(super) outputs: [usize; MAX_PIXELS],
    pub(super) len: usize,
}

/// One or two panels, ready to multiply.
pub(super) struct Block<'a> {
    pub(super) panels: [Panel<'a>; MAX_PANELS],
    pub(super) len: usize,
    /// Levels of each panel, in the form of the instruction set.
    pub(super) levels: [*const u8; MAX_PANELS],
    pub(super) requantise: Requantise,
    pub(super) output: *mut u8,
}

/// What an instruction set brings to dense convolution.
///
/// # Safety
/// `PIXELS <= MAX_PIXELS`, `PANELS <= MAX_PANELS`, and a block's levels fit
/// [`scratch::X86_LEVELS`] bytes for each step of the depth.
pub(super) unsafe trait Dense {
    /// Pixels of a full tile.
    const PIXELS: usize;
    /// Panels of a full block.
    const PANELS: usize;
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
    /// The processor has the instructions. `1 <= tile.len <= PIXELS`, `1 <= block.len <= PANELS`. Every window can be
    /// read along `walk`, whose quads are as many as the depth of a panel has, at each of the block's
    /// `levels`. The block's channels of each pixel at `tile.outputs` lie in the output.
    unsafe fn tile(walk: &Walk, tile: &Tile, block: &Block<'_>);
}

impl Tile {
    const EMPTY: Tile = Tile { windows: [core::ptr::null(); MAX_PIXELS], outputs: [0; MAX_PIXELS], len: 0 };

    #[inline]
    fn push(&mut self, window: *const u8, output: usize) {
        if self.len == 0 {
            self.windows = [window; MAX_PIXELS];
            self.outputs = [output; MAX_PIXELS];
        }
        if let (Some(w), Some(o)) = (self.windows.get_mut(self.len), self.outputs.get_mut(self.len)) {
            (*w, *o) = (window, output);
            self.len += 1;
        }
    }
}

/// Dense convolution; leaves the output alone if the arguments do not fit together.
pub(super) fn run<D: Dense>(conv: &Conv<'_>, input: &[u8], output: &mut [u8], scratch: &mut [u8]) {
    let Some(mut frame) = Frame::new(conv, input, output, scratch) else { return };
    if conv.groups != 1 {
        return;
    }
    for group in conv.weight_groups() {
        let mut index = 0;
        while let Some(first) = panel(conv, &group, index) {
            let second = if D::PANELS > 1 { panel(conv, &group, index + 1) } else { None };
            block::<D>(&mut frame, &group, first, second);
            index += D::PANELS;
        }
    }
}

fn block<D: Dense>(frame: &mut Frame<'_>, group: &WeightGroup<'_>, first: Panel<'_>, second: Option<Panel<'_>>) {
    let depth = frame.depth();
    let len = 1 + usize::from(second.is_some());
    let panels = [first, second.unwrap_or(Panel::NONE)];
    let mut levels = [core::ptr::null(); MAX_PANELS];
    let scratch = frame.scratch.as_mut_ptr();
    for (k, (levels, panel)) in levels.iter_mut().zip(&panels).take(len).enumerate() {
        *levels = if D::levels_in_place(frame, group) {
            panel.codes.as_ptr()
        } else {
            // SAFETY: the frame's scratch begins with X86_LEVELS bytes for each step of the depth, room for
            // a full block of levels (the trait's contract); `k < PANELS`.
            unsafe {
                let to = scratch.add(k * depth * PANEL_CHANNELS * D::LEVEL_BYTES);
                D::decode(frame, group, panel.codes, to);
                to
            }
        };
    }
    let block = Block { panels, len, levels, requantise: frame.conv.requantise, output: frame.output.as_mut_ptr() };
    pixels::<D>(frame, &block);
}

fn pixels<D: Dense>(frame: &mut Frame<'_>, block: &Block<'_>) {
    let conv = frame.conv;
    let depth = frame.depth();
    let (in_place, fetched) = (frame.walk_input(), frame.walk_fetched());
    let [rows, columns] = frame.inside();
    // SAFETY: behind the levels, scratch holds a window for each pixel of a tile, or for each of the
    // output if those are fewer, and slack; `Frame` checked its length.
    let patches = unsafe { frame.scratch.as_mut_ptr().add(depth * scratch::X86_LEVELS) };
    let [pitch, step] = [conv.input.w * conv.input.c, conv.stride[1] * conv.input.c];
    // Bytes from the start of a window to the end of its last, padded segment.
    let last_row = (in_place.rows - 1).saturating_mul(in_place.row_step);
    let reach = last_row.saturating_add((in_place.taps - 1) * in_place.tap_step + frame.padded);
    let (mut inside, mut edge) = (Tile::EMPTY, Tile::EMPTY);
    let mut output = 0;
    for y in 0..conv.output.h {
        let columns = if rows.contains(&y) { columns.clone() } else { 0..0 };
        for x in 0..conv.output.w {
            let start = (columns.contains(&x))
                .then(|| (y * conv.stride[0] - conv.pad[0]) * pitch + x * step - conv.pad[1] * conv.input.c)
                .filter(|start| start + reach <= frame.input.len());
            if let Some(start) = start {
                // SAFETY: `start + reach` is within the input.
                inside.push(unsafe { frame.input.as_ptr().add(start) }, output);
                if inside.len == D::PIXELS {
                    // SAFETY: the instruction set was detected before this kernel was handed out. The windows
                    // lie in the input up to their reach; channels of a panel and pixels are inside the output.
                    unsafe { D::tile(&in_place, &inside, block) };
                    inside.len = 0;
                }
            } else {
                // SAFETY: there is a place for every pixel of a tile, and 64 bytes behind the last.
                unsafe {
                    let to = patches.add(edge.len * depth);
                    D::fetch(frame, y, x, to);
                    edge.push(to, output);
                }
                if edge.len == D::PIXELS {
                    // SAFETY: as above; the windows lie in scratch, `depth` bytes each.
                    unsafe { D::tile(&fetched, &edge, block) };
                    edge.len = 0;
                }
            }
            output += conv.output.c;
        }
    }
    for (walk, tile) in [(&in_place, &inside), (&fetched, &edge)] {
        if tile.len > 0 {
            // SAFETY: as above.
            unsafe { D::tile(walk, tile, block) };
        }
    }
}
