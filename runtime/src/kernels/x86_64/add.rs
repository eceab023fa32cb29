//! Sums of two tensors: both products and their sum in one instruction where the multipliers have 16 bits.

use super::{avx2, avx512, detect, widened};
use crate::format::Add;
use crate::kernels::{Isa, reference};

/// See [`reference::add`].
pub fn add(isa: Isa, p: &Add, a: &mut [u8], b: &[u8]) {
    let done = match (isa, Pairs::of(p)) {
        // SAFETY: the processor has the instructions.
        (Isa::Avx512Vnni, Some(pairs)) if detect(isa) => unsafe { avx512::add(&pairs, a, b) },
        // SAFETY: the processor has the instructions.
        (Isa::Avx2, Some(pairs)) if detect(isa) => unsafe { avx2::add(&pairs, a, b) },
        _ => return widened::add(isa, p, a, b),
    };
    reference::add(p, a.get_mut(done..).unwrap_or_default(), b.get(done..).unwrap_or_default());
}

/// An addition as `(a * ma + b * mb + constant) >> shift`: no sum of it leaves i32.
pub(super) struct Pairs {
    /// `ma` in the lower half, `mb` in the upper.
    pub(super) mult: i32,
    /// The zero points and the rounding.
    pub(super) constant: i32,
    pub(super) shift: i32,
    pub(super) lo: u8,
    pub(super) hi: u8,
}

impl Pairs {
    /// `None` if a multiplier needs more than 16 bits, or the zero point of the output would leave i32.
    fn of(p: &Add) -> Option<Pairs> {
        let (ma, mb) = (i16::try_from(p.ma).ok()?, i16::try_from(p.mb).ok()?);
        let shift = Some(p.shift).filter(|shift| (1..=22).contains(shift))?;
        let zeros = i32::from(p.zero_a) * p.ma + i32::from(p.zero_b) * p.mb;
        Some(Pairs {
            mult: i32::from(ma as u16) | i32::from(mb) << 16,
            constant: (i32::from(p.zero) << shift) + (1 << (shift - 1)) - zeros,
            shift: shift.into(),
            lo: p.lo,
            hi: p.hi,
        })
    }
}
