//! From accumulators to codes: one rounding high multiply.
//!
//! `code = clamp(zero + (((acc << pre) * mult + 2^31) >> 32), lo, hi)`: the product in 64 bits, an
//! arithmetic shift, hence one rounding, half up. One instruction on Cortex-M4 (SMMULR), a handful
//! elsewhere, and nothing is rounded twice. `pre` is the smallest shift with which every `mult` of a layer
//! fits i32: the product being exact, a larger one would only take bits from `mult`.

use crate::format::Requantise;

impl Requantise {
    /// The code of an accumulator.
    #[inline(always)]
    pub fn apply(&self, acc: i32, mult: i32) -> u8 {
        let scaled = high_multiply(acc.wrapping_shl(self.pre.into()), mult);
        // Not `clamp`, which panics where `lo > hi`: fields are public.
        scaled.wrapping_add(self.zero.into()).min(self.hi.into()).max(self.lo.into()) as u8
    }
}

/// `(a * b + 2^31) >> 32`.
#[inline(always)]
pub fn high_multiply(a: i32, b: i32) -> i32 {
    ((i64::from(a) * i64::from(b) + (1 << 31)) >> 32) as i32
}
