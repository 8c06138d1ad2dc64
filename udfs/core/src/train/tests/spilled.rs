//! Rows in files are learned from like rows in memory: the same bytes come out, and nothing is left when it ends early.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use super::pictures::pictures;
use super::*;
use crate::features::options::{Augment, Budget, Oversample, Privacy};
use crate::features::spill::testing::Space;
use crate::models::{NetworkConfig, module};
use crate::train::{ahead, hyper};

impl Problem {
    /// The same with its rows in files.
    fn in_files(&self, space: &Space) -> Self {
        let inputs = self.inputs.to_files(&self.shape, space).unwrap();
        assert!(inputs.numeric.is_empty() && inputs.images.is_empty() && inputs.spilled_bytes() > 0);
        Self {
            shape: self.shape.clone(),
            inputs,
            labels: self.labels.clone(),
            classes: self.classes.clone(),
            split: self.split.clone(),
            rfm: self.rfm.clone(),
        }
    }
}

fn few_epochs() -> Options {
    Options { epochs: Some(3), ..options() }
}

/// Everything of a training but the time it took.
fn outcome(trained: &Trained) -> (Vec<u8>, [u64; 3], Calibration, Vec<u64>) {
    let losses = trained.history.iter().flat_map(|epoch| [epoch.train_loss.to_bits(), epoch.valid_loss.to_bits()]).collect();
    let figures = [trained.valid, trained.test, trained.baseline].map(f64::to_bits);
    (trained.parameters.to_safetensors().unwrap(), figures, trained.calibration.clone(), losses)
}

#[test]
fn rows_in_files_give_the_same_bytes() {
    let space = Space::default();
    let numbers = problem(|signal| Label::Value(signal as f32));
    for (here, architectures) in [
        (&binary(), &[Architecture::Logreg, Architecture::Dnn, Architecture::Gru, Architecture::Transformer, Architecture::Cnn][..]),
        (&numbers, &[Architecture::Dnn][..]),
    ] {
        let there = here.in_files(&space);
        for architecture in architectures {
            let first = run(here, Some(*architecture), &few_epochs(), 1).unwrap();
            for threads in [1, 3] {
                let second = run(&there, Some(*architecture), &few_epochs(), threads).unwrap();
                assert_eq!(outcome(&first), outcome(&second), "{architecture} on {threads} threads");
            }
        }
    }
    assert_eq!(space.files(), 0);
}

#[test]
fn pictures_in_files_give_the_same_bytes() {
    let (space, here) = (Space::default(), pictures());
    let there = here.in_files(&space);
    let options = Options { epochs: Some(1), hidden_dim: Some(4), batch_size: Some(64), augment: Augment::ShiftFlip, ..Options::default() };
    let trained = |problem: &Problem, threads| outcome(&run(problem, Some(Architecture::Cnn), &options, threads).unwrap());
    let first = trained(&here, 1);
    assert_eq!(first, trained(&there, 1));
    assert_eq!(first, trained(&there, 3));
}

#[test]
fn repeated_rows_and_auto_are_the_same_too() {
    let (space, here) = (Space::default(), problem(|signal| Label::Class(u32::from(signal > 1.2))));
    let there = here.in_files(&space);
    let repeated = Options { oversample: Oversample::Random, ..few_epochs() };
    let trained = |problem: &Problem| outcome(&run(problem, None, &repeated, 2).unwrap());
    assert_eq!(trained(&here), trained(&there));
    let made = Options { oversample: Oversample::Smote, ..few_epochs() };
    let error = run(&there, Some(Architecture::Dnn), &made, 1).unwrap_err();
    assert_eq!(error.code, Code::FeatureNotSupported);
}

#[test]
fn ensembles_and_folds_are_the_same_too() {
    let (space, here) = (Space::default(), binary());
    let there = here.in_files(&space);
    for ensemble in [
        r#"{"ensemble": {"kind": "bagging", "members": 2}, "folds": 2}"#,
        r#"{"ensemble": {"kind": "stacking", "members": ["logreg", "gru"], "folds": 2}}"#,
    ] {
        let mut options = few_epochs();
        options.set_json(ensemble).unwrap();
        let architecture = ensemble.contains("bagging").then_some(Architecture::Dnn);
        let trained = |problem: &Problem| outcome(&run(problem, architecture, &options, 2).unwrap());
        assert_eq!(trained(&here), trained(&there), "{ensemble}");
    }
}

/// What a network computes from data before its first step it computes from the same rows.
#[test]
fn what_is_prepared_is_the_same() {
    const MANY: usize = 120_000;
    let space = Space::default();
    let image = crate::features::inputs::ImageShape { height: 2, width: 2, channels: 1 };
    let shape = InputShape { numeric: 2, image: Some(image), ..InputShape::default() };
    let random = Philox::new(3, 3);
    let inputs = Inputs {
        rows: MANY,
        numeric: (0..MANY as u64 * 2).map(|i| random.uniform(i) as f32).collect(),
        images: (0..MANY as u64 * 4).map(|i| random.fork(1).below(i, 256) as u8).collect(),
        ..Inputs::default()
    };
    let train: Vec<u32> = (0..MANY as u32).filter(|row| row % 40 != 0).collect();
    let files = inputs.to_files(&shape, &space).unwrap();
    for architecture in [Architecture::Cnn, Architecture::Dnn] {
        let config: NetworkConfig = hyper::resolve(architecture, &shape, 2, Task::Classification, &options(), MANY).config;
        let module = module(&config).unwrap();
        let prepared = |inputs: &Inputs| {
            let mut parameters = Parameters::default();
            ahead::prepare(&*module, inputs, &config.shape, &train, &mut parameters).unwrap();
            parameters
        };
        let here = prepared(&inputs);
        assert!(!here.0.is_empty());
        assert!(here == prepared(&files), "{architecture}");
    }
}

#[test]
fn what_looks_at_all_rows_at_once_refuses_files() {
    let (space, here) = (Space::default(), binary());
    let there = here.in_files(&space);
    let needs_memory = Architecture::ALL.into_iter().filter(|architecture| !reads_files(*architecture));
    for architecture in needs_memory.filter(|architecture| *architecture != Architecture::Gan) {
        let error = run(&there, Some(architecture), &few_epochs(), 1).unwrap_err();
        assert_eq!((error.code, error.hint.is_some()), (Code::FeatureNotSupported, true), "{architecture}: {error:?}");
    }
}

#[test]
fn a_disk_that_does_not_answer_ends_the_training() {
    let here = binary();
    let reads = {
        let space = Space::default();
        run(&here.in_files(&space), Some(Architecture::Gru), &few_epochs(), 2).unwrap();
        space.0.reads.load(SeqCst)
    };
    // Before the first step, in the middle of an epoch, while the test rows are measured.
    for at in [1, reads / 3, reads - 1] {
        let space = Space::default();
        let there = here.in_files(&space);
        space.0.broken_at.store(at, SeqCst);
        let error = run(&there, Some(Architecture::Gru), &few_epochs(), 2).unwrap_err();
        assert_eq!(error.code, Code::Io, "{at} of {reads}: {error:?}");
    }
}

#[test]
fn cancelling_ends_the_training_and_its_readers() {
    let (space, options) = (Space::default(), Options { epochs: Some(500), patience: Some(500), ..options() });
    let there = binary().in_files(&space);
    for keep_partial in [false, true] {
        let options = Options { keep_partial, ..options.clone() };
        let (cancel, seen) = (CancellationToken::new(), AtomicUsize::new(0));
        let progress = |progress: Progress| {
            if progress.epoch == 2 {
                cancel.cancel();
                seen.fetch_add(1, SeqCst);
            }
        };
        let architecture = Some(Architecture::Gru);
        let ended = train_rows(Request { architecture, threads: 2, ..request(&there, &options, &cancel, &progress) });
        match ended {
            Ok(trained) => assert!(keep_partial && trained.best_epoch == 1),
            Err(error) => assert!(!keep_partial && error.code == Code::Cancelled, "{error:?}"),
        }
        assert_eq!(seen.load(SeqCst), 1, "no step after the one that was running");
    }
    drop(there);
    // A reader that lived on would hold the files.
    assert_eq!(space.files(), 0);
}

#[test]
fn private_training_reads_files_alike() {
    let (space, here) = (Space::default(), binary());
    let there = here.in_files(&space);
    // No noise, and every row in every batch: nothing is left to chance.
    let privacy = Privacy { budget: Budget::NoiseMultiplier(0.0), delta: Some(1e-5), clip_norm: 1.0 };
    let options = Options { privacy: Some(privacy), epochs: Some(1), batch_size: Some(ROWS as u32), ..options() };
    let trained = |problem: &Problem| outcome(&run(problem, Some(Architecture::Logreg), &options, 2).unwrap());
    assert_eq!(trained(&here), trained(&there));
}

/// A program's memory.
#[derive(Default)]
struct Budgeted {
    limit: usize,
    taken: AtomicUsize,
    most: AtomicUsize,
}

impl MemoryBudget for Budgeted {
    fn take(&self, bytes: usize) -> crate::Result<()> {
        let taken = self.taken.fetch_add(bytes, SeqCst) + bytes;
        self.most.fetch_max(taken, SeqCst);
        if taken <= self.limit {
            return Ok(());
        }
        self.taken.fetch_sub(bytes, SeqCst);
        Err(crate::Error::new(Code::OutOfMemory, "full"))
    }

    fn give(&self, bytes: usize) {
        self.taken.fetch_sub(bytes, SeqCst);
    }
}

#[test]
fn memory_is_taken_before_and_given_back_after() {
    let (problem, options) = (binary(), few_epochs());
    let train = |limit: usize, architecture, options: &Options| {
        let cancel = CancellationToken::new();
        let budget = Arc::new(Budgeted { limit, ..Budgeted::default() });
        let shared = Arc::clone(&budget) as Arc<dyn MemoryBudget>;
        let memory = Some(&shared);
        let ended = train_rows(Request { architecture, memory, ..request(&problem, options, &cancel, &|_| {}) });
        assert_eq!(budget.taken.load(SeqCst), 0);
        (ended, budget.most.load(SeqCst))
    };
    let (ended, one) = train(usize::MAX, Some(Architecture::Gru), &options);
    let parameters = ended.unwrap().parameters.bytes();
    assert!(one > 4 * parameters, "{one} for {parameters} bytes of weights");
    // Candidates come one after another: each gives back what it took.
    let (ended, all) = train(usize::MAX, None, &options);
    assert!(ended.is_ok() && all < 2 * train(usize::MAX, Some(Architecture::Dnn), &options).1.max(one));
    // Trials of a halving wait for the next round with all they have.
    let mut tuned = options.clone();
    tuned.set_json(r#"{"tune": {"trials": 3, "strategy": "halving"}}"#).unwrap();
    assert!(train(usize::MAX, Some(Architecture::Logreg), &tuned).1 > train(usize::MAX, Some(Architecture::Logreg), &options).1);
    // What an estimate says beyond the weights and their optimizer refuses nothing.
    let (ended, less) = train(one - 1, Some(Architecture::Gru), &options);
    assert!(ended.is_ok() && less >= one);
    let (ended, _) = train(4 * parameters, Some(Architecture::Gru), &options);
    let error = ended.unwrap_err();
    assert_eq!((error.code, error.message.as_str()), (Code::OutOfMemory, "not enough memory to train \"gru\""));
    assert!(error.detail.is_some() && error.hint.is_some());
}
