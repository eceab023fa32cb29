//! Depthwise convolution: 2 rows of 8 lanes an instruction.

use core::arch::x86_64::*;

use super::Avx2;
use super::levels::Decoder;
use crate::format::{PANEL_CHANNELS, Requantise, WeightGroup};
use crate::kernels::panels::Panels;
use crate::kernels::scratch::{X86_CELLS, X86_STRIP};
use crate::kernels::x86_64::depthwise::{Columns, Depthwise, InputRow, OutputRows, QUAD, Strip, Window};

/// Bytes of a vector.
const LANES: usize = 32;

// SAFETY: 32 lanes of 4 levels of two bytes.
unsafe impl Depthwise for Avx2 {
    const LANES: usize = LANES;

    #[target_feature(enable = "avx2,bmi2")]
    unsafe fn run(strip: Strip<'_>) {
        let mut strip = strip;
        // SAFETY: the strip keeps the invariants; as many rows as there are.
        unsafe {
            strip.prepare::<Avx2>();
            let scale = Scale::new(strip.requantise(), load_numbers(strip.mult(&mut [0; X86_STRIP])));
            let bias = load_numbers(strip.bias(&mut [0; X86_STRIP]));
            if strip.is_direct() {
                while let Some((rows, columns)) = strip.next_columns() {
                    match rows.together {
                        1 => direct::<1>(&rows, &columns, bias, &scale),
                        _ => direct::<2>(&rows, &columns, bias, &scale),
                    }
                }
            } else {
                while let Some((rows, window)) = strip.next_rows::<Avx2>() {
                    match rows.together {
                        1 => any::<1>(&rows, &window, bias, &scale),
                        _ => any::<2>(&rows, &window, bias, &scale),
                    }
                }
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,bmi2")]
    unsafe fn decode(group: &WeightGroup<'_>, panels: &Panels<'_>, to: *mut u8, step: usize) {
        let decoder = Decoder::new(group);
        for index in 0..panels.len {
            let mut rest = &panels.codes[index * panels.step..][..panels.step];
            let mut to = to.wrapping_add(index * PANEL_CHANNELS);
            while !rest.is_empty() {
                let levels = decoder.next(&mut rest);
                // SAFETY: 16 codes are a tap; the contract.
                unsafe { _mm_storeu_si128(to.cast(), levels) };
                to = to.wrapping_add(step);
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,bmi2")]
    unsafe fn interleave_levels(rows: [*const u8; QUAD], to: *mut u8) {
        // SAFETY: the contract; 8 vectors of 32 bytes.
        unsafe {
            for (i, cells) in interleave(rows, 0).into_iter().enumerate() {
                // From the unsigned to the signed number of the same byte.
                let levels = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(cells));
                _mm256_storeu_si256(to.add(i * LANES).cast(), levels);
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,bmi2")]
    unsafe fn copy(row: &InputRow) {
        // SAFETY: the contract.
        unsafe { row.copy() };
    }
}

/// `R` rows of strips of one pixel, straight from the input.
///
/// # Safety
/// The invariants of `rows`, which are `R`, and of `columns`.
// Inlined, the variants would share their caller's registers.
#[inline(never)]
#[target_feature(enable = "avx2,bmi2")]
unsafe fn direct<const R: usize>(rows: &OutputRows, columns: &Columns, bias: [__m256i; QUAD], scale: &Scale) {
    // SAFETY: columns and levels are where the invariants say.
    unsafe {
        store::<R>(
            rows,
            scale,
            #[inline(always)]
            |strip| {
                let mut sums = [bias; R];
                for column in 0..3 {
                    let at = columns.at(strip * columns.stride + column).unwrap_or([columns.outside; QUAD]);
                    let cells = interleave(at, 0);
                    for r in 0..R {
                        sums[r] = dot(sums[r], cells, rows.weights.add((r * 3 + column) * X86_CELLS));
                    }
                }
                sums
            },
        );
    }
}

/// `R` rows, whatever the kernel.
///
/// # Safety
/// The invariants of `rows`, which are `R`, and of `window`.
// Inlined, the variants would share their caller's registers.
#[inline(never)]
#[target_feature(enable = "avx2,bmi2")]
unsafe fn any<const R: usize>(rows: &OutputRows, window: &Window, bias: [__m256i; QUAD], scale: &Scale) {
    // SAFETY: columns of each strip and levels are where the invariants say.
    unsafe {
        store::<R>(
            rows,
            scale,
            #[inline(always)]
            |strip| {
                let mut sums = [bias; R];
                let mut levels = rows.weights;
                for quad in 0..window.quads {
                    let from = window.quad(quad);
                    for offset in window.offsets() {
                        let cells = interleave(from, strip * window.step + offset);
                        for r in 0..R {
                            sums[r] = dot(sums[r], cells, levels.add(r * rows.weights_step));
                        }
                        levels = levels.add(X86_CELLS);
                    }
                }
                sums
            },
        );
    }
}

/// Requantises and stores the sums of every strip of `R` rows.
///
/// # Safety
/// The processor has the instructions; the invariants of `rows`, which are `R`.
#[inline]
#[target_feature(enable = "avx2,bmi2")]
unsafe fn store<const R: usize>(rows: &OutputRows, scale: &Scale, sums: impl Fn(usize) -> [[__m256i; QUAD]; R]) {
    // The last strip, if it is a part of a vector, goes to its place by way of this.
    let mut part = [[0u8; LANES]; R];
    let whole = if rows.last == LANES { rows.strips } else { rows.strips - 1 };
    for strip in 0..rows.strips {
        let sums = sums(strip);
        for r in 0..R {
            let to = rows.output.wrapping_add(r * rows.row + strip * rows.step);
            let to = if strip < whole { to } else { part[r].as_mut_ptr() };
            // SAFETY: a vector of the output, or a part.
            unsafe { _mm256_storeu_si256(to.cast(), scale.codes(sums[r])) };
        }
    }
    if whole < rows.strips {
        for r in 0..R {
            let to = rows.output.wrapping_add(r * rows.row + whole * rows.step);
            // SAFETY: the bytes of the last strip.
            unsafe { to.copy_from_nonoverlapping(part[r].as_ptr(), rows.last) };
        }
    }
}

/// Adds the products of four rows and their levels.
///
/// # Safety
/// `levels` has `X86_CELLS` bytes.
#[inline]
#[target_feature(enable = "avx2,bmi2")]
unsafe fn dot(sums: [__m256i; QUAD], cells: [__m256i; 2 * QUAD], levels: *const u8) -> [__m256i; QUAD] {
    let mut sums = sums;
    for i in 0..2 * QUAD {
        // SAFETY: the contract.
        let levels = unsafe { _mm256_loadu_si256(levels.add(i * LANES).cast()) };
        sums[i % QUAD] = _mm256_add_epi32(sums[i % QUAD], _mm256_madd_epi16(cells[i], levels));
    }
    sums
}

/// Vector `k` holds lanes `16j + 4k..` in its halves `j`, the first two rows of each lane at 16 bits; vector
/// `4 + k` the other two.
///
/// # Safety
/// 32 bytes can be read at `offset` from each address.
#[inline]
#[target_feature(enable = "avx2,bmi2")]
unsafe fn interleave(rows: [*const u8; QUAD], offset: usize) -> [__m256i; 8] {
    let mut row = [_mm256_setzero_si256(); QUAD];
    for i in 0..QUAD {
        // SAFETY: the contract.
        row[i] = unsafe { _mm256_loadu_si256(rows[i].add(offset).cast()) };
    }
    let zero = _mm256_setzero_si256();
    let mut cells = [zero; 8];
    for pair in 0..2 {
        let (a, b) = (row[2 * pair], row[2 * pair + 1]);
        let [low, high] = [_mm256_unpacklo_epi8(a, b), _mm256_unpackhi_epi8(a, b)];
        cells[4 * pair] = _mm256_unpacklo_epi8(low, zero);
        cells[4 * pair + 1] = _mm256_unpackhi_epi8(low, zero);
        cells[4 * pair + 2] = _mm256_unpacklo_epi8(high, zero);
        cells[4 * pair + 3] = _mm256_unpackhi_epi8(high, zero);
    }
    cells
}

/// Numbers in the order of the cells.
#[inline]
#[target_feature(enable = "avx2,bmi2")]
fn load_numbers(numbers: &[i32]) -> [__m256i; 4] {
    let numbers = &numbers[..LANES];
    let mut cells = [_mm256_setzero_si256(); 4];
    for k in 0..4 {
        // SAFETY: numbers 4k.. and 16 + 4k.. of 32.
        cells[k] = unsafe {
            let at = numbers.as_ptr().add(4 * k);
            _mm256_loadu2_m128i(at.add(16).cast(), at.cast())
        };
    }
    cells
}

/// From the sums of a strip to its codes.
pub(super) struct Scale {
    even: [__m256i; 4],
    odd: [__m256i; 4],
    pre: __m128i,
    /// Half a unit, and the zero point above it.
    round: __m256i,
    lo: __m256i,
    hi: __m256i,
}

impl Scale {
    #[inline]
    #[target_feature(enable = "avx2,bmi2")]
    pub(super) fn new(requantise: &Requantise, mult: [__m256i; QUAD]) -> Scale {
        let &Requantise { pre, zero, lo, hi } = requantise;
        let even = mult;
        let mut odd = even;
        for k in 0..4 {
            odd[k] = _mm256_srli_epi64::<32>(even[k]);
        }
        Scale {
            even,
            odd,
            pre: _mm_cvtsi32_si128(i32::from(pre & 31)),
            round: _mm256_set1_epi64x((i64::from(zero) << 32) + (1 << 31)),
            lo: _mm256_set1_epi8(lo as i8),
            hi: _mm256_set1_epi8(hi as i8),
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,bmi2")]
    pub(super) fn codes(&self, sums: [__m256i; 4]) -> __m256i {
        let mut high = [_mm256_setzero_si256(); 4];
        for k in 0..4 {
            let sums = _mm256_sll_epi32(sums[k], self.pre);
            let even = _mm256_add_epi64(_mm256_mul_epi32(sums, self.even[k]), self.round);
            let odd = _mm256_mul_epi32(_mm256_srli_epi64::<32>(sums), self.odd[k]);
            let odd = _mm256_add_epi64(odd, self.round);
            let [even, odd] = [_mm256_castsi256_ps(even), _mm256_castsi256_ps(odd)];
            // The high halves, in the order 0, 2, 1, 3.
            high[k] = _mm256_castps_si256(_mm256_shuffle_ps::<0b11_01_11_01>(even, odd));
        }
        // Both packs saturate, which is within any clamp to codes.
        let [a, b, c, d] = high;
        let codes = _mm256_packus_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
        let codes = _mm256_min_epu8(_mm256_max_epu8(codes, self.lo), self.hi);
        let order = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15));
        _mm256_shuffle_epi8(codes, order)
    }
}

const _: () = assert!(PANEL_CHANNELS == 16);
