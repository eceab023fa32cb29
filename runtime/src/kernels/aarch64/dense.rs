//! Dense convolution: what the instruction sets of this architecture share.

use core::arch::aarch64::*;
use core::array::from_fn;

use super::levels::Decoder;
use super::requantise::{Scale, Sums, load_channels};
use crate::format::{PANEL_CHANNELS, WeightGroup};
use crate::kernels::Isa;
use crate::kernels::panels::dense::{Dense, STEP, Segment, Stream, Tiles, Walk};

/// What an instruction set brings to dense convolution. A value is proof that the processor has the instructions.
pub(super) trait Tile: Copy {
    /// Pixels of a full tile, 6 at most.
    const PIXELS: usize;
    /// What the number of pixels of a tile is a multiple of; the last windows may be the same one.
    const GRAIN: usize;
    /// What is worked out of a panel before its first tile.
    type Panel;

    /// The proof, if the processor has them.
    fn detected() -> Option<Self>;

    /// Works it out.
    ///
    /// # Safety
    /// There is a step of levels for every quad of the walk.
    unsafe fn panel(self, bias: Sums, walk: &Walk, levels: *const i8) -> Self::Panel;

    /// The sums of the pixels of a tile.
    ///
    /// # Safety
    /// There is a step of levels for every quad of the walk; along it, the windows can be read.
    unsafe fn sums<const N: usize>(
        self,
        panel: &Self::Panel,
        walk: &Walk,
        levels: *const i8,
        windows: [*const u8; N],
    ) -> [Sums; N];

    /// Hands out the sums of a single window by each panel, biases not included.
    fn stream(self, group: &WeightGroup<'_>, stream: &Stream<'_>, done: impl FnMut(usize, Sums));
}

/// A panel, ready to meet tiles.
struct Job<T: Tile> {
    isa: T,
    walk: Walk,
    /// Bytes from window to window, and from pixel to pixel of the output.
    window_step: usize,
    output_step: usize,
    levels: *const i8,
    panel: T::Panel,
    scale: Scale,
}

impl<T: Tile> Dense for T {
    // Additions are the same for all of them.
    const ISA: Isa = Isa::Neon;
    const PANELS: usize = 16;
    const STREAM_PANELS: usize = 16;

    fn detected() -> Option<T> {
        <T as Tile>::detected()
    }

    fn decode(self, group: &WeightGroup<'_>, segment: Segment, codes: &[u8], levels: &mut [u8]) {
        // SAFETY: NEON is there.
        unsafe { decode(group, segment, codes, levels) };
    }

    fn multiply(self, tiles: &Tiles<'_>) {
        let (grid, walk, panels) = (tiles.grid(), tiles.walk(), tiles.panels());
        for p in 0..panels.len {
            // SAFETY: NEON is there, the panel one of those that tiles have, with levels for every quad of the
            // walk; windows can be read along it, and channels lie in the output.
            unsafe {
                let levels = tiles.levels().add(p * tiles.level_step()).cast();
                let bias = load_channels(&panels.bias[panels.channels(p)]);
                let job = Job {
                    isa: self,
                    walk,
                    window_step: grid.column_step,
                    output_step: tiles.output_step(),
                    levels,
                    panel: self.panel(bias, &walk, levels),
                    scale: Scale::new(tiles.requantise(), panels, p),
                };
                let output = tiles.output().add(p * PANEL_CHANNELS);
                for y in 0..grid.rows {
                    let output = output.add(y * grid.columns * job.output_step);
                    job.row(tiles.windows().add(y * grid.row_step), output, grid.columns);
                }
            }
        }
    }

    fn stream(self, group: &WeightGroup<'_>, stream: &Stream<'_>) {
        let panels = stream.panels();
        Tile::stream(self, group, stream, |p, sums| {
            // SAFETY: NEON is there; the panel's channels lie in the output.
            unsafe {
                let bias = load_channels(&panels.bias[panels.channels(p)]);
                let scale = Scale::new(stream.requantise(), panels, p);
                let sums = [0, 1, 2, 3].map(|i| vaddq_s32(bias[i], sums[i]));
                scale.store(sums, stream.output().add(p * PANEL_CHANNELS));
            }
        });
    }
}

impl<T: Tile> Job<T> {
    /// Tiles of nearly equal size.
    ///
    /// # Safety
    /// So many windows follow one another, and as many pixels of output.
    unsafe fn row(&self, windows: *const u8, output: *mut u8, columns: usize) {
        let (mut windows, mut output, mut left) = (windows, output, columns);
        for tiles in (1..=columns.div_ceil(T::PIXELS)).rev() {
            let n = left.div_ceil(tiles).next_multiple_of(T::GRAIN);
            // SAFETY: `n`, but for `n - left` of them, are left.
            unsafe {
                match n {
                    1 => self.tile::<1>(windows, output, left),
                    2 => self.tile::<2>(windows, output, left),
                    3 => self.tile::<3>(windows, output, left),
                    4 => self.tile::<4>(windows, output, left),
                    5 => self.tile::<5>(windows, output, left),
                    _ => self.tile::<6>(windows, output, left),
                }
            }
            windows = windows.wrapping_add(n * self.window_step);
            output = output.wrapping_add(n * self.output_step);
            left = left.saturating_sub(n);
        }
    }

    /// Multiplies, requantises and stores `N` pixels, or as many as are `left`. Not inlined: the loops would carry
    /// the scale along, and spill sums.
    ///
    /// # Safety
    /// There is one window at least, and room in the output for the pixels.
    #[inline(never)]
    unsafe fn tile<const N: usize>(&self, windows: *const u8, output: *mut u8, left: usize) {
        let windows = from_fn(|n| windows.wrapping_add(n.min(left - 1) * self.window_step));
        // SAFETY: the contract, and the job's making.
        unsafe {
            let sums = self.isa.sums::<N>(&self.panel, &self.walk, self.levels, windows);
            for n in 0..N {
                if T::GRAIN == 1 || n < left {
                    self.scale.store(sums[n], output.add(n * self.output_step));
                }
            }
        }
    }
}

/// Four codes, four times.
///
/// # Safety
/// They can be read.
#[inline]
#[target_feature(enable = "neon")]
pub(super) unsafe fn repeat_quad(codes: *const u8) -> uint8x16_t {
    // SAFETY: the contract.
    unsafe { vreinterpretq_u8_u32(vdupq_n_u32(codes.cast::<u32>().read_unaligned())) }
}

/// Decodes a panel, 0 at padding.
#[target_feature(enable = "neon")]
fn decode(group: &WeightGroup<'_>, segment: Segment, codes: &[u8], levels: &mut [u8]) {
    let counted = vreinterpretq_s8_u32(vdupq_n_u32(segment.last_mask()));
    let (steps, _) = levels.as_chunks_mut::<STEP>();
    let n = steps.len();
    let (mut steps, mut quad) = (steps.iter_mut(), 0);
    Decoder::new(group, 0).each(codes, n, |mut levels| {
        let Some(to) = steps.next() else { return };
        quad += 1;
        if quad == segment.quads {
            quad = 0;
            levels = levels.map(|levels| vandq_s8(levels, counted));
        }
        for (to, levels) in to.as_chunks_mut::<16>().0.iter_mut().zip(levels) {
            // SAFETY: 16 bytes.
            unsafe { vst1q_s8(to.as_mut_ptr().cast(), levels) };
        }
    });
}
