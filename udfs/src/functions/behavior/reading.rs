//! How the functions in FROM read events: roles of columns, aggregates over users, or users one after another.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, RecordBatch, StringArray};
use arrow::compute::partition;
use arrow::datatypes::{DataType, Field, Float64Type, Schema, SchemaRef, TimestampMicrosecondType};
use datafusion::common::ScalarValue;
use datafusion::common::runtime::SpawnedTask;
use datafusion::error::Result as DfResult;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder, col};
use datafusion::physical_plan::execute_stream;
use futures::StreamExt;
use tokio_util::sync::CancellationToken;

use crate::context::EventSource;
use crate::error::{Code, Error, Result};
use crate::features::{EventColumns, ValueColumn};
use crate::functions::relation::{Argument, Arguments, Call, Kind, Parameter};
use crate::functions::run_groups::is_same;
use crate::functions::source::{canonical_plan, plan_sql, resolve_columns};
use crate::kernels::intern::Interner;

/// The parameters that name columns, as all functions here have them.
pub(super) const SOURCE: Parameter = Parameter::required("source", Kind::Source, "The events.");
/// See [`SOURCE`].
pub(super) const COLUMNS: Parameter = Parameter::optional(
    "columns",
    Kind::Text,
    "'auto'",
    "Which columns are user, time and event: 'user=customer_id, time=ts, event=action'.",
);

/// The source of a call with the roles of its columns; of the columns that learning would use only `extra` stay.
///
/// # Errors
/// 42703 for columns that are missing.
pub(super) async fn event_source(call: &Call, extra: Vec<String>, value: Option<String>) -> DfResult<EventSource> {
    let sql = call.source.as_ref().map(|source| source.sql.clone()).ok_or_else(|| call.args.missing("source"))?;
    let (found, _) = resolve_columns(&call.session, &sql, call.args.text("columns").unwrap_or("auto")).await?;
    if found.event.is_none() {
        let error = Error::new(Code::UndefinedColumn, "the source has no column of events");
        return Err(error.hint("Name it, for example columns => 'user=customer_id, time=ts, event=action'.").into());
    }
    let value = value.map(ValueColumn::Column);
    Ok(EventSource { sql, columns: EventColumns { item: None, category: None, value, extra, text: vec![], image: None, ..found } })
}

/// The rows of a source that have a user and a time, in canonical columns.
///
/// # Errors
/// Whatever is wrong with the query; 42703 for a column that is missing.
pub(super) async fn event_plan(call: &Call, source: &EventSource) -> DfResult<LogicalPlan> {
    let plan = plan_sql(&call.session, &source.sql).await?;
    let (plan, _) = canonical_plan(plan, &source.columns)?;
    LogicalPlanBuilder::from(plan).filter(col("user").is_not_null().and(col("time").is_not_null()))?.build()
}

/// Runs a plan and gives its batches to `each`, one after another.
///
/// # Errors
/// Those of the plan and of `each`; 57014 when the statement is cancelled.
pub(super) async fn run(call: &Call, plan: LogicalPlan, mut each: impl FnMut(&RecordBatch) -> DfResult<()>) -> DfResult<()> {
    let physical = call.session.create_physical_plan(&plan).await?;
    let mut stream = execute_stream(physical, Arc::clone(&call.task))?;
    let cancel = call.statement().cancel.clone();
    while let Some(batch) = next(&mut stream, &cancel).await? {
        each(&batch)?;
    }
    Ok(())
}

async fn next(stream: &mut SendableRecordBatchStream, cancel: &CancellationToken) -> DfResult<Option<RecordBatch>> {
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(Error::cancelled().into()),
        batch = stream.next() => batch.transpose(),
    }
}

/// What memory a call holds.
pub(super) fn memory(call: &Call, name: &'static str) -> MemoryReservation {
    MemoryConsumer::new(name).register(&call.session.runtime_env().memory_pool)
}

/// A row of a user. Texts are codes of [`Names`]; [`Interner`]s number them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Row {
    pub(super) time: i64,
    pub(super) event: Option<u32>,
    /// The first extra column.
    pub(super) label: Option<u32>,
    pub(super) value: Option<f64>,
}

/// The texts behind the codes of one stream.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) events: Interner,
    pub(super) labels: Interner,
}

/// Learns from one user after another.
pub(super) trait Collector: Send + 'static {
    /// All rows of a user, in order of time; ties in the order of the source's columns.
    fn user(&mut self, rows: &mut Vec<Row>, names: &mut Names);
    /// Bytes on the heap.
    fn heap_bytes(&self) -> usize;
}

/// Reads a source user by user, in as many streams as a query has; one collector each.
///
/// # Errors
/// Those of the source; 53200 when what is collected does not fit into memory.
pub(super) async fn each_user<C: Collector>(call: &Call, source: &EventSource, make: impl Fn() -> C) -> DfResult<Vec<(C, Names)>> {
    let histories = call.context.histories.open(&call.session, source).await?;
    let partitions = call.session.config().target_partitions().max(1);
    let mut tasks = vec![];
    for stream in histories.scan(partitions).await? {
        let (collector, memory, cancel) = (make(), memory(call, "paths"), call.statement().cancel.clone());
        tasks.push(SpawnedTask::spawn(collect(stream, collector, memory, cancel)));
    }
    let mut done = vec![];
    for task in tasks {
        done.push(task.join().await.map_err(|error| Error::internal(format!("reading events failed: {error}")))??);
    }
    Ok(done)
}

/// The columns of a canonical batch that rows are made of.
struct Columns<'a> {
    times: &'a arrow::array::TimestampMicrosecondArray,
    events: Option<&'a StringArray>,
    labels: Option<&'a StringArray>,
    values: Option<&'a Float64Array>,
}

impl<'a> Columns<'a> {
    fn of(batch: &'a RecordBatch) -> Result<Self> {
        let times =
            batch.column(1).as_primitive_opt::<TimestampMicrosecondType>().ok_or_else(|| Error::internal("times are no timestamps"))?;
        let text = |name: &str| batch.column_by_name(name).and_then(|array| array.as_string_opt::<i32>());
        let schema = batch.schema_ref();
        let extra =
            schema.fields().iter().map(|field| field.name()).find(|name| !matches!(name.as_str(), "user" | "time" | "event" | "value"));
        let values = batch.column_by_name("value").and_then(|array| array.as_primitive_opt::<Float64Type>());
        Ok(Self { times, events: text("event"), labels: extra.and_then(|name| text(name)), values })
    }

    fn row(&self, at: usize, names: &mut Names) -> Row {
        let code = |array: Option<&StringArray>, interner: &mut Interner| {
            array.filter(|array| array.is_valid(at)).map(|array| interner.intern(array.value(at)))
        };
        Row {
            time: self.times.value(at),
            event: code(self.events, &mut names.events),
            label: code(self.labels, &mut names.labels),
            value: self.values.filter(|array| array.is_valid(at)).map(|array| array.value(at)),
        }
    }
}

async fn collect<C: Collector>(
    mut stream: SendableRecordBatchStream,
    mut collector: C,
    memory: MemoryReservation,
    cancel: CancellationToken,
) -> DfResult<(C, Names)> {
    let mut names = Names::default();
    let mut rows: Vec<Row> = vec![];
    // The batch before: its last row says whose rows these are.
    let mut last: Option<ArrayRef> = None;
    while let Some(batch) = next(&mut stream, &cancel).await? {
        let users = Arc::clone(batch.column(0));
        if users.is_empty() {
            continue;
        }
        let columns = Columns::of(&batch)?;
        let goes_on = last.as_ref().map_or(Ok(true), |last| is_same(std::slice::from_ref(last), std::slice::from_ref(&users)))?;
        for run in partition(std::slice::from_ref(&users))?.ranges() {
            if run.start > 0 || !goes_on {
                collector.user(&mut rows, &mut names);
                rows.clear();
            }
            rows.extend(run.map(|at| columns.row(at, &mut names)));
        }
        last = Some(users);
        let strings = names.events.bytes() + names.labels.bytes();
        memory.try_resize(collector.heap_bytes() + rows.capacity() * size_of::<Row>() + strings)?;
    }
    if last.is_some() {
        collector.user(&mut rows, &mut names);
    }
    Ok((collector, names))
}

/// Numbers the texts of all streams in their order: the texts, and per stream which old number became which.
pub(super) fn renumber<'a>(interners: impl Iterator<Item = &'a Interner> + Clone) -> (Vec<String>, Vec<Vec<u32>>) {
    let mut all: Vec<String> = interners.clone().flat_map(|interner| interner.iter().map(str::to_owned)).collect();
    all.sort_unstable();
    all.dedup();
    let place =
        |text: &str| all.binary_search_by(|other| other.as_str().cmp(text)).map_or(u32::MAX, |at| u32::try_from(at).unwrap_or(u32::MAX));
    let numbers = interners.map(|interner| interner.iter().map(place).collect()).collect();
    (all, numbers)
}

/// A list of texts: an array of them, or one text with commas (or `<` between).
///
/// # Errors
/// 22023 for NULLs, for what is no text, and for an empty list.
pub(super) fn texts(args: &Arguments, function: &str, name: &str) -> Result<Option<Vec<String>>> {
    let wrong = || Error::invalid(format!("argument \"{name}\" of {function} must be texts without NULL"));
    let value = match args.get(name) {
        None => return Ok(None),
        Some(Argument::Any(value)) => value,
        Some(_) => return Err(wrong()),
    };
    if let Some(text) = value.try_as_str().flatten() {
        let words: Vec<String> = text.split([',', '<']).map(|word| word.trim().to_owned()).collect();
        return if words.iter().all(|word| !word.is_empty()) { Ok(Some(words)) } else { Err(wrong()) };
    }
    let items = list_items(value).ok_or_else(wrong)?;
    let items = arrow::compute::cast(&items, &DataType::Utf8).map_err(|_| wrong())?;
    let items = items.as_string_opt::<i32>().filter(|items| items.null_count() == 0 && !items.is_empty()).ok_or_else(wrong)?;
    Ok(Some(items.iter().flatten().map(str::to_owned).collect()))
}

/// The items of an array constant.
pub(super) fn list_items(value: &ScalarValue) -> Option<ArrayRef> {
    match value {
        ScalarValue::List(list) if list.is_valid(0) => Some(list.value(0)),
        ScalarValue::LargeList(list) if list.is_valid(0) => Some(list.value(0)),
        ScalarValue::FixedSizeList(list) if list.is_valid(0) => Some(list.value(0)),
        _ => None,
    }
}

/// A schema of nullable columns.
pub(super) fn schema(columns: &[(&str, DataType)]) -> SchemaRef {
    Arc::new(Schema::new(columns.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), true)).collect::<Vec<_>>()))
}
