//! The whole of a training: which architectures to try, which one wins, and what its numbers are worth.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::baseline::RecencyFrequency;
use super::calibration::Transform;
use super::checkpoint::{CheckpointStore, Checkpoints};
use super::fit::{self, Data, Fitted, Targets, Watch};
use super::hyper::{self, Hyper};
use super::metrics::{self, Metric};
use super::resample::resample;
use super::transfer::{Start, Transfer, WarmStart};
use super::{Calibration, CandidateReport, MemoryBudget, Part, Progress, Scorer, Scores, TrainRequest, Trained, TrialReport, tune};
use crate::error::{Code, Error, Result};
use crate::features::Encoder;
use crate::features::events::UserKey;
use crate::features::inputs::{InputShape, Inputs, Labels, Rows};
use crate::features::options::{ClassWeights, Options};
use crate::models::{self, Architecture, Network, Task};

/// Stack of the training threads.
const STACK_BYTES: usize = 64 << 20;
/// Skewness above which a target that is never negative is learned in logarithms.
const SKEWNESS_LIMIT: f64 = 2.0;

/// Trains, chooses and measures. Blocks the calling thread; the work runs on threads of its own with big stacks.
///
/// The same request gives the same parameters, bit for bit, for any number of threads.
///
/// # Errors
/// `Cancelled`; `InvalidParameter` when the data cannot be learned from; `Internal` for a bug of ours.
pub fn train(request: TrainRequest<'_>) -> Result<Trained> {
    let dataset = request.dataset;
    train_rows(Request {
        rows: Labelled {
            shape: dataset.encoder.shape(),
            inputs: &dataset.inputs,
            labels: &dataset.labels,
            classes: &dataset.classes,
            split: &dataset.split,
            rfm: &dataset.rfm,
            encoder: Some(&dataset.encoder),
            users: &dataset.users,
        },
        architecture: request.architecture,
        options: request.options,
        task: request.task,
        threads: request.threads,
        cancel: request.cancel,
        progress: request.progress,
        init: request.init,
        checkpoints: request.checkpoints,
        memory: request.memory,
    })
}

/// The parts of a dataset that are learned from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Labelled<'a> {
    pub(super) shape: &'a InputShape,
    pub(super) inputs: &'a Inputs,
    pub(super) labels: &'a Labels,
    pub(super) classes: &'a [String],
    pub(super) split: &'a [Rows],
    pub(super) rfm: &'a [[f32; 2]],
    /// What made the rows; knows what ids mean.
    pub(super) encoder: Option<&'a Encoder>,
    /// Whose row; empty for labelled tables.
    pub(super) users: &'a [UserKey],
}

/// [`TrainRequest`] on such rows.
pub(super) struct Request<'a> {
    pub(super) rows: Labelled<'a>,
    pub(super) architecture: Option<Architecture>,
    pub(super) options: &'a Options,
    pub(super) task: Task,
    pub(super) threads: usize,
    pub(super) cancel: &'a CancellationToken,
    pub(super) progress: &'a (dyn Fn(Progress) + Send + Sync),
    pub(super) init: Option<WarmStart<'a>>,
    pub(super) checkpoints: Option<&'a dyn CheckpointStore>,
    pub(super) memory: Option<&'a Arc<dyn MemoryBudget>>,
}

/// See [`train`].
pub(super) fn train_rows(request: Request<'_>) -> Result<Trained> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(request.threads.max(1))
        .stack_size(STACK_BYTES)
        .thread_name(|index| format!("ml-train-{index}"))
        .build()
        .map_err(|error| Error::internal(format!("training threads cannot be started: {error}")))?;
    pool.install(|| catch_unwind(AssertUnwindSafe(|| run(&request)))).unwrap_or_else(|_| Err(Error::internal("training panicked")))
}

/// A fitted candidate and what it is worth.
pub(super) struct Candidate {
    pub(super) fitted: Fitted,
    pub(super) calibration: Calibration,
    pub(super) valid: f64,
    pub(super) test: f64,
}

/// What a choice between networks came to.
pub(super) struct Found {
    pub(super) best: Candidate,
    /// The options that the best was trained with.
    pub(super) options: Options,
    pub(super) reports: Vec<CandidateReport>,
    pub(super) trials: Vec<TrialReport>,
    pub(super) notes: Vec<String>,
}

/// One network to fit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setup<'a> {
    pub(super) architecture: Architecture,
    pub(super) options: &'a Options,
    /// Its name among the checkpoints.
    pub(super) label: &'a str,
    pub(super) part: Part,
    pub(super) deadline: Option<Instant>,
}

fn run(request: &Request<'_>) -> Result<Trained> {
    let started = Instant::now();
    let deadline =
        request.options.max_seconds.filter(|seconds| *seconds > 0.0 && *seconds < 1e9).map(|s| started + Duration::from_secs_f64(s));
    let problem = Problem::new(request)?;
    let architectures = match (request.architecture, &problem.transfer) {
        (Some(architecture), _) => vec![architecture],
        // Given weights are of one architecture.
        (None, Some(transfer)) => vec![transfer.architecture()],
        (None, None) => sensible(&request.rows),
    };
    let found = match &request.options.tune {
        Some(tune) => tune::search(request, &problem, &architectures, tune, deadline)?,
        None => candidates(request, &problem, &architectures, deadline)?,
    };
    let Found { best, options, reports, trials, mut notes } = found;
    notes.extend(best.fitted.privacy.map(|report| report.to_string()));
    Ok(Trained {
        config: best.fitted.config,
        parameters: best.fitted.parameters,
        calibration: best.calibration,
        epochs_run: best.fitted.epochs_run,
        best_epoch: best.fitted.best_epoch,
        history: best.fitted.history,
        metric: problem.metric,
        valid: best.valid,
        test: best.test,
        baseline: problem.baseline(),
        simple_baseline: problem.simple_baseline(request.rows.rfm),
        candidates: reports,
        trials,
        options,
        notes: problem.notes.iter().cloned().chain(notes).collect(),
        privacy: best.fitted.privacy,
        seconds: started.elapsed().as_secs_f64(),
    })
}

/// Fits each architecture and keeps the best on validation.
fn candidates(request: &Request<'_>, problem: &Problem<'_>, architectures: &[Architecture], deadline: Option<Instant>) -> Result<Found> {
    let (mut best, mut reports, mut notes): (Option<Candidate>, Vec<CandidateReport>, Vec<String>) = (None, Vec::new(), Vec::new());
    for (at, architecture) in architectures.iter().enumerate() {
        let deadline = fit::share_of_budget(deadline, architectures.len() - at);
        let setup =
            Setup { architecture: *architecture, options: request.options, label: architecture.name(), part: Part::Whole, deadline };
        let candidate = match problem.candidate(request, setup) {
            Ok(candidate) => candidate,
            // With something to show for the time, a cancelled auto training may keep it.
            Err(error) if error.code == Code::Cancelled && request.options.keep_partial && best.is_some() => {
                notes.push(format!("cancelled before {architecture} was trained"));
                break;
            }
            Err(error) => return Err(error),
        };
        notes.extend(candidate.fitted.notes.iter().map(|note| format!("{architecture}: {note}")));
        reports.push(candidate.report());
        if best.as_ref().is_none_or(|best| problem.metric.is_better(candidate.valid, best.valid)) {
            best = Some(candidate);
        }
    }
    let best = best.ok_or_else(|| Error::internal("no architecture was tried"))?;
    for report in &mut reports {
        report.chosen = report.architecture == best.fitted.config.architecture;
    }
    Ok(Found { best, options: request.options.clone(), reports, trials: Vec::new(), notes })
}

impl Candidate {
    pub(super) fn report(&self) -> CandidateReport {
        CandidateReport {
            architecture: self.fitted.config.architecture,
            valid: self.valid,
            test: self.test,
            epochs_run: self.fitted.epochs_run,
            parameters: self.fitted.parameters.count(),
            seconds: self.fitted.seconds,
            chosen: false,
        }
    }
}

/// The architectures that `auto` tries on a dataset.
fn sensible(rows: &Labelled<'_>) -> Vec<Architecture> {
    let shape = rows.shape;
    let mut list = Vec::new();
    if shape.numeric + shape.categorical.len() > 0 {
        list.extend([Architecture::Logreg, Architecture::Dnn]);
    }
    let has_steps = rows.inputs.sequence.as_ref().is_some_and(|sequence| sequence.spans.iter().any(|span| span.1 > 1));
    if shape.sequence.is_some() && (has_steps || list.is_empty()) {
        list.push(Architecture::Gru);
    }
    if shape.image.is_some() {
        list.push(Architecture::Cnn);
    }
    list
}

/// A dataset made ready for fitting and measuring.
pub(super) struct Problem<'a> {
    /// The rows as they are; [`Problem::data`] gives them as options want them learned from.
    data: Data<'a>,
    names: &'a [String],
    task: Task,
    classes: usize,
    pub(super) metric: Metric,
    prior: Vec<f64>,
    /// Regression: the truth in its own units, per row, and how it was standardised.
    truth: Vec<f64>,
    value_transform: Option<Transform>,
    transfer: Option<Transfer<'a>>,
    notes: Vec<String>,
}

/// The truth of the validation rows.
pub(super) struct Judge<'a> {
    problem: &'a Problem<'a>,
    labels: Vec<u32>,
    truth: Vec<f64>,
    plain: Calibration,
}

impl<'a> Problem<'a> {
    fn new(request: &Request<'a>) -> Result<Self> {
        let dataset = request.rows;
        let rows = |part: Rows| -> Vec<u32> {
            dataset.split.iter().enumerate().filter(|(_, own)| **own == part).map(|(row, _)| row as u32).collect()
        };
        let (train, validation, test) = (rows(Rows::Train), rows(Rows::Validation), rows(Rows::Test));
        if train.is_empty() {
            return Err(Error::invalid("there are no rows to train on"));
        }
        let mut notes = Vec::new();
        if validation.is_empty() {
            notes.push("there are no validation rows: the training loss decides when to stop".to_owned());
        }
        let (targets, prior, truth, value_transform, classes) = match (dataset.labels, request.task) {
            (Labels::Class(labels), Task::Classification) => {
                let classes = dataset.classes.len();
                if classes < 2 || labels.iter().any(|label| *label as usize >= classes) {
                    return Err(Error::invalid("the target has fewer than two classes"));
                }
                (Targets::Classes(labels.as_slice().into()), class_prior(labels, &train, classes), Vec::new(), None, classes)
            }
            (Labels::Value(values), Task::Regression) => {
                let truth: Vec<f64> = values.iter().map(|value| f64::from(*value)).collect();
                let (transform, prior, standardised) = standardise(&truth, &train)?;
                if matches!(transform, Transform::Value { log1p: true, .. }) {
                    notes.push("the target is heavy-tailed and never negative: it was learned as ln(1 + value)".to_owned());
                }
                (Targets::Values(standardised), prior, truth, Some(transform), 0)
            }
            _ => return Err(Error::internal("labels do not fit the task")),
        };
        let metric = match classes {
            0 => Metric::Rmse,
            2 => Metric::PrAuc,
            _ => Metric::LogLoss,
        };
        let transfer = request.init.map(|init| {
            let same_task = (init.config.task, init.config.outputs) == (request.task, classes.max(1));
            Transfer::new(init, dataset.encoder, dataset.classes, same_task)
        });
        let data = Data {
            inputs: Cow::Borrowed(dataset.inputs),
            targets,
            train,
            validation,
            test,
            class_weights: None,
            resampled: None,
            users: dataset.users,
        };
        // Weights that name a class that is not there are refused before anything is learned.
        class_weights(&request.options.class_weights, dataset.classes, &data.targets, &data.train)?;
        let names = dataset.classes;
        Ok(Self { data, names, task: request.task, classes, metric, prior, truth, value_transform, transfer, notes })
    }

    fn outputs(&self) -> usize {
        self.classes.max(1)
    }

    fn labels_of(&self, rows: &[u32]) -> Vec<u32> {
        match &self.data.targets {
            Targets::Classes(labels) => rows.iter().map(|row| labels[*row as usize]).collect(),
            Targets::Values(_) => Vec::new(),
        }
    }

    fn truth_of(&self, rows: &[u32]) -> Vec<f64> {
        rows.iter().map(|row| self.truth[*row as usize]).collect()
    }

    fn uncalibrated(&self) -> Calibration {
        let transform = self.value_transform.clone().unwrap_or(Transform::Temperature { temperature: 1.0, offsets: Vec::new() });
        Calibration { transform, prior: self.prior.clone() }
    }

    /// Hyper-parameters and data as `options` want them.
    pub(super) fn setup(&self, request: &Request<'_>, architecture: Architecture, options: &Options) -> Result<(Hyper, Data<'a>)> {
        let mut data = resample(&self.data, request.rows.shape, options.oversample, options.seed)?;
        data.class_weights = class_weights(&options.class_weights, self.names, &data.targets, &data.train)?;
        let rows = self.data.train.len();
        Ok((hyper::resolve(architecture, request.rows.shape, self.outputs(), self.task, options, rows), data))
    }

    pub(super) fn judge(&self) -> Judge<'_> {
        let rows = &self.data.validation;
        let truth = if self.classes == 0 { self.truth_of(rows) } else { Vec::new() };
        Judge { problem: self, labels: self.labels_of(rows), truth, plain: self.uncalibrated() }
    }

    /// Where a fit of `architecture` starts.
    pub(super) fn start<'b>(&'b self, architecture: Architecture, options: &'b Options) -> Start<'b> {
        Start { warm: self.transfer.as_ref().filter(|transfer| transfer.architecture() == architecture), freeze: &options.freeze }
    }

    /// Fits, calibrates on the validation rows and measures on validation and test rows.
    pub(super) fn candidate(&self, request: &Request<'_>, setup: Setup<'_>) -> Result<Candidate> {
        let (hyper, data) = self.setup(request, setup.architecture, setup.options)?;
        let judge = self.judge();
        let metric = |logits: &[f32]| judge.metric(logits);
        let checkpoints = request.kept();
        let watch = request.watch(&metric, setup.deadline, setup.part, checkpoints.as_ref());
        let fitted = fit::fit(&data, &hyper, self.start(setup.architecture, setup.options), setup.label, &watch)?;
        let network: Arc<dyn Network> = Arc::from(models::load(&fitted.config, &fitted.parameters)?);
        self.measure(request, fitted, network, &judge, data.is_shifted())
    }

    /// Calibrates a network on the validation rows and measures it there and on the test rows. `shifted`: it learned
    /// from classes in other shares than nature's.
    pub(super) fn measure(
        &self,
        request: &Request<'_>,
        fitted: Fitted,
        network: Arc<dyn Network>,
        judge: &Judge<'_>,
        shifted: bool,
    ) -> Result<Candidate> {
        let (calibration, valid) = judge.calibrate(request, &network, shifted)?;
        let scorer = Scorer::new(network, calibration.clone());
        let cancel = request.cancel_of_scoring();
        let test = self.headline_scores(&scorer.score_rows(&self.data.inputs, &self.data.test, cancel)?, &self.data.test);
        Ok(Candidate { fitted, calibration, valid, test })
    }

    fn calibrate(&self, logits: &[f32], labels: &[u32], truth: &[f64], shifted: bool) -> Calibration {
        match &self.value_transform {
            None if shifted => Calibration::fit_shifted_classes(logits, labels, self.classes, self.prior.clone()),
            None => Calibration::fit_classes(logits, labels, self.classes, self.prior.clone()),
            Some(transform) => {
                let mut calibration = Calibration { transform: transform.clone(), prior: self.prior.clone() };
                let (promised, came): (f64, f64) = (calibration.values(logits).iter().sum(), truth.iter().sum());
                if let Transform::Value { log1p: true, scale, .. } = &mut calibration.transform
                    && promised > 0.0
                    && came > 0.0
                {
                    *scale = (came / promised).clamp(0.2, 5.0);
                }
                calibration
            }
        }
    }

    fn headline(&self, calibration: &Calibration, logits: &[f32], labels: &[u32], truth: &[f64]) -> f64 {
        if self.classes == 0 {
            return metrics::rmse(truth, &calibration.values(logits));
        }
        metrics::headline_classes(labels, &calibration.probabilities(logits, self.classes), &self.prior).1
    }

    fn headline_scores(&self, scores: &Scores, rows: &[u32]) -> f64 {
        if self.classes == 0 {
            return metrics::rmse(&self.truth_of(rows), &scores.values);
        }
        metrics::headline_classes(&self.labels_of(rows), &scores.probabilities, &self.prior).1
    }

    /// What the training prior alone reaches on the test rows.
    fn baseline(&self) -> f64 {
        let rows = &self.data.test;
        if self.classes == 0 {
            let truth = self.truth_of(rows);
            return metrics::headline_values(&truth, &truth, self.prior[0]).2;
        }
        let constant: Vec<f64> = rows.iter().flat_map(|_| self.prior.iter().copied()).collect();
        metrics::headline_classes(&self.labels_of(rows), &constant, &self.prior).2
    }

    /// Recency and frequency alone, for binary targets over events.
    fn simple_baseline(&self, rfm: &[[f32; 2]]) -> Option<f64> {
        let Targets::Classes(labels) = &self.data.targets else { return None };
        if self.classes != 2 || rfm.len() != labels.len() || self.data.test.is_empty() {
            return None;
        }
        let model = RecencyFrequency::fit(rfm, labels, &self.data.train)?;
        let probabilities: Vec<f64> = self
            .data
            .test
            .iter()
            .flat_map(|row| {
                let positive = model.probability(&rfm[*row as usize]);
                [1.0 - positive, positive]
            })
            .collect();
        Some(metrics::headline_classes(&self.labels_of(&self.data.test), &probabilities, &self.prior).1)
    }
}

impl Judge<'_> {
    /// The headline metric of validation outputs, uncalibrated.
    pub(super) fn metric(&self, logits: &[f32]) -> f64 {
        self.problem.headline(&self.plain, logits, &self.labels, &self.truth)
    }

    /// A network's calibration on the validation rows, and the headline metric with it.
    pub(super) fn calibrate(&self, request: &Request<'_>, network: &Arc<dyn Network>, shifted: bool) -> Result<(Calibration, f64)> {
        let problem = self.problem;
        // Calibration sees the raw outputs of the very path that scoring takes.
        let scorer = Scorer::new(Arc::clone(network), self.plain.clone());
        let logits = scorer.logits(&problem.data.inputs, &problem.data.validation, request.cancel_of_scoring())?;
        // A private model is not fitted to the validation rows either.
        let private = request.options.privacy.is_some();
        let calibration = if private { self.plain.clone() } else { problem.calibrate(&logits, &self.labels, &self.truth, shifted) };
        let valid = problem.headline(&calibration, &logits, &self.labels, &self.truth);
        Ok((calibration, valid))
    }
}

impl<'a> Request<'a> {
    /// What a fit looks at.
    pub(super) fn watch<'b>(
        &'b self,
        metric: &'b (dyn Fn(&[f32]) -> f64 + Send + Sync),
        deadline: Option<Instant>,
        part: Part,
        checkpoints: Option<&'b Checkpoints<'b>>,
    ) -> Watch<'b> {
        let keep_partial = self.options.keep_partial;
        let memory = self.memory;
        Watch { cancel: self.cancel, progress: self.progress, deadline, keep_partial, metric, part, checkpoints, memory }
    }

    /// Where the state of its fits is kept; `None` without the option.
    pub(super) fn kept(&self) -> Option<Checkpoints<'a>> {
        Some(Checkpoints::new(self.checkpoints?, self.options.checkpoint_every?))
    }

    /// A training that keeps what it has measures it even when cancelled.
    fn cancel_of_scoring(&self) -> Option<&CancellationToken> {
        Some(self.cancel).filter(|_| !self.options.keep_partial)
    }
}

impl Data<'_> {
    /// Whether classes are learned from in other shares than nature's.
    pub(super) fn is_shifted(&self) -> bool {
        self.class_weights.is_some() || self.resampled.is_some()
    }
}

/// Class shares of the training rows, each class counted once more than seen so that none is impossible.
fn class_prior(labels: &[u32], train: &[u32], classes: usize) -> Vec<f64> {
    let mut counts = vec![1.0; classes];
    for row in train {
        counts[labels[*row as usize] as usize] += 1.0;
    }
    let total: f64 = counts.iter().sum();
    counts.into_iter().map(|count| count / total).collect()
}

fn class_weights(option: &ClassWeights, classes: &[String], targets: &Targets<'_>, train: &[u32]) -> Result<Option<Vec<f32>>> {
    let Targets::Classes(labels) = targets else { return Ok(None) };
    match option {
        ClassWeights::None => Ok(None),
        ClassWeights::Balanced => {
            let mut counts = vec![0usize; classes.len()];
            train.iter().for_each(|row| counts[labels[*row as usize] as usize] += 1);
            let weight = |count: &usize| train.len() as f32 / (classes.len() as f32 * (*count).max(1) as f32);
            Ok(Some(counts.iter().map(weight).collect()))
        }
        ClassWeights::Weights(given) => {
            let mut weights = vec![1.0; classes.len()];
            for (name, weight) in given {
                let class = classes.iter().position(|class| class == name).ok_or_else(|| {
                    Error::invalid(format!("class \"{name}\" in class_weights does not exist")).detail(format!(
                        "The classes are {}.",
                        classes.iter().map(|class| format!("\"{class}\"")).collect::<Vec<_>>().join(", ")
                    ))
                })?;
                if !weight.is_finite() || *weight < 0.0 {
                    return Err(Error::invalid(format!("the weight of class \"{name}\" must not be negative")));
                }
                weights[class] = *weight as f32;
            }
            Ok(Some(weights))
        }
    }
}

/// Standardises a numeric target on its training rows: transformation, `[mean, median]`, and the standardised values.
fn standardise(truth: &[f64], train: &[u32]) -> Result<(Transform, Vec<f64>, Vec<f32>)> {
    let mut values: Vec<f64> = train.iter().map(|row| truth[*row as usize]).collect();
    if values.iter().any(|value| !value.is_finite()) {
        return Err(Error::internal("a target is not finite"));
    }
    values.sort_unstable_by(f64::total_cmp);
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let deviation = |values: &[f64], mean: f64| (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt();
    let std = deviation(&values, mean);
    let skewness = values.iter().map(|value| ((value - mean) / std.max(1e-12)).powi(3)).sum::<f64>() / count;
    let (min, max, median) = (values[0], values[values.len() - 1], values[values.len() / 2]);
    let log1p = min >= 0.0 && skewness > SKEWNESS_LIMIT;
    let inner = |value: f64| if log1p { value.max(0.0).ln_1p() } else { value };
    let (center, spread) = if log1p {
        let logs: Vec<f64> = values.iter().map(|value| value.ln_1p()).collect();
        let center = logs.iter().sum::<f64>() / count;
        (center, deviation(&logs, center))
    } else {
        (mean, std)
    };
    let spread = if spread > 1e-12 { spread } else { 1.0 };
    let standardised = truth.iter().map(|value| ((inner(*value) - center) / spread) as f32).collect();
    Ok((Transform::Value { mean: center, std: spread, log1p, scale: 1.0, min, max }, vec![mean, median], standardised))
}
