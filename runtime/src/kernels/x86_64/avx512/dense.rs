//! Dense convolution: a tile of pixels by a few panels, all sums in registers.

use core::arch::x86_64::*;
use core::cmp::Ordering;

use super::Avx512;
use super::levels::{Bytes, Levels, Table64, Table128};
use super::narrow;
use super::paired;
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
                1 if paired::suits(&rectangle) => paired::multiply(tiles),
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
            16 if share(&rectangle) => multiply::<Quad, 1, 16, TAPS>(tiles),
            16 => multiply::<Quad, 1, 16, 1>(tiles),
            12 => multiply::<Quad, 1, 12, 1>(tiles),
            10 => multiply::<Quad, 1, 10, 1>(tiles),
            8 if share(&rectangle) => multiply::<Quad, 1, 8, TAPS>(tiles),
            8 => multiply::<Quad, 1, 8, 1>(tiles),
            6 => multiply::<Quad, 1, 6, 1>(tiles),
            4 => multiply::<Quad, 1, 4, 1>(tiles),
            3 => multiply::<Quad, 1, 3, 1>(tiles),
            2 => multiply::<Quad, 1, 2, 1>(tiles),
            _ => multiply::<Quad, 1, 1, 1>(tiles),
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
            12 => multiply::<Quad, 2, 12, 1>(tiles),
            10 => multiply::<Quad, 2, 10, 1>(tiles),
            8 if share(&rectangle) => multiply::<Quad, 2, 8, TAPS>(tiles),
            8 => multiply::<Quad, 2, 8, 1>(tiles),
            6 => multiply::<Quad, 2, 6, 1>(tiles),
            5 => multiply::<Quad, 2, 5, 1>(tiles),
            4 => multiply::<Quad, 2, 4, 1>(tiles),
            3 => multiply::<Quad, 2, 3, 1>(tiles),
            2 => multiply::<Quad, 2, 2, 1>(tiles),
            _ => multiply::<Quad, 2, 1, 1>(tiles),
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
            6 => multiply::<Quad, 4, 6, 1>(tiles),
            5 => multiply::<Quad, 4, 5, 1>(tiles),
            4 if share(&rectangle) => multiply::<Quad, 4, 4, TAPS>(tiles),
            4 => multiply::<Quad, 4, 4, 1>(tiles),
            3 => multiply::<Quad, 4, 3, 1>(tiles),
            2 => multiply::<Quad, 4, 2, 1>(tiles),
            _ => multiply::<Quad, 4, 1, 1>(tiles),
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
        if panels == 1 && paired::suits(rectangle) {
            return paired::tile(rectangle);
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

/// Taps of a segment that neighbouring windows share.
pub(super) const TAPS: usize = 3;

/// Whether segments have three taps and the next window begins at the second.
pub(super) fn share(rectangle: &Rectangle) -> bool {
    rectangle.walk.quads * PANEL_DEPTH == TAPS * rectangle.grid.column_step
}

/// What a product is: of codes in all channels' lanes and the levels of these channels.
pub(super) trait Product {
    /// Quads of a window that it takes.
    const QUADS: usize;

    /// Sums to begin with, and from sum to code, in the lanes that sums have when they are stored.
    ///
    /// # Safety
    /// The processor has the instructions.
    unsafe fn begin(bias: __m512i, scale: Scale) -> (__m512i, Scale);

    /// The codes of a window for one product.
    ///
    /// # Safety
    /// The processor has the instructions; the codes can be read.
    unsafe fn codes(at: *const u8) -> __m512i;

    /// The levels of a panel for one product.
    ///
    /// # Safety
    /// The processor has the instructions; the levels can be read.
    unsafe fn levels(at: *const u8) -> __m512i;

    /// Whether [`store`](Self::store) may write what it does, `room` bytes being there, and by these scales.
    fn stores<const P: usize, const N: usize>(scales: &[Scale; P], step: usize, room: usize) -> bool;

    /// Requantises and stores the pixels of a tile, `step` bytes apart. What it writes beyond the channels of a pixel is
    /// written again by the next.
    ///
    /// # Safety
    /// The processor has the instructions; [`stores`](Self::stores) says so.
    unsafe fn store<const P: usize, const N: usize>(
        scales: &[Scale; P],
        sums: &[[__m512i; P]; N],
        output: *mut u8,
        step: usize,
    );

    /// The same for any channels and any scale.
    ///
    /// # Safety
    /// The processor has the instructions; the channels of the panels can be written for each of `N` pixels.
    unsafe fn store_any<const P: usize, const N: usize>(
        scales: &[Scale; P],
        sums: &mut [[__m512i; P]; N],
        output: *mut u8,
        step: usize,
    );
}

/// 16 channels by a quad.
pub(super) struct Quad;

impl Product for Quad {
    const QUADS: usize = 1;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn begin(bias: __m512i, scale: Scale) -> (__m512i, Scale) {
        (bias, scale)
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn codes(at: *const u8) -> __m512i {
        // SAFETY: the contract.
        _mm512_set1_epi32(unsafe { at.cast::<i32>().read_unaligned() })
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn levels(at: *const u8) -> __m512i {
        // SAFETY: the contract.
        unsafe { _mm512_loadu_si512(at.cast()) }
    }

    #[inline(always)]
    fn stores<const P: usize, const N: usize>(scales: &[Scale; P], step: usize, room: usize) -> bool {
        let simple = N * P >= 4 && !scales.iter().any(Scale::is_wide);
        simple && (scales.iter().all(Scale::is_whole) || (N - 1) * step + P * PANEL_CHANNELS <= room)
    }

    /// 16 codes of four vectors, one pixel after another; the last four may meet some again.
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
                let at = slot(N * P, group, i);
                four[i] = scales[at % P].apply(sums[at / P][at % P]);
            }
            let codes = scales[0].pack(four, &BY_VECTOR);
            let first = slot(N * P, group, 0);
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

    /// Panel by panel.
    #[inline(never)]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn store_any<const P: usize, const N: usize>(
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
                let at = slot(N * P, group, i);
                let (n, p) = (at / P, at % P);
                four[i] = scales[p].apply(sums[n][p]);
                to[i] = output.wrapping_add(n * step + p * PANEL_CHANNELS);
                channels[i] = scales[p].channels();
            }
            // SAFETY: the contract.
            unsafe { store_quarters(scales[0].pack(four, &BY_VECTOR), to, channels) };
        }
    }
}

/// `P` panels by `N` pixels at a time; the last tile of a row covers again what it needs to be whole.
///
/// # Safety
/// The processor has the instructions; there are `P` panels and `N` columns at least.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
pub(super) unsafe fn multiply<K: Product, const P: usize, const N: usize, const T: usize>(tiles: &Tiles<'_>) {
    let (grid, walk, panels) = (tiles.grid(), tiles.walk(), tiles.panels());
    let mut biases = [_mm512_setzero_si512(); P];
    let mut scales = [Scale::new(tiles.requantise(), panels, 0); P];
    for p in 0..P {
        let bias = load_channels(panels.bias, panels.channels(p));
        // SAFETY: the processor has the instructions.
        (biases[p], scales[p]) = unsafe { K::begin(bias, Scale::new(tiles.requantise(), panels, p)) };
    }
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
                            accumulate_shared::<K, P, N>(&mut sums, tap, grid.column_step, levels, tiles.level_step());
                        } else {
                            let products = walk.quads / K::QUADS;
                            accumulate::<K, P, N>(
                                &mut sums,
                                tap,
                                grid.column_step,
                                levels,
                                tiles.level_step(),
                                products,
                            );
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
                let step = tiles.output_step();
                let at = (y * grid.columns + first) * step;
                let to = tiles.output().add(at);
                if K::stores::<P, N>(&scales, step, tiles.room().saturating_sub(at)) {
                    K::store(&scales, &sums, to, step);
                } else {
                    K::store_any(&scales, &mut copy!(sums, P, N), to, step);
                }
                x += N;
            }
        }
    }
}

/// Adds the products of a segment whose taps neighbouring windows [`share`]: codes are loaded once for all of them.
///
/// # Safety
/// As [`accumulate`], for three times as many quads as windows are apart, those of a product at least.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
unsafe fn accumulate_shared<K: Product, const P: usize, const N: usize>(
    sums: &mut [[__m512i; P]; N],
    window: *const u8,
    step: usize,
    levels: *const u8,
    level_step: usize,
) {
    let (mut window, mut levels, mut products) = (window, levels, step / (K::QUADS * PANEL_DEPTH));
    loop {
        // SAFETY: the contract.
        unsafe {
            let mut weights = [[_mm512_setzero_si512(); P]; TAPS];
            for tap in 0..TAPS {
                for p in 0..P {
                    weights[tap][p] = K::levels(levels.add(tap * step / PANEL_DEPTH * STEP + p * level_step));
                }
            }
            unroll!(n in 0..N + TAPS - 1 => {
                let codes = K::codes(window.add(n * step));
                for tap in 0..TAPS {
                    if tap <= n && n - tap < N {
                        for p in 0..P {
                            sums[n - tap][p] = _mm512_dpbusd_epi32(sums[n - tap][p], codes, weights[tap][p]);
                        }
                    }
                }
            });
        }
        products -= 1;
        if products == 0 {
            break;
        }
        window = window.wrapping_add(K::QUADS * PANEL_DEPTH);
        levels = levels.wrapping_add(K::QUADS * STEP);
    }
}

/// Adds the products of a segment.
///
/// # Safety
/// The processor has the instructions; the quads of `products` products can be read from each of `N` windows and `P`
/// panels.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
unsafe fn accumulate<K: Product, const P: usize, const N: usize>(
    sums: &mut [[__m512i; P]; N],
    window: *const u8,
    step: usize,
    levels: *const u8,
    level_step: usize,
    products: usize,
) {
    // SAFETY: the contract.
    unsafe {
        // As many as the levels of which the registers hold.
        let (mut window, mut levels, mut left) = (window, levels, products);
        if P == 1 {
            while left >= 4 {
                accumulate_products::<K, P, N, 4>(sums, window, step, levels, level_step);
                (window, levels, left) = (window.add(4 * K::QUADS * 4), levels.add(4 * K::QUADS * STEP), left - 4);
            }
        }
        if P <= 2 {
            while left >= 2 {
                accumulate_products::<K, P, N, 2>(sums, window, step, levels, level_step);
                (window, levels, left) = (window.add(2 * K::QUADS * 4), levels.add(2 * K::QUADS * STEP), left - 2);
            }
        }
        while left > 0 {
            accumulate_products::<K, P, N, 1>(sums, window, step, levels, level_step);
            (window, levels, left) = (window.add(K::QUADS * 4), levels.add(K::QUADS * STEP), left - 1);
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
unsafe fn accumulate_products<K: Product, const P: usize, const N: usize, const U: usize>(
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
                weights[u][p] = K::levels(levels.add(u * K::QUADS * STEP + p * level_step));
            }
        }
        let mut window = window;
        for n in 0..N {
            for u in 0..U {
                let codes = K::codes(window.add(u * K::QUADS * PANEL_DEPTH));
                for p in 0..P {
                    sums[n][p] = _mm512_dpbusd_epi32(sums[n][p], codes, weights[u][p]);
                }
            }
            window = window.add(step);
        }
    }
}

/// Which of so many vectors, four at least or all of them, is number `i` of a group of four.
#[inline(always)]
pub(super) const fn slot(vectors: usize, group: usize, i: usize) -> usize {
    let last = vectors - 1;
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
