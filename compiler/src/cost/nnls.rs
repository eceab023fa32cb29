//! Least squares with non-negative unknowns, by the active-set method of Lawson and Hanson,
//! *Solving Least Squares Problems* (1974), chapter 23.

/// The `x >= 0` that minimises `|a x - b|`; `a` is given by rows, all equally long.
pub(super) fn nnls(a: &[Vec<f64>], b: &[f64]) -> Vec<f64> {
    let n = a.first().map_or(0, Vec::len);
    let gram: Vec<Vec<f64>> = (0..n).map(|i| (0..n).map(|j| dot(a, i, |row, _| row[j])).collect()).collect();
    let target: Vec<f64> = (0..n).map(|i| dot(a, i, |_, r| b[r])).collect();
    let tolerance = 1e-12 * target.iter().fold(1.0, |m: f64, t| m.max(t.abs()));

    let mut x = vec![0.0; n];
    let mut free = vec![false; n];
    // Each round frees one unknown and the residual falls; 3n rounds are ample in practice.
    for _ in 0..3 * n {
        let slope = |i: usize| target[i] - (0..n).map(|j| gram[i][j] * x[j]).sum::<f64>();
        let steepest = (0..n).filter(|&i| !free[i]).map(|i| (i, slope(i))).max_by(|p, q| p.1.total_cmp(&q.1));
        match steepest {
            Some((i, s)) if s > tolerance => free[i] = true,
            _ => break,
        }
        loop {
            let Some(trial) = solve_free(&gram, &target, &free) else { return x };
            // Walk towards the unconstrained solution until the first unknown reaches zero.
            let step = (0..n)
                .filter(|&i| free[i] && trial[i] <= 0.0)
                .map(|i| x[i] / (x[i] - trial[i]).max(f64::MIN_POSITIVE))
                .fold(1.0, f64::min);
            x.iter_mut().zip(&trial).for_each(|(x, t)| *x += step * (t - *x));
            if step >= 1.0 {
                break;
            }
            for (x, free) in x.iter_mut().zip(&mut free).filter(|(x, free)| **free && **x <= 1e-14) {
                *x = 0.0;
                *free = false;
            }
        }
    }
    x.iter_mut().for_each(|v| *v = v.max(0.0));
    x
}

fn dot(a: &[Vec<f64>], column: usize, other: impl Fn(&[f64], usize) -> f64) -> f64 {
    a.iter().enumerate().map(|(r, row)| row[column] * other(row, r)).sum()
}

/// Solves the normal equations of the free unknowns by elimination; zeros elsewhere, `None` where
/// they are singular.
fn solve_free(gram: &[Vec<f64>], target: &[f64], free: &[bool]) -> Option<Vec<f64>> {
    let index: Vec<usize> = (0..free.len()).filter(|&i| free[i]).collect();
    let n = index.len();
    let mut m: Vec<Vec<f64>> =
        index.iter().map(|&i| index.iter().map(|&j| gram[i][j]).chain([target[i]]).collect()).collect();
    for k in 0..n {
        let pivot = (k..n).max_by(|&p, &q| m[p][k].abs().total_cmp(&m[q][k].abs()))?;
        m.swap(k, pivot);
        if m[k][k].abs() < 1e-300 {
            return None;
        }
        let pivot = m[k].clone();
        for row in &mut m[k + 1..] {
            let factor = row[k] / pivot[k];
            row.iter_mut().zip(&pivot).skip(k).for_each(|(x, p)| *x -= factor * p);
        }
    }
    let mut x = vec![0.0; free.len()];
    for k in (0..n).rev() {
        let known: f64 = (k + 1..n).map(|c| m[k][c] * x[index[c]]).sum();
        x[index[k]] = (m[k][n] - known) / m[k][k];
    }
    Some(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meets_the_optimality_conditions() {
        let mut state = 7u64;
        let mut random = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as f64 / (1u64 << 31) as f64 - 0.4
        };
        for _ in 0..200 {
            let a: Vec<Vec<f64>> = (0..9).map(|_| (0..5).map(|_| random()).collect()).collect();
            let b: Vec<f64> = (0..9).map(|_| random()).collect();
            let x = nnls(&a, &b);
            let residual: Vec<f64> =
                a.iter().zip(&b).map(|(row, b)| b - row.iter().zip(&x).map(|(a, x)| a * x).sum::<f64>()).collect();
            for (j, x) in x.iter().enumerate() {
                let slope: f64 = a.iter().zip(&residual).map(|(row, r)| row[j] * r).sum();
                assert!(*x >= 0.0);
                assert!(slope < 1e-8, "no unknown would gain by growing");
                assert!(x * slope.abs() < 1e-8, "a positive unknown is at its minimum");
            }
        }
    }
}
