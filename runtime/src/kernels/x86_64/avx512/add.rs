//! Sums of two tensors.

use core::arch::x86_64::*;

use crate::kernels::x86_64::add::Pairs;

/// Adds as many whole vectors as there are, into `a`; returns how many bytes that are.
///
/// # Safety
/// The processor has the instructions.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
pub(in crate::kernels::x86_64) unsafe fn add(pairs: &Pairs, a: &mut [u8], b: &[u8]) -> usize {
    let zero = _mm512_setzero_si512();
    let mult = _mm512_set1_epi32(pairs.mult);
    let constant = _mm512_set1_epi32(pairs.constant);
    let shift = _mm_cvtsi32_si128(pairs.shift);
    let [lo, hi] = [pairs.lo, pairs.hi].map(|bound| _mm512_set1_epi8(bound as i8));
    let mut done = 0;
    for (a, b) in a.as_chunks_mut::<64>().0.iter_mut().zip(b.as_chunks::<64>().0) {
        // SAFETY: 64 bytes.
        let codes = unsafe { [_mm512_loadu_si512(a.as_ptr().cast()), _mm512_loadu_si512(b.as_ptr().cast())] };
        let low = _mm512_unpacklo_epi8(codes[0], codes[1]);
        let high = _mm512_unpackhi_epi8(codes[0], codes[1]);
        let mut sums = [
            _mm512_unpacklo_epi8(low, zero),
            _mm512_unpackhi_epi8(low, zero),
            _mm512_unpacklo_epi8(high, zero),
            _mm512_unpackhi_epi8(high, zero),
        ];
        for sum in &mut sums {
            *sum = _mm512_sra_epi32(_mm512_dpwssd_epi32(constant, *sum, mult), shift);
        }
        // Both packs saturate, which is within any clamp to codes; they undo the order of the unpacking.
        let codes = _mm512_packus_epi16(_mm512_packs_epi32(sums[0], sums[1]), _mm512_packs_epi32(sums[2], sums[3]));
        let codes = _mm512_min_epu8(_mm512_max_epu8(codes, lo), hi);
        // SAFETY: 64 bytes.
        unsafe { _mm512_storeu_si512(a.as_mut_ptr().cast(), codes) };
        done += 64;
    }
    done
}
