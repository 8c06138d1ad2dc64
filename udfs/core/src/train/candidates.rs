//! The whole of a training: which architectures to try, which one wins, and what its numbers are worth.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::ahead;
use super::baseline::RecencyFrequency;
use super::calibration::Transform;
use super::catalogue::Catalogue;
use super::checkpoint::{CheckpointStore, Checkpoints};
use super::crosses;
use super::distil::Teacher;
use super::ensemble;
use super::fit::{self, Data, Fitted, Targets, Watch};
use super::folds::{self, Parts, Validated};
use super::hyper::{self, Hyper};
use super::metrics::{self, Metric};
use super::ranked::{DENSE_CLASSES_MAX, Standings, is_ranked};
use super::resample::resample;
use super::transfer::{Start, Transfer, WarmStart};
use super::{
    Calibration, CandidateReport, FoldReport, MemberReport, MemoryBudget, Part, Progress, Scorer, Scores, TrainRequest, Trained,
    TrialReport,
};
use crate::error::{Code, Error, Result};
use crate::features::Encoder;
use crate::features::events::UserKey;
use crate::features::inputs::{InputShape, Inputs, Labels, Rows};
use crate::features::options::{ClassWeights, Loss, Options, Oversample};
use crate::models::{self, Architecture, EnsembleConfig, Network, Task, autoencoder};

/// Stack of the training threads.
const STACK_BYTES: usize = 64 << 20;
/// Logits that a temperature is fitted on at most.
const CALIBRATION_LOGITS_MAX: usize = 1 << 23;
/// Skewness above which a target that is never negative is learned in logarithms.
const SKEWNESS_LIMIT: f64 = 2.0;

/// Trains, chooses and measures. Blocks the calling thread; the work runs on threads of its own with big stacks.
///
/// The same request gives the same parameters, bit for bit, for any number of threads.
///
/// # Errors
/// `Cancelled`; `InvalidParameter` when the data cannot be learned from; `Internal` for a bug of ours.
pub fn train(request: TrainRequest<'_>) -> Result<Trained> {
    train_with(request, None)
}

/// [`train`] with what a teacher says about the training rows.
pub(super) fn train_with(request: TrainRequest<'_>, teacher: Option<Arc<Teacher>>) -> Result<Trained> {
    let dataset = request.dataset;
    let catalogue = dataset.of_items.then(|| Catalogue::new(&dataset.encoder, &dataset.classes));
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
        catalogue: catalogue.as_ref(),
        architecture: request.architecture,
        options: request.options,
        task: request.task,
        threads: request.threads,
        cancel: request.cancel,
        progress: request.progress,
        init: request.init,
        checkpoints: request.checkpoints,
        memory: request.memory,
        teacher,
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
    /// What the classes are, when they are items.
    pub(super) catalogue: Option<&'a Catalogue>,
    pub(super) architecture: Option<Architecture>,
    pub(super) options: &'a Options,
    pub(super) task: Task,
    pub(super) threads: usize,
    pub(super) cancel: &'a CancellationToken,
    pub(super) progress: &'a (dyn Fn(Progress) + Send + Sync),
    pub(super) init: Option<WarmStart<'a>>,
    pub(super) checkpoints: Option<&'a dyn CheckpointStore>,
    pub(super) memory: Option<&'a Arc<dyn MemoryBudget>>,
    pub(super) teacher: Option<Arc<Teacher>>,
}

/// See [`train`].
pub(super) fn train_rows(request: Request<'_>) -> Result<Trained> {
    in_pool(request.threads, || run(&request))
}

/// Runs `work` on training threads of its own.
pub(super) fn in_pool<T: Send>(threads: usize, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads.max(1))
        .stack_size(STACK_BYTES)
        .thread_name(|index| format!("ml-train-{index}"))
        .build()
        .map_err(|error| Error::internal(format!("training threads cannot be started: {error}")))?;
    pool.install(|| catch_unwind(AssertUnwindSafe(work))).unwrap_or_else(|_| Err(Error::internal("training panicked")))
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
    /// How the members answer together, when there are several.
    pub(super) ensemble: Option<EnsembleConfig>,
    pub(super) members: Vec<MemberReport>,
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
    let folds = request.options.folds.map_or(0, |folds| folds as usize);
    // Each fold costs as much as the whole.
    let of_choice = fit::share_of_budget(deadline, folds + 1);
    let architectures = match (request.architecture, &problem.transfer) {
        (Some(architecture), _) => vec![architecture],
        // Given weights are of one architecture.
        (None, Some(transfer)) => vec![transfer.architecture()],
        (None, None) if problem.many_items() => vec![Architecture::Gru, Architecture::TwoTower],
        (None, None) => sensible(&request.rows),
    };
    let (found, recipe) = ensemble::choose(request, &problem, &architectures, of_choice)?;
    let mut validated = match folds {
        0 => Validated::default(),
        _ => folds::cross_validate(request, &problem, &recipe, folds, deadline)?,
    };
    let mut found = found;
    found.notes.extend(found.best.fitted.privacy.map(|report| report.to_string()));
    found.notes.append(&mut validated.notes);
    Ok(problem.finished(found, validated.folds, request.rows.rfm, started))
}

/// Fits each architecture and keeps the best on validation.
pub(super) fn candidates(
    request: &Request<'_>,
    problem: &Problem<'_>,
    architectures: &[Architecture],
    deadline: Option<Instant>,
) -> Result<Found> {
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
    Ok(Found { best, options: request.options.clone(), reports, trials: Vec::new(), ensemble: None, members: Vec::new(), notes })
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
    if shape.numeric + shape.categorical.len() + shape.texts.len() > 0 {
        list.extend([Architecture::Logreg, Architecture::Dnn]);
    }
    let has_steps = rows.inputs.sequence.as_ref().is_some_and(|sequence| sequence.spans.iter().any(|span| span.1 > 1));
    if shape.sequence.is_some() && (has_steps || list.is_empty() || shape.image.is_some()) {
        list.push(Architecture::Gru);
    }
    if shape.sequence.is_none() && (shape.image.is_some() || !shape.texts.is_empty()) {
        list.push(Architecture::Cnn);
    }
    list
}

/// What is known of a label without looking at a row.
pub(super) struct Common {
    /// Class shares, or mean and median.
    pub(super) prior: Vec<f64>,
    /// How a number is standardised.
    pub(super) transform: Option<Transform>,
}

impl Common {
    pub(super) fn of_classes(rows: &[u64]) -> Self {
        let total = rows.iter().sum::<u64>() as f64 + rows.len() as f64;
        Self { prior: rows.iter().map(|rows| (*rows as f64 + 1.0) / total).collect(), transform: None }
    }

    pub(super) fn of_values(truth: &[f64]) -> Result<Self> {
        let (transform, prior, _) = standardise(truth, &(0..truth.len() as u32).collect::<Vec<_>>())?;
        Ok(Self { prior, transform: Some(transform) })
    }
}

/// A dataset made ready for fitting and measuring.
pub(super) struct Problem<'a> {
    /// The rows as they are; [`Problem::setup`] gives them as options want them learned from.
    pub(super) data: Data<'a>,
    names: &'a [String],
    pub(super) task: Task,
    /// Whether it is measured by the ranking of the whole catalogue.
    ranked: Option<&'a Catalogue>,
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
    pub(super) fn new(request: &Request<'a>) -> Result<Self> {
        Self::of(request, Parts::of(request.rows.split))
    }

    /// With other parts than the dataset's own split.
    pub(super) fn of(request: &Request<'a>, Parts { train, validation, test }: Parts) -> Result<Self> {
        let dataset = request.rows;
        if let Some(architecture) = request.architecture {
            ahead::check_reads(architecture, dataset.inputs)?;
        }
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
            _ if request.architecture == Some(Architecture::Autoencoder) => {
                let constant = |rows: &[u32]| autoencoder::constant_error(dataset.inputs, dataset.shape, &train, rows);
                (Targets::Rows, vec![constant(&test), constant(&validation)], Vec::new(), None, 0)
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
        let ranked = request.catalogue.filter(|_| {
            let retrieval = request.architecture.or(request.init.as_ref().map(|init| init.config.architecture));
            classes > DENSE_CLASSES_MAX || retrieval.is_some_and(|own| is_ranked(own, classes))
        });
        check_items(request, ranked)?;
        let metric = match classes {
            _ if ranked.is_some() => Metric::Ndcg,
            _ if matches!(targets, Targets::Rows) => Metric::ReconstructionError,
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
            teacher: request.teacher.clone(),
            catalogue: request.catalogue,
        };
        // Weights that name a class that is not there are refused before anything is learned.
        class_weights(&request.options.class_weights, dataset.classes, &data.targets, &data.train)?;
        let names = dataset.classes;
        Ok(Self { data, names, task: request.task, ranked, classes, metric, prior, truth, value_transform, transfer, notes })
    }

    pub(super) fn outputs(&self) -> usize {
        self.classes.max(1)
    }

    /// Whether there are too many items to look at all of them at each step.
    fn many_items(&self) -> bool {
        self.ranked.is_some() && self.classes > DENSE_CLASSES_MAX
    }

    pub(super) fn parts(&self) -> Parts {
        let Data { train, validation, test, .. } = &self.data;
        Parts { train: train.clone(), validation: validation.clone(), test: test.clone() }
    }

    fn labels_of(&self, rows: &[u32]) -> Vec<u32> {
        match &self.data.targets {
            Targets::Classes(labels) => rows.iter().map(|row| labels[*row as usize]).collect(),
            Targets::Values(_) | Targets::Rows => Vec::new(),
        }
    }

    fn truth_of(&self, rows: &[u32]) -> Vec<f64> {
        if self.learns_rows() {
            return Vec::new();
        }
        rows.iter().map(|row| self.truth[*row as usize]).collect()
    }

    /// Whether there are no labels: networks answer with the reconstruction error of each row.
    fn learns_rows(&self) -> bool {
        matches!(self.data.targets, Targets::Rows)
    }

    pub(super) fn uncalibrated(&self) -> Calibration {
        let transform = self.value_transform.clone().unwrap_or(Transform::Temperature { temperature: 1.0, offsets: Vec::new() });
        Calibration { transform, prior: self.prior.clone() }
    }

    /// Hyper-parameters and data as `options` want them.
    pub(super) fn setup(&self, request: &Request<'_>, architecture: Architecture, options: &Options) -> Result<(Hyper, Data<'a>)> {
        self.setup_on(request, architecture, options, &self.data)
    }

    fn setup_on(&self, request: &Request<'_>, architecture: Architecture, options: &Options, data: &Data<'a>) -> Result<(Hyper, Data<'a>)> {
        ahead::check_reads(architecture, &data.inputs)?;
        let mut data = resample(data, request.rows.shape, options.oversample, options.seed)?;
        data.class_weights = class_weights(&options.class_weights, self.names, &data.targets, &data.train)?;
        let rows = self.data.train.len();
        let mut hyper = hyper::resolve(architecture, request.rows.shape, self.outputs(), self.task, options, rows);
        if architecture.is_retrieval() {
            hyper.config.catalogue = request.catalogue.and_then(|catalogue| catalogue.shape);
        }
        if architecture == Architecture::WideDeep {
            let names = request.rows.encoder.map(Encoder::categorical_names).unwrap_or_default();
            hyper.config.variant.crosses = crosses::choose(&options.network.crosses, &names, &self.data)?;
        }
        Ok((hyper, data))
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
        let (fitted, shifted) = self.fit(request, setup, None)?;
        let network: Arc<dyn Network> = Arc::from(models::load(&fitted.config, &fitted.parameters)?);
        self.measure(request, fitted, network, &self.judge(), shifted)
    }

    /// Fits one network to the training rows, or to others of them. Also whether it learned from classes in other shares
    /// than nature's.
    pub(super) fn fit(&self, request: &Request<'_>, setup: Setup<'_>, train: Option<Vec<u32>>) -> Result<(Fitted, bool)> {
        let own = train.map(|train| Data { train, ..self.data.clone() });
        let (hyper, data) = self.setup_on(request, setup.architecture, setup.options, own.as_ref().unwrap_or(&self.data))?;
        let judge = self.judge();
        let metric = |logits: &[f32]| judge.metric(logits);
        let checkpoints = request.kept();
        let watch = request.watch(&metric, setup.deadline, setup.part, checkpoints.as_ref());
        let fitted = fit::fit(&data, &hyper, self.start(setup.architecture, setup.options), setup.label, &watch)?;
        Ok((fitted, data.is_shifted()))
    }

    /// A network's own outputs for some rows.
    pub(super) fn logits(&self, request: &Request<'_>, network: &Arc<dyn Network>, rows: &[u32]) -> Result<Vec<f32>> {
        Scorer::new(Arc::clone(network), self.uncalibrated()).logits(&self.data.inputs, rows, request.cancel_of_scoring())
    }

    /// The headline metric of uncalibrated outputs for `rows`.
    pub(super) fn metric_of(&self, logits: &[f32], rows: &[u32]) -> f64 {
        let truth = if self.classes == 0 { self.truth_of(rows) } else { Vec::new() };
        self.headline(&self.uncalibrated(), logits, &self.labels_of(rows), &truth)
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
        if let Some(catalogue) = self.ranked {
            let test = ndcg(&self.stand(&scorer, &self.data.test, catalogue, cancel)?, catalogue);
            return Ok(Candidate { fitted, calibration, valid, test });
        }
        let test = self.headline_scores(&scorer.score_rows(&self.data.inputs, &self.data.test, cancel)?, &self.data.test);
        Ok(Candidate { fitted, calibration, valid, test })
    }

    fn calibrate(&self, logits: &[f32], labels: &[u32], truth: &[f64], shifted: bool) -> Calibration {
        match &self.value_transform {
            None if self.learns_rows() => self.uncalibrated(),
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
        if self.learns_rows() {
            return logits.iter().map(|error| f64::from(*error)).sum::<f64>() / logits.len() as f64;
        }
        if self.classes == 0 {
            return metrics::rmse(truth, &calibration.values(logits));
        }
        metrics::headline_classes(labels, &calibration.probabilities(logits, self.classes), &self.prior).1
    }

    fn headline_scores(&self, scores: &Scores, rows: &[u32]) -> f64 {
        if self.learns_rows() {
            return scores.values.iter().sum::<f64>() / rows.len() as f64;
        }
        if self.classes == 0 {
            return metrics::rmse(&self.truth_of(rows), &scores.values);
        }
        metrics::headline_classes(&self.labels_of(rows), &scores.probabilities, &self.prior).1
    }

    /// Where the truth of some rows stands in the whole catalogue.
    fn stand(&self, scorer: &Scorer, rows: &[u32], catalogue: &Catalogue, cancel: Option<&CancellationToken>) -> Result<Standings> {
        scorer.stand(&self.data.inputs, rows, self.labels_of(rows), &catalogue.is_item, cancel)
    }

    /// What the training prior alone reaches on the test rows.
    pub(super) fn baseline(&self) -> f64 {
        let rows = &self.data.test;
        if let Some(catalogue) = self.ranked {
            return ndcg(&Standings::of(self.labels_of(rows)).popular(&self.prior, &catalogue.is_item), catalogue);
        }
        if self.learns_rows() {
            return self.prior[0];
        }
        if self.classes == 0 {
            let truth = self.truth_of(rows);
            return metrics::headline_values(&truth, &truth, self.prior[0]).2;
        }
        let constant: Vec<f64> = rows.iter().flat_map(|_| self.prior.iter().copied()).collect();
        metrics::headline_classes(&self.labels_of(rows), &constant, &self.prior).2
    }

    /// Everything that a training comes to.
    pub(super) fn finished(&self, found: Found, folds: Vec<FoldReport>, rfm: &[[f32; 2]], started: Instant) -> Trained {
        let Found { best, options, reports, trials, ensemble, members, notes } = found;
        Trained {
            config: best.fitted.config,
            ensemble,
            parameters: best.fitted.parameters,
            calibration: best.calibration,
            epochs_run: best.fitted.epochs_run,
            best_epoch: best.fitted.best_epoch,
            history: best.fitted.history,
            metric: self.metric,
            valid: best.valid,
            test: best.test,
            baseline: self.baseline(),
            simple_baseline: self.simple_baseline(rfm),
            candidates: reports,
            trials,
            members,
            folds,
            options,
            notes: self.notes.iter().cloned().chain(notes).collect(),
            privacy: best.fitted.privacy,
            device: best.fitted.device,
            seconds: started.elapsed().as_secs_f64(),
        }
    }

    /// Takes what is known of the label from elsewhere, instead of from the training rows.
    pub(super) fn adopt(&mut self, common: Common) {
        self.prior = common.prior;
        if let Some(transform) = common.transform {
            self.data.targets =
                Targets::Values(self.truth.iter().map(|value| super::federated::standardised(&transform, *value)).collect());
            self.value_transform = Some(transform);
        }
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
        if let Some(catalogue) = problem.ranked {
            return self.calibrate_ranking(request, &scorer, catalogue);
        }
        let logits = scorer.logits(&problem.data.inputs, &problem.data.validation, request.cancel_of_scoring())?;
        // A private model is not fitted to the validation rows either.
        let private = request.options.privacy.is_some();
        let calibration = if private { self.plain.clone() } else { problem.calibrate(&logits, &self.labels, &self.truth, shifted) };
        let valid = problem.headline(&calibration, &logits, &self.labels, &self.truth);
        Ok((calibration, valid))
    }

    /// The same for a ranking, which a temperature leaves as it is: that is fitted on as many validation rows as keep
    /// the logits in memory.
    fn calibrate_ranking(&self, request: &Request<'_>, scorer: &Scorer, catalogue: &Catalogue) -> Result<(Calibration, f64)> {
        let (problem, cancel) = (self.problem, request.cancel_of_scoring());
        let rows = &problem.data.validation;
        let step = rows.len().div_ceil((CALIBRATION_LOGITS_MAX / problem.classes.max(1)).max(1)).max(1);
        let some: Vec<u32> = rows.iter().copied().step_by(step).collect();
        let logits = scorer.logits(&problem.data.inputs, &some, cancel)?;
        let calibration = problem.calibrate(&logits, &problem.labels_of(&some), &[], false);
        let valid = ndcg(&problem.stand(scorer, rows, catalogue, cancel)?, catalogue);
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
    pub(super) fn cancel_of_scoring(&self) -> Option<&CancellationToken> {
        Some(self.cancel).filter(|_| !self.options.keep_partial)
    }
}

impl Data<'_> {
    /// Whether classes are learned from in other shares than nature's.
    pub(super) fn is_shifted(&self) -> bool {
        self.class_weights.is_some() || self.resampled.is_some()
    }
}

fn ndcg(standings: &Standings, catalogue: &Catalogue) -> f64 {
    standings.ranking(catalogue.other).ndcg_at(metrics::NDCG_CUTOFF)
}

/// Refuses what a network over items does not do.
fn check_items(request: &Request<'_>, ranked: Option<&Catalogue>) -> Result<()> {
    if let Some(architecture) = request.architecture.filter(|architecture| architecture.is_retrieval()) {
        let needs = |what: &str| Err(Error::invalid(format!("architecture \"{architecture}\" {what}")));
        match request.catalogue {
            None => return needs("chooses among items").map_err(|error| error.hint("Use target => 'next_item'.")),
            Some(catalogue) if catalogue.shape.is_none() => return needs("reads the items of events, and they are excluded"),
            Some(_) => {}
        }
    }
    let options = request.options;
    let refused = [
        ("class_weights", options.class_weights != ClassWeights::None),
        ("oversample", options.oversample != Oversample::None),
        ("loss focal", options.loss == Loss::Focal),
        ("label_smoothing", options.label_smoothing > 0.0),
        ("privacy", options.privacy.is_some()),
    ];
    match refused.into_iter().find(|(_, given)| ranked.is_some() && *given) {
        None => Ok(()),
        Some((name, _)) => Err(Error::invalid(format!("{name} cannot be used where the items of a catalogue are ranked"))
            .detail(format!("That is so for mf, for two_tower, and for more than {DENSE_CLASSES_MAX} classes."))),
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
    let mut rows = vec![0u64; classes.len()];
    train.iter().for_each(|row| rows[labels[*row as usize] as usize] += 1);
    class_weights_of(option, classes, &rows)
}

/// The weight of each class that has so many rows.
pub(super) fn class_weights_of(option: &ClassWeights, classes: &[String], rows: &[u64]) -> Result<Option<Vec<f32>>> {
    match option {
        ClassWeights::None => Ok(None),
        _ if classes.is_empty() => Ok(None),
        ClassWeights::Balanced => {
            let all: u64 = rows.iter().sum();
            let weight = |rows: &u64| all as f32 / (classes.len() as f32 * (*rows).max(1) as f32);
            Ok(Some(rows.iter().map(weight).collect()))
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
