//! From a distribution to a code: where to clip, then scale and zero point.

use serde::{Deserialize, Serialize};

use super::ActivationCode;
use super::histogram::Histogram;

/// Shares of the full range that the searching methods try, per side.
const STEPS: usize = 64;

/// Rounds of choosing one end while the other stays.
const ROUNDS: usize = 2;

/// How the ends of an activation's range are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClipMethod {
    /// The extremes seen.
    MinMax,
    /// Cut at each end what lies beyond this share of the elements, as 0.9999.
    Percentile(f64),
    /// The least mean squared error between elements and their codes.
    Mse,
    /// The least Kullback-Leibler divergence of the coded distribution from the real one (the
    /// "entropy" calibration of TensorRT).
    Kl,
}

impl ClipMethod {
    /// The range `(lo, hi)`, `lo <= 0 <= hi`, for codes of `bits` bits.
    pub fn range(self, histogram: &Histogram, bits: u8) -> (f32, f32) {
        match self {
            ClipMethod::MinMax => (histogram.min(), histogram.max()),
            ClipMethod::Percentile(share) => percentile(histogram, share),
            ClipMethod::Mse => least(histogram, |bins, lo, hi| squared_error(bins, lo, hi, bits)),
            ClipMethod::Kl => least(histogram, |bins, lo, hi| divergence(bins, lo, hi, bits)),
        }
    }
}

/// The code whose steps span `lo ..= hi` (widened to contain 0) with real 0 exact.
pub fn code_for_range(lo: f32, hi: f32, bits: u8) -> ActivationCode {
    let (lo, hi) = (lo.min(0.0), hi.max(0.0));
    let top = f32::from((1u16 << bits) - 1);
    let scale = (hi - lo) / top;
    // A tensor of zeros has no range; any scale serves.
    let scale = if scale.is_normal() { scale } else { 1.0 / top };
    ActivationCode { scale, zero: (-lo / scale).round().clamp(0.0, top) as u8, bits }
}

fn percentile(histogram: &Histogram, share: f64) -> (f32, f32) {
    let beyond = ((1.0 - share).max(0.0) * histogram.total() as f64) as u64;
    let bins: Vec<_> = histogram.bins().collect();
    let (lo, hi) = (outermost(bins.iter(), beyond), outermost(bins.iter().rev(), beyond));
    (lo.clamp(histogram.min(), 0.0), hi.clamp(0.0, histogram.max()))
}

/// The first bin that more than `beyond` elements reach.
fn outermost<'a>(bins: impl Iterator<Item = &'a (f64, u64)>, beyond: u64) -> f32 {
    let mut passed = 0;
    for &(centre, count) in bins {
        passed += count;
        if passed > beyond {
            return centre as f32;
        }
    }
    0.0
}

/// The range of least `loss`: both ends together first, then one end at a time.
fn least(histogram: &Histogram, loss: impl Fn(&[(f64, u64)], f32, f32) -> f64) -> (f32, f32) {
    let bins: Vec<_> = histogram.bins().collect();
    let (min, max) = (histogram.min(), histogram.max());
    let best_of = |range: &dyn Fn(f32) -> (f32, f32)| {
        let mut best = (f64::INFINITY, (min, max));
        for step in (1..=STEPS).rev() {
            let (lo, hi) = range(step as f32 / STEPS as f32);
            let loss = loss(&bins, lo, hi);
            if loss < best.0 {
                best = (loss, (lo, hi));
            }
        }
        best.1
    };
    let (mut lo, mut hi) = best_of(&|share| (min * share, max * share));
    if min < 0.0 && max > 0.0 {
        for _ in 0..ROUNDS {
            lo = best_of(&|share| (min * share, hi)).0;
            hi = best_of(&|share| (lo, max * share)).1;
        }
    }
    (lo, hi)
}

fn squared_error(bins: &[(f64, u64)], lo: f32, hi: f32, bits: u8) -> f64 {
    let code = RealCode::new(lo, hi, bits);
    bins.iter().map(|&(x, count)| (code.decode(code.encode(x)) - x).powi(2) * count as f64).sum()
}

/// Divergence of the distribution that codes can express (the elements of a code spread evenly over
/// the bins it covers) from the real one (elements out of range gathered in its outermost bins).
/// Zeros, which every code expresses exactly, are left out: after a ReLU they would drown the rest. Ranges of fewer bins than
/// there are codes express themselves whatever they cut off, and are no candidates (so TensorRT).
fn divergence(bins: &[(f64, u64)], lo: f32, hi: f32, bits: u8) -> f64 {
    let bins: Vec<_> = bins.iter().copied().filter(|&(x, _)| x != 0.0).collect();
    let code = RealCode::new(lo, hi, bits);
    let inside = |x: f64| x >= f64::from(lo) && x <= f64::from(hi);
    let Some(first) = bins.iter().position(|&(x, _)| inside(x)) else { return f64::INFINITY };
    let end = bins.iter().rposition(|&(x, _)| inside(x)).map_or(first, |last| last + 1);
    if end - first < usize::from(code.top as u16) {
        return f64::INFINITY;
    }
    let count = |bins: &[(f64, u64)]| bins.iter().map(|&(_, count)| count as f64).sum::<f64>();
    let (total, kept) = (count(&bins), count(&bins[first..end]));
    let mut real: Vec<f64> = bins[first..end].iter().map(|&(_, count)| count as f64 / total).collect();
    real[0] += count(&bins[..first]) / total;
    real[end - first - 1] += count(&bins[end..]) / total;
    let groups = bins[first..end].chunk_by(|a, b| code.encode(a.0) == code.encode(b.0));
    let expressed = groups.flat_map(|group| vec![count(group) / group.len() as f64 / kept; group.len()]);
    real.iter().zip(expressed).map(|(p, q)| p * (p / q).ln()).sum()
}

/// [`ActivationCode`] in the precision of histograms.
struct RealCode {
    scale: f64,
    zero: f64,
    top: f64,
}

impl RealCode {
    fn new(lo: f32, hi: f32, bits: u8) -> Self {
        let code = code_for_range(lo, hi, bits);
        RealCode { scale: f64::from(code.scale), zero: f64::from(code.zero), top: f64::from(code.max_code()) }
    }

    fn encode(&self, x: f64) -> f64 {
        (x / self.scale + self.zero + 0.5).floor().clamp(0.0, self.top)
    }

    fn decode(&self, code: f64) -> f64 {
        self.scale * (code - self.zero)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn divergence_does_not_cut_a_few_numbers_down_to_almost_none() {
        let mut histogram = Histogram::new();
        histogram.add(&(1..=60).flat_map(|i| [i as f32 / 60.0, -i as f32 / 60.0]).collect::<Vec<_>>());
        let (lo, hi) = ClipMethod::Kl.range(&histogram, 4);
        assert!(hi > 0.5 && lo < -0.5, "{lo} {hi}");
        // Fewer numbers than codes: nothing is cut.
        assert_eq!(ClipMethod::Kl.range(&histogram, 8), (-1.0, 1.0));
    }

    const METHODS: [ClipMethod; 4] =
        [ClipMethod::MinMax, ClipMethod::Percentile(0.99), ClipMethod::Mse, ClipMethod::Kl];

    fn histogram(elements: &[f32]) -> Histogram {
        let mut histogram = Histogram::new();
        histogram.add(elements);
        histogram
    }

    proptest! {
        #[test]
        fn zero_is_exact_and_ranges_stay_within_the_data(
            elements in prop::collection::vec(-10.0f32..30.0, 1..100),
            bits in 2u8..=8,
        ) {
            let histogram = histogram(&elements);
            for method in METHODS {
                let (lo, hi) = method.range(&histogram, bits);
                prop_assert!(histogram.min() <= lo && lo <= 0.0 && 0.0 <= hi && hi <= histogram.max());
                let code = code_for_range(lo, hi, bits);
                prop_assert_eq!(code.decode(code.encode(0.0)), 0.0);
            }
        }

        #[test]
        fn mse_is_no_worse_than_the_extremes(
            elements in prop::collection::vec(-1.0f32..1.0, 10..100),
            outlier in 0.0f32..50.0,
            bits in 2u8..=8,
        ) {
            let histogram = histogram(&[elements, vec![outlier]].concat());
            let bins: Vec<_> = histogram.bins().collect();
            let loss = |method: ClipMethod| {
                let (lo, hi) = method.range(&histogram, bits);
                squared_error(&bins, lo, hi, bits)
            };
            prop_assert!(loss(ClipMethod::Mse) <= loss(ClipMethod::MinMax));
        }
    }

    #[test]
    fn after_a_relu_the_zero_point_is_zero() {
        let histogram = histogram(&[0.0, 0.0, 0.5, 1.0, 2.0, 2.5]);
        for method in METHODS {
            let (lo, hi) = method.range(&histogram, 8);
            assert_eq!(code_for_range(lo, hi, 8).zero, 0, "{method:?}");
        }
    }

    #[test]
    fn percentile_cuts_outliers_only() {
        let mut elements = vec![1.0; 999];
        elements.push(100.0);
        let (_, hi) = ClipMethod::Percentile(0.99).range(&histogram(&elements), 8);
        assert!((hi - 1.0).abs() < 0.1, "{hi}");
    }

    #[test]
    fn a_tensor_of_zeros_has_a_usable_scale() {
        let (lo, hi) = ClipMethod::Mse.range(&histogram(&[0.0; 8]), 8);
        assert!(code_for_range(lo, hi, 8).scale > 0.0);
    }
}
