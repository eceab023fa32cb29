//! Packed codes become levels: interleaved ones (1, 2 and 4 bits) are shifted to the bottom of their bytes and
//! looked up; others are spread to bytes by `pdep`, then looked up (3 bits) or sign-extended.

use core::arch::x86_64::*;

use super::VECTOR;
use super::products::Step;
use crate::format::{PANEL_STEP, WeightGroup};

/// Turns packed codes into levels.
pub(super) struct Decoder {
    bits: usize,
    /// Steps of a dense panel that interleave.
    together: usize,
    /// The low `bits` of every byte.
    mask: u64,
    table: __m128i,
    sign: __m128i,
}

impl Decoder {
    #[inline]
    #[target_feature(enable = "avx2,bmi2")]
    pub(super) fn new(group: &WeightGroup<'_>) -> Decoder {
        let bits = group.format.bits();
        let mut table = [0; 16];
        for (code, level) in (0..1u16 << bits).zip(&mut table) {
            *level = group.format.level(code as u8, group.codebook);
        }
        Decoder {
            bits: bits as usize,
            together: group.format.interleaved(),
            mask: (u64::MAX / 255).wrapping_mul((1 << bits) - 1),
            // SAFETY: 16 levels.
            table: unsafe { _mm_loadu_si128(table.as_ptr().cast()) },
            sign: _mm_set1_epi8((1u8 << (bits - 1)) as i8),
        }
    }

    /// Bytes of a step of a dense panel.
    #[inline(always)]
    pub(super) fn bytes(&self) -> usize {
        PANEL_STEP / 8 * self.bits
    }

    /// The levels of step `step` out of the `steps` of a dense panel.
    ///
    /// # Safety
    /// `step < steps`, and the panel can be read.
    #[inline]
    #[target_feature(enable = "avx2,bmi2")]
    pub(super) unsafe fn step(&self, panel: *const u8, steps: usize, step: usize) -> Step {
        // SAFETY: `together` steps take 64 bytes, those left over are in sequence.
        unsafe {
            if self.together == 1 || step >= steps / self.together * self.together {
                return self.in_sequence(panel.add(step * self.bytes()));
            }
            let packed = load(panel.add(step / self.together * PANEL_STEP));
            self.interleaved(packed, step % self.together * self.bits)
        }
    }

    /// The levels of the codes at bit `shift` of every byte.
    #[inline]
    #[target_feature(enable = "avx2,bmi2")]
    pub(super) fn interleaved(&self, packed: Step, shift: usize) -> Step {
        let mask = _mm256_set1_epi64x(self.mask as i64);
        let table = _mm256_broadcastsi128_si256(self.table);
        let shift = _mm_cvtsi32_si128(shift as i32);
        packed.map(
            #[inline(always)]
            |packed| _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srl_epi16(packed, shift), mask)),
        )
    }

    /// The levels of 64 codes in sequence.
    ///
    /// # Safety
    /// There are as many to read.
    #[inline]
    #[target_feature(enable = "avx2,bmi2")]
    pub(super) unsafe fn in_sequence(&self, at: *const u8) -> Step {
        // SAFETY: the contract: 4 times 16 codes.
        unsafe {
            if self.bits == 8 {
                return load(at);
            }
            let quarter = |index: usize| self.sixteen(at.add(index * 2 * self.bits));
            [_mm256_set_m128i(quarter(1), quarter(0)), _mm256_set_m128i(quarter(3), quarter(2))]
        }
    }

    /// The levels of the next 16 codes.
    #[inline]
    #[target_feature(enable = "avx2,bmi2")]
    pub(super) fn next(&self, rest: &mut &[u8]) -> __m128i {
        let levels = match rest.get(..2 * self.bits) {
            // SAFETY: as many bytes as 16 codes take.
            Some(codes) => unsafe { self.sixteen(codes.as_ptr()) },
            None => _mm_setzero_si128(),
        };
        *rest = rest.get(2 * self.bits..).unwrap_or_default();
        levels
    }

    /// The levels of 16 codes.
    ///
    /// # Safety
    /// There are as many to read.
    #[inline]
    #[target_feature(enable = "avx2,bmi2")]
    unsafe fn sixteen(&self, at: *const u8) -> __m128i {
        // SAFETY: the contract; the second 8 codes are read from the end back.
        unsafe {
            if self.bits == 8 {
                return _mm_loadu_si128(at.cast());
            }
            let half = |at: *const u8| {
                let mut packed = [0; 8];
                packed.as_mut_ptr().copy_from_nonoverlapping(at, self.bits);
                _pdep_u64(u64::from_le_bytes(packed), self.mask) as i64
            };
            let codes = _mm_set_epi64x(half(at.add(self.bits)), half(at));
            if self.bits <= 4 {
                _mm_shuffle_epi8(self.table, codes)
            } else {
                _mm_sub_epi8(_mm_xor_si128(codes, self.sign), self.sign)
            }
        }
    }
}

/// # Safety
/// 64 bytes can be read.
#[inline]
#[target_feature(enable = "avx2,bmi2")]
pub(super) unsafe fn load(at: *const u8) -> Step {
    // SAFETY: the contract.
    unsafe { [_mm256_loadu_si256(at.cast()), _mm256_loadu_si256(at.add(VECTOR).cast())] }
}
