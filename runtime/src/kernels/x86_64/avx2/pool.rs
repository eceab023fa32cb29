//! Means of whole maps.

use core::arch::x86_64::*;

use super::depthwise::Scale;
use crate::kernels::x86_64::pool::Map;

/// Averages 32 channels from `first` on.
///
/// # Safety
/// The processor has the instructions; the map has those channels, and `to` takes 32 bytes.
#[target_feature(enable = "avx2,bmi2")]
pub(in crate::kernels::x86_64) unsafe fn avg_pool(map: &Map<'_>, first: usize, to: *mut u8) {
    let zero = _mm256_setzero_si256();
    let mut sums = [_mm256_set1_epi32(map.start); 4];
    for pixels in map.pixels.chunks(256 * map.channels) {
        // Sums of 16 bits, which 256 codes do not overflow.
        let mut some = [zero; 2];
        for pixel in pixels.chunks_exact(map.channels) {
            // SAFETY: the channels of a pixel.
            let codes = unsafe { _mm256_loadu_si256(pixel.as_ptr().add(first).cast()) };
            some[0] = _mm256_add_epi16(some[0], _mm256_unpacklo_epi8(codes, zero));
            some[1] = _mm256_add_epi16(some[1], _mm256_unpackhi_epi8(codes, zero));
        }
        for half in 0..2 {
            sums[2 * half] = _mm256_add_epi32(sums[2 * half], _mm256_unpacklo_epi16(some[half], zero));
            sums[2 * half + 1] = _mm256_add_epi32(sums[2 * half + 1], _mm256_unpackhi_epi16(some[half], zero));
        }
    }
    let scale = Scale::new(&map.requantise, [_mm256_set1_epi32(map.mult); 4]);
    // SAFETY: the contract.
    unsafe { _mm256_storeu_si256(to.cast(), scale.codes(sums)) };
}
