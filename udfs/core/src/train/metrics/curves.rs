//! Measures of a score that ranks rows: curves, areas, calibration and lift.

/// A point of a ROC or precision-recall curve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CurvePoint {
    /// Rows with at least this score count as positive; infinite at the start of a curve.
    pub threshold: f64,
    /// ROC: false positive rate. Precision-recall: recall.
    pub x: f64,
    /// ROC: true positive rate. Precision-recall: precision.
    pub y: f64,
}

/// Counts of positives and negatives at or above each distinct score, highest first.
fn steps(positive: &[bool], scores: &[f64]) -> Vec<(f64, u64, u64)> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    let mut steps: Vec<(f64, u64, u64)> = Vec::new();
    let (mut hits, mut misses) = (0, 0);
    for (at, &row) in order.iter().enumerate() {
        if positive[row] {
            hits += 1;
        } else {
            misses += 1;
        }
        if order.get(at + 1).is_none_or(|next| scores[*next] != scores[row]) {
            steps.push((scores[row], hits, misses));
        }
    }
    steps
}

/// Area under the ROC curve: the chance that a positive row scores above a negative one, ties counting half.
/// NaN without rows of both kinds.
pub fn roc_auc(positive: &[bool], scores: &[f64]) -> f64 {
    let steps = steps(positive, scores);
    let Some(&(_, positives, negatives)) = steps.last() else { return f64::NAN };
    let (mut area, mut before) = (0.0, (0, 0));
    for (_, hits, misses) in steps {
        area += (misses - before.1) as f64 * (hits + before.0) as f64 / 2.0;
        before = (hits, misses);
    }
    area / (positives as f64 * negatives as f64)
}

/// Average precision, `Σ (Rₙ − Rₙ₋₁) Pₙ` (no interpolation). NaN without positive rows.
pub fn pr_auc(positive: &[bool], scores: &[f64]) -> f64 {
    let steps = steps(positive, scores);
    let positives = steps.last().map_or(0, |last| last.1);
    let (mut area, mut before) = (0.0, 0);
    for (_, hits, misses) in steps {
        area += (hits - before) as f64 * hits as f64 / (hits + misses) as f64;
        before = hits;
    }
    if positives == 0 { f64::NAN } else { area / positives as f64 }
}

/// The ROC curve from (0, 0) to (1, 1), one point per distinct score.
pub fn roc_curve(positive: &[bool], scores: &[f64]) -> Vec<CurvePoint> {
    let steps = steps(positive, scores);
    let Some(&(_, positives, negatives)) = steps.last() else { return Vec::new() };
    let share = |part: u64, whole: u64| if whole == 0 { f64::NAN } else { part as f64 / whole as f64 };
    let start = CurvePoint { threshold: f64::INFINITY, x: 0.0, y: 0.0 };
    let point = |(threshold, hits, misses)| CurvePoint { threshold, x: share(misses, negatives), y: share(hits, positives) };
    std::iter::once(start).chain(steps.into_iter().map(point)).collect()
}

/// The precision-recall curve, from recall 0 (precision 1 by convention) upwards, one point per distinct score.
pub fn pr_curve(positive: &[bool], scores: &[f64]) -> Vec<CurvePoint> {
    let steps = steps(positive, scores);
    let Some(&(_, positives, _)) = steps.last() else { return Vec::new() };
    let start = CurvePoint { threshold: f64::INFINITY, x: 0.0, y: 1.0 };
    let point = |(threshold, hits, misses): (f64, u64, u64)| CurvePoint {
        threshold,
        x: if positives == 0 { f64::NAN } else { hits as f64 / positives as f64 },
        y: hits as f64 / (hits + misses) as f64,
    };
    std::iter::once(start).chain(steps.into_iter().map(point)).collect()
}

/// One interval of promised probabilities.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CalibrationBin {
    /// Lower end, inclusive.
    pub low: f64,
    /// Upper end, exclusive except for the last.
    pub high: f64,
    /// Rows in it.
    pub count: u64,
    /// Mean probability promised; NaN when empty.
    pub mean_probability: f64,
    /// Share of rows that came true; NaN when empty.
    pub observed: f64,
}

/// A reliability diagram of `bins` equal intervals.
pub fn calibration_bins(positive: &[bool], scores: &[f64], bins: usize) -> Vec<CalibrationBin> {
    let (mut counts, mut promised, mut hits) = (vec![0u64; bins], vec![0.0; bins], vec![0u64; bins]);
    for (positive, score) in positive.iter().zip(scores) {
        let bin = ((score * bins as f64) as usize).min(bins.saturating_sub(1));
        counts[bin] += 1;
        promised[bin] += score;
        hits[bin] += u64::from(*positive);
    }
    let bin = |at: usize| CalibrationBin {
        low: at as f64 / bins as f64,
        high: (at + 1) as f64 / bins as f64,
        count: counts[at],
        mean_probability: promised[at] / counts[at] as f64,
        observed: hits[at] as f64 / counts[at] as f64,
    };
    (0..bins).map(bin).collect()
}

/// One bucket of rows ranked by score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LiftBucket {
    /// From 1, the highest scores.
    pub bucket: usize,
    /// Rows in it.
    pub count: u64,
    /// Positive rows in it.
    pub positives: u64,
    /// Smallest score in it.
    pub threshold: f64,
    /// Its share of positives over the share of all rows.
    pub lift: f64,
    /// Share of all positives in this and the buckets before.
    pub cumulative_recall: f64,
    /// Share of positives in this and the buckets before, over that of all rows.
    pub cumulative_lift: f64,
}

/// Ranks rows by score (equal ones in their order) and cuts them into `buckets` of nearly equal size.
pub fn lift_table(positive: &[bool], scores: &[f64], buckets: usize) -> Vec<LiftBucket> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    let total = positive.iter().filter(|positive| **positive).count() as f64;
    let rate = total / scores.len() as f64;
    let mut found = 0u64;
    let mut table = Vec::new();
    for bucket in 0..buckets {
        let (start, end) = (bucket * order.len() / buckets, (bucket + 1) * order.len() / buckets);
        let rows = &order[start..end];
        let Some(last) = rows.last() else { continue };
        let positives = rows.iter().filter(|row| positive[**row]).count() as u64;
        found += positives;
        table.push(LiftBucket {
            bucket: bucket + 1,
            count: rows.len() as u64,
            positives,
            threshold: scores[*last],
            lift: positives as f64 / rows.len() as f64 / rate,
            cumulative_recall: found as f64 / total,
            cumulative_lift: found as f64 / end as f64 / rate,
        });
    }
    table
}
