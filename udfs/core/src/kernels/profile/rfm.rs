//! Recency, frequency and money in bins with stored bounds.
//!
//! The tie rule: a bound is a value, and equal values have equal scores, whatever the size of the bins; nothing is split by the
//! order of rows as `ntile` does. Scores of new users come from the same bounds, so they do not move when others come.

/// The `bins − 1` inner bounds of `values`, which it reorders: bound i is the ⌈n · i / bins⌉-th smallest value. Empty without
/// values. Each is selected among those above the one before: O(n) for a few bins.
pub fn bounds(values: &mut [f64], bins: usize) -> Vec<f64> {
    let n = values.len();
    let (mut found, mut from) = (Vec::with_capacity(bins), 0);
    for at in (1..bins).filter_map(|bin| (n * bin).div_ceil(bins).checked_sub(1)) {
        // Few values and many bins: the bound before is this one too.
        if at < from {
            let before = found.last().copied();
            found.extend(before);
            continue;
        }
        found.push(*values[from..].select_nth_unstable_by(at - from, f64::total_cmp).1);
        from = at + 1;
    }
    found
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
        let values = vec![1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 2.0, 3.0, 4.0, 5.0];
        let found = bounds(&mut values.clone(), 5);
        assert_eq!(found, [1.0, 1.0, 1.0, 3.0]);
        assert_eq!(values.iter().map(|value| score(*value, &found)).collect::<Vec<_>>(), [1, 1, 1, 1, 1, 1, 4, 4, 5, 5]);
        let ten: Vec<f64> = (1..=10).map(f64::from).collect();
        let found = bounds(&mut ten.clone(), 5);
        assert_eq!(ten.iter().map(|value| score(*value, &found)).collect::<Vec<_>>(), [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]);
        assert!(bounds(&mut [], 5).is_empty());
        assert_eq!(score(7.0, &[]), 1);
        assert_eq!((score(-100.0, &found), score(100.0, &found)), (1, 5));
    }

    #[test]
    fn bounds_are_those_of_sorted_values() {
        for seed in 0..2_000_u64 {
            let count = crate::kernels::splitmix::at(seed, 0) % 60;
            let values: Vec<f64> = (0..count).map(|i| (crate::kernels::splitmix::at(seed, i + 1) % 25) as f64).collect();
            let bins = 1 + (seed % 70) as usize;
            let mut sorted = values.clone();
            sorted.sort_by(f64::total_cmp);
            let at = |bin: usize| (values.len() * bin).div_ceil(bins).checked_sub(1).map(|at| sorted[at]);
            assert_eq!(bounds(&mut values.clone(), bins), (1..bins).filter_map(at).collect::<Vec<_>>(), "seed {seed}");
        }
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
