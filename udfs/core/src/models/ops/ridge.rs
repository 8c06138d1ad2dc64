//! Least squares with a quadratic penalty in few unknowns: the closed-form step of alternating least squares.
//!
//! All in `f64` and on the calling thread, every sum in the order of its operands.

/// Adds `weight · v vᵀ` to the lower triangle of `a [n, n]`, n being the length of `v`.
pub fn add_outer(a: &mut [f64], v: &[f32], weight: f64) {
    let n = v.len();
    for (row, value) in v.iter().enumerate() {
        let left = weight * f64::from(*value);
        for (sum, right) in a[row * n..=row * n + row].iter_mut().zip(v) {
            *sum += left * f64::from(*right);
        }
    }
}

/// Cholesky's decomposition of a symmetric positive definite `a [n, n]`, of which the lower triangle is given and replaced by
/// the factor's. `false` when `a` is not positive definite; it is then of no use.
pub fn factor(a: &mut [f64], n: usize) -> bool {
    for row in 0..n {
        let (above, own) = a.split_at_mut(row * n);
        for column in 0..row {
            let other = &above[column * n..=column * n + column];
            let sum: f64 = own[..column].iter().zip(other).map(|(x, y)| x * y).sum();
            own[column] = (own[column] - sum) / other[column];
        }
        let rest = own[row] - own[..row].iter().map(|x| x * x).sum::<f64>();
        if rest.is_nan() || rest <= 0.0 {
            return false;
        }
        own[row] = rest.sqrt();
    }
    true
}

/// `b` becomes the solution `x` of `a x = b`, given what [`factor`] made of `a`.
pub fn substitute(factor: &[f64], b: &mut [f64]) {
    let n = b.len();
    for row in 0..n {
        let sum: f64 = factor[row * n..row * n + row].iter().zip(&*b).map(|(x, y)| x * y).sum();
        b[row] = (b[row] - sum) / factor[row * n + row];
    }
    for row in (0..n).rev() {
        let sum: f64 = (row + 1..n).map(|k| factor[k * n + row] * b[k]).sum();
        b[row] = (b[row] - sum) / factor[row * n + row];
    }
}

/// Solves `a x = b`: `b [n]` becomes `x` and `a` is used up. `false`, with `b` zeroed, when `a` is not positive definite.
pub fn solve(a: &mut [f64], b: &mut [f64]) -> bool {
    let fine = factor(a, b.len());
    if fine {
        substitute(a, b);
    } else {
        b.fill(0.0);
    }
    fine
}

#[cfg(test)]
mod tests {
    use super::super::philox::Philox;
    use super::*;

    #[test]
    fn the_solution_solves() {
        let random = Philox::new(3, 3);
        for n in [1, 2, 5, 16] {
            let mut a = vec![0.0; n * n];
            for row in 0..n + 3 {
                let v: Vec<f32> = (0..n).map(|k| random.normal((row * n + k) as u64) as f32).collect();
                add_outer(&mut a, &v, 0.5);
            }
            (0..n).for_each(|k| a[k * n + k] += 0.1);
            let full = |row: usize, column: usize| a[row.max(column) * n + row.min(column)];
            let b: Vec<f64> = (0..n).map(|k| random.fork(1).normal(k as u64)).collect();
            let mut x = b.clone();
            assert!(solve(&mut a.clone(), &mut x));
            for row in 0..n {
                let got: f64 = (0..n).map(|column| full(row, column) * x[column]).sum();
                assert!((got - b[row]).abs() < 1e-9, "{n}: {got} instead of {}", b[row]);
            }
        }
        let mut x = [1.0, 2.0];
        assert!(!solve(&mut [1.0, 0.0, 2.0, 1.0], &mut x));
        assert_eq!(x, [0.0, 0.0]);
    }
}
