//! Federated averaging (McMahan et al., 2017): one network from rows that stay with their owners.
//!
//! Life of a training: everybody tells statistics of their rows that name nobody ([`crate::features::statistics`]) → the
//! coordinator makes the common encoder and the first weights → in each round every worker trains on its rows from the
//! common weights and gives the change, times its share of the rows, to a [`SecureSum`] → the coordinator moves the common
//! weights by the mean, and measures them on its own validation rows → the best of all rounds is calibrated and measured.
//!
//! The coordinator has rows of its own: its training rows take part like another worker's, its validation and test rows say
//! how good the common weights are. Workers are in this process ([`Crew::Here`]) or in others, behind an [`Exchange`]
//! ([`remote`]).

mod envelope;
pub mod remote;
pub mod sum;

use std::borrow::Cow;
use std::fmt::Display;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use self::remote::Coordinator;
use self::sum::{Keys, Plain, SecureSum, Turn, add, from_fixed, to_fixed};
use super::calibration::Transform;
use super::candidates::{self, Common, Found, Labelled, Problem, Request};
use super::fit::{self, Data, Fitted, Local, Targets, Watch};
use super::hyper::{self, Hyper};
use super::{EpochRecord, Part, Progress, Trained};
use crate::error::{Code, Error, Result};
use crate::features::dataset::Dataset;
use crate::features::inputs::{Inputs, Labels};
use crate::features::options::{ClassWeights, Federated, Options, Oversample};
use crate::features::statistics::Shared;
use crate::kernels::splitmix;
use crate::models::{self, Architecture, Network, Parameters, Task};

/// Made-up labels from which a numeric target's scale is read.
const LABEL_SAMPLE: usize = 4096;
/// Seeds of workers, apart from other uses of the seed.
const WORKERS: u64 = 0xFED0;

/// Bytes by name that coordinator and workers share; each write is atomic and replaces what was there.
pub trait Exchange: Send + Sync {
    /// The bytes under `name`; `None` when there are none.
    ///
    /// # Errors
    /// 58030 when they cannot be read.
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>>;

    /// Writes the bytes under `name`.
    ///
    /// # Errors
    /// 58030 or 53100 when they cannot be written.
    fn write(&self, name: &str, bytes: Vec<u8>) -> Result<()>;

    /// Every name that starts with `prefix`.
    ///
    /// # Errors
    /// 58030 when the names cannot be listed.
    fn names(&self, prefix: &str) -> Result<Vec<String>>;

    /// Removes what is under `name`; nothing there is fine.
    ///
    /// # Errors
    /// 58030 when it cannot be removed.
    fn remove(&self, name: &str) -> Result<()>;
}

/// What all need to know before the first round.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Terms {
    /// The common encoder and classes.
    pub shared: Shared,
    /// The network's kind.
    pub architecture: Architecture,
    /// The options of the training.
    pub options: Options,
}

/// Who trains besides the coordinator.
#[allow(missing_debug_implementations, reason = "holds an exchange")]
pub enum Crew<'a> {
    /// Datasets of this process under the common encoder, with their names.
    Here(&'a [(String, Dataset)]),
    /// Other processes.
    Remote(Box<Coordinator<'a>>),
}

/// One federated training, after the statistics were merged.
#[allow(missing_debug_implementations, reason = "holds closures")]
pub struct FederatedRequest<'a> {
    /// The coordinator's rows under the common encoder, with its split.
    pub own: &'a Dataset,
    /// What all know.
    pub terms: &'a Terms,
    /// Rows made up from the statistics; bin edges are read from them.
    pub sample: &'a Inputs,
    /// The workers.
    pub crew: Crew<'a>,
    /// Threads of the training pool.
    pub threads: usize,
    /// Stops the training at the next batch.
    pub cancel: &'a CancellationToken,
    /// Called after every batch.
    pub progress: &'a (dyn Fn(Progress) + Send + Sync),
}

impl Terms {
    /// The settings of the rounds.
    ///
    /// # Errors
    /// `Internal` without the option.
    pub fn settings(&self) -> Result<&Federated> {
        self.options.federated.as_ref().ok_or_else(|| Error::internal("a federated training has no settings"))
    }

    fn task(&self) -> Task {
        if self.shared.classes.is_empty() { Task::Regression } else { Task::Classification }
    }

    /// How the label is learned: class shares, or how a number is standardised.
    fn common(&self) -> Result<Common> {
        match &self.shared.values {
            None => Ok(Common::of_classes(&self.shared.class_rows)),
            Some(values) => Common::of_values(&values.values(LABEL_SAMPLE).iter().map(|value| f64::from(*value)).collect::<Vec<_>>()),
        }
    }

    /// Hyper-parameters of the one at place `place`.
    fn hyper(&self, place: usize) -> Result<Hyper> {
        let settings = self.settings()?;
        let outputs = self.shared.classes.len().max(1);
        let epochs = settings.rounds.saturating_mul(settings.local_epochs);
        let seed = splitmix::at(self.options.seed ^ WORKERS, place as u64) >> 1;
        let options = Options { epochs: Some(epochs), seed, ..self.options.clone() };
        Ok(hyper::resolve(self.architecture, self.shared.encoder.shape(), outputs, self.task(), &options, self.shared.rows as usize))
    }

    /// A worker's rows as they are learned from.
    fn data<'a>(&self, dataset: &'a Dataset, train: Vec<u32>) -> Result<Data<'a>> {
        let targets = match (&dataset.labels, &self.common()?) {
            (Labels::Class(labels), Common { transform: None, .. }) => Targets::Classes(labels.as_slice().into()),
            (Labels::Value(values), Common { transform: Some(transform), .. }) => {
                Targets::Values(values.iter().map(|value| standardised(transform, f64::from(*value))).collect())
            }
            _ => return Err(Error::internal("labels do not fit the task")),
        };
        let class_weights = candidates::class_weights_of(&self.options.class_weights, &self.shared.classes, &self.shared.class_rows)?;
        Ok(Data {
            inputs: Cow::Borrowed(&dataset.inputs),
            targets,
            train,
            validation: Vec::new(),
            test: Vec::new(),
            class_weights,
            resampled: None,
            users: &[],
            teacher: None,
            catalogue: None,
        })
    }
}

/// A number as the network learns it.
pub(super) fn standardised(transform: &Transform, value: f64) -> f32 {
    match transform {
        Transform::Value { mean, std, log1p: true, .. } => ((value.max(0.0).ln_1p() - mean) / std) as f32,
        Transform::Value { mean, std, .. } => ((value - mean) / std) as f32,
        _ => value as f32,
    }
}

/// Refuses what cannot be had together with federated training.
///
/// # Errors
/// `InvalidParameter`.
pub fn check(options: &Options, architecture: Option<Architecture>) -> Result<()> {
    if options.federated.is_none() {
        return Ok(());
    }
    if architecture.is_none() {
        return Err(Error::invalid("a federated training needs one architecture").hint("For example arch => 'dnn'."));
    }
    let refused = [
        (options.privacy.is_some(), "privacy", "Noise is added per training, and here every worker trains."),
        (options.ensemble.is_some(), "ensemble", "One network is averaged."),
        (options.folds.is_some(), "folds", "No owner of rows knows which fold another one's rows are in."),
        (options.tune.is_some(), "tune", "Every trial would ask all workers again."),
        (options.oversample != Oversample::None, "oversample", "No worker knows how rare a class is elsewhere."),
        (options.select_k.is_some(), "select_k", "It looks at rows and labels together, and no owner of rows tells so much."),
        (options.warm_from.is_some(), "warm_from", "The first weights are made for the common encoder."),
        (options.checkpoint_every.is_some(), "checkpoint_every", "Workers that go on alone would not meet again."),
    ];
    match refused.into_iter().find(|(given, ..)| *given) {
        Some((_, option, reason)) => {
            Err(Error::invalid(format!("a federated training cannot have the option \"{option}\"")).detail(reason))
        }
        None => Ok(()),
    }
}

/// Names of the parameters are in their order, and the numbers of all side by side: what a worker hands over is their change
/// times its share of the rows, the loss times the share, and the share.
fn handed_over(before: &Parameters, after: &(Parameters, f64), share: f64) -> Option<Vec<u64>> {
    let mut numbers = Vec::with_capacity(before.count() + 2);
    for ((_, old), (_, new)) in before.0.values().zip(after.0.0.values()) {
        for (old, new) in old.iter().zip(new) {
            numbers.push(to_fixed((f64::from(*new) - f64::from(*old)) * share)?);
        }
    }
    numbers.push(to_fixed(after.1 * share)?);
    numbers.push(to_fixed(share)?);
    Some(numbers)
}

/// A worker: its rows, its network, and how it hides what it hands over.
pub(super) struct Worker<'a> {
    local: Local<'a>,
    sum: Box<dyn SecureSum>,
    place: usize,
    share: f64,
    settings: Federated,
}

impl<'a> Worker<'a> {
    pub(super) fn new(terms: &Terms, data: &'a Data<'a>, hyper: &'a Hyper, place: usize, sum: Box<dyn SecureSum>) -> Result<Self> {
        let share = data.train.len() as f64 / terms.shared.rows.max(1) as f64;
        Ok(Self { local: Local::new(data, hyper)?, sum, place, share, settings: terms.settings()?.clone() })
    }

    /// Trains from the common weights. What diverges, or has no rows, adds nothing; but it is hidden all the same, because the
    /// sum needs it.
    fn train(&mut self, common: &Parameters, round: u32, watch: &Watch<'_>) -> Result<Vec<u64>> {
        let epochs = self.settings.local_epochs as usize;
        let first = (round as usize - 1) * epochs + 1;
        let nothing = vec![0; common.count() + 2];
        if self.share <= 0.0 {
            return Ok(nothing);
        }
        match self.local.round(common, first, epochs, self.settings.mu, watch) {
            Ok(after) => Ok(handed_over(common, &after, self.share).unwrap_or(nothing)),
            Err(error) if error.code == Code::InvalidParameter => Ok(nothing),
            Err(error) => Err(error),
        }
    }

    fn hide(&self, numbers: &[u64], turn: Turn, participants: &[usize]) -> Result<Vec<u64>> {
        let mut hidden = numbers.to_vec();
        self.sum.hide(turn, self.place, participants, &mut hidden)?;
        Ok(hidden)
    }
}

/// Moves the common weights by what the workers handed over together; the mean loss. `None` when there is nothing in it.
fn moved(common: &mut Parameters, sum: &[u64]) -> Option<f64> {
    let [numbers @ .., loss, share] = sum else { return None };
    let share = from_fixed(*share);
    if share <= 0.0 || numbers.len() != common.count() {
        return None;
    }
    let mut numbers = numbers.iter();
    for (_, values) in common.0.values_mut() {
        for (value, number) in values.iter_mut().zip(&mut numbers) {
            *value = (f64::from(*value) + from_fixed(*number) / share) as f32;
        }
    }
    Some(from_fixed(*loss) / share)
}

/// Trains and measures. Blocks the calling thread; the work runs on threads of its own.
///
/// # Errors
/// `Cancelled`; `NotReady` when no worker answers; `InvalidParameter` when nothing can be learned.
pub fn train(request: FederatedRequest<'_>) -> Result<Trained> {
    candidates::in_pool(request.threads, || run(request))
}

/// The best weights of all rounds.
struct Best {
    round: usize,
    loss: f64,
    parameters: Parameters,
}

fn run(mut request: FederatedRequest<'_>) -> Result<Trained> {
    let started = Instant::now();
    let (own, terms) = (request.own, request.terms);
    let settings = terms.settings()?.clone();
    let deadline = terms.options.max_seconds.filter(|s| *s > 0.0 && *s < 1e9).map(|s| started + Duration::from_secs_f64(s));
    let (cancel, progress) = (request.cancel, request.progress);
    let base = base(&request);
    let mut problem = Problem::new(&base)?;
    problem.adopt(terms.common()?);
    let weighted = terms.options.class_weights != ClassWeights::None;
    let judge = problem.judge();
    let metric = |logits: &[f32]| judge.metric(logits);
    let watch =
        Watch { cancel, progress, deadline, keep_partial: false, metric: &metric, part: Part::Whole, checkpoints: None, memory: None };
    let mut common = first_weights(terms, request.sample)?;
    let mut notes = Vec::new();
    let hypers: Vec<Hyper> = (0..=here(&request.crew)).map(|place| terms.hyper(place)).collect::<Result<_>>()?;
    let datas = datas(&request, &problem)?;
    let mut workers = workers(terms, &datas, &hypers, &settings)?;
    let (mut best, mut history): (Option<Best>, Vec<EpochRecord>) = (None, Vec::new());
    for round in 1..=settings.rounds {
        let began = Instant::now();
        let gathered = gather(&mut request.crew, &mut workers, &common, round, &watch, &mut notes);
        let sum = match gathered {
            Err(error) if stops(&error, cancel, deadline, best.is_some(), terms.options.keep_partial) => {
                notes.push(format!("ended in round {round}: {}", error.message));
                break;
            }
            other => other?,
        };
        let train_loss = moved(&mut common, &sum).ok_or_else(|| Error::invalid("training diverged: no worker has finite weights"))?;
        let network = network(&hypers[0], &common)?;
        let logits = problem.logits(&base, &network, &problem.data.validation)?;
        let valid_loss =
            if logits.is_empty() { train_loss } else { fit::mean_loss(&problem.data, &logits, &problem.data.validation, &hypers[0]) };
        let seconds = began.elapsed().as_secs_f64();
        history.push(EpochRecord {
            epoch: round as usize,
            train_loss,
            valid_loss,
            valid_metric: judge.metric(&logits),
            learning_rate: hypers[0].learning_rate,
            seconds,
            rows_per_s: terms.shared.rows as f64 * f64::from(settings.local_epochs) / seconds.max(1e-9),
        });
        if valid_loss.is_finite() && best.as_ref().is_none_or(|best| valid_loss < best.loss) {
            best = Some(Best { round: round as usize, loss: valid_loss, parameters: common.clone() });
        }
        let waited = round as usize - best.as_ref().map_or(0, |best| best.round);
        if terms.options.patience.is_some_and(|patience| waited >= patience.max(1) as usize) {
            break;
        }
    }
    let best = best.ok_or_else(|| Error::invalid("training diverged: the loss is not finite").hint("Try a smaller learning_rate."))?;
    notes.extend(remarks(names(&request.crew) + 1, terms.shared.rows, history.len(), &problem, settings.masks));
    let fitted = Fitted {
        config: hypers[0].config.clone(),
        parameters: best.parameters,
        epochs_run: history.len(),
        best_epoch: best.round,
        history,
        notes: Vec::new(),
        privacy: None,
        device: "cpu".into(),
        seconds: started.elapsed().as_secs_f64(),
    };
    let network: Arc<dyn Network> = Arc::from(models::load(&fitted.config, &fitted.parameters)?);
    let best = problem.measure(&base, fitted, network, &judge, weighted)?;
    let mut report = best.report();
    report.chosen = true;
    let options = terms.options.clone();
    let found = Found { best, options, reports: vec![report], trials: Vec::new(), ensemble: None, members: Vec::new(), notes };
    Ok(problem.finished(found, Vec::new(), &own.rfm, started))
}

/// What the trained model says of how it came about.
fn remarks(workers: usize, rows: impl Display, rounds: usize, problem: &Problem<'_>, masked: bool) -> Vec<String> {
    let (validation, test) = (problem.data.validation.len(), problem.data.test.len());
    let mut remarks = vec![
        format!("federated averaging of {workers} workers and {rows} rows over {rounds} rounds"),
        format!("the {validation} validation and {test} test rows are the coordinator's own"),
    ];
    if masked {
        remarks.push("updates were masked: the coordinator saw their sums alone".to_owned());
    }
    remarks
}

/// Whether what has been reached is kept instead of failing.
fn stops(error: &Error, cancel: &CancellationToken, deadline: Option<Instant>, some: bool, keep_partial: bool) -> bool {
    let out_of_time = error.code == Code::Cancelled && !cancel.is_cancelled() && deadline.is_some();
    some && (error.code == Code::NotReady || out_of_time || (error.code == Code::Cancelled && keep_partial))
}

fn base<'a>(request: &FederatedRequest<'a>) -> Request<'a> {
    let own = request.own;
    Request {
        rows: Labelled {
            shape: own.encoder.shape(),
            inputs: &own.inputs,
            labels: &own.labels,
            classes: &own.classes,
            split: &own.split,
            rfm: &own.rfm,
            encoder: Some(&own.encoder),
            users: &[],
        },
        architecture: Some(request.terms.architecture),
        options: &request.terms.options,
        task: request.terms.task(),
        threads: request.threads,
        cancel: request.cancel,
        progress: request.progress,
        init: None,
        checkpoints: None,
        memory: None,
        catalogue: None,
        teacher: None,
    }
}

/// Workers of this process besides the coordinator.
fn here(crew: &Crew<'_>) -> usize {
    match crew {
        Crew::Here(workers) => workers.len(),
        Crew::Remote(_) => 0,
    }
}

fn names(crew: &Crew<'_>) -> usize {
    match crew {
        Crew::Here(workers) => workers.len(),
        Crew::Remote(coordinator) => coordinator.workers().len(),
    }
}

/// The rows of everybody in this process, the coordinator first.
fn datas<'a>(request: &FederatedRequest<'a>, problem: &Problem<'_>) -> Result<Vec<Data<'a>>> {
    let mut datas = vec![request.terms.data(request.own, problem.data.train.clone())?];
    if let Crew::Here(workers) = &request.crew {
        for (_, dataset) in *workers {
            datas.push(request.terms.data(dataset, (0..dataset.inputs.rows as u32).collect())?);
        }
    }
    Ok(datas)
}

fn workers<'a>(terms: &Terms, datas: &'a [Data<'a>], hypers: &'a [Hyper], settings: &Federated) -> Result<Vec<Worker<'a>>> {
    let mut sums: Vec<Box<dyn SecureSum>> = Vec::new();
    if settings.masks && datas.len() > 2 {
        // The coordinator knows its own update anyway: it is not hidden from itself.
        let keys: Vec<Keys> = (1..datas.len()).map(|_| Keys::new(datas.len() - 1)).collect::<Result<_>>()?;
        let public: Vec<Vec<Vec<u8>>> = keys.iter().map(|keys| keys.public.clone()).collect();
        for (place, keys) in keys.into_iter().enumerate() {
            sums.push(Box::new(keys.agree(place, &public)?));
        }
    }
    let mut sums = sums.into_iter();
    let mut worker = |(place, (data, hyper)): (usize, (&'a Data<'a>, &'a Hyper))| {
        let sum: Box<dyn SecureSum> = if place == 0 { Box::new(Plain) } else { sums.next().unwrap_or_else(|| Box::new(Plain)) };
        Worker::new(terms, data, hyper, place.saturating_sub(1), sum)
    };
    datas.iter().zip(hypers).enumerate().map(&mut worker).collect()
}

fn first_weights(terms: &Terms, sample: &Inputs) -> Result<Parameters> {
    let hyper = terms.hyper(0)?;
    let targets = match terms.task() {
        Task::Classification => Targets::Classes(vec![0; sample.rows].into()),
        Task::Regression => Targets::Values(vec![0.0; sample.rows]),
    };
    let data = Data {
        inputs: Cow::Borrowed(sample),
        targets,
        train: (0..sample.rows as u32).collect(),
        validation: Vec::new(),
        test: Vec::new(),
        class_weights: None,
        resampled: None,
        users: &[],
        teacher: None,
        catalogue: None,
    };
    Local::new(&data, &hyper)?.parameters()
}

fn network(hyper: &Hyper, parameters: &Parameters) -> Result<Arc<dyn Network>> {
    Ok(Arc::from(models::load(&hyper.config, parameters)?))
}

/// One round: the sum of what everybody hands over.
fn gather(
    crew: &mut Crew<'_>,
    workers: &mut [Worker<'_>],
    common: &Parameters,
    round: u32,
    watch: &Watch<'_>,
    notes: &mut Vec<String>,
) -> Result<Vec<u64>> {
    let mut sum = vec![0u64; common.count() + 2];
    let Some((own, others)) = workers.split_first_mut() else { return Err(Error::internal("nobody trains")) };
    match crew {
        Crew::Here(_) => {
            let participants: Vec<usize> = (0..others.len()).collect();
            for worker in others {
                let numbers = worker.train(common, round, watch)?;
                add(&mut sum, &worker.hide(&numbers, Turn { round, attempt: 0 }, &participants)?);
            }
            add(&mut sum, &own.train(common, round, watch)?);
        }
        Crew::Remote(coordinator) => {
            let call = coordinator.call(round, common)?;
            let numbers = own.train(common, round, watch)?;
            coordinator.collect(call, common, &mut sum, watch.cancel, notes)?;
            add(&mut sum, &numbers);
        }
    }
    Ok(sum)
}

#[cfg(test)]
mod tests;
