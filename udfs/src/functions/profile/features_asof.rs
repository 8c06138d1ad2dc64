//! `features_asof(spine, features, …)`

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, TimestampMicrosecondArray, UInt64Array, new_null_array};
use arrow::compute::{SortOptions, cast, interleave_record_batch, take};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType};
use arrow::row::{OwnedRow, RowConverter, Rows, SortField};
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use futures::{StreamExt, TryStreamExt};
use tokio_util::sync::CancellationToken;

use super::events::time_type;
use crate::error::{Code, Error, Result};
use crate::functions::MlContext;
use crate::functions::relation::{Arguments, Call, Kind, MlRelation, Parameter, sql_type};
use crate::functions::typed::column_at;
use crate::kernels::profile::as_of::{Known, Rule, latest_known};

/// See [`MlRelation::doc`].
#[derive(Debug)]
pub(super) struct FeaturesAsof;

impl MlRelation for FeaturesAsof {
    fn name(&self) -> &'static str {
        "features_asof"
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[
            Parameter::required("spine", Kind::Source, "The rows that want features: a key, the time of their label, and whatever else."),
            Parameter::required(
                "features",
                Kind::Source,
                "The values over time: a key, an event time, perhaps an ingestion time, and the features.",
            ),
            Parameter::optional("key", Kind::Text, "'user_id'", "The column that both have in common."),
            Parameter::optional("label_time", Kind::Text, "'label_time'", "The spine's point in time."),
            Parameter::optional("event_time", Kind::Text, "'event_time'", "When a value held from."),
            Parameter::optional(
                "ingested_at",
                Kind::Text,
                "NULL",
                "When a value was written down; by default the column ingested_at where there is one, '' for none.",
            ),
            Parameter::optional("ttl", Kind::Duration, "NULL", "How old a value may be at the label's time; any age by default."),
            Parameter::optional("strict", Kind::Boolean, "false", "Whether a value of the label's very time is too late."),
        ];
        PARAMETERS
    }

    fn doc(&self) -> &'static str {
        "Every row of the spine with the features that were known at its label's time, without looking into the future: of the values of its \
         key with event_time <= label_time (or < with strict) and ingested_at <= label_time the one with the latest event_time, then the \
         latest ingested_at, then the greatest values of the other columns in order. NULL features where there is none, where the latest is \
         older than ttl, or where key or label time is NULL; a value whose event time is NULL is never used, one whose ingested_at is NULL \
         was never written down. Columns: those of the spine, then the features (with the suffix _feature where the spine has the name), \
         then feature_time. Rows come in the order of key and label time; each row of the spine comes exactly once. Both sides are sorted, \
         spilling to disk; in memory is the history of one key at a time."
    }

    fn example(&self) -> &'static str {
        "SELECT user_id, label_time, price FROM features_asof(\n\
         (SELECT DISTINCT user_id, TIMESTAMP '2011-02-01' AS label_time FROM events),\n\
         (SELECT user_id, event_time, price FROM events), strict => true) LIMIT 5"
    }

    fn schema(&self, _: &Arguments, _: Option<&Schema>, _: &MlContext) -> Result<SchemaRef> {
        Err(Error::internal("features_asof has two sources"))
    }

    fn schema_of(&self, args: &Arguments, sources: &[Schema], _: &MlContext) -> Result<SchemaRef> {
        let [spine, features] = sources else { return Err(args.missing("features")) };
        Ok(Layout::new(args, spine, features)?.schema)
    }

    fn execute(&self, call: Call) -> Result<SendableRecordBatchStream> {
        let schema = Arc::clone(&call.schema);
        let rows = futures::stream::once(async move { join(call) }).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }
}

/// Where the columns of a call are.
#[derive(Debug, Clone)]
struct Layout {
    spine_key: usize,
    label: usize,
    feature_key: usize,
    event: usize,
    ingested: Option<usize>,
    /// The features' other columns.
    values: Vec<usize>,
    key_type: DataType,
    rule: Rule,
    schema: SchemaRef,
}

fn time_at(schema: &Schema, name: &str) -> Result<usize> {
    let at = column_at(schema, name)?;
    let found = schema.field(at).data_type();
    match found {
        DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => Ok(at),
        _ => Err(Error::new(Code::DatatypeMismatch, format!("column \"{name}\" must be a timestamp or a date"))
            .detail(format!("Its type is {}.", sql_type(found)))),
    }
}

impl Layout {
    fn new(args: &Arguments, spine: &Schema, features: &Schema) -> Result<Self> {
        let name = |argument: &'static str, default: &'static str| args.text(argument).unwrap_or(default).to_owned();
        let key = name("key", "user_id");
        let (spine_key, feature_key) = (column_at(spine, &key)?, column_at(features, &key)?);
        let ingested = match args.text("ingested_at") {
            Some("") => None,
            Some(name) => Some(time_at(features, name)?),
            None => features.index_of("ingested_at").ok().map(|_| time_at(features, "ingested_at")).transpose()?,
        };
        let (label, event) = (time_at(spine, &name("label_time", "label_time"))?, time_at(features, &name("event_time", "event_time"))?);
        let key_type = common_key(spine.field(spine_key).data_type(), features.field(feature_key).data_type(), &key)?;
        let taken = |at: &usize| *at == feature_key || *at == event || Some(*at) == ingested;
        let values: Vec<usize> = (0..features.fields().len()).filter(|at| !taken(at)).collect();
        let mut fields: Vec<Field> = spine.fields().iter().map(|field| field.as_ref().clone()).collect();
        for at in &values {
            let field = features.field(*at).clone().with_nullable(true);
            let twice = fields.iter().any(|other| other.name() == field.name());
            let name = if twice { format!("{}_feature", field.name()) } else { field.name().clone() };
            fields.push(field.with_name(name));
        }
        fields.push(Field::new("feature_time", time_type(), true));
        if let Some(twice) = fields.iter().enumerate().find(|(at, field)| fields[..*at].iter().any(|other| other.name() == field.name())) {
            return Err(Error::new(Code::DuplicateColumn, format!("column \"{}\" would be there twice", twice.1.name()))
                .hint("Rename it in the spine or in the features."));
        }
        let rule = Rule { strict: args.boolean("strict").unwrap_or(false), ttl_us: args.positive_micros("ttl")? };
        Ok(Self { spine_key, label, feature_key, event, ingested, values, key_type, rule, schema: Arc::new(Schema::new(fields)) })
    }
}

/// The type in which keys are compared: whole numbers, else text.
fn common_key(a: &DataType, b: &DataType, name: &str) -> Result<DataType> {
    let value = |found: &DataType| if let DataType::Dictionary(_, value) = found { value.as_ref().clone() } else { found.clone() };
    let (a, b) = (value(a), value(b));
    let text = |found: &DataType| matches!(found, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    match (&a, &b) {
        _ if a.is_integer() && b.is_integer() => Ok(DataType::Int64),
        _ if text(&a) && text(&b) => Ok(DataType::Utf8),
        _ if a == b && !a.is_nested() => Ok(a),
        _ => Err(Error::new(Code::DatatypeMismatch, format!("the columns \"{name}\" of spine and features cannot be compared"))
            .detail(format!("Their types are {} and {}.", sql_type(&a), sql_type(&b)))),
    }
}

/// Sorts a plan by its first column, then the others in `order`, NULLs first, into one stream.
fn sorted(plan: Arc<dyn ExecutionPlan>, order: &[usize]) -> DfResult<Arc<dyn ExecutionPlan>> {
    let schema = plan.schema();
    let options = SortOptions { descending: false, nulls_first: true };
    let orderable = |at: &&usize| !schema.field(**at).data_type().is_nested();
    let keys =
        order.iter().filter(orderable).map(|at| PhysicalSortExpr::new(Arc::new(Column::new(schema.field(*at).name(), *at)), options));
    let Some(order) = LexOrdering::new(keys) else { return Ok(plan) };
    let many = plan.output_partitioning().partition_count() > 1;
    let runs: Arc<dyn ExecutionPlan> = Arc::new(SortExec::new(order.clone(), plan).with_preserve_partitioning(many));
    Ok(if many { Arc::new(SortPreservingMergeExec::new(order, runs)) } else { runs })
}

fn join(call: Call) -> DfResult<SendableRecordBatchStream> {
    let spine = call.source.as_ref().ok_or_else(|| call.args.missing("spine"))?;
    let features = call.second.as_ref().ok_or_else(|| call.args.missing("features"))?;
    let layout = Layout::new(&call.args, &spine.plan.schema(), &features.schema())?;
    let spine_order = [layout.spine_key, layout.label].into_iter().chain(0..spine.plan.schema().fields().len());
    let feature_order = [layout.feature_key, layout.event].into_iter().chain(layout.ingested).chain(layout.values.clone());
    let distinct = |order: Vec<usize>| {
        let mut seen = Vec::new();
        order.into_iter().for_each(|at| {
            if !seen.contains(&at) {
                seen.push(at)
            }
        });
        seen
    };
    let spine = sorted(Arc::clone(&spine.plan), &distinct(spine_order.collect()))?.execute(0, Arc::clone(&call.task))?;
    let features = sorted(Arc::clone(features), &distinct(feature_order.collect()))?.execute(0, Arc::clone(&call.task))?;
    let memory = MemoryConsumer::new("features_asof").register(call.task.memory_pool());
    let schema = Arc::clone(&layout.schema);
    let join = Join {
        spine,
        features: Features {
            stream: features,
            converter: converter(&layout.key_type)?,
            layout: layout.clone(),
            waiting: VecDeque::new(),
            ended: false,
            memory,
        },
        converter: converter(&layout.key_type)?,
        layout,
        cancel: call.statement().cancel.clone(),
    };
    let rows = futures::stream::try_unfold(join, |mut join| async move { Ok(join.next().await?.map(|batch| (batch, join))) });
    Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
}

fn converter(key_type: &DataType) -> Result<RowConverter> {
    let options = SortOptions { descending: false, nulls_first: true };
    RowConverter::new(vec![SortField::new_with_options(key_type.clone(), options)])
        .map_err(|error| Error::internal(format!("keys cannot be compared: {error}")))
}

/// Times as microseconds UTC.
fn micros(column: &ArrayRef) -> DfResult<TimestampMicrosecondArray> {
    let times = match column.data_type() {
        DataType::Date32 | DataType::Date64 => cast(column, &DataType::Timestamp(TimeUnit::Microsecond, None))?,
        _ => Arc::clone(column),
    };
    let times = cast(&times, &time_type())?;
    times.as_primitive_opt::<TimestampMicrosecondType>().cloned().ok_or_else(|| Error::internal("a time was expected").into())
}

/// A batch of features with its keys; rows before `from` are done with.
#[derive(Debug)]
struct Waiting {
    batch: RecordBatch,
    keys: Rows,
    events: TimestampMicrosecondArray,
    ingested: Option<TimestampMicrosecondArray>,
    from: usize,
}

/// The features, key by key.
struct Features {
    stream: SendableRecordBatchStream,
    converter: RowConverter,
    layout: Layout,
    waiting: VecDeque<Waiting>,
    ended: bool,
    memory: MemoryReservation,
}

/// The values of one key: what is known of each, and where it is (batch, row).
#[derive(Debug, Default)]
struct Values {
    known: Vec<Known>,
    places: Vec<(usize, usize)>,
}

impl Features {
    async fn read(&mut self) -> DfResult<bool> {
        if self.ended {
            return Ok(false);
        }
        loop {
            let Some(batch) = self.stream.next().await.transpose()? else {
                self.ended = true;
                return Ok(false);
            };
            if batch.num_rows() == 0 {
                continue;
            }
            self.memory.try_grow(batch.get_array_memory_size())?;
            let keys = self.converter.convert_columns(&[cast(batch.column(self.layout.feature_key), &self.layout.key_type)?])?;
            let events = micros(batch.column(self.layout.event))?;
            let ingested = self.layout.ingested.map(|at| micros(batch.column(at))).transpose()?;
            self.waiting.push_back(Waiting { batch, keys, events, ingested, from: 0 });
            return Ok(true);
        }
    }

    /// Forgets whole batches of smaller keys.
    fn forget(&mut self) {
        while self.waiting.front().is_some_and(|waiting| waiting.from >= waiting.keys.num_rows()) {
            if let Some(gone) = self.waiting.pop_front() {
                self.memory.shrink(gone.batch.get_array_memory_size());
            }
        }
    }

    /// Passes over keys below `key`, then collects the values of `key`. Batches that hold them stay.
    async fn of(&mut self, key: &OwnedRow) -> DfResult<Values> {
        loop {
            for waiting in &mut self.waiting {
                while waiting.from < waiting.keys.num_rows() && waiting.keys.row(waiting.from) < key.row() {
                    waiting.from += 1;
                }
            }
            self.forget();
            if !self.waiting.is_empty() || !self.read().await? {
                break;
            }
        }
        let mut values = Values::default();
        let mut at = 0;
        loop {
            while at >= self.waiting.len() {
                if !self.read().await? {
                    return Ok(values);
                }
            }
            let Some(waiting) = self.waiting.get(at) else { return Ok(values) };
            for row in waiting.from..waiting.keys.num_rows() {
                if waiting.keys.row(row) != key.row() {
                    return Ok(values);
                }
                // A value without a time, or never written down, was never known.
                let ingested_us = waiting.ingested.as_ref().map_or(Some(i64::MIN), |times| times.is_valid(row).then(|| times.value(row)));
                if let (true, Some(ingested_us)) = (waiting.events.is_valid(row), ingested_us) {
                    values.known.push(Known { event_us: waiting.events.value(row), ingested_us });
                    values.places.push((at, row));
                }
            }
            at += 1;
        }
    }
}

struct Join {
    spine: SendableRecordBatchStream,
    features: Features,
    converter: RowConverter,
    layout: Layout,
    cancel: CancellationToken,
}

impl Join {
    /// The next batch of the spine with its features.
    async fn next(&mut self) -> DfResult<Option<RecordBatch>> {
        if self.cancel.is_cancelled() {
            return Err(Error::cancelled().into());
        }
        let Some(batch) = self.spine.next().await.transpose()? else { return Ok(None) };
        let keys = cast(batch.column(self.layout.spine_key), &self.layout.key_type)?;
        let rows = self.converter.convert_columns(&[Arc::clone(&keys)])?;
        let labels = micros(batch.column(self.layout.label))?;
        let mut parts: Vec<Vec<ArrayRef>> = Vec::new();
        let mut start = 0;
        while start < batch.num_rows() {
            let mut end = start + 1;
            while end < batch.num_rows() && rows.row(end) == rows.row(start) {
                end += 1;
            }
            let known = keys.is_valid(start);
            let values = if known { self.features.of(&rows.row(start).owned()).await? } else { Values::default() };
            parts.push(self.pick(&values, &labels, start..end)?);
            start = end;
        }
        Ok(Some(self.whole(&batch, &parts)?))
    }

    /// The feature columns of the spine's rows `range`, all of one key.
    fn pick(&self, values: &Values, labels: &TimestampMicrosecondArray, range: std::ops::Range<usize>) -> DfResult<Vec<ArrayRef>> {
        // NULL labels sort first and find nothing.
        let times: Vec<i64> = range.clone().map(|row| if labels.is_valid(row) { labels.value(row) } else { i64::MIN }).collect();
        let found = latest_known(&values.known, &times, self.layout.rule);
        let found: Vec<Option<usize>> = found.into_iter().zip(range.clone()).map(|(at, row)| at.filter(|_| labels.is_valid(row))).collect();
        let features = &self.layout.schema.fields()[self.layout.schema.fields().len() - self.layout.values.len() - 1..];
        if found.iter().all(Option::is_none) {
            return Ok(features.iter().map(|field| new_null_array(field.data_type(), range.len())).collect());
        }
        let batches: Vec<&RecordBatch> = self.features.waiting.iter().map(|waiting| &waiting.batch).collect();
        let used: Vec<(usize, usize)> = found.iter().flatten().map(|at| values.places[*at]).collect();
        let chosen = interleave_record_batch(&batches, &used)?;
        let mut next = 0_u64;
        let index = |at: &Option<usize>| at.map(|_| (next, next += 1).0);
        let spread: UInt64Array = found.iter().map(index).collect();
        let mut columns = self.layout.values.iter().map(|at| take(chosen.column(*at), &spread, None)).collect::<Result<Vec<_>, _>>()?;
        let times: Int64Array = found.iter().map(|at| at.map(|at| values.known[at].event_us)).collect();
        columns.push(cast(&times, &time_type())?);
        Ok(columns)
    }

    fn whole(&self, batch: &RecordBatch, parts: &[Vec<ArrayRef>]) -> DfResult<RecordBatch> {
        let mut columns = batch.columns().to_vec();
        for at in 0..self.layout.values.len() + 1 {
            let parts: Vec<&dyn Array> = parts.iter().map(|part| part[at].as_ref()).collect();
            columns.push(arrow::compute::concat(&parts)?);
        }
        RecordBatch::try_new(Arc::clone(&self.layout.schema), columns).map_err(DataFusionError::from)
    }
}
