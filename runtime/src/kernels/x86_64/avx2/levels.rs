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
        // SAFETY: the contract: 8 times 8 codes, of `bits` bytes, which are read with 8 of what is there.
        unsafe {
            if self.bits == 8 {
                return load(at);
            }
            let eight = |index: usize| {
                let first = index * self.bits;
                let from = first.min(self.bytes() - 8);
                at.add(from).cast::<u64>().read_unaligned() >> (8 * (first - from))
            };
            let sixteen = |index: usize| self.sixteen([eight(index), eight(index + 1)]);
            [_mm256_set_m128i(sixteen(2), sixteen(0)), _mm256_set_m128i(sixteen(6), sixteen(4))]
        }
    }

    /// The levels of the next 16 codes.
    #[inline]
    #[target_feature(enable = "avx2,bmi2")]
    pub(super) fn next(&self, rest: &mut &[u8]) -> __m128i {
        let mut last = [0; 16];
        let packed = rest.first_chunk().unwrap_or_else(|| {
            last.iter_mut().zip(*rest).for_each(|(to, &from)| *to = from);
            &last
        });
        *rest = rest.get(2 * self.bits..).unwrap_or_default();
        // SAFETY: `bits <= 8`, so both are within 16 bytes.
        self.sixteen([0, self.bits].map(|at| unsafe { packed.as_ptr().add(at).cast::<u64>().read_unaligned() }))
    }

    /// The levels of twice 8 codes, whatever is above them.
    #[inline]
    #[target_feature(enable = "avx2,bmi2")]
    fn sixteen(&self, packed: [u64; 2]) -> __m128i {
        let [low, high] = packed.map(|packed| _pdep_u64(packed, self.mask) as i64);
        let codes = _mm_set_epi64x(high, low);
        match self.bits {
            0..=4 => _mm_shuffle_epi8(self.table, codes),
            8 => codes,
            _ => _mm_sub_epi8(_mm_xor_si128(codes, self.sign), self.sign),
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
