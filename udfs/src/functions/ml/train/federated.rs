//! The SQL side of federated training: reads each source where it lies, and lets the training room do the rest.

use std::sync::Arc;

use datafusion::error::Result as DfResult;
use datafusion::execution::memory_pool::MemoryReservation;

use super::progress::Reporter;
use super::read::{Reader, blocking};
use super::spec::Lesson;
use crate::error::{Code, Error, Result};
use crate::features::options::Federated;
use crate::features::statistics::merge;
use crate::features::{Dataset, Share, TableDatasetBuilder};
use crate::functions::MlContext;
use crate::functions::prepass::source_sql;
use crate::models::Architecture;
use crate::registry::{Folder, FolderExchange, JobHandle};
use crate::train::Trained;
use crate::train::federated::remote::{Coordinator, Plan};
use crate::train::federated::{Crew, FederatedRequest, Terms, train};

/// Where a federated training runs and for whom.
pub(super) struct Place<'a> {
    pub(super) model: &'a str,
    pub(super) sql: &'a str,
    pub(super) reader: &'a Reader,
    pub(super) context: &'a Arc<MlContext>,
    pub(super) user: &'a str,
}

/// The coordinator's rows and the workers', read but not encoded.
struct Read {
    own: TableDatasetBuilder,
    workers: Vec<(String, TableDatasetBuilder)>,
    /// Freed when dropped.
    _memory: Vec<MemoryReservation>,
}

/// What a training came to: the model, the coordinator's rows, and the rows of all that were learned from.
pub(super) struct Learned {
    pub(super) trained: Trained,
    pub(super) dataset: Dataset,
    pub(super) train_rows: u64,
}

/// The folder behind a path, as the messages about a model.
pub(super) fn exchange(context: &MlContext, path: &str, user: &str, model: &str) -> Result<FolderExchange> {
    let (store, path) = context.files.folder(path, user, true)?;
    Ok(FolderExchange::new(Folder { store, path }, model))
}

/// Trains over the sources of this process, or with the processes that come.
pub(super) async fn run(place: Place<'_>, lesson: &Lesson, job: &JobHandle, reporter: Reporter) -> DfResult<Learned> {
    let (Some(settings), Some(architecture)) = (lesson.options.federated.clone(), lesson.architecture) else {
        return Err(Error::internal("a federated training has no settings").into());
    };
    let read = read(&place, lesson, &settings).await?;
    let exchange = match &settings.exchange {
        Some(path) => Some(exchange(place.context, path, place.user, place.model)?),
        None => None,
    };
    let plan = Plan {
        run: uuid::Uuid::now_v7().simple().to_string(),
        workers: settings.workers,
        label: lesson.label().unwrap_or_default().to_owned(),
        columns: lesson.columns.clone(),
        options: lesson.options.clone(),
    };
    let (threads, cancel) = (place.context.training_threads, job.cancel.clone());
    let learned = blocking(move || {
        let progress = |progress| reporter.report(progress);
        let learn = Learn { settings, architecture, threads, cancel: &cancel, progress: &progress };
        match exchange {
            None => learn.here(read, plan.options),
            Some(exchange) => {
                reporter.step("waiting for workers");
                let coordinator = Coordinator::open(&exchange, plan.clone(), learn.settings.wait_seconds, &cancel)?;
                learn.remote(read, plan.options, coordinator)
            }
        }
    })
    .await?;
    Ok(learned)
}

async fn read(place: &Place<'_>, lesson: &Lesson, settings: &Federated) -> DfResult<Read> {
    let label = lesson.label().ok_or_else(not_a_table)?;
    let reader = place.reader;
    let (own, memory) = reader.table_builder(place.sql, label, &lesson.table_columns, &lesson.options).await?;
    let (mut workers, mut memories) = (Vec::new(), vec![memory]);
    for source in &settings.sources {
        let sql = source_sql("federated", source)?;
        let (builder, memory) = reader.table_builder(&sql, label, &lesson.table_columns, &lesson.options).await?;
        workers.push((source.clone(), builder));
        memories.push(memory);
    }
    Ok(Read { own, workers, _memory: memories })
}

fn not_a_table() -> Error {
    Error::new(Code::FeatureNotSupported, "federated training learns from labelled tables")
        .detail("The target is about events.")
        .hint("Use target => 'column(<label>)' over one row per entity.")
}

/// Refuses what federated training cannot do before anything is read.
pub(super) fn check(lesson: &Lesson) -> Result<()> {
    if lesson.options.federated.is_some() && lesson.label().is_none() {
        return Err(not_a_table());
    }
    crate::train::federated::check(&lesson.options, lesson.architecture)
}

struct Learn<'a> {
    settings: Federated,
    architecture: Architecture,
    threads: usize,
    cancel: &'a tokio_util::sync::CancellationToken,
    progress: &'a (dyn Fn(crate::train::Progress) + Send + Sync),
}

impl Learn<'_> {
    /// Workers of this process.
    fn here(&self, read: Read, options: crate::features::Options) -> Result<Learned> {
        let least = u64::from(self.settings.min_count);
        let mut told = vec![("the coordinator".to_owned(), read.own.statistics(Share::Train, least)?)];
        for (name, builder) in &read.workers {
            told.push((name.clone(), builder.statistics(Share::All, least)?));
        }
        let (shared, sample) = merge(&told, &options)?;
        let terms = Terms { shared, architecture: self.architecture, options };
        let own = read.own.finish_shared(&terms.shared, Share::Train)?;
        let mut workers = Vec::with_capacity(read.workers.len());
        for (name, builder) in read.workers {
            workers.push((name, builder.finish_shared(&terms.shared, Share::All)?));
        }
        self.train(own, &terms, &sample, Crew::Here(&workers))
    }

    /// Workers elsewhere.
    fn remote(&self, read: Read, options: crate::features::Options, coordinator: Coordinator<'_>) -> Result<Learned> {
        let mut told = vec![("the coordinator".to_owned(), read.own.statistics(Share::Train, u64::from(self.settings.min_count))?)];
        told.extend(coordinator.statistics());
        let (shared, sample) = merge(&told, &options)?;
        let terms = Terms { shared, architecture: self.architecture, options };
        let own = read.own.finish_shared(&terms.shared, Share::Train)?;
        coordinator.announce(&terms)?;
        self.train(own, &terms, &sample, Crew::Remote(Box::new(coordinator)))
    }

    fn train(&self, own: Dataset, terms: &Terms, sample: &crate::features::Inputs, crew: Crew<'_>) -> Result<Learned> {
        let request =
            FederatedRequest { own: &own, terms, sample, crew, threads: self.threads, cancel: self.cancel, progress: self.progress };
        let trained = train(request)?;
        Ok(Learned { trained, dataset: own, train_rows: terms.shared.rows })
    }
}
