//! Depthwise convolution: 4 rows of 16 lanes an instruction.

use core::arch::x86_64::*;

use super::levels::{Bytes, Levels, Table64, Table128};
use super::{Avx512, STEP, lanes};
use crate::format::{PANEL_CHANNELS, Requantise, WeightGroup};
use crate::kernels::panels::Panels;
use crate::kernels::scratch::X86_CELLS;
use crate::kernels::x86_64::depthwise::{Columns, Depthwise, InputRow, OutputRows, QUAD, Strip, Window};

/// Bytes of a vector.
const LANES: usize = 64;

// SAFETY: 64 lanes of 4 levels of a byte.
unsafe impl Depthwise for Avx512 {
    const LANES: usize = LANES;

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn run(strip: Strip<'_>) {
        let mut strip = strip;
        // SAFETY: the processor has the instructions.
        unsafe {
            strip.prepare::<Avx512>();
            match Doubled::new(&strip) {
                Some(scale) => all_rows(strip, &scale),
                None => {
                    let mult = load_numbers(strip.mult(&mut [0; LANES]));
                    let scale = Whole::new(strip.requantise(), mult);
                    all_rows(strip, &scale);
                }
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn decode(group: &WeightGroup<'_>, panels: &Panels<'_>, to: *mut u8, step: usize) {
        // SAFETY: the contract.
        unsafe {
            match group.format.bits() {
                8 => decode_taps(&Bytes, panels, to, step),
                7 => decode_taps(&Table128::new(group), panels, to, step),
                _ => decode_taps(&Table64::new(group), panels, to, step),
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

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn copy(row: &InputRow) {
        // SAFETY: the contract.
        unsafe { row.copy() };
    }
}

/// # Safety
/// The processor has the instructions; the strip is prepared.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
unsafe fn all_rows<S: Scale>(strip: Strip<'_>, scale: &S) {
    let mut strip = strip;
    let bias = load_numbers(strip.bias(&mut [0; LANES]));
    // SAFETY: the strip keeps the invariants; as many rows as there are, and columns.
    unsafe {
        if strip.is_direct() {
            while let Some((rows, columns)) = strip.next_columns() {
                match rows.together {
                    1 => slide::<S, 1>(&rows, &columns, bias, scale),
                    _ => slide::<S, 2>(&rows, &columns, bias, scale),
                }
            }
        } else {
            while let Some((rows, window)) = strip.next_rows::<Avx512>() {
                match rows.together {
                    1 => any::<S, 1>(&rows, &window, bias, scale),
                    _ => any::<S, 2>(&rows, &window, bias, scale),
                }
            }
        }
    }
}

/// `R` rows of strips of one pixel, three columns of the input in registers.
///
/// # Safety
/// The invariants of `rows`, which are `R`, and of `columns`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
unsafe fn slide<S: Scale, const R: usize>(rows: &OutputRows, columns: &Columns, bias: [__m512i; QUAD], scale: &S) {
    // SAFETY: columns, levels and output are where the invariants say.
    unsafe {
        let outside = [_mm512_loadu_si512(columns.outside.cast()); QUAD];
        let (column, pixel) = (
            #[inline(always)]
            |x: usize| match columns.at(x) {
                Some(at) => interleave(at, 0),
                None => outside,
            },
            #[inline(always)]
            |x: usize, cells: [[__m512i; QUAD]; 3]| {
                let mut sums = [bias; R];
                for r in 0..R {
                    for column in 0..3 {
                        let levels = rows.weights.add((r * 3 + column) * X86_CELLS);
                        sums[r] = dot(sums[r], cells[column], levels);
                    }
                }
                for r in 0..R {
                    let to = rows.output.add(r * rows.row + x * rows.step);
                    _mm512_storeu_si512(to.cast(), scale.codes(sums[r]));
                }
            },
        );
        let mut x = 0;
        if columns.stride == 1 {
            let (mut a, mut b) = (column(0), column(1));
            loop {
                let c = column(x + 2);
                pixel(x, [a, b, c]);
                if x + 1 == rows.strips {
                    return;
                }
                a = column(x + 3);
                pixel(x + 1, [b, c, a]);
                if x + 2 == rows.strips {
                    return;
                }
                b = column(x + 4);
                pixel(x + 2, [c, a, b]);
                if x + 3 == rows.strips {
                    return;
                }
                x += 3;
            }
        }
        while x < rows.strips {
            let at = x * columns.stride;
            pixel(x, [column(at), column(at + 1), column(at + 2)]);
            x += 1;
        }
    }
}

/// `R` rows, whatever the kernel.
///
/// # Safety
/// The invariants of `rows`, which are `R`, and of `window`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
unsafe fn any<S: Scale, const R: usize>(rows: &OutputRows, window: &Window, bias: [__m512i; QUAD], scale: &S) {
    // SAFETY: columns of each strip and levels are where the invariants say.
    unsafe {
        store::<S, R>(
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
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
unsafe fn store<S: Scale, const R: usize>(rows: &OutputRows, scale: &S, sums: impl Fn(usize) -> [[__m512i; QUAD]; R]) {
    // The last strip, if it is a part of a vector, goes to its place by way of this.
    let mut part = [[0u8; LANES]; R];
    let whole = if rows.last == LANES { rows.strips } else { rows.strips - 1 };
    for strip in 0..rows.strips {
        let sums = sums(strip);
        for r in 0..R {
            let to = rows.output.wrapping_add(r * rows.row + strip * rows.step);
            let to = if strip < whole { to } else { part[r].as_mut_ptr() };
            // SAFETY: a vector of the output, or a part.
            unsafe { _mm512_storeu_si512(to.cast(), scale.codes(sums[r])) };
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
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
unsafe fn dot(sums: [__m512i; QUAD], cells: [__m512i; QUAD], levels: *const u8) -> [__m512i; QUAD] {
    let mut sums = sums;
    for k in 0..QUAD {
        // SAFETY: the contract.
        let levels = unsafe { _mm512_loadu_si512(levels.add(k * STEP).cast()) };
        sums[k] = _mm512_dpbusd_epi32(sums[k], cells[k], levels);
    }
    sums
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

/// Numbers in the order of the cells.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn load_numbers(numbers: &[i32]) -> [__m512i; 4] {
    let numbers = &numbers[..LANES];
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
pub(super) trait Scale {
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
    fn new(strip: &Strip<'_>) -> Option<Doubled> {
        let mult = load_numbers(strip.mult(&mut [0; LANES]));
        let [mut even, mut odd] = [[_mm512_setzero_si512(); 4]; 2];
        let mut wide = _mm512_setzero_si512();
        for k in 0..4 {
            even[k] = _mm512_slli_epi32::<1>(mult[k]);
            odd[k] = _mm512_srli_epi64::<32>(even[k]);
            // The sign is lost where the top bits differ.
            wide = _mm512_or_si512(wide, _mm512_xor_si512(mult[k], even[k]));
        }
        let requantise = strip.requantise();
        let fits = requantise.pre == 0 && _mm512_cmplt_epi32_mask(wide, _mm512_setzero_si512()) == 0;
        let round = _mm512_set1_epi16(2 * i16::from(requantise.zero) + 1);
        fits.then(|| Doubled { even, odd, round, bounds: Bounds::new(requantise) })
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
pub(super) struct Whole {
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
    pub(super) fn new(requantise: &Requantise, mult: [__m512i; QUAD]) -> Whole {
        let even = mult;
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

/// Decodes panels, a tap at every `step` bytes.
///
/// # Safety
/// For each tap, 16 bytes can be written for each panel.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
unsafe fn decode_taps<L: Levels>(levels: &L, panels: &Panels<'_>, to: *mut u8, step: usize) {
    for index in 0..panels.len {
        let mut to = to.wrapping_add(index * PANEL_CHANNELS);
        // A last piece of 1 to 3 taps is decoded aside.
        for from in panels.codes[index * panels.step..][..panels.step].chunks(levels.bytes()) {
            // SAFETY: 64 bytes hold the codes of any width.
            unsafe {
                let mut piece = [0u8; STEP];
                let mut at = from.as_ptr();
                if from.len() < levels.bytes() {
                    let packed = _mm512_maskz_loadu_epi8(lanes(from.len()), at.cast());
                    _mm512_storeu_si512(piece.as_mut_ptr().cast(), packed);
                    at = piece.as_ptr();
                }
                let four = levels.load(at);
                let taps = QUAD * from.len() / levels.bytes();
                _mm_storeu_si128(to.cast(), _mm512_castsi512_si128(four));
                if taps > 1 {
                    _mm_storeu_si128(to.wrapping_add(step).cast(), _mm512_extracti32x4_epi32::<1>(four));
                }
                if taps > 2 {
                    _mm_storeu_si128(to.wrapping_add(2 * step).cast(), _mm512_extracti32x4_epi32::<2>(four));
                }
                if taps > 3 {
                    _mm_storeu_si128(to.wrapping_add(3 * step).cast(), _mm512_extracti32x4_epi32::<3>(four));
                }
                to = to.wrapping_add(4 * step);
            }
        }
    }
}

const _: () = assert!(PANEL_CHANNELS == 16);
