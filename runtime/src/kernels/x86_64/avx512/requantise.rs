//! From sums to codes, 16 channels at a time.

use core::arch::x86_64::*;
use core::ops::Range;

use super::lanes;
use crate::format::{PANEL_CHANNELS, Requantise};
use crate::kernels::panels::Panels;
use crate::kernels::x86_64::store::store_some;

/// From sums to codes for the channels of a panel.
///
/// Twice a multiplier mostly fits 32 bits. Then the high half of a product with it has a bit more than the code, and
/// can be rounded after it has been packed, two codes in the place of one. Where a multiplier is too large, or sums
/// are to be shifted, [`narrow`](Self::narrow) brings them to a form with which the multiplier is 2^16.
#[derive(Clone, Copy)]
pub(super) struct Scale {
    /// What sums are multiplied with.
    doubled: __m512i,
    /// Those of the odd channels, each in the place of the even one before it.
    doubled_odd: __m512i,
    wide: bool,
    mult: __m512i,
    pre: u32,
    /// Half a unit and the zero point, of twice the codes.
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
        let zero = _mm512_setzero_si512();
        let scale = Scale {
            doubled: zero,
            doubled_odd: zero,
            wide: false,
            mult: zero,
            pre: u32::from(requantise.pre & 31),
            round: _mm512_set1_epi16(2 * i16::from(requantise.zero) + 1),
            lo: _mm512_set1_epi8(requantise.lo as i8),
            hi: _mm512_set1_epi8(requantise.hi as i8),
            channels: channels.len(),
        };
        scale.with_mult(load_channels(panels.mult, channels))
    }

    /// The same with other multipliers.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    pub(super) fn with_mult(&self, mult: __m512i) -> Scale {
        let twice = _mm512_slli_epi32::<1>(mult);
        // The sign is lost where the top bits differ.
        let lost = _mm512_cmplt_epi32_mask(_mm512_xor_si512(mult, twice), _mm512_setzero_si512()) != 0;
        let wide = self.pre != 0 || lost;
        let doubled = if wide { _mm512_set1_epi32(1 << 16) } else { twice };
        Scale { doubled, doubled_odd: _mm512_srli_epi64::<32>(doubled), wide, mult, ..*self }
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

    /// Those of channels 0.., 4.., 8.. and 12.., for vectors of sums that hold 4 channels of four pixels.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    pub(super) fn quarters(&self) -> [Scale; 4] {
        let [doubled, doubled_odd, mult] = [quarters(self.doubled), quarters(self.doubled_odd), quarters(self.mult)];
        let mut scales = [*self; 4];
        for g in 0..4 {
            scales[g] = Scale { doubled: doubled[g], doubled_odd: doubled_odd[g], mult: mult[g], ..*self };
        }
        scales
    }

    /// That of the first 8 channels, twice, for vectors of sums that hold them of two pixels.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    pub(super) fn halves(&self) -> Scale {
        let [doubled, doubled_odd, mult] = [self.doubled, self.doubled_odd, self.mult].map(
            #[inline(always)]
            |lanes| _mm512_shuffle_i64x2::<0x44>(lanes, lanes),
        );
        Scale { doubled, doubled_odd, mult, ..*self }
    }

    /// Whether sums have to be [`narrow`](Self::narrow)ed: those of most layers have not.
    #[inline(always)]
    pub(super) fn is_wide(&self) -> bool {
        self.wide
    }

    /// `(sum << pre) * mult >> 31`, 2^16 times; saturated to 16 bits, which is far beyond any code.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    pub(super) fn narrow(&self, sums: __m512i) -> __m512i {
        let sums = _mm512_sllv_epi32(sums, _mm512_set1_epi32(self.pre as i32));
        let even = _mm512_mul_epi32(sums, self.mult);
        let odd = _mm512_mul_epi32(_mm512_srli_epi64::<32>(sums), _mm512_srli_epi64::<32>(self.mult));
        let even = _mm512_srli_epi64::<32>(_mm512_slli_epi64::<1>(even));
        let high = _mm512_mask_blend_epi32(0xaaaa, even, _mm512_slli_epi64::<1>(odd));
        let [least, most] = [i16::MIN, i16::MAX].map(i32::from).map(
            #[inline(always)]
            |bound| _mm512_set1_epi32(bound),
        );
        _mm512_slli_epi32::<16>(_mm512_min_epi32(_mm512_max_epi32(high, least), most))
    }

    /// `sum * mult >> 31`, in the order that [`pack`](Self::pack) takes: of every 4 channels, the second and the
    /// third change places.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    pub(super) fn apply(&self, sums: __m512i) -> __m512i {
        let even = _mm512_mul_epi32(sums, self.doubled);
        // Any pipe copies lanes, two of four shift them.
        let upper = _mm512_castps_si512(_mm512_movehdup_ps(_mm512_castsi512_ps(sums)));
        let odd = _mm512_mul_epi32(upper, self.doubled_odd);
        let [even, odd] = [_mm512_castsi512_ps(even), _mm512_castsi512_ps(odd)];
        _mm512_castps_si512(_mm512_shuffle_ps::<0b11_01_11_01>(even, odd))
    }

    /// Rounds and clamps what [`apply`](Self::apply) made of four vectors of sums, to 16 codes of each: a quarter has
    /// 4 codes of each vector, in the order that `order` undoes.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
    pub(super) fn pack(&self, [a, b, c, d]: [__m512i; 4], order: &[u8; 64]) -> __m512i {
        // Packs and sums saturate, far beyond any code.
        let [ab, cd] = [_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d)];
        let [ab, cd] = [_mm512_adds_epi16(ab, self.round), _mm512_adds_epi16(cd, self.round)];
        let codes = _mm512_packus_epi16(_mm512_srai_epi16::<1>(ab), _mm512_srai_epi16::<1>(cd));
        let codes = _mm512_min_epu8(_mm512_max_epu8(codes, self.lo), self.hi);
        // SAFETY: 64 bytes.
        let order = unsafe { _mm512_loadu_si512(order.as_ptr().cast()) };
        _mm512_permutexvar_epi8(order, codes)
    }
}

/// Each quarter of a vector, four times.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
pub(super) fn quarters(of: __m512i) -> [__m512i; 4] {
    [
        _mm512_shuffle_i32x4::<0x00>(of, of),
        _mm512_shuffle_i32x4::<0x55>(of, of),
        _mm512_shuffle_i32x4::<0xaa>(of, of),
        _mm512_shuffle_i32x4::<0xff>(of, of),
    ]
}

/// The order of [`Scale::pack`] that takes 4 codes from where `from` says: a quarter, and which of the vectors.
pub(super) const fn order(from: [(u8, u8); 16]) -> [u8; 64] {
    let mut order = [0; 64];
    let mut i = 0;
    while i < 64 {
        let (quarter, vector) = from[i / 4];
        order[i] = quarter * 16 + vector * 4 + [0, 2, 1, 3][i % 4];
        i += 1;
    }
    order
}

/// For the 16 channels of each vector after those of the one before.
pub(super) const BY_VECTOR: [u8; 64] = {
    let mut from = [(0, 0); 16];
    let mut i = 0;
    while i < 16 {
        from[i] = (i as u8 % 4, i as u8 / 4);
        i += 1;
    }
    order(from)
};

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
        let sums = if scales[p].is_wide() { scales[p].narrow(sums[p]) } else { sums[p] };
        words[p] = scales[p].apply(sums);
        quarters[p] = to.wrapping_add(p * PANEL_CHANNELS);
        channels[p] = scales[p].channels();
    }
    let codes = scales[0].pack(words, &BY_VECTOR);
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
