//! From packed codes to levels.

use core::arch::aarch64::*;

use crate::format::{PANEL_CHANNELS, PANEL_STEP, WeightGroup};

/// The levels of a step of a dense panel: 4 channels by 4 in each vector.
pub(super) type Step = [int8x16_t; 4];

/// Bytes that steps interleave in.
const BLOCK: usize = PANEL_STEP;

/// A weight group, ready to be decoded.
pub(super) struct Decoder {
    bits: usize,
    /// Up to 4 bits: the level of every 4-bit number whose low bits are the code, and `add`.
    table: int8x16_t,
    /// Bytes that hold each of 8 codes, and of 8 more; then the shift that brings it to the bottom.
    gather: [uint8x16_t; 2],
    shifts: int16x8_t,
    /// What is added to all levels, and whether it is anything.
    add: int8x16_t,
    adds: bool,
}

impl Decoder {
    /// For levels with `add` added to them, which may wrap.
    #[inline]
    #[target_feature(enable = "neon")]
    pub(super) fn new(group: &WeightGroup<'_>, add: i8) -> Decoder {
        let bits = group.format.bits() as u8;
        let mut table = [0i8; 16];
        if bits <= 4 {
            for (low, level) in (0u8..).zip(&mut table) {
                *level = group.format.level(low & ((1 << bits) - 1), group.codebook).wrapping_add(add);
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
                table: vld1q_s8(table.as_ptr()),
                gather: [vld1q_u8(gather[0].as_ptr()), vld1q_u8(gather[1].as_ptr())],
                shifts: vld1q_s16(shifts.as_ptr()),
                add: vdupq_n_s8(add),
                adds: add != 0,
            }
        }
    }

    /// The levels of the first 16 codes of a stream; what lies beyond its end is code 0.
    #[inline]
    #[target_feature(enable = "neon")]
    pub(super) fn sixteen(&self, stream: &[u8]) -> int8x16_t {
        let mut last = [0; 16];
        let packed = load(stream.first_chunk().unwrap_or_else(|| {
            last.iter_mut().zip(stream).for_each(|(to, &from)| *to = from);
            &last
        }));
        if self.bits == 8 {
            return vaddq_s8(vreinterpretq_s8_u8(packed), self.add);
        }
        let [low, high] = [self.spread(packed, 0), self.spread(packed, 1)];
        let codes = vuzp1q_u8(low, high);
        if self.bits <= 4 {
            return self.look_up(codes);
        }
        let unused = vdupq_n_s8(8 - self.bits as i8);
        let levels = vshlq_s8(vshlq_s8(vreinterpretq_s8_u8(codes), unused), vnegq_s8(unused));
        vaddq_s8(levels, self.add)
    }

    /// Each of 8 codes at the bottom of 16 bits, rubbish above it.
    #[inline]
    #[target_feature(enable = "neon")]
    fn spread(&self, packed: uint8x16_t, half: usize) -> uint8x16_t {
        let pairs = vreinterpretq_u16_u8(vqtbl1q_u8(packed, self.gather[half]));
        vreinterpretq_u8_u16(vshlq_u16(pairs, self.shifts))
    }

    /// The levels of codes of up to 4 bits at the bottom of bytes, rubbish above them.
    #[inline]
    #[target_feature(enable = "neon")]
    fn look_up(&self, codes: uint8x16_t) -> int8x16_t {
        vqtbl1q_s8(self.table, vandq_u8(codes, vdupq_n_u8(15)))
    }

    /// Hands out the levels of `steps` steps of a dense panel, one after another.
    #[inline]
    #[target_feature(enable = "neon")]
    pub(super) fn each(&self, panel: &[u8], steps: usize, take: impl FnMut(Step)) {
        match self.bits {
            1 => self.interleaved::<1, 8>(panel, steps, take),
            2 => self.interleaved::<2, 4>(panel, steps, take),
            4 => self.interleaved::<4, 2>(panel, steps, take),
            8 if self.adds => bytes(panel, steps, |codes| vaddq_s8(codes, self.add), take),
            8 => bytes(panel, steps, |codes| codes, take),
            _ => self.in_sequence(panel, steps, take),
        }
    }

    /// The same where `TOGETHER` steps of codes of so many bits interleave.
    #[inline]
    #[target_feature(enable = "neon")]
    fn interleaved<const BITS: usize, const TOGETHER: usize>(
        &self,
        panel: &[u8],
        steps: usize,
        mut take: impl FnMut(Step),
    ) {
        let (blocks, rest) = panel.split_at_checked(steps / TOGETHER * BLOCK).unwrap_or((panel, &[]));
        for block in blocks.as_chunks::<BLOCK>().0 {
            let mut codes = quarters(block).map(|quarter| load(quarter));
            for _ in 0..TOGETHER {
                take(codes.map(|codes| self.look_up(codes)));
                codes = codes.map(|codes| vshlq_u8(codes, vdupq_n_s8(-(BITS as i8))));
            }
        }
        self.in_sequence(rest, steps % TOGETHER, take);
    }

    #[inline]
    #[target_feature(enable = "neon")]
    fn in_sequence(&self, panel: &[u8], steps: usize, mut take: impl FnMut(Step)) {
        let quarter = 2 * self.bits;
        for step in 0..steps {
            let rest = panel.get(step * 4 * quarter..).unwrap_or_default();
            take([0, 1, 2, 3].map(|i| self.sixteen(rest.get(i * quarter..).unwrap_or_default())));
        }
    }
}

/// See [`Decoder::each`], where a level is worked out of a byte.
#[inline]
#[target_feature(enable = "neon")]
fn bytes(panel: &[u8], steps: usize, level: impl Fn(int8x16_t) -> int8x16_t, mut take: impl FnMut(Step)) {
    for step in panel.as_chunks::<PANEL_STEP>().0.iter().take(steps) {
        take(quarters(step).map(|quarter| level(vreinterpretq_s8_u8(load(quarter)))));
    }
}

/// The quarters of a block.
#[inline(always)]
fn quarters(block: &[u8; BLOCK]) -> [&[u8; PANEL_CHANNELS]; 4] {
    let mut quarters = block.as_chunks().0.iter();
    [(); 4].map(|()| quarters.next().unwrap_or(&[0; PANEL_CHANNELS]))
}

#[inline]
#[target_feature(enable = "neon")]
fn load(bytes: &[u8; 16]) -> uint8x16_t {
    // SAFETY: 16 bytes.
    unsafe { vld1q_u8(bytes.as_ptr()) }
}

/// The lowest level that a format has, and how far the highest is above it.
pub(super) fn lowest_and_span(group: &WeightGroup<'_>) -> (i8, u8) {
    let bits = group.format.bits();
    if bits > 4 {
        return (-1 << (bits - 1), ((1u16 << bits) - 1) as u8);
    }
    let levels = (0..1u8 << bits).map(|code| group.format.level(code, group.codebook));
    let (lowest, highest) = levels.fold((i8::MAX, i8::MIN), |(a, b), level| (a.min(level), b.max(level)));
    (lowest, highest.abs_diff(lowest))
}
