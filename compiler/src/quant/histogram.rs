//! A histogram that adapts to its data: bins a power of two wide on either side of zero.
//!
//! The width is the smallest at which everything seen fits, and doubling it merges whole bins: the
//! outcome depends on what was added, never on the order.

/// Bins on each side of zero.
const SIDE: usize = 2048;

/// Counts of `f32` elements; infinities and NaN count as 0.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    /// Bins are `2^exponent` wide; `None` before the first element that is not zero.
    exponent: Option<i32>,
    /// Bin `SIDE + i` counts elements in `[i, i + 1) * width`.
    counts: Vec<u64>,
    min: f32,
    max: f32,
}

impl Histogram {
    /// Without any element.
    pub fn new() -> Self {
        Histogram { exponent: None, counts: vec![0; 2 * SIDE], min: 0.0, max: 0.0 }
    }

    /// The smallest element, or 0 if that is smaller.
    pub fn min(&self) -> f32 {
        self.min
    }

    /// The largest element, or 0 if that is larger.
    pub fn max(&self) -> f32 {
        self.max
    }

    /// Counts every element.
    pub fn add(&mut self, elements: &[f32]) {
        let finite = |x: f32| if x.is_finite() { x } else { 0.0 };
        let (min, max) = elements.iter().fold((self.min, self.max), |(min, max), &x| {
            let x = finite(x);
            (if x < min { x } else { min }, if x > max { x } else { max })
        });
        (self.min, self.max) = (min, max);
        self.widen(exponent_for(min, max));
        let Some(exponent) = self.exponent else {
            self.counts[SIDE] += elements.len() as u64;
            return;
        };
        let per_bin = 2f32.powi(-exponent);
        for &x in elements {
            // The range is checked, so the sum is positive and cutting it rounds down.
            let bin = (f64::from(finite(x) * per_bin) + SIDE as f64) as usize;
            self.counts[bin.min(2 * SIDE - 1)] += 1;
        }
    }

    /// Adds the counts of another histogram.
    pub fn merge(&mut self, other: &Histogram) {
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        let mut other = other.clone();
        let exponent = self.exponent.max(other.exponent);
        self.widen(exponent);
        other.widen(exponent);
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
    }

    /// `(centre, count)` of every bin that is not empty, ascending. The centres of the two bins at
    /// zero are given as 0: most of their elements are, and every code represents it exactly.
    pub fn bins(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        let width = 2f64.powi(self.exponent.unwrap_or(0));
        self.counts.iter().enumerate().filter(|&(_, &count)| count > 0).map(move |(bin, &count)| {
            let place = bin as i64 - SIDE as i64;
            let centre = if place == 0 || place == -1 { 0.0 } else { (place as f64 + 0.5) * width };
            (centre, count)
        })
    }

    /// Elements counted.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    fn widen(&mut self, exponent: Option<i32>) {
        let (Some(from), Some(to)) = (self.exponent, exponent) else {
            self.exponent = self.exponent.or(exponent);
            return;
        };
        let shift = (to - from).clamp(0, 63);
        if shift == 0 {
            return;
        }
        let mut merged = vec![0; 2 * SIDE];
        for (bin, count) in self.counts.iter().enumerate() {
            let place = (bin as i64 - SIDE as i64) >> shift;
            merged[(place + SIDE as i64) as usize] += count;
        }
        self.counts = merged;
        self.exponent = Some(from + shift);
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram::new()
    }
}

/// The smallest exponent whose bins hold both; `None` if both are zero.
fn exponent_for(min: f32, max: f32) -> Option<i32> {
    let largest = f64::from(max.max(-min));
    (largest > 0.0).then(|| {
        let mut exponent = (largest / SIDE as f64).log2().floor() as i32;
        while largest >= SIDE as f64 * 2f64.powi(exponent) {
            exponent += 1;
        }
        exponent.max(-120)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn counts_do_not_depend_on_order(
            mut elements in prop::collection::vec(-1e3f32..1e6, 1..200),
            cut in 0usize..200,
        ) {
            let mut whole = Histogram::new();
            whole.add(&elements);
            elements.reverse();
            let (first, second) = elements.split_at(cut.min(elements.len()));
            let (mut a, mut b) = (Histogram::new(), Histogram::new());
            for x in first {
                a.add(&[*x]);
            }
            b.add(second);
            a.merge(&b);
            prop_assert_eq!(&a, &whole);
            prop_assert_eq!(a.total(), elements.len() as u64);
        }
    }

    #[test]
    fn bins_lie_where_the_elements_are() {
        let mut histogram = Histogram::new();
        histogram.add(&[0.0, 0.0, -3.0, 5.0, f32::NAN, f32::INFINITY]);
        let bins: Vec<_> = histogram.bins().collect();
        assert_eq!((histogram.min(), histogram.max()), (-3.0, 5.0));
        assert_eq!(bins.len(), 3);
        for ((centre, count), (x, expected)) in bins.into_iter().zip([(-3.0, 1), (0.0, 4), (5.0, 1)]) {
            assert!((centre - x).abs() < 0.01, "{centre} for {x}");
            assert_eq!(count, expected);
        }
    }
}
