//! The options of the training loop: each does what it says, and leaves alone what it must.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use super::*;
use crate::features::options::Oversample;
use crate::models;

fn json(text: &str) -> Options {
    let mut options = options();
    options.set_json(text).unwrap();
    options
}

fn trained(problem: &Problem, architecture: Architecture, text: &str) -> Trained {
    run(problem, Some(architecture), &json(text), 1).unwrap()
}

fn bytes(trained: &Trained) -> Vec<u8> {
    trained.parameters.to_safetensors().unwrap()
}

/// Mean probability of each class over the rows of a part, and the classes' shares there.
fn shares(problem: &Problem, trained: &Trained, part: Rows) -> Vec<(f64, f64)> {
    let network = models::load(&trained.config, &trained.parameters).unwrap();
    let rows: Vec<u32> = (0..ROWS as u32).filter(|row| problem.split[*row as usize] == part).collect();
    let scores = Scorer::new(network.into(), trained.calibration.clone()).score_rows(&problem.inputs, &rows, None).unwrap();
    let Labels::Class(labels) = &problem.labels else { panic!("classes") };
    let mean = |class: usize| scores.probabilities.iter().skip(class).step_by(scores.classes).sum::<f64>() / rows.len() as f64;
    let share = |class: usize| rows.iter().filter(|row| labels[**row as usize] as usize == class).count() as f64 / rows.len() as f64;
    (0..scores.classes).map(|class| (mean(class), share(class))).collect()
}

#[test]
fn early_stopping_gives_back_the_best_weights() {
    let problem = binary();
    let long = trained(&problem, Architecture::Dnn, r#"{"epochs": 40, "patience": 4, "learning_rate": 0.02}"#);
    assert!(long.best_epoch < long.epochs_run, "{} of {}", long.best_epoch, long.epochs_run);
    let text = format!(r#"{{"epochs": {}, "learning_rate": 0.02}}"#, long.best_epoch);
    assert_eq!(bytes(&long), bytes(&trained(&problem, Architecture::Dnn, &text)));
}

#[test]
fn probabilities_keep_the_natural_shares_whatever_training_saw() {
    let rare = problem(|signal| Label::Class(u32::from(signal > 1.2)));
    let three = problem(|signal| Label::Class(u32::from(signal > 0.8) + u32::from(signal > 1.8)));
    for options in [
        r#"{"oversample": "random"}"#,
        r#"{"oversample": "smote"}"#,
        r#"{"class_weights": "balanced"}"#,
        r#"{"oversample": "smote", "loss": "focal", "gamma": 2}"#,
    ] {
        for problem in [&rare, &three] {
            let trained = trained(problem, Architecture::Logreg, options);
            for (mean, share) in shares(problem, &trained, Rows::Validation) {
                assert!((mean - share).abs() < 0.02, "{options}: {mean} instead of {share}");
            }
        }
    }
    // Without calibration the rare class would be promised far too often.
    let mut raw = trained(&rare, Architecture::Logreg, r#"{"oversample": "random"}"#);
    raw.calibration.transform = calibration::Transform::Platt { scale: 1.0, offset: 0.0 };
    let (mean, share) = shares(&rare, &raw, Rows::Validation)[1];
    assert!(mean > share + 0.1, "{mean} {share}");
}

#[test]
fn losses_schedules_and_momentum_change_what_is_learned_and_still_learn() {
    let problem = binary();
    let plain = trained(&problem, Architecture::Dnn, "{}");
    for options in [
        r#"{"loss": "focal"}"#,
        r#"{"label_smoothing": 0.1}"#,
        r#"{"schedule": "onecycle"}"#,
        r#"{"schedule": "step", "warmup": 0.1}"#,
        r#"{"clip_norm": 0.1}"#,
        r#"{"optimizer": "sgd", "learning_rate": 0.05, "momentum": 0.8, "nesterov": true}"#,
        r#"{"oversample": "smote"}"#,
    ] {
        let other = trained(&problem, Architecture::Dnn, options);
        assert_ne!(bytes(&plain), bytes(&other), "{options}");
        assert!(other.test > other.baseline + 0.1, "{options}: {} against {}", other.test, other.baseline);
    }
    let numbers = super::problem(|signal| Label::Value(signal as f32));
    let refused = run(&numbers, Some(Architecture::Logreg), &Options { oversample: Oversample::Random, ..options() }, 1);
    assert_eq!(refused.unwrap_err().code, Code::InvalidParameter);
}

#[test]
fn a_search_is_reproducible_and_no_worse_than_no_search() {
    let problem = binary();
    let plain = trained(&problem, Architecture::Logreg, r#"{"epochs": 4}"#);
    let text = r#"{"epochs": 4, "tune": {"trials": 5, "space": {"learning_rate": {"min": 1e-4, "max": 0.1}, "l2": [0, 0.1]}}}"#;
    let first = trained(&problem, Architecture::Logreg, text);
    assert_eq!(bytes(&first), bytes(&trained(&problem, Architecture::Logreg, text)));
    assert!(first.valid >= plain.valid);
    assert_eq!(first.trials.len(), 5);
    assert_eq!(first.trials[0].value, plain.valid);
    let chosen: Vec<&TrialReport> = first.trials.iter().filter(|trial| trial.state == TrialState::Chosen).collect();
    assert_eq!(chosen.len(), 1);
    assert!(first.trials.iter().all(|trial| trial.value <= chosen[0].value));
    assert_eq!((chosen[0].value, chosen[0].epochs), (first.valid, first.epochs_run));
    assert_eq!(first.options.learning_rate, chosen[0].params["learning_rate"].as_f64().or(Some(5e-3)));
    assert!(first.notes.iter().any(|note| note.contains("of 5 won")), "{:?}", first.notes);
}

#[test]
fn halving_trains_the_better_ones_longer() {
    let problem = binary();
    let text = r#"{"epochs": 9, "tune": {"trials": 9, "strategy": "halving", "space": {"learning_rate": {"min": 1e-5, "max": 0.1}}}}"#;
    let first = trained(&problem, Architecture::Logreg, text);
    let count = |rung: usize| first.trials.iter().filter(|trial| trial.rung == rung).count();
    assert_eq!((count(0), count(1), count(2)), (9, 3, 1));
    assert!(first.trials.iter().all(|trial| trial.epochs <= [1, 3, 9][trial.rung]));
    let promoted = |rung: usize| {
        let of = |state| first.trials.iter().filter(move |t| t.rung == rung && t.state == state).map(|t| t.value);
        (of(TrialState::Promoted).fold(1.0, f64::min), of(TrialState::Dropped).fold(0.0, f64::max))
    };
    assert!(promoted(0).0 >= promoted(0).1);
    assert_eq!(bytes(&first), bytes(&run(&problem, Some(Architecture::Logreg), &json(text), 2).unwrap()));
}

#[test]
fn a_search_ends_when_its_time_does_and_survives_bad_settings() {
    let problem = binary();
    let text = r#"{"epochs": 2, "tune": {"trials": 1000, "max_seconds": 0.3}}"#;
    let timed = trained(&problem, Architecture::Logreg, text);
    assert!(timed.trials.len() < 1000 && timed.notes.iter().any(|note| note.contains("max_seconds")), "{:?}", timed.notes);
    let text = r#"{"epochs": 2, "tune": {"trials": 3, "space": {"class_weights": [{"nope": 2.0}]}}}"#;
    assert_eq!(run(&problem, Some(Architecture::Logreg), &json(text), 1).unwrap_err().code, Code::InvalidParameter);
    let cancel = CancellationToken::new();
    let options = json(r#"{"tune": {"trials": 50}}"#);
    let progress = |progress: Progress| {
        if progress.part == (Part::Trial { at: 2, of: 50 }) {
            cancel.cancel();
        }
    };
    let request = Request { architecture: Some(Architecture::Logreg), ..request(&problem, &options, &cancel, &progress) };
    assert_eq!(train_rows(request).unwrap_err().code, Code::Cancelled);
}

#[test]
fn frozen_parameters_stay_and_the_others_move() {
    let problem = binary();
    let first = trained(&problem, Architecture::Gru, "{}");
    let cancel = CancellationToken::new();
    let again = |freeze: &str, classes: &[String]| {
        let options = json(&format!(r#"{{"epochs": 1, "warm_from": "m", "freeze": {freeze}}}"#));
        let init = WarmStart { config: &first.config, parameters: &first.parameters, encoder: None, classes };
        let request = Request { architecture: Some(Architecture::Gru), init: Some(init), ..request(&problem, &options, &cancel, &|_| {}) };
        train_rows(request)
    };
    let frozen = again(r#"["embedding", "gru.weight_hh"]"#, &problem.classes).unwrap();
    for (name, values) in &frozen.parameters.0 {
        let stays = ["tokens.", "categorical.", "gru.weight_hh", "numeric.edges"].iter().any(|prefix| name.starts_with(prefix));
        assert_eq!(*values == first.parameters.0[name], stays, "{name}");
    }
    assert!(frozen.notes.iter().any(|note| note.contains("parameters were copied")), "{:?}", frozen.notes);
    let error = again(r#"["nothing"]"#, &problem.classes).unwrap_err();
    assert!(error.code == Code::InvalidParameter && error.detail.unwrap().contains("gru"));
    // Of other classes nothing is known: the last layer starts anew.
    let other = again("false", &["x".to_owned(), "y".to_owned()]).unwrap();
    let all = first.parameters.0.len();
    assert!(other.notes.iter().any(|note| note.contains(&format!("{} of {all} parameters", all - 2))), "{:?}", other.notes);
}

/// Checkpoints in memory.
#[derive(Default)]
struct Memory {
    kept: Mutex<BTreeMap<String, Vec<u8>>>,
    writes: Mutex<usize>,
}

impl CheckpointStore for Memory {
    fn load(&self, label: &str) -> crate::Result<Option<Vec<u8>>> {
        Ok(self.kept.lock().get(label).cloned())
    }

    fn save(&self, label: &str, bytes: Vec<u8>) -> crate::Result<()> {
        *self.writes.lock() += 1;
        self.kept.lock().insert(label.to_owned(), bytes);
        Ok(())
    }
}

#[test]
fn a_training_that_was_killed_resumes_to_the_same_bytes() {
    let problem = binary();
    let search = r#", "tune": {"trials": 4, "strategy": "halving", "space": {"learning_rate": {"min": 1e-3, "max": 0.1}}}"#;
    for (architecture, more) in [
        (Some(Architecture::Dnn), ""),
        (Some(Architecture::Gru), r#", "optimizer": "sgd", "schedule": "cosine""#),
        (Some(Architecture::Logreg), search),
        (None, ""),
    ] {
        let options = json(&format!(r#"{{"epochs": 5, "checkpoint_every": 2{more}}}"#));
        let whole = Memory::default();
        let at = |stop: Option<usize>, store: &Memory| {
            let (cancel, batches) = (CancellationToken::new(), Mutex::new(0));
            let progress = |_: Progress| {
                *batches.lock() += 1;
                if stop == Some(*batches.lock()) {
                    cancel.cancel();
                }
            };
            let base = request(&problem, &options, &cancel, &progress);
            let ended = train_rows(Request { architecture, checkpoints: Some(store), ..base });
            (ended, batches.into_inner())
        };
        let (expected, all) = at(None, &whole);
        let expected = expected.unwrap();
        for stop in [all / 2, all * 3 / 4, all - 1] {
            let store = Memory::default();
            assert_eq!(at(Some(stop), &store).0.unwrap_err().code, Code::Cancelled);
            assert!(*store.writes.lock() > 0, "{architecture:?} {stop}");
            let (resumed, left) = at(None, &store);
            let resumed = resumed.unwrap();
            assert_eq!(bytes(&resumed), bytes(&expected), "{architecture:?} stopped at {stop}");
            assert_eq!((resumed.calibration, resumed.valid, resumed.test), (expected.calibration.clone(), expected.valid, expected.test));
            assert_eq!(resumed.best_epoch, expected.best_epoch);
            assert!(left < all, "{architecture:?}: {left} of {all} batches again");
        }
        // Damage costs time, nothing else.
        for bytes in whole.kept.lock().values_mut() {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        }
        if options.tune.is_none() {
            assert_eq!(bytes(&at(None, &whole).0.unwrap()), bytes(&expected));
        }
    }
}
