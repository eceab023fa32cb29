//! From packed codes to levels, 16 at a time.

use core::arch::aarch64::*;

use crate::format::{PANEL_STEP, WeightGroup};

/// Levels of a quarter of a step: 4 channels by 4.
pub(super) const QUARTER: usize = PANEL_STEP / 4;

/// A weight group, ready to be decoded.
pub(super) struct Decoder {
    bits: usize,
    /// Steps of a dense panel that interleave.
    together: usize,
    /// Up to 4 bits: the level of every 4-bit number whose low bits are the code.
    table: int8x16_t,
    /// Bytes that hold each of 8 codes, and of 8 more; then the shift that brings it to the bottom.
    gather: [uint8x16_t; 2],
    shifts: int16x8_t,
}

impl Decoder {
    #[inline]
    #[target_feature(enable = "neon")]
    pub(super) fn new(group: &WeightGroup<'_>) -> Decoder {
        let bits = group.format.bits() as u8;
        let mut table = [0i8; 16];
        if bits <= 4 {
            for (low, level) in (0u8..).zip(&mut table) {
                *level = group.format.level(low & ((1 << bits) - 1), group.codebook);
            }
        }
        let (mut gather, mut shifts) = ([[0u8; 16]; 2], [0i16; 8]);
        for i in 0..8u8 {
            for half in 0..2u8 {
                let first = half * bits + i * bits / 8;
                gather[usize::from(half)][2 * usize::from(i)] = first;
                gather[usize::from(half)][2 * usize::from(i) + 1] = first + 1;
            }
            shifts[usize::from(i)] = -i16::from(i * bits % 8);
        }
        // SAFETY: 16 bytes each.
        unsafe {
            Decoder {
                bits: usize::from(bits),
                together: group.format.interleaved(),
                table: vld1q_s8(table.as_ptr()),
                gather: [vld1q_u8(gather[0].as_ptr()), vld1q_u8(gather[1].as_ptr())],
                shifts: vld1q_s16(shifts.as_ptr()),
            }
        }
    }

    /// The levels of the first 16 codes of a stream; what lies beyond its end is code 0.
    #[inline]
    #[target_feature(enable = "neon")]
    pub(super) fn sixteen(&self, stream: &[u8]) -> int8x16_t {
        let mut last = [0; 16];
        let packed = stream.first_chunk().unwrap_or_else(|| {
            last.iter_mut().zip(stream).for_each(|(to, &from)| *to = from);
            &last
        });
        // SAFETY: 16 bytes.
        let packed: uint8x16_t = unsafe { vld1q_u8(packed.as_ptr()) };
        if self.bits == 8 {
            return vreinterpretq_s8_u8(packed);
        }
        let [low, high] = [self.spread(packed, 0), self.spread(packed, 1)];
        self.levels(vuzp1q_u8(low, high))
    }

    /// Each of 8 codes at the bottom of 16 bits, rubbish above it.
    #[inline]
    #[target_feature(enable = "neon")]
    fn spread(&self, packed: uint8x16_t, half: usize) -> uint8x16_t {
        let pairs = vreinterpretq_u16_u8(vqtbl1q_u8(packed, self.gather[half]));
        vreinterpretq_u8_u16(vshlq_u16(pairs, self.shifts))
    }

    /// The levels of codes at the bottom of bytes, rubbish above them.
    #[inline]
    #[target_feature(enable = "neon")]
    fn levels(&self, codes: uint8x16_t) -> int8x16_t {
        if self.bits <= 4 {
            vqtbl1q_s8(self.table, vandq_u8(codes, vdupq_n_u8(15)))
        } else {
            let unused = vdupq_n_s8(8 - self.bits as i8);
            vshlq_s8(vshlq_s8(vreinterpretq_s8_u8(codes), unused), vnegq_s8(unused))
        }
    }

    /// A quarter of the levels of step `step` out of the `steps` of a dense panel.
    #[inline]
    #[target_feature(enable = "neon")]
    pub(super) fn quarter_step(&self, panel: &[u8], steps: usize, step: usize, quarter: usize) -> int8x16_t {
        if self.together == 1 || step >= steps / self.together * self.together {
            return self.sixteen(panel.get((step * 4 + quarter) * 2 * self.bits..).unwrap_or_default());
        }
        let packed = panel.get((step / self.together * 4 + quarter) * QUARTER..).and_then(<[u8]>::first_chunk::<16>);
        // SAFETY: 16 bytes.
        let packed = packed.map_or(vdupq_n_u8(0), |packed| unsafe { vld1q_u8(packed.as_ptr()) });
        self.levels(vshlq_u8(packed, vdupq_n_s8(-((step % self.together * self.bits) as i8))))
    }
}
