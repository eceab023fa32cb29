//! AVX2 with BMI2: levels and codes as 16-bit numbers, since `vpmaddubsw` would saturate.
//!
//! Codes of 1 to 7 bits are spread to bytes by `pdep`, then looked up (up to 4 bits) or sign-extended.

use core::arch::x86_64::*;
use core::ops::Range;

use super::depthwise::{Depthwise, InputRow, MAX_TAPS, OutputRow};
use super::detect;
use super::store::store_some;
use super::window::Panels;
use crate::format::{PANEL_CHANNELS, Requantise, WeightGroup};
use crate::kernels::Isa;
use crate::kernels::panels::dense::{Dense, STEP, Segment, Stream, Tiles};
use crate::kernels::scratch::X86_CELL;

/// Bytes of 16 channels by 2 pixels of 16 bits.
const CELL: usize = X86_CELL;

/// The leaves of this file. A value is proof that the processor has the instructions: only
/// [`Dense::detected`] makes one.
#[derive(Clone, Copy)]
pub(super) struct Avx2(());

impl Dense for Avx2 {
    const PANELS: usize = 1;
    const STREAM_PANELS: usize = 1;

    #[inline]
    fn detected() -> Option<Avx2> {
        detect(Isa::Avx2).then_some(Avx2(()))
    }

    fn decode(self, group: &WeightGroup<'_>, segment: Segment, codes: &[u8], levels: &mut [u8]) {
        // SAFETY: the processor has the instructions, or there would be no `self`.
        unsafe { decode(group, segment, codes, levels) }
    }

    fn multiply(self, tiles: &Tiles<'_>) {
        // SAFETY: the processor has the instructions, or there would be no `self`; no more pixels than columns.
        unsafe {
            match tiles.grid().columns {
                1 => multiply::<1>(tiles),
                2 => multiply::<2>(tiles),
                _ => multiply::<3>(tiles),
            }
        }
    }

    fn stream(self, group: &WeightGroup<'_>, window: &Stream<'_>) {
        // SAFETY: the processor has the instructions, or there would be no `self`.
        unsafe { stream(group, window) }
    }
}

/// Decodes a panel, 0 at padding.
#[target_feature(enable = "avx2,bmi2")]
fn decode(group: &WeightGroup<'_>, segment: Segment, codes: &[u8], levels: &mut [u8]) {
    let decoder = Decoder::new(group);
    let counted = _mm_set1_epi32(segment.last_mask() as i32);
    let steps = levels.len() / STEP;
    for (step, to) in levels.chunks_exact_mut(STEP).enumerate() {
        let last = (step + 1) % segment.quads == 0;
        for (quarter, to) in to.chunks_exact_mut(STEP / 4).enumerate() {
            let levels = decoder.quarter_step(codes, steps, step, quarter);
            let levels = if last { _mm_and_si128(levels, counted) } else { levels };
            // SAFETY: 16 bytes.
            unsafe { _mm_storeu_si128(to.as_mut_ptr().cast(), levels) };
        }
    }
}

/// A panel by `N` pixels at a time, all sums in registers: two for each channel, of the even and the odd pairs.
/// The last tile of a row covers again what it needs to be whole.
///
/// # Safety
/// The processor has the instructions; there are `N` columns at least.
#[target_feature(enable = "avx2,bmi2")]
unsafe fn multiply<const N: usize>(tiles: &Tiles<'_>) {
    let (grid, walk) = (tiles.grid(), tiles.walk());
    let scale = Scale::new(tiles.requantise(), tiles.panels());
    // SAFETY: windows and levels can be read along the walk, results lie in the output: the invariants of `Tiles`.
    unsafe {
        for y in 0..grid.rows {
            for x in (0..grid.columns).step_by(N) {
                let x = x.min(grid.columns - N);
                let mut sums = [[_mm256_setzero_si256(); 4]; N];
                let window = tiles.windows().add(y * grid.row_step + x * grid.column_step);
                let mut levels = tiles.levels();
                for row in 0..walk.rows {
                    for tap in 0..walk.taps {
                        let mut at = window.add(row * walk.row_step + tap * walk.tap_step);
                        for _ in 0..walk.quads {
                            let mut codes = [_mm256_setzero_si256(); N];
                            for n in 0..N {
                                let quad = at.add(n * grid.column_step).cast::<i32>().read_unaligned();
                                codes[n] = _mm256_cvtepu8_epi16(_mm_set1_epi32(quad));
                            }
                            for quarter in 0..4 {
                                let weights = _mm_loadu_si128(levels.add(quarter * STEP / 4).cast());
                                let weights = _mm256_cvtepi8_epi16(weights);
                                for n in 0..N {
                                    let products = _mm256_madd_epi16(codes[n], weights);
                                    sums[n][quarter] = _mm256_add_epi32(sums[n][quarter], products);
                                }
                            }
                            at = at.add(4);
                            levels = levels.add(STEP);
                        }
                    }
                }
                let output = tiles.output().add((y * grid.columns + x) * tiles.output_step());
                for n in 0..N {
                    let [a, b, c, d] = sums[n];
                    scale.store([join(a, b), join(c, d)], output.add(n * tiles.output_step()));
                }
            }
        }
    }
}

/// A panel against its only window, decoded in registers.
#[target_feature(enable = "avx2,bmi2")]
fn stream(group: &WeightGroup<'_>, stream: &Stream<'_>) {
    let decoder = Decoder::new(group);
    let mut sums = [_mm256_setzero_si256(); 4];
    for quad in 0..stream.quads() {
        // SAFETY: the window has that many quads.
        let codes = unsafe { stream.window().add(4 * quad).cast::<i32>().read_unaligned() };
        let codes = _mm256_cvtepu8_epi16(_mm_set1_epi32(codes));
        for (quarter, sum) in sums.iter_mut().enumerate() {
            let levels = decoder.quarter_step(stream.panels().codes, stream.quads(), quad, quarter);
            let levels = _mm256_cvtepi8_epi16(levels);
            *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(codes, levels));
        }
    }
    let [a, b, c, d] = sums;
    let scale = Scale::new(stream.requantise(), stream.panels());
    // SAFETY: the panel's channels lie in the output.
    unsafe { scale.store([join(a, b), join(c, d)], stream.output()) };
}

/// Sums neighbours: channels 0..4 in pairs and 4..8 in pairs become channels 0..8.
#[inline]
#[target_feature(enable = "avx2,bmi2")]
fn join(a: __m256i, b: __m256i) -> __m256i {
    _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_hadd_epi32(a, b))
}

/// From sums to codes for the channels of a panel.
struct Scale {
    bias: [__m256i; 2],
    mult: [__m256i; 2],
    pre: __m128i,
    /// Half a unit, and the zero point above it.
    round: __m256i,
    lo: __m128i,
    hi: __m128i,
    channels: usize,
}

impl Scale {
    #[inline]
    #[target_feature(enable = "avx2,bmi2")]
    fn new(requantise: &Requantise, panel: &Panels<'_>) -> Scale {
        let channels = panel.channels(0).len();
        let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        let load = |numbers: &[i32], at: i32| {
            let there = _mm256_cmpgt_epi32(_mm256_set1_epi32(channels as i32 - at), lanes);
            // SAFETY: lanes beyond the channels are not read.
            unsafe { _mm256_maskload_epi32(numbers.as_ptr().wrapping_offset(at as isize), there) }
        };
        Scale {
            bias: [load(panel.bias, 0), load(panel.bias, 8)],
            mult: [load(panel.mult, 0), load(panel.mult, 8)],
            pre: _mm_cvtsi32_si128(i32::from(requantise.pre & 31)),
            round: _mm256_set1_epi64x((i64::from(requantise.zero) << 32) + (1 << 31)),
            lo: _mm_set1_epi8(requantise.lo as i8),
            hi: _mm_set1_epi8(requantise.hi as i8),
            channels,
        }
    }

    /// `zero + ((sum + bias << pre) * mult + 2^31 >> 32)` for one half of the channels, not yet clamped.
    #[inline]
    #[target_feature(enable = "avx2,bmi2")]
    fn apply(&self, half: usize, sums: __m256i) -> __m256i {
        let sums = _mm256_sll_epi32(_mm256_add_epi32(sums, self.bias[half]), self.pre);
        let mult = self.mult[half];
        let even = _mm256_add_epi64(_mm256_mul_epi32(sums, mult), self.round);
        let odd = _mm256_mul_epi32(_mm256_srli_epi64::<32>(sums), _mm256_srli_epi64::<32>(mult));
        _mm256_blend_epi32::<0xaa>(_mm256_srli_epi64::<32>(even), _mm256_add_epi64(odd, self.round))
    }

    /// Stores the codes of a pixel.
    ///
    /// # Safety
    /// `to` takes the panel's channels.
    #[inline]
    #[target_feature(enable = "avx2,bmi2")]
    unsafe fn store(&self, sums: [__m256i; 2], to: *mut u8) {
        // Both packs saturate, which is within any clamp to codes.
        let words = _mm256_packs_epi32(self.apply(0, sums[0]), self.apply(1, sums[1]));
        let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(words);
        let codes = _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
        let codes = _mm_min_epu8(_mm_max_epu8(codes, self.lo), self.hi);
        // SAFETY: the contract.
        unsafe {
            if self.channels == PANEL_CHANNELS {
                _mm_storeu_si128(to.cast(), codes);
            } else {
                store_some(&[codes], self.channels, &[to]);
            }
        }
    }
}

/// Turns packed codes into levels, 16 at a time.
struct Decoder {
    bits: usize,
    /// Binary logarithm of the steps of a dense panel that interleave.
    together: u32,
    /// The low `bits` of every byte.
    mask: u64,
    table: __m128i,
    sign: __m128i,
}

impl Decoder {
    #[inline]
    #[target_feature(enable = "avx2,bmi2")]
    fn new(group: &WeightGroup<'_>) -> Decoder {
        let bits = group.format.bits();
        let mut table = [0; 16];
        for (code, level) in (0..1u16 << bits).zip(&mut table) {
            *level = group.format.level(code as u8, group.codebook);
        }
        Decoder {
            bits: bits as usize,
            together: group.format.interleaved().ilog2(),
            mask: (u64::MAX / 255).wrapping_mul((1 << bits) - 1),
            // SAFETY: 16 levels.
            table: unsafe { _mm_loadu_si128(table.as_ptr().cast()) },
            sign: _mm_set1_epi8((1u8 << (bits - 1)) as i8),
        }
    }

    /// A quarter of the 64 levels of step `step` out of the `steps` of a dense panel.
    #[inline]
    #[target_feature(enable = "avx2,bmi2")]
    fn quarter_step(&self, panel: &[u8], steps: usize, step: usize, quarter: usize) -> __m128i {
        let together = 1 << self.together;
        if together == 1 || step >= steps & !(together - 1) {
            return self.next(&mut panel.get((step * 4 + quarter) * 2 * self.bits..).unwrap_or_default());
        }
        let packed = panel.get(((step >> self.together) * 4 + quarter) * 16..).and_then(<[u8]>::first_chunk::<16>);
        // SAFETY: 16 bytes.
        let packed = packed.map_or(_mm_setzero_si128(), |packed| unsafe { _mm_loadu_si128(packed.as_ptr().cast()) });
        let codes = _mm_srl_epi16(packed, _mm_cvtsi32_si128(((step & (together - 1)) * self.bits) as i32));
        _mm_shuffle_epi8(self.table, _mm_and_si128(codes, _mm_set1_epi64x(self.mask as i64)))
    }

    /// The levels of the next 16 codes.
    #[inline]
    #[target_feature(enable = "avx2,bmi2")]
    fn next(&self, rest: &mut &[u8]) -> __m128i {
        let mut last = [0; 16];
        let packed = rest.first_chunk().unwrap_or_else(|| {
            last.iter_mut().zip(*rest).for_each(|(to, &from)| *to = from);
            &last
        });
        *rest = rest.get(2 * self.bits..).unwrap_or_default();
        if self.bits == 8 {
            // SAFETY: 16 bytes.
            return unsafe { _mm_loadu_si128(packed.as_ptr().cast()) };
        }
        // SAFETY: `bits < 8`, so both halves are within 16 bytes.
        let half = |at: usize| unsafe { packed.as_ptr().add(at).cast::<u64>().read_unaligned() };
        let spread = |packed: u64| _pdep_u64(packed, self.mask) as i64;
        let codes = _mm_set_epi64x(spread(half(self.bits)), spread(half(0)));
        if self.bits <= 4 {
            _mm_shuffle_epi8(self.table, codes)
        } else {
            _mm_sub_epi8(_mm_xor_si128(codes, self.sign), self.sign)
        }
    }
}

// SAFETY: 2 taps.
unsafe impl Depthwise for Avx2 {
    const TAPS: usize = 2;

    #[target_feature(enable = "avx2,bmi2")]
    unsafe fn decode(group: &WeightGroup<'_>, codes: &[u8], to: *mut u8) {
        let decoder = Decoder::new(group);
        let (mut rest, mut to) = (codes, to);
        while !rest.is_empty() {
            let levels = decoder.next(&mut rest);
            // SAFETY: 16 codes are a tap, and `to` takes a byte for each code.
            unsafe {
                _mm_storeu_si128(to.cast(), levels);
                to = to.add(PANEL_CHANNELS);
            }
        }
    }

    #[target_feature(enable = "avx2,bmi2")]
    unsafe fn interleave_pixels(row: &InputRow, to: *mut u8) {
        let bytes = row.columns * CELL;
        // SAFETY: a row hands out addresses of 16 bytes, for columns inside all taps at once; the cells fit.
        unsafe {
            interleave_edge(row, 0..row.inside.start, to);
            for output in row.inside.clone() {
                let mut tap = row.first_tap(output);
                let mut to = to.add(output * bytes);
                for _ in 0..row.columns {
                    store_pixels(tap, tap.wrapping_add(row.tap_step), to);
                    tap = tap.wrapping_add(2 * row.tap_step);
                    to = to.add(CELL);
                }
            }
            interleave_edge(row, row.inside.end..row.outputs, to);
        }
    }

    #[target_feature(enable = "avx2,bmi2")]
    unsafe fn interleave_taps(taps: &[*const u8; MAX_TAPS], to: *mut u8) {
        // SAFETY: the contract.
        unsafe {
            let [low, high] = interleave(taps[0], taps[1]);
            _mm256_storeu_si256(to.cast(), _mm256_cvtepi8_epi16(low));
            _mm256_storeu_si256(to.add(32).cast(), _mm256_cvtepi8_epi16(high));
        }
    }

    #[target_feature(enable = "avx2,bmi2")]
    unsafe fn row(row: &OutputRow<'_>) {
        let scale = Scale::new(&row.requantise, row.panel);
        let mut first = 0;
        while first < row.pixels {
            // SAFETY: as many pixels as there are left.
            unsafe {
                match row.pixels - first {
                    1 => correlate::<1>(row, &scale, first),
                    2 => correlate::<2>(row, &scale, first),
                    3 => correlate::<3>(row, &scale, first),
                    _ => correlate::<4>(row, &scale, first),
                }
            }
            first += 4;
        }
    }
}

/// Pixels `first..first + N` of an output row.
///
/// # Safety
/// Those are pixels of the row, whose invariants hold.
#[target_feature(enable = "avx2,bmi2")]
unsafe fn correlate<const N: usize>(row: &OutputRow<'_>, scale: &Scale, first: usize) {
    let mut sums = [[_mm256_setzero_si256(); 2]; N];
    let step = row.columns * CELL;
    let mut weights = row.weights;
    // SAFETY: cells and output are where the row's invariants say.
    unsafe {
        for k in 0..row.rows {
            let cells = row.ring_row(k).add(first * step);
            for column in 0..row.columns {
                let taps = [0, 32].map(|half| _mm256_loadu_si256(weights.add(half).cast()));
                weights = weights.add(CELL);
                for n in 0..N {
                    for half in 0..2 {
                        let codes = cells.add(n * step + column * CELL + half * 32);
                        let products = _mm256_madd_epi16(_mm256_loadu_si256(codes.cast()), taps[half]);
                        sums[n][half] = _mm256_add_epi32(sums[n][half], products);
                    }
                }
            }
        }
        for n in 0..N {
            scale.store(sums[n], row.output.add((first + n) * row.output_step));
        }
    }
}

/// Cells of output columns that read beyond the edge of the row, or near the end of the input.
///
/// # Safety
/// `to` takes the cells of the row.
#[inline(never)]
#[target_feature(enable = "avx2,bmi2")]
unsafe fn interleave_edge(row: &InputRow, outputs: Range<usize>, to: *mut u8) {
    for output in outputs {
        for column in 0..row.columns {
            let [a, b, ..] = row.taps(output, 2 * column);
            // SAFETY: a row hands out addresses of 16 bytes; the cells fit.
            unsafe { store_pixels(a, b, to.add((output * row.columns + column) * CELL)) };
        }
    }
}

/// A cell of two pixels.
///
/// # Safety
/// 16 bytes can be read at each address; `to` takes a cell.
#[inline]
#[target_feature(enable = "avx2,bmi2")]
unsafe fn store_pixels(a: *const u8, b: *const u8, to: *mut u8) {
    // SAFETY: the contract.
    unsafe {
        let [low, high] = interleave(a, b);
        _mm256_storeu_si256(to.cast(), _mm256_cvtepu8_epi16(low));
        _mm256_storeu_si256(to.add(32).cast(), _mm256_cvtepu8_epi16(high));
    }
}

/// Bytes of two addresses in turn: channels 0..8, and 8..16.
///
/// # Safety
/// 16 bytes can be read at each address.
#[inline]
#[target_feature(enable = "avx2,bmi2")]
unsafe fn interleave(a: *const u8, b: *const u8) -> [__m128i; 2] {
    // SAFETY: the contract.
    unsafe {
        let (a, b) = (_mm_loadu_si128(a.cast()), _mm_loadu_si128(b.cast()));
        [_mm_unpacklo_epi8(a, b), _mm_unpackhi_epi8(a, b)]
    }
}
