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
    // Where products have 32 bits, those of 64 would be a call.
    if cfg!(pare_loops = "thumb1") { in_halves(a, b) } else { ((i64::from(a) * i64::from(b) + (1 << 31)) >> 32) as i32 }
}

/// The same of products of 16 bits by 16.
#[inline(always)]
fn in_halves(a: i32, b: i32) -> i32 {
    let ([low_a, low_b], [high_a, high_b]) = ([a & 0xffff, b & 0xffff], [a >> 16, b >> 16]);
    let low = (low_a as u32 * low_b as u32) >> 16;
    let (first, second) = (low_a * high_b, high_a * low_b);
    // What is below the upper half, but for the lowest 16 bits, which the rounding does not reach.
    let middle = low + (first as u32 & 0xffff) + (second as u32 & 0xffff) + (1 << 15);
    (high_a * high_b).wrapping_add(first >> 16).wrapping_add(second >> 16).wrapping_add((middle >> 16) as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_make_the_whole_product() {
        const EDGES: [i32; 9] = [0, 1, -1, 0x7fff, 0x8000, 0xffff, 0x1_0000, i32::MAX, i32::MIN];
        let shifted =
            (0..32).flat_map(|shift| [i32::MAX, i32::MIN, 0x2545_f491, -0x2545_f491].map(|n: i32| n >> shift));
        let numbers = EDGES.into_iter().chain(shifted);
        for a in numbers.clone() {
            for b in numbers.clone() {
                let whole = ((i64::from(a) * i64::from(b) + (1 << 31)) >> 32) as i32;
                assert_eq!(in_halves(a, b), whole, "{a} by {b}");
            }
        }
    }
}
