//! Sums of two tensors, four codes at a time.

use core::arch::asm;
use core::array;

use crate::format::Add;
use crate::kernels::reference;

/// See [`reference::add`].
pub(super) fn add(p: &Add, a: &mut [u8], b: &[u8]) {
    let len = a.len().min(b.len());
    let (Some(sum), Some(a), Some(b)) = (Sum::of(p), a.get_mut(..len), b.get(..len)) else {
        return one_by_one(p, a, b);
    };
    let ((fours_a, rest_a), (fours_b, rest_b)) = (a.as_chunks_mut(), b.as_chunks());
    for (a, b) in fours_a.iter_mut().zip(fours_b) {
        *a = sum.of_four(u32::from_le_bytes(*a), u32::from_le_bytes(*b)).to_le_bytes();
    }
    one_by_one(p, rest_a, rest_b);
}

/// What fours leave, and sums that they do not hold.
fn one_by_one(p: &Add, a: &mut [u8], b: &[u8]) {
    a.iter_mut().zip(b).for_each(|(a, b)| one(p, array::from_mut(a), array::from_ref(b)));
}

/// Not inlined, lest a compiler unroll the loop around it.
#[inline(never)]
fn one(p: &Add, a: &mut [u8; 1], b: &[u8; 1]) {
    reference::add(p, a, b);
}

/// The largest with which no sum of codes of 8 bits, multipliers of 16 and zero points overflows.
const LARGEST_SHIFT: u32 = 21;

/// An addition that halves of words hold: `(a * ma + b * mb + offset) >> shift`, then brought to `lo..=hi`.
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
    /// `None` where multipliers leave 16 bits, or sums of any codes may leave 32 or, shifted, 16.
    fn of(p: &Add) -> Option<Sum> {
        let (ma, mb) = (i16::try_from(p.ma).ok()?, i16::try_from(p.mb).ok()?);
        let shift = u32::from(p.shift.clamp(1, 31));
        if shift > LARGEST_SHIFT {
            return None;
        }
        let (a, b) = (i32::from(ma), i32::from(mb));
        let offset =
            (1 << (shift - 1)) - i32::from(p.zero_a) * a - i32::from(p.zero_b) * b + (i32::from(p.zero) << shift);
        let largest = 255 * (a.abs() + b.abs()) + offset.abs() + (255 << shift);
        if largest >> shift > i32::from(i16::MAX) {
            return None;
        }
        let above = 255 - p.hi;
        let clamp = [above, p.lo.saturating_add(above), p.lo].map(|byte| u32::from_ne_bytes([byte; 4]));
        let multipliers = u32::from(ma as u16) | u32::from(mb as u16) << 16;
        Some(Sum { multipliers, offset, shift, clamp })
    }

    #[inline(always)]
    fn of_four(&self, a: u32, b: u32) -> u32 {
        let sums: u32;
        // SAFETY: arithmetic on registers.
        unsafe {
            asm!(
                "uxtb16 {even}, {a}",
                "uxtb16 {third}, {b}",
                "uxtb16 {a}, {a}, ror #8",
                "uxtb16 {b}, {b}, ror #8",
                "pkhbt {first}, {even}, {third}, lsl #16",
                "pkhtb {third}, {third}, {even}, asr #16",
                "pkhbt {even}, {a}, {b}, lsl #16",
                "pkhtb {b}, {b}, {a}, asr #16",
                "smlad {first}, {first}, {m}, {offset}",
                "smlad {third}, {third}, {m}, {offset}",
                "smlad {even}, {even}, {m}, {offset}",
                "smlad {b}, {b}, {m}, {offset}",
                "asr {first}, {first}, {shift}",
                "asr {third}, {third}, {shift}",
                "asr {even}, {even}, {shift}",
                "asr {b}, {b}, {shift}",
                "pkhbt {first}, {first}, {third}, lsl #16",
                "pkhbt {even}, {even}, {b}, lsl #16",
                "usat16 {first}, #8, {first}",
                "usat16 {even}, #8, {even}",
                "orr {first}, {first}, {even}, lsl #8",
                "uqadd8 {first}, {first}, {above}",
                "uqsub8 {first}, {first}, {less}",
                "uqadd8 {first}, {first}, {lo}",
                a = inout(reg) a => _, b = inout(reg) b => _,
                first = out(reg) sums, even = out(reg) _, third = out(reg) _,
                m = in(reg) self.multipliers, offset = in(reg) self.offset, shift = in(reg) self.shift,
                above = in(reg) self.clamp[0], less = in(reg) self.clamp[1], lo = in(reg) self.clamp[2],
                options(pure, nomem, nostack),
            );
        }
        sums
    }
}
