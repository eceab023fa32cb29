//! Dense convolution to 8 channels at most: a product takes two quads, each 8 channels of a vector.
//!
//! With a panel's channels in a vector, half of the products would be for nothing. Here lanes come in pairs, a channel by
//! one quad beside the same channel by the next, for which 8 bytes of codes, broadcast, are all it takes. Sums of the two
//! are added up when a window is done.

use core::arch::x86_64::*;

use super::STEP;
use super::dense::{Product, TAPS, even_split, multiply as multiply_by, share, slot};
use super::requantise::{BY_VECTOR, Scale};
use crate::format::PANEL_DEPTH;
use crate::kernels::panels::dense::{Rectangle, Tile, Tiles};
use crate::kernels::x86_64::store::store_some;

/// Channels of a vector.
const CHANNELS: usize = 8;
/// Quads of a product.
const QUADS: usize = 2;

/// Whether this is for a panel.
pub(super) fn suits(rectangle: &Rectangle) -> bool {
    let Rectangle { grid, walk, channels, .. } = rectangle;
    *channels <= CHANNELS && walk.quads.is_multiple_of(QUADS) && grid.columns >= 2
}

/// How to go through it.
pub(super) fn tile(rectangle: &Rectangle) -> Tile {
    let windows = pixels(rectangle.grid.columns);
    let codes = if shares(rectangle) && windows >= 8 { windows.div_ceil(TAPS) } else { windows };
    let packs = windows >= 8 && rectangle.channels == CHANNELS && rectangle.output_step == CHANNELS;
    Tile { windows, panels: 1, sums: windows / 2, fetches: 1 + codes.div_ceil(QUADS), packs }
}

/// Pixels of a tile, two a vector when they are stored.
fn pixels(columns: usize) -> usize {
    match even_split(columns, 16) {
        16 => 16,
        12.. => 12,
        8.. => 8,
        4.. => 4,
        _ => 2,
    }
}

/// Whether codes are loaded once for neighbouring windows.
fn shares(rectangle: &Rectangle) -> bool {
    share(rectangle) && rectangle.grid.column_step.is_multiple_of(QUADS * PANEL_DEPTH)
}

/// Multiplies the first panel.
///
/// # Safety
/// The processor has the instructions; [`suits`] says so.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
pub(super) unsafe fn multiply(tiles: &Tiles<'_>) {
    let rectangle = tiles.rectangle();
    // SAFETY: no more pixels than columns, one panel at least, whole products.
    unsafe {
        match pixels(rectangle.grid.columns) {
            16 if shares(&rectangle) => multiply_by::<Pair, 1, 16, TAPS>(tiles),
            16 => multiply_by::<Pair, 1, 16, 1>(tiles),
            12 if shares(&rectangle) => multiply_by::<Pair, 1, 12, TAPS>(tiles),
            12 => multiply_by::<Pair, 1, 12, 1>(tiles),
            8 if shares(&rectangle) => multiply_by::<Pair, 1, 8, TAPS>(tiles),
            8 => multiply_by::<Pair, 1, 8, 1>(tiles),
            4 => multiply_by::<Pair, 1, 4, 1>(tiles),
            _ => multiply_by::<Pair, 1, 2, 1>(tiles),
        }
    }
}

/// 8 channels by two quads, one beside the other.
struct Pair;

impl Product for Pair {
    const QUADS: usize = QUADS;

    /// The bias is the first quad's; when sums are stored, a vector has the channels of two pixels.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn begin(bias: __m512i, scale: Scale) -> (__m512i, Scale) {
        (_mm512_maskz_permutexvar_epi32(0x5555, pick(|lane| lane / 2), bias), scale.halves())
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn codes(at: *const u8) -> __m512i {
        // SAFETY: the contract.
        _mm512_set1_epi64(unsafe { at.cast::<i64>().read_unaligned() })
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn levels(at: *const u8) -> __m512i {
        // SAFETY: the contract: a step for each quad.
        let [first, second] = unsafe { [_mm512_loadu_si512(at.cast()), _mm512_loadu_si512(at.add(STEP).cast())] };
        _mm512_permutex2var_epi32(first, pick(|lane| lane % 2 * 16 + lane / 2), second)
    }

    #[inline(always)]
    fn stores<const P: usize, const N: usize>(scales: &[Scale; P], step: usize, _: usize) -> bool {
        N >= 8 && !scales[0].is_wide() && scales[0].channels() == CHANNELS && step == CHANNELS
    }

    /// 8 pixels at a time, without a gap; the last 8 may meet some again.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn store<const P: usize, const N: usize>(
        scales: &[Scale; P],
        sums: &[[__m512i; P]; N],
        output: *mut u8,
        step: usize,
    ) {
        unroll!(group in 0..N.div_ceil(8) => {
            let mut four = [_mm512_setzero_si512(); 4];
            for i in 0..4 {
                let pixel = 2 * slot(N / 2, group, i);
                four[i] = scales[0].apply(both(sums[pixel][0], sums[pixel + 1][0]));
            }
            let to = output.wrapping_add(2 * slot(N / 2, group, 0) * step);
            // SAFETY: the contract.
            unsafe { _mm512_storeu_si512(to.cast(), scales[0].pack(four, &BY_VECTOR)) };
        });
    }

    #[inline(never)]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    unsafe fn store_any<const P: usize, const N: usize>(
        scales: &[Scale; P],
        sums: &mut [[__m512i; P]; N],
        output: *mut u8,
        step: usize,
    ) {
        let scale = &scales[0];
        for (index, pair) in sums.as_chunks::<2>().0.iter().enumerate() {
            let sums = both(pair[0][0], pair[1][0]);
            let words = scale.apply(if scale.is_wide() { scale.narrow(sums) } else { sums });
            let codes = _mm512_castsi512_si128(scale.pack([words; 4], &BY_VECTOR));
            let first = output.wrapping_add(2 * index * step);
            // SAFETY: the contract.
            unsafe {
                let pixels = [codes, _mm_unpackhi_epi64(codes, codes)];
                store_some(&pixels, scale.channels(), &[first, first.wrapping_add(step)]);
            }
        }
    }
}

/// Lanes from where `from` says.
#[inline(always)]
fn pick(from: impl Fn(i32) -> i32) -> __m512i {
    let lanes: [i32; 16] = core::array::from_fn(|lane| from(lane as i32));
    // SAFETY: 64 bytes of any value are a vector.
    unsafe { core::mem::transmute(lanes) }
}

/// The sums of two pixels over both quads, 8 channels each.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
fn both(first: __m512i, second: __m512i) -> __m512i {
    let even = _mm512_permutex2var_epi32(first, pick(|lane| lane * 2), second);
    let odd = _mm512_permutex2var_epi32(first, pick(|lane| lane * 2 + 1), second);
    _mm512_add_epi32(even, odd)
}
