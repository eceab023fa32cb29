//! Symmetric positive definite systems by Cholesky's factorisation.

/// `A = L Lᵀ`.
#[derive(Clone, Debug)]
pub struct Cholesky {
    n: usize,
    /// Rows of `L`, to the diagonal, at the stride `n`.
    lower: Vec<f64>,
}

impl Cholesky {
    /// Factors the `n` by `n` matrix of the elements `a(row, column)`, of which those up to the diagonal are asked for.
    /// A pivot that rounding leaves without a sign counts as tiny, so that no number turns out infinite.
    pub fn of(n: usize, a: impl Fn(usize, usize) -> f64) -> Cholesky {
        let mut lower = vec![0.0; n * n];
        for i in 0..n {
            let (above, row) = lower.split_at_mut(i * n);
            for j in 0..i {
                let other = &above[j * n..][..=j];
                row[j] = (a(i, j) - dot(&row[..j], &other[..j])) / other[j];
            }
            row[i] = (a(i, i) - dot(&row[..i], &row[..i])).max(f64::MIN_POSITIVE).sqrt();
        }
        Cholesky { n, lower }
    }

    /// Turns `b` into the `x` of `A x = b`.
    pub fn solve(&self, b: &mut [f64]) {
        self.forward(b);
        for i in (0..self.n).rev() {
            let row = self.row(i);
            b[i] /= row[i];
            let x = b[i];
            b[..i].iter_mut().zip(row).for_each(|(b, l)| *b -= l * x);
        }
    }

    /// `A⁻¹`, row by row.
    pub fn inverse(&self) -> Vec<f64> {
        let n = self.n;
        let mut inverse = vec![0.0; n * n];
        for (i, row) in inverse.chunks_exact_mut(n.max(1)).enumerate() {
            row[i] = 1.0;
            self.solve(row);
        }
        inverse
    }

    /// Turns `b` into the `x` of `L x = b`.
    fn forward(&self, b: &mut [f64]) {
        for i in 0..self.n {
            let row = self.row(i);
            b[i] = (b[i] - dot(&row[..i], &b[..i])) / row[i];
        }
    }

    fn row(&self, i: usize) -> &[f64] {
        &self.lower[i * self.n..][..=i]
    }
}

/// A sum in a fixed order that vectorises.
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    const LANES: usize = 8;
    let mut sums = [0.0; LANES];
    let (a_blocks, b_blocks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f64 = a_blocks.remainder().iter().zip(b_blocks.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a_blocks.zip(b_blocks) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    sums.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn solves_positive_systems() {
        let a = [[4.0, 2.0, 0.6], [2.0, 5.0, 1.0], [0.6, 1.0, 3.0]];
        let factored = Cholesky::of(3, |i, j| a[i][j]);
        let mut x = [1.0, -2.0, 3.0];
        factored.solve(&mut x);
        for (row, b) in a.iter().zip([1.0, -2.0, 3.0]) {
            assert!((dot(row, &x) - b).abs() < 1e-12);
        }
        let inverse = factored.inverse();
        for (i, row) in a.iter().enumerate() {
            for j in 0..3 {
                let column = [inverse[j], inverse[3 + j], inverse[6 + j]];
                assert!((dot(row, &column) - f64::from(u8::from(i == j))).abs() < 1e-12);
            }
        }
    }
}
