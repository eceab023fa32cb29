//! Operators that keep the shape.

use crate::format::Add;

/// `clamp((((a - zero_a) * ma + (b - zero_b) * mb + 2^(shift - 1)) >> shift) + zero, lo, hi)`, in wrapping i32.
/// `a` holds the first operand before and the sum after.
#[inline(always)]
pub fn add(p: &Add, a: &mut [u8], b: &[u8]) {
    let round = 1i32 << (p.shift.clamp(1, 31) - 1);
    for (a, &b) in a.iter_mut().zip(b) {
        let x = (i32::from(*a) - i32::from(p.zero_a)).wrapping_mul(p.ma);
        let y = (i32::from(b) - i32::from(p.zero_b)).wrapping_mul(p.mb);
        let sum = x.wrapping_add(y).wrapping_add(round) >> p.shift.clamp(1, 31);
        *a = sum.wrapping_add(p.zero.into()).min(p.hi.into()).max(p.lo.into()) as u8;
    }
}

/// `code = table[code]`; codes beyond the table become 0.
pub fn lut(table: &[u8], codes: &mut [u8]) {
    for code in codes {
        *code = table.get(usize::from(*code)).copied().unwrap_or(0);
    }
}

/// Softmax over each run of `channels` codes, in probabilities of 1/256 with zero point 0.
///
/// With `d = max - code` and `mult = scale * log2(e)` in Q29 (see [`softmax_mult`]), the exponential is
/// `e = 2^-(d * mult / 2^29)` in Q30: the integer part of the exponent shifts, the fraction goes through
/// a polynomial (`exp2_of_minus`). Then `code = min(255, (256 * e + sum / 2) / sum)`, `sum` over the run in u64:
/// bit by bit, which takes a tenth of the code of a 64-bit division.
pub fn softmax(mult: u32, channels: usize, input: &[u8], output: &mut [u8]) {
    let channels = channels.max(1);
    for (input, output) in input.chunks(channels).zip(output.chunks_mut(channels)) {
        let max = input.iter().copied().max().unwrap_or(0);
        let exponential = |code: u8| exponential(u64::from(max.saturating_sub(code)) * u64::from(mult));
        let sum = input.iter().map(|&code| exponential(code)).sum::<u64>().max(1);
        for (slot, &code) in output.iter_mut().zip(input) {
            *slot = quotient(256 * exponential(code) + sum / 2, sum);
        }
    }
}

/// The `mult` of [`softmax`] for inputs of this scale: `scale * log2(e)` in Q29. Scales above 5.5 saturate
/// (a step is then a factor of 2^-8, the resolution of the output). For the host: no kernel calls it.
#[allow(clippy::float_arithmetic, reason = "the compiler calls it; a run takes its result")]
pub fn softmax_mult(scale: f32) -> u32 {
    (f64::from(scale) * core::f64::consts::LOG2_E * f64::from(1 << 29) + 0.5) as u32
}

const FRACTION: u32 = (1 << 29) - 1;

/// `min(255, dividend / divisor)`, the divisor below 2^56.
#[inline(never)]
fn quotient(dividend: u64, divisor: u64) -> u8 {
    let (mut rest, mut part, mut quotient) = (dividend, divisor << 8, 0);
    for _ in 0..8 {
        part >>= 1;
        quotient <<= 1;
        if part <= rest {
            rest -= part;
            quotient |= 1;
        }
    }
    quotient
}

/// `2^-exponent` in Q30, for an exponent in Q29.
#[inline(never)]
fn exponential(exponent: u64) -> u64 {
    exp2_of_minus(exponent as u32 & FRACTION).checked_shr((exponent >> 29) as u32).unwrap_or(0).into()
}

/// `2^-f` in Q30 for `f` in Q29 below 1: degree 5, through the Chebyshev nodes of [0, 1] (error < 2^-23),
/// each product truncated.
fn exp2_of_minus(f: u32) -> u32 {
    const COEFFICIENTS: [i32; 6] = [-1_016_701, 9_888_282, -59_375_904, 257_890_191, -744_256_774, 1_073_741_764];
    COEFFICIENTS.iter().fold(0i32, |sum, &c| ((i64::from(sum) * i64::from(f)) >> 29) as i32 + c) as u32
}

#[cfg(test)]
#[allow(clippy::float_arithmetic, reason = "what the integers are held against")]
mod tests {
    extern crate std;
    use super::*;
    use std::vec;
    use std::vec::Vec;

    #[test]
    fn the_power_of_two_is_good_to_20_bits() {
        for f in (0..1 << 29).step_by(9973) {
            let (f, got) = (f64::from(f) / f64::from(1 << 29), f64::from(exp2_of_minus(f)) / f64::from(1 << 30));
            assert!((got - (-f).exp2()).abs() < 0.5f64.powi(20), "2^-{f}: {got}");
        }
    }

    #[test]
    fn softmax_is_within_a_step_of_the_real_one() {
        for scale in [1e-4f32, 1e-3, 0.017, 0.1, 0.3, 1.0, 4.0] {
            for channels in [1usize, 2, 3, 10, 257, 1000] {
                let input: Vec<u8> = (0..channels * 3).map(|i| (i * i * 37 + i * 11 + 5) as u8).collect();
                let mut output = vec![0; input.len()];
                softmax(softmax_mult(scale), channels, &input, &mut output);
                for (input, output) in input.chunks(channels).zip(output.chunks(channels)) {
                    let max = f64::from(*input.iter().max().unwrap());
                    let exp = |code: u8| ((f64::from(code) - max) * f64::from(scale)).exp();
                    let sum: f64 = input.iter().map(|&code| exp(code)).sum();
                    for (&code, &got) in input.iter().zip(output) {
                        let error = f64::from(got) / 256.0 - exp(code) / sum;
                        assert!(error.abs() <= 1.0 / 256.0, "scale {scale}, {channels} channels: off by {error}");
                    }
                }
            }
        }
    }
}
