//! Measures of a ranking of many classes: is the truth among the first `k`, and how far up?

/// How many classes rank above the truth. Ties are broken against the model (each equal class counts as above), so
/// that a model which says the same of everything gains nothing.
fn rank(row: &[f64], label: usize) -> usize {
    row.iter().enumerate().filter(|(class, probability)| *class != label && **probability >= row[label]).count()
}

/// Share of rows whose truth is among the `k` most probable classes (hit rate); NaN without rows.
pub fn recall_at_k(labels: &[u32], probabilities: &[f64], classes: usize, k: usize) -> f64 {
    let hit = |(label, row): (&u32, &[f64])| rank(row, *label as usize) < k;
    let hits = labels.iter().zip(probabilities.chunks_exact(classes)).filter(|pair| hit((pair.0, pair.1))).count();
    hits as f64 / labels.len() as f64
}

/// Mean of `1 / log₂(2 + rank)` over the rows whose truth is among the first `k` (one relevant class per row); NaN
/// without rows.
pub fn ndcg_at_k(labels: &[u32], probabilities: &[f64], classes: usize, k: usize) -> f64 {
    let gain = |(label, row): (&u32, &[f64])| {
        let rank = rank(row, *label as usize);
        if rank < k { 1.0 / (rank as f64 + 2.0).log2() } else { 0.0 }
    };
    labels.iter().zip(probabilities.chunks_exact(classes)).map(gain).sum::<f64>() / labels.len() as f64
}

/// How many other items of `row` score as high as class `label` or higher; only classes of which `is_item` holds are
/// looked at. A score that is not a number stands above all.
pub fn rank_among(row: &[f32], label: usize, is_item: &[bool]) -> u32 {
    let is_below = |score: &f32| score.partial_cmp(&row[label]) == Some(std::cmp::Ordering::Less);
    let above = row.iter().zip(is_item).filter(|(score, item)| **item && !is_below(score)).count();
    // The truth stands beside itself.
    (above - usize::from(is_item[label])) as u32
}

/// [`rank_among`] for every class of a model that says the same of every row.
pub fn constant_ranks(scores: &[f64], is_item: &[bool]) -> Vec<u32> {
    let mut sorted: Vec<f64> = scores.iter().zip(is_item).filter(|(_, item)| **item).map(|(score, _)| *score).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let rank = |score: &f64| (sorted.len() - sorted.partition_point(|other| other < score)) as u32;
    scores.iter().zip(is_item).map(|(score, item)| rank(score) - u32::from(*item)).collect()
}

/// Rows with one relevant item each: how many items stand above it; `None` = the ranking cannot hold it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ranking(pub Vec<Option<u32>>);

impl Ranking {
    fn mean(&self, gain: impl Fn(u32) -> f64) -> f64 {
        self.0.iter().flatten().map(|rank| gain(*rank)).sum::<f64>() / self.0.len() as f64
    }

    /// Share of rows whose item is among the first `k` (hit rate); NaN without rows.
    pub fn recall_at(&self, k: usize) -> f64 {
        self.mean(|rank| if (rank as usize) < k { 1.0 } else { 0.0 })
    }

    /// Mean of `1 / log₂(2 + rank)` over the rows whose item is among the first `k`; NaN without rows.
    pub fn ndcg_at(&self, k: usize) -> f64 {
        self.mean(|rank| if (rank as usize) < k { 1.0 / (f64::from(rank) + 2.0).log2() } else { 0.0 })
    }

    /// Mean of `1 / (1 + rank)` over all rows, with no cut-off; NaN without rows.
    pub fn reciprocal_rank(&self) -> f64 {
        self.mean(|rank| 1.0 / (f64::from(rank) + 1.0))
    }
}
