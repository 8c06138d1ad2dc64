//! Every measure of a model on some rows, each beside what the training prior alone reaches on the same rows.

use super::Metric;
use super::classification::{accuracy, brier, confusion, ece, log_loss, most_likely};
use super::curves::{pr_auc, roc_auc};
use super::ranking::{Ranking, ndcg_at_k, recall_at_k};
use super::regression::{mae, r2, rmse};

/// Intervals of the expected calibration error.
pub const ECE_BINS: usize = 10;
/// Cut-offs of the ranking measures.
const CUTOFFS: [usize; 3] = [1, 5, 10];

/// One measure.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricRow {
    /// Its name.
    pub metric: String,
    /// The class it is about; `None` = all.
    pub class: Option<usize>,
    /// Its value.
    pub value: f64,
    /// What a model that knows only the training prior reaches on the same rows.
    pub baseline: f64,
    /// Rows measured.
    pub n: u64,
}

/// What a model without knowledge answers: the class shares of its training rows for every row.
fn prior_probabilities(prior: &[f64], rows: usize) -> Vec<f64> {
    (0..rows).flat_map(|_| prior.iter().copied()).collect()
}

/// The headline metric of a classification and its baseline, both on these rows.
pub fn headline_classes(labels: &[u32], probabilities: &[f64], prior: &[f64]) -> (Metric, f64, f64) {
    let classes = prior.len();
    if classes == 2 {
        let positive: Vec<bool> = labels.iter().map(|label| *label == 1).collect();
        let scores: Vec<f64> = probabilities.chunks_exact(2).map(|row| row[1]).collect();
        let prevalence = positive.iter().filter(|positive| **positive).count() as f64 / labels.len() as f64;
        return (Metric::PrAuc, pr_auc(&positive, &scores), prevalence);
    }
    let baseline = log_loss(labels, &prior_probabilities(prior, labels.len()), classes);
    (Metric::LogLoss, log_loss(labels, probabilities, classes), baseline)
}

/// The headline metric of a regression and its baseline (the training mean), both on these rows.
pub fn headline_values(truth: &[f64], predictions: &[f64], training_mean: f64) -> (Metric, f64, f64) {
    (Metric::Rmse, rmse(truth, predictions), rmse(truth, &vec![training_mean; truth.len()]))
}

/// Every measure of `probabilities [rows, classes]`. `prior` are the class shares of the training rows.
pub fn evaluate_classes(labels: &[u32], probabilities: &[f64], prior: &[f64]) -> Vec<MetricRow> {
    let (classes, n) = (prior.len(), labels.len() as u64);
    if n == 0 || classes == 0 {
        return Vec::new();
    }
    let predictions = most_likely(probabilities, classes);
    let constant = prior_probabilities(prior, labels.len());
    let guesses = most_likely(&constant, classes);
    let mut rows = Vec::new();
    let mut add = |metric: &str, class, value, baseline| rows.push(MetricRow { metric: metric.to_owned(), class, value, baseline, n });
    add("accuracy", None, accuracy(labels, &predictions), accuracy(labels, &guesses));
    let found = confusion(labels, &predictions, classes);
    // Guessing each class as often as it occurs in training: right as often as it occurs here.
    let guessed = |class: usize| {
        let (precision, recall) = (found.support(class) as f64 / n as f64, prior[class]);
        let f1 = if precision + recall > 0.0 { 2.0 * precision * recall / (precision + recall) } else { 0.0 };
        [precision, recall, f1]
    };
    let mean = |at: usize| (0..classes).map(|class| guessed(class)[at]).sum::<f64>() / classes as f64;
    add("precision", None, found.macro_mean(super::Confusion::precision), mean(0));
    add("recall", None, found.macro_mean(super::Confusion::recall), mean(1));
    add("f1", None, found.macro_mean(super::Confusion::f1), mean(2));
    add("log_loss", None, log_loss(labels, probabilities, classes), log_loss(labels, &constant, classes));
    add("brier", None, brier(labels, probabilities, classes), brier(labels, &constant, classes));
    add("ece", None, ece(labels, probabilities, classes, ECE_BINS), ece(labels, &constant, classes, ECE_BINS));
    for k in CUTOFFS.into_iter().filter(|k| classes > 2 && *k < classes) {
        let ranked = |probabilities: &[f64]| (recall_at_k(labels, probabilities, classes, k), ndcg_at_k(labels, probabilities, classes, k));
        let (own, base) = (ranked(probabilities), ranked(&constant));
        add(&format!("recall@{k}"), None, own.0, base.0);
        add(&format!("ndcg@{k}"), None, own.1, base.1);
    }
    for class in 0..classes {
        let positive: Vec<bool> = labels.iter().map(|label| *label as usize == class).collect();
        let scores: Vec<f64> = probabilities.chunks_exact(classes).map(|row| row[class]).collect();
        let base = guessed(class);
        add("precision", Some(class), found.precision(class), base[0]);
        add("recall", Some(class), found.recall(class), base[1]);
        add("f1", Some(class), found.f1(class), base[2]);
        add("roc_auc", Some(class), roc_auc(&positive, &scores), 0.5);
        add("pr_auc", Some(class), pr_auc(&positive, &scores), base[0]);
    }
    rows
}

/// Cut-offs of the ranking of items.
const ITEM_CUTOFFS: [usize; 4] = [1, 5, 10, 20];

/// Every measure of a ranking of the whole catalogue, beside that of the items most frequent in training.
pub fn evaluate_ranking(own: &Ranking, popular: &Ranking) -> Vec<MetricRow> {
    let n = own.0.len() as u64;
    if n == 0 {
        return Vec::new();
    }
    let row = |metric: String, value, baseline| MetricRow { metric, class: None, value, baseline, n };
    let recall = ITEM_CUTOFFS.map(|k| row(format!("recall@{k}"), own.recall_at(k), popular.recall_at(k)));
    let ndcg = ITEM_CUTOFFS[1..].iter().map(|k| row(format!("ndcg@{k}"), own.ndcg_at(*k), popular.ndcg_at(*k)));
    let mrr = row("mrr".to_owned(), own.reciprocal_rank(), popular.reciprocal_rank());
    recall.into_iter().chain(ndcg).chain([mrr]).collect()
}

/// Every measure of predicted numbers. `prior` = mean and median of the training values.
pub fn evaluate_values(truth: &[f64], predictions: &[f64], prior: [f64; 2]) -> Vec<MetricRow> {
    let n = truth.len() as u64;
    if n == 0 {
        return Vec::new();
    }
    let constant = |value: f64| vec![value; truth.len()];
    let row = |metric: &str, value, baseline| MetricRow { metric: metric.to_owned(), class: None, value, baseline, n };
    vec![
        row("rmse", rmse(truth, predictions), rmse(truth, &constant(prior[0]))),
        row("mae", mae(truth, predictions), mae(truth, &constant(prior[1]))),
        row("r2", r2(truth, predictions), r2(truth, &constant(prior[0]))),
    ]
}
