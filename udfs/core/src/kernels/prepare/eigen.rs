//! Eigenvectors of a symmetric matrix, and the principal components of a covariance.

/// Sweeps of the Jacobi method at most; a dozen do for any matrix that fits.
const SWEEPS_MAX: usize = 64;

/// Principal components, the one of the greatest variance first.
#[derive(Debug, Clone, PartialEq)]
pub struct Components {
    /// The variance along each component.
    pub variances: Vec<f64>,
    /// Each component's share of the whole variance; zeros when nothing varies.
    pub ratios: Vec<f64>,
    /// One unit vector per component, as long as there are columns. Its entry of the greatest size is positive, the first of
    /// several: scikit-learn's rule since 1.5.
    pub axes: Vec<Vec<f64>>,
}

/// Eigenvalues, descending, and eigenvectors (as rows) of a symmetric `size × size` matrix by cyclic Jacobi rotations.
/// O(size³) a sweep; `check` is asked after each rotated row and stops the work.
///
/// # Errors
/// What `check` says.
pub fn symmetric<E>(matrix: &[f64], size: usize, mut check: impl FnMut() -> Result<(), E>) -> Result<(Vec<f64>, Vec<Vec<f64>>), E> {
    let mut a = matrix.to_vec();
    let mut vectors: Vec<f64> = (0..size * size).map(|i| if i / size.max(1) == i % size.max(1) { 1.0 } else { 0.0 }).collect();
    for _ in 0..SWEEPS_MAX {
        let mut rotated = false;
        for p in 0..size {
            for q in p + 1..size {
                rotated |= rotate(&mut a, &mut vectors, size, p, q);
            }
            check()?;
        }
        if !rotated {
            break;
        }
    }
    let mut order: Vec<usize> = (0..size).collect();
    order.sort_by(|i, j| a[j * size + j].total_cmp(&a[i * size + i]).then(i.cmp(j)));
    let values = order.iter().map(|i| a[i * size + i]).collect();
    let rows = order.iter().map(|i| vectors[i * size..(i + 1) * size].to_vec()).collect();
    Ok((values, rows))
}

/// Makes `a[p][q]` zero; whether it was not. Rows of `vectors` turn along.
fn rotate(a: &mut [f64], vectors: &mut [f64], size: usize, p: usize, q: usize) -> bool {
    let apq = a[p * size + q];
    let (app, aqq) = (a[p * size + p], a[q * size + q]);
    if apq.abs() <= f64::EPSILON * f64::EPSILON * (app.abs() * aqq.abs()).sqrt() || apq.abs() < f64::MIN_POSITIVE {
        (a[p * size + q], a[q * size + p]) = (0.0, 0.0);
        return false;
    }
    let theta = (aqq - app) / (2.0 * apq);
    let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
    let t = if theta == 0.0 { 1.0 } else { t };
    let c = 1.0 / (t * t + 1.0).sqrt();
    let s = t * c;
    for k in 0..size {
        let (akp, akq) = (a[k * size + p], a[k * size + q]);
        a[k * size + p] = c * akp - s * akq;
        a[k * size + q] = s * akp + c * akq;
    }
    for k in 0..size {
        let (apk, aqk) = (a[p * size + k], a[q * size + k]);
        a[p * size + k] = c * apk - s * aqk;
        a[q * size + k] = s * apk + c * aqk;
        let (vpk, vqk) = (vectors[p * size + k], vectors[q * size + k]);
        vectors[p * size + k] = c * vpk - s * vqk;
        vectors[q * size + k] = s * vpk + c * vqk;
    }
    (a[p * size + q], a[q * size + p]) = (0.0, 0.0);
    true
}

/// The first `count` principal components of a `size × size` covariance.
///
/// # Errors
/// What `check` says.
pub fn principal<E>(covariance: &[f64], size: usize, count: usize, check: impl FnMut() -> Result<(), E>) -> Result<Components, E> {
    let (values, vectors) = symmetric(covariance, size, check)?;
    let total: f64 = values.iter().map(|value| value.max(0.0)).sum();
    let variances: Vec<f64> = values.iter().take(count).map(|value| value.max(0.0)).collect();
    let ratios = variances.iter().map(|value| if total > 0.0 { value / total } else { 0.0 }).collect();
    let axes = vectors.into_iter().take(count).map(oriented).collect();
    Ok(Components { variances, ratios, axes })
}

/// The axis with its greatest entry positive. Entries that are equal but for rounding count as tied: the first decides.
fn oriented(mut axis: Vec<f64>) -> Vec<f64> {
    let greatest = axis.iter().fold(0.0_f64, |greatest, entry| greatest.max(entry.abs()));
    let first = axis.iter().find(|entry| entry.abs() >= greatest * (1.0 - 1e-12)).copied().unwrap_or(0.0);
    if first < 0.0 {
        axis.iter_mut().for_each(|entry| *entry = -*entry);
    }
    axis
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::kernels::splitmix;

    fn go_on() -> Result<(), Infallible> {
        Ok(())
    }

    #[test]
    fn rebuilds_random_matrices() {
        for size in [1, 2, 3, 7, 20] {
            let at = |i: usize, j: usize| splitmix::fraction(size as u64, (i.min(j) * 100 + i.max(j)) as u64) - 0.5;
            let matrix: Vec<f64> = (0..size * size).map(|k| at(k / size, k % size)).collect();
            let Ok((values, vectors)) = symmetric(&matrix, size, go_on);
            assert!(values.windows(2).all(|pair| pair[0] >= pair[1]));
            for i in 0..size {
                for j in 0..size {
                    let rebuilt: f64 = (0..size).map(|k| values[k] * vectors[k][i] * vectors[k][j]).sum();
                    assert!((rebuilt - at(i, j)).abs() < 1e-13, "{size} {i} {j}");
                    let dot: f64 = (0..size).map(|k| vectors[i][k] * vectors[j][k]).sum();
                    assert!((dot - f64::from(u8::from(i == j))).abs() < 1e-13);
                }
            }
        }
    }

    #[test]
    fn components_have_a_sign_and_shares() {
        let Ok(found) = principal(&[2.0, -1.0, -1.0, 2.0], 2, 2, go_on);
        let half = 0.5_f64.sqrt();
        assert!((found.axes[0][0] - half).abs() < 1e-15 && (found.axes[0][1] + half).abs() < 1e-15, "{found:?}");
        assert!((found.variances[0] - 3.0).abs() < 1e-15 && (found.ratios[1] - 0.25).abs() < 1e-15);
        let Ok(still) = principal(&[0.0; 4], 2, 1, go_on);
        assert_eq!((still.ratios, still.axes.len()), (vec![0.0], 1));
    }

    #[test]
    fn stops_when_told() {
        assert_eq!(symmetric(&[1.0, 0.5, 0.5, 1.0], 2, || Err("stop")), Err("stop"));
    }
}
