//! Sums of two tensors, four codes at a time.

use core::arch::naked_asm;

use crate::format::Add;
use crate::kernels::reference;

/// See [`reference::add`].
pub(super) fn add(p: &Add, a: &mut [u8], b: &[u8]) {
    let len = a.len().min(b.len());
    let (Some(sum), Some(a), Some(b)) = (Sum::of(p), a.get_mut(..len), b.get(..len)) else {
        return reference::add(p, a, b);
    };
    let ((fours_a, rest_a), (fours_b, rest_b)) = (a.as_chunks_mut::<4>(), b.as_chunks::<4>());
    if !fours_a.is_empty() {
        let all = fours_a.as_mut_ptr_range();
        // SAFETY: there are as many codes of each, four at least.
        unsafe { add_fours(all.start, fours_b.as_ptr(), all.end, &sum) };
    }
    reference::add(p, rest_a, rest_b);
}

/// An addition that halves of words hold: `(a * ma + b * mb + offset) >> shift`, then brought to `lo..=hi`.
#[repr(C)]
struct Sum {
    /// The first in the low half.
    multipliers: u32,
    /// What zero points and rounding add.
    offset: i32,
    shift: u32,
    /// What brings bytes to `lo..=hi`: added, subtracted and added with saturation.
    clamp: [u32; 3],
}

impl Sum {
    /// `None` where multipliers leave 16 bits, or sums of any codes 32 or, shifted, 16.
    fn of(p: &Add) -> Option<Sum> {
        let (ma, mb) = (i16::try_from(p.ma).ok()?, i16::try_from(p.mb).ok()?);
        let shift = u32::from(p.shift.clamp(1, 31));
        let zeros = i64::from(p.zero_a) * i64::from(p.ma) + i64::from(p.zero_b) * i64::from(p.mb);
        let offset = (1i64 << (shift - 1)) - zeros + (i64::from(p.zero) << shift);
        let largest = 255 * (i64::from(p.ma).abs() + i64::from(p.mb).abs()) + offset.abs() + (255 << shift);
        if largest > i64::from(i32::MAX) || largest >> shift > i64::from(i16::MAX) {
            return None;
        }
        let above = 255 - p.hi;
        let clamp = [above, p.lo.saturating_add(above), p.lo].map(|byte| u32::from_ne_bytes([byte; 4]));
        let multipliers = u32::from(ma as u16) | u32::from(mb as u16) << 16;
        Some(Sum { multipliers, offset: offset as i32, shift, clamp })
    }
}

/// Adds codes, four at a time, of `b` to those of `a` up to `end`, four at least.
#[unsafe(naked)]
unsafe extern "C" fn add_fours(a: *mut [u8; 4], b: *const [u8; 4], end: *const [u8; 4], sum: &Sum) {
    naked_asm!(
        processor!(),
        "push {{r4-r11, lr}}",
        "ldm r3, {{r8-r12, lr}}",
        "2:",
        "ldr r4, [r0]",
        "ldr r5, [r1], #4",
        "uxtb16 r6, r4",
        "uxtb16 r7, r5",
        "uxtb16 r4, r4, ror #8",
        "uxtb16 r5, r5, ror #8",
        "pkhbt r3, r6, r7, lsl #16",
        "pkhtb r7, r7, r6, asr #16",
        "pkhbt r6, r4, r5, lsl #16",
        "pkhtb r5, r5, r4, asr #16",
        "smlad r3, r3, r8, r9",
        "smlad r7, r7, r8, r9",
        "smlad r6, r6, r8, r9",
        "smlad r5, r5, r8, r9",
        "asr r3, r3, r10",
        "asr r7, r7, r10",
        "asr r6, r6, r10",
        "asr r5, r5, r10",
        "pkhbt r3, r3, r7, lsl #16",
        "pkhbt r6, r6, r5, lsl #16",
        "usat16 r3, #8, r3",
        "usat16 r6, #8, r6",
        "orr r3, r3, r6, lsl #8",
        "uqadd8 r3, r3, r11",
        "uqsub8 r3, r3, r12",
        "uqadd8 r3, r3, lr",
        "str r3, [r0], #4",
        "cmp r0, r2",
        "bne 2b",
        "pop {{r4-r11, pc}}",
    )
}
