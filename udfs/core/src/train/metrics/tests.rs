//! Expected values: scikit-learn 1.9.1 on the same vectors, unless a comment says otherwise.

use super::*;

const LABELS: [u32; 12] = [1, 0, 1, 1, 0, 0, 1, 0, 0, 1, 0, 0];
const SCORES: [f64; 12] = [0.9, 0.8, 0.7, 0.7, 0.55, 0.5, 0.5, 0.4, 0.3, 0.3, 0.2, 0.05];
const LABELS_3: [u32; 6] = [0, 1, 2, 2, 1, 0];
const PROBABILITIES_3: [f64; 18] = [0.7, 0.2, 0.1, 0.3, 0.4, 0.3, 0.2, 0.2, 0.6, 0.5, 0.3, 0.2, 0.1, 0.8, 0.1, 0.3, 0.4, 0.3];

fn positive() -> Vec<bool> {
    LABELS.iter().map(|label| *label == 1).collect()
}

fn probabilities() -> Vec<f64> {
    SCORES.iter().flat_map(|p| [1.0 - p, *p]).collect()
}

fn check(got: f64, expected: f64) {
    assert!((got - expected).abs() < 1e-12, "{got} instead of {expected}");
}

#[test]
fn two_classes() {
    check(roc_auc(&positive(), &SCORES), 0.742_857_142_857_142_9);
    check(pr_auc(&positive(), &SCORES), 0.714_285_714_285_714_2);
    check(log_loss(&LABELS, &probabilities(), 2), 0.579_905_049_253_289_5);
    check(brier(&LABELS, &probabilities(), 2), 0.201_25);
    let predictions = most_likely(&probabilities(), 2);
    check(accuracy(&LABELS, &predictions), 2.0 / 3.0);
    let found = confusion(&LABELS, &predictions, 2);
    check(found.precision(1), 0.6);
    check(found.recall(1), 0.6);
    check(found.f1(1), 0.6);
    check(found.macro_mean(Confusion::f1), 0.657_142_857_142_857_1);
}

#[test]
fn three_classes() {
    check(log_loss(&LABELS_3, &PROBABILITIES_3, 3), 0.803_390_927_942_187_4);
    check(brier(&LABELS_3, &PROBABILITIES_3, 3), 0.45);
    let predictions = most_likely(&PROBABILITIES_3, 3);
    let found = confusion(&LABELS_3, &predictions, 3);
    assert_eq!(found.counts, [1, 1, 0, 0, 2, 0, 1, 0, 1]);
    check(found.macro_mean(Confusion::precision), 0.722_222_222_222_222_2);
    check(found.macro_mean(Confusion::recall), 0.666_666_666_666_666_6);
    check(found.macro_mean(Confusion::f1), 0.655_555_555_555_555_6);
    check(recall_at_k(&LABELS_3, &PROBABILITIES_3, 3, 2), 2.0 / 3.0);
    // By hand: four truths on top, one below the second place, one tie that counts against the model.
    check(ndcg_at_k(&LABELS_3, &PROBABILITIES_3, 3, 2), 4.0 / 6.0);
    check(ndcg_at_k(&LABELS_3, &PROBABILITIES_3, 3, 3), (4.0 + 2.0 * 0.5) / 6.0);
}

#[test]
fn curves_have_a_point_per_distinct_score() {
    let roc = roc_curve(&positive(), &SCORES);
    let expected = [(0.0, 0.0), (0.0, 0.2), (1.0, 0.2), (1.0, 0.6), (2.0, 0.6), (3.0, 0.8), (4.0, 0.8), (5.0, 1.0), (6.0, 1.0), (7.0, 1.0)];
    assert_eq!(roc.len(), expected.len());
    for (point, (misses, hits)) in roc.iter().zip(expected) {
        check(point.x, misses / 7.0);
        check(point.y, hits);
    }
    assert_eq!((roc[0].threshold, roc[3].threshold), (f64::INFINITY, 0.7));
    let pr = pr_curve(&positive(), &SCORES);
    assert_eq!((pr[0].x, pr[0].y), (0.0, 1.0));
    check(pr[3].x, 0.6);
    check(pr[3].y, 0.75);
}

/// By hand.
#[test]
fn calibration_and_lift() {
    let bins = calibration_bins(&positive(), &SCORES, 5);
    assert_eq!(bins.iter().map(|bin| bin.count).collect::<Vec<_>>(), [1, 3, 4, 2, 2]);
    check(bins[2].mean_probability, (0.55 + 0.5 + 0.5 + 0.4) / 4.0);
    check(bins[2].observed, 0.25);
    let expected: f64 = bins.iter().map(|bin| bin.count as f64 / 12.0 * (bin.mean_probability - bin.observed).abs()).sum();
    check(ece(&LABELS, &probabilities(), 2, 5), expected);
    let lift = lift_table(&positive(), &SCORES, 4);
    assert_eq!(lift.iter().map(|bucket| bucket.count).collect::<Vec<_>>(), [3, 3, 3, 3]);
    check(lift[0].lift, (2.0 / 3.0) / (5.0 / 12.0));
    check(lift[1].cumulative_recall, 0.6);
    check(lift[3].cumulative_lift, 1.0);
    check(lift[0].threshold, 0.7);
}

#[test]
fn numbers() {
    let (truth, predictions) = ([3.0, -0.5, 2.0, 7.0], [2.5, 0.0, 2.0, 8.0]);
    check(mae(&truth, &predictions), 0.5);
    check(rmse(&truth, &predictions), 0.612_372_435_695_794_5);
    check(r2(&truth, &predictions), 0.948_608_137_044_967_9);
}

#[test]
fn a_model_that_says_the_prior_reaches_every_baseline() {
    let prior = [0.6, 0.4];
    let constant: Vec<f64> = LABELS.iter().flat_map(|_| prior).collect();
    for row in evaluate_classes(&LABELS, &constant, &prior) {
        if !["precision", "recall", "f1"].contains(&row.metric.as_str()) {
            check(row.value, if row.metric == "pr_auc" && row.class == Some(0) { 7.0 / 12.0 } else { row.baseline });
        }
        assert_eq!(row.n, 12);
    }
    for row in evaluate_values(&[1.0, 2.0, 6.0], &[3.0; 3], [3.0, 3.0]) {
        check(row.value, row.baseline);
    }
    let (metric, value, baseline) = headline_classes(&LABELS, &probabilities(), &prior);
    assert_eq!(metric, Metric::PrAuc);
    check(value, 0.714_285_714_285_714_2);
    check(baseline, 5.0 / 12.0);
    assert_eq!(headline_classes(&LABELS_3, &PROBABILITIES_3, &[1.0 / 3.0; 3]).0, Metric::LogLoss);
}

#[test]
fn nothing_to_measure_is_nan_and_never_a_panic() {
    assert!(roc_auc(&[], &[]).is_nan() && roc_auc(&[true, true], &[0.1, 0.2]).is_nan());
    assert!(pr_auc(&[false], &[0.5]).is_nan() && accuracy(&[], &[]).is_nan() && rmse(&[], &[]).is_nan());
    assert!(roc_curve(&[], &[]).is_empty() && pr_curve(&[], &[]).is_empty() && lift_table(&[], &[], 10).is_empty());
    assert!(evaluate_classes(&[], &[], &[0.5, 0.5]).is_empty() && evaluate_values(&[], &[], [0.0; 2]).is_empty());
}

/// Expected values by hand: ranks 0, 2, 12 and an item that the catalogue does not hold.
#[test]
fn a_ranking_of_items() {
    use super::ranking::{constant_ranks, rank_among};
    let ranking = Ranking(vec![Some(0), Some(2), Some(12), None]);
    check(ranking.recall_at(10), 0.5);
    check(ranking.recall_at(20), 0.75);
    check(ranking.ndcg_at(10), (1.0 + 0.5) / 4.0);
    check(ranking.reciprocal_rank(), (1.0 + 1.0 / 3.0 + 1.0 / 13.0) / 4.0);
    assert!(Ranking::default().recall_at(10).is_nan());
    let rows = evaluate_ranking(&ranking, &Ranking(vec![Some(1); 4]));
    let row = |name: &str| rows.iter().find(|row| row.metric == name).unwrap();
    check(row("mrr").baseline, 0.5);
    check(row("recall@20").value, 0.75);
    assert_eq!(row("ndcg@20").n, 4);
    // Ties are broken against the model, and what is no number as well; classes that are no items do not count.
    let scores = [0.5, 0.5, f32::NAN, 0.1, 9.0];
    let items = [true, true, true, true, false];
    assert_eq!(rank_among(&scores, 0, &items), 2);
    assert_eq!(rank_among(&scores, 3, &items), 3);
    assert_eq!(rank_among(&[f32::NAN; 3], 1, &[true; 3]), 2);
    assert_eq!(constant_ranks(&[0.5, 0.5, 0.2, 0.9], &[true, true, true, false]), [1, 1, 2, 0]);
}
