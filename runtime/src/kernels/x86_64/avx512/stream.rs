//! Fully connected layers: every weight is read once and multiplied once, so that a layer takes as long as
//! its weights take to arrive. Codes become levels in registers.

use core::arch::asm;
use core::arch::x86_64::*;

use super::lanes;
use super::levels::{Bytes, Levels, Table64, Table128, table64};
use super::requantise::{BY_VECTOR, Scale, load_channels, store_pixel};
use crate::format::{PANEL_CHANNELS, Requantise, WeightFormat, WeightGroup};
use crate::kernels::panels::Panels;
use crate::kernels::panels::dense::{STEP, Stream};

/// Panels whose sums become codes together.
const TOGETHER: usize = 4;
/// Bytes of codes that a cache of the second level is likely to have kept from the last inference.
const NEAR: usize = 96 << 10;
/// How far ahead codes are asked for that come from beyond it.
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
                panels::<4, 4, 4, _>(&Fields::new(group, stream), group, stream);
            }
            WeightFormat::Linear(4) if in_place => panels::<2, 4, 4, _>(&Fields::new(group, stream), group, stream),
            WeightFormat::Linear(8) if is_near(stream) => bytes(stream),
            WeightFormat::Linear(8) => panels::<1, 4, 1, _>(&InSequence(Bytes), group, stream),
            format => match format.bits() {
                1 => panels::<8, 8, 2, _>(&Looked::new(group), group, stream),
                2 => panels::<4, 4, 4, _>(&Looked::new(group), group, stream),
                4 => panels::<2, 4, 4, _>(&Looked::new(group), group, stream),
                7 => panels::<1, 4, 1, _>(&InSequence(Table128::new(group)), group, stream),
                _ => panels::<1, 4, 1, _>(&InSequence(Table64::new(group)), group, stream),
            },
        }
    }
}

/// Whether a cache of the second level is likely to hold the codes.
fn is_near(stream: &Stream<'_>) -> bool {
    stream.panels().codes.len() <= NEAR
}

/// The steps of `F` successive quads, which lie together.
///
/// # Safety
/// [`load`](Self::load) reads [`bytes`](Self::bytes) and no more.
pub(super) unsafe trait Steps<const F: usize> {
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
pub(super) struct InSequence<L>(pub(super) L);

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
pub(super) struct Looked<const F: usize> {
    table: __m512i,
    shifts: [__m512i; F],
}

impl<const F: usize> Looked<F> {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    pub(super) fn new(group: &WeightGroup<'_>) -> Looked<F> {
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

/// All panels of bytes, from no further than a cache of the second level.
///
/// # Safety
/// The processor has the instructions; the codes are of 8 bits.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
unsafe fn bytes(stream: &Stream<'_>) {
    // SAFETY: asked for panels that are there, with a step for every quad of the window.
    unsafe {
        let (by, panels, output) = destination(stream);
        requantise(by, panels, output, |first| sums_of_bytes(stream, first), |index| sums_of_bytes(stream, index));
    }
}

/// The sums of `P` panels of bytes from panel `first` on.
///
/// Processors foresee what each load instruction will read. They bring codes from the second cache half as fast again
/// where the instructions are few and take turns: hence a loop for all panels, in assembly since compilers copy it.
///
/// # Safety
/// The processor has the instructions; the codes are of 8 bits; there are those panels, and `P` is not 0.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
unsafe fn sums_of_bytes<const P: usize>(stream: &Stream<'_>, first: usize) -> [__m512i; P] {
    let step = stream.panels().step;
    let mut sums = [_mm512_setzero_si512(); P];
    // SAFETY: `P` panels are read, as many sums written; each panel has a step for every quad of the window.
    unsafe {
        asm!(
            "22:",
            "vpxor xmm0, xmm0, xmm0",
            "vpxor xmm1, xmm1, xmm1",
            "vpxor xmm2, xmm2, xmm2",
            "vpxor xmm3, xmm3, xmm3",
            "mov {at}, {panel}",
            "mov {window}, {first_quad}",
            "mov {left}, {quads}",
            "sub {left}, 4",
            "jb 24f",
            ".p2align 6",
            "23:",
            "vpbroadcastd zmm4, [{window}]",
            "vpdpbusd zmm0, zmm4, [{at}]",
            "vpbroadcastd zmm5, [{window} + 4]",
            "vpdpbusd zmm1, zmm5, [{at} + 64]",
            "vpbroadcastd zmm6, [{window} + 8]",
            "vpdpbusd zmm2, zmm6, [{at} + 128]",
            "vpbroadcastd zmm7, [{window} + 12]",
            "vpdpbusd zmm3, zmm7, [{at} + 192]",
            "add {at}, 256",
            "add {window}, 16",
            "sub {left}, 4",
            "jae 23b",
            "24:",
            "add {left}, 4",
            "jz 26f",
            "25:",
            "vpbroadcastd zmm4, [{window}]",
            "vpdpbusd zmm0, zmm4, [{at}]",
            "add {at}, 64",
            "add {window}, 4",
            "dec {left}",
            "jnz 25b",
            "26:",
            "vpaddd zmm0, zmm0, zmm1",
            "vpaddd zmm2, zmm2, zmm3",
            "vpaddd zmm0, zmm0, zmm2",
            "vmovdqa64 [{sums}], zmm0",
            "add {panel}, {step}",
            "add {sums}, 64",
            "dec {panels}",
            "jnz 22b",
            at = out(reg) _,
            window = out(reg) _,
            left = out(reg) _,
            panel = inout(reg) stream.panels().codes.as_ptr().add(first * step) => _,
            panels = inout(reg) P => _,
            step = in(reg) step,
            first_quad = in(reg) stream.window(),
            quads = in(reg) stream.quads(),
            sums = inout(reg) sums.as_mut_ptr() => _,
            out("zmm0") _, out("zmm1") _, out("zmm2") _, out("zmm3") _,
            out("zmm4") _, out("zmm5") _, out("zmm6") _, out("zmm7") _,
            options(nostack)
        );
    }
    sums
}

/// All panels, from near `P` of them abreast, so that they share what is made of the window; from beyond one after
/// another, `N` sums each to keep the multipliers busy.
///
/// # Safety
/// The processor has the instructions; [`bytes`](Steps::bytes) hold `F` steps of the panels. `F` divides `N`, and `P`
/// [`TOGETHER`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
unsafe fn panels<const F: usize, const N: usize, const P: usize, S: Steps<F>>(
    steps: &S,
    group: &WeightGroup<'_>,
    stream: &Stream<'_>,
) {
    let rest = Rest::new::<F>(group, stream);
    let (by, all, output) = destination(stream);
    // SAFETY: the panels are there: the contract.
    unsafe {
        if is_near(stream) {
            let four = |first: usize| {
                let mut sums = [_mm512_setzero_si512(); TOGETHER];
                for p in 0..TOGETHER / P {
                    let some: [__m512i; P] = if P == 1 {
                        abreast::<F, N, P, 0, S>(steps, &rest, stream, first + p)
                    } else {
                        abreast::<F, F, P, 0, S>(steps, &rest, stream, first + p * P)
                    };
                    for i in 0..P {
                        sums[p * P + i] = some[i];
                    }
                }
                sums
            };
            requantise(by, all, output, four, |index| abreast::<F, N, 1, 0, S>(steps, &rest, stream, index));
        } else {
            let one = |index: usize| abreast::<F, N, 1, AHEAD, S>(steps, &rest, stream, index);
            let four = |first: usize| {
                let mut sums = [_mm512_setzero_si512(); TOGETHER];
                for p in 0..TOGETHER {
                    [sums[p]] = one(first + p);
                }
                sums
            };
            requantise(by, all, output, four, one);
        }
    }
}

/// What becomes of the quads after the last `F` whole steps.
struct Rest(Option<Table64>);

impl Rest {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    fn new<const F: usize>(group: &WeightGroup<'_>, stream: &Stream<'_>) -> Rest {
        Rest(if stream.quads().is_multiple_of(F) { None } else { Some(Table64::new(group)) })
    }
}

/// Where sums go, and how.
#[inline(always)]
fn destination<'s, 'a>(stream: &'s Stream<'a>) -> (&'s Requantise, &'s Panels<'a>, *mut u8) {
    (stream.requantise(), stream.panels(), stream.output())
}

/// From the sums of all panels to codes, given those of [`TOGETHER`] panels from one on, and those of one.
///
/// # Safety
/// The processor has the instructions; the output takes the channels of the panels.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
pub(super) unsafe fn requantise(
    by: &Requantise,
    panels: &Panels<'_>,
    output: *mut u8,
    four: impl Fn(usize) -> [__m512i; TOGETHER],
    one: impl Fn(usize) -> [__m512i; 1],
) {
    let whole = panels.bias.len() / PANEL_CHANNELS;
    let mut first = 0;
    // SAFETY: the panels are there, those below `whole` with all their channels, which lie in the output: the contract.
    unsafe {
        let once = Once::new(by);
        let numbers =
            |numbers: &[i32], index: usize| _mm512_loadu_si512(numbers.as_ptr().add(index * PANEL_CHANNELS).cast());
        while first + TOGETHER <= whole {
            let mut words = four(first);
            for p in 0..TOGETHER {
                let sum = _mm512_add_epi32(words[p], numbers(panels.bias, first + p));
                words[p] = once.apply(sum, numbers(panels.mult, first + p));
            }
            _mm512_storeu_si512(output.add(first * PANEL_CHANNELS).cast(), once.pack(words));
            first += TOGETHER;
        }
        while first < panels.len {
            let [sum] = one(first);
            let sum = _mm512_add_epi32(sum, load_channels(panels.bias, panels.channels(first)));
            let scale = Scale::new(by, panels, first);
            store_pixel(&[scale], [sum], output.add(first * PANEL_CHANNELS));
            first += 1;
        }
    }
}

/// From sums to codes where a multiplier is met once, so that no other form of it pays: see [`Scale`].
struct Once {
    pre: __m128i,
    /// Half a unit, and the zero point above it.
    round: __m512i,
    lo: __m512i,
    hi: __m512i,
}

impl Once {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    fn new(requantise: &Requantise) -> Once {
        Once {
            pre: _mm_cvtsi32_si128(i32::from(requantise.pre & 31)),
            round: _mm512_set1_epi64((i64::from(requantise.zero) << 32) + (1 << 31)),
            lo: _mm512_set1_epi8(requantise.lo as i8),
            hi: _mm512_set1_epi8(requantise.hi as i8),
        }
    }

    /// `zero + ((sum << pre) * mult + 2^31 >> 32)`, not yet clamped: of every 4 channels, the second and the third
    /// change places.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    fn apply(&self, sums: __m512i, mult: __m512i) -> __m512i {
        let sums = _mm512_sll_epi32(sums, self.pre);
        let even = _mm512_add_epi64(_mm512_mul_epi32(sums, mult), self.round);
        let [sums, mult] = [_mm512_srli_epi64::<32>(sums), _mm512_srli_epi64::<32>(mult)];
        let odd = _mm512_add_epi64(_mm512_mul_epi32(sums, mult), self.round);
        let [even, odd] = [_mm512_castsi512_ps(even), _mm512_castsi512_ps(odd)];
        _mm512_castps_si512(_mm512_shuffle_ps::<0b11_01_11_01>(even, odd))
    }

    /// Clamps what [`apply`](Self::apply) made of four panels to their codes, one panel after another.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    fn pack(&self, [a, b, c, d]: [__m512i; TOGETHER]) -> __m512i {
        // Both packs saturate, which is within any clamp to codes.
        let codes = _mm512_packus_epi16(_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d));
        let codes = _mm512_min_epu8(_mm512_max_epu8(codes, self.lo), self.hi);
        // SAFETY: 64 bytes.
        let order = unsafe { _mm512_loadu_si512(BY_VECTOR.as_ptr().cast()) };
        _mm512_permutexvar_epi8(order, codes)
    }
}

/// The sums of `P` panels from panel `first` on, codes being asked for `A` bytes ahead.
///
/// # Safety
/// As [`panels`]; there are those panels.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
unsafe fn abreast<const F: usize, const N: usize, const P: usize, const A: usize, S: Steps<F>>(
    steps: &S,
    rest: &Rest,
    stream: &Stream<'_>,
    first: usize,
) -> [__m512i; P] {
    let (panels, quads) = (stream.panels(), stream.quads());
    let all = quads / F;
    let mut sums = [[_mm512_setzero_si512(); N]; P];
    let mut totals = [_mm512_setzero_si512(); P];
    // SAFETY: steps below `quads` of panels that are there: the contract.
    unsafe {
        let codes = panels.codes.as_ptr().add(first * panels.step);
        let together = |sums: &mut [[__m512i; N]; P], at: usize, n: usize| {
            let mut windows = [_mm512_setzero_si512(); F];
            for i in 0..F {
                windows[i] = broadcast(stream.window(), at * F + i);
            }
            for p in 0..P {
                let from = codes.add(p * panels.step + at * steps.bytes());
                if A > 0 {
                    _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(A).cast());
                }
                let packed = steps.load(from);
                for i in 0..F {
                    sums[p][n + i] = _mm512_dpbusd_epi32(sums[p][n + i], windows[i], steps.step(packed, i));
                }
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
        for p in 0..P {
            totals[p] = steps.total(&sums[p]);
            if let Rest(Some(last)) = rest {
                for quad in all * F..quads {
                    let levels = last.step(codes.add(p * panels.step), quads, quad);
                    totals[p] = _mm512_dpbusd_epi32(totals[p], broadcast(stream.window(), quad), levels);
                }
            }
        }
    }
    totals
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
