//! Federated averaging on made-up tables: close to what one table teaches, whoever holds which rows, whatever hides them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray};
use parking_lot::Mutex;

use super::remote::{Joining, Plan, await_plan};
use super::*;
use crate::features::dataset::{Share, TableDatasetBuilder};
use crate::features::inputs::Rows;
use crate::features::statistics::merge;
use crate::models::ops::Philox;
use crate::train::metrics::roc_auc;
use crate::train::{Scorer, TrainRequest};

/// Row `row` of an endless table: two numbers, a text, a label that follows from them.
fn rows(all: impl Iterator<Item = u64>, numbers: bool) -> RecordBatch {
    let random = Philox::new(11, 11);
    let (mut a, mut b, mut kind, mut y, mut value) = (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for row in all {
        let (x1, x2) = (random.normal(row * 2), random.normal(row * 2 + 1));
        let of = random.fork(1).below(row, 3);
        let signal = 1.6 * x1 - x2 + f64::from(of) - 1.0;
        a.push((x1 > -2.5).then_some(x1 * 40.0 + 100.0));
        b.push(Some((x2 * 0.8).exp()));
        kind.push(["shop", "app", "call"][of as usize]);
        y.push(if random.fork(2).uniform(row) < 1.0 / (1.0 + (-signal).exp()) { "yes" } else { "no" });
        value.push(signal * 3.0 + 7.0 + random.fork(3).normal(row));
    }
    let label: ArrayRef = if numbers { Arc::new(Float64Array::from(value)) } else { Arc::new(StringArray::from(y)) };
    let columns: [(&str, ArrayRef); 4] = [
        ("a", Arc::new(Float64Array::from(a))),
        ("b", Arc::new(Float64Array::from(b))),
        ("kind", Arc::new(StringArray::from(kind))),
        ("y", label),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn builder(batch: &RecordBatch, options: &Options) -> TableDatasetBuilder {
    let mut builder = TableDatasetBuilder::new(batch.schema(), "y", options, None).unwrap();
    builder.push(batch).unwrap();
    builder
}

fn options(text: &str) -> Options {
    let mut options = Options::default();
    options.set_json(r#"{"batch_size": 64, "learning_rate": 0.01, "hidden_dim": 16, "epochs": 20}"#).unwrap();
    options.set_json(text).unwrap();
    options
}

const OWN: u64 = 1500;
const EACH: u64 = 300;

/// The rows of each worker: dealt in turn, or sorted by label and by a number, so that no two workers see the same.
fn cut(iid: bool, numbers: bool) -> Vec<RecordBatch> {
    let all = rows(OWN..OWN + 5 * EACH, numbers);
    let mut order: Vec<usize> = (0..all.num_rows()).collect();
    if !iid {
        let by = all.column(3).as_any().downcast_ref::<StringArray>().unwrap();
        let then = all.column(1).as_any().downcast_ref::<Float64Array>().unwrap();
        order.sort_by(|a, b| by.value(*a).cmp(by.value(*b)).then(then.value(*a).total_cmp(&then.value(*b))));
        // Two thirds of each worker's rows are neighbours in that order, a third are of everywhere.
        let (mut sorted, mut mixed) = (Vec::new(), Vec::new());
        order.iter().enumerate().for_each(|(at, row)| if at % 3 == 0 { mixed.push(*row) } else { sorted.push(*row) });
        Philox::new(4, 4).shuffle(&mut mixed);
        order = sorted.chunks(200).zip(mixed.chunks(100)).flat_map(|(a, b)| [a, b].concat()).collect();
    }
    let part = |worker: usize| {
        let own: Vec<u32> = match iid {
            true => (0..order.len()).filter(|at| at % 5 == worker).map(|at| order[at] as u32).collect(),
            false => order[worker * EACH as usize..][..EACH as usize].iter().map(|at| *at as u32).collect(),
        };
        arrow::compute::take_record_batch(&all, &arrow::array::UInt32Array::from(own)).unwrap()
    };
    (0..5).map(part).collect()
}

struct Prepared {
    own: Dataset,
    workers: Vec<(String, Dataset)>,
    terms: Terms,
    sample: Inputs,
}

fn prepared(batches: &[RecordBatch], numbers: bool, architecture: Architecture, options: &Options) -> Prepared {
    let own = builder(&rows(0..OWN, numbers), options);
    let builders: Vec<TableDatasetBuilder> = batches.iter().map(|batch| builder(batch, options)).collect();
    let mut told = vec![("own".to_owned(), own.statistics(Share::Train, 5).unwrap())];
    told.extend(builders.iter().enumerate().map(|(at, builder)| (format!("w{at}"), builder.statistics(Share::All, 5).unwrap())));
    let (shared, sample) = merge(&told, options).unwrap();
    let terms = Terms { shared, architecture, options: options.clone() };
    let own = own.finish_shared(&terms.shared, Share::Train).unwrap();
    let finish =
        |(at, builder): (usize, TableDatasetBuilder)| (format!("w{at}"), builder.finish_shared(&terms.shared, Share::All).unwrap());
    let workers = builders.into_iter().enumerate().map(finish).collect();
    Prepared { own, workers, terms, sample }
}

fn run_here(prepared: &Prepared, threads: usize) -> Result<Trained> {
    train(FederatedRequest {
        own: &prepared.own,
        terms: &prepared.terms,
        sample: &prepared.sample,
        crew: Crew::Here(&prepared.workers),
        threads,
        cancel: &CancellationToken::new(),
        progress: &|_| {},
    })
}

fn bytes(trained: &Trained) -> Vec<u8> {
    trained.parameters.to_safetensors().unwrap()
}

/// ROC AUC on the test rows of a dataset.
fn auc(trained: &Trained, dataset: &Dataset) -> f64 {
    let rows = dataset.rows_of(Rows::Test);
    let scores = Scorer::new(trained.network().unwrap(), trained.calibration.clone()).score_rows(&dataset.inputs, &rows, None).unwrap();
    let Labels::Class(labels) = &dataset.labels else { panic!("classes") };
    let positive: Vec<bool> = rows.iter().map(|row| labels[*row as usize] == 1).collect();
    roc_auc(&positive, &scores.probabilities.iter().skip(1).step_by(2).copied().collect::<Vec<_>>())
}

/// What one table of all rows teaches, measured on the same test rows.
fn central(batches: &[RecordBatch], architecture: Architecture, options: &Options) -> (Trained, Dataset) {
    let options = Options { federated: None, ..options.clone() };
    let own = builder(&rows(0..OWN, false), &options).finish().unwrap();
    let mut all = builder(&rows(0..OWN, false), &options);
    batches.iter().for_each(|batch| all.push(batch).unwrap());
    let mut dataset = all.finish().unwrap();
    // The first rows keep their parts; the workers' are learned from.
    dataset.split = own.split.iter().copied().chain(std::iter::repeat_n(Rows::Train, dataset.split.len() - own.split.len())).collect();
    let trained = crate::train::train(TrainRequest {
        dataset: &dataset,
        architecture: Some(architecture),
        options: &options,
        task: Task::Classification,
        threads: 2,
        cancel: &CancellationToken::new(),
        progress: &|_| {},
        init: None,
        checkpoints: None,
        memory: None,
    });
    (trained.unwrap(), dataset)
}

const HERE: &str = r#"{"federated": {"sources": ["a", "b", "c", "d", "e"], "rounds": 20}}"#;
const MASKED: &str = r#"{"federated": {"sources": ["a", "b", "c", "d", "e"], "rounds": 20, "secure_sum": "masks"}}"#;

#[test]
fn five_workers_learn_what_one_table_teaches() {
    for iid in [true, false] {
        let batches = cut(iid, false);
        {
            let architecture = Architecture::Logreg;
            let options = options(HERE);
            let prepared = prepared(&batches, false, architecture, &options);
            let together = run_here(&prepared, 2).unwrap();
            let (alone, dataset) = central(&batches, architecture, &options);
            let fresh =
                |encoder| builder(&rows(50_000..54_000, false), &options).finish_with(encoder, &prepared.own.classes, true).unwrap();
            let (federated, central) = (auc(&together, &fresh(&prepared.own.encoder)), auc(&alone, &fresh(&dataset.encoder)));
            assert!((federated - central).abs() < 0.01, "iid {iid}, {architecture}: {federated} against {central}");
            assert!(central > 0.8 && together.test > together.baseline + 0.2);
            assert_eq!((together.history.len(), together.candidates.len()), (20, 1));
        }
    }
}

#[test]
fn masks_and_threads_change_nothing() {
    let batches = cut(true, false);
    let run = |text: &str, threads: usize| {
        let mut options = options(text);
        options.federated.as_mut().unwrap().rounds = 3;
        run_here(&prepared(&batches, false, Architecture::Dnn, &options), threads).unwrap()
    };
    let plain = run(HERE, 1);
    assert_eq!(bytes(&plain), bytes(&run(HERE, 2)));
    let masked = run(MASKED, 1);
    assert_eq!(bytes(&plain), bytes(&masked));
    assert!(masked.notes.iter().any(|note| note.contains("masked")) && !plain.notes.iter().any(|note| note.contains("masked")));
}

#[test]
fn numbers_are_averaged_too() {
    let options = options(HERE);
    let batches: Vec<RecordBatch> = (0..5).map(|w| rows((0..EACH).map(move |row| OWN + row * 5 + w), true)).collect();
    let trained = run_here(&prepared(&batches, true, Architecture::Logreg, &options), 2).unwrap();
    assert!(trained.test < trained.baseline * 0.5, "{} against {}", trained.test, trained.baseline);
}

#[test]
fn a_pull_holds_workers_near_the_common_weights() {
    let batches = cut(false, false);
    let distance = |mu: f64| {
        let mut options = options(HERE);
        let settings = options.federated.as_mut().unwrap();
        (settings.rounds, settings.local_epochs, settings.mu) = (1, 4, mu);
        let prepared = prepared(&batches, false, Architecture::Logreg, &options);
        let first = first_weights(&prepared.terms, &prepared.sample).unwrap();
        let after = run_here(&prepared, 1).unwrap().parameters;
        let squares = first.0.iter().flat_map(|(name, (_, old))| old.iter().zip(&after.0[name].1).map(|(a, b)| f64::from(a - b).powi(2)));
        squares.sum::<f64>().sqrt()
    };
    let (free, held) = (distance(0.0), distance(10.0));
    assert!(held < 0.7 * free, "{held} against {free}");
}

#[derive(Default)]
struct Memory {
    kept: Mutex<BTreeMap<String, Vec<u8>>>,
    writes: AtomicUsize,
}

impl Exchange for Memory {
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.kept.lock().get(name).cloned())
    }

    fn write(&self, name: &str, bytes: Vec<u8>) -> Result<()> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        self.kept.lock().insert(name.to_owned(), bytes);
        Ok(())
    }

    fn names(&self, prefix: &str) -> Result<Vec<String>> {
        Ok(self.kept.lock().keys().filter(|name| name.starts_with(prefix)).cloned().collect())
    }

    fn remove(&self, name: &str) -> Result<()> {
        self.kept.lock().remove(name);
        Ok(())
    }
}

/// Coordinator and workers on threads of their own, with nothing but an exchange between them. `dies`: the worker that goes
/// after so many batches.
fn run_remote(
    batches: &[RecordBatch],
    options: &Options,
    dies: Option<(usize, usize)>,
) -> (Result<Trained>, Vec<Result<remote::Joined>>, Memory) {
    let exchange = Memory::default();
    let settings = options.federated.clone().unwrap();
    let plan = Plan { run: "r1".into(), workers: settings.workers, label: "y".into(), columns: "auto".into(), options: options.clone() };
    let cancel = CancellationToken::new();
    let worker = |at: usize, batch: &RecordBatch| {
        let own = CancellationToken::new();
        let seen = AtomicUsize::new(0);
        let progress = |_: Progress| {
            if dies.is_some_and(|(who, after)| who == at && seen.fetch_add(1, Ordering::Relaxed) >= after) {
                own.cancel();
            }
        };
        let plan = await_plan(&exchange, 20.0, &own)?;
        let builder = builder(batch, &plan.options);
        let member = Joining::hello(&exchange, plan, &format!("w{at}"), builder.statistics(Share::All, 5)?)?.terms(&own)?;
        let dataset = builder.finish_shared(&member.terms.shared, Share::All)?;
        member.work(&dataset, 1, &own, &progress)
    };
    let (trained, joined) = std::thread::scope(|scope| {
        let handles: Vec<_> = batches.iter().enumerate().map(|(at, batch)| scope.spawn(move || worker(at, batch))).collect();
        let own = builder(&rows(0..OWN, false), options);
        let lead = || {
            let coordinator = Coordinator::open(&exchange, plan, 20.0, &cancel)?;
            let mut told = vec![("own".to_owned(), own.statistics(Share::Train, 5)?)];
            told.extend(coordinator.statistics());
            let (shared, sample) = merge(&told, options)?;
            let terms = Terms { shared, architecture: Architecture::Logreg, options: options.clone() };
            let own = own.finish_shared(&terms.shared, Share::Train)?;
            coordinator.announce(&terms)?;
            train(FederatedRequest {
                own: &own,
                terms: &terms,
                sample: &sample,
                crew: Crew::Remote(Box::new(coordinator)),
                threads: 1,
                cancel: &cancel,
                progress: &|_| {},
            })
        };
        let trained = lead();
        (trained, handles.into_iter().map(|handle| handle.join().unwrap()).collect())
    });
    (trained, joined, exchange)
}

fn remote_options(masks: bool, wait_seconds: f64) -> Options {
    let masks = if masks { "masks" } else { "none" };
    options(&format!(
        r#"{{"federated": {{"exchange": "x", "workers": 5, "rounds": 3, "secure_sum": "{masks}", "wait_seconds": {wait_seconds}}}}}"#
    ))
}

#[test]
fn an_exchange_gives_the_same_model() {
    let batches = cut(true, false);
    let mut here = options(HERE);
    here.federated.as_mut().unwrap().rounds = 3;
    let expected = run_here(&prepared(&batches, false, Architecture::Logreg, &here), 1).unwrap();
    for masks in [false, true] {
        let (trained, joined, exchange) = run_remote(&batches, &remote_options(masks, 20.0), None);
        assert_eq!(bytes(&trained.unwrap()), bytes(&expected), "masks {masks}");
        for worker in joined {
            assert_eq!(worker.unwrap(), remote::Joined { rounds: 3, rows: EACH });
        }
        // Nothing of the training is left but that there was one.
        assert_eq!(exchange.kept.lock().keys().cloned().collect::<Vec<_>>(), ["plan", "r1/end"]);
    }
}

#[test]
fn a_worker_that_dies_is_left_out_and_named() {
    let batches = cut(true, false);
    for masks in [false, true] {
        // Five batches of 64 in a round: it goes in the second.
        let (trained, joined, _) = run_remote(&batches, &remote_options(masks, 1.0), Some((2, 6)));
        let trained = trained.unwrap();
        assert!(trained.notes.iter().any(|note| note == "worker w2 was left out of round 2"), "masks {masks}: {:?}", trained.notes);
        assert_eq!(trained.history.len(), 3);
        assert!(trained.test > trained.baseline + 0.1);
        for (at, worker) in joined.into_iter().enumerate() {
            match at {
                2 => assert_eq!(worker.unwrap_err().code, Code::Cancelled),
                _ => assert_eq!(worker.unwrap().rounds, 3, "{at}"),
            }
        }
    }
}

#[test]
fn nobody_comes() {
    let options = remote_options(false, 0.2);
    let exchange = Memory::default();
    let plan = Plan { run: "r1".into(), workers: 5, label: "y".into(), columns: "auto".into(), options };
    let cancel = CancellationToken::new();
    let error = Coordinator::open(&exchange, plan, 0.2, &cancel).err().unwrap();
    assert_eq!((error.code, error.message.as_str()), (Code::NotReady, "0 of 5 workers came"));
    assert_eq!(await_plan(&exchange, 0.1, &cancel).unwrap_err().code, Code::NotReady);
}

#[test]
fn tables_that_are_not_alike_are_told_apart() {
    let options = options(HERE);
    let told = |batch: &RecordBatch| builder(batch, &options).statistics(Share::All, 5).unwrap();
    let whole = rows(0..300, false);
    let fewer = whole.project(&[0, 2, 3]).unwrap();
    let error = merge(&[("one".into(), told(&whole)), ("two".into(), told(&fewer))], &options).unwrap_err();
    assert_eq!((error.code, error.message.as_str()), (Code::UndefinedColumn, "the source of \"two\" lacks the column \"b\""));
    let error = merge(&[("one".into(), told(&whole)), ("two".into(), told(&rows(0..300, true)))], &options).unwrap_err();
    assert_eq!(error.code, Code::DatatypeMismatch);
}

#[test]
fn what_cannot_be_combined_is_refused() {
    let refused = [
        r#"{"privacy": {"epsilon": 1}}"#,
        r#"{"folds": 3}"#,
        r#"{"ensemble": {"kind": "bagging"}}"#,
        r#"{"tune": {}}"#,
        r#"{"oversample": "random"}"#,
        r#"{"select_k": 2}"#,
        r#"{"warm_from": "m"}"#,
        r#"{"checkpoint_every": 1}"#,
    ];
    for more in refused {
        let mut options = options(HERE);
        options.set_json(more).unwrap();
        assert_eq!(check(&options, Some(Architecture::Dnn)).unwrap_err().code, Code::InvalidParameter, "{more}");
    }
    assert!(check(&options(HERE), Some(Architecture::Dnn)).is_ok());
    assert!(check(&options(HERE), None).is_err());
}
