//! Trainings of several fits: folds, bagging, stacking.

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;

use super::*;
use crate::features::events::UserKey;
use crate::models::ensemble::Combine;
use crate::train::folds;

fn json(text: &str) -> Options {
    let mut options = options();
    options.set_json(text).unwrap();
    options
}

fn bytes(trained: &Trained) -> Vec<u8> {
    trained.parameters.to_safetensors().unwrap()
}

const BAGGING: &str = r#"{"epochs": 4, "ensemble": {"kind": "bagging", "members": 3}}"#;
const STACKING: &str = r#"{"epochs": 4, "ensemble": {"method": "stacking", "architectures": ["logreg", "gru"], "folds": 3}}"#;

/// What scoring does with what a manifest keeps.
fn test_metric(problem: &Problem, trained: &Trained) -> f64 {
    let scorer = Scorer::new(trained.network().unwrap(), trained.calibration.clone());
    let rows: Vec<u32> = (0..ROWS as u32).filter(|row| problem.split[*row as usize] == Rows::Test).collect();
    let scores = scorer.score_rows(&problem.inputs, &rows, None).unwrap();
    match &problem.labels {
        Labels::Class(labels) => {
            let labels: Vec<u32> = rows.iter().map(|row| labels[*row as usize]).collect();
            metrics::headline_classes(&labels, &scores.probabilities, &trained.calibration.prior).1
        }
        Labels::Value(values) => {
            let truth: Vec<f64> = rows.iter().map(|row| f64::from(values[*row as usize])).collect();
            metrics::headline_values(&truth, &scores.values, 0.0).1
        }
    }
}

#[test]
fn a_bag_averages_its_members() {
    let problem = binary();
    let options = json(BAGGING);
    let trained = run(&problem, Some(Architecture::Dnn), &options, 2).unwrap();
    assert_eq!(trained.arch(), "bagging(dnn)");
    let ensemble = trained.ensemble.as_ref().unwrap();
    assert_eq!((ensemble.members.len(), &ensemble.combine), (3, &Combine::Mean));
    assert_eq!(trained.members.len(), 3);
    assert!(
        trained
            .members
            .iter()
            .all(|member| (member.weight - 1.0 / 3.0).abs() < 1e-12 && member.parameters * 3 == trained.parameters.count())
    );
    assert_eq!(test_metric(&problem, &trained), trained.test);
    assert!(trained.test > trained.baseline + 0.2, "{} against {}", trained.test, trained.baseline);
    let note = trained.notes.iter().find(|note| note.starts_with("out-of-bag pr_auc")).unwrap();
    let value: f64 = note.split(' ').nth(2).unwrap().parse().unwrap();
    assert!((value - trained.valid).abs() < 0.15, "{note}, {} on validation", trained.valid);
    // A third of the rows are in no bag of three only once in e³.
    let rows: f64 = note.split(' ').nth(4).unwrap().parse().unwrap();
    assert!((rows / 630.0 - (1.0 - (1.0 - (-1f64).exp()).powi(3))).abs() < 0.05, "{note}");
    // Other starts and other rows.
    assert_ne!(trained.parameters.0["members.0.output.weight"], trained.parameters.0["members.1.output.weight"]);
    assert_eq!(bytes(&trained), bytes(&run(&problem, Some(Architecture::Dnn), &options, 1).unwrap()));
}

#[test]
fn ensembles_are_trained_on_the_cpu() {
    for kind in [BAGGING, STACKING] {
        let options = Options { device: "cuda".into(), ..json(kind) };
        let error = run(&binary(), Some(Architecture::Dnn), &options, 1).unwrap_err();
        assert!(error.code == crate::error::Code::FeatureNotSupported && error.message.contains("ensemble"), "{error:?}");
    }
}

#[test]
fn a_bag_of_whoever_won() {
    let options = json(r#"{"epochs": 2, "tune": {"trials": 2}, "ensemble": {"kind": "bagging", "members": 2}}"#);
    let trained = run(&binary(), Some(Architecture::Logreg), &options, 1).unwrap();
    assert_eq!((trained.trials.len(), trained.members.len()), (2, 2));
    assert_eq!(trained.arch(), "bagging(logreg)");
    let auto = run(&binary(), None, &json(r#"{"epochs": 1, "ensemble": {"kind": "bagging", "members": 2}}"#), 1).unwrap();
    let chosen = auto.candidates.iter().find(|candidate| candidate.chosen).unwrap();
    assert_eq!(auto.candidates.len(), 3);
    assert!(auto.members.iter().all(|member| member.architecture == chosen.architecture));
}

#[test]
fn a_bag_draws_users_and_not_their_rows() {
    let users: Vec<UserKey> = (0..600).map(|row| UserKey::Int64(row / 6)).collect();
    let rows: Vec<u32> = (0..600).collect();
    let units = folds::units(&rows, &users);
    assert_eq!(units.len(), 100);
    let (bag, left) = crate::train::ensemble::bootstrap(&units, Philox::new(1, 1));
    assert_eq!(bag.len(), 600);
    let mut times: BTreeMap<u32, usize> = BTreeMap::new();
    bag.iter().for_each(|row| *times.entry(*row).or_default() += 1);
    for user in &units {
        let own: BTreeSet<usize> = user.iter().map(|row| times.get(row).copied().unwrap_or(0)).collect();
        assert_eq!(own.len(), 1);
    }
    assert!(left.iter().all(|unit| units[*unit].iter().all(|row| !times.contains_key(row))));
    assert!((30..45).contains(&left.len()), "{}", left.len());
}

#[test]
fn a_stack_weighs_its_networks() {
    let problem = binary();
    let options = json(STACKING);
    let trained = run(&problem, None, &options, 2).unwrap();
    assert_eq!(trained.arch(), "stacking(logreg, gru)");
    let Some(Combine::Weighted(weights)) = trained.ensemble.as_ref().map(|ensemble| ensemble.combine.clone()) else { panic!("weights") };
    assert!(weights.iter().all(|weight| *weight >= 0.0) && weights.iter().sum::<f64>() > 0.3, "{weights:?}");
    assert_eq!(trained.members.iter().map(|member| member.weight).collect::<Vec<_>>(), weights);
    assert_eq!(test_metric(&problem, &trained), trained.test);
    assert!(trained.test > trained.baseline + 0.2, "{} against {}", trained.test, trained.baseline);
    assert_eq!(bytes(&trained), bytes(&run(&problem, None, &options, 1).unwrap()));
    assert!(trained.config.shape.sequence.is_some() && trained.config.architecture == Architecture::Gru);
}

#[test]
fn ensembles_of_numbers_and_of_several_classes() {
    let numbers = problem(|signal| Label::Value(signal as f32 * 10.0 + 100.0));
    let three = problem(|signal| Label::Class(if signal < -1.0 { 0 } else { 1 + u32::from(signal > 0.5) }));
    for problem in [&numbers, &three] {
        for (architecture, text) in [(Some(Architecture::Dnn), BAGGING), (None, STACKING)] {
            let trained = run(problem, architecture, &json(text), 1).unwrap();
            assert_eq!(test_metric(problem, &trained), trained.test);
            assert!(trained.test < trained.baseline, "{text}: {} against {}", trained.test, trained.baseline);
            assert!(trained.notes.iter().any(|note| note.contains("together")));
        }
    }
}

#[test]
fn probabilities_of_an_ensemble_are_calibrated() {
    let rare = problem(|signal| Label::Class(u32::from(signal > 1.2)));
    for (architecture, text) in [(Some(Architecture::Logreg), BAGGING), (None, STACKING)] {
        for more in ["{}", r#"{"oversample": "random"}"#] {
            let mut options = json(text);
            options.set_json(r#"{"epochs": 12}"#).unwrap();
            if architecture.is_some() {
                // Steps large enough that the bias of a rare class is reached in so few.
                options.set_json(r#"{"epochs": 25, "learning_rate": 0.05}"#).unwrap();
            }
            options.set_json(more).unwrap();
            let trained = run(&rare, architecture, &options, 1).unwrap();
            let rows: Vec<u32> = (0..ROWS as u32).filter(|row| rare.split[*row as usize] == Rows::Validation).collect();
            let scorer = Scorer::new(trained.network().unwrap(), trained.calibration.clone());
            let scores = scorer.score_rows(&rare.inputs, &rows, None).unwrap();
            let Labels::Class(labels) = &rare.labels else { panic!("classes") };
            let mean = scores.probabilities.iter().skip(1).step_by(2).sum::<f64>() / rows.len() as f64;
            let share = rows.iter().filter(|row| labels[**row as usize] == 1).count() as f64 / rows.len() as f64;
            assert!((mean - share).abs() < 0.02, "{text} {more}: {mean} instead of {share}");
        }
    }
}

#[test]
fn folds_are_measured_and_the_model_stays_the_same() {
    let problem = binary();
    let plain = run(&problem, Some(Architecture::Logreg), &json(r#"{"epochs": 6}"#), 1).unwrap();
    let folded = run(&problem, Some(Architecture::Logreg), &json(r#"{"epochs": 6, "folds": 4}"#), 1).unwrap();
    assert_eq!(bytes(&plain), bytes(&folded));
    assert_eq!((plain.folds.len(), folded.folds.len()), (0, 4));
    assert_eq!(folded.folds.iter().map(|fold| fold.test_rows).sum::<usize>(), 720);
    assert!(folded.folds.iter().all(|fold| fold.value > fold.baseline && fold.train_rows + fold.valid_rows + fold.test_rows == 720));
    let (mean, deviation) = folds::mean_and_deviation(folded.folds.iter().map(|fold| fold.value));
    let expected = format!("4 folds: pr_auc mean {mean:.3}, standard deviation {deviation:.3} (");
    assert!(folded.notes.iter().any(|note| note.starts_with(&expected)), "{:?}", folded.notes);
    let bagged = json(r#"{"epochs": 2, "folds": 2, "ensemble": {"kind": "bagging", "members": 2}}"#);
    let bagged = run(&problem, Some(Architecture::Logreg), &bagged, 1).unwrap();
    assert_eq!((bagged.folds.len(), bagged.members.len()), (2, 2));
}

#[test]
fn no_row_that_validates_or_tests_is_shown_more_often() {
    let rare = problem(|signal| Label::Class(u32::from(signal > 1.2)));
    let cancel = CancellationToken::new();
    for how in ["random", "smote"] {
        let options = json(&format!(r#"{{"oversample": "{how}", "folds": 5}}"#));
        let request = request(&rare, &options, &cancel, &|_| {});
        let cuts = folds::cut(&folds::Parts::of(&rare.split), &rare.labels, &[], false, 5, options.seed).unwrap();
        for parts in cuts {
            let problem = crate::train::candidates::Problem::of(&request, parts.clone()).unwrap();
            let (_, data) = problem.setup(&request, Architecture::Logreg, &options).unwrap();
            assert!(data.train.len() > parts.train.len(), "{how}: nothing was resampled");
            assert_eq!((&data.validation, &data.test), (&parts.validation, &parts.test));
            let own: BTreeSet<u32> = parts.train.iter().copied().collect();
            // Rows behind the dataset's own were made between neighbours of the training part.
            assert!(data.train.iter().all(|row| own.contains(row) || *row as usize >= ROWS), "{how}");
            let numbers = |row: u32| &data.inputs.numeric[row as usize * 2..][..2];
            let of_train: Vec<&[f32]> = parts.train.iter().map(|row| numbers(*row)).collect();
            for made in data.train.iter().filter(|row| **row as usize >= ROWS) {
                let made = numbers(*made);
                let within = |axis: usize| {
                    let values = of_train.iter().map(|row| row[axis]);
                    made[axis] >= values.clone().fold(f32::INFINITY, f32::min) && made[axis] <= values.fold(f32::NEG_INFINITY, f32::max)
                };
                assert!(within(0) && within(1), "{how}");
            }
        }
    }
}

#[derive(Default)]
struct Memory {
    kept: Mutex<BTreeMap<String, Vec<u8>>>,
}

impl CheckpointStore for Memory {
    fn load(&self, label: &str) -> crate::Result<Option<Vec<u8>>> {
        Ok(self.kept.lock().get(label).cloned())
    }

    fn save(&self, label: &str, bytes: Vec<u8>) -> crate::Result<()> {
        self.kept.lock().insert(label.to_owned(), bytes);
        Ok(())
    }
}

#[test]
fn an_ensemble_that_was_killed_goes_on_at_its_member() {
    let problem = binary();
    for (architecture, text) in [(Some(Architecture::Logreg), BAGGING), (None, STACKING)] {
        let mut options = json(text);
        options.set_json(r#"{"epochs": 2, "checkpoint_every": 1, "folds": 2}"#).unwrap();
        let at = |stop: Option<usize>, store: &Memory| {
            let (cancel, seen) = (CancellationToken::new(), Mutex::new(Vec::new()));
            let progress = |progress: Progress| {
                seen.lock().push(progress.part);
                if stop == Some(seen.lock().len()) {
                    cancel.cancel();
                }
            };
            let base = request(&problem, &options, &cancel, &progress);
            let ended = train_rows(Request { architecture, checkpoints: Some(store), ..base });
            (ended, seen.into_inner())
        };
        let (expected, all) = at(None, &Memory::default());
        let expected = expected.unwrap();
        let members: BTreeSet<usize> =
            all.iter().filter_map(|part| if let Part::Member { at, .. } = part { Some(*at) } else { None }).collect();
        let of = if architecture.is_some() { 3 } else { 8 };
        assert_eq!(members, (1..=of).collect(), "{text}");
        for stop in [all.len() / 3, all.len() * 4 / 5] {
            let store = Memory::default();
            assert_eq!(at(Some(stop), &store).0.unwrap_err().code, Code::Cancelled);
            let (resumed, left) = at(None, &store);
            let resumed = resumed.unwrap();
            assert_eq!(bytes(&resumed), bytes(&expected), "{text} stopped at {stop}");
            assert_eq!((resumed.calibration, resumed.ensemble), (expected.calibration.clone(), expected.ensemble.clone()));
            assert!(left.len() <= all.len() - stop + all.len() / 8, "{text}: {} of {} batches again", left.len(), all.len());
        }
    }
}

#[test]
fn a_cancelled_bag_keeps_the_members_it_has() {
    let (problem, cancel) = (binary(), CancellationToken::new());
    let options = Options { keep_partial: true, ..json(BAGGING) };
    let progress = |progress: Progress| {
        if progress.part == (Part::Member { at: 3, of: 3 }) {
            cancel.cancel();
        }
    };
    let trained =
        train_rows(Request { architecture: Some(Architecture::Logreg), ..request(&problem, &options, &cancel, &progress) }).unwrap();
    assert_eq!(trained.members.len(), 2);
    assert!(trained.notes.iter().any(|note| note == "cancelled after 2 of 3 members"), "{:?}", trained.notes);
}
