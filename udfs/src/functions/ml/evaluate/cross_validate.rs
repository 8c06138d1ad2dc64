//! `cross_validate(source, target => …, folds => …)`: how good a training would be, without keeping a model.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, RecordBatch};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::error::Result as DfResult;
use datafusion::execution::SendableRecordBatchStream;
use tokio_util::sync::CancellationToken;

use super::columns::{batch, doubles, schema, texts};
use crate::error::{Code, Error, Result};
use crate::features::inputs::{Labels, Rows};
use crate::features::{Dataset, Options, Target};
use crate::functions::MlContext;
use crate::functions::ml::train::check_label;
use crate::functions::ml::train::progress::Reporter;
use crate::functions::ml::train::read::{EventCut, Loaded, Reader, blocking, report_spilled};
use crate::functions::ml::train::resources::PoolBudget;
use crate::functions::ml::train::spec::{ARCH, COLUMNS, HORIZON, Lesson, OPTIONS, TARGET};
use crate::functions::relation::{Arguments, Call, Effect, Kind, MlRelation, Parameter};
use crate::functions::source::columns_for;
use crate::models::Task;
use crate::registry::{JobHandle, JobRequest, JobState};
use crate::train::metrics::{MetricRow, evaluate_classes, evaluate_values};
use crate::train::{Scorer, TrainRequest, Trained, train};

/// See [`MlRelation::doc`].
#[derive(Debug)]
pub struct CrossValidate;

fn columns() -> SchemaRef {
    schema(&[("fold", DataType::Int32), ("metric", DataType::Utf8), ("value", DataType::Float64), ("baseline", DataType::Float64)])
}

impl MlRelation for CrossValidate {
    fn name(&self) -> &'static str {
        "cross_validate"
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[
            Parameter::required("source", Kind::Source, "The events, or one labelled row per entity for column(<label>)."),
            TARGET,
            Parameter::optional("folds", Kind::Integer, "5", "How many trainings, 2 to 20."),
            HORIZON,
            COLUMNS,
            ARCH,
            OPTIONS,
        ];
        PARAMETERS
    }

    fn doc(&self) -> &'static str {
        "Trains once per fold and measures each on the rows it has not seen; keeps no model. Labelled rows are dealt to stratified folds by \
         the seed. Events are never dealt at random: fold 1 is tested on the last horizon, fold 2 on the one before it with everything \
         later forgotten, and so on. Like training, it is allowed only at the top level of a statement."
    }

    fn example(&self) -> &'static str {
        "SELECT * FROM cross_validate('sessions', target => 'column(Revenue)', folds => 5)"
    }

    fn schema(&self, args: &Arguments, source: Option<&Schema>, _: &MlContext) -> Result<SchemaRef> {
        if let (Some(text), Some(source)) = (args.text("target"), source)
            && let Target::Column(label) = Target::parse(text)?
        {
            check_label(&label, source)?;
        }
        Ok(columns())
    }

    fn execute(&self, call: Call) -> Result<SendableRecordBatchStream> {
        let lesson = Lesson::new(&call.args, call.session.config())?;
        if lesson.options.federated.is_some() {
            return Err(Error::invalid("option \"federated\" belongs to train_profile_model"));
        }
        if lesson.architecture.is_some_and(|architecture| !architecture.is_supervised()) {
            return Err(Error::invalid("cross-validation needs a label").hint("synthetic_report(model) measures the rows of a gan."));
        }
        let folds = call.args.integer_in("folds", lesson.options.folds.map_or(5, i64::from), 2..=20)?;
        let own = call.clone();
        Ok(call.once(async move { run(&own, &lesson, folds as u32).await }))
    }

    fn effect(&self) -> Option<Effect> {
        Some(Effect::Trains)
    }

    fn takes_options(&self) -> bool {
        true
    }
}

async fn run(call: &Call, lesson: &Lesson, folds: u32) -> DfResult<RecordBatch> {
    let statement = call.statement();
    let request =
        JobRequest { model: "(cross_validate)".into(), version: 0, owner: statement.user.clone(), statement: statement.statement.clone() };
    let job = call.context.jobs.start(request, &statement.cancel).await?;
    let _stop = job.cancel.clone().drop_guard();
    let result = work(call, lesson, folds, &job).await;
    match &result {
        Ok(_) => job.finish(JobState::Ready, &format!("{folds} folds")).await,
        Err(error) => {
            let cancelled = Error::find(error).is_some_and(|error| error.code == Code::Cancelled);
            let state = if cancelled { JobState::Cancelled } else { JobState::Failed };
            job.finish(state, &error.strip_backtrace()).await;
        }
    }
    result
}

async fn work(call: &Call, lesson: &Lesson, folds: u32, job: &JobHandle) -> DfResult<RecordBatch> {
    let _turn = job.wait_for_turn().await?;
    let sql = call.source.as_ref().map(|source| source.sql.clone()).ok_or_else(|| call.args.missing("source"))?;
    let reader = Reader {
        session: call.session.clone(),
        histories: Arc::clone(&call.context.histories),
        cancel: job.cancel.clone(),
        may_spill: lesson.may_spill(),
    };
    let mut measured: Vec<(i32, MetricRow)> = vec![];
    let notice = &call.statement().notice;
    match lesson.label() {
        Some(label) => {
            let (builder, _memory) = reader.table_builder(&sql, label, &lesson.table_columns, &lesson.options).await?;
            for fold in 0..folds {
                let builder = builder.clone().with_fold(fold, folds);
                let dataset = blocking(move || builder.finish()).await?;
                measured.extend(one_fold(call, lesson, job, dataset, fold, folds).await?);
            }
        }
        None => {
            let columns = columns_for(&reader.session, &sql, &lesson.columns, &lesson.target).await?;
            let histories = reader.open(&sql, &columns).await?;
            let watermark_us = histories.watermark_us().ok_or_else(|| Error::invalid("the source has no events"))?;
            for fold in 0..folds {
                let cut = EventCut {
                    columns: columns.clone(),
                    target: lesson.target.clone(),
                    horizon_us: lesson.horizon_us,
                    anchor_every_us: None,
                    options: lesson.options.clone(),
                    as_of_us: watermark_us.saturating_sub(lesson.horizon_us.saturating_mul(i64::from(fold))),
                    anchors_us: None,
                    stored: None,
                };
                let Loaded { dataset, memory } = reader.events(&sql, histories.as_ref(), cut).await?;
                measured.extend(one_fold(call, lesson, job, dataset, fold, folds).await?);
                drop(memory);
            }
        }
    }
    summary(&measured, notice);
    let arrays = vec![
        Arc::new(Int32Array::from_iter_values(measured.iter().map(|(fold, _)| *fold))) as ArrayRef,
        texts(measured.iter().map(|(_, row)| Some(&row.metric))),
        doubles(measured.iter().map(|(_, row)| row.value)),
        doubles(measured.iter().map(|(_, row)| row.baseline)),
    ];
    batch(&columns(), arrays)
}

/// Trains one fold and measures its test rows.
async fn one_fold(
    call: &Call,
    lesson: &Lesson,
    job: &JobHandle,
    dataset: Dataset,
    fold: u32,
    folds: u32,
) -> DfResult<Vec<(i32, MetricRow)>> {
    let statement = call.statement();
    let notice = Arc::clone(&statement.notice);
    if fold == 0 {
        report_spilled(&dataset, &notice);
    }
    let (own, update) = (format!("fold {}/{folds}: ", fold + 1), job.updater());
    let prefix = own.clone();
    let reporter = Reporter::new(
        Arc::new(move |text: &str| notice(&format!("{prefix}{text}"))),
        Box::new(move |mut progress| {
            progress.fraction = (f64::from(fold) + progress.fraction) / f64::from(folds);
            progress.message = format!("{own}{}", progress.message);
            progress.eta_seconds = None;
            update(progress);
        }),
        lesson.candidates(),
    );
    let task = if dataset.classes.is_empty() { Task::Regression } else { Task::Classification };
    // The folds are these; none has folds of its own.
    let options = Options { folds: None, ..lesson.options.clone() };
    let (architecture, threads) = (lesson.architecture, call.context.training_threads);
    let cancel = job.cancel.clone();
    let budget = PoolBudget::shared(Arc::clone(call.session.runtime_env()));
    let rows = blocking(move || {
        let request = TrainRequest {
            dataset: &dataset,
            architecture,
            options: &options,
            task,
            threads,
            cancel: &cancel,
            progress: &|progress| reporter.report(progress),
            init: None,
            checkpoints: None,
            memory: Some(&budget),
        };
        let trained = train(request)?;
        if cancel.is_cancelled() {
            return Err(Error::cancelled());
        }
        measure(trained, &dataset, &cancel)
    })
    .await?;
    Ok(rows.into_iter().map(|row| (fold as i32 + 1, row)).collect())
}

/// The metrics about all classes, and of two classes those of the positive one.
fn measure(trained: Trained, dataset: &Dataset, cancel: &CancellationToken) -> Result<Vec<MetricRow>> {
    let prior = trained.calibration.prior.clone();
    let scorer = Scorer::new(trained.network()?, trained.calibration);
    let rows = dataset.rows_of(Rows::Test);
    let scores = scorer.score_rows(&dataset.inputs, &rows, Some(cancel))?;
    Ok(match &dataset.labels {
        Labels::Class(labels) => {
            let labels: Vec<u32> = rows.iter().map(|row| labels[*row as usize]).collect();
            let positive = |row: &MetricRow| row.class.is_none() || (dataset.classes.len() == 2 && row.class == Some(1));
            evaluate_classes(&labels, &scores.probabilities, &prior).into_iter().filter(positive).collect()
        }
        Labels::Value(values) => {
            let truth: Vec<f64> = rows.iter().map(|row| f64::from(values[*row as usize])).collect();
            let prior = [prior.first().copied().unwrap_or(0.0), prior.get(1).copied().unwrap_or(0.0)];
            evaluate_values(&truth, &scores.values, prior)
        }
    })
}

/// The means over the folds as a NOTICE; the rows hold each fold.
fn summary(measured: &[(i32, MetricRow)], notice: &crate::context::NoticeSink) {
    let mut names: Vec<&str> = vec![];
    for (_, row) in measured {
        if !names.contains(&row.metric.as_str()) {
            names.push(&row.metric);
        }
    }
    let mean = |name: &str| {
        let values: Vec<f64> = measured.iter().filter(|(_, row)| row.metric == name).map(|(_, row)| row.value).collect();
        values.iter().sum::<f64>() / values.len() as f64
    };
    let means: Vec<String> = names.iter().map(|name| format!("{name} {:.4}", mean(name))).collect();
    notice(&format!("mean over folds: {}", means.join(", ")));
}
