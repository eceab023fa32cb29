//! The small integers that a weight format may use.

use crate::policy::WeightFormat;

/// Half-integers from -128 to 128.
const CELLS: usize = 512;

/// An ascending set of levels, with the nearest of them in constant time.
#[derive(Clone, Debug)]
pub(crate) struct Levels {
    levels: Vec<i8>,
    /// For each cell `[h / 2, (h + 1) / 2)` the nearest level: between integers, ties fall on halves,
    /// so a cell never straddles one.
    nearest: Vec<i8>,
}

impl Levels {
    /// Of an evenly spaced or ternary format; `None` for codebooks, whose levels are chosen.
    pub(crate) fn fixed(format: WeightFormat) -> Option<Self> {
        match format {
            WeightFormat::Linear(1) => Some(Levels::new(vec![-1, 1])),
            WeightFormat::Linear(2) => Some(Levels::new(vec![-3, -1, 1, 3])),
            WeightFormat::Linear(bits) => {
                let top = ((1i16 << (bits - 1)) - 1) as i8;
                Some(Levels::new((-top..=top).collect()))
            }
            WeightFormat::Ternary => Some(Levels::new(vec![-1, 0, 1])),
            WeightFormat::Codebook(_) => None,
        }
    }

    /// From ascending levels.
    pub(crate) fn new(levels: Vec<i8>) -> Self {
        let nearest = (0..CELLS).map(|cell| {
            let middle = 2 * cell as i32 + 1 - CELLS as i32;
            levels.iter().copied().min_by_key(|&level| (4 * i32::from(level) - middle).abs()).unwrap_or(0)
        });
        Levels { nearest: nearest.collect(), levels }
    }

    /// All of them, ascending.
    pub(super) fn as_slice(&self) -> &[i8] {
        &self.levels
    }

    /// The largest magnitude.
    pub(crate) fn top(&self) -> f64 {
        self.levels.iter().map(|&level| f64::from(level).abs()).fold(0.0, f64::max)
    }

    /// Between which numbers this level, one of them, is the nearest. The outer ones reach as far out as in.
    pub(crate) fn cell(&self, level: i8) -> (f64, f64) {
        let half = |a: Option<&i8>| a.map(|&a| (f64::from(a) - f64::from(level)).abs() / 2.0);
        let at = self.levels.partition_point(|&other| other < level);
        let below = half(at.checked_sub(1).and_then(|at| self.levels.get(at)));
        let above = half(self.levels[at..].iter().find(|&&other| other > level));
        let [down, up] = [below.or(above), above.or(below)].map(|half| half.unwrap_or(0.5));
        (f64::from(level) - down, f64::from(level) + up)
    }

    /// From the outer end of the first cell to that of the last one.
    pub(crate) fn span(&self) -> (f64, f64) {
        match (self.levels.first(), self.levels.last()) {
            (Some(&first), Some(&last)) => (self.cell(first).0, self.cell(last).1),
            _ => (0.0, 0.0),
        }
    }

    /// The level nearest to `x`; halfway between two, the upper one.
    pub(crate) fn nearest(&self, x: f64) -> i8 {
        let cell = (2.0 * x + (CELLS / 2) as f64).clamp(0.0, (CELLS - 1) as f64) as usize;
        self.nearest[cell]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_have_the_levels_of_the_contract() {
        let levels = |format| Levels::fixed(format).unwrap().as_slice().to_vec();
        assert_eq!(levels(WeightFormat::Linear(1)), [-1, 1]);
        assert_eq!(levels(WeightFormat::Ternary), [-1, 0, 1]);
        assert_eq!(levels(WeightFormat::Linear(2)), [-3, -1, 1, 3]);
        assert_eq!(levels(WeightFormat::Linear(3)), [-3, -2, -1, 0, 1, 2, 3]);
        assert_eq!(levels(WeightFormat::Linear(8)).len(), 255);
        assert!(Levels::fixed(WeightFormat::Codebook(2)).is_none());
    }

    #[test]
    fn cells_meet_halfway() {
        let levels = Levels::new(vec![-3, -1, 1, 4]);
        assert_eq!([-3, -1, 1, 4].map(|level| levels.cell(level)), [(-4.0, -2.0), (-2.0, 0.0), (0.0, 2.5), (2.5, 5.5)]);
        assert_eq!(levels.span(), (-4.0, 5.5));
    }

    #[test]
    fn nearest_is_nearest() {
        for levels in [vec![-1, 1], vec![-3, -1, 1, 3], vec![-127, -100, 3, 4, 126], (-127..=127).collect()] {
            let set = Levels::new(levels.clone());
            for i in -2600..2600 {
                let x = f64::from(i) / 20.0 + 0.013;
                let distance = |level: i8| (f64::from(level) - x).abs();
                let least = levels.iter().map(|&level| distance(level)).fold(f64::INFINITY, f64::min);
                assert_eq!(distance(set.nearest(x)), least, "{x} among {levels:?}");
            }
        }
    }
}
