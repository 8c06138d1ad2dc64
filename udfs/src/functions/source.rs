//! From any source query to users' histories in the canonical schema, in user order.
//!
//! Life of a source: SQL → logical plan with the caller's rights → [`canonical_plan`] casts what real writers
//! make (LargeUtf8, views, dictionaries, timestamps of every unit, dates, epochs, text) and leaves out rows
//! without user or time → the engine's spilling sort → streams that never split a user.
//!
//! [`SortedHistories`] is the history provider of a program without a server: it sorts at each use.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::{SortOptions, cast};
use arrow::datatypes::{DataType, Int64Type, Schema, SchemaRef, TimeUnit as ArrowTimeUnit, TimestampMicrosecondType};
use async_trait::async_trait;
use datafusion::common::{Column, ScalarValue};
use datafusion::error::Result as DfResult;
use datafusion::execution::{SendableRecordBatchStream, SessionState};
use datafusion::functions_aggregate::expr_fn::{count, max, min};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, col, lit, try_cast};
use datafusion::physical_expr::expressions::Column as PhysicalColumn;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::placeholder_row::PlaceholderRowExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::{EmptyRecordBatchStream, ExecutionPlan, ExecutionPlanProperties, Partitioning, collect};
use datafusion::prelude::SQLOptions;

use super::pairing::downcast;
use super::prepass::prepare_df_statement;
use super::radix_sort::by_digits;
use super::ties::{SortTiesExec, ranges_in_order};
use crate::context::{EventSource, HistoryProvider, UserHistories};
use crate::error::{Code, Error, Result};
use crate::features::roles::resolve_event_columns;
use crate::features::{ColumnDecision, EventColumns, Target, TimeUnit, ValueColumn, canonical_schema};

/// Plans a source as `session` sees it; refuses anything but one query.
///
/// # Errors
/// Whatever is wrong with the query.
pub async fn plan_sql(session: &SessionState, sql: &str) -> DfResult<LogicalPlan> {
    let mut statement = session.sql_to_statement(sql, &session.config().options().sql_parser.dialect)?;
    prepare_df_statement(&mut statement)?;
    let plan = session.statement_to_plan(statement).await?;
    let read_only = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    read_only.verify_plan(&plan).map_err(|error| {
        Error::new(Code::ReadOnly, "a source must be a read-only query").detail(format!("{}.", error.strip_backtrace()))
    })?;
    Ok(plan)
}

/// Runs a small aggregate over a plan: one row.
async fn one_row(session: &SessionState, plan: LogicalPlan, aggregates: Vec<Expr>) -> DfResult<RecordBatch> {
    let plan = LogicalPlanBuilder::from(plan).aggregate(Vec::<Expr>::new(), aggregates)?.build()?;
    let physical = session.create_physical_plan(&plan).await?;
    let schema = physical.schema();
    let batches = collect(physical, session.task_ctx()).await?;
    Ok(arrow::compute::concat_batches(&schema, &batches)?)
}

/// The roles of a source's columns: `columns` as the user wrote it (`auto` by default), with a look at the values
/// of integer columns where the unit of a time depends on them.
///
/// # Errors
/// 42703 for a missing column, 22023 for words that cannot be read, 25006 for a source that is no query.
pub async fn resolve_columns(session: &SessionState, sql: &str, columns: &str) -> DfResult<(EventColumns, Vec<ColumnDecision>)> {
    let plan = plan_sql(session, sql).await?;
    let schema = plan.schema().as_arrow().clone();
    let wanted = Mutex::new(BTreeSet::new());
    let first = resolve_event_columns(&schema, columns, &|name| {
        wanted.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
        None
    });
    let wanted = wanted.into_inner().unwrap_or_else(PoisonError::into_inner);
    let integers = |name: &&String| schema.field_with_name(name).is_ok_and(|f| f.data_type().is_integer());
    let wanted: Vec<String> = wanted.iter().filter(integers).cloned().collect();
    if wanted.is_empty() {
        return Ok(first?);
    }
    let number = |name: &String| try_cast(Expr::Column(Column::from_name(name)), DataType::Int64);
    let aggregates = wanted
        .iter()
        .enumerate()
        .flat_map(|(i, name)| [min(number(name)).alias(format!("min{i}")), max(number(name)).alias(format!("max{i}"))]);
    let row = one_row(session, plan, aggregates.collect()).await?;
    let value = |i: usize| row.column(i).as_primitive_opt::<Int64Type>().filter(|a| a.len() == 1 && a.is_valid(0)).map(|a| a.value(0));
    let ranges: BTreeMap<&str, (i64, i64)> =
        wanted.iter().enumerate().filter_map(|(i, name)| Some((name.as_str(), (value(2 * i)?, value(2 * i + 1)?)))).collect();
    Ok(resolve_event_columns(&schema, columns, &|name| ranges.get(name).copied())?)
}

/// [`resolve_columns`], with the column that a `sum(column)` target adds up among the extras.
///
/// # Errors
/// As [`resolve_columns`]; 22023 when that column is not a number.
pub async fn columns_for(session: &SessionState, sql: &str, columns: &str, target: &Target) -> DfResult<EventColumns> {
    let (mut resolved, _) = resolve_columns(session, sql, columns).await?;
    resolved.include_target(target, &source_schema(session, sql).await?)?;
    Ok(resolved)
}

/// The expression that reads a time as microseconds UTC; NULL where it cannot be read.
fn time_expr(column: Expr, unit: TimeUnit) -> Expr {
    let utc = DataType::Timestamp(ArrowTimeUnit::Microsecond, Some("UTC".into()));
    let epoch = |unit| try_cast(try_cast(column.clone(), DataType::Int64), DataType::Timestamp(unit, Some("UTC".into())));
    let instant = match unit {
        TimeUnit::Timestamp => column,
        TimeUnit::Date => try_cast(column, DataType::Timestamp(ArrowTimeUnit::Microsecond, None)),
        TimeUnit::Text => try_cast(column, DataType::Utf8),
        TimeUnit::EpochSeconds => epoch(ArrowTimeUnit::Second),
        TimeUnit::EpochMillis => epoch(ArrowTimeUnit::Millisecond),
        TimeUnit::EpochMicros => epoch(ArrowTimeUnit::Microsecond),
        TimeUnit::EpochNanos => epoch(ArrowTimeUnit::Nanosecond),
    };
    try_cast(instant, utc)
}

/// `plan` projected onto the canonical schema; users and times may still be NULL.
///
/// # Errors
/// 42703 when a column is missing.
pub fn canonical_plan(plan: LogicalPlan, columns: &EventColumns) -> DfResult<(LogicalPlan, SchemaRef)> {
    let source = plan.schema().as_arrow().clone();
    let schema = canonical_schema(columns, &source);
    let column = |name: &str| -> Result<Expr> {
        if source.field_with_name(name).is_err() {
            let there: Vec<&str> = source.fields().iter().map(|f| f.name().as_str()).collect();
            let error = Error::new(Code::UndefinedColumn, format!("column \"{name}\" does not exist"))
                .detail(format!("The source has the columns {}.", there.join(", ")));
            return Err(match crate::kernels::nearest::nearest(name, there.iter().copied()) {
                Some(near) => error.hint(format!("Perhaps you meant the column \"{near}\".")),
                None => error,
            });
        }
        Ok(Expr::Column(Column::from_name(name)))
    };
    let role = |name: &Option<String>| name.as_deref().map_or_else(|| Err(Error::internal("a role has no column")), column);
    let mut exprs = Vec::with_capacity(schema.fields().len());
    for (index, field) in schema.fields().iter().enumerate() {
        let value = match field.name().as_str() {
            "user" if index == 0 => column(&columns.user)?,
            "time" if index == 1 => time_expr(column(&columns.time)?, columns.time_unit),
            "event" => role(&columns.event)?,
            "item" => role(&columns.item)?,
            "category" => role(&columns.category)?,
            "value" => match &columns.value {
                Some(ValueColumn::Column(name)) => column(name)?,
                Some(ValueColumn::Product(price, quantity)) => {
                    try_cast(column(price)?, DataType::Float64) * try_cast(column(quantity)?, DataType::Float64)
                }
                None => return Err(Error::internal("a value has no column").into()),
            },
            _ => {
                let carried = columns.carried().find(|(canonical, _)| canonical == field.name());
                column(carried.map(|(_, name)| name).ok_or_else(|| Error::internal("an extra column has no name"))?)?
            }
        };
        let same = matches!(&value, Expr::Column(c) if source.field_with_name(&c.name).is_ok_and(|f| f.data_type() == field.data_type()));
        let value = if same { value } else { try_cast(value, field.data_type().clone()) };
        exprs.push(value.alias(field.name()));
    }
    Ok((LogicalPlanBuilder::from(plan).project(exprs)?.build()?, schema))
}

/// Sorts `plan` by all of its columns in order, so that equal sources give equal streams, into `partitions` streams
/// that never split a user (column 0).
fn sorted(plan: Arc<dyn ExecutionPlan>, partitions: usize) -> DfResult<Arc<dyn ExecutionPlan>> {
    let schema = plan.schema();
    let options = SortOptions { descending: false, nulls_first: false };
    let keys = schema.fields().iter().enumerate().map(|(i, f)| PhysicalSortExpr::new(Arc::new(PhysicalColumn::new(f.name(), i)), options));
    let Some(order) = LexOrdering::new(keys) else {
        return Ok(plan);
    };
    if partitions > 1 && ranges_in_order(&plan, &order, ORDERED_KEYS)?.is_some() {
        return Ok(match order.len() {
            ..=ORDERED_KEYS => plan,
            _ => Arc::new(SortTiesExec::new(plan, order, ORDERED_KEYS)),
        });
    }
    let plan = if partitions > 1 {
        let user = Arc::new(PhysicalColumn::new(schema.field(0).name(), 0));
        Arc::new(RepartitionExec::try_new(plan, Partitioning::Hash(vec![user], partitions))?)
    } else {
        plan
    };
    let many = plan.output_partitioning().partition_count() > 1;
    let runs = by_digits(Arc::new(SortExec::new(order.clone(), plan).with_preserve_partitioning(many)));
    if partitions <= 1 && many {
        return Ok(Arc::new(SortPreservingMergeExec::new(order, runs)));
    }
    Ok(runs)
}

/// The columns that a table of events keeps its rows ordered by: user and time.
const ORDERED_KEYS: usize = 2;

/// Reads a labelled table in an order that depends on its rows only, whatever the order and number of its files:
/// by the bytes of all columns that can be ordered.
///
/// # Errors
/// Whatever planning says.
pub fn table_stream(plan: Arc<dyn ExecutionPlan>, session: &SessionState) -> DfResult<SendableRecordBatchStream> {
    let schema = plan.schema();
    let options = SortOptions::default();
    let orderable = |t: &DataType| !t.is_nested() && !matches!(t, DataType::Null);
    let fields = schema.fields().iter().enumerate().filter(|(_, f)| orderable(f.data_type()));
    let keys = fields.map(|(i, f)| PhysicalSortExpr::new(Arc::new(PhysicalColumn::new(f.name(), i)), options));
    let many = plan.output_partitioning().partition_count() > 1;
    let plan: Arc<dyn ExecutionPlan> = match LexOrdering::new(keys) {
        Some(order) => {
            let runs: Arc<dyn ExecutionPlan> = Arc::new(SortExec::new(order.clone(), plan).with_preserve_partitioning(many));
            if many { Arc::new(SortPreservingMergeExec::new(order, runs)) } else { runs }
        }
        None => plan,
    };
    plan.execute(0, session.task_ctx())
}

/// A [`HistoryProvider`] that sorts the source at each use, spilling to disk beyond the memory pool.
#[derive(Debug, Clone, Copy, Default)]
pub struct SortedHistories;

#[async_trait]
impl HistoryProvider for SortedHistories {
    async fn open(&self, session: &SessionState, source: &EventSource) -> Result<Arc<dyn UserHistories>> {
        Ok(Arc::new(SortedSource::open(session, source, None).await.map_err(Error::from_engine)?))
    }
}

/// When users had events of one type and what those were worth, sorted as they are read; the watermark is that of all events.
/// The roles of the columns that come are those of the second result.
///
/// # Errors
/// Whatever is wrong with the source.
pub(crate) async fn orders_of(
    session: &SessionState,
    source: &EventSource,
    event: &str,
) -> DfResult<(Arc<dyn UserHistories>, EventColumns)> {
    let kept = EventColumns { event: None, item: None, category: None, ..source.columns.clone() };
    let sorted = SortedSource::open(session, source, Some(OfEvent { event, kept: &kept })).await?;
    Ok((Arc::new(sorted), kept))
}

/// Events of one type, of which only some columns are read.
struct OfEvent<'a> {
    event: &'a str,
    kept: &'a EventColumns,
}

impl OfEvent<'_> {
    /// The rows of a source's plan in canonical columns.
    fn plan(&self, plan: LogicalPlan, columns: &EventColumns) -> DfResult<(LogicalPlan, SchemaRef)> {
        let name = columns.event.as_deref().ok_or_else(|| Error::internal("the source has no column of events"))?;
        let column = Expr::Column(Column::from_name(name));
        let found = plan.schema().field_with_unqualified_name(name)?.data_type().clone();
        let value = if let DataType::Dictionary(_, value) = &found { value.as_ref() } else { &found };
        let text = matches!(value, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
        // A text is compared as it lies in the file, which the scan can do before it reads the other columns.
        let wanted = if text { column } else { try_cast(column, DataType::Utf8) };
        canonical_plan(LogicalPlanBuilder::from(plan).filter(wanted.eq(lit(self.event)))?.build()?, self.kept)
    }
}

/// Some of the types of event that a source has, at most `most`.
///
/// # Errors
/// Whatever is wrong with the source.
pub(crate) async fn event_types(session: &SessionState, source: &EventSource, most: usize) -> DfResult<BTreeSet<String>> {
    let (plan, _) = canonical_plan(plan_sql(session, &source.sql).await?, &source.columns)?;
    let distinct = LogicalPlanBuilder::from(plan).filter(col("event").is_not_null())?.aggregate(vec![col("event")], Vec::<Expr>::new())?;
    let batches = collect(session.create_physical_plan(&distinct.limit(0, Some(most))?.build()?).await?, session.task_ctx()).await?;
    let texts = batches.iter().filter_map(|batch| batch.column(0).as_string_opt::<i32>());
    Ok(texts.flat_map(|texts| texts.iter().flatten().map(str::to_owned)).collect())
}

/// An opened source.
struct SortedSource {
    session: SessionState,
    plan: LogicalPlan,
    schema: SchemaRef,
    watermark_us: Option<i64>,
    dropped_rows: u64,
}

impl fmt::Debug for SortedSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SortedSource").field("watermark_us", &self.watermark_us).finish_non_exhaustive()
    }
}

/// The latest time of a source whose users and times are never NULL, where times are timestamps and the files' statistics say all
/// that; `None` where rows would have to be read for it.
async fn latest_of_complete(session: &SessionState, plan: &LogicalPlan, columns: &EventColumns) -> DfResult<Option<i64>> {
    let schema = plan.schema().as_arrow();
    let Ok(time) = schema.field_with_name(&columns.time) else { return Ok(None) };
    if schema.field_with_name(&columns.user).is_err() || !matches!(time.data_type(), DataType::Timestamp(_, None)) {
        return Ok(None);
    }
    let column = |name: &str| Expr::Column(Column::from_name(name));
    let asked = vec![count(lit(1_i64)), count(column(&columns.user)), count(column(&columns.time)), max(column(&columns.time))];
    let known = LogicalPlanBuilder::from(plan.clone()).aggregate(Vec::<Expr>::new(), asked)?.build()?;
    let known = session.create_physical_plan(&known).await?;
    if !reads_nothing(&known) {
        return Ok(None);
    }
    let rows = collect(known, session.task_ctx()).await?;
    let Some(row) = rows.iter().find(|rows| rows.num_rows() == 1) else { return Ok(None) };
    if row.column(0) != row.column(1) || row.column(0) != row.column(2) {
        return Ok(None);
    }
    let latest = cast(row.column(3), &DataType::Timestamp(ArrowTimeUnit::Microsecond, None))?;
    let latest = latest.as_primitive_opt::<TimestampMicrosecondType>().filter(|latest| latest.is_valid(0));
    Ok(latest.map(|latest| latest.value(0)))
}

/// Whether a plan knows its rows without a source.
fn reads_nothing(plan: &Arc<dyn ExecutionPlan>) -> bool {
    match plan.children().as_slice() {
        [] => downcast::<PlaceholderRowExec>(plan).is_some(),
        children => children.iter().all(|child| reads_nothing(child)),
    }
}

/// The latest time of the rows of a canonical plan that are complete, and how many are not.
async fn counted(session: &SessionState, all: LogicalPlan, complete: Expr) -> DfResult<(Option<i64>, u64)> {
    let usable = datafusion::logical_expr::when(complete, col("time")).end()?;
    let row = one_row(session, all, vec![count(lit(1i64)), count(usable.clone()), max(usable)]).await?;
    let number = |i: usize| row.column(i).as_primitive_opt::<Int64Type>().filter(|a| !a.is_empty()).map_or(0, |a| a.value(0));
    let watermark = row.column(2).as_primitive_opt::<TimestampMicrosecondType>().filter(|a| a.len() == 1 && a.is_valid(0));
    Ok((watermark.map(|a| a.value(0)), u64::try_from(number(0) - number(1)).unwrap_or(0)))
}

impl SortedSource {
    async fn open(session: &SessionState, source: &EventSource, of_event: Option<OfEvent<'_>>) -> DfResult<Self> {
        let plan = plan_sql(session, &source.sql).await?;
        let latest = latest_of_complete(session, &plan, &source.columns).await?;
        let (all, schema) = canonical_plan(plan.clone(), &source.columns)?;
        let (wanted, schema) = match of_event {
            Some(of_event) => of_event.plan(plan, &source.columns)?,
            None => (all.clone(), schema),
        };
        let complete = col("user").is_not_null().and(col("time").is_not_null());
        let (watermark_us, dropped_rows) = match latest {
            Some(latest) => (Some(latest), 0),
            None => counted(session, all, complete.clone()).await?,
        };
        let plan = LogicalPlanBuilder::from(wanted).filter(complete)?.build()?;
        Ok(Self { session: session.clone(), plan, schema, watermark_us, dropped_rows })
    }

    async fn streams(&self, plan: LogicalPlan, partitions: usize) -> DfResult<Vec<SendableRecordBatchStream>> {
        let physical = self.session.create_physical_plan(&plan).await?;
        let physical = sorted(physical, partitions)?;
        let task = self.session.task_ctx();
        (0..physical.output_partitioning().partition_count()).map(|i| physical.execute(i, Arc::clone(&task))).collect()
    }
}

#[async_trait]
impl UserHistories for SortedSource {
    fn watermark_us(&self) -> Option<i64> {
        self.watermark_us
    }

    fn dropped_rows(&self) -> u64 {
        self.dropped_rows
    }

    fn fingerprint(&self) -> Option<String> {
        None
    }

    async fn scan(&self, partitions: usize) -> Result<Vec<SendableRecordBatchStream>> {
        self.streams(self.plan.clone(), partitions).await.map_err(Error::from_engine)
    }

    async fn lookup(&self, users: ArrayRef) -> Result<SendableRecordBatchStream> {
        let values = (0..users.len()).map(|i| ScalarValue::try_from_array(&users, i).map(lit)).collect::<DfResult<Vec<_>>>();
        let values = values.map_err(Error::from_engine)?;
        if values.is_empty() {
            return Ok(Box::pin(EmptyRecordBatchStream::new(Arc::clone(&self.schema))));
        }
        let plan =
            LogicalPlanBuilder::from(self.plan.clone()).filter(col("user").in_list(values, false)).and_then(LogicalPlanBuilder::build);
        let mut streams = self.streams(plan.map_err(Error::from_engine)?, 1).await.map_err(Error::from_engine)?;
        streams.pop().ok_or_else(|| Error::internal("a sorted source has no stream"))
    }
}

/// The Arrow schema of a source, for messages and checks.
///
/// # Errors
/// Whatever is wrong with the query.
pub async fn source_schema(session: &SessionState, sql: &str) -> DfResult<Schema> {
    Ok(plan_sql(session, sql).await?.schema().as_arrow().clone())
}
