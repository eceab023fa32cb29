//! The loop nest of dense convolution: blocks of panels, strips of input rows.
//!
//! Where no window reaches beyond an edge and segments are whole quads, the input is read where it lies.
//! Otherwise its rows are copied, `zero_in` around them, a strip of a few rows at a time; then no window
//! is special. A leaf multiplies a rectangle of windows at equal distances by a block of panels. Weights
//! of fewer than 8 bits are decoded once a block.

use core::marker::PhantomData;

use super::Panels;
use crate::format::{Add, Conv, PANEL_CHANNELS, PANEL_DEPTH, PANEL_STEP, Requantise, WeightFormat, WeightGroup};
use crate::kernels::scratch::{self, DECODED_PANELS, Strip};
use crate::kernels::work::{CAUSES, Work};
use crate::kernels::{Isa, residual};

/// Bytes of the levels of a step of a panel.
pub(in crate::kernels) const STEP: usize = PANEL_STEP;

/// What an instruction set brings to dense convolution. A value is proof that the processor has the instructions.
pub(in crate::kernels) trait Dense: Copy {
    /// The instruction set, for what is not convolution.
    const ISA: Isa;
    /// Panels of the largest block, a power of two: a block has that many, or a lesser power.
    const PANELS: usize;
    /// Panels of a full stream.
    const STREAM_PANELS: usize;

    /// The proof, if the processor has them.
    fn detected() -> Option<Self>;

    /// Turns the codes of a panel into levels of a byte each, step after step; 0 at padding.
    fn decode(self, group: &WeightGroup<'_>, segment: Segment, codes: &[u8], levels: &mut [u8]);

    /// Multiplies, requantises and stores.
    fn multiply(self, tiles: &Tiles<'_>);

    /// Multiplies a single window, decoding in registers.
    fn stream(self, group: &WeightGroup<'_>, stream: &Stream<'_>);
}

/// A run of weights that meet contiguous activations.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct Segment {
    /// Quads of 4 codes, padding included.
    pub(in crate::kernels) quads: usize,
    /// Codes of the last quad that count, 1 to 4.
    pub(in crate::kernels) last: usize,
}

impl Segment {
    fn of(conv: &Conv<'_>) -> Segment {
        let (_, len) = conv.segments();
        Segment { quads: len.div_ceil(PANEL_DEPTH), last: len - (len - 1) / PANEL_DEPTH * PANEL_DEPTH }
    }

    /// The bits of a quad's codes that count, if it is the last of its segment.
    pub(in crate::kernels) fn last_mask(&self) -> u32 {
        u32::MAX >> (8 * (PANEL_DEPTH - self.last))
    }
}

/// How the quads of a window follow one another from its first byte.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct Walk {
    pub(in crate::kernels) rows: usize,
    pub(in crate::kernels) row_step: usize,
    pub(in crate::kernels) taps: usize,
    pub(in crate::kernels) tap_step: usize,
    pub(in crate::kernels) quads: usize,
}

impl Walk {
    /// Over rows of input at a distance of `pitch`.
    fn of(conv: &Conv<'_>, pitch: usize) -> Walk {
        let [kh, kw] = conv.kernel;
        let [down, right] = conv.dilation;
        let (segments, _) = conv.segments();
        let taps = if segments == kh { 1 } else { kw };
        let quads = Segment::of(conv).quads;
        Walk {
            rows: kh,
            row_step: down.saturating_mul(pitch),
            taps,
            tap_step: right.saturating_mul(conv.input.c),
            quads,
        }
    }

    /// All quads of the window.
    pub(in crate::kernels) fn len(&self) -> usize {
        self.rows.saturating_mul(self.taps).saturating_mul(self.quads)
    }
}

/// The first bytes of windows.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct Grid {
    pub(in crate::kernels) rows: usize,
    pub(in crate::kernels) row_step: usize,
    pub(in crate::kernels) columns: usize,
    pub(in crate::kernels) column_step: usize,
}

impl Grid {
    /// One long row where the distance between columns is that between the last and the first of the next row.
    fn flat(self) -> Grid {
        if self.row_step == self.columns.saturating_mul(self.column_step) {
            Grid { rows: 1, row_step: 0, columns: self.rows.saturating_mul(self.columns), ..self }
        } else {
            self
        }
    }
}

/// What a leaf decides by how to multiply: windows, the way through them, and panels.
#[derive(Clone, Copy)]
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "only x86-64 has tiles of several shapes"))]
pub(in crate::kernels) struct Rectangle {
    pub(in crate::kernels) grid: Grid,
    pub(in crate::kernels) walk: Walk,
    pub(in crate::kernels) panels: usize,
    /// Channels of the panels.
    pub(in crate::kernels) channels: usize,
    /// Channels of the output, and so bytes from pixel to pixel.
    pub(in crate::kernels) output_step: usize,
}

/// How a leaf goes through a rectangle.
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "counted on x86-64 alone"))]
pub(in crate::kernels) struct Tile {
    /// Windows at a time.
    pub(in crate::kernels) windows: usize,
    /// Panels at a time.
    pub(in crate::kernels) panels: usize,
    /// Vectors of sums.
    pub(in crate::kernels) sums: usize,
    /// Vectors that are fetched for a step: codes and levels.
    pub(in crate::kernels) fetches: usize,
    /// Whether sums become codes four vectors at a time.
    pub(in crate::kernels) packs: bool,
}

/// A leaf whose work can be counted.
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "counted on x86-64 alone"))]
pub(in crate::kernels) trait Tiled: Dense {
    /// How [`Dense::multiply`] goes through a rectangle.
    fn tile(rectangle: &Rectangle) -> Tile;
}

/// A few panels, ready to multiply.
#[derive(Clone, Copy)]
struct Block<'a> {
    panels: Panels<'a>,
    /// Levels of the panels, and bytes from panel to panel.
    levels: &'a [u8],
    level_step: usize,
    /// What no product of a code and a level exceeds in magnitude.
    #[cfg_attr(target_arch = "aarch64", allow(dead_code, reason = "only AVX2 chooses its products by it"))]
    largest: u32,
    requantise: Requantise,
    /// Channels of the output.
    channels: usize,
}

/// A rectangle of windows and the panels that all of them meet. Invariants, kept by `new`:
///
/// * every window of the grid can be read along the walk;
/// * there is at least one panel, and each has a step of levels for every quad of the walk;
/// * the channels of the panels lie in the output for every pixel, which follow one another by rows.
pub(in crate::kernels) struct Tiles<'a> {
    windows: &'a [u8],
    grid: Grid,
    walk: Walk,
    block: Block<'a>,
    output: *mut u8,
    room: usize,
    memory: PhantomData<&'a mut [u8]>,
}

impl<'a> Tiles<'a> {
    /// `None` when an invariant does not hold.
    fn new(windows: &'a [u8], grid: Grid, walk: Walk, block: Block<'a>, output: &'a mut [u8]) -> Option<Tiles<'a>> {
        let span = |n: usize, step: usize| n.checked_sub(1)?.checked_mul(step);
        let starts = span(grid.rows, grid.row_step)?.checked_add(span(grid.columns, grid.column_step)?)?;
        let segments = span(walk.rows, walk.row_step)?.checked_add(span(walk.taps, walk.tap_step)?)?;
        let read = starts.checked_add(segments)?.checked_add(walk.quads.checked_mul(PANEL_DEPTH)?)?;
        let levels = span(block.panels.len, block.level_step)?.checked_add(walk.len().checked_mul(STEP)?)?;
        let pixels = span(grid.rows.checked_mul(grid.columns)?, block.channels)?;
        let written = pixels.checked_add(block.panels.first)?.checked_add(block.panels.bias.len())?;
        let fits = read <= windows.len() && levels <= block.levels.len() && written <= output.len();
        let output = output.get_mut(block.panels.first..)?;
        let (room, output) = (output.len(), output.as_mut_ptr());
        fits.then_some(Tiles { windows, grid, walk, block, output, room, memory: PhantomData })
    }

    /// Where the windows begin, counted from [`windows`](Self::windows).
    #[inline(always)]
    pub(in crate::kernels) fn grid(&self) -> Grid {
        self.grid
    }

    /// How to go through one.
    #[inline(always)]
    pub(in crate::kernels) fn walk(&self) -> Walk {
        self.walk
    }

    /// All that decides how to multiply.
    #[inline(always)]
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "only x86-64 has tiles of several shapes"))]
    pub(in crate::kernels) fn rectangle(&self) -> Rectangle {
        let panels = &self.block.panels;
        Rectangle {
            grid: self.grid,
            walk: self.walk,
            panels: panels.len,
            channels: panels.bias.len(),
            output_step: self.block.channels,
        }
    }

    /// The first byte of the first window.
    #[inline(always)]
    pub(in crate::kernels) fn windows(&self) -> *const u8 {
        self.windows.as_ptr()
    }

    /// The panels.
    #[inline(always)]
    pub(in crate::kernels) fn panels(&self) -> &Panels<'a> {
        &self.block.panels
    }

    /// The levels of the first panel.
    #[inline(always)]
    pub(in crate::kernels) fn levels(&self) -> *const u8 {
        self.block.levels.as_ptr()
    }

    /// Bytes from panel to panel.
    #[inline(always)]
    pub(in crate::kernels) fn level_step(&self) -> usize {
        self.block.level_step
    }

    /// What no product of a code and a level exceeds in magnitude, if codes have the bits that they should.
    #[inline(always)]
    #[cfg_attr(target_arch = "aarch64", allow(dead_code, reason = "only AVX2 chooses its products by it"))]
    pub(in crate::kernels) fn largest_product(&self) -> u32 {
        self.block.largest
    }

    /// From sum to code.
    #[inline(always)]
    pub(in crate::kernels) fn requantise(&self) -> &Requantise {
        &self.block.requantise
    }

    /// Where the first channel of the first pixel goes.
    #[inline(always)]
    pub(in crate::kernels) fn output(&self) -> *mut u8 {
        self.output
    }

    /// Bytes from pixel to pixel.
    #[inline(always)]
    pub(in crate::kernels) fn output_step(&self) -> usize {
        self.block.channels
    }

    /// Bytes that may be written from [`output`](Self::output) on if the pixels' own channels are written after what is
    /// beyond those of the pixels before: all of the rest where the panels have all channels of the output, else 0.
    #[inline(always)]
    #[cfg_attr(target_arch = "aarch64", allow(dead_code, reason = "only AVX-512 stores beyond channels"))]
    pub(in crate::kernels) fn room(&self) -> usize {
        if self.block.panels.bias.len() == self.block.channels { self.room } else { 0 }
    }
}

/// A few panels and the one window that all of them meet. Invariants, kept by `new`:
///
/// * there is at least one panel, and each has codes for every quad of the window;
/// * the channels of the panels lie in the output.
pub(in crate::kernels) struct Stream<'a> {
    panels: Panels<'a>,
    window: &'a [u8],
    #[cfg_attr(target_arch = "aarch64", allow(dead_code, reason = "only AVX2 chooses its products by it"))]
    bits_in: u8,
    requantise: Requantise,
    output: *mut u8,
    memory: PhantomData<&'a mut [u8]>,
}

impl<'a> Stream<'a> {
    /// `None` when an invariant does not hold.
    fn new(
        conv: &Conv<'a>,
        group: &WeightGroup<'a>,
        panels: Panels<'a>,
        window: &'a [u8],
        output: &'a mut [u8],
    ) -> Option<Stream<'a>> {
        let bits = group.format.bits() as usize;
        let quads = window.len() / PANEL_DEPTH;
        let coded = panels.len > 0 && panels.step >= quads.checked_mul(STEP / 8 * bits)?;
        let output = output.get_mut(panels.first..)?.get_mut(..panels.bias.len())?.as_mut_ptr();
        let (bits_in, requantise) = (conv.bits_in, conv.requantise);
        coded.then_some(Stream { panels, window, bits_in, requantise, output, memory: PhantomData })
    }

    /// The panels, whose codes are packed.
    #[inline(always)]
    pub(in crate::kernels) fn panels(&self) -> &Panels<'a> {
        &self.panels
    }

    /// Codes of the window, 0 at padding.
    #[inline(always)]
    pub(in crate::kernels) fn window(&self) -> *const u8 {
        self.window.as_ptr()
    }

    /// Quads of the window.
    #[inline(always)]
    pub(in crate::kernels) fn quads(&self) -> usize {
        self.window.len() / PANEL_DEPTH
    }

    /// What no product of a code and a level exceeds in magnitude, if codes have the bits that they should.
    #[inline(always)]
    #[cfg_attr(target_arch = "aarch64", allow(dead_code, reason = "only AVX2 chooses its products by it"))]
    pub(in crate::kernels) fn largest_product(&self, group: &WeightGroup<'_>) -> u32 {
        largest_product(self.bits_in, group)
    }

    /// From sum to code.
    #[inline(always)]
    pub(in crate::kernels) fn requantise(&self) -> &Requantise {
        &self.requantise
    }

    /// Where the first of the panels' channels goes.
    #[inline(always)]
    pub(in crate::kernels) fn output(&self) -> *mut u8 {
        self.output
    }
}

/// Dense convolution, and addition; leaves the output alone if the arguments do not fit together.
pub(in crate::kernels) fn run<D: Dense>(conv: &Conv<'_>, input: &[u8], output: &mut [u8], scratch: &mut [u8]) {
    let Some(isa) = D::detected().filter(|_| conv.groups == 1) else { return };
    let skip = scratch.as_ptr().align_offset(scratch::ALIGN).min(scratch.len());
    let scratch = scratch.get_mut(skip..).unwrap_or_default();
    // `None` would come of arguments that do not fit together.
    let _ran = match (&conv.residual, conv.output.h, conv.output.w) {
        (None, 1, 1) => single(isa, conv, input, output, scratch),
        (None, ..) => pixels(isa, conv, input, output, scratch),
        (Some(add), ..) => sums(isa, conv, add, input, output, scratch),
    };
}

/// Block after block, all pixels of each.
fn pixels<D: Dense>(isa: D, conv: &Conv<'_>, input: &[u8], output: &mut [u8], scratch: &mut [u8]) -> Option<()> {
    let (mut windows, scratch) = Windows::new(conv, input, scratch)?;
    blocks(isa, conv, scratch, |block| {
        let mut strips = output.chunks_mut(windows.outputs * conv.output.w * conv.output.c).enumerate();
        strips.try_for_each(|(index, output)| windows.of_strip(index)?.multiply(isa, block, output))
    })
}

/// Strip after strip, each added as soon as all blocks are there.
fn sums<D: Dense>(
    isa: D,
    conv: &Conv<'_>,
    add: &Add,
    input: &[u8],
    output: &mut [u8],
    scratch: &mut [u8],
) -> Option<()> {
    let (codes, scratch) = scratch.split_at_mut_checked(scratch::sums(conv))?;
    if (conv.output.h, conv.output.w) == (1, 1) {
        let codes = codes.get_mut(..output.len())?;
        single(isa, conv, input, codes, scratch)?;
        D::ISA.add(add, output, codes);
        return Some(());
    }
    let (mut windows, scratch) = Windows::new(conv, input, scratch)?;
    let mut strips = output.chunks_mut(windows.outputs * conv.output.w * conv.output.c).enumerate();
    if is_one_block::<D>(conv) {
        return blocks(isa, conv, scratch, |block| {
            strips.try_for_each(|(index, sum)| {
                let codes = codes.get_mut(..sum.len())?;
                windows.of_strip(index)?.multiply(isa, block, codes)?;
                D::ISA.add(add, sum, codes);
                Some(())
            })
        });
    }
    strips.try_for_each(|(index, sum)| {
        let codes = codes.get_mut(..sum.len())?;
        let here = windows.of_strip(index)?;
        blocks(isa, conv, scratch, |block| here.multiply(isa, block, codes))?;
        D::ISA.add(add, sum, codes);
        Some(())
    })
}

/// Whether a single block has all output channels.
fn is_one_block<D: Dense>(conv: &Conv<'_>) -> bool {
    let panels = conv.output.c.div_ceil(PANEL_CHANNELS);
    let fits = |group: WeightGroup<'_>| group.channels == conv.output.c && panels <= most_panels::<D>(group.format);
    panels.is_power_of_two() && conv.weight_groups().next().is_some_and(fits)
}

/// Panels of a block at most.
fn most_panels<D: Dense>(format: WeightFormat) -> usize {
    if scratch::decodes(format) { D::PANELS.min(DECODED_PANELS) } else { D::PANELS }
}

/// Panels of the next block, of so many: the largest power of two.
fn block_of(panels: usize) -> usize {
    1 << panels.ilog2()
}

/// Does something with every block.
fn blocks<D: Dense>(
    isa: D,
    conv: &Conv<'_>,
    scratch: &mut [u8],
    mut each: impl FnMut(Block<'_>) -> Option<()>,
) -> Option<()> {
    for group in conv.weight_groups() {
        let largest = largest_product(conv.bits_in, &group);
        let in_place = !scratch::decodes(group.format);
        let most = most_panels::<D>(group.format);
        let mut index = 0;
        while let Some(panels) = Panels::of(conv, &group, index, most) {
            let panels = Panels::of(conv, &group, index, block_of(panels.len))?;
            index += panels.len;
            let block = |levels, level_step| Block {
                panels,
                levels,
                level_step,
                largest,
                requantise: conv.requantise,
                channels: conv.output.c,
            };
            let block = if in_place {
                block(panels.codes, panels.step)
            } else {
                let level_step = panels.step / group.format.bits() as usize * 8;
                let levels = scratch.get_mut(..panels.len * level_step)?;
                for (codes, levels) in panels.codes.chunks_exact(panels.step).zip(levels.chunks_exact_mut(level_step)) {
                    isa.decode(&group, Segment::of(conv), codes, levels);
                }
                block(levels, level_step)
            };
            each(block)?;
        }
    }
    Some(())
}

/// The work of [`run`]: blocks, strips of theirs, rows and bytes copied, segments of tiles, products, vectors fetched for
/// them, vectors stored four at a time and otherwise, bytes of levels decoded.
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "counted on x86-64 alone"))]
pub(in crate::kernels) fn work<D: Tiled>(conv: &Conv<'_>, format: WeightFormat) -> Work {
    // Products that keep the multipliers busy: fewer take as long as these do, one waiting for another.
    const BUSY: usize = 8;
    let panels = conv.output.c.div_ceil(PANEL_CHANNELS);
    let strip = Strip::of(conv);
    let (pitch, outputs) = match &strip {
        Some(strip) => (strip.pitch, strip.outputs),
        None => (conv.input.w * conv.input.c, conv.output.h),
    };
    let walk = Walk::of(conv, pitch);
    if (conv.output.h, conv.output.w) == (1, 1) {
        let gathered = if scratch::streams_in_place(conv) { [0; 2] } else { [walk.rows * walk.taps, walk.len()] };
        return [1, 0, gathered[0], gathered[1], panels, panels * walk.len(), walk.len(), panels.div_ceil(4), 0, 0];
    }
    let grid = grid(conv, outputs, pitch);
    let strips = conv.output.h.div_ceil(outputs);
    let rows = if strips == 1 { grid.rows } else { conv.output.h };
    let most = most_panels::<D>(format);
    let mut work = [0; CAUSES];
    let mut index = 0;
    while index < panels {
        let block = block_of((panels - index).min(most));
        let channels = (conv.output.c - index * PANEL_CHANNELS).min(block * PANEL_CHANNELS);
        index += block;
        let tile = D::tile(&Rectangle { grid, walk, panels: block, channels, output_step: conv.output.c });
        let tiles = rows * grid.columns.div_ceil(tile.windows) * (block / tile.panels);
        let [copied_rows, copied] = strip.as_ref().map_or([0; 2], |strip| [strip.rows, strip.bytes()]);
        let stored = if tile.packs { [tile.sums.div_ceil(4), 0] } else { [0, tile.sums] };
        let causes = [
            1,
            strips,
            strips * copied_rows,
            strips * copied,
            tiles * walk.rows * walk.taps,
            tiles * walk.len() * tile.sums.max(BUSY),
            tiles * walk.len() * tile.fetches,
            tiles * stored[0],
            tiles * stored[1],
            if scratch::decodes(format) { block * walk.len() * STEP } else { 0 },
        ];
        work.iter_mut().zip(causes).for_each(|(sum, count)| *sum += count);
    }
    work
}

/// Where the windows of a convolution are read: in the input if they lie there, else in a strip of it, copied.
struct Windows<'a> {
    conv: &'a Conv<'a>,
    input: &'a [u8],
    strip: Option<Strip>,
    copied: &'a mut [u8],
    /// Rows of output of a strip.
    outputs: usize,
}

impl<'a> Windows<'a> {
    /// Also gives back the scratch that is left.
    fn new(conv: &'a Conv<'a>, input: &'a [u8], scratch: &'a mut [u8]) -> Option<(Windows<'a>, &'a mut [u8])> {
        let strip = Strip::of(conv);
        let (copied, scratch) = scratch.split_at_mut_checked(strip.as_ref().map_or(0, Strip::bytes))?;
        copied.fill(conv.zero_in);
        let outputs = match (&strip, conv.residual) {
            (Some(strip), _) => strip.outputs,
            (None, Some(_)) => residual::strip_rows(conv),
            (None, None) => conv.output.h,
        };
        Some((Windows { conv, input, strip, copied, outputs }, scratch))
    }

    /// The windows of a strip.
    fn of_strip(&mut self, index: usize) -> Option<StripWindows<'_>> {
        let conv = self.conv;
        let first = index * self.outputs * conv.stride[0];
        let (bytes, pitch) = match &self.strip {
            None => (self.input.get(first * conv.input.w * conv.input.c..)?, conv.input.w * conv.input.c),
            Some(strip) => {
                copy_rows(conv, self.input, strip, first, self.copied);
                (&*self.copied, strip.pitch)
            }
        };
        Some(StripWindows { conv, bytes, pitch })
    }
}

/// The windows of a few rows of output.
#[derive(Clone, Copy)]
struct StripWindows<'a> {
    conv: &'a Conv<'a>,
    bytes: &'a [u8],
    /// Bytes from row to row.
    pitch: usize,
}

impl StripWindows<'_> {
    /// As many rows as `output` holds.
    fn multiply<D: Dense>(&self, isa: D, block: Block<'_>, output: &mut [u8]) -> Option<()> {
        let conv = self.conv;
        let rows = output.len() / (conv.output.w * conv.output.c);
        isa.multiply(&Tiles::new(self.bytes, grid(conv, rows, self.pitch), Walk::of(conv, self.pitch), block, output)?);
        Some(())
    }
}

/// The windows of so many rows of output.
fn grid(conv: &Conv<'_>, rows: usize, pitch: usize) -> Grid {
    let [down, right] = conv.stride;
    let (row_step, column_step) = (down.saturating_mul(pitch), right.saturating_mul(conv.input.c));
    Grid { rows, row_step, columns: conv.output.w, column_step }.flat()
}

/// Copies the rows of a strip from row `first` on, rows of padding above the input being counted. What is
/// beside the input stays as it is.
fn copy_rows(conv: &Conv<'_>, input: &[u8], strip: &Strip, first: usize, copied: &mut [u8]) {
    let row = conv.input.w * conv.input.c;
    let left = conv.pad[1] * conv.input.c;
    let len = row.min(strip.pitch.saturating_sub(left));
    for (y, to) in (first..).zip(copied.chunks_exact_mut(strip.pitch)) {
        let from = y.checked_sub(conv.pad[0]).and_then(|y| input.get(y * row..)?.get(..len));
        match (to.get_mut(left..left + len), from) {
            (Some(to), Some(from)) => to.copy_from_slice(from),
            (Some(to), None) => to.fill(conv.zero_in),
            (None, _) => {}
        }
    }
}

/// A single pixel, as fully connected layers have: each weight is used once.
fn single<D: Dense>(isa: D, conv: &Conv<'_>, input: &[u8], output: &mut [u8], scratch: &mut [u8]) -> Option<()> {
    let (segments, len) = conv.segments();
    let depth = segments * len.next_multiple_of(PANEL_DEPTH);
    let window: &[u8] = if scratch::streams_in_place(conv) {
        input.get(..depth)?
    } else {
        let window = scratch.get_mut(..depth)?;
        gather(conv, input, window);
        window
    };
    let mut groups = conv.weight_groups();
    // Where it lies: to copy it in larger parts than it was written in, a processor waits until it is written.
    while let Some(group) = &groups.next() {
        let mut index = 0;
        while let Some(panels) = Panels::of(conv, group, index, D::STREAM_PANELS) {
            index += panels.len;
            isa.stream(group, &Stream::new(conv, group, panels, window, output)?);
        }
    }
    Some(())
}

fn largest_product(bits_in: u8, group: &WeightGroup<'_>) -> u32 {
    ((1 << bits_in.min(8)) - 1) * group.largest_level()
}

/// Copies the window of the first pixel, `zero_in` where it is beyond an edge, 0 at padding.
fn gather(conv: &Conv<'_>, input: &[u8], window: &mut [u8]) {
    let (segments, len) = conv.segments();
    let [kh, kw] = conv.kernel;
    let c = conv.input.c;
    let taps = if segments == kh { 1 } else { kw };
    window.fill(0);
    for (index, segment) in window.chunks_exact_mut(len.next_multiple_of(PANEL_DEPTH)).enumerate() {
        let y = (index / taps * conv.dilation[0]).wrapping_sub(conv.pad[0]);
        for (x, to) in (index % taps * conv.dilation[1]..).zip(segment.chunks_exact_mut(c).take(len / c)) {
            let x = x.wrapping_sub(conv.pad[1]);
            let inside = y < conv.input.h && x < conv.input.w;
            let from =
                if inside { input.get((y * conv.input.w + x) * c..).and_then(|rest| rest.get(..c)) } else { None };
            match from {
                Some(from) => to.copy_from_slice(from),
                None => to.fill(conv.zero_in),
            }
        }
    }
}
