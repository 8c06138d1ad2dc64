//! One user's rows without a scan: the pages that may hold them, and what of them is in memory.
//!
//! Life of a question: a scan of a table that lies by user is asked for rows with `user = value` → [`Lookups::find`] takes the
//! files whose bounds hold the user, their footers, and the pages of the user column whose bounds do ([`blocks`]) → a
//! [`LookupExec`] gives the rows of those pages, column by column from the cache ([`cache`]) or from the file. Files never
//! change, so what is cached is never stale; a version of the table names its files.
//!
//! Rows of neighbours come along: whoever asks filters, as after every scan. Must never know: SQL, models, who is erased.

mod blocks;
mod cache;

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use datafusion::arrow::compute::FilterBuilder;
use datafusion::arrow::compute::kernels::cmp::eq;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result as EngineResult, ScalarValue, Statistics};
use datafusion::execution::memory_pool::MemoryPool;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, Operator};
use datafusion::physical_expr::{EquivalenceProperties, Partitioning, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStore;
use portrait_udfs::error::{Error, Result};

use super::delta::TableSnapshot;
use blocks::{Block, Footer, User};
use cache::Cache;

/// More rows than these are better scanned: a scan reads on all processors.
const ROWS_MAX: usize = 256 * 1024;

/// The user that `filters` ask for: `user = value`, with a value of the column's own type.
pub(super) fn asked_user(filters: &[Expr], schema: &SchemaRef, user: usize) -> Option<ScalarValue> {
    let field = schema.field(user);
    filters.iter().find_map(|filter| {
        let Expr::BinaryExpr(equal) = filter else { return None };
        let (column, value) = match (equal.left.as_ref(), equal.right.as_ref()) {
            (Expr::Column(column), Expr::Literal(value, _)) | (Expr::Literal(value, _), Expr::Column(column)) => (column, value),
            _ => return None,
        };
        let wanted = equal.op == Operator::Eq && column.name == *field.name() && !value.is_null();
        let same = &value.data_type() == field.data_type() || (value.data_type().is_string() && field.data_type().is_string());
        (wanted && same).then(|| value.clone())
    })
}

/// What lookups remember.
#[derive(Debug, Default)]
pub(crate) struct Lookups(Cache);

/// Pages of one file.
struct Found {
    footer: Arc<Footer>,
    blocks: Vec<Block>,
}

impl Lookups {
    /// Takes the memory of what is remembered from this pool. Call once at start.
    pub(crate) fn set_pool(&self, pool: &Arc<dyn MemoryPool>) {
        self.0.set_pool(pool);
    }

    /// The rows of `user`, who is in this column, if all that they take is in memory: some columns of the table, in this order.
    ///
    /// # Errors
    /// Columns that do not fit each other.
    pub(super) fn in_memory(
        &self,
        snapshot: &TableSnapshot,
        schema: &SchemaRef,
        (user, value): (usize, &ScalarValue),
        columns: &[usize],
    ) -> EngineResult<Option<Vec<Vec<ArrayRef>>>> {
        let Some(wanted) = User::of(value) else { return Ok(None) };
        let scalar = value.to_scalar()?;
        let names: Vec<&str> = std::iter::once(&user).chain(columns).map(|at| schema.field(*at).name().as_str()).collect();
        let mut pieces = Vec::new();
        for file in &snapshot.files {
            if !blocks::file_may_hold(file, user, value) {
                continue;
            }
            let Some(footer) = self.0.known_footer(&file.object_meta.location) else { return Ok(None) };
            let Some(blocks) = footer.blocks_of(&wanted) else { return Ok(None) };
            for block in blocks {
                let Some(read) = self.0.known_columns(&footer, block, &names) else { return Ok(None) };
                let [users, rest @ ..] = read.as_slice() else { return Ok(None) };
                let rows = if users.users_ascend { wanted.rows_in(&users.values) } else { None };
                let piece = match rows {
                    Some(rows) if rows.is_empty() => continue,
                    Some(rows) => rest.iter().map(|column| column.values.slice(rows.start, rows.len())).collect(),
                    None => {
                        // Found once, taken from each column.
                        let own = FilterBuilder::new(&eq(&users.values, &scalar)?).optimize().build();
                        let taken = rest.iter().map(|column| own.filter(&column.values));
                        taken.collect::<std::result::Result<Vec<_>, _>>()?
                    }
                };
                pieces.push(piece);
            }
        }
        Ok(Some(pieces))
    }

    /// The rows that may be those of `user`, who is in this column; `None` when a scan is better.
    ///
    /// # Errors
    /// Files that cannot be read.
    pub(super) async fn find(
        self: &Arc<Self>,
        store: &Arc<dyn ObjectStore>,
        snapshot: &Arc<TableSnapshot>,
        schema: &SchemaRef,
        (user, value): (usize, &ScalarValue),
        projection: Option<&Vec<usize>>,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let Some(wanted) = User::of(value) else { return Ok(None) };
        let name = schema.field(user).name();
        let (mut found, mut rows) = (Vec::new(), 0);
        for file in &snapshot.files {
            if !blocks::file_may_hold(file, user, value) {
                continue;
            }
            let footer = self.0.footer(store, file, name).await?;
            let Some(blocks) = footer.blocks_of(&wanted) else { return Ok(None) };
            let blocks: Vec<Block> = blocks.cloned().collect();
            rows += blocks.iter().map(|block| block.rows.len()).sum::<usize>();
            if rows > ROWS_MAX {
                return Ok(None);
            }
            found.push(Found { footer, blocks });
        }
        let columns: Vec<usize> = projection.map_or_else(|| (0..schema.fields().len()).collect(), Clone::clone);
        let projected = Arc::new(schema.project(&columns).map_err(|error| Error::internal(error.to_string()))?);
        Ok(Some(Arc::new(LookupExec::new(Lookup {
            lookups: Arc::clone(self),
            store: Arc::clone(store),
            snapshot: Arc::clone(snapshot),
            asked: format!("{name} = {value}"),
            schema: projected,
            found,
        }))))
    }
}

struct Lookup {
    lookups: Arc<Lookups>,
    store: Arc<dyn ObjectStore>,
    /// Its files stay as long as it is held.
    snapshot: Arc<TableSnapshot>,
    asked: String,
    schema: SchemaRef,
    found: Vec<Found>,
}

impl Lookup {
    async fn rows(&self, file: usize, block: usize) -> EngineResult<RecordBatch> {
        let Found { footer, blocks } = &self.found[file];
        let block = &blocks[block];
        let names: Vec<&str> = self.schema.fields().iter().map(|field| field.name().as_str()).collect();
        let read = self.lookups.0.columns(&self.store, footer, block, &names, &self.schema).await?;
        let options = RecordBatchOptions::new().with_row_count(Some(block.rows.len()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), read.into_iter().collect::<Vec<ArrayRef>>(), &options)?)
    }
}

/// Gives the rows of some pages.
pub(super) struct LookupExec {
    lookup: Arc<Lookup>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl LookupExec {
    fn new(lookup: Lookup) -> Self {
        let equivalences = EquivalenceProperties::new(Arc::clone(&lookup.schema));
        let one = Partitioning::UnknownPartitioning(1);
        let properties = Arc::new(PlanProperties::new(equivalences, one, EmissionType::Incremental, Boundedness::Bounded));
        Self { lookup: Arc::new(lookup), properties, metrics: ExecutionPlanMetricsSet::new() }
    }
}

impl fmt::Debug for LookupExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LookupExec").field("asked", &self.lookup.asked).finish_non_exhaustive()
    }
}

impl DisplayAs for LookupExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Lookup { asked, snapshot, found, schema, .. } = self.lookup.as_ref();
        let pages: usize = found.iter().map(|found| found.blocks.len()).sum();
        let columns: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        write!(
            f,
            "LookupExec: {asked}, files={} of {}, pages={pages}, projection=[{}]",
            found.len(),
            snapshot.files.len(),
            columns.join(", ")
        )
    }
}

impl ExecutionPlan for LookupExec {
    fn name(&self) -> &'static str {
        "LookupExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> EngineResult<TreeNodeRecursion>,
    ) -> EngineResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> EngineResult<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, partition: usize, _: Arc<TaskContext>) -> EngineResult<SendableRecordBatchStream> {
        let lookup = Arc::clone(&self.lookup);
        let places: Vec<(usize, usize)> =
            lookup.found.iter().enumerate().flat_map(|(file, found)| (0..found.blocks.len()).map(move |block| (file, block))).collect();
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let rows = futures::stream::iter(places).then(move |(file, block)| {
            let lookup = Arc::clone(&lookup);
            async move { lookup.rows(file, block).await }
        });
        let counted = rows.inspect_ok(move |rows| {
            metrics.record_output(rows.num_rows());
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.lookup.schema), counted)))
    }

    fn statistics_from_inputs(&self, _: &[Arc<Statistics>], _: &StatisticsArgs) -> EngineResult<Arc<Statistics>> {
        let blocks = self.lookup.found.iter().flat_map(|found| &found.blocks);
        let mut statistics = Statistics::new_unknown(&self.lookup.schema);
        statistics.num_rows = Precision::Exact(blocks.map(|block| block.rows.len()).sum());
        Ok(Arc::new(statistics))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}
