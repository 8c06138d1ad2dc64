//! Recency, frequency and money in bins with stored bounds.
//!
//! The tie rule: a bound is a value, and equal values have equal scores, whatever the size of the bins; nothing is split by the
//! order of rows as `ntile` does. Scores of new users come from the same bounds, so they do not move when others come.

/// The `bins − 1` inner bounds of `values`, which it sorts: bound i is the ⌈n · i / bins⌉-th smallest value. Empty without values.
pub fn bounds(values: &mut [f64], bins: usize) -> Vec<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let n = values.len();
    let at = |bin: usize| (n * bin).div_ceil(bins).checked_sub(1).and_then(|at| values.get(at)).copied();
    (1..bins).filter_map(at).collect()
}

/// The bin of `value`, from 1: one more than the bounds below it.
#[must_use]
pub fn score(value: f64, bounds: &[f64]) -> usize {
    1 + bounds.partition_point(|bound| *bound < value)
}

/// The customary segment of scores from 1 to `bins`, which are read in fifths: the more recent and the more frequent, the better.
#[must_use]
pub fn segment(recency: usize, frequency: usize, bins: usize) -> &'static str {
    // The fifth of a score: 1 to 5 whatever the number of bins.
    let fifth = |score: usize| if bins <= 1 { 3 } else { 1 + ((score - 1) * 4 + (bins - 1) / 2) / (bins - 1) };
    match (fifth(recency), fifth(frequency)) {
        (4.., 4..) => "champions",
        (3, 4..) => "loyal",
        (4.., 2..=3) => "potential_loyalists",
        (5.., ..=1) => "new_customers",
        (4, ..=1) => "promising",
        (3, 3) => "need_attention",
        (3, ..=2) => "about_to_sleep",
        (..=1, 5..) => "cannot_lose",
        (..=2, 3..) => "at_risk",
        (2, ..=2) => "hibernating",
        _ => "lost",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_have_equal_scores() {
        let mut values = vec![1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 2.0, 3.0, 4.0, 5.0];
        let found = bounds(&mut values, 5);
        assert_eq!(found, [1.0, 1.0, 1.0, 3.0]);
        assert_eq!(values.iter().map(|value| score(*value, &found)).collect::<Vec<_>>(), [1, 1, 1, 1, 1, 1, 4, 4, 5, 5]);
        let mut ten: Vec<f64> = (1..=10).map(f64::from).collect();
        let found = bounds(&mut ten, 5);
        assert_eq!(ten.iter().map(|value| score(*value, &found)).collect::<Vec<_>>(), [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]);
        assert!(bounds(&mut [], 5).is_empty());
        assert_eq!(score(7.0, &[]), 1);
        assert_eq!((score(-100.0, &found), score(100.0, &found)), (1, 5));
    }

    #[test]
    fn every_pair_of_scores_has_a_segment() {
        assert_eq!(segment(5, 5, 5), "champions");
        assert_eq!(segment(1, 5, 5), "cannot_lose");
        assert_eq!(segment(1, 1, 5), "lost");
        assert_eq!(segment(5, 1, 5), "new_customers");
        assert_eq!(segment(10, 10, 10), "champions");
        assert_eq!(segment(1, 1, 10), "lost");
        assert_eq!(segment(3, 3, 5), "need_attention");
        assert_eq!(segment(1, 1, 1), "need_attention");
    }
}
