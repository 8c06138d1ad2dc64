//! A managed table as DataFusion sees it: a stock Parquet scan over the latest version's files, and a sink.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{Fields, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result as EngineResult;
use datafusion::datasource::TableType;
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder};
use datafusion::datasource::sink::{DataSink, DataSinkExec};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan};
use object_store::ObjectStore;
use portrait_udfs::error::{Code, Error, Result};

use super::delta::{DeltaTable, TableSnapshot};
use super::erasure::{Users, hide, with_users};
use super::events::EventScan;
use super::versions::AsOf;

/// The name under which a session's runtime knows the data directory.
pub(crate) fn store_url() -> EngineResult<ObjectStoreUrl> {
    ObjectStoreUrl::parse("portrait://data")
}

/// A managed table.
#[derive(Debug)]
pub struct ManagedTable {
    name: String,
    /// The table's columns, all of them nullable: where DataFusion is told NOT NULL it checks that itself, with neither
    /// the column's name nor the right code. The rows are checked when they are written.
    schema: SchemaRef,
    table: Arc<DeltaTable>,
    store: Arc<dyn ObjectStore>,
    /// The version that is read; `None` = the latest.
    as_of: Option<AsOf>,
    /// Users whose rows are left out, and the columns that they are in.
    hidden: Option<(Arc<Users>, Vec<usize>)>,
}

impl ManagedTable {
    pub(crate) fn new(name: &str, table: Arc<DeltaTable>, store: Arc<dyn ObjectStore>, as_of: Option<AsOf>) -> Self {
        let fields = table.schema().fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
        let schema = Arc::new(Schema::new(fields.collect::<Fields>()));
        Self { name: name.to_owned(), schema, table, store, as_of, hidden: None }
    }

    /// Leaves out the rows of `users`, who are in these columns.
    pub(crate) fn hiding(mut self, users: Arc<Users>, columns: Vec<usize>) -> Self {
        self.hidden = Some((users, columns)).filter(|(users, columns)| !users.is_empty() && !columns.is_empty());
        self
    }

    /// Changes with each commit.
    ///
    /// # Errors
    /// A log that cannot be read.
    pub async fn fingerprint(&self) -> Result<String> {
        let hidden = self.hidden.as_ref().map_or_else(String::new, |(users, _)| format!(":without-{}", users.fingerprint()));
        Ok(format!("delta:{}:{}{hidden}", self.table.id(), self.snapshot().await?.version))
    }

    async fn snapshot(&self) -> Result<Arc<TableSnapshot>> {
        match self.as_of {
            Some(as_of) => self.table.snapshot_as_of(as_of).await,
            None => self.table.snapshot().await,
        }
    }

    async fn plan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        limit: Option<usize>,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        // The version is taken when a statement is planned for execution, so a prepared statement sees later commits.
        let snapshot = self.snapshot().await?;
        if snapshot.files.is_empty() {
            let schema = match projection {
                Some(indices) => Arc::new(self.schema.project(indices)?),
                None => Arc::clone(&self.schema),
            };
            return Ok(Arc::new(EmptyExec::new(schema)));
        }
        let url = store_url()?;
        let runtime = state.runtime_env();
        if runtime.object_store(&url).is_err() {
            runtime.register_object_store(url.as_ref(), Arc::clone(&self.store));
        }
        if let Some(indices) = self.table.event_indices() {
            let scan = EventScan { state, schema: &self.schema, indices, snapshot: &snapshot, projection, limit };
            if let Some(ordered) = scan.plan().await? {
                return Ok(ordered);
            }
        }
        let format = ParquetFormat::default().with_options(state.default_table_options().parquet);
        let source = format.file_source(TableSchema::from(Arc::clone(&self.schema)));
        let partitions = state.config_options().execution.target_partitions;
        let config = FileScanConfigBuilder::new(url, source)
            .with_file_groups(FileGroup::new(snapshot.files.clone()).split_files(partitions))
            .with_statistics(snapshot.statistics.clone())
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .build();
        format.create_physical_plan(state, config).await
    }
}

#[async_trait]
impl TableProvider for ManagedTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> EngineResult<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        let limit = limit.filter(|_| filters.is_empty());
        let Some((users, columns)) = &self.hidden else { return self.plan(state, projection, limit).await };
        let (read, asked) = with_users(projection, columns, &self.schema);
        let plan = self.plan(state, read.as_ref(), None).await?;
        hide(plan, Arc::clone(users), columns.iter().map(|column| self.schema.field(*column).name().as_str()), asked)
    }

    async fn insert_into(
        &self,
        _state: &dyn Session,
        input: Arc<dyn ExecutionPlan>,
        operation: InsertOp,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        if operation != InsertOp::Append {
            return Err(Error::new(Code::FeatureNotSupported, "only INSERT INTO is supported, not INSERT OVERWRITE or REPLACE").into());
        }
        if self.as_of.is_some() {
            return Err(Error::new(Code::WrongObjectType, "cannot insert into an older version").into());
        }
        if !self.table.role().is_plain() {
            return Err(Error::new(Code::FeatureNotSupported, "events are taken in by a statement of its own, not inside a query").into());
        }
        let sink = InsertSink { name: self.name.clone(), schema: Arc::clone(&self.schema), table: Arc::clone(&self.table) };
        Ok(Arc::new(DataSinkExec::new(input, Arc::new(sink), None)))
    }
}

/// Appends what it is given in one commit.
struct InsertSink {
    name: String,
    schema: SchemaRef,
    table: Arc<DeltaTable>,
}

impl fmt::Debug for InsertSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InsertSink").field("table", &self.name).finish()
    }
}

impl DisplayAs for InsertSink {
    fn fmt_as(&self, _kind: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InsertSink(table={})", self.name)
    }
}

#[async_trait]
impl DataSink for InsertSink {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    async fn write_all(&self, data: SendableRecordBatchStream, context: &Arc<TaskContext>) -> EngineResult<u64> {
        Ok(self.table.append(data, &context.runtime_env()).await?)
    }
}
