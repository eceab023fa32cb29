//! Fully connected layers: every weight is read once and multiplied once, so that a layer takes as long as
//! its weights take to arrive. Codes become levels in registers.

use core::arch::x86_64::*;

use super::lanes;
use super::levels::{Bytes, Levels, Table64, Table128, table64};
use super::requantise::{Scale, load_channels, store_pixel};
use crate::format::{PANEL_CHANNELS, WeightFormat, WeightGroup};
use crate::kernels::panels::dense::{STEP, Stream};

/// Panels that share a window in registers.
const PANELS: usize = 4;
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
            WeightFormat::Linear(1) if in_place => panels::<8, 8, 2, _>(&Fields::new(group, stream), group, stream),
            WeightFormat::Linear(2) | WeightFormat::Ternary if in_place => {
                panels::<4, 4, PANELS, _>(&Fields::new(group, stream), group, stream);
            }
            WeightFormat::Linear(4) if in_place => {
                panels::<2, 2, PANELS, _>(&Fields::new(group, stream), group, stream);
            }
            WeightFormat::Linear(8) => panels::<1, 2, PANELS, _>(&InSequence(Bytes), group, stream),
            format => match format.bits() {
                1 => panels::<8, 2, PANELS, _>(&Looked::new(group), group, stream),
                2 => panels::<4, 2, PANELS, _>(&Looked::new(group), group, stream),
                4 => panels::<2, 2, PANELS, _>(&Looked::new(group), group, stream),
                7 => panels::<1, 2, PANELS, _>(&InSequence(Table128::new(group)), group, stream),
                _ => panels::<1, 2, PANELS, _>(&InSequence(Table64::new(group)), group, stream),
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
    slope: __m512i,
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
        let mut offsets = [0i8; F];
        for index in 0..F {
            let at = index * bits;
            let last = index == F - 1;
            masks[index] = _mm512_set1_epi8((mask << at) as i8);
            flips |= if odd == last { top << at } else { 0 };
            shifts[index] = _mm512_set1_epi32(at as i32);
            offsets[index] = if last { slope * top as i8 - less as i8 } else { -(less as i8) };
        }
        let quads = stream.quads() / F * F;
        // SAFETY: as many quads and more are in the window.
        let offset = unsafe { dot_quads(stream.window(), quads, &offsets) };
        Fields {
            flips: _mm512_set1_epi8(flips as i8),
            masks,
            shifts,
            slope: _mm512_set1_epi32(slope.into()),
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
        _mm512_add_epi32(_mm512_mullo_epi32(total, self.slope), self.offset)
    }
}

/// The sum over the codes of `quads` quads of a window, each times the weight of its quad, which repeat.
///
/// # Safety
/// The processor has the instructions; that many quads can be read.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
unsafe fn dot_quads<const F: usize>(window: *const u8, quads: usize, weights: &[i8; F]) -> i32 {
    let mut bytes = [0i8; STEP];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = weights[at / 4 % F];
    }
    // SAFETY: 64 bytes; lanes beyond the quads are not read.
    unsafe {
        let weights = _mm512_loadu_si512(bytes.as_ptr().cast());
        let mut sums = _mm512_setzero_si512();
        let mut at = 0;
        while at < quads * 4 {
            let codes = _mm512_maskz_loadu_epi8(lanes(quads * 4 - at), window.add(at).cast());
            sums = _mm512_dpbusd_epi32(sums, codes, weights);
            at += STEP;
        }
        _mm512_reduce_add_epi32(sums)
    }
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

/// All panels: `P` at a time, so that a quad of the window is loaded once for all of them; one after another
/// where codes come from memory, which is fastest in one sequence and wants to be asked early.
///
/// # Safety
/// The processor has the instructions; [`bytes`](Steps::bytes) hold `F` steps of the panels. `F` and `N` divide 8.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
unsafe fn panels<const F: usize, const N: usize, const P: usize, S: Steps<F>>(
    steps: &S,
    group: &WeightGroup<'_>,
    stream: &Stream<'_>,
) {
    let panels = stream.panels();
    let mut first = 0;
    // SAFETY: the panels are there.
    unsafe {
        if panels.codes.len() > NEAR {
            while first < panels.len {
                block::<F, 8, 1, AHEAD, S>(steps, group, stream, first);
                first += 1;
            }
        }
        while first + P <= panels.len {
            block::<F, N, P, 0, S>(steps, group, stream, first);
            first += P;
        }
        while first < panels.len {
            block::<F, 8, 1, 0, S>(steps, group, stream, first);
            first += 1;
        }
    }
}

/// `P` panels from `first` on, each summed in `N` parts to keep the multipliers busy, codes being asked for
/// `A` bytes ahead.
///
/// # Safety
/// As [`panels`]; there are those panels.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
unsafe fn block<const F: usize, const N: usize, const P: usize, const A: usize, S: Steps<F>>(
    steps: &S,
    group: &WeightGroup<'_>,
    stream: &Stream<'_>,
    first: usize,
) {
    let panels = stream.panels();
    let mut sums = [[_mm512_setzero_si512(); N]; P];
    // SAFETY: steps below `quads`; results lie in the output: the contract.
    unsafe {
        let codes = panels.codes.as_ptr().add(first * panels.step);
        let together = |sums: &mut [[__m512i; N]; P], index: usize, from: usize| {
            let mut packed = [_mm512_setzero_si512(); P];
            for p in 0..P {
                let at = codes.add(p * panels.step + index * steps.bytes());
                if A > 0 {
                    _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(A).cast());
                }
                packed[p] = steps.load(at);
            }
            for i in 0..F {
                let quad = stream.window().add(4 * (index * F + i));
                let window = _mm512_set1_epi32(quad.cast::<i32>().read_unaligned());
                for p in 0..P {
                    let n = (from + i) % N;
                    sums[p][n] = _mm512_dpbusd_epi32(sums[p][n], window, steps.step(packed[p], i));
                }
            }
        };
        let all = stream.quads() / F;
        let mut index = 0;
        if N > F {
            while index + N / F <= all {
                for u in 0..N / F {
                    together(&mut sums, index + u, u * F);
                }
                index += N / F;
            }
        }
        while index < all {
            together(&mut sums, index, 0);
            index += 1;
        }
        let mut totals = [_mm512_setzero_si512(); P];
        for p in 0..P {
            let bias = load_channels(panels.bias, panels.channels(first + p));
            totals[p] = _mm512_add_epi32(steps.total(&sums[p]), bias);
        }
        if all * F < stream.quads() {
            let last = Table64::new(group);
            for quad in all * F..stream.quads() {
                let window = _mm512_set1_epi32(stream.window().add(4 * quad).cast::<i32>().read_unaligned());
                for p in 0..P {
                    let levels = last.step(codes.add(p * panels.step), stream.quads(), quad);
                    totals[p] = _mm512_dpbusd_epi32(totals[p], window, levels);
                }
            }
        }
        let mut scales = [Scale::new(stream.requantise(), panels, first); P];
        for p in 1..P {
            scales[p] = Scale::new(stream.requantise(), panels, first + p);
        }
        store_pixel(&scales, totals, stream.output().add(first * PANEL_CHANNELS));
    }
}
