//! One training from its arguments to the published version.
//!
//! Life of a run: [`Run::start`] checks everything that can be checked without reading rows and registers the job →
//! the job waits for its turn on the device → reads the source into a dataset → trains on threads of its own →
//! writes the version → decides whether it becomes the active one. Dropping the future cancels all of it.

use std::sync::Arc;

use datafusion::error::Result as DfResult;
use tokio_util::sync::CancellationToken;

use super::federated::{self, Learned};
use super::incumbent;
use super::progress::Reporter;
use super::read::{EventCut, Loaded, Reader, TableCut, blocking, report_spilled};
use super::resources::PoolBudget;
use super::row::Outcome;
use super::spec::{Activate, TrainSpec, names_events};
use crate::context::{StatementContext, UserHistories};
use crate::error::{Code, Error, Result};
use crate::features::inputs::Rows;
use crate::features::{Dataset, EventColumns, Options, RowPlan, Target};
use crate::functions::MlContext;
use crate::functions::relation::{Call, duration_text};
use crate::functions::source::columns_for;
use crate::models::cuda::choose;
use crate::models::{Architecture, NetworkConfig, Parameters, Task, TextModel};
use crate::registry::{
    Earlier, FORMAT_VERSION, JobHandle, JobRequest, JobState, Manifest, ModelAction, ModelRef, RunCheckpoints, StoredSource, VersionInfo,
    VersionRequest, VersionTicket,
};
use crate::train::memory::size;
use crate::train::{CheckpointStore, Metric, TrainRequest, Trained, WarmStart, reads_files, train};

/// Everything a run needs.
pub(super) struct Run {
    pub(super) spec: TrainSpec,
    pub(super) sql: String,
    pub(super) context: Arc<MlContext>,
    pub(super) statement: Arc<StatementContext>,
    pub(super) reader: Reader,
    events: Option<Events>,
}

/// The version that `warm_from` names.
struct Warm {
    manifest: Arc<Manifest>,
    parameters: Parameters,
}

impl Warm {
    fn start(&self) -> WarmStart<'_> {
        let Manifest { config, preprocessor, info, .. } = self.manifest.as_ref();
        WarmStart { config, parameters: &self.parameters, encoder: Some(preprocessor), classes: &info.classes }
    }
}

/// An opened event source.
struct Events {
    columns: EventColumns,
    histories: Arc<dyn UserHistories>,
    as_of_us: i64,
}

fn now_us() -> i64 {
    chrono::Utc::now().timestamp_micros()
}

/// Runs a call: one outcome, also when there is nothing to do.
pub(super) async fn run(call: Call, spec: TrainSpec) -> DfResult<Outcome> {
    let statement = call.statement();
    // A background training outlives its statement.
    let parent = if spec.wait { statement.cancel.clone() } else { CancellationToken::new() };
    let sql = call.source.as_ref().map(|source| source.sql.clone()).ok_or_else(|| call.args.missing("source"))?;
    let own = StatementContext { cancel: parent.clone(), ..statement.as_ref().clone() };
    let mut session = call.session.clone();
    let config = own.attach(session.config().clone());
    *session.config_mut() = config;
    let may_spill = spec.lesson.may_spill();
    let reader = Reader { session, histories: Arc::clone(&call.context.histories), cancel: parent.clone(), may_spill };
    let mut run = Run { spec, sql, context: Arc::clone(&call.context), statement, reader, events: None };
    run.context.registry.authorize_training(&run.statement.user, &run.spec.model)?;
    choose::check(&run.spec.lesson.options.device)?;
    run.open().await?;
    if let Some(outcome) = run.fresh_enough() {
        return Ok(outcome);
    }
    let init = run.init().await?;
    let (ticket, job) = run.begin(&parent).await?;
    if run.spec.wait {
        return run.finish(ticket, job, init).await;
    }
    let (id, reference) = (job.id, ticket.reference.clone());
    let outcome = Outcome {
        model: reference.name.to_string(),
        version: reference.version,
        state: "queued",
        target: run.spec.lesson.target.to_string(),
        info: None,
        active: false,
        message: format!("job {id} trains in the background; ml.jobs shows how far it is, cancel_training({id}) stops it"),
    };
    run.statement = Arc::new(StatementContext { notice: Arc::new(|_| {}), ..run.statement.as_ref().clone() });
    tokio::spawn(async move {
        if let Err(error) = run.finish(ticket, job, init).await {
            tracing::warn!(job = id, error = %error, "background training ended");
        }
    });
    Ok(outcome)
}

impl Run {
    /// Resolves the columns and opens the histories of an event source.
    async fn open(&mut self) -> DfResult<()> {
        let lesson = &self.spec.lesson;
        if lesson.label().is_some() || lesson.architecture == Some(Architecture::Gan) {
            return Ok(());
        }
        let columns = match columns_for(&self.reader.session, &self.sql, &lesson.columns, &lesson.target).await {
            Ok(columns) => columns,
            // Without a label and without a user and a time, every row is an entity of its own.
            Err(error) if lesson.target == Target::None && !names_events(&lesson.columns) => {
                let codes = [Code::UndefinedColumn, Code::InvalidParameter];
                let no_events = Error::find(&error).is_some_and(|own| codes.contains(&own.code));
                return if no_events { Ok(()) } else { Err(error) };
            }
            Err(error) => return Err(error),
        };
        let histories = self.reader.open(&self.sql, &columns).await?;
        let Some(as_of_us) = histories.watermark_us() else {
            return Err(Error::invalid("the source has no events")
                .detail(format!("{} rows were left out because user or time is null.", histories.dropped_rows()))
                .hint("describe_events(source) shows which columns are taken for user and time.")
                .into());
        };
        self.events = Some(Events { columns, histories, as_of_us });
        Ok(())
    }

    fn fingerprint(&self) -> Option<String> {
        self.events.as_ref().and_then(|events| events.histories.fingerprint())
    }

    /// With `if_stale`: the active version, when it is young enough and answers the same question from the same data.
    fn fresh_enough(&self) -> Option<Outcome> {
        let limit_us = self.spec.if_stale_us?;
        let reference = self.context.registry.resolve(&self.spec.model).ok()?;
        let info = self.context.registry.info(&reference).ok()?;
        let age_us = now_us() - info.created_at_us;
        let same = info.target == self.spec.lesson.target.to_string() && info.horizon_us == self.spec.lesson.horizon_us;
        let unchanged = self.fingerprint().is_some_and(|now| info.source_fingerprint.as_ref() == Some(&now));
        if age_us >= limit_us || !same || !unchanged {
            return None;
        }
        let message = format!(
            "nothing was trained: version {} is younger than {} and the source has not changed",
            reference.version,
            duration_text(limit_us)
        );
        Some(Outcome {
            model: reference.name.to_string(),
            version: reference.version,
            state: "active",
            target: info.target.clone(),
            info: Some(info),
            active: true,
            message,
        })
    }

    /// The weights that `warm_from` names.
    async fn init(&self) -> Result<Option<Warm>> {
        let Some(name) = &self.spec.lesson.options.warm_from else { return Ok(None) };
        let reference = self.context.registry.resolve(name)?;
        self.context.registry.authorize(&self.statement.user, name, ModelAction::Execute)?;
        let manifest = self.context.registry.manifest(&reference).await?;
        if manifest.ensemble.is_some() {
            return Err(Error::invalid(format!("{reference} is an ensemble, whose weights no single network can start from"))
                .hint("Name a version of one network in warm_from."));
        }
        if self.spec.lesson.architecture.is_some_and(|arch| arch != manifest.config.architecture) {
            let (have, want) = (manifest.config.architecture, self.spec.lesson.architecture);
            return Err(Error::invalid(format!("the weights of {reference} are of architecture \"{have}\""))
                .detail(format!("The training asks for \"{}\".", want.map_or("auto", Architecture::name))));
        }
        let parameters = self.context.registry.parameters(&reference).await?;
        Ok(Some(Warm { manifest, parameters }))
    }

    async fn begin(&self, parent: &CancellationToken) -> Result<(VersionTicket, JobHandle)> {
        let (owner, statement) = (self.statement.user.clone(), self.statement.statement.clone());
        let request = VersionRequest { name: self.spec.model.clone(), owner: owner.clone(), statement: statement.clone() };
        let ticket = self.context.registry.begin_version(request).await?;
        let version = ticket.reference.version;
        let job = self.context.jobs.start(JobRequest { model: self.spec.model.clone(), version, owner, statement }, parent).await?;
        Ok((ticket, job))
    }

    /// Trains and publishes; the job's row says how it ended.
    async fn finish(mut self, ticket: VersionTicket, job: JobHandle, init: Option<Warm>) -> DfResult<Outcome> {
        self.reader.cancel = job.cancel.clone();
        // Without an architecture it is that of the weights to start from.
        self.reader.may_spill &= init.as_ref().is_none_or(|init| reads_files(init.manifest.config.architecture));
        // Fires when this future is dropped: the training thread stops at its next batch.
        let _stop = job.cancel.clone().drop_guard();
        let result = self.work(ticket, &job, init).await;
        match &result {
            Ok(outcome) => {
                let state = if outcome.active { JobState::Active } else { JobState::Ready };
                job.finish(state, &outcome.message).await;
            }
            Err(error) => {
                let error = Error::find(error).cloned().unwrap_or_else(|| Error::internal(error.strip_backtrace()));
                let state = if error.code == Code::Cancelled { JobState::Cancelled } else { JobState::Failed };
                let detail = error.detail.as_deref().map(|d| format!(". {d}")).unwrap_or_default();
                job.finish(state, &format!("{}{detail}", error.message)).await;
            }
        }
        result
    }

    async fn work(&self, ticket: VersionTicket, job: &JobHandle, init: Option<Warm>) -> DfResult<Outcome> {
        let lesson = &self.spec.lesson;
        let reporter = Reporter::new(Arc::clone(&self.statement.notice), Box::new(job.updater()), lesson.candidates());
        let _turn = job.wait_for_turn().await?;
        if let (true, Err(reason)) = (choose::BUILT_IN && lesson.options.device == "auto", choose::gpus()) {
            (self.statement.notice)(&format!("no GPU can be used, training runs on the CPU: {reason}"));
        }
        reporter.step("reading the source");
        if lesson.options.federated.is_some() {
            return self.federated(ticket, job, reporter).await;
        }
        if lesson.architecture == Some(Architecture::Gan) {
            let (trained, dataset, counts) = self.learn_rows(job, reporter).await?;
            let info = self.info(&trained, &dataset, counts);
            return self.publish(ticket, trained, dataset, info).await;
        }
        let Loaded { dataset, memory } = self.read().await?;
        report_spilled(&dataset, &self.statement.notice);
        let counts = Counts {
            train: dataset.rows_of(Rows::Train).len() as u64,
            valid: dataset.rows_of(Rows::Validation).len() as u64,
            test: dataset.rows_of(Rows::Test).len() as u64,
        };
        let checkpoints = self.checkpoints(&ticket.reference, &dataset, init.as_ref()).await?;
        reporter.step("training");
        let task = if dataset.classes.is_empty() { Task::Regression } else { Task::Classification };
        let (options, architecture, threads) = (lesson.options.clone(), lesson.architecture, self.context.training_threads);
        let (cancel, kept) = (job.cancel.clone(), checkpoints.clone());
        let budget = PoolBudget::shared(Arc::clone(self.reader.session.runtime_env()));
        let (trained, dataset) = blocking(move || {
            let request = TrainRequest {
                dataset: &dataset,
                architecture,
                options: &options,
                task,
                threads,
                cancel: &cancel,
                progress: &|progress| reporter.report(progress),
                init: init.as_ref().map(Warm::start),
                checkpoints: kept.as_ref().map(|kept| kept as &dyn CheckpointStore),
                memory: Some(&budget),
            };
            train(request).map(|trained| (trained, dataset))
        })
        .await?;
        drop(memory);
        if job.cancel.is_cancelled() && !lesson.options.keep_partial {
            return Err(Error::cancelled().into());
        }
        let info = self.info(&trained, &dataset, counts);
        let outcome = self.publish(ticket, trained, dataset, info).await?;
        if let Some(checkpoints) = checkpoints {
            checkpoints.remove().await;
        }
        Ok(outcome)
    }

    /// Over rows that stay with their owners.
    async fn federated(&self, ticket: VersionTicket, job: &JobHandle, reporter: Reporter) -> DfResult<Outcome> {
        let user = self.statement.user.as_str();
        let place = federated::Place { model: &self.spec.model, sql: &self.sql, reader: &self.reader, context: &self.context, user };
        let Learned { trained, mut dataset, train_rows } = federated::run(place, &self.spec.lesson, job, reporter).await?;
        if job.cancel.is_cancelled() && !self.spec.lesson.options.keep_partial {
            return Err(Error::cancelled().into());
        }
        let own = dataset.rows_of(Rows::Train).len() as u64;
        dataset.users_total += train_rows - own.min(train_rows);
        let (valid, test) = (dataset.rows_of(Rows::Validation).len() as u64, dataset.rows_of(Rows::Test).len() as u64);
        let info = self.info(&trained, &dataset, Counts { train: train_rows, valid, test });
        self.publish(ticket, trained, dataset, info).await
    }

    /// Where this training is kept while it runs; `None` without `checkpoint_every`. Tells whether it goes on.
    async fn checkpoints(&self, model: &ModelRef, dataset: &Dataset, init: Option<&Warm>) -> Result<Option<RunCheckpoints>> {
        if self.spec.lesson.options.checkpoint_every.is_none() {
            return Ok(None);
        }
        let key = self.checkpoint_key(dataset, init)?;
        let (checkpoints, earlier) = self.context.registry.checkpoints(model, &key).await?;
        match earlier {
            Earlier::Nothing => {}
            Earlier::Same => (self.statement.notice)("an earlier training of this statement did not end: it goes on from its checkpoint"),
            Earlier::Other => (self.statement.notice)(
                "the checkpoint of this model is of another source or other options: it was removed, and training starts anew",
            ),
        }
        Ok(Some(checkpoints))
    }

    /// A hash of everything that the trained weights follow from.
    fn checkpoint_key(&self, dataset: &Dataset, init: Option<&Warm>) -> Result<String> {
        let lesson = &self.spec.lesson;
        // What only says when to stop or to write does not change where a training is.
        let options = Options { checkpoint_every: None, max_seconds: None, keep_partial: false, ..lesson.options.clone() };
        let options = serde_json::to_string(&options).map_err(|error| Error::internal(format!("options cannot be written: {error}")))?;
        let parts = [
            env!("CARGO_PKG_VERSION"),
            &dataset.fingerprint()?,
            &lesson.target.to_string(),
            &lesson.horizon_us.to_string(),
            lesson.architecture.map_or("auto", Architecture::name),
            &options,
            init.map_or("", |init| &init.manifest.info.weights_hash),
        ];
        let mut hasher = blake3::Hasher::new();
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        Ok(hasher.finalize().to_hex().to_string())
    }

    async fn read(&self) -> DfResult<Loaded> {
        let lesson = &self.spec.lesson;
        match &self.events {
            Some(events) => self.reader.events(&self.sql, events.histories.as_ref(), self.event_cut(events)).await,
            None => self.reader.table(&self.sql, self.table_cut(lesson.label())).await,
        }
    }

    fn event_cut(&self, events: &Events) -> EventCut {
        let lesson = &self.spec.lesson;
        EventCut {
            columns: events.columns.clone(),
            target: lesson.target.clone(),
            horizon_us: lesson.horizon_us,
            anchor_every_us: None,
            options: lesson.options.clone(),
            as_of_us: events.as_of_us,
            anchors_us: None,
            stored: None,
        }
    }

    fn table_cut(&self, label: Option<&str>) -> TableCut {
        let lesson = &self.spec.lesson;
        TableCut {
            label: label.map(str::to_owned),
            columns: lesson.table_columns.clone(),
            options: lesson.options.clone(),
            stored: None,
            all_rows: false,
        }
    }

    async fn publish(&self, ticket: VersionTicket, trained: Trained, dataset: Dataset, mut info: VersionInfo) -> DfResult<Outcome> {
        let metric = trained.metric;
        let verdict = self.verdict(metric, &info).await?;
        let version = ticket.reference.version;
        info.message = format!("{}; {}", info.message, verdict.reason(version));
        let manifest = Manifest {
            format_version: FORMAT_VERSION,
            info,
            // A network that reads no steps or pictures is scored without making them.
            preprocessor: dataset.encoder.reading_only(&trained.config.shape),
            config: trained.config,
            ensemble: trained.ensemble,
            calibration: trained.calibration,
        };
        let reference = self.context.registry.publish(ticket, manifest, &trained.parameters).await?;
        let active = verdict.activates();
        if active {
            self.context.registry.activate(&self.spec.model, Some(reference.version)).await?;
        }
        let info = self.context.registry.info(&reference)?;
        Ok(Outcome {
            model: reference.name.to_string(),
            version: reference.version,
            state: if active { "active" } else { "ready" },
            target: info.target.clone(),
            message: info.message.clone(),
            info: Some(info),
            active,
        })
    }

    /// Whether the new version becomes the active one.
    async fn verdict(&self, metric: Metric, info: &VersionInfo) -> DfResult<Verdict> {
        match self.spec.activate {
            Activate::Always => return Ok(Verdict::Always),
            Activate::Never => return Ok(Verdict::Never),
            Activate::IfBetter => {}
        }
        let Ok(incumbent) = self.context.registry.resolve(&self.spec.model) else {
            return Ok(Verdict::First);
        };
        if self.spec.lesson.architecture.is_some_and(|architecture| !architecture.is_supervised()) {
            let theirs = self.context.registry.info(&incumbent)?;
            let same = (&theirs.arch, &theirs.target) == (&info.arch, &info.target);
            return Ok(if same { Verdict::Unlabelled } else { Verdict::OtherQuestion(incumbent) });
        }
        let loaded = self.context.registry.load(&incumbent).await?;
        if !loaded.scorer.config().architecture.is_supervised() {
            return Ok(Verdict::OtherQuestion(incumbent));
        }
        if loaded.manifest.info.target != info.target || loaded.manifest.info.horizon_us != info.horizon_us {
            return Ok(Verdict::OtherQuestion(incumbent));
        }
        (self.statement.notice)(&format!("measuring version {} on the same test window", incumbent.version));
        let theirs = match &self.events {
            Some(events) => {
                let cut = self.event_cut(events);
                incumbent::on_events(&self.reader, &self.sql, events.histories.as_ref(), cut, &loaded, metric).await
            }
            None => incumbent::on_table(&self.reader, &self.sql, self.table_cut(self.spec.lesson.label()), &loaded).await,
        };
        match theirs {
            Ok(theirs) if metric.is_better(info.test, theirs) => Ok(Verdict::Better { incumbent, metric, theirs }),
            Ok(theirs) => Ok(Verdict::Worse { incumbent, metric, theirs }),
            Err(error) if Error::find(&error).is_some_and(|e| e.code == Code::Cancelled) => Err(error),
            // A version that cannot read today's source any more is no reason to throw the new one away.
            Err(error) => Ok(Verdict::Unreadable { incumbent, reason: error.strip_backtrace() }),
        }
    }

    fn info(&self, trained: &Trained, dataset: &Dataset, counts: Counts) -> VersionInfo {
        let lesson = &self.spec.lesson;
        VersionInfo {
            model: self.spec.model.clone(),
            version: 0,
            arch: trained.arch(),
            target: lesson.target.to_string(),
            classes: dataset.classes.clone(),
            horizon_us: lesson.horizon_us,
            anchor_every_us: lesson.options.anchor_every_us().ok().flatten(),
            source: Some(StoredSource { sql: self.sql.clone(), columns: self.events.as_ref().map(|events| events.columns.clone()) }),
            source_fingerprint: self.fingerprint(),
            as_of_us: self.events.as_ref().map(|events| events.as_of_us),
            options: serde_json::to_value(&trained.options).unwrap_or_default(),
            users: dataset.users_total,
            train_rows: counts.train,
            valid_rows: counts.valid,
            test_rows: counts.test,
            dropped_rows: dataset.dropped_rows,
            censored_rows: dataset.censored_rows,
            sampled: dataset.sampled_out > 0,
            metric: trained.metric.name().to_owned(),
            test: trained.test,
            baseline: trained.baseline,
            simple_baseline: trained.simple_baseline,
            valid: trained.valid,
            epochs: trained.epochs_run as u32,
            best_epoch: trained.best_epoch as u32,
            parameters: trained.parameters.count() as u64,
            device: trained.device.clone(),
            seconds: trained.seconds,
            history: trained.history.clone(),
            candidates: trained.candidates.clone(),
            trials: trained.trials.clone(),
            members: trained.members.clone(),
            folds: trained.folds.clone(),
            message: message(trained, dataset),
            owner: self.statement.user.clone(),
            created_at_us: now_us(),
            statement: self.statement.statement.clone(),
            privacy: trained.privacy,
            compression: None,
            row_columns: dataset.encoder.rows().map(RowPlan::fields).unwrap_or_default(),
            weights_hash: String::new(),
            weights_bytes: 0,
        }
    }
}

pub(super) struct Counts {
    pub(super) train: u64,
    pub(super) valid: u64,
    pub(super) test: u64,
}

/// The inputs of a network, each through a branch of its own, when it reads more than features and a history.
fn branches(config: &NetworkConfig) -> Vec<String> {
    let shape = &config.shape;
    if shape.image.is_none() && shape.texts.is_empty() {
        return Vec::new();
    }
    let mut branches = Vec::new();
    if shape.numeric + shape.categorical.len() > 0 {
        branches.push("features".to_owned());
    }
    if shape.sequence.is_some() {
        branches.push(format!("the history ({})", config.architecture));
    }
    if shape.image.is_some() {
        branches.push("a picture (cnn)".to_owned());
    }
    let how = match (config.architecture, config.variant.text) {
        (Architecture::Logreg, _) => "words",
        (_, TextModel::Bag) => "bag",
        (_, TextModel::Cnn) => "cnn",
    };
    match shape.texts.len() {
        0 => {}
        1 => branches.push(format!("a text ({how})")),
        many => branches.push(format!("{many} texts ({how})")),
    }
    branches
}

/// The figures in words: the metric beside what knowing nothing, and knowing only recency and frequency, reach.
fn message(trained: &Trained, dataset: &Dataset) -> String {
    let nothing = match trained.metric {
        Metric::PrAuc => "base rate",
        Metric::LogLoss => "class shares alone",
        Metric::Rmse => "training mean",
        Metric::Ndcg => "popularity alone",
        Metric::ReconstructionError => "column means and class shares",
        Metric::ColumnDistance => "columns filled evenly",
    };
    let mut parts = vec![format!("{} {:.3}", trained.metric, trained.test), format!("{nothing} {:.3}", trained.baseline)];
    if let Some(simple) = trained.simple_baseline {
        parts.push(format!("recency/frequency logistic {simple:.3}"));
    }
    let branches = branches(&trained.config);
    if branches.len() > 1 {
        parts.push(format!("one network reads {}", branches.join(", ")));
    }
    if trained.candidates.len() > 1 {
        let tried: Vec<String> = trained.candidates.iter().map(|c| format!("{} {:.3}", c.architecture, c.valid)).collect();
        parts.push(format!("candidates on validation: {}", tried.join(", ")));
    }
    parts.extend(trained.notes.iter().cloned());
    if dataset.sampled_out > 0 {
        parts.push(format!("sampled: {} users were left out", dataset.sampled_out));
    }
    match dataset.inputs.spilled_bytes() {
        0 => {}
        bytes => parts.push(format!("{} rows were spilled to temporary files ({})", dataset.inputs.rows, size(bytes))),
    }
    parts.join("; ")
}

/// Why a new version becomes the active one, or does not.
enum Verdict {
    Always,
    Never,
    First,
    /// Nothing says which of two is better.
    Unlabelled,
    OtherQuestion(ModelRef),
    Better {
        incumbent: ModelRef,
        metric: Metric,
        theirs: f64,
    },
    Worse {
        incumbent: ModelRef,
        metric: Metric,
        theirs: f64,
    },
    Unreadable {
        incumbent: ModelRef,
        reason: String,
    },
}

impl Verdict {
    fn activates(&self) -> bool {
        matches!(self, Self::Always | Self::First | Self::Unlabelled | Self::Better { .. } | Self::Unreadable { .. })
    }

    fn reason(&self, version: u32) -> String {
        match self {
            Self::Always | Self::First => format!("version {version} is active"),
            Self::Unlabelled => format!("version {version} is active: models without labels are not compared"),
            Self::Never => format!("version {version} is ready but not active, as asked"),
            Self::OtherQuestion(incumbent) => format!(
                "version {} stays active: it answers another question, so the two cannot be compared; activate_model decides",
                incumbent.version
            ),
            Self::Better { incumbent, metric, theirs } => {
                format!("version {version} is active: version {} reaches {metric} {theirs:.3} on the same test window", incumbent.version)
            }
            Self::Worse { incumbent, metric, theirs } => {
                format!("version {} stays active: it reaches {metric} {theirs:.3} on the same test window", incumbent.version)
            }
            Self::Unreadable { incumbent, reason } => {
                format!("version {version} is active: version {} cannot be measured on this source ({reason})", incumbent.version)
            }
        }
    }
}
