//! From sums to codes, 16 channels of two pixels at a time.

use core::arch::x86_64::*;
use core::ops::Range;

use super::VECTOR;
use super::products::Step;
use crate::format::{PANEL_CHANNELS, Requantise};
use crate::kernels::panels::Panels;
use crate::kernels::x86_64::store::store_some;

/// From sums to codes for the channels of a panel.
pub(super) struct Scale {
    mult: Step,
    /// The multipliers of the odd channels, each in the place of the even one before it.
    mult_odd: Step,
    pre: __m128i,
    /// Half a unit, and the zero point above it.
    round: __m256i,
    lo: __m256i,
    hi: __m256i,
    channels: usize,
}

impl Scale {
    /// That of panel `index` of a run.
    #[inline]
    #[target_feature(enable = "avx2,bmi2")]
    pub(super) fn new(requantise: &Requantise, panels: &Panels<'_>, index: usize) -> Scale {
        let channels = panels.channels(index);
        let mult = load_channels(panels.mult, channels.clone());
        Scale {
            mult,
            mult_odd: [_mm256_srli_epi64::<32>(mult[0]), _mm256_srli_epi64::<32>(mult[1])],
            pre: _mm_cvtsi32_si128(i32::from(requantise.pre & 31)),
            round: _mm256_set1_epi64x((i64::from(requantise.zero) << 32) + (1 << 31)),
            lo: _mm256_set1_epi8(requantise.lo as i8),
            hi: _mm256_set1_epi8(requantise.hi as i8),
            channels: channels.len(),
        }
    }

    /// Stores the codes of `N` pixels, `step` bytes apart.
    ///
    /// # Safety
    /// The processor has the instructions; each address takes the panel's channels.
    #[inline(always)]
    pub(super) unsafe fn store<const N: usize>(&self, sums: &[Step; N], to: *mut u8, step: usize) {
        // SAFETY: the contract.
        unsafe {
            for pair in 0..N.div_ceil(2) {
                let (first, second) = (2 * pair, (2 * pair + 1).min(N - 1));
                let codes = self.codes(sums[first], sums[second]);
                let to = [to.add(first * step), to.add(second * step)];
                if self.channels < PANEL_CHANNELS {
                    let codes = [_mm256_castsi256_si128(codes), _mm256_extracti128_si256::<1>(codes)];
                    store_some(&codes, self.channels, &to);
                } else {
                    _mm_storeu_si128(to[1].cast(), _mm256_extracti128_si256::<1>(codes));
                    _mm_storeu_si128(to[0].cast(), _mm256_castsi256_si128(codes));
                }
            }
        }
    }

    /// `clamp(zero + ((sum << pre) * mult + 2^31 >> 32))` of two pixels.
    #[inline]
    #[target_feature(enable = "avx2,bmi2")]
    fn codes(&self, first: Step, second: Step) -> __m256i {
        let [a, b] = [self.scaled(0, first[0]), self.scaled(1, first[1])];
        let [c, d] = [self.scaled(0, second[0]), self.scaled(1, second[1])];
        // Both packs saturate, which is within any clamp to codes.
        let codes = _mm256_packus_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
        let codes = _mm256_min_epu8(_mm256_max_epu8(codes, self.lo), self.hi);
        let order = _mm_setr_epi8(0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15);
        let codes = _mm256_shuffle_epi8(codes, _mm256_broadcastsi128_si256(order));
        // Each half holds 4 channels of a, b, c, d.
        _mm256_permutevar8x32_epi32(codes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7))
    }

    /// The high halves of the products; of every 4 channels, the second and the third change places.
    #[inline]
    #[target_feature(enable = "avx2,bmi2")]
    fn scaled(&self, half: usize, sums: __m256i) -> __m256i {
        let sums = _mm256_sll_epi32(sums, self.pre);
        let even = _mm256_add_epi64(_mm256_mul_epi32(sums, self.mult[half]), self.round);
        let odd = _mm256_mul_epi32(_mm256_srli_epi64::<32>(sums), self.mult_odd[half]);
        let odd = _mm256_add_epi64(odd, self.round);
        let [even, odd] = [_mm256_castsi256_ps(even), _mm256_castsi256_ps(odd)];
        _mm256_castps_si256(_mm256_shuffle_ps::<0b11_01_11_01>(even, odd))
    }
}

/// The numbers of 16 channels at most, 0 for those that are missing.
#[inline]
#[target_feature(enable = "avx2,bmi2")]
pub(super) fn load_channels(numbers: &[i32], channels: Range<usize>) -> Step {
    let numbers = numbers.get(channels).unwrap_or_default();
    let mut all = [0; PANEL_CHANNELS];
    all.iter_mut().zip(numbers).for_each(|(to, &number)| *to = number);
    // SAFETY: 16 numbers.
    unsafe {
        [_mm256_loadu_si256(all.as_ptr().cast()), _mm256_loadu_si256(all.as_ptr().cast::<u8>().add(VECTOR).cast())]
    }
}
