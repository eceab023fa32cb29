//! Fully connected layers: every weight is read once and multiplied once, so that a layer takes as long as
//! its weights take to arrive. Codes become levels in registers.

use core::arch::x86_64::*;

use super::lanes;
use super::levels::{Bytes, Levels, Table64, Table128, table64};
use super::requantise::{BY_VECTOR, Scale, load_channels, store_pixel};
use crate::format::{PANEL_CHANNELS, WeightFormat, WeightGroup};
use crate::kernels::panels::dense::{STEP, Stream};

/// Panels whose sums become codes together.
const TOGETHER: usize = 4;
/// Bytes of codes that a cache of the second level is likely to have kept from the last inference.
const NEAR: usize = 96 << 10;
/// How far ahead codes are asked for that come from beyond.
const AHEAD: usize = 8 << 10;
/// The deepest window whose sums of fields in place stay within 32 bits: 2^16 products of 255 by 128.
const DEEPEST: usize = 1 << 16;

/// Multiplies the panels of a group with their window.
///
/// # Safety
/// As [`Dense::stream`](crate::kernels::panels::dense::Dense::stream).
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
pub(super) unsafe fn stream(group: &WeightGroup<'_>, stream: &Stream<'_>) {
    let in_place = stream.quads() * 4 <= DEEPEST;
    // SAFETY: the contract.
    unsafe {
        match group.format {
            WeightFormat::Linear(1) if in_place => panels::<8, 8, _>(&Fields::new(group, stream), group, stream),
            WeightFormat::Linear(2) | WeightFormat::Ternary if in_place => {
                panels::<4, 4, _>(&Fields::new(group, stream), group, stream);
            }
            WeightFormat::Linear(4) if in_place => panels::<2, 4, _>(&Fields::new(group, stream), group, stream),
            WeightFormat::Linear(8) => panels::<1, 4, _>(&InSequence(Bytes), group, stream),
            format => match format.bits() {
                1 => panels::<8, 8, _>(&Looked::new(group), group, stream),
                2 => panels::<4, 4, _>(&Looked::new(group), group, stream),
                4 => panels::<2, 4, _>(&Looked::new(group), group, stream),
                7 => panels::<1, 4, _>(&InSequence(Table128::new(group)), group, stream),
                _ => panels::<1, 4, _>(&InSequence(Table64::new(group)), group, stream),
            },
        }
    }
}

/// The steps of `F` successive quads, which lie together.
///
/// # Safety
/// [`load`](Self::load) reads [`bytes`](Self::bytes) and no more.
unsafe trait Steps<const F: usize> {
    /// Bytes of `F` steps.
    fn bytes(&self) -> usize;

    /// The packed codes of `F` steps.
    ///
    /// # Safety
    /// The processor has the instructions; the address has `bytes` to read.
    unsafe fn load(&self, at: *const u8) -> __m512i;

    /// Something that stands for the levels of step `index`.
    ///
    /// # Safety
    /// The processor has the instructions.
    unsafe fn step(&self, packed: __m512i, index: usize) -> __m512i;

    /// The sum over levels out of the sums over what stood for those of step `n % F`.
    ///
    /// # Safety
    /// The processor has the instructions.
    unsafe fn total<const N: usize>(&self, sums: &[__m512i; N]) -> __m512i;
}

/// One step after another.
struct InSequence<L>(L);

// SAFETY: the levels' own.
unsafe impl<L: Levels> Steps<1> for InSequence<L> {
    #[inline(always)]
    fn bytes(&self) -> usize {
        self.0.bytes()
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn load(&self, at: *const u8) -> __m512i {
        // SAFETY: the contract.
        unsafe { self.0.load(at) }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn step(&self, packed: __m512i, _index: usize) -> __m512i {
        packed
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn total<const N: usize>(&self, sums: &[__m512i; N]) -> __m512i {
        sum_of(sums)
    }
}

/// Interleaved codes of any meaning: each is shifted to the bottom of its byte and looked up.
struct Looked<const F: usize> {
    table: __m512i,
    shifts: [__m512i; F],
}

impl<const F: usize> Looked<F> {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    fn new(group: &WeightGroup<'_>) -> Looked<F> {
        let mut shifts = [_mm512_setzero_si512(); F];
        for index in 0..F {
            shifts[index] = _mm512_set1_epi16((index * 8 / F) as i16);
        }
        Looked { table: table64(group), shifts }
    }
}

// SAFETY: 64 bytes.
unsafe impl<const F: usize> Steps<F> for Looked<F> {
    #[inline(always)]
    fn bytes(&self) -> usize {
        STEP
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn load(&self, at: *const u8) -> __m512i {
        // SAFETY: the contract.
        unsafe { _mm512_loadu_si512(at.cast()) }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn step(&self, packed: __m512i, index: usize) -> __m512i {
        let shifted = if index == 0 { packed } else { _mm512_srlv_epi16(packed, self.shifts[index]) };
        _mm512_permutexvar_epi8(shifted, self.table)
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn total<const N: usize>(&self, sums: &[__m512i; N]) -> __m512i {
        sum_of(sums)
    }
}

/// Interleaved codes at equal distances, multiplied where they lie in their bytes: masked out, never moved.
///
/// A level is `slope * u - less`, `u >= 0` being the code, its sign bit flipped where it is two's complement.
/// Step `i` multiplies by `u << i * b`, the last one by `(u - 2^(b-1)) << 8 - b`, since bytes are signed; sums are
/// shifted back once, and what the offsets contribute depends on the window alone.
struct Fields<const F: usize> {
    flips: __m512i,
    masks: [__m512i; F],
    shifts: [__m512i; F],
    /// 1 if levels are odd: the slope's logarithm.
    double: __m512i,
    /// What the offsets contribute to every sum.
    offset: __m512i,
}

impl<const F: usize> Fields<F> {
    /// # Safety
    /// The processor has the instructions; the window can be read.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn new(group: &WeightGroup<'_>, stream: &Stream<'_>) -> Fields<F> {
        let bits = 8 / F;
        let (mask, top) = ((1u8 << bits).wrapping_sub(1), 1u8 << (bits - 1));
        let odd = matches!(group.format, WeightFormat::Linear(1 | 2));
        let (slope, less) = if odd { (2, mask) } else { (1, top) };
        let zero = _mm512_setzero_si512();
        let (mut flips, mut masks, mut shifts) = (0, [zero; F], [zero; F]);
        for index in 0..F {
            let at = index * bits;
            let last = index == F - 1;
            masks[index] = _mm512_set1_epi8((mask << at) as i8);
            flips |= if odd == last { top << at } else { 0 };
            shifts[index] = _mm512_set1_epi32(at as i32);
        }
        // Of every `F` quads, the last has another weight.
        let others = u16::MAX / ((1 << F) - 1) as u16 * (1 << (F - 1));
        let weights = _mm512_mask_mov_epi32(
            _mm512_set1_epi8(-(less as i8)),
            others,
            _mm512_set1_epi8(slope * top as i8 - less as i8),
        );
        // SAFETY: as many quads and more are in the window.
        let offset = unsafe { dot_quads(stream.window(), stream.quads() / F * F, weights) };
        Fields {
            flips: _mm512_set1_epi8(flips as i8),
            masks,
            shifts,
            double: _mm512_set1_epi32(odd.into()),
            offset: _mm512_set1_epi32(offset),
        }
    }
}

// SAFETY: 64 bytes.
unsafe impl<const F: usize> Steps<F> for Fields<F> {
    #[inline(always)]
    fn bytes(&self) -> usize {
        STEP
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn load(&self, at: *const u8) -> __m512i {
        // SAFETY: the contract.
        unsafe { _mm512_xor_si512(_mm512_loadu_si512(at.cast()), self.flips) }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn step(&self, packed: __m512i, index: usize) -> __m512i {
        _mm512_and_si512(packed, self.masks[index])
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn total<const N: usize>(&self, sums: &[__m512i; N]) -> __m512i {
        let mut total = _mm512_setzero_si512();
        for n in 0..N {
            total = _mm512_add_epi32(total, _mm512_srav_epi32(sums[n], self.shifts[n % F]));
        }
        _mm512_add_epi32(_mm512_sllv_epi32(total, self.double), self.offset)
    }
}

/// The sum over the codes of `quads` quads of a window, each times its weight; weights repeat after 16 quads.
///
/// # Safety
/// The processor has the instructions; that many quads can be read.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
unsafe fn dot_quads(window: *const u8, quads: usize, weights: __m512i) -> i32 {
    let mut sums = _mm512_setzero_si512();
    let mut at = 0;
    while at < quads * 4 {
        // SAFETY: lanes beyond the quads are not read.
        let codes = unsafe { _mm512_maskz_loadu_epi8(lanes(quads * 4 - at), window.add(at).cast()) };
        sums = _mm512_dpbusd_epi32(sums, codes, weights);
        at += STEP;
    }
    _mm512_reduce_add_epi32(sums)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn sum_of<const N: usize>(sums: &[__m512i; N]) -> __m512i {
    let mut sum = sums[0];
    for n in 1..N {
        sum = _mm512_add_epi32(sum, sums[n]);
    }
    sum
}

/// All panels, one after another, `N` sums each to keep the multipliers busy.
///
/// Codes come from beyond the first cache, and a core fetches them half as fast again if it foresees where every
/// load will read: hence one sequence, and a loop of few loads that runs through all panels.
///
/// # Safety
/// The processor has the instructions; [`bytes`](Steps::bytes) hold `F` steps of the panels. `F` divides `N`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
unsafe fn panels<const F: usize, const N: usize, S: Steps<F>>(steps: &S, group: &WeightGroup<'_>, stream: &Stream<'_>) {
    // SAFETY: the contract.
    unsafe {
        if stream.panels().codes.len() > NEAR {
            sequence::<F, N, AHEAD, S>(steps, group, stream);
        } else {
            sequence::<F, N, 0, S>(steps, group, stream);
        }
    }
}

/// The same, codes being asked for `A` bytes ahead.
///
/// # Safety
/// As [`panels`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
unsafe fn sequence<const F: usize, const N: usize, const A: usize, S: Steps<F>>(
    steps: &S,
    group: &WeightGroup<'_>,
    stream: &Stream<'_>,
) {
    let panels = stream.panels();
    let whole = panels.bias.len() / PANEL_CHANNELS;
    let mut first = 0;
    // SAFETY: the panels are there, those below `whole` with all their channels, which lie in the output: the contract.
    unsafe {
        let all = Scale::new(stream.requantise(), panels, 0);
        let numbers =
            |numbers: &[i32], index: usize| _mm512_loadu_si512(numbers.as_ptr().add(index * PANEL_CHANNELS).cast());
        while first < panels.len {
            let next = panels.len.min(first + TOGETHER);
            let mut sums = [_mm512_setzero_si512(); TOGETHER];
            // As many times as is not known, so that it stays one loop.
            for index in first..next {
                sums[index - first] = panel::<F, N, A, S>(steps, group, stream, index);
            }
            let output = stream.output().add(first * PANEL_CHANNELS);
            if first + TOGETHER <= whole {
                for p in 0..TOGETHER {
                    let sum = _mm512_add_epi32(sums[p], numbers(panels.bias, first + p));
                    let scale = all.with_mult(numbers(panels.mult, first + p));
                    sums[p] = scale.apply(if scale.is_wide() { scale.narrow(sum) } else { sum });
                }
                _mm512_storeu_si512(output.cast(), all.pack(sums, &BY_VECTOR));
            } else {
                for index in first..next {
                    let bias = load_channels(panels.bias, panels.channels(index));
                    let sum = _mm512_add_epi32(sums[index - first], bias);
                    let scale = Scale::new(stream.requantise(), panels, index);
                    store_pixel(&[scale], [sum], output.add((index - first) * PANEL_CHANNELS));
                }
            }
            first = next;
        }
    }
}

/// The sums of panel `index`.
///
/// # Safety
/// As [`panels`]; there is that panel.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
unsafe fn panel<const F: usize, const N: usize, const A: usize, S: Steps<F>>(
    steps: &S,
    group: &WeightGroup<'_>,
    stream: &Stream<'_>,
    index: usize,
) -> __m512i {
    let (panels, quads) = (stream.panels(), stream.quads());
    let all = quads / F;
    let mut sums = [_mm512_setzero_si512(); N];
    // SAFETY: steps below `quads` of a panel that is there: the contract.
    unsafe {
        let codes = panels.codes.as_ptr().add(index * panels.step);
        let together = |sums: &mut [__m512i; N], at: usize, n: usize| {
            let from = codes.add(at * steps.bytes());
            if A > 0 {
                _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(A).cast());
            }
            let packed = steps.load(from);
            for i in 0..F {
                let window = broadcast(stream.window(), at * F + i);
                sums[n + i] = _mm512_dpbusd_epi32(sums[n + i], window, steps.step(packed, i));
            }
        };
        let mut at = 0;
        while at + N / F <= all {
            for u in 0..N / F {
                together(&mut sums, at + u, u * F);
            }
            at += N / F;
        }
        while at < all {
            together(&mut sums, at, 0);
            at += 1;
        }
        let mut total = steps.total(&sums);
        if all * F < quads {
            let last = Table64::new(group);
            for quad in all * F..quads {
                let levels = last.step(codes, quads, quad);
                total = _mm512_dpbusd_epi32(total, broadcast(stream.window(), quad), levels);
            }
        }
        total
    }
}

/// A quad of a window for every channel.
///
/// # Safety
/// The processor has the instructions; the quad can be read.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
unsafe fn broadcast(window: *const u8, quad: usize) -> __m512i {
    // SAFETY: the contract.
    _mm512_set1_epi32(unsafe { window.add(4 * quad).cast::<i32>().read_unaligned() })
}
