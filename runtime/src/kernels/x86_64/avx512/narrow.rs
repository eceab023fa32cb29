//! Dense convolution of small windows to 8 channels at most: a vector of sums holds 4 channels of four pixels.
//!
//! With a panel's channels in a vector, half of the products would be for nothing, and every one would want a quad
//! of its own in all lanes. Here one load fetches a segment of four neighbouring windows, a quarter each, and quads
//! are repeated within quarters.

use core::arch::x86_64::*;
use core::array::from_fn;

use super::requantise::{Scale, load_channels, order, quarters, store_quarters};
use super::{STEP, lanes};
use crate::format::PANEL_DEPTH;
use crate::kernels::panels::dense::{Rectangle, Tile, Tiles};

/// Neighbouring pixels of a vector.
const PIXELS: usize = 4;
/// Bytes of each in a vector of codes.
const QUARTER: usize = STEP / PIXELS;
/// Channels of a vector.
const CHANNELS: usize = 4;
/// Vectors of all channels.
const GROUPS: usize = 2;
/// Quads of the largest window.
const QUADS: usize = 16;

/// Whether this is for a panel.
pub(super) fn suits(rectangle: &Rectangle) -> bool {
    let Rectangle { grid, walk, .. } = rectangle;
    let small = walk.len() <= QUADS && walk.quads * PANEL_DEPTH <= QUARTER;
    let near = grid.columns >= PIXELS && (PIXELS - 1) * grid.column_step + QUARTER <= STEP;
    small && near && rectangle.channels <= GROUPS * CHANNELS
}

/// How to go through it.
pub(super) fn tile(rectangle: &Rectangle) -> Tile {
    let vectors = vectors(rectangle.grid.columns);
    let packs = rectangle.channels == GROUPS * CHANNELS && rectangle.output_step == GROUPS * CHANNELS;
    Tile { windows: vectors * PIXELS, panels: 1, sums: vectors * GROUPS, fetches: vectors, packs }
}

/// Vectors of pixels in a tile.
fn vectors(columns: usize) -> usize {
    match columns / PIXELS {
        6.. => 6,
        3.. => 3,
        _ => 1,
    }
}

/// Multiplies the first panel.
///
/// # Safety
/// The processor has the instructions; [`suits`] says so.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
pub(super) unsafe fn multiply(tiles: &Tiles<'_>) {
    // SAFETY: the contract.
    unsafe {
        match tiles.walk().quads {
            1 => segments::<1>(tiles),
            2 => segments::<2>(tiles),
            3 => segments::<3>(tiles),
            _ => segments::<4>(tiles),
        }
    }
}

/// # Safety
/// As [`multiply`]; segments have `Q` quads.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
unsafe fn segments<const Q: usize>(tiles: &Tiles<'_>) {
    // SAFETY: no more pixels than columns.
    unsafe {
        match vectors(tiles.grid().columns) {
            6 => rows::<Q, 6>(tiles),
            3 => rows::<Q, 3>(tiles),
            _ => rows::<Q, 1>(tiles),
        }
    }
}

/// `M` times 4 pixels at a time; the last tile of a row covers again what it needs to be whole.
///
/// # Safety
/// As [`segments`]; there are as many columns.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
unsafe fn rows<const Q: usize, const M: usize>(tiles: &Tiles<'_>) {
    let (grid, walk, panels) = (tiles.grid(), tiles.walk(), tiles.panels());
    let whole = Scale::new(tiles.requantise(), panels, 0);
    let scales = whole.quarters();
    let bias = quarters(load_channels(panels.bias, panels.channels(0)));
    let step = tiles.output_step();
    let plain = !whole.is_wide() && whole.channels() == GROUPS * CHANNELS && step == GROUPS * CHANNELS;
    let fetch = Fetch::<Q>::new(grid.column_step);
    // SAFETY: windows and levels can be read along the walk, results lie in the output: the invariants of `Tiles`.
    unsafe {
        let levels = repeat(tiles.levels(), walk.len());
        for y in 0..grid.rows {
            let mut x = 0;
            while x < grid.columns {
                let first = x.min(grid.columns - M * PIXELS);
                let mut row = tiles.windows().add(y * grid.row_step + first * grid.column_step);
                let mut levels = levels.as_ptr();
                let mut sums = [[bias[0], bias[1]]; M];
                // Loops that test at their end leave the sums in their registers.
                let mut rows = walk.rows;
                loop {
                    let (mut tap, mut taps) = (row, walk.taps);
                    loop {
                        accumulate::<Q, M>(&mut sums, &fetch, tap, levels);
                        levels = levels.add(Q);
                        tap = tap.wrapping_add(walk.tap_step);
                        taps -= 1;
                        if taps == 0 {
                            break;
                        }
                    }
                    row = row.wrapping_add(walk.row_step);
                    rows -= 1;
                    if rows == 0 {
                        break;
                    }
                }
                let to = tiles.output().add((y * grid.columns + first) * step);
                if plain {
                    store(&scales, &sums, to);
                } else {
                    store_any(&scales, &copy!(sums, GROUPS, M), to, step);
                }
                x += M * PIXELS;
            }
        }
    }
}

/// The levels of `quads` steps, those of 4 channels in all quarters of a vector.
///
/// # Safety
/// The processor has the instructions; there are as many steps, [`QUADS`] at most.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
unsafe fn repeat(levels: *const u8, quads: usize) -> [[__m512i; GROUPS]; QUADS] {
    let mut all = [[_mm512_setzero_si512(); GROUPS]; QUADS];
    for (quad, groups) in all.iter_mut().enumerate().take(quads) {
        for (group, to) in groups.iter_mut().enumerate() {
            // SAFETY: a quarter of a step.
            let quarter = unsafe { _mm_loadu_si128(levels.add(quad * STEP + group * QUARTER).cast()) };
            *to = _mm512_broadcast_i32x4(quarter);
        }
    }
    all
}

/// How to fetch `Q` quads of four windows.
struct Fetch<const Q: usize> {
    /// Bytes from window to window.
    step: usize,
    /// Those that are read.
    mask: __mmask64,
    /// Where the codes of a quarter are in what was read.
    spread: __m512i,
}

impl<const Q: usize> Fetch<Q> {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    fn new(step: usize) -> Fetch<Q> {
        let spread: [u8; STEP] = from_fn(|i| (i / QUARTER * step + i % QUARTER) as u8);
        Fetch {
            step,
            mask: lanes((PIXELS - 1) * step + Q * PANEL_DEPTH),
            // SAFETY: 64 bytes.
            spread: unsafe { _mm512_loadu_si512(spread.as_ptr().cast()) },
        }
    }

    /// The quads of each window, a quarter each; what is above them means nothing.
    ///
    /// # Safety
    /// The processor has the instructions; those quads can be read.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn quads(&self, at: *const u8) -> __m512i {
        // SAFETY: the mask keeps the load to the windows.
        _mm512_permutexvar_epi8(self.spread, unsafe { _mm512_maskz_loadu_epi8(self.mask, at.cast()) })
    }
}

/// Adds the products of a segment.
///
/// # Safety
/// The processor has the instructions; the segment can be read from each window; it has as many levels.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
unsafe fn accumulate<const Q: usize, const M: usize>(
    sums: &mut [[__m512i; GROUPS]; M],
    fetch: &Fetch<Q>,
    at: *const u8,
    levels: *const [__m512i; GROUPS],
) {
    let mut codes = [_mm512_setzero_si512(); M];
    for m in 0..M {
        // SAFETY: the contract.
        codes[m] = unsafe { fetch.quads(at.add(m * PIXELS * fetch.step)) };
    }
    for q in 0..Q {
        // SAFETY: the contract.
        let levels = unsafe { levels.add(q).read() };
        for m in 0..M {
            let codes = match q {
                0 => _mm512_shuffle_epi32::<0x00>(codes[m]),
                1 => _mm512_shuffle_epi32::<0x55>(codes[m]),
                2 => _mm512_shuffle_epi32::<0xaa>(codes[m]),
                _ => _mm512_shuffle_epi32::<0xff>(codes[m]),
            };
            for g in 0..GROUPS {
                sums[m][g] = _mm512_dpbusd_epi32(sums[m][g], codes, levels[g]);
            }
        }
    }
}

/// Requantises and stores pixels of 8 channels without a gap.
///
/// # Safety
/// The processor has the instructions; the channels can be written for each pixel.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
unsafe fn store<const M: usize>(scales: &[Scale; 4], sums: &[[__m512i; GROUPS]; M], output: *mut u8) {
    // The first two vectors have 8 channels of four pixels, two more have those of the next.
    const ORDER: [u8; STEP] = {
        let mut from = [(0, 0); 16];
        let mut i = 0;
        while i < 16 {
            from[i] = (i as u8 / 2 % 4, i as u8 / 8 * 2 + i as u8 % 2);
            i += 1;
        }
        order(from)
    };
    for pair in 0..M.div_ceil(2) {
        let (first, second) = (sums[2 * pair], sums[(2 * pair + 1).min(M - 1)]);
        let [a, b] = [scales[0].apply(first[0]), scales[1].apply(first[1])];
        let [c, d] = [scales[0].apply(second[0]), scales[1].apply(second[1])];
        let codes = scales[0].pack([a, b, c, d], &ORDER);
        // SAFETY: the contract.
        unsafe {
            let to = output.add(pair * STEP);
            if 2 * pair + 1 < M {
                _mm512_storeu_si512(to.cast(), codes);
            } else {
                _mm256_storeu_si256(to.cast(), _mm512_castsi512_si256(codes));
            }
        }
    }
}

/// Requantises and stores pixels, `step` bytes apart, any channels by any scale.
///
/// # Safety
/// The processor has the instructions; the channels can be written for each pixel.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
unsafe fn store_any(scales: &[Scale; 4], sums: &[[__m512i; GROUPS]], output: *mut u8, step: usize) {
    // 4 channels of a pixel after those before.
    const ORDER: [u8; STEP] = {
        let mut from = [(0, 0); 16];
        let mut i = 0;
        while i < 16 {
            from[i] = (i as u8 / 4, i as u8 % 4);
            i += 1;
        }
        order(from)
    };
    for (m, sums) in sums.iter().enumerate() {
        let mut four = [_mm512_setzero_si512(); 4];
        for g in 0..GROUPS {
            four[g] = scales[g].apply(if scales[g].is_wide() { scales[g].narrow(sums[g]) } else { sums[g] });
        }
        let pixel = |i: usize| output.wrapping_add((m * PIXELS + i) * step);
        let to = [pixel(0), pixel(1), pixel(2), pixel(3)];
        // SAFETY: the contract.
        unsafe { store_quarters(scales[0].pack(four, &ORDER), to, [scales[0].channels(); 4]) };
    }
}
