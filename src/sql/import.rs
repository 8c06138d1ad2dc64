//! Files into a table, in one commit: what `portrait import` runs.
//!
//! Life of an import: the table is opened for rows ([`crate::catalog::Insertion`]) → each file is planned, its columns
//! cast to the table's as INSERT casts them, and streamed → only when all files were read is anything committed. The
//! same import again changes nothing in a table of events.

use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::datasource::provider_as_source;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast, lit};
use datafusion::physical_plan::execute_stream;
use datafusion::prelude::Column;
use futures::StreamExt;
use portrait_udfs::error::{Code, Error, Result};

use super::{RunOptions, materialized_view};
use crate::catalog::{ImportSource, TableInfo};
use crate::engine::{Running, Session};
use crate::error::classify;
use crate::storage::{Arrivals, IngestOptions};

/// How far an import has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ImportProgress {
    /// Rows that were read.
    pub rows: u64,
    /// Bytes of the files that are done.
    pub bytes_done: u64,
    /// Bytes of all files.
    pub bytes: u64,
}

/// Imports the files at `locations` into `table`. `progress` is called now and then.
///
/// # Errors
/// 42P01; whatever listing, reading and inserting find wrong. Then no row is kept.
pub async fn import(
    session: &Session,
    table: &str,
    locations: &[String],
    run: RunOptions,
    progress: impl Fn(ImportProgress) + Send + Sync + 'static,
) -> Result<Arrivals> {
    let running = session.statement("import", &run.cancel, run.notice)?;
    let catalog = Arc::clone(running.engine().catalog());
    catalog.may_write()?;
    let info = catalog.describe(table).ok_or_else(|| catalog.undefined_table(table))?;
    let tolerance_ms = session.with_settings(|settings| settings.integer("event_future_tolerance"));
    let options = IngestOptions {
        now_us: chrono::Utc::now().timestamp_micros(),
        future_tolerance_us: tolerance_ms.saturating_mul(1000),
        erasures: catalog.erasures_begun(),
    };
    let (own, locations) = (running.clone(), locations.to_vec());
    let work = async move { Import { running: own, info, progress: Box::new(progress) }.run(&locations, options).await };
    let arrivals = running.run(work).await?;
    materialized_view::follow_ingest(&running, table).await?;
    Ok(arrivals)
}

struct Import {
    running: Running,
    info: TableInfo,
    progress: Box<dyn Fn(ImportProgress) + Send + Sync>,
}

impl Import {
    async fn run(&self, locations: &[String], options: IngestOptions) -> Result<Arrivals> {
        let catalog = Arc::clone(self.running.engine().catalog());
        let mut insertion = catalog.insertion(&self.info.name, options)?;
        let mut sources = Vec::new();
        for location in locations {
            sources.extend(catalog.import_sources(self.running.state().as_ref(), location, &self.info.schema).await?);
        }
        let mut done = ImportProgress { bytes: sources.iter().map(|source| source.bytes).sum(), ..ImportProgress::default() };
        for source in &sources {
            if !source.left_out.is_empty() {
                let columns = source.left_out.join(", ");
                self.running.notice(&format!("columns of \"{}\" that the table does not have are left out: {columns}", source.location));
            }
            let plan = self.running.state().create_physical_plan(&self.plan(source)?).await.map_err(classify)?;
            let task = Arc::new(TaskContext::from(self.running.state().as_ref()));
            let mut rows = execute_stream(plan, task).map_err(classify)?;
            while let Some(batch) = rows.next().await {
                let batch = batch.map_err(|error| within(classify(error), &source.location))?;
                insertion.add(&batch).await?;
                done.rows += batch.num_rows() as u64;
                (self.progress)(done);
            }
            done.bytes_done += source.bytes;
            (self.progress)(done);
        }
        insertion.finish().await
    }

    /// The rows of a source with the table's columns.
    fn plan(&self, source: &ImportSource) -> Result<LogicalPlan> {
        let schema = source.provider.schema();
        let column = |(field, at): (&Arc<arrow::datatypes::Field>, &Option<usize>)| -> Result<Expr> {
            let value = match at {
                Some(at) => Expr::Column(Column::new_unqualified(schema.field(*at).name())),
                None => lit(ScalarValue::Null),
            };
            Ok(cast(value, field.data_type().clone()).alias(field.name()))
        };
        let columns = self.info.schema.fields().iter().zip(&source.columns).map(column).collect::<Result<Vec<_>>>()?;
        let files = LogicalPlanBuilder::scan("files", provider_as_source(Arc::clone(&source.provider)), None);
        let plan = files.and_then(|files| files.project(columns)).and_then(LogicalPlanBuilder::build).map_err(classify)?;
        super::guard::check(&plan)?;
        Ok(plan)
    }
}

/// Says which file an error is about.
fn within(error: Error, location: &str) -> Error {
    match error.detail {
        None if error.code != Code::Cancelled => error.detail(format!("While reading \"{location}\".")),
        _ => error,
    }
}
