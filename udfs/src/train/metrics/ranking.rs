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
