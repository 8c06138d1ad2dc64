//! A managed table as DataFusion sees it: a stock Parquet scan over the latest version's files, and a sink.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::{Fields, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Result as EngineResult, ScalarValue};
use datafusion::datasource::TableType;
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, FileSource, ParquetSource};
use datafusion::datasource::sink::{DataSink, DataSinkExec};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan};
use object_store::ObjectStore;
use portrait_udfs::error::{Code, Error, Result};

use super::delta::{DeltaTable, TableSnapshot};
use super::erasure::{Users, hide, with_columns};
use super::events::EventScan;
use super::events::retain::{newer, young};
use super::lookup::{Lookups, asked_user};
use super::user_set::{UserSet, among};
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
    /// The only users whose rows are read, and the column that they are in.
    only: Option<(Arc<UserSet>, usize)>,
    /// What questions for one user remember.
    lookups: Option<Arc<Lookups>>,
}

impl ManagedTable {
    pub(crate) fn new(name: &str, table: Arc<DeltaTable>, store: Arc<dyn ObjectStore>, as_of: Option<AsOf>) -> Self {
        let fields = table.schema().fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
        let schema = Arc::new(Schema::new(fields.collect::<Fields>()));
        Self { name: name.to_owned(), schema, table, store, as_of, hidden: None, only: None, lookups: None }
    }

    /// The table itself, when its latest version is read.
    pub(crate) fn latest(&self) -> Option<&Arc<DeltaTable>> {
        self.as_of.is_none().then_some(&self.table)
    }

    /// The same table with the rows of `users` alone, who are in this column.
    pub(crate) fn only(&self, users: Arc<UserSet>, column: usize) -> Self {
        Self {
            name: self.name.clone(),
            schema: Arc::clone(&self.schema),
            table: Arc::clone(&self.table),
            store: Arc::clone(&self.store),
            as_of: self.as_of,
            hidden: self.hidden.clone(),
            only: Some((users, column)),
            lookups: self.lookups.clone(),
        }
    }

    /// Whether it ends with the session that made it.
    pub(crate) fn is_temporary(&self) -> bool {
        self.table.is_temporary()
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Leaves out the rows of `users`, who are in these columns.
    pub(crate) fn hiding(mut self, users: Arc<Users>, columns: Vec<usize>) -> Self {
        self.hidden = Some((users, columns)).filter(|(users, columns)| !users.is_empty() && !columns.is_empty());
        self
    }

    /// Questions for one user need no scan.
    pub(crate) fn looking_up(mut self, lookups: &Arc<Lookups>) -> Self {
        self.lookups = Some(Arc::clone(lookups));
        self
    }

    /// The column that its rows lie by, and the user that `filters` ask for.
    fn one_user(&self, filters: &[Expr]) -> Option<(usize, ScalarValue)> {
        let user = match self.table.role() {
            super::Role::Derived { user: Some(user) } => self.schema.index_of(user).ok()?,
            _ => self.table.event_indices()?.user,
        };
        asked_user(filters, &self.schema, user).map(|value| (user, value))
    }

    /// The column that the table's rows lie by, if it is the users' and rows can be looked up by it as they are: none are hidden, none
    /// too old.
    pub(crate) fn looked_up_by(&self) -> Option<usize> {
        let plain = self.as_of.is_none() && self.hidden.is_none() && self.only.is_none() && self.lookups.is_some();
        if !plain || self.table.retention_us().is_some() {
            return None;
        }
        match self.table.role() {
            super::Role::Derived { user: Some(user) } => self.schema.index_of(user).ok(),
            _ => Some(self.table.event_indices()?.user),
        }
    }

    /// The rows of `user` in the latest version, if all that they take is in memory: some columns, in this order, piece by piece.
    ///
    /// # Errors
    /// A log that cannot be read.
    pub(crate) async fn rows_in_memory(&self, user: &ScalarValue, columns: &[usize]) -> EngineResult<Option<Vec<Vec<ArrayRef>>>> {
        let (Some(column), Some(lookups)) = (self.looked_up_by(), &self.lookups) else { return Ok(None) };
        let kind = self.schema.field(column).data_type();
        let user = if user.data_type() == *kind { Ok(user.clone()) } else { user.cast_to(kind) };
        let Ok(user) = user else { return Ok(None) };
        if user.is_null() {
            return Ok(Some(Vec::new()));
        }
        let snapshot = match self.table.recent() {
            Some(snapshot) => snapshot,
            None => self.table.snapshot().await?,
        };
        lookups.in_memory(&snapshot, &self.schema, (column, &user), columns)
    }

    /// Changes with each commit.
    ///
    /// # Errors
    /// A log that cannot be read.
    pub async fn fingerprint(&self) -> Result<String> {
        let hidden = self.hidden.as_ref().map_or_else(String::new, |(users, _)| format!(":without-{}", users.fingerprint()));
        let cutoff = self.table.cutoff().await?.map_or_else(String::new, |cutoff| format!(":since-{cutoff}"));
        Ok(format!("delta:{}:{}{hidden}{cutoff}", self.table.id(), self.snapshot().await?.version))
    }

    async fn snapshot(&self) -> Result<Arc<TableSnapshot>> {
        match self.as_of {
            Some(as_of) => self.table.snapshot_as_of(as_of).await,
            None => self.table.snapshot().await,
        }
    }

    /// What may hold rows of the users that are read, when they are few.
    fn pruning(&self) -> Option<Arc<dyn PhysicalExpr>> {
        let (users, column) = self.only.as_ref()?;
        users.pruning(&self.schema, self.schema.field(*column).name())
    }

    /// The version that is read, without files that are too old as a whole; and when others hold events that are: the column
    /// of times, and the first time that is not too old.
    async fn young(&self) -> Result<(Arc<TableSnapshot>, Option<(usize, i64)>)> {
        let snapshot = self.snapshot().await?;
        let Some(indices) = self.table.event_indices() else { return Ok((snapshot, None)) };
        let Some(cutoff_us) = self.table.cutoff().await? else { return Ok((snapshot, None)) };
        let (snapshot, mixed) = young(&self.table, snapshot, indices.time, cutoff_us)?;
        Ok((snapshot, mixed.then_some((indices.time, cutoff_us))))
    }

    /// The rows of nobody who is hidden, and none that are too old.
    async fn scan_visible(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        limit: Option<usize>,
        user: Option<(usize, ScalarValue)>,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        // The version is taken when a statement is planned for execution, so a prepared statement sees later commits.
        let (snapshot, older) = self.young().await?;
        if self.hidden.is_none() && older.is_none() {
            return self.plan(state, &snapshot, projection, limit, user).await;
        }
        let users = self.hidden.iter().flat_map(|(_, columns)| columns);
        let needed: Vec<usize> = users.copied().chain(older.map(|(time, _)| time)).collect();
        let (read, asked) = with_columns(projection, &needed, &self.schema);
        let name = |column: usize| self.schema.field(column).name().as_str();
        let mut plan = self.plan(state, &snapshot, read.as_ref(), None, user).await?;
        if let Some((time, cutoff_us)) = older {
            let kept = if self.hidden.is_some() { plan.schema().fields().len() } else { asked };
            plan = newer(plan, name(time), cutoff_us, kept)?;
        }
        match &self.hidden {
            Some((users, columns)) => hide(plan, Arc::clone(users), columns.iter().map(|column| name(*column)), asked),
            None => Ok(plan),
        }
    }

    async fn plan(
        &self,
        state: &dyn Session,
        snapshot: &Arc<TableSnapshot>,
        projection: Option<&Vec<usize>>,
        limit: Option<usize>,
        user: Option<(usize, ScalarValue)>,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        if snapshot.files.is_empty() {
            let schema = match projection {
                Some(indices) => Arc::new(self.schema.project(indices)?),
                None => Arc::clone(&self.schema),
            };
            return Ok(Arc::new(EmptyExec::new(schema)));
        }
        if let (Some((column, value)), Some(lookups)) = (&user, &self.lookups)
            && let Some(found) = lookups.find(&self.store, snapshot, &self.schema, (*column, value), projection).await?
        {
            return Ok(found);
        }
        let url = self.table.url()?;
        let runtime = state.runtime_env();
        if runtime.object_store(&url).is_err() {
            runtime.register_object_store(url.as_ref(), Arc::clone(&self.store));
        }
        if let Some(indices) = self.table.event_indices() {
            let pruning = self.pruning();
            let scan = EventScan { state, schema: &self.schema, indices, snapshot, projection, limit, pruning };
            if let Some(ordered) = scan.plan().await? {
                return Ok(ordered);
            }
        }
        let format = ParquetFormat::default().with_options(state.default_table_options().parquet);
        let source = with_pruning(format.file_source(TableSchema::from(Arc::clone(&self.schema))), self.pruning());
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

/// A source of Parquet that leaves out what its statistics say has no rows that `pruning` holds for.
pub(super) fn with_pruning(source: Arc<dyn FileSource>, pruning: Option<Arc<dyn PhysicalExpr>>) -> Arc<dyn FileSource> {
    match (source.downcast_ref::<ParquetSource>(), pruning) {
        (Some(parquet), Some(pruning)) => Arc::new(parquet.with_predicate(pruning)),
        _ => source,
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
        let limit = limit.filter(|_| filters.is_empty() && self.only.is_none());
        let Some((users, column)) = &self.only else {
            return self.scan_visible(state, projection, limit, self.one_user(filters)).await;
        };
        let (read, asked) = with_columns(projection, &[*column], &self.schema);
        let plan = self.scan_visible(state, read.as_ref(), limit, None).await?;
        among(plan, Arc::clone(users), self.schema.field(*column).name(), asked)
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
        if matches!(self.table.role(), super::Role::Derived { .. }) {
            return Err(Error::new(Code::WrongObjectType, format!("cannot change materialized view \"{}\"", self.name)).into());
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
