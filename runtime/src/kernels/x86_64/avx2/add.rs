//! Sums of two tensors.

use core::arch::x86_64::*;

use crate::kernels::x86_64::add::Pairs;

/// Adds as many whole vectors as there are, into `a`; returns how many bytes that are.
///
/// # Safety
/// The processor has the instructions.
#[target_feature(enable = "avx2,bmi2")]
pub(in crate::kernels::x86_64) unsafe fn add(pairs: &Pairs, a: &mut [u8], b: &[u8]) -> usize {
    let zero = _mm256_setzero_si256();
    let mult = _mm256_set1_epi32(pairs.mult);
    let constant = _mm256_set1_epi32(pairs.constant);
    let shift = _mm_cvtsi32_si128(pairs.shift);
    let [lo, hi] = [pairs.lo, pairs.hi].map(|bound| _mm256_set1_epi8(bound as i8));
    let mut done = 0;
    for (a, b) in a.as_chunks_mut::<32>().0.iter_mut().zip(b.as_chunks::<32>().0) {
        // SAFETY: 32 bytes.
        let codes = unsafe { [_mm256_loadu_si256(a.as_ptr().cast()), _mm256_loadu_si256(b.as_ptr().cast())] };
        let low = _mm256_unpacklo_epi8(codes[0], codes[1]);
        let high = _mm256_unpackhi_epi8(codes[0], codes[1]);
        let mut sums = [
            _mm256_unpacklo_epi8(low, zero),
            _mm256_unpackhi_epi8(low, zero),
            _mm256_unpacklo_epi8(high, zero),
            _mm256_unpackhi_epi8(high, zero),
        ];
        for sum in &mut sums {
            *sum = _mm256_sra_epi32(_mm256_add_epi32(_mm256_madd_epi16(*sum, mult), constant), shift);
        }
        // Both packs saturate, which is within any clamp to codes; they undo the order of the unpacking.
        let codes = _mm256_packus_epi16(_mm256_packs_epi32(sums[0], sums[1]), _mm256_packs_epi32(sums[2], sums[3]));
        let codes = _mm256_min_epu8(_mm256_max_epu8(codes, lo), hi);
        // SAFETY: 32 bytes.
        unsafe { _mm256_storeu_si256(a.as_mut_ptr().cast(), codes) };
        done += 32;
    }
    done
}
