//! Folds: rows cut so that each part is once left out, never a user in two of them; and cross-validation on them.
//!
//! Labelled rows that have no order are dealt by class: a fold is learned without and measured on, whatever part it was of.
//! Where time passes (events, `split_time`) training rows stay before those that are measured: a fold is the validation rows
//! of some users, and learned is from the training rows of the others. The test rows are never among them.
//!
//! The encoder is the one of all training rows; `cross_validate` fits that anew in each fold too.

use std::time::Instant;

use super::candidates::{Candidate, Problem, Request, Setup};
use super::{FoldReport, Metric, Part, ensemble, fit};
use crate::error::{Code, Error, Result};
use crate::features::dataset::stratified_folds;
use crate::features::events::UserKey;
use crate::features::inputs::{Labels, Rows};
use crate::kernels::splitmix;

/// Sets the seeds of what is dealt here apart from other uses of the seed.
const FOLDS: u64 = 0xF01D;
const HELD: u64 = 0xF01E;
/// One of so many of a fold's training rows decides when its fit stops.
const HELD_EVERY: usize = 6;

/// Which rows are learned from, decide, and measure.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) train: Vec<u32>,
    pub(super) validation: Vec<u32>,
    pub(super) test: Vec<u32>,
}

impl Parts {
    pub(super) fn of(split: &[Rows]) -> Self {
        let rows = |part: Rows| (0..split.len() as u32).filter(|row| split[*row as usize] == part).collect();
        Self { train: rows(Rows::Train), validation: rows(Rows::Validation), test: rows(Rows::Test) }
    }
}

/// The stretches of `rows` that belong together: all rows of a user, or each row by itself. A user's rows lie side by side.
pub(super) fn units(rows: &[u32], users: &[UserKey]) -> Vec<Vec<u32>> {
    if users.is_empty() {
        return rows.iter().map(|row| vec![*row]).collect();
    }
    rows.chunk_by(|a, b| users[*a as usize] == users[*b as usize]).map(<[u32]>::to_vec).collect()
}

/// `rows` dealt to `folds` parts, no user in two, each with the labels' distribution as far as users allow. Rows ascend.
pub(super) fn deal(rows: &[u32], labels: &Labels, users: &[UserKey], folds: usize, seed: u64) -> Vec<Vec<u32>> {
    let units = units(rows, users);
    let of_units = match labels {
        // A user is as rare as the rarest of its rows: classes after the first are the events one waits for.
        Labels::Class(classes) => {
            Labels::Class(units.iter().map(|rows| rows.iter().map(|row| classes[*row as usize]).max().unwrap_or(0)).collect())
        }
        Labels::Value(values) => Labels::Value(
            units.iter().map(|rows| rows.iter().map(|row| values[*row as usize]).sum::<f32>() / rows.len().max(1) as f32).collect(),
        ),
    };
    let dealt = stratified_folds(&of_units, folds, splitmix::at(seed, FOLDS));
    let collect = |fold: Vec<u32>| {
        let mut rows: Vec<u32> = fold.into_iter().flat_map(|unit| units[unit as usize].iter().copied()).collect();
        rows.sort_unstable();
        rows
    };
    dealt.into_iter().map(collect).collect()
}

/// `rows` without `out`; both ascend.
pub(super) fn without(rows: &[u32], out: &[u32]) -> Vec<u32> {
    rows.iter().copied().filter(|row| out.binary_search(row).is_err()).collect()
}

/// The parts of each fold.
///
/// # Errors
/// `InvalidParameter` when there are fewer rows, or users, than folds.
pub(super) fn cut(parts: &Parts, labels: &Labels, users: &[UserKey], in_time: bool, folds: usize, seed: u64) -> Result<Vec<Parts>> {
    let cuts = if in_time { cut_in_time(parts, labels, users, folds, seed) } else { cut_at_random(parts, labels, folds, seed) };
    if cuts.iter().any(|cut| cut.train.is_empty() || cut.test.is_empty()) {
        return Err(Error::invalid(format!("too little data for {folds} folds")).hint("Ask for fewer folds."));
    }
    Ok(cuts)
}

fn cut_at_random(parts: &Parts, labels: &Labels, folds: usize, seed: u64) -> Vec<Parts> {
    let mut rows = [parts.train.as_slice(), &parts.validation].concat();
    rows.sort_unstable();
    let dealt = deal(&rows, labels, &[], folds, seed);
    let one = |(fold, test): (usize, Vec<u32>)| {
        let rest = without(&rows, &test);
        let held = deal(&rest, labels, &[], HELD_EVERY, splitmix::at(seed, HELD + fold as u64)).swap_remove(0);
        Parts { train: without(&rest, &held), validation: held, test }
    };
    dealt.into_iter().enumerate().map(one).collect()
}

fn cut_in_time(parts: &Parts, labels: &Labels, users: &[UserKey], folds: usize, seed: u64) -> Vec<Parts> {
    let deal = |rows: &[u32]| deal(rows, labels, users, folds, seed);
    let tests = deal(&parts.validation);
    // Rows of nobody: each fold learns without a share of the training rows, as it would without a share of the users.
    let unlearned = if users.is_empty() { deal(&parts.train) } else { vec![Vec::new(); folds] };
    let one = |(test, unlearned): (Vec<u32>, Vec<u32>)| {
        let mut left_out: Vec<&UserKey> = test.iter().filter_map(|row| users.get(*row as usize)).collect();
        left_out.sort_unstable();
        let others = |rows: &[u32], out: &[u32]| -> Vec<u32> {
            let is_other = |row: &u32| users.get(*row as usize).is_none_or(|user| left_out.binary_search(&user).is_err());
            without(rows, out).into_iter().filter(is_other).collect()
        };
        Parts { train: others(&parts.train, &unlearned), validation: others(&parts.validation, &test), test }
    };
    tests.into_iter().zip(unlearned).map(one).collect()
}

/// What cross-validation found.
#[derive(Debug, Default)]
pub(super) struct Validated {
    pub(super) folds: Vec<FoldReport>,
    pub(super) notes: Vec<String>,
}

/// Fits the recipe once per fold and measures it on the rows it has not seen.
///
/// # Errors
/// `Cancelled`; `InvalidParameter` when there is too little data.
pub(super) fn cross_validate(
    request: &Request<'_>,
    problem: &Problem<'_>,
    recipe: &ensemble::Recipe,
    folds: usize,
    deadline: Option<Instant>,
) -> Result<Validated> {
    let (rows, options) = (request.rows, &recipe.options);
    let in_time = !rows.users.is_empty() || options.split_time.is_some();
    let cuts = cut(&problem.parts(), rows.labels, rows.users, in_time, folds, options.seed)?;
    let mut validated = Validated::default();
    for (at, parts) in cuts.into_iter().enumerate() {
        let deadline = fit::share_of_budget(deadline, folds - at);
        let counts = [parts.train.len(), parts.validation.len(), parts.test.len()];
        let fold = Problem::of(request, parts)?;
        let candidate = match one_fold(request, &fold, recipe, at, folds, deadline) {
            Err(error) if error.code == Code::Cancelled && options.keep_partial && at > 0 => {
                validated.notes.push(format!("cancelled after {at} of {folds} folds"));
                break;
            }
            other => other?,
        };
        validated.folds.push(FoldReport {
            fold: at + 1,
            train_rows: counts[0],
            valid_rows: counts[1],
            test_rows: counts[2],
            value: candidate.test,
            baseline: fold.baseline(),
            epochs_run: candidate.fitted.epochs_run,
            seconds: candidate.fitted.seconds,
        });
    }
    validated.notes.push(summary(problem.metric, &validated.folds));
    if options.select_k.is_some() {
        validated.notes.push("select_k chose its features once, on all training rows; cross_validate chooses them in each fold".to_owned());
    }
    Ok(validated)
}

fn one_fold(
    request: &Request<'_>,
    fold: &Problem<'_>,
    recipe: &ensemble::Recipe,
    at: usize,
    folds: usize,
    deadline: Option<Instant>,
) -> Result<Candidate> {
    let label = format!("fold-{:02}-", at + 1);
    let part = Part::Fold { at: at + 1, of: folds };
    if recipe.ensemble.is_some() {
        return ensemble::build(request, fold, recipe, &ensemble::Place { label, part: Some(part), deadline }).map(|built| built.candidate);
    }
    let label = format!("{label}{}", recipe.architecture);
    fold.candidate(request, Setup { architecture: recipe.architecture, options: &recipe.options, label: &label, part, deadline })
}

/// Mean and standard deviation (of a sample) of what is a number.
pub(super) fn mean_and_deviation(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let values = values.filter(|value| value.is_finite());
    let count = values.clone().count() as f64;
    let mean = values.clone().sum::<f64>() / count;
    let squares: f64 = values.map(|value| (value - mean).powi(2)).sum();
    (mean, if count > 1.0 { (squares / (count - 1.0)).sqrt() } else { f64::NAN })
}

fn summary(metric: Metric, folds: &[FoldReport]) -> String {
    let (mean, deviation) = mean_and_deviation(folds.iter().map(|fold| fold.value));
    let each: Vec<String> = folds.iter().map(|fold| format!("{:.3}", fold.value)).collect();
    let mut text = format!("{} folds: {metric} mean {mean:.3}, standard deviation {deviation:.3} ({})", folds.len(), each.join(", "));
    let unmeasured = folds.iter().filter(|fold| !fold.value.is_finite()).count();
    if unmeasured > 0 {
        text.push_str(&format!("; {unmeasured} folds have only one class and are not in the mean"));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn mean_and_deviation_of_numbers() {
        let (mean, deviation) = mean_and_deviation([2.0, 4.0, f64::NAN, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0].into_iter());
        assert!((mean - 5.0).abs() < 1e-12 && (deviation - (32.0f64 / 7.0).sqrt()).abs() < 1e-12, "{mean} {deviation}");
        assert!(mean_and_deviation([1.0].into_iter()).1.is_nan());
    }

    #[test]
    fn random_folds_cover_all_but_the_test_rows_once() {
        let labels = Labels::Class((0..600).map(|row| u32::from(row % 6 == 0)).collect());
        let Labels::Class(classes) = &labels else { unreachable!() };
        let parts = Parts { train: (0..420).collect(), validation: (420..510).collect(), test: (510..600).collect() };
        let cuts = cut(&parts, &labels, &[], false, 5, 42).unwrap();
        let mut tested: Vec<u32> = cuts.iter().flat_map(|cut| cut.test.clone()).collect();
        tested.sort_unstable();
        assert_eq!(tested, (0..510).collect::<Vec<_>>());
        for cut in &cuts {
            let mut all = [cut.train.as_slice(), &cut.validation, &cut.test].concat();
            all.sort_unstable();
            assert_eq!(all, (0..510).collect::<Vec<_>>());
            assert!((66..=70).contains(&cut.validation.len()), "{}", cut.validation.len());
            for rows in [&cut.validation, &cut.test] {
                let share = rows.iter().filter(|row| classes[**row as usize] == 1).count() as f64 / rows.len() as f64;
                assert!((share - 1.0 / 6.0).abs() < 0.02, "{share}");
            }
        }
    }

    #[test]
    fn folds_of_events_keep_users_apart_and_time_in_order() {
        // 60 users with ten rows each: seven train, two validate, one tests, in the order of time.
        let users: Vec<UserKey> = (0..600).map(|row| UserKey::Int64(row / 10)).collect();
        let labels = Labels::Class((0..600).map(|row| u32::from(row / 10 % 3 == 0)).collect());
        let split: Vec<Rows> = (0..600)
            .map(|row| match row % 10 {
                0..=6 => Rows::Train,
                7 | 8 => Rows::Validation,
                _ => Rows::Test,
            })
            .collect();
        let cuts = cut(&Parts::of(&split), &labels, &users, true, 4, 42).unwrap();
        let of = |rows: &[u32]| rows.iter().map(|row| users[*row as usize].clone()).collect::<BTreeSet<_>>();
        let mut tested = Vec::new();
        for cut in &cuts {
            assert!(cut.test.iter().chain(&cut.validation).all(|row| split[*row as usize] == Rows::Validation));
            assert!(cut.train.iter().all(|row| split[*row as usize] == Rows::Train));
            let (test, train, validation) = (of(&cut.test), of(&cut.train), of(&cut.validation));
            assert!(test.is_disjoint(&train) && test.is_disjoint(&validation));
            assert_eq!(train, validation);
            assert_eq!(test.len() + train.len(), 60);
            // A third of the users are of class 1.
            let rare = test.iter().filter(|user| matches!(user, UserKey::Int64(user) if user % 3 == 0)).count();
            assert_eq!(rare, 5);
            tested.extend(cut.test.iter().copied());
        }
        tested.sort_unstable();
        assert_eq!(tested, Parts::of(&split).validation);
    }

    #[test]
    fn more_folds_than_rows_are_refused() {
        let parts = Parts { train: (0..3).collect(), validation: vec![3], test: vec![] };
        let labels = Labels::Class(vec![0, 1, 0, 1]);
        assert_eq!(cut(&parts, &labels, &[], false, 9, 1).unwrap_err().code, Code::InvalidParameter);
        assert_eq!(cut(&parts, &labels, &[], true, 2, 1).unwrap_err().code, Code::InvalidParameter);
    }
}
