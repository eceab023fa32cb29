//! From real scales to the integers that the runtime multiplies by.

use pare_runtime::format::{Requantise, WeightFormat};

use crate::ir::Clamp;
use crate::quant::ActivationCode;

/// Multipliers of one layer and the shift they share.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Multipliers {
    /// One an output channel.
    pub mult: Vec<i32>,
    /// Left shift of the accumulator before the high multiply.
    pub pre: u8,
}

/// What a level of each output channel is worth. A channel of zeros may have any scale: it has one that gives its bias a fine
/// step.
pub(crate) fn weight_scales(levels: &[i8], scales: &[f32], scale_in: f64, scale_out: f64) -> Vec<f64> {
    let fine = scale_out / scale_in / 4096.0;
    let channels = levels.chunks((levels.len() / scales.len().max(1)).max(1));
    let scale = |(levels, &scale): (&[i8], &f32)| match levels.iter().all(|&level| level == 0) {
        true => fine,
        false => f64::from(scale),
    };
    channels.zip(scales).map(scale).collect()
}

/// Expresses real factors as `mult * 2^(pre - 32)`.
///
/// `pre` is the *smallest* shift that lets every multiplier fit 31 bits. The runtime's product is exact
/// in 64 bits, so a larger shift would only take bits from `mult`; one above 0 is needed for factors of
/// 1/2 and more.
pub(crate) fn multipliers(factors: &[f64]) -> Option<Multipliers> {
    let largest = factors.iter().copied().fold(0.0, f64::max);
    let pre = (0..=31u8).find(|&pre| fixed(largest, pre) <= f64::from(i32::MAX))?;
    Some(Multipliers { mult: factors.iter().map(|&f| fixed(f, pre) as i32).collect(), pre })
}

fn fixed(factor: f64, pre: u8) -> f64 {
    (factor * 2f64.powi(32 - i32::from(pre))).round()
}

/// Levels for steps `ratio` times as wide: the nearest that the format has.
pub(super) fn coarsen(levels: &mut [i8], ratio: f64, format: WeightFormat, codebook: &[i8]) {
    let all: Vec<i8> = (0..1u16 << format.bits()).map(|code| format.level(code as u8, codebook)).collect();
    for level in levels {
        let wanted = f64::from(*level) / ratio;
        let distance = |l: &i8| (f64::from(*l) - wanted).abs();
        *level = all.iter().copied().min_by(|a, b| distance(a).total_cmp(&distance(b))).unwrap_or(*level);
    }
}

/// The requantisation into `code`, with a fused clamp.
pub(super) fn requantise(code: &ActivationCode, clamp: Clamp, pre: u8) -> Requantise {
    let (lo, hi) = clamp_codes(code, clamp);
    Requantise { pre, zero: code.zero, lo, hi }
}

/// The codes between which a clamp keeps a value.
pub(super) fn clamp_codes(code: &ActivationCode, clamp: Clamp) -> (u8, u8) {
    let lo = if clamp.min.is_finite() { code.encode(clamp.min) } else { 0 };
    let hi = if clamp.max.is_finite() { code.encode(clamp.max) } else { code.max_code() };
    (lo.min(hi), hi)
}

/// Operand multipliers and shift of an addition: `(ma, mb, shift)`.
///
/// The larger multiplier takes 15 bits where that costs no sum more than 1/32 of a code: x86-64 then multiplies and adds
/// a pair of operands in one instruction. Else it takes 21, so that two products of 9-bit differences, their
/// sum and the rounding term stay below 2^31.
pub(crate) fn add_multipliers(a: f64, b: f64) -> Option<(i32, i32, u8)> {
    let fixed = |m: f64, shift: u8| (m * 2f64.powi(shift.into())).round();
    let with = |largest: i32| {
        let shift = (1..=30u8).rev().find(|&shift| fixed(a.max(b), shift) <= f64::from(largest))?;
        Some((fixed(a, shift) as i32, fixed(b, shift) as i32, shift))
    };
    let error = |(ma, mb, shift): (i32, i32, u8)| {
        let off = |m: i32, real: f64| (f64::from(m) / 2f64.powi(shift.into()) - real).abs();
        255.0 * (off(ma, a) + off(mb, b))
    };
    with(i16::MAX.into()).filter(|&short| short.2 <= 22 && error(short) <= 1.0 / 32.0).or_else(|| with(1 << 21))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn requantising_is_within_a_rounding_of_the_real_product(
            factor in 1e-5f64..4.0, acc in -(1i32 << 22)..(1 << 22),
        ) {
            let m = multipliers(&[factor]).unwrap();
            let wide = i64::from(acc) << m.pre;
            prop_assume!(i32::try_from(wide).is_ok());
            let got = pare_runtime::requant::high_multiply(wide as i32, m.mult[0]);
            let real = f64::from(acc) * factor;
            let slack = 0.5 + f64::from(acc.abs()) * 2f64.powi(i32::from(m.pre) - 33) + 1e-9;
            prop_assert!((f64::from(got) - real).abs() <= slack, "{got} for {real}");
        }

        #[test]
        fn additions_never_overflow(a in 1e-6f64..1000.0, b in 1e-6f64..1000.0) {
            let (ma, mb, shift) = add_multipliers(a, b).unwrap();
            let widest = 255 * (i64::from(ma) + i64::from(mb)) + (1i64 << (shift - 1));
            prop_assert!(widest <= i64::from(i32::MAX));
        }

        #[test]
        fn short_multipliers_of_an_addition_cost_no_accuracy(
            a in 0.05f64..4.0, b in 0.05f64..4.0, x in -255i64..=255, y in -255i64..=255,
        ) {
            let (ma, mb, shift) = add_multipliers(a, b).unwrap();
            let got = (x * i64::from(ma) + y * i64::from(mb) + (1 << (shift - 1))) >> shift;
            prop_assert!((got as f64 - (x as f64 * a + y as f64 * b)).abs() <= 0.5 + 1.0 / 32.0);
        }
    }
}
