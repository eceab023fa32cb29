//! From sums to codes, 16 channels at a time.

use core::arch::x86_64::*;
use core::ops::Range;

use super::lanes;
use crate::format::{PANEL_CHANNELS, Requantise};
use crate::kernels::x86_64::store::store_some;
use crate::kernels::x86_64::window::Panels;

/// From sums to codes for the channels of a panel.
pub(super) struct Scale {
    mult: __m512i,
    /// The multipliers of the odd channels, each in the place of the even one before it.
    mult_odd: __m512i,
    pre: __m512i,
    /// Half a unit, and the zero point above it.
    round: __m512i,
    lo: __m512i,
    hi: __m512i,
    channels: usize,
}

impl Scale {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    pub(super) fn new(requantise: &Requantise, panels: &Panels<'_>, index: usize) -> Scale {
        let channels = panels.channels(index);
        let mult = load_channels(panels.mult, channels.clone());
        Scale {
            mult,
            mult_odd: _mm512_srli_epi64::<32>(mult),
            pre: _mm512_set1_epi32(i32::from(requantise.pre & 31)),
            round: _mm512_set1_epi64((i64::from(requantise.zero) << 32) + (1 << 31)),
            lo: _mm512_set1_epi8(requantise.lo as i8),
            hi: _mm512_set1_epi8(requantise.hi as i8),
            channels: channels.len(),
        }
    }

    /// `zero + ((sum << pre) * mult + 2^31 >> 32)`, not yet clamped.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    fn apply(&self, sums: __m512i) -> __m512i {
        let sums = _mm512_sllv_epi32(sums, self.pre);
        let even = _mm512_mul_epi32(sums, self.mult);
        let odd = _mm512_mul_epi32(_mm512_srli_epi64::<32>(sums), self.mult_odd);
        let even = _mm512_srli_epi64::<32>(_mm512_add_epi64(even, self.round));
        _mm512_mask_blend_epi32(0xaaaa, even, _mm512_add_epi64(odd, self.round))
    }

    /// Stores the codes of four pixels.
    ///
    /// # Safety
    /// Each address takes the panel's channels.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    pub(super) unsafe fn store(&self, sums: [__m512i; 4], to: [*mut u8; 4]) {
        let [a, b, c, d] = sums.map(
            #[inline(always)]
            |sums| self.apply(sums),
        );
        // Both packs saturate, which is within any clamp to codes.
        let codes = _mm512_packus_epi16(_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d));
        let codes = _mm512_min_epu8(_mm512_max_epu8(codes, self.lo), self.hi);
        // Quarter `i` holds channels 4i.. of a, b, c, d: transpose.
        let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        let codes = _mm512_permutexvar_epi32(order, codes);
        let quarters = [
            _mm512_castsi512_si128(codes),
            _mm512_extracti32x4_epi32::<1>(codes),
            _mm512_extracti32x4_epi32::<2>(codes),
            _mm512_extracti32x4_epi32::<3>(codes),
        ];
        // SAFETY: the contract.
        unsafe {
            if self.channels == PANEL_CHANNELS {
                for i in 0..4 {
                    _mm_storeu_si128(to[i].cast(), quarters[i]);
                }
            } else {
                store_some(&quarters, self.channels, &to);
            }
        }
    }
}

/// The numbers of 16 channels at most, 0 for those that are missing.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
pub(super) fn load_channels(numbers: &[i32], channels: Range<usize>) -> __m512i {
    let numbers = &numbers[channels];
    // SAFETY: lanes beyond the slice are not read.
    unsafe { _mm512_maskz_loadu_epi32(lanes(numbers.len()) as __mmask16, numbers.as_ptr()) }
}
