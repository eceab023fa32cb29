//! Depthwise convolution: 4 rows of 16 lanes an instruction.

use core::arch::x86_64::*;

use super::levels::{Bytes, Levels, Table64, Table128};
use super::{Avx512, STEP, lanes};
use crate::format::{Conv, PANEL_CHANNELS, Requantise, WeightGroup};
use crate::kernels::scratch::{X86_CELLS, X86Depthwise};
use crate::kernels::x86_64::depthwise::{Columns, Depthwise, InputRow, OutputRows, QUAD, prepare};
use crate::kernels::x86_64::store::store_some;

/// Bytes of a vector.
const LANES: usize = 64;

// SAFETY: 64 lanes of 4 levels of a byte.
unsafe impl Depthwise for Avx512 {
    const LANES: usize = LANES;

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn decode(group: &WeightGroup<'_>, codes: &[u8], to: *mut u8, step: usize) {
        // SAFETY: the contract.
        unsafe {
            match group.format.bits() {
                8 => decode_taps(&Bytes, codes, to, step),
                7 => decode_taps(&Table128::new(group), codes, to, step),
                _ => decode_taps(&Table64::new(group), codes, to, step),
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn interleave_levels(rows: [*const u8; QUAD], to: *mut u8) {
        // SAFETY: the contract.
        unsafe {
            let cells = interleave(rows, 0);
            for k in 0..QUAD {
                _mm512_storeu_si512(to.add(k * STEP).cast(), cells[k]);
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn copy(row: &InputRow) {
        // SAFETY: the contract.
        unsafe { row.copy() };
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn rows(rows: &OutputRows<'_>) {
        // SAFETY: the contract.
        unsafe {
            match Doubled::new(rows) {
                Some(scale) => strips(rows, &scale),
                None => strips(rows, &Whole::new(rows)),
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn prepare(conv: &Conv<'_>, plan: &X86Depthwise, first: usize, levels: *mut u8, to: *mut u8) {
        // SAFETY: the contract.
        unsafe { prepare::<Self>(conv, plan, first, levels, to) };
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn columns(rows: &OutputRows<'_>, columns: &Columns) {
        // SAFETY: as many rows as there are; the contract.
        unsafe {
            match (Doubled::new(rows), rows.together) {
                (Some(scale), 1) => slide::<_, 1>(rows, columns, &scale),
                (Some(scale), _) => slide::<_, 2>(rows, columns, &scale),
                (None, 1) => slide::<_, 1>(rows, columns, &Whole::new(rows)),
                (None, _) => slide::<_, 2>(rows, columns, &Whole::new(rows)),
            }
        }
    }
}

/// `R` rows of pixels, three columns of the input in registers.
///
/// # Safety
/// The invariants of `rows`, which are `R`, and of `columns`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
unsafe fn slide<S: Scale, const R: usize>(rows: &OutputRows<'_>, columns: &Columns, scale: &S) {
    let bias = load_numbers(&rows.lanes.bias);
    // SAFETY: columns, levels and output are where the invariants say.
    unsafe {
        let outside = [_mm512_loadu_si512(columns.outside.cast()); QUAD];
        let column = |x: usize| match columns.at(x) {
            Some(at) => interleave(at, 0),
            None => outside,
        };
        let mut left = column(0);
        let mut middle = column(1);
        let mut to = rows.output;
        let mut x = 2;
        for _ in 0..rows.strips {
            let right = column(x);
            let mut sums = [bias; R];
            for (cells, at) in [(left, 0), (middle, X86_CELLS), (right, 2 * X86_CELLS)] {
                for r in 0..R {
                    for k in 0..QUAD {
                        let levels = rows.weights.add(r * 3 * X86_CELLS + at + k * STEP);
                        sums[r][k] = _mm512_dpbusd_epi32(sums[r][k], cells[k], _mm512_loadu_si512(levels.cast()));
                    }
                }
            }
            for r in 0..R {
                _mm512_storeu_si512(to.add(r * rows.output_row).cast(), scale.codes(sums[r]));
            }
            to = to.add(rows.output_step);
            if columns.stride == 1 {
                (left, middle) = (middle, right);
            } else if columns.stride == 2 {
                (left, middle) = (right, column(x + 1));
            } else {
                (left, middle) = (column(x + columns.stride - 2), column(x + columns.stride - 1));
            }
            x += columns.stride;
        }
    }
}

/// # Safety
/// The invariants of `rows`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
unsafe fn strips<S: Scale>(rows: &OutputRows<'_>, scale: &S) {
    // SAFETY: as many rows as there are; the contract.
    unsafe {
        match rows.together {
            1 => correlate::<S, 1>(rows, scale),
            _ => correlate::<S, 2>(rows, scale),
        }
    }
}

/// `R` rows.
///
/// # Safety
/// The invariants of `rows`, which are `R`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
unsafe fn correlate<S: Scale, const R: usize>(rows: &OutputRows<'_>, scale: &S) {
    let bias = load_numbers(&rows.lanes.bias);
    let first = rows.quad(0);
    // SAFETY: taps of each strip, levels and output are where the invariants say.
    unsafe {
        for strip in 0..rows.strips {
            let mut sums = [bias; R];
            let mut weights = rows.weights;
            for quad in 0..rows.quads {
                let from = if quad == 0 { first } else { rows.quad(quad) };
                for tap in rows.taps.offsets() {
                    let cells = interleave(from, strip * rows.step + tap);
                    for r in 0..R {
                        for k in 0..QUAD {
                            let levels = weights.add(r * rows.weights_step + k * STEP);
                            sums[r][k] = _mm512_dpbusd_epi32(sums[r][k], cells[k], _mm512_loadu_si512(levels.cast()));
                        }
                    }
                    weights = weights.add(X86_CELLS);
                }
            }
            for r in 0..R {
                let codes = scale.codes(sums[r]);
                let to = rows.output.add(r * rows.output_row + strip * rows.output_step);
                if strip + 1 < rows.strips || rows.last == LANES {
                    _mm512_storeu_si512(to.cast(), codes);
                } else {
                    store_part(codes, rows.last, to);
                }
            }
        }
    }
}

/// Vector `k` holds lanes `16j + 4k..` in its quarters `j`, four rows of each lane.
///
/// # Safety
/// 64 bytes can be read at `offset` from each address.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
unsafe fn interleave(rows: [*const u8; QUAD], offset: usize) -> [__m512i; 4] {
    let mut row = [_mm512_setzero_si512(); QUAD];
    for i in 0..QUAD {
        // SAFETY: the contract.
        row[i] = unsafe { _mm512_loadu_si512(rows[i].add(offset).cast()) };
    }
    let [a, b, c, d] = row;
    let [ab, cd] = [_mm512_unpacklo_epi8(a, b), _mm512_unpacklo_epi8(c, d)];
    let [ab_high, cd_high] = [_mm512_unpackhi_epi8(a, b), _mm512_unpackhi_epi8(c, d)];
    [
        _mm512_unpacklo_epi16(ab, cd),
        _mm512_unpackhi_epi16(ab, cd),
        _mm512_unpacklo_epi16(ab_high, cd_high),
        _mm512_unpackhi_epi16(ab_high, cd_high),
    ]
}

/// Stores the first `count` codes, in pieces: AMD's masked stores take a dozen times longer.
///
/// # Safety
/// `to` takes them; `count < 64`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
unsafe fn store_part(codes: __m512i, count: usize, to: *mut u8) {
    let (mut codes, mut to) = (codes, to);
    // SAFETY: the pieces are binary digits of `count`; the contract.
    unsafe {
        if count & 32 != 0 {
            _mm256_storeu_si256(to.cast(), _mm512_castsi512_si256(codes));
            codes = _mm512_shuffle_i64x2::<0b11_10_11_10>(codes, codes);
            to = to.add(32);
        }
        if count & 16 != 0 {
            _mm_storeu_si128(to.cast(), _mm512_castsi512_si128(codes));
            codes = _mm512_shuffle_i64x2::<0b01_01_01_01>(codes, codes);
            to = to.add(16);
        }
        store_some(&[_mm512_castsi512_si128(codes)], count % 16, &[to]);
    }
}

/// Numbers in the order of the cells.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn load_numbers(numbers: &[i32; LANES]) -> [__m512i; 4] {
    let mut rows = [_mm512_setzero_si512(); 4];
    for j in 0..4 {
        // SAFETY: 16 of 64 numbers.
        rows[j] = unsafe { _mm512_loadu_si512(numbers.as_ptr().add(16 * j).cast()) };
    }
    // Quarter k of row j becomes quarter j of row k.
    let [a, b, c, d] = rows;
    let [ab, cd] = [_mm512_shuffle_i32x4::<0x44>(a, b), _mm512_shuffle_i32x4::<0x44>(c, d)];
    let [ab_high, cd_high] = [_mm512_shuffle_i32x4::<0xee>(a, b), _mm512_shuffle_i32x4::<0xee>(c, d)];
    [
        _mm512_shuffle_i32x4::<0x88>(ab, cd),
        _mm512_shuffle_i32x4::<0xdd>(ab, cd),
        _mm512_shuffle_i32x4::<0x88>(ab_high, cd_high),
        _mm512_shuffle_i32x4::<0xdd>(ab_high, cd_high),
    ]
}

/// From the sums of a strip to its codes.
trait Scale {
    /// The codes, lane after lane.
    ///
    /// # Safety
    /// The processor has the instructions.
    unsafe fn codes(&self, sums: [__m512i; 4]) -> __m512i;
}

/// Bounds of the codes.
struct Bounds {
    lo: __m512i,
    hi: __m512i,
}

impl Bounds {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    fn new(requantise: &Requantise) -> Bounds {
        Bounds { lo: _mm512_set1_epi8(requantise.lo as i8), hi: _mm512_set1_epi8(requantise.hi as i8) }
    }

    /// Clamps, and puts the lanes that [`high_halves`] exchanged in order.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    fn clamp(&self, codes: __m512i) -> __m512i {
        let order = _mm_setr_epi8(0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15);
        let codes = _mm512_shuffle_epi8(codes, _mm512_broadcast_i32x4(order));
        _mm512_min_epu8(_mm512_max_epu8(codes, self.lo), self.hi)
    }
}

/// Twice every multiplier fits 32 bits, and there is no shift before: then the product, a bit more precise than the
/// code, is rounded after it has been packed, two codes in the place of one.
struct Doubled {
    even: [__m512i; 4],
    odd: [__m512i; 4],
    round: __m512i,
    bounds: Bounds,
}

impl Doubled {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    fn new(rows: &OutputRows<'_>) -> Option<Doubled> {
        let mult = load_numbers(&rows.lanes.mult);
        let [mut even, mut odd] = [[_mm512_setzero_si512(); 4]; 2];
        let mut wide = _mm512_setzero_si512();
        for k in 0..4 {
            even[k] = _mm512_slli_epi32::<1>(mult[k]);
            odd[k] = _mm512_srli_epi64::<32>(even[k]);
            // The sign is lost where the top bits differ.
            wide = _mm512_or_si512(wide, _mm512_xor_si512(mult[k], even[k]));
        }
        let fits = rows.requantise.pre == 0 && _mm512_cmplt_epi32_mask(wide, _mm512_setzero_si512()) == 0;
        let round = _mm512_set1_epi16(2 * i16::from(rows.requantise.zero) + 1);
        fits.then(|| Doubled { even, odd, round, bounds: Bounds::new(&rows.requantise) })
    }
}

impl Scale for Doubled {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn codes(&self, sums: [__m512i; 4]) -> __m512i {
        let mut high = [_mm512_setzero_si512(); 4];
        for k in 0..4 {
            let even = _mm512_mul_epi32(sums[k], self.even[k]);
            let odd = _mm512_mul_epi32(_mm512_srli_epi64::<32>(sums[k]), self.odd[k]);
            high[k] = high_halves(even, odd);
        }
        // Packs and sum saturate, far beyond any code.
        let [a, b, c, d] = high;
        let [ab, cd] = [_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d)];
        let [ab, cd] = [_mm512_adds_epi16(ab, self.round), _mm512_adds_epi16(cd, self.round)];
        let codes = _mm512_packus_epi16(_mm512_srai_epi16::<1>(ab), _mm512_srai_epi16::<1>(cd));
        self.bounds.clamp(codes)
    }
}

/// Any multipliers and shift.
struct Whole {
    even: [__m512i; 4],
    odd: [__m512i; 4],
    pre: __m512i,
    /// Half a unit, and the zero point above it.
    round: __m512i,
    bounds: Bounds,
}

impl Whole {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    fn new(rows: &OutputRows<'_>) -> Whole {
        let requantise = &rows.requantise;
        let even = load_numbers(&rows.lanes.mult);
        let mut odd = [_mm512_setzero_si512(); 4];
        for k in 0..4 {
            odd[k] = _mm512_srli_epi64::<32>(even[k]);
        }
        Whole {
            even,
            odd,
            pre: _mm512_set1_epi32(i32::from(requantise.pre & 31)),
            round: _mm512_set1_epi64((i64::from(requantise.zero) << 32) + (1 << 31)),
            bounds: Bounds::new(requantise),
        }
    }
}

impl Scale for Whole {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn codes(&self, sums: [__m512i; 4]) -> __m512i {
        let mut high = [_mm512_setzero_si512(); 4];
        for k in 0..4 {
            let sums = _mm512_sllv_epi32(sums[k], self.pre);
            let even = _mm512_mul_epi32(sums, self.even[k]);
            let odd = _mm512_mul_epi32(_mm512_srli_epi64::<32>(sums), self.odd[k]);
            high[k] = high_halves(_mm512_add_epi64(even, self.round), _mm512_add_epi64(odd, self.round));
        }
        let [a, b, c, d] = high;
        self.bounds.clamp(_mm512_packus_epi16(_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d)))
    }
}

/// The high halves of 64-bit numbers: of every 4 lanes, the second and the third change places.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn high_halves(even: __m512i, odd: __m512i) -> __m512i {
    let [even, odd] = [_mm512_castsi512_ps(even), _mm512_castsi512_ps(odd)];
    _mm512_castps_si512(_mm512_shuffle_ps::<0b11_01_11_01>(even, odd))
}

/// Decodes a panel, a tap at every `step` bytes.
///
/// # Safety
/// 16 bytes can be written for each tap.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
unsafe fn decode_taps<L: Levels>(levels: &L, codes: &[u8], to: *mut u8, step: usize) {
    let mut to = to;
    // A last piece of 1 to 3 taps is decoded aside.
    for from in codes.chunks(levels.bytes()) {
        let taps = from.len() * QUAD / levels.bytes();
        let mut piece = [0u8; STEP];
        // SAFETY: 64 bytes hold the codes of any width.
        unsafe {
            let packed = _mm512_maskz_loadu_epi8(lanes(from.len()), from.as_ptr().cast());
            _mm512_storeu_si512(piece.as_mut_ptr().cast(), packed);
            let four = levels.load(piece.as_ptr());
            let taps_of = [
                _mm512_castsi512_si128(four),
                _mm512_extracti32x4_epi32::<1>(four),
                _mm512_extracti32x4_epi32::<2>(four),
                _mm512_extracti32x4_epi32::<3>(four),
            ];
            for tap in &taps_of[..taps] {
                _mm_storeu_si128(to.cast(), *tap);
                to = to.wrapping_add(step);
            }
        }
    }
}

const _: () = assert!(PANEL_CHANNELS == 16);
