//! Storing the codes of fewer than 16 channels.

use core::arch::x86_64::*;

/// Stores the first `channels` of each pixel's 16 codes, in pieces: AMD's masked stores take a dozen times
/// longer. Not inlined: it would cost the registers of whole panels.
///
/// # Safety
/// Each address takes `channels` bytes, 15 at most.
#[inline(never)]
pub(super) unsafe fn store_some(pixels: &[__m128i], channels: usize, to: &[*mut u8]) {
    for (&codes, &to) in pixels.iter().zip(to) {
        let (mut codes, mut to) = (codes, to);
        // SAFETY: the pieces are the binary digits of `channels`; the contract.
        unsafe {
            if channels & 8 != 0 {
                _mm_storel_epi64(to.cast(), codes);
                codes = _mm_unpackhi_epi64(codes, codes);
                to = to.add(8);
            }
            let mut codes = _mm_cvtsi128_si64(codes);
            if channels & 4 != 0 {
                to.cast::<u32>().write_unaligned(codes as u32);
                codes >>= 32;
                to = to.add(4);
            }
            if channels & 2 != 0 {
                to.cast::<u16>().write_unaligned(codes as u16);
                codes >>= 16;
                to = to.add(2);
            }
            if channels & 1 != 0 {
                to.write(codes as u8);
            }
        }
    }
}
