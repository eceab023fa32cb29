//! From sums to codes, 16 channels at a time.

use core::arch::x86_64::*;
use core::ops::Range;

use super::lanes;
use crate::format::{PANEL_CHANNELS, Requantise};
use crate::kernels::panels::Panels;
use crate::kernels::x86_64::store::store_some;

/// From sums to codes for the channels of a panel.
#[derive(Clone, Copy)]
pub(super) struct Scale {
    mult: __m512i,
    /// The multipliers of the odd channels, each in the place of the even one before it.
    mult_odd: __m512i,
    pre: u32,
    /// Half a unit, and the zero point above it.
    round: __m512i,
    lo: __m512i,
    hi: __m512i,
    channels: usize,
}

impl Scale {
    /// That of panel `index` of a run.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    pub(super) fn new(requantise: &Requantise, panels: &Panels<'_>, index: usize) -> Scale {
        let channels = panels.channels(index);
        let mult = load_channels(panels.mult, channels.clone());
        Scale {
            mult,
            mult_odd: _mm512_srli_epi64::<32>(mult),
            pre: u32::from(requantise.pre & 31),
            round: _mm512_set1_epi64((i64::from(requantise.zero) << 32) + (1 << 31)),
            lo: _mm512_set1_epi8(requantise.lo as i8),
            hi: _mm512_set1_epi8(requantise.hi as i8),
            channels: channels.len(),
        }
    }

    /// The same for 16 channels with other multipliers.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    pub(super) fn with_mult(&self, mult: __m512i) -> Scale {
        Scale { mult, mult_odd: _mm512_srli_epi64::<32>(mult), channels: PANEL_CHANNELS, ..*self }
    }

    /// How many channels the panel has.
    #[inline(always)]
    pub(super) fn channels(&self) -> usize {
        self.channels
    }

    /// Whether it has all 16.
    #[inline(always)]
    pub(super) fn is_whole(&self) -> bool {
        self.channels == PANEL_CHANNELS
    }

    /// Whether it has 8.
    #[inline(always)]
    pub(super) fn is_half(&self) -> bool {
        self.channels == PANEL_CHANNELS / 2
    }

    /// For the first 8 channels of two pixels in one vector of sums.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    pub(super) fn doubled(&self) -> Scale {
        let [mult, mult_odd] = [self.mult, self.mult_odd].map(
            #[inline(always)]
            |mult| _mm512_inserti64x4::<1>(mult, _mm512_castsi512_si256(mult)),
        );
        Scale { mult, mult_odd, ..*self }
    }

    /// Whether sums have to be shifted: those of most layers have not.
    #[inline(always)]
    pub(super) fn shifts(&self) -> bool {
        self.pre != 0
    }

    /// `sum << pre`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    pub(super) fn shift(&self, sums: __m512i) -> __m512i {
        _mm512_sllv_epi32(sums, _mm512_set1_epi32(self.pre as i32))
    }

    /// `zero + (sum * mult + 2^31 >> 32)`, not yet clamped, in the order that [`pack`](Self::pack) takes:
    /// of every 4 channels, the second and the third change places.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    pub(super) fn apply(&self, sums: __m512i) -> __m512i {
        let even = _mm512_mul_epi32(sums, self.mult);
        let odd = _mm512_mul_epi32(_mm512_srli_epi64::<32>(sums), self.mult_odd);
        let [even, odd] = [even, odd].map(
            #[inline(always)]
            |product| _mm512_castsi512_ps(_mm512_add_epi64(product, self.round)),
        );
        _mm512_castps_si512(_mm512_shuffle_ps::<0b11_01_11_01>(even, odd))
    }

    /// Clamps what [`apply`](Self::apply) made of four vectors of sums to 16 codes of each.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    pub(super) fn pack(&self, [a, b, c, d]: [__m512i; 4]) -> __m512i {
        // Quarter `i` holds channels 4i.. of a, b, c, d.
        const ORDER: [u8; 64] = {
            let mut order = [0; 64];
            let mut i = 0;
            while i < 64 {
                let (vector, channel) = (i / 16, i % 16);
                order[i] = (channel / 4 * 16 + vector * 4 + [0, 2, 1, 3][channel % 4]) as u8;
                i += 1;
            }
            order
        };
        // Both packs saturate, which is within any clamp to codes.
        let codes = _mm512_packus_epi16(_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d));
        let codes = _mm512_min_epu8(_mm512_max_epu8(codes, self.lo), self.hi);
        // SAFETY: 64 bytes.
        let order = unsafe { _mm512_loadu_si512(ORDER.as_ptr().cast()) };
        _mm512_permutexvar_epi8(order, codes)
    }
}

/// Requantises and stores one pixel's sums over 64 channels at most, panel after panel.
///
/// # Safety
/// The address takes the channels of all the panels, those of which only the last may be short.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
pub(super) unsafe fn store_pixel<const P: usize>(scales: &[Scale; P], sums: [__m512i; P], to: *mut u8) {
    let mut words = [_mm512_setzero_si512(); 4];
    let (mut quarters, mut channels) = ([to; P], [0; P]);
    for p in 0..P {
        words[p] = scales[p].apply(scales[p].shift(sums[p]));
        quarters[p] = to.wrapping_add(p * PANEL_CHANNELS);
        channels[p] = scales[p].channels();
    }
    let codes = scales[0].pack(words);
    // SAFETY: the contract.
    unsafe {
        if P == 4 && scales[3].is_whole() {
            _mm512_storeu_si512(to.cast(), codes);
        } else {
            store_quarters(codes, quarters, channels);
        }
    }
}

/// Stores the first `channels` of each of the first `N` quarters.
///
/// # Safety
/// Each address takes as many, 16 at most.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
pub(super) unsafe fn store_quarters<const N: usize>(codes: __m512i, to: [*mut u8; N], channels: [usize; N]) {
    let quarters = [
        _mm512_castsi512_si128(codes),
        _mm512_extracti32x4_epi32::<1>(codes),
        _mm512_extracti32x4_epi32::<2>(codes),
        _mm512_extracti32x4_epi32::<3>(codes),
    ];
    for i in 0..N {
        // SAFETY: the contract.
        unsafe {
            if channels[i] == PANEL_CHANNELS {
                _mm_storeu_si128(to[i].cast(), quarters[i]);
            } else {
                store_some(&[quarters[i]], channels[i], &[to[i]]);
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
