//! The trainer on small made-up data: it learns what is there, nothing where nothing is, and the same thing every time.

mod ensembles;
mod fusion;
mod items;
mod learning;
mod markov;
mod pictures;
mod spilled;
mod unlabelled;

use std::sync::Mutex;

use super::candidates::{Labelled, Request, train_rows};
use super::*;
use crate::error::Code;
use crate::features::inputs::{InputShape, Inputs, Labels, Rows, SequenceShape, Sequences};
use crate::features::options::{ClassWeights, Freeze};
use crate::models::ops::Philox;

const ROWS: usize = 900;

struct Problem {
    shape: InputShape,
    inputs: Inputs,
    labels: Labels,
    classes: Vec<String>,
    split: Vec<Rows>,
    rfm: Vec<[f32; 2]>,
}

impl Problem {
    fn rows(&self) -> Labelled<'_> {
        Labelled {
            shape: &self.shape,
            inputs: &self.inputs,
            labels: &self.labels,
            classes: &self.classes,
            split: &self.split,
            rfm: &self.rfm,
            encoder: None,
            users: &[],
        }
    }
}

/// Numbers, a category and a sequence that all know something of the label.
fn problem(labels: impl Fn(f64) -> Label) -> Problem {
    let random = Philox::new(6, 6);
    let shape = InputShape {
        numeric: 2,
        categorical: vec![4],
        sequence: Some(SequenceShape { fields: vec![5], numeric: 1, max_len: 6 }),
        ..InputShape::default()
    };
    let (mut inputs, mut classes, mut values) = (Inputs { rows: ROWS, ..Inputs::default() }, Vec::new(), Vec::new());
    let mut sequences = Sequences::default();
    for row in 0..ROWS as u64 {
        let x = [random.normal(row * 4), random.normal(row * 4 + 1)];
        let category = random.fork(1).below(row, 2) + 2;
        let len = random.fork(2).below(row, 7);
        let start = sequences.tokens.len() as u32;
        let mut last = 0;
        for step in 0..len {
            last = random.fork(3).below(row * 8 + u64::from(step), 3) + 2;
            sequences.tokens.push(last);
            sequences.numeric.push(0.1 * step as f32);
        }
        sequences.spans.push((start, len));
        inputs.numeric.extend(x.map(|x| x as f32));
        inputs.categorical.push(category);
        let signal = 1.5 * x[0] * x[1] + f64::from(category == 3) + 1.5 * f64::from(last == 4) - 1.0;
        match labels(signal + 0.3 * random.fork(4).normal(row)) {
            Label::Class(class) => classes.push(class),
            Label::Value(value) => values.push(value),
        }
    }
    inputs.sequence = Some(sequences);
    let split = (0..ROWS)
        .map(|row| match row * 10 / ROWS {
            0..=6 => Rows::Train,
            7 => Rows::Validation,
            _ => Rows::Test,
        })
        .collect();
    let names = (0..classes.iter().max().map_or(0, |max| max + 1)).map(|class| format!("c{class}")).collect();
    let labels = if values.is_empty() { Labels::Class(classes) } else { Labels::Value(values) };
    Problem { shape, inputs, labels, classes: names, split, rfm: Vec::new() }
}

enum Label {
    Class(u32),
    Value(f32),
}

fn binary() -> Problem {
    problem(|signal| Label::Class(u32::from(signal > 0.0)))
}

fn options() -> Options {
    Options {
        epochs: Some(12),
        hidden_dim: Some(16),
        layers: Some(1),
        learning_rate: Some(5e-3),
        batch_size: Some(64),
        ..Options::default()
    }
}

fn request<'a>(
    problem: &'a Problem,
    options: &'a Options,
    cancel: &'a CancellationToken,
    progress: &'a (dyn Fn(Progress) + Send + Sync),
) -> Request<'a> {
    let task = if matches!(problem.labels, Labels::Class(_)) { Task::Classification } else { Task::Regression };
    Request {
        rows: problem.rows(),
        catalogue: None,
        architecture: None,
        options,
        task,
        threads: 1,
        cancel,
        progress,
        init: None,
        checkpoints: None,
        memory: None,
        teacher: None,
    }
}

fn run(problem: &Problem, architecture: Option<Architecture>, options: &Options, threads: usize) -> crate::Result<Trained> {
    let cancel = CancellationToken::new();
    train_rows(Request { architecture, threads, ..request(problem, options, &cancel, &|_| {}) })
}

#[test]
fn auto_tries_the_sensible_ones_and_keeps_the_best() {
    let trained = run(&binary(), None, &options(), 2).unwrap();
    let tried: Vec<Architecture> = trained.candidates.iter().map(|candidate| candidate.architecture).collect();
    assert_eq!(tried, [Architecture::Logreg, Architecture::Dnn, Architecture::Gru]);
    let chosen = trained.candidates.iter().find(|candidate| candidate.chosen).unwrap();
    assert!(trained.candidates.iter().all(|candidate| candidate.valid <= chosen.valid));
    assert_eq!((chosen.architecture, chosen.valid, chosen.test), (trained.config.architecture, trained.valid, trained.test));
    assert_eq!(trained.metric, Metric::PrAuc);
    assert!(trained.test > trained.baseline + 0.25, "{} against {}", trained.test, trained.baseline);
    assert_eq!(trained.history.len(), trained.epochs_run);
    assert!(trained.best_epoch >= 1 && trained.best_epoch <= trained.epochs_run);
}

#[test]
fn same_seed_same_bytes_with_one_and_two_threads() {
    let problem = binary();
    for architecture in Architecture::ALL.into_iter().filter(|own| own.is_supervised() && !own.is_retrieval()) {
        let bytes = |seed: u64, threads: usize| {
            let options = Options { epochs: Some(2), dropout: Some(0.1), seed, ..options() };
            run(&problem, Some(architecture), &options, threads).unwrap().parameters.to_safetensors().unwrap()
        };
        assert_eq!(bytes(1, 1), bytes(1, 2), "{architecture}");
        assert_ne!(bytes(1, 1), bytes(2, 1), "{architecture}");
    }
}

#[test]
fn shuffled_labels_land_at_the_baseline() {
    let mut problem = binary();
    let Labels::Class(labels) = &mut problem.labels else { panic!("classes") };
    Philox::new(3, 3).shuffle(labels);
    for architecture in [Architecture::Logreg, Architecture::Dnn, Architecture::Gru] {
        let trained = run(&problem, Some(architecture), &options(), 1).unwrap();
        assert!((trained.test - trained.baseline).abs() < 0.12, "{architecture}: {} against {}", trained.test, trained.baseline);
    }
}

#[test]
fn several_classes_and_numbers() {
    let classes = problem(|signal| Label::Class(if signal < -1.0 { 0 } else { 1 + u32::from(signal > 0.5) }));
    let trained = run(&classes, Some(Architecture::Lstm), &options(), 1).unwrap();
    assert_eq!(trained.metric, Metric::LogLoss);
    assert!(trained.test < trained.baseline - 0.1, "{} against {}", trained.test, trained.baseline);
    let numbers = problem(|signal| Label::Value(signal as f32 * 10.0 + 100.0));
    let trained = run(&numbers, Some(Architecture::Dnn), &options(), 1).unwrap();
    assert_eq!(trained.metric, Metric::Rmse);
    assert!(trained.test < trained.baseline * 0.8, "{} against {}", trained.test, trained.baseline);
    assert!(trained.notes.is_empty(), "{:?}", trained.notes);
}

#[test]
fn heavy_tails_are_learned_in_logarithms_and_said_so() {
    let heavy = problem(|signal| Label::Value((signal * 1.2).exp() as f32));
    let trained = run(&heavy, Some(Architecture::Gru), &options(), 1).unwrap();
    assert!(trained.notes.iter().any(|note| note.contains("ln(1 + value)")), "{:?}", trained.notes);
    assert!(trained.test < trained.baseline, "{} against {}", trained.test, trained.baseline);
}

#[test]
fn a_fired_token_cancels_within_a_batch() {
    let (problem, options, cancel) = (binary(), options(), CancellationToken::new());
    let seen = Mutex::new(0);
    let progress = |_: Progress| {
        *seen.lock().unwrap() += 1;
        cancel.cancel();
    };
    let error = train_rows(request(&problem, &options, &cancel, &progress)).unwrap_err();
    assert_eq!((error.code, *seen.lock().unwrap()), (Code::Cancelled, 1));
}

#[test]
fn keep_partial_keeps_the_best_epoch_so_far() {
    let (problem, cancel) = (binary(), CancellationToken::new());
    let options = Options { keep_partial: true, ..options() };
    let progress = |progress: Progress| {
        if progress.epoch == 3 {
            cancel.cancel();
        }
    };
    let request = Request { architecture: Some(Architecture::Dnn), ..request(&problem, &options, &cancel, &progress) };
    let trained = train_rows(request).unwrap();
    assert!(trained.epochs_run <= 3 && trained.notes.iter().any(|note| note.contains("cancelled")), "{:?}", trained.notes);
}

#[test]
fn a_budget_ends_training_and_says_so() {
    let options = Options { epochs: Some(100_000), patience: Some(100_000), max_seconds: Some(0.2), ..options() };
    let trained = run(&binary(), Some(Architecture::Logreg), &options, 1).unwrap();
    assert!(trained.epochs_run < 100_000 && trained.notes.iter().any(|note| note.contains("max_seconds")), "{:?}", trained.notes);
}

#[test]
fn progress_counts_up() {
    let (problem, cancel, seen) = (binary(), CancellationToken::new(), Mutex::new(Vec::new()));
    let options = Options { epochs: Some(2), ..options() };
    let progress = |progress: Progress| seen.lock().unwrap().push(progress);
    let request = Request { architecture: Some(Architecture::Logreg), ..request(&problem, &options, &cancel, &progress) };
    train_rows(request).unwrap();
    let seen = seen.into_inner().unwrap();
    assert!(seen.windows(2).all(|pair| (pair[0].epoch, pair[0].batch) < (pair[1].epoch, pair[1].batch)));
    let last = seen.last().unwrap();
    assert_eq!((last.epoch, last.batch), (2, last.batches));
    assert!(last.loss.is_finite() && last.rows_per_s > 0.0 && last.eta_seconds >= 0.0);
}

#[test]
fn warm_start_continues_and_freeze_moves_the_head_only() {
    let problem = binary();
    let first = run(&problem, Some(Architecture::Gru), &options(), 1).unwrap();
    let cancel = CancellationToken::new();
    let again = |freeze: bool| {
        let options = Options { epochs: Some(1), freeze: Freeze::AllButHead(freeze), ..options() };
        let request = Request {
            architecture: Some(Architecture::Gru),
            init: Some(WarmStart { config: &first.config, parameters: &first.parameters, encoder: None, classes: &problem.classes }),
            ..request(&problem, &options, &cancel, &|_| {})
        };
        train_rows(request).unwrap()
    };
    let (warm, frozen) = (again(false), again(true));
    assert!(warm.history[0].train_loss < first.history[0].train_loss);
    for (name, values) in &frozen.parameters.0 {
        let head = name.starts_with("head.") || name.starts_with("output.");
        assert_eq!(*values != first.parameters.0[name], head, "{name}");
    }
    assert_ne!(warm.parameters.0["gru.weight_hh_l0"], first.parameters.0["gru.weight_hh_l0"]);
}

#[test]
fn class_weights_are_checked_and_move_the_balance() {
    let problem = binary();
    let weights = |list: &[(&str, f64)]| Options {
        class_weights: ClassWeights::Weights(list.iter().map(|(name, weight)| ((*name).to_owned(), *weight)).collect()),
        ..options()
    };
    let error = run(&problem, Some(Architecture::Logreg), &weights(&[("nope", 2.0)]), 1).unwrap_err();
    assert_eq!(error.code, Code::InvalidParameter);
    let plain = run(&problem, Some(Architecture::Logreg), &options(), 1).unwrap();
    let heavy = run(&problem, Some(Architecture::Logreg), &weights(&[("c1", 20.0)]), 1).unwrap();
    // The weights push every logit up; calibration takes back what they added.
    let offset = |trained: &Trained| match trained.calibration.transform {
        calibration::Transform::Platt { offset, .. } => offset,
        _ => panic!("two classes"),
    };
    assert!(offset(&heavy) < offset(&plain) - 0.5, "{} {}", offset(&heavy), offset(&plain));
}

#[test]
fn recency_and_frequency_are_reported_for_events() {
    let mut problem = binary();
    problem.rfm = (0..ROWS).map(|row| [row as f32, 1.0]).collect();
    let trained = run(&problem, Some(Architecture::Logreg), &options(), 1).unwrap();
    assert!(trained.simple_baseline.is_some_and(|value| value > 0.0 && value < trained.test));
}

#[test]
fn data_that_cannot_be_learned_from_is_an_error() {
    let mut problem = binary();
    problem.split.fill(Rows::Test);
    assert_eq!(run(&problem, None, &options(), 1).unwrap_err().code, Code::InvalidParameter);
    let mut problem = binary();
    problem.classes.truncate(1);
    assert_eq!(run(&problem, None, &options(), 1).unwrap_err().code, Code::InvalidParameter);
    let mut options = options();
    options.learning_rate = Some(1e30);
    let error = run(&binary(), Some(Architecture::Logreg), &options, 1);
    assert!(error.is_err() || error.unwrap().parameters.0.values().all(|(_, values)| values.iter().all(|value| value.is_finite())));
}
