//! Dense convolution: a tile of pixels by a few panels, all sums in registers.

use core::arch::x86_64::*;
use core::cmp::Ordering;

use super::Avx512;
use super::levels::{Bytes, Levels, Table64, Table128};
use super::narrow;
use super::requantise::{BY_VECTOR, Scale, load_channels, store_quarters};
use super::stream::stream;
use crate::format::{PANEL_CHANNELS, PANEL_DEPTH, WeightGroup};
use crate::kernels::Isa;
use crate::kernels::panels::dense::{Dense, Rectangle, STEP, Segment, Stream, Tile, Tiled, Tiles};
use crate::kernels::x86_64::detect;

impl Dense for Avx512 {
    const ISA: Isa = Isa::Avx512Vnni;
    const PANELS: usize = 4;
    const STREAM_PANELS: usize = usize::MAX;

    #[inline]
    fn detected() -> Option<Avx512> {
        detect(Isa::Avx512Vnni).then_some(Avx512(()))
    }

    fn decode(self, group: &WeightGroup<'_>, segment: Segment, codes: &[u8], levels: &mut [u8]) {
        // SAFETY: the processor has the instructions, or there would be no `self`.
        unsafe {
            match group.format.bits() {
                8 => decode(&Bytes, segment, codes, levels),
                7 => decode(&Table128::new(group), segment, codes, levels),
                _ => decode(&Table64::new(group), segment, codes, levels),
            }
        }
    }

    fn multiply(self, tiles: &Tiles<'_>) {
        // SAFETY: the processor has the instructions, or there would be no `self`; there are as many panels, at
        // least, and as many columns.
        unsafe {
            let rectangle = tiles.rectangle();
            match rectangle.panels {
                1 if narrow::suits(&rectangle) => narrow::multiply(tiles),
                1 => one_panel(tiles),
                2 | 3 => two_panels(tiles),
                _ => four_panels(tiles),
            }
        }
    }

    fn stream(self, group: &WeightGroup<'_>, window: &Stream<'_>) {
        // SAFETY: the processor has the instructions, or there would be no `self`.
        unsafe { stream(group, window) };
    }
}

/// The tile for one panel.
///
/// # Safety
/// The processor has the instructions.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
unsafe fn one_panel(tiles: &Tiles<'_>) {
    let rectangle = tiles.rectangle();
    // SAFETY: no more pixels than columns, one panel at least.
    unsafe {
        match pixels(&rectangle) {
            16 if share(&rectangle) => multiply::<1, 16, TAPS>(tiles),
            16 => multiply::<1, 16, 1>(tiles),
            12 => multiply::<1, 12, 1>(tiles),
            10 => multiply::<1, 10, 1>(tiles),
            8 if share(&rectangle) => multiply::<1, 8, TAPS>(tiles),
            8 => multiply::<1, 8, 1>(tiles),
            6 => multiply::<1, 6, 1>(tiles),
            4 => multiply::<1, 4, 1>(tiles),
            3 => multiply::<1, 3, 1>(tiles),
            2 => multiply::<1, 2, 1>(tiles),
            _ => multiply::<1, 1, 1>(tiles),
        }
    }
}

/// The tile for two panels.
///
/// # Safety
/// The processor has the instructions; there are two panels at least.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
unsafe fn two_panels(tiles: &Tiles<'_>) {
    let rectangle = tiles.rectangle();
    // SAFETY: no more pixels than columns.
    unsafe {
        match pixels(&rectangle) {
            12 => multiply::<2, 12, 1>(tiles),
            10 => multiply::<2, 10, 1>(tiles),
            8 if share(&rectangle) => multiply::<2, 8, TAPS>(tiles),
            8 => multiply::<2, 8, 1>(tiles),
            6 => multiply::<2, 6, 1>(tiles),
            5 => multiply::<2, 5, 1>(tiles),
            4 => multiply::<2, 4, 1>(tiles),
            3 => multiply::<2, 3, 1>(tiles),
            2 => multiply::<2, 2, 1>(tiles),
            _ => multiply::<2, 1, 1>(tiles),
        }
    }
}

/// The tile for four panels.
///
/// # Safety
/// The processor has the instructions; there are four panels at least.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
unsafe fn four_panels(tiles: &Tiles<'_>) {
    let rectangle = tiles.rectangle();
    // SAFETY: no more pixels than columns.
    unsafe {
        match pixels(&rectangle) {
            6 => multiply::<4, 6, 1>(tiles),
            5 => multiply::<4, 5, 1>(tiles),
            4 if share(&rectangle) => multiply::<4, 4, TAPS>(tiles),
            4 => multiply::<4, 4, 1>(tiles),
            3 => multiply::<4, 3, 1>(tiles),
            2 => multiply::<4, 2, 1>(tiles),
            _ => multiply::<4, 1, 1>(tiles),
        }
    }
}

/// How many columns a tile takes if they are shared out among as few as possible, `most` each.
pub(super) fn even_split(columns: usize, most: usize) -> usize {
    columns.div_ceil(columns.div_ceil(most))
}

/// How many columns a tile takes, as many as its sums have registers for or about half of them: as many as leave the
/// last tile the least to do again.
///
/// While a tile is requantised, the processor looks ahead to the products of the next: in windows of `short` quads at
/// most, it does so best if tiles are small.
fn pixels(rectangle: &Rectangle) -> usize {
    let (most, short) = match rectangle.panels {
        1 => (16, 4),
        2 | 3 => (12, 24),
        _ => (6, 24),
    };
    let columns = rectangle.grid.columns;
    let [many, few] = [most, most / 2].map(|most| even_split(columns, most));
    let [again, again_of_few] = [many, few].map(|pixels| columns.next_multiple_of(pixels) - columns);
    let pixels = match again.cmp(&again_of_few) {
        Ordering::Greater => few,
        Ordering::Equal if rectangle.walk.len() <= short => few,
        _ => many,
    };
    // There are no tiles of other sizes.
    match (rectangle.panels, pixels) {
        (1, 5) => 4,
        (_, 7..12) => pixels / 2 * 2,
        (_, 12..16) => 12,
        _ => pixels,
    }
}

impl Tiled for Avx512 {
    fn tile(rectangle: &Rectangle) -> Tile {
        let &Rectangle { panels, channels, output_step, .. } = rectangle;
        if panels == 1 && narrow::suits(rectangle) {
            return narrow::tile(rectangle);
        }
        let windows = pixels(rectangle);
        let shares = share(rectangle) && matches!((panels, windows), (1, 8 | 16) | (2, 8) | (4, 4));
        Tile {
            windows,
            panels,
            sums: windows * panels,
            fetches: panels + if shares { windows.div_ceil(TAPS) } else { windows },
            packs: windows * panels >= 4 && (channels.is_multiple_of(PANEL_CHANNELS) || channels == output_step),
        }
    }
}

/// Does something for `$i` from 0 to a constant, 18 at most, in as many statements: what a loop indexes by a
/// variable is kept in memory, and compilers leave loops of this size as they are.
macro_rules! unroll {
    ($i:ident in 0..$n:expr => $body:block) => {
        unroll!(@ $i, $n, $body, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17)
    };
    (@ $i:ident, $n:expr, $body:block, $($k:literal)*) => {
        const { assert!($n <= 18) };
        $(if $k < $n {
            let $i: usize = $k;
            $body
        })*
    };
}

/// Taps of a segment that neighbouring windows share.
const TAPS: usize = 3;

/// Whether segments have three taps and the next window begins at the second.
fn share(rectangle: &Rectangle) -> bool {
    rectangle.walk.quads * PANEL_DEPTH == TAPS * rectangle.grid.column_step
}

/// `P` panels by `N` pixels at a time; the last tile of a row covers again what it needs to be whole.
///
/// # Safety
/// The processor has the instructions; there are `P` panels and `N` columns at least.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
unsafe fn multiply<const P: usize, const N: usize, const T: usize>(tiles: &Tiles<'_>) {
    let (grid, walk, panels) = (tiles.grid(), tiles.walk(), tiles.panels());
    let mut biases = [_mm512_setzero_si512(); P];
    let mut scales = [Scale::new(tiles.requantise(), panels, 0); P];
    for p in 0..P {
        biases[p] = load_channels(panels.bias, panels.channels(p));
        scales[p] = Scale::new(tiles.requantise(), panels, p);
    }
    let simple = N * P >= 4 && !scales.iter().any(Scale::is_wide);
    let whole = scales.iter().all(Scale::is_whole);
    // SAFETY: windows and levels can be read along the walk, results lie in the output: the invariants of `Tiles`.
    unsafe {
        for y in 0..grid.rows {
            let mut x = 0;
            while x < grid.columns {
                let first = x.min(grid.columns - N);
                let mut sums = [biases; N];
                let mut row = tiles.windows().add(y * grid.row_step + first * grid.column_step);
                let mut levels = tiles.levels();
                // A walk has a row and a tap at least: loops that test at their end leave the sums in their registers.
                let mut rows = walk.rows;
                loop {
                    let (mut tap, mut taps) = (row, walk.taps);
                    loop {
                        if T == TAPS {
                            accumulate_shared(&mut sums, tap, grid.column_step, levels, tiles.level_step());
                        } else {
                            accumulate(&mut sums, tap, grid.column_step, levels, tiles.level_step(), walk.quads);
                        }
                        levels = levels.add(walk.quads * STEP);
                        tap = tap.add(walk.tap_step);
                        taps -= 1;
                        if taps == 0 {
                            break;
                        }
                    }
                    row = row.add(walk.row_step);
                    rows -= 1;
                    if rows == 0 {
                        break;
                    }
                }
                let pixel = y * grid.columns + first;
                let to = tiles.output().add(pixel * tiles.output_step());
                // Ragged pixels are stored whole too: what is beyond them belongs to the next ones, which follow.
                let end = (pixel + N - 1) * tiles.output_step() + P * PANEL_CHANNELS;
                if simple && (whole || end <= tiles.room()) {
                    store(&scales, &sums, to, tiles.output_step());
                } else {
                    // Sums whose address is taken are kept in memory all along.
                    let mut copy = [[_mm512_setzero_si512(); P]; N];
                    for n in 0..N {
                        for p in 0..P {
                            copy[n][p] = sums[n][p];
                        }
                    }
                    store_any(&scales, &mut copy, to, tiles.output_step());
                }
                x += N;
            }
        }
    }
}

/// Adds the products of a segment whose taps neighbouring windows [`share`]: a quad is loaded once for all of them.
///
/// # Safety
/// As [`accumulate`], for three times as many quads as windows are apart, one at least.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
unsafe fn accumulate_shared<const P: usize, const N: usize>(
    sums: &mut [[__m512i; P]; N],
    window: *const u8,
    step: usize,
    levels: *const u8,
    level_step: usize,
) {
    let (mut window, mut levels, mut quads) = (window, levels, step / PANEL_DEPTH);
    loop {
        // SAFETY: the contract.
        unsafe {
            let mut weights = [[_mm512_setzero_si512(); P]; TAPS];
            for tap in 0..TAPS {
                for p in 0..P {
                    let at = levels.add(tap * step / PANEL_DEPTH * STEP + p * level_step);
                    weights[tap][p] = _mm512_loadu_si512(at.cast());
                }
            }
            unroll!(n in 0..N + TAPS - 1 => {
                let codes = _mm512_set1_epi32(window.add(n * step).cast::<i32>().read_unaligned());
                for tap in 0..TAPS {
                    if tap <= n && n - tap < N {
                        for p in 0..P {
                            sums[n - tap][p] = _mm512_dpbusd_epi32(sums[n - tap][p], codes, weights[tap][p]);
                        }
                    }
                }
            });
        }
        quads -= 1;
        if quads == 0 {
            break;
        }
        window = window.wrapping_add(PANEL_DEPTH);
        levels = levels.wrapping_add(STEP);
    }
}

/// Adds the products of a segment.
///
/// # Safety
/// The processor has the instructions; `quads` quads can be read from each of `N` windows and `P` panels.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
unsafe fn accumulate<const P: usize, const N: usize>(
    sums: &mut [[__m512i; P]; N],
    window: *const u8,
    step: usize,
    levels: *const u8,
    level_step: usize,
    quads: usize,
) {
    // SAFETY: the contract.
    unsafe {
        // As many as the levels of which the registers hold.
        let (mut window, mut levels, mut quads) = (window, levels, quads);
        if P == 1 {
            while quads >= 4 {
                accumulate_quads::<P, N, 4>(sums, window, step, levels, level_step);
                (window, levels, quads) = (window.add(4 * 4), levels.add(4 * STEP), quads - 4);
            }
        }
        if P <= 2 {
            while quads >= 2 {
                accumulate_quads::<P, N, 2>(sums, window, step, levels, level_step);
                (window, levels, quads) = (window.add(2 * 4), levels.add(2 * STEP), quads - 2);
            }
        }
        while quads > 0 {
            accumulate_quads::<P, N, 1>(sums, window, step, levels, level_step);
            (window, levels, quads) = (window.add(4), levels.add(STEP), quads - 1);
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
unsafe fn accumulate_quads<const P: usize, const N: usize, const U: usize>(
    sums: &mut [[__m512i; P]; N],
    window: *const u8,
    step: usize,
    levels: *const u8,
    level_step: usize,
) {
    // SAFETY: the contract.
    unsafe {
        let mut weights = [[_mm512_setzero_si512(); P]; U];
        for u in 0..U {
            for p in 0..P {
                weights[u][p] = _mm512_loadu_si512(levels.add(u * STEP + p * level_step).cast());
            }
        }
        let mut window = window;
        for n in 0..N {
            for u in 0..U {
                let codes = _mm512_set1_epi32(window.add(4 * u).cast::<i32>().read_unaligned());
                for p in 0..P {
                    sums[n][p] = _mm512_dpbusd_epi32(sums[n][p], codes, weights[u][p]);
                }
            }
            window = window.add(step);
        }
    }
}

/// Requantises and stores the pixels of a tile, `step` bytes apart, 4 vectors of sums at least: 16 codes of four
/// vectors, one pixel after another; the last four may meet some again.
///
/// # Safety
/// The processor has the instructions; 16 channels for each panel can be written for each of `N` pixels in their order.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
unsafe fn store<const P: usize, const N: usize>(
    scales: &[Scale; P],
    sums: &[[__m512i; P]; N],
    output: *mut u8,
    step: usize,
) {
    unroll!(group in 0..(N * P).div_ceil(4) => {
        let mut four = [_mm512_setzero_si512(); 4];
        for i in 0..4 {
            let at = slot::<P, N>(group, i);
            four[i] = scales[at % P].apply(sums[at / P][at % P]);
        }
        let codes = scales[0].pack(four, &BY_VECTOR);
        let first = slot::<P, N>(group, 0);
        let to = output.wrapping_add(first / P * step + first % P * PANEL_CHANNELS);
        // SAFETY: the contract.
        unsafe {
            if P == 4 || step == P * PANEL_CHANNELS {
                _mm512_storeu_si512(to.cast(), codes);
            } else if P == 2 {
                _mm256_storeu_si256(to.cast(), _mm512_castsi512_si256(codes));
                _mm256_storeu_si256(to.add(step).cast(), _mm512_extracti64x4_epi64::<1>(codes));
            } else {
                let to = [to, to.add(step), to.add(2 * step), to.add(3 * step)];
                store_quarters(codes, to, [PANEL_CHANNELS; 4]);
            }
        }
    });
}

/// The same for any channels and any scale, panel by panel.
///
/// # Safety
/// The processor has the instructions; the panels' channels can be written for each of `N` pixels.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
pub(super) unsafe fn store_any<const P: usize, const N: usize>(
    scales: &[Scale; P],
    sums: &mut [[__m512i; P]; N],
    output: *mut u8,
    step: usize,
) {
    for p in 0..P {
        for n in (0..N).filter(|_| scales[p].is_wide()) {
            sums[n][p] = scales[p].narrow(sums[n][p]);
        }
    }
    for group in 0..(N * P).div_ceil(4) {
        let mut four = [_mm512_setzero_si512(); 4];
        let mut to = [output; 4];
        let mut channels = [0; 4];
        for i in 0..4 {
            let at = slot::<P, N>(group, i);
            let (n, p) = (at / P, at % P);
            four[i] = scales[p].apply(sums[n][p]);
            to[i] = output.wrapping_add(n * step + p * PANEL_CHANNELS);
            channels[i] = scales[p].channels();
        }
        // SAFETY: the contract.
        unsafe { store_quarters(scales[0].pack(four, &BY_VECTOR), to, channels) };
    }
}

/// Which vector of sums, pixel after pixel, is number `i` of a group of four.
#[inline(always)]
const fn slot<const P: usize, const N: usize>(group: usize, i: usize) -> usize {
    let last = N * P - 1;
    let first = if group * 4 + 3 <= last { group * 4 } else { last.saturating_sub(3) };
    if first + i <= last { first + i } else { last }
}

/// Decodes a panel, 0 at padding.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn decode<L: Levels>(decoder: &L, segment: Segment, codes: &[u8], levels: &mut [u8]) {
    let counted = _mm512_set1_epi32(segment.last_mask() as i32);
    let steps = levels.len() / STEP;
    if codes.len() < steps * decoder.bytes() {
        return;
    }
    let mut left = segment.quads;
    for (step, to) in levels.chunks_exact_mut(STEP).enumerate() {
        // SAFETY: a step below `steps`, whose codes are there; 64 bytes to write.
        unsafe {
            let mut here = decoder.step(codes.as_ptr(), steps, step);
            left -= 1;
            if left == 0 {
                left = segment.quads;
                here = _mm512_and_si512(here, counted);
            }
            _mm512_storeu_si512(to.as_mut_ptr().cast(), here);
        }
    }
}
