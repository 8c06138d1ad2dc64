//! `features_asof(spine, features, …)`

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, TimestampMicrosecondArray, UInt32Array, new_null_array};
use arrow::compute::{SortOptions, cast, concat, take};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType};
use arrow::row::{OwnedRow, RowConverter, Rows, SortField};
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::common::spawn_buffered;
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet};
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::sorts::streaming_merge::StreamingMergeBuilder;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, Partitioning};
use futures::{StreamExt, TryStreamExt};
use tokio_util::sync::CancellationToken;

use super::events::time_type;
use crate::error::{Code, Error, Result};
use crate::functions::MlContext;
use crate::functions::radix_sort::{by_digits, by_digits_of_pairs};
use crate::functions::relation::{Arguments, Call, Kind, MlRelation, Parameter, sql_type};
use crate::functions::ties::{SortTiesExec, ranges_in_order};
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

/// A side of the join: its rows, and the columns that order them, the key and the time first.
struct Side {
    plan: Arc<dyn ExecutionPlan>,
    order: Vec<usize>,
}

/// The columns of the order that a table of events has.
const ORDERED_KEYS: usize = 2;

impl Side {
    /// Each column once, and none that has no order.
    fn new(plan: &Arc<dyn ExecutionPlan>, columns: impl Iterator<Item = usize>) -> Self {
        let schema = plan.schema();
        let mut order = Vec::new();
        for at in columns.filter(|at| !schema.field(*at).data_type().is_nested()) {
            if !order.contains(&at) {
                order.push(at);
            }
        }
        Self { plan: Arc::clone(plan), order }
    }

    /// The order, NULLs first; with `as_kept` as a table of events declares it, whose users and times are never NULL.
    fn ordering(&self, as_kept: bool) -> DfResult<LexOrdering> {
        let schema = self.plan.schema();
        let key = |(at, column): (usize, &usize)| {
            let key = ascending(&schema, *column);
            let options = SortOptions { nulls_first: !as_kept || at >= ORDERED_KEYS, ..key.options };
            PhysicalSortExpr { options, ..key }
        };
        LexOrdering::new(self.order.iter().enumerate().map(key)).ok_or_else(|| Error::internal("a side of a join has no order").into())
    }

    /// Sorted, in `streams` streams that never split a key.
    fn sorted(&self, streams: usize) -> DfResult<Arc<dyn ExecutionPlan>> {
        let (order, plan) = (self.ordering(false)?, Arc::clone(&self.plan));
        let many = plan.output_partitioning().partition_count() > 1;
        if streams > 1 {
            let key = Arc::clone(&order.first().expr);
            let sent = Arc::new(RepartitionExec::try_new(plan, Partitioning::Hash(vec![key], streams))?);
            return Ok(by_digits_of_pairs(Arc::new(SortExec::new(order, sent).with_preserve_partitioning(true))));
        }
        let runs = by_digits(Arc::new(SortExec::new(order.clone(), plan).with_preserve_partitioning(many)));
        Ok(if many { Arc::new(SortPreservingMergeExec::new(order, runs)) } else { runs })
    }
}

/// Both sides in order, their n-th streams having the same keys, and how many streams they have. Sides that lie in the same ranges of
/// the key, as tables of events do, are neither sent nor sorted: only ties change places.
fn in_pairs(spine: &Side, features: &Side, streams: usize) -> DfResult<[Arc<dyn ExecutionPlan>; 2]> {
    let (spine_order, feature_order) = (spine.ordering(true)?, features.ordering(true)?);
    let ranges = ranges_in_order(&spine.plan, &spine_order, ORDERED_KEYS)?;
    if let (Some(ranges), Some(others)) = (ranges, ranges_in_order(&features.plan, &feature_order, ORDERED_KEYS)?)
        && streams > 1
        && ranges.split_points() == others.split_points()
    {
        let only_ties = |side: &Side, order| Arc::new(SortTiesExec::new(Arc::clone(&side.plan), order, ORDERED_KEYS)) as _;
        return Ok([only_ties(spine, spine_order), only_ties(features, feature_order)]);
    }
    Ok([spine.sorted(streams)?, features.sorted(streams)?])
}

fn ascending(schema: &Schema, at: usize) -> PhysicalSortExpr {
    PhysicalSortExpr::new(Arc::new(Column::new(schema.field(at).name(), at)), SortOptions { descending: false, nulls_first: true })
}

/// Keys share out both sides among as many joins as a query has streams; their rows are merged.
fn join(call: Call) -> DfResult<SendableRecordBatchStream> {
    let spine = call.source.as_ref().ok_or_else(|| call.args.missing("spine"))?;
    let features = call.second.as_ref().ok_or_else(|| call.args.missing("features"))?;
    let layout = Layout::new(&call.args, &spine.plan.schema(), &features.schema())?;
    let spine_order = [layout.spine_key, layout.label].into_iter().chain(0..spine.plan.schema().fields().len());
    let feature_order = [layout.feature_key, layout.event].into_iter().chain(layout.ingested).chain(layout.values.clone());
    // Keys of different types have different hashes.
    let alike = spine.plan.schema().field(layout.spine_key).data_type() == features.schema().field(layout.feature_key).data_type();
    let streams = if alike { call.session.config().target_partitions().max(1) } else { 1 };
    let [spine, features] = in_pairs(&Side::new(&spine.plan, spine_order), &Side::new(features, feature_order), streams)?;
    let streams = spine.output_partitioning().partition_count();
    let joins = (0..streams).map(|at| {
        let sides = (spine.execute(at, Arc::clone(&call.task))?, features.execute(at, Arc::clone(&call.task))?);
        Join::stream(&call, &layout, sides)
    });
    let mut joins = joins.collect::<DfResult<Vec<_>>>()?;
    if streams == 1 {
        return joins.pop().ok_or_else(|| Error::internal("there is no join").into());
    }
    let keys = [layout.spine_key, layout.label].map(|at| ascending(&layout.schema, at));
    let order = LexOrdering::new(keys).ok_or_else(|| Error::internal("a merge has no order"))?;
    StreamingMergeBuilder::new()
        .with_streams(joins.into_iter().map(|join| spawn_buffered(join, JOINED_BATCHES)).collect())
        .with_schema(Arc::clone(&layout.schema))
        .with_expressions(&order)
        .with_metrics(BaselineMetrics::new(&ExecutionPlanMetricsSet::new(), 0))
        .with_batch_size(call.session.config().batch_size())
        .with_reservation(MemoryConsumer::new("features_asof").register(call.task.memory_pool()))
        .build()
}

/// Batches that a join may be ahead of the merge.
const JOINED_BATCHES: usize = 2;

/// The keys of a batch, as they are compared: NULL before all others.
#[derive(Debug)]
enum Keys {
    Whole(Int64Array),
    Other(Rows),
}

/// One of them.
#[derive(Debug)]
enum Key {
    Whole(i64),
    Other(OwnedRow),
}

impl Keys {
    fn new(column: &ArrayRef, converter: &RowConverter) -> DfResult<Self> {
        match column.as_primitive_opt::<Int64Type>() {
            Some(keys) => Ok(Self::Whole(keys.clone())),
            None => Ok(Self::Other(converter.convert_columns(&[Arc::clone(column)])?)),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Whole(keys) => keys.len(),
            Self::Other(keys) => keys.num_rows(),
        }
    }

    /// The key of a row where it is not NULL.
    fn at(&self, row: usize) -> Key {
        match self {
            Self::Whole(keys) => Key::Whole(keys.value(row)),
            Self::Other(keys) => Key::Other(keys.row(row).owned()),
        }
    }

    fn same(&self, a: usize, b: usize) -> bool {
        match self {
            Self::Whole(keys) => keys.is_valid(a) == keys.is_valid(b) && (keys.is_null(a) || keys.value(a) == keys.value(b)),
            Self::Other(keys) => keys.row(a) == keys.row(b),
        }
    }

    fn compare(&self, row: usize, key: &Key) -> Ordering {
        match (self, key) {
            (Self::Whole(keys), Key::Whole(_)) if keys.is_null(row) => Ordering::Less,
            (Self::Whole(keys), Key::Whole(key)) => keys.value(row).cmp(key),
            (Self::Other(keys), Key::Other(key)) => keys.row(row).cmp(&key.row()),
            // Both sides are cast to one type.
            _ => Ordering::Less,
        }
    }
}

fn converter(key_type: &DataType) -> Result<RowConverter> {
    let options = SortOptions { descending: false, nulls_first: true };
    RowConverter::new(vec![SortField::new_with_options(key_type.clone(), options)])
        .map_err(|error| Error::internal(format!("keys cannot be compared: {error}")))
}

/// Times as microseconds UTC. By way of the number: the cast between zones asks a calendar about every row.
fn micros(column: &ArrayRef) -> DfResult<TimestampMicrosecondArray> {
    let times = match column.data_type() {
        DataType::Timestamp(TimeUnit::Microsecond, _) => Arc::clone(column),
        DataType::Timestamp(_, zone) => cast(column, &DataType::Timestamp(TimeUnit::Microsecond, zone.clone()))?,
        _ => cast(column, &DataType::Timestamp(TimeUnit::Microsecond, None))?,
    };
    let times = times.as_primitive_opt::<TimestampMicrosecondType>().ok_or_else(|| Error::internal("a time was expected"))?;
    Ok(times.clone().with_data_type(time_type()))
}

/// A batch of features with its keys; rows before `from` are done with.
#[derive(Debug)]
struct Waiting {
    batch: RecordBatch,
    keys: Keys,
    events: TimestampMicrosecondArray,
    ingested: Option<TimestampMicrosecondArray>,
    from: usize,
    /// The rows that the spine's batch at hand wants, in its order.
    picked: Vec<u32>,
}

impl Waiting {
    fn take_picked(&mut self, values: &[usize]) -> DfResult<Option<Vec<ArrayRef>>> {
        if self.picked.is_empty() {
            return Ok(None);
        }
        let picked = UInt32Array::from(std::mem::take(&mut self.picked));
        let mut columns = values.iter().map(|at| take(self.batch.column(*at), &picked, None)).collect::<Result<Vec<_>, _>>()?;
        columns.push(take(&self.events, &picked, None)?);
        Ok(Some(columns))
    }
}

/// The features, key by key.
struct Features {
    stream: SendableRecordBatchStream,
    converter: RowConverter,
    layout: Layout,
    waiting: VecDeque<Waiting>,
    /// What was picked from batches that are done with: the values, then the event time.
    chosen: Vec<Vec<ArrayRef>>,
    ended: bool,
    memory: MemoryReservation,
}

/// The values of one key: what is known of each, and where it is (batch, row).
#[derive(Debug, Default)]
struct Values {
    known: Vec<Known>,
    places: Vec<(usize, u32)>,
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
            let keys = Keys::new(&cast(batch.column(self.layout.feature_key), &self.layout.key_type)?, &self.converter)?;
            let events = micros(batch.column(self.layout.event))?;
            let ingested = self.layout.ingested.map(|at| micros(batch.column(at))).transpose()?;
            self.waiting.push_back(Waiting { batch, keys, events, ingested, from: 0, picked: vec![] });
            return Ok(true);
        }
    }

    /// Forgets whole batches of smaller keys, but for what was picked from them.
    fn forget(&mut self) -> DfResult<()> {
        while self.waiting.front().is_some_and(|waiting| waiting.from >= waiting.keys.len()) {
            if let Some(mut gone) = self.waiting.pop_front() {
                self.memory.shrink(gone.batch.get_array_memory_size());
                self.chosen.extend(gone.take_picked(&self.layout.values)?);
            }
        }
        Ok(())
    }

    /// What the spine's batch at hand picked, in its order: keys ascend, and so do the values of a key that become known.
    fn chosen(&mut self) -> DfResult<Vec<Vec<ArrayRef>>> {
        let mut chosen = std::mem::take(&mut self.chosen);
        for waiting in &mut self.waiting {
            chosen.extend(waiting.take_picked(&self.layout.values)?);
        }
        Ok(chosen)
    }

    /// Passes over keys below `key`, then collects the values of `key`. Batches that hold them stay.
    async fn of(&mut self, key: &Key, values: &mut Values) -> DfResult<()> {
        loop {
            for waiting in &mut self.waiting {
                while waiting.from < waiting.keys.len() && waiting.keys.compare(waiting.from, key).is_lt() {
                    waiting.from += 1;
                }
            }
            self.forget()?;
            if !self.waiting.is_empty() || !self.read().await? {
                break;
            }
        }
        let mut at = 0;
        loop {
            while at >= self.waiting.len() {
                if !self.read().await? {
                    return Ok(());
                }
            }
            let Some(waiting) = self.waiting.get(at) else { return Ok(()) };
            for row in waiting.from..waiting.keys.len() {
                if waiting.keys.compare(row, key).is_ne() {
                    return Ok(());
                }
                // A value without a time, or never written down, was never known.
                let ingested_us = waiting.ingested.as_ref().map_or(Some(i64::MIN), |times| times.is_valid(row).then(|| times.value(row)));
                if let (true, Some(ingested_us)) = (waiting.events.is_valid(row), ingested_us) {
                    values.known.push(Known { event_us: waiting.events.value(row), ingested_us });
                    values.places.push((at, u32::try_from(row).unwrap_or(u32::MAX)));
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
    /// The rows of one pair of streams.
    fn stream(
        call: &Call,
        layout: &Layout,
        (spine, features): (SendableRecordBatchStream, SendableRecordBatchStream),
    ) -> DfResult<SendableRecordBatchStream> {
        let features = Features {
            stream: features,
            converter: converter(&layout.key_type)?,
            layout: layout.clone(),
            waiting: VecDeque::new(),
            chosen: vec![],
            ended: false,
            memory: MemoryConsumer::new("features_asof").register(call.task.memory_pool()),
        };
        let cancel = call.statement().cancel.clone();
        let join = Self { spine, features, converter: converter(&layout.key_type)?, layout: layout.clone(), cancel };
        let rows = futures::stream::try_unfold(join, |mut join| async move { Ok(join.next().await?.map(|batch| (batch, join))) });
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&layout.schema), rows)))
    }

    /// The next batch of the spine with its features.
    async fn next(&mut self) -> DfResult<Option<RecordBatch>> {
        if self.cancel.is_cancelled() {
            return Err(Error::cancelled().into());
        }
        let Some(batch) = self.spine.next().await.transpose()? else { return Ok(None) };
        let keys = cast(batch.column(self.layout.spine_key), &self.layout.key_type)?;
        let rows = Keys::new(&keys, &self.converter)?;
        let labels = micros(batch.column(self.layout.label))?;
        let (mut spread, mut values) = (Vec::with_capacity(batch.num_rows()), Values::default());
        let (mut start, mut picked) = (0, 0_u32);
        while start < batch.num_rows() {
            let mut end = start + 1;
            while end < batch.num_rows() && rows.same(start, end) {
                end += 1;
            }
            values.known.clear();
            values.places.clear();
            if keys.is_valid(start) {
                self.features.of(&rows.at(start), &mut values).await?;
            }
            for found in self.pick(&values, &labels, start..end) {
                spread.push(found.map(|at| {
                    let (waiting, row) = values.places[at];
                    self.features.waiting[waiting].picked.push(row);
                    (picked, picked += 1).0
                }));
            }
            start = end;
        }
        self.whole(&batch, &UInt32Array::from(spread)).map(Some)
    }

    /// The value that each of the spine's rows `range`, all of one key, may use.
    fn pick(&self, values: &Values, labels: &TimestampMicrosecondArray, range: std::ops::Range<usize>) -> Vec<Option<usize>> {
        if values.known.is_empty() {
            return vec![None; range.len()];
        }
        // NULL labels sort first and find nothing.
        let times: Cow<'_, [i64]> = match labels.null_count() {
            0 => Cow::Borrowed(&labels.values()[range.clone()]),
            _ => range.clone().map(|row| if labels.is_valid(row) { labels.value(row) } else { i64::MIN }).collect(),
        };
        let found = latest_known(&values.known, &times, self.layout.rule);
        found.into_iter().zip(range).map(|(at, row)| at.filter(|_| labels.is_valid(row))).collect()
    }

    /// The spine's batch with what was picked for it; `spread` has the place of each row's value.
    fn whole(&mut self, batch: &RecordBatch, spread: &UInt32Array) -> DfResult<RecordBatch> {
        let chosen = self.features.chosen()?;
        let mut columns = batch.columns().to_vec();
        let first = columns.len();
        for (at, field) in self.layout.schema.fields()[first..].iter().enumerate() {
            let parts: Vec<&dyn Array> = chosen.iter().map(|part| part[at].as_ref()).collect();
            columns.push(match parts.is_empty() {
                true => new_null_array(field.data_type(), batch.num_rows()),
                false => cast(&take(&concat(&parts)?, spread, None)?, field.data_type())?,
            });
        }
        RecordBatch::try_new(Arc::clone(&self.layout.schema), columns).map_err(DataFusionError::from)
    }
}
