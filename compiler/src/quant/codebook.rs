//! One-dimensional k-means onto small integers, solved exactly.

/// Magnitude of the outermost level that may be chosen.
pub(super) const TOP: i32 = 127;

/// Cells half a level wide, from `-TOP - 1/2` outwards on both sides.
const CELLS: usize = 4 * TOP as usize + 4;

/// Sums over the points of cells `0..i`: weight, weight * x, weight * x².
struct Prefix(Vec<[f64; 3]>);

/// The `count` distinct integers in `-127 ..= 127` of least `sum weight * (x - nearest)²` over the
/// `(x, weight)` points, ascending.
///
/// Dynamic programming over the levels from left to right: the points between two neighbouring levels
/// split at their middle, so the cost of a choice is a sum over neighbouring pairs.
pub(super) fn choose(points: impl Iterator<Item = (f64, f64)>, count: usize) -> Vec<i8> {
    let prefix = Prefix::new(points);
    let places = 2 * TOP as usize + 1;
    let level = |place: usize| place as i32 - TOP;
    let between = |a: usize, b: usize| {
        let (a, b) = (level(a), level(b));
        prefix.cost(a, cell(2 * a), cell(a + b)) + prefix.cost(b, cell(a + b), cell(2 * b))
    };
    let pairs: Vec<f64> = (0..places * places)
        .map(|i| if i / places < i % places { between(i / places, i % places) } else { 0.0 })
        .collect();
    let mut best: Vec<f64> = (0..places).map(|j| prefix.cost(level(j), 0, cell(2 * level(j)))).collect();
    let mut previous: Vec<Vec<usize>> = Vec::new();
    for m in 1..count {
        let mut next = vec![f64::INFINITY; places];
        let mut from = vec![0; places];
        for j in m..places {
            for i in m - 1..j {
                let cost = best[i] + pairs[i * places + j];
                if cost < next[j] {
                    (next[j], from[j]) = (cost, i);
                }
            }
        }
        best = next;
        previous.push(from);
    }
    let total = |j: usize| best[j] + prefix.cost(level(j), cell(2 * level(j)), CELLS);
    let mut place = (count - 1..places).min_by(|&a, &b| total(a).total_cmp(&total(b))).unwrap_or(places - 1);
    let mut chosen = vec![level(place) as i8];
    for from in previous.iter().rev() {
        place = from[place];
        chosen.push(level(place) as i8);
    }
    chosen.reverse();
    chosen
}

/// The first cell at or right of `half / 2`.
fn cell(half: i32) -> usize {
    (half + 2 * TOP + 2) as usize
}

impl Prefix {
    fn new(points: impl Iterator<Item = (f64, f64)>) -> Self {
        let mut sums = vec![[0.0; 3]; CELLS + 1];
        for (x, weight) in points {
            let cell = (2.0 * x + f64::from(2 * TOP + 2)).clamp(0.0, (CELLS - 1) as f64) as usize;
            for (sum, term) in sums[cell + 1].iter_mut().zip([weight, weight * x, weight * x * x]) {
                *sum += term;
            }
        }
        for i in 1..sums.len() {
            for moment in 0..3 {
                sums[i][moment] += sums[i - 1][moment];
            }
        }
        Prefix(sums)
    }

    /// Of reading the points of cells `from..to` as `level`.
    fn cost(&self, level: i32, from: usize, to: usize) -> f64 {
        let level = f64::from(level);
        let sum = |moment: usize| self.0[to][moment] - self.0[from][moment];
        sum(2) - 2.0 * level * sum(1) + level * level * sum(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_other_pair_is_better() {
        let points: Vec<(f64, f64)> =
            (0..40).map(|i| (f64::from(i * i % 97) * 2.3 - 110.0, 1.0 + f64::from(i % 5))).collect();
        let cost = |levels: &[i8]| -> f64 {
            let distance = |x: f64| levels.iter().map(|&l| (x - f64::from(l)).powi(2)).fold(f64::INFINITY, f64::min);
            points.iter().map(|&(x, weight)| weight * distance(x)).sum()
        };
        let chosen = choose(points.iter().copied(), 2);
        for a in -127..127i8 {
            for b in a + 1..=127 {
                assert!(cost(&chosen) <= cost(&[a, b]) + 1e-6, "{chosen:?} is worse than {a}, {b}");
            }
        }
    }

    #[test]
    fn levels_are_distinct_and_ascending_even_for_one_point() {
        for count in [4, 8, 16] {
            let chosen = choose([(1.2, 1.0), (1.2, 3.0)].into_iter(), count);
            assert_eq!(chosen.len(), count);
            assert!(chosen.is_sorted_by(|a, b| a < b));
            assert!(chosen.contains(&1));
        }
    }
}
