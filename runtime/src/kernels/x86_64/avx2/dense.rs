//! Dense convolution: a tile of pixels by a panel, all sums in progress in registers.

use core::arch::x86_64::*;
use core::mem::MaybeUninit;

use super::levels::{Decoder, load};
use super::products::{Bytes, Dots, Products, Step, Words};
use super::requantise::{Scale, load_channels};
use super::stream::stream;
use super::{Avx2, AvxVnni, VECTOR};
use crate::format::{PANEL_DEPTH, WeightGroup};
use crate::kernels::Isa;
use crate::kernels::panels::dense::{Dense, Rectangle, STEP, Segment, Stream, Tile, Tiled, Tiles};
use crate::kernels::x86_64::detect;

impl Dense for Avx2 {
    const ISA: Isa = Isa::Avx2;
    const PANELS: usize = 4;
    const STREAM_PANELS: usize = usize::MAX;

    #[inline]
    fn detected() -> Option<Avx2> {
        detect(Isa::Avx2).then_some(Avx2(()))
    }

    fn decode(self, group: &WeightGroup<'_>, segment: Segment, codes: &[u8], levels: &mut [u8]) {
        // SAFETY: the processor has the instructions, or there would be no `self`.
        unsafe { decode(group, segment, codes, levels) }
    }

    fn multiply(self, tiles: &Tiles<'_>) {
        // SAFETY: the processor has the instructions, or there would be no `self`.
        unsafe {
            match Bytes::new(tiles.largest_product()) {
                Some(bytes) => in_bytes(bytes, tiles),
                None => in_words(tiles),
            }
        }
    }

    fn stream(self, group: &WeightGroup<'_>, window: &Stream<'_>) {
        #[target_feature(enable = "avx2,bmi2")]
        fn in_bytes(bytes: Bytes, group: &WeightGroup<'_>, window: &Stream<'_>) {
            // SAFETY: the processor has the instructions.
            unsafe { stream(bytes, group, window) }
        }
        #[target_feature(enable = "avx2,bmi2")]
        fn in_words(group: &WeightGroup<'_>, window: &Stream<'_>) {
            // SAFETY: the processor has the instructions.
            unsafe { stream(Words, group, window) }
        }
        // Steps that interleave are added up together.
        let bytes = Bytes::new(window.largest_product(group)).filter(|bytes| bytes.run() >= group.format.interleaved());
        // SAFETY: the processor has the instructions, or there would be no `self`.
        unsafe {
            match bytes {
                Some(bytes) => in_bytes(bytes, group, window),
                None => in_words(group, window),
            }
        }
    }
}

impl Dense for AvxVnni {
    const ISA: Isa = Isa::AvxVnni;
    const PANELS: usize = Avx2::PANELS;
    const STREAM_PANELS: usize = Avx2::STREAM_PANELS;

    #[inline]
    fn detected() -> Option<AvxVnni> {
        detect(Isa::AvxVnni).then_some(AvxVnni(()))
    }

    fn decode(self, group: &WeightGroup<'_>, segment: Segment, codes: &[u8], levels: &mut [u8]) {
        // SAFETY: the processor has the instructions, or there would be no `self`.
        unsafe { decode(group, segment, codes, levels) }
    }

    fn multiply(self, tiles: &Tiles<'_>) {
        // SAFETY: the processor has the instructions, or there would be no `self`.
        unsafe { in_dots(tiles) }
    }

    fn stream(self, group: &WeightGroup<'_>, window: &Stream<'_>) {
        #[target_feature(enable = "avx2,bmi2,avxvnni")]
        fn in_dots(group: &WeightGroup<'_>, window: &Stream<'_>) {
            // SAFETY: the processor has the instructions.
            unsafe { stream(Dots, group, window) }
        }
        // SAFETY: the processor has the instructions, or there would be no `self`.
        unsafe { in_dots(group, window) }
    }
}

/// Decodes a panel, 0 at padding.
#[target_feature(enable = "avx2,bmi2")]
fn decode(group: &WeightGroup<'_>, segment: Segment, codes: &[u8], levels: &mut [u8]) {
    let decoder = Decoder::new(group);
    let counted = _mm256_set1_epi32(segment.last_mask() as i32);
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
                here = [_mm256_and_si256(here[0], counted), _mm256_and_si256(here[1], counted)];
            }
            _mm256_storeu_si256(to.as_mut_ptr().cast(), here[0]);
            _mm256_storeu_si256(to.as_mut_ptr().add(VECTOR).cast(), here[1]);
        }
    }
}

/// # Safety
/// The processor has the instructions.
#[target_feature(enable = "avx2,bmi2,avxvnni")]
unsafe fn in_dots(tiles: &Tiles<'_>) {
    // SAFETY: no more pixels than columns.
    unsafe {
        match pixels(tiles.grid().columns) {
            1 => multiply::<1, _>(Dots, tiles),
            2 => multiply::<2, _>(Dots, tiles),
            3 => multiply::<3, _>(Dots, tiles),
            4 => multiply::<4, _>(Dots, tiles),
            5 => multiply::<5, _>(Dots, tiles),
            _ => multiply::<6, _>(Dots, tiles),
        }
    }
}

/// # Safety
/// The processor has the instructions.
#[target_feature(enable = "avx2,bmi2")]
unsafe fn in_bytes(bytes: Bytes, tiles: &Tiles<'_>) {
    // SAFETY: no more pixels than columns.
    unsafe {
        match pixels(tiles.grid().columns) {
            1 => multiply::<1, _>(bytes, tiles),
            2 => multiply::<2, _>(bytes, tiles),
            3 => multiply::<3, _>(bytes, tiles),
            4 => multiply::<4, _>(bytes, tiles),
            5 => multiply::<5, _>(bytes, tiles),
            _ => multiply::<6, _>(bytes, tiles),
        }
    }
}

/// # Safety
/// The processor has the instructions.
#[target_feature(enable = "avx2,bmi2")]
unsafe fn in_words(tiles: &Tiles<'_>) {
    // SAFETY: no more pixels than columns.
    unsafe {
        match pixels(tiles.grid().columns) {
            1 => multiply::<1, _>(Words, tiles),
            2 => multiply::<2, _>(Words, tiles),
            3 => multiply::<3, _>(Words, tiles),
            4 => multiply::<4, _>(Words, tiles),
            5 => multiply::<5, _>(Words, tiles),
            _ => multiply::<6, _>(Words, tiles),
        }
    }
}

/// How many columns a tile takes: they are shared out among as few as possible.
fn pixels(columns: usize) -> usize {
    const MOST: usize = 6;
    columns.div_ceil(columns.div_ceil(MOST))
}

/// One panel, each step of which is two vectors.
fn tile(rectangle: &Rectangle) -> Tile {
    let windows = pixels(rectangle.grid.columns);
    Tile { windows, panels: 1, sums: 2 * windows, fetches: windows + 2, packs: false }
}

impl Tiled for Avx2 {
    fn tile(rectangle: &Rectangle) -> Tile {
        tile(rectangle)
    }
}

impl Tiled for AvxVnni {
    fn tile(rectangle: &Rectangle) -> Tile {
        tile(rectangle)
    }
}

/// Panel after panel, by `N` pixels at a time; the last tile of a row covers again what it needs to be whole.
///
/// # Safety
/// The processor has the instructions; there are `N` columns at least.
#[inline(always)]
unsafe fn multiply<const N: usize, P: Products>(products: P, tiles: &Tiles<'_>) {
    let (grid, panels) = (tiles.grid(), tiles.panels());
    // SAFETY: windows and levels can be read along the walk, results lie in the output: the invariants of `Tiles`.
    unsafe {
        for index in 0..panels.len {
            let scale = Scale::new(tiles.requantise(), panels, index);
            let bias = load_channels(panels.bias, panels.channels(index));
            let levels = tiles.levels().add(index * tiles.level_step());
            let output = tiles.output().add(panels.channels(index).start);
            for y in 0..grid.rows {
                let mut x = 0;
                while x < grid.columns {
                    let first = x.min(grid.columns - N);
                    let window = tiles.windows().add(y * grid.row_step + first * grid.column_step);
                    let totals = sum::<N, P>(products, tiles, window, levels, bias);
                    let pixel = y * grid.columns + first;
                    scale.store(&totals, output.add(pixel * tiles.output_step()), tiles.output_step());
                    x += N;
                }
            }
        }
    }
}

/// The sums of `N` windows, `bias` included.
///
/// # Safety
/// The processor has the instructions; windows and levels can be read along the walk.
#[inline(always)]
unsafe fn sum<const N: usize, P: Products>(
    products: P,
    tiles: &Tiles<'_>,
    window: *const u8,
    levels: *const u8,
    bias: Step,
) -> [Step; N] {
    let (walk, step) = (tiles.walk(), tiles.grid().column_step);
    let mut room = [MaybeUninit::uninit(); N];
    let mut totals = [bias; N];
    // SAFETY: the contract.
    unsafe {
        let mut sums = [[_mm256_setzero_si256(); 2]; N];
        let mut left = products.run();
        let mut levels = levels;
        for row in 0..walk.rows {
            for tap in 0..walk.taps {
                let mut segment = window.add(row * walk.row_step + tap * walk.tap_step);
                let mut quads = walk.quads;
                while quads > 0 {
                    let now = quads.min(left);
                    let (codes, step) = products.prepare(&mut room, segment, step, now);
                    for pass in 0..P::PASSES {
                        for quad in 0..now {
                            let here = load(levels.add(quad * STEP));
                            products.add(pass, &mut sums, codes.add(quad * P::QUAD), step, here);
                        }
                    }
                    levels = levels.add(now * STEP);
                    segment = segment.add(now * PANEL_DEPTH);
                    quads -= now;
                    left -= now;
                    if left == 0 {
                        left = products.run();
                        for n in 0..N {
                            for half in 0..2 {
                                totals[n][half] = products.widen(totals[n][half], sums[n][half]);
                                sums[n][half] = _mm256_setzero_si256();
                            }
                        }
                    }
                }
            }
        }
        for n in 0..N {
            for half in 0..2 {
                totals[n][half] = products.widen(totals[n][half], sums[n][half]);
            }
        }
    }
    totals
}
