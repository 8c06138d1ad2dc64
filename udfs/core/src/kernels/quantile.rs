//! Exact order statistics of a slice, without sorting it.

/// The `q` quantile (`0 ≤ q ≤ 1`) by linear interpolation between order statistics, as NumPy's default and SQL's
/// `percentile_cont`. Reorders `values`, which must hold no NaN. `None` when empty. O(n).
pub fn quantile(values: &mut [f32], q: f64) -> Option<f32> {
    if values.is_empty() {
        return None;
    }
    let position = q.clamp(0.0, 1.0) * (values.len() - 1) as f64;
    let low = position.floor() as usize;
    let weight = position - low as f64;
    let (_, &mut at_low, above) = values.select_nth_unstable_by(low, f32::total_cmp);
    if weight <= 0.0 || above.is_empty() {
        return Some(at_low);
    }
    let next = above.iter().copied().fold(f32::INFINITY, f32::min);
    Some((f64::from(at_low) + weight * (f64::from(next) - f64::from(at_low))) as f32)
}

/// The `q` quantile of times, the lower order statistic (times are not interpolated). `None` when empty. O(n).
pub fn quantile_us(values: &mut [i64], q: f64) -> Option<i64> {
    if values.is_empty() {
        return None;
    }
    let low = (q.clamp(0.0, 1.0) * (values.len() - 1) as f64).floor() as usize;
    Some(*values.select_nth_unstable(low).1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interpolates_like_numpy() {
        // numpy.quantile([3, 1, 2, 10], [0, .25, .5, .9, 1])
        for (q, expected) in [(0.0, 1.0), (0.25, 1.75), (0.5, 2.5), (0.9, 7.9), (1.0, 10.0)] {
            let mut values = [3.0, 1.0, 2.0, 10.0];
            assert!((quantile(&mut values, q).unwrap() - expected).abs() < 1e-6, "{q}");
        }
        assert_eq!(quantile(&mut [], 0.5), None);
        assert_eq!(quantile(&mut [4.0], 0.9), Some(4.0));
        assert_eq!(quantile_us(&mut [5, 1, 9, 7, 3], 0.8), Some(7));
    }
}
