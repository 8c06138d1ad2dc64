//! Order statistics of a column: quantiles, the mode, ranks, cut points.
//!
//! Quantiles interpolate linearly between the order statistics around `q * (n - 1)`: Hyndman and Fan's type 7, which is
//! `percentile_cont` in SQL and the default of NumPy, pandas and scikit-learn.

/// The numbers without NaN, ascending (`-0.0` before `0.0`). O(n log n).
#[must_use]
pub fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|value| !value.is_nan()).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted
}

/// The `q` quantile of sorted numbers; `None` when there are none.
#[must_use]
pub fn quantile(sorted: &[f64], q: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let position = q.clamp(0.0, 1.0) * last as f64;
    let low = position.floor() as usize;
    let weight = position - low as f64;
    let (below, above) = (*sorted.get(low)?, *sorted.get((low + 1).min(last))?);
    Some(between(below, above, weight))
}

/// The point at `weight` from `below` to `above`, never beyond them and exact at both ends.
#[must_use]
pub fn between(below: f64, above: f64, weight: f64) -> f64 {
    if weight <= 0.0 || below == above {
        return below;
    }
    let step = (above - below) * weight;
    // NumPy's rule: measure from the nearer end.
    if weight >= 0.5 { above - (above - below) * (1.0 - weight) } else { below + step }
}

/// First and third quartile, widened by `factor` times their distance: Tukey's fences.
#[must_use]
pub fn fences(sorted: &[f64], factor: f64) -> Option<(f64, f64)> {
    let (first, third) = (quantile(sorted, 0.25)?, quantile(sorted, 0.75)?);
    let spread = factor * (third - first);
    Some((first - spread, third + spread))
}

/// The most frequent of sorted numbers, the least of several.
#[must_use]
pub fn mode(sorted: &[f64]) -> Option<f64> {
    let runs = sorted.chunk_by(|a, b| a == b);
    let mut best: Option<&[f64]> = None;
    for run in runs {
        if best.is_none_or(|best| run.len() > best.len()) {
            best = Some(run);
        }
    }
    best.and_then(|run| run.first().copied())
}

/// The median absolute deviation from the median.
#[must_use]
pub fn median_absolute_deviation(sorted: &[f64]) -> Option<(f64, f64)> {
    let median = quantile(sorted, 0.5)?;
    let distances: Vec<f64> = sorted.iter().map(|value| (value - median).abs()).collect();
    quantile(&self::sorted(&distances), 0.5).map(|deviation| (median, deviation))
}

/// The inner cut points of `buckets` equally full buckets, each once: a value belongs to the bucket whose number is how
/// many cut points are not above it, so equal values share one.
#[must_use]
pub fn quantile_cuts(sorted: &[f64], buckets: usize) -> Vec<f64> {
    let mut cuts: Vec<f64> = (1..buckets).filter_map(|i| quantile(sorted, i as f64 / buckets as f64)).collect();
    cuts.dedup();
    cuts
}

/// The inner cut points of `buckets` equally wide buckets between the least and the greatest number.
#[must_use]
pub fn width_cuts(min: f64, max: f64, buckets: usize) -> Vec<f64> {
    let mut cuts: Vec<f64> = (1..buckets).map(|i| min + (max - min) * (i as f64 / buckets as f64)).collect();
    cuts.dedup();
    cuts
}

/// How many sorted cut points are not above `value`.
#[must_use]
pub fn bucket(cuts: &[f64], value: f64) -> usize {
    cuts.partition_point(|cut| *cut <= value)
}

/// Ranks from 1, ties sharing their mean rank; NaN has none (NaN). O(n log n).
#[must_use]
pub fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).filter(|i| !values[*i].is_nan()).collect();
    order.sort_unstable_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![f64::NAN; values.len()];
    let mut start = 0;
    for tied in order.chunk_by(|a, b| values[*a] == values[*b]) {
        let mean = start as f64 + (tied.len() + 1) as f64 / 2.0;
        tied.iter().for_each(|i| ranks[*i] = mean);
        start += tied.len();
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_as_numpy() {
        // numpy.quantile([3, 1, 2, 10], [0, .1, .25, .5, .9, 1])
        let values = sorted(&[3.0, f64::NAN, 1.0, 2.0, 10.0]);
        for (q, expected) in [(0.0, 1.0), (0.1, 1.3), (0.25, 1.75), (0.5, 2.5), (0.9, 7.9), (1.0, 10.0)] {
            assert!((quantile(&values, q).unwrap() - expected).abs() < 1e-15 * 8.0, "{q}: {:?}", quantile(&values, q));
        }
        assert_eq!((quantile(&[], 0.5), quantile(&[4.0], 0.9)), (None, Some(4.0)));
        assert_eq!(quantile(&[f64::NEG_INFINITY, 0.0], 0.0), Some(f64::NEG_INFINITY));
        assert_eq!(fences(&values, 1.5), Some((1.75 - 1.5 * 3.0, 4.75 + 1.5 * 3.0)));
    }

    #[test]
    fn modes_and_ranks() {
        assert_eq!(mode(&sorted(&[2.0, 1.0, 2.0, 1.0, 3.0])), Some(1.0));
        assert_eq!(mode(&[]), None);
        // scipy.stats.rankdata([3, 1, 3, 2])
        assert_eq!(ranks(&[3.0, 1.0, 3.0, 2.0]), [3.5, 1.0, 3.5, 2.0]);
        assert!(ranks(&[f64::NAN, 1.0])[0].is_nan());
        // scipy.stats.median_abs_deviation([1, 2, 3, 4, 100])
        assert_eq!(median_absolute_deviation(&[1.0, 2.0, 3.0, 4.0, 100.0]), Some((3.0, 1.0)));
    }

    #[test]
    fn buckets_share_equal_values() {
        let cuts = quantile_cuts(&sorted(&[1.0, 1.0, 1.0, 1.0, 2.0, 3.0, 4.0, 5.0]), 4);
        let buckets: Vec<usize> = [0.0, 1.0, 2.0, 3.0, 5.0].iter().map(|v| bucket(&cuts, *v)).collect();
        assert_eq!(cuts, [1.0, 1.5, 3.25]);
        assert_eq!(buckets, [0, 1, 2, 2, 3]);
        assert_eq!(width_cuts(0.0, 10.0, 4), [2.5, 5.0, 7.5]);
    }
}
