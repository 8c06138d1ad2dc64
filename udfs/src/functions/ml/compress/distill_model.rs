//! `distill_model(teacher, student, options)`: a smaller network that learns from a larger one.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::error::Result as DfResult;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::prelude::SessionConfig;

use super::row::{SCHEMA, row};
use super::subject::Subject;
use crate::error::{Code, Error, Result};
use crate::features::options::Options;
use crate::features::{Dataset, Rows};
use crate::functions::MlContext;
use crate::functions::ml::train::progress::Reporter;
use crate::functions::ml::train::read::{Loaded, blocking};
use crate::functions::relation::{Argument, Arguments, Call, Effect, Kind, MlRelation, Parameter};
use crate::functions::settings::{MlSettings, parse_object};
use crate::kernels::nearest::nearest;
use crate::models::ops::Distillation;
use crate::models::{Architecture, Scheme, load};
use crate::registry::{
    Compression, FORMAT_VERSION, JobHandle, JobRequest, JobState, Manifest, ModelRef, VersionInfo, VersionRequest, VersionTicket,
};
use crate::train::{Measures, Scorer, TrainRequest, Trained, distil, rate};

/// Keys of the options that are this function's own.
const OWN: [&str; 3] = ["arch", "temperature", "label_share"];
const TEMPERATURE: f64 = 2.0;
const LABEL_SHARE: f64 = 0.5;

/// See [`MlRelation::doc`].
#[derive(Debug)]
pub struct DistillModel;

/// What a call asks for.
#[derive(Debug, Clone)]
struct Lesson {
    student: String,
    /// `None`: the teacher's.
    architecture: Option<Architecture>,
    how: Distillation,
    /// The call's arguments without the keys that are this function's own.
    args: Arguments,
}

impl MlRelation for DistillModel {
    fn name(&self) -> &'static str {
        "distill_model"
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[
            Parameter::required("teacher", Kind::Model, "The model to learn from: `name` for the active version, or `name@3`."),
            Parameter::required("student", Kind::Text, "Name of the new model; under a name that exists it becomes its next version."),
            Parameter::optional(
                "options",
                Kind::Json,
                "'{}'",
                "Training options as JSON, and arch, temperature and label_share; each may also be written as a named argument.",
            ),
            Parameter::optional("arch", Kind::Text, "NULL", "The student's architecture; by default the teacher's."),
            Parameter::optional("temperature", Kind::Float, "2", "Larger shows more of what the teacher says about unlikely classes."),
            Parameter::optional("label_share", Kind::Float, "0.5", "The share of the true labels in what is learned, from 0 to 1."),
            Parameter::optional(
                "activate",
                Kind::Boolean,
                "NULL",
                "Whether the student becomes the active version of its name; by default when there is none.",
            ),
        ];
        PARAMETERS
    }

    fn doc(&self) -> &'static str {
        "Trains a smaller network on what a trained one says about its own training rows, beside their true labels (Hinton et al., 2015). The \
         rows are read again from the teacher's source and encoded by the teacher's encoder. Unless the options say otherwise the student \
         has one layer of half the teacher's width. One row with size, speed (rows a second on one thread) and the headline metric on the \
         test rows, of the teacher (before) and of the student (after). Like training, it is allowed only at the top level of a statement."
    }

    fn example(&self) -> &'static str {
        "SELECT model, bytes_before, bytes_after, before, after FROM distill_model('shopper', 'shopper_small', '{\"hidden_dim\": 16}')"
    }

    fn schema(&self, _: &Arguments, _: Option<&Schema>, _: &MlContext) -> Result<SchemaRef> {
        Ok(Arc::clone(&SCHEMA))
    }

    fn execute(&self, call: Call) -> Result<SendableRecordBatchStream> {
        let lesson = Lesson::new(&call.args)?;
        // Mistakes in options are told before anything is read.
        MlSettings::options(call.session.config(), &lesson.args)?;
        let own = call.clone();
        Ok(call.once(async move { run(&own, lesson).await }))
    }

    fn effect(&self) -> Option<Effect> {
        Some(Effect::Trains)
    }

    fn takes_options(&self) -> bool {
        true
    }
}

impl Lesson {
    fn new(args: &Arguments) -> Result<Self> {
        let student = args.required_text("student")?.to_owned();
        if student.contains('@') {
            return Err(Error::invalid(format!("\"{student}\" cannot be the name of a model")).detail("A name does not contain \"@\"."));
        }
        let mut own = args.clone();
        let mut given = args.text("options").map(parse_object).transpose()?.unwrap_or_default();
        let [arch, temperature, share] = OWN.map(|key| given.remove(key));
        let rest = serde_json::to_string(&given).map_err(|error| Error::internal(format!("options cannot be written: {error}")))?;
        own.set("options", Argument::Text(rest));
        let arch = args.text("arch").map(str::to_owned).or_else(|| arch.as_ref().and_then(|value| value.as_str().map(str::to_owned)));
        let number = |name: &'static str, given: Option<serde_json::Value>, default: f64| match (args.float(name), given) {
            (Some(value), _) => Ok(value),
            (None, None) => Ok(default),
            (None, Some(value)) => value.as_f64().ok_or_else(|| Error::invalid(format!("option \"{name}\" must be a number, not {value}"))),
        };
        let temperature = number("temperature", temperature, TEMPERATURE)?;
        let share = number("label_share", share, LABEL_SHARE)?;
        if !(0.1..=100.0).contains(&temperature) {
            return Err(Error::invalid(format!("temperature must be between 0.1 and 100, got {temperature}")));
        }
        if !(0.0..=1.0).contains(&share) {
            return Err(Error::invalid(format!("label_share must be between 0 and 1, got {share}")));
        }
        let how = Distillation { temperature, share };
        Ok(Self { student, architecture: arch.map(|name| architecture(&name)).transpose()?, how, args: own })
    }

    /// The teacher's options where they say which rows there are, else the call's and the defaults of a student.
    fn options(&self, teacher: &Subject, architecture: Architecture, config: &SessionConfig) -> Result<Options> {
        let own = teacher.options()?;
        let base = Options {
            class_weights: own.class_weights,
            max_seq_len: own.max_seq_len,
            min_history: own.min_history,
            exclude: own.exclude,
            missing: own.missing,
            outliers: own.outliers,
            scale: own.scale,
            select_k: own.select_k,
            sample: own.sample,
            seed: own.seed,
            valid_fraction: own.valid_fraction,
            test_fraction: own.test_fraction,
            anchor_every: own.anchor_every,
            split_time: own.split_time,
            image_size: own.image_size,
            augment: own.augment,
            ..Options::default()
        };
        let mut options = MlSettings::options_on(base, config, &self.args)?;
        if options.tune.is_some() || options.ensemble.is_some() || options.warm_from.is_some() {
            return Err(Error::invalid("a student is one network that starts anew")
                .detail("The options tune, ensemble and warm_from do not go with a teacher."));
        }
        let network = &teacher.model.manifest.config;
        if architecture == network.architecture {
            options.hidden_dim = options.hidden_dim.or(Some((network.hidden_dim / 2).max(1) as u32));
            options.layers = options.layers.or(Some(1));
        }
        Ok(options)
    }
}

fn architecture(name: &str) -> Result<Architecture> {
    let name = name.to_lowercase();
    Architecture::parse(&name).ok_or_else(|| {
        let names = || Architecture::ALL.iter().map(|architecture| architecture.name());
        let error = Error::invalid(format!("unknown architecture \"{name}\""))
            .detail(format!("Available are {}.", names().collect::<Vec<_>>().join(", ")));
        match nearest(&name, names()) {
            Some(near) => error.hint(format!("Perhaps you meant \"{near}\".")),
            None => error,
        }
    })
}

async fn run(call: &Call, lesson: Lesson) -> DfResult<RecordBatch> {
    let (statement, registry) = (call.statement(), &call.context.registry);
    let teacher = Subject::new(call, "teacher").await?;
    registry.authorize_training(&statement.user, &lesson.student)?;
    if teacher.info().privacy.is_some() {
        return Err(Error::invalid(format!("{} was trained privately and cannot teach", teacher.model.reference))
            .detail("Its student would see the rows themselves, without protection.")
            .into());
    }
    let architecture = lesson.architecture.unwrap_or(teacher.model.manifest.config.architecture);
    let options = lesson.options(&teacher, architecture, call.session.config())?;
    let (owner, text) = (statement.user.clone(), statement.statement.clone());
    let request = VersionRequest { name: lesson.student.clone(), owner: owner.clone(), statement: text.clone() };
    let ticket = registry.begin_version(request).await?;
    let request = JobRequest { model: lesson.student.clone(), version: ticket.reference.version, owner, statement: text };
    let job = call.context.jobs.start(request, &statement.cancel).await?;
    // Fires when this future is dropped: the training thread stops at its next batch.
    let _stop = job.cancel.clone().drop_guard();
    let done = work(call, &teacher, &lesson, architecture, options, ticket, &job).await;
    match &done {
        Ok((_, info, active)) => job.finish(if *active { JobState::Active } else { JobState::Ready }, &info.message).await,
        Err(error) => {
            let error = Error::find(error).cloned().unwrap_or_else(|| Error::internal(error.strip_backtrace()));
            let state = if error.code == Code::Cancelled { JobState::Cancelled } else { JobState::Failed };
            job.finish(state, &error.message).await;
        }
    }
    let (reference, info, _) = done?;
    row(call, &reference, &info, &info.message)
}

/// Trains, measures and publishes; whether the student is active now.
async fn work(
    call: &Call,
    teacher: &Subject,
    lesson: &Lesson,
    architecture: Architecture,
    options: Options,
    ticket: VersionTicket,
    job: &JobHandle,
) -> DfResult<(ModelRef, Arc<VersionInfo>, bool)> {
    let reporter = Reporter::new(Arc::clone(&call.statement().notice), Box::new(job.updater()), 1);
    let _turn = job.wait_for_turn().await?;
    reporter.step("reading the teacher's source");
    let Loaded { dataset, memory } = teacher.rows(options.clone()).await?;
    reporter.step("training");
    let (scorer, how, threads, cancel) = (teacher.model.scorer.clone(), lesson.how, call.context.training_threads, job.cancel.clone());
    let pupil = blocking(move || {
        let request = TrainRequest {
            dataset: &dataset,
            architecture: Some(architecture),
            options: &options,
            task: scorer.config().task,
            threads,
            cancel: &cancel,
            progress: &|progress| reporter.report(progress),
            init: None,
            checkpoints: None,
            memory: None,
        };
        let trained = distil(request, &scorer, how)?;
        let student = Scorer::new(Arc::from(load(&trained.config, &trained.parameters)?), trained.calibration.clone());
        let (theirs, ours) = (Measures::of(&scorer, &dataset, &cancel)?, Measures::of(&student, &dataset, &cancel)?);
        let rows_per_s =
            (rate(scorer.network().as_ref(), &dataset.inputs, &cancel)?, rate(student.network().as_ref(), &dataset.inputs, &cancel)?);
        Ok(Pupil { trained, dataset, metric: (theirs.test.value, ours.test.value), rows_per_s })
    })
    .await?;
    drop(memory);
    let registry = &call.context.registry;
    let info = pupil.info(call, teacher);
    let Pupil { trained, dataset, .. } = pupil;
    let manifest = Manifest {
        format_version: FORMAT_VERSION,
        info,
        preprocessor: dataset.encoder.reading_only(&trained.config.shape),
        config: trained.config,
        ensemble: None,
        calibration: trained.calibration,
    };
    let reference = registry.publish(ticket, manifest, &trained.parameters).await?;
    let active = call.args.boolean("activate").unwrap_or_else(|| registry.resolve(&lesson.student).is_err());
    if active {
        registry.activate(&lesson.student, Some(reference.version)).await?;
    }
    let info = registry.info(&reference)?;
    Ok((reference, info, active))
}

/// A trained student beside its teacher.
struct Pupil {
    trained: Trained,
    dataset: Dataset,
    /// On the test rows, of teacher and student.
    metric: (f64, f64),
    rows_per_s: (f64, f64),
}

impl Pupil {
    fn info(&self, call: &Call, teacher: &Subject) -> VersionInfo {
        let (statement, trained, dataset) = (call.statement(), &self.trained, &self.dataset);
        let count = |part| dataset.rows_of(part).len() as u64;
        let from = teacher.model.reference.to_string();
        let message = format!(
            "{} learned from {from}; {} {:.4} instead of {:.4}",
            trained.config.architecture, trained.metric, self.metric.1, self.metric.0
        );
        VersionInfo {
            arch: trained.config.architecture.name().to_owned(),
            options: serde_json::to_value(&trained.options).unwrap_or_default(),
            train_rows: count(Rows::Train),
            valid_rows: count(Rows::Validation),
            test_rows: count(Rows::Test),
            metric: trained.metric.name().to_owned(),
            test: trained.test,
            baseline: trained.baseline,
            simple_baseline: trained.simple_baseline,
            valid: trained.valid,
            epochs: trained.epochs_run as u32,
            best_epoch: trained.best_epoch as u32,
            parameters: trained.parameters.count() as u64,
            seconds: trained.seconds,
            history: trained.history.clone(),
            candidates: trained.candidates.clone(),
            trials: Vec::new(),
            message: std::iter::once(message).chain(trained.notes.iter().cloned()).collect::<Vec<_>>().join("; "),
            owner: statement.user.clone(),
            created_at_us: chrono::Utc::now().timestamp_micros(),
            statement: statement.statement.clone(),
            privacy: None,
            compression: Some(Compression {
                scheme: "distilled".to_owned(),
                weights: Scheme::Float32,
                from,
                from_version: None,
                bytes_before: teacher.info().weights_bytes,
                rows_per_s_before: self.rows_per_s.0,
                rows_per_s_after: self.rows_per_s.1,
                before: self.metric.0,
                after: self.metric.1,
            }),
            ..teacher.info().clone()
        }
    }
}
