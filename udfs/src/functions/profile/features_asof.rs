//! `features_asof(spine, features, …)`

use std::borrow::Cow;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, TimestampMicrosecondArray, UInt32Array, UInt32Builder, new_null_array};
use arrow::compute::{SortOptions, cast, take};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType};
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::buffer::MemoryBufferedStream;
use datafusion::physical_plan::common::spawn_buffered;
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricBuilder};
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::sorts::streaming_merge::StreamingMergeBuilder;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, Partitioning};
use futures::{StreamExt, TryStreamExt};
use tokio_util::sync::CancellationToken;

use super::as_of_pairs::{Pair, Pairs, Sides};
use super::events::time_type;
use crate::error::{Code, Error, Result};
use crate::functions::MlContext;
use crate::functions::one_scan::OneScan;
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
         spilling to disk, but those that are picked from one table of events lie in order: it is read once. In memory is the history of one key at a time."
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

/// Both sides in order, their n-th streams having the same keys.
enum Ordered {
    /// Each by itself.
    Two([Arc<dyn ExecutionPlan>; 2]),
    /// From one scan; the orders are those of ties.
    One(Arc<OneScan>, [LexOrdering; 2], usize),
}

impl Ordered {
    /// Sides that lie in the same ranges of the key, as tables of events do, are neither sent nor sorted: only ties change places. Those
    /// that are picked from the same files are read once.
    fn new(spine: &Side, features: &Side, streams: usize) -> DfResult<Self> {
        let (spine_order, feature_order) = (spine.ordering(true)?, features.ordering(true)?);
        let ranges = ranges_in_order(&spine.plan, &spine_order, ORDERED_KEYS)?;
        if let (Some(ranges), Some(others)) = (ranges, ranges_in_order(&features.plan, &feature_order, ORDERED_KEYS)?)
            && streams > 1
            && ranges.split_points() == others.split_points()
        {
            if let Some(scan) = OneScan::of([&spine.plan, &features.plan])? {
                return Ok(Self::One(Arc::new(scan), [spine_order, feature_order], ranges.partition_count()));
            }
            let only_ties = |side: &Side, order| Arc::new(SortTiesExec::new(Arc::clone(&side.plan), order, ORDERED_KEYS)) as _;
            return Ok(Self::Two([only_ties(spine, spine_order), only_ties(features, feature_order)]));
        }
        Ok(Self::Two([spine.sorted(streams)?, features.sorted(streams)?]))
    }

    /// Whether the keys of a stream are all greater than those of the one before.
    fn in_sequence(&self) -> bool {
        match self {
            Self::Two([spine, _]) => matches!(spine.output_partitioning(), Partitioning::Range(_)),
            Self::One(..) => true,
        }
    }

    fn streams(&self) -> usize {
        match self {
            Self::Two([spine, _]) => spine.output_partitioning().partition_count(),
            Self::One(_, _, streams) => *streams,
        }
    }

    fn execute(&self, at: usize, task: &Arc<TaskContext>) -> DfResult<Sides> {
        Ok(match self {
            Self::Two([spine, features]) => Sides::Two(spine.execute(at, Arc::clone(task))?, features.execute(at, Arc::clone(task))?),
            Self::One(scan, orders, _) => Sides::One(scan.execute(at, Arc::clone(task))?, Arc::clone(scan), orders.clone()),
        })
    }
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
    let schemas = [spine.plan.schema(), features.schema()];
    let sides = Ordered::new(&Side::new(&spine.plan, spine_order), &Side::new(features, feature_order), streams)?;
    let streams = sides.streams();
    let joins = (0..streams).map(|at| Join::stream(&call, &layout, sides.execute(at, &call.task)?, schemas.clone()));
    let mut joins = joins.collect::<DfResult<Vec<_>>>()?;
    MetricBuilder::new(&call.metrics).global_counter("read_together").add(usize::from(matches!(sides, Ordered::One(..))));
    if streams == 1 {
        return joins.pop().ok_or_else(|| Error::internal("there is no join").into());
    }
    let memory = MemoryConsumer::new("features_asof").register(call.task.memory_pool());
    if sides.in_sequence() {
        let at_once = call.session.config().target_partitions() + 1;
        return Ok(one_after_the_other(joins, at_once, &layout.schema, &memory));
    }
    let keys = [layout.spine_key, layout.label].map(|at| ascending(&layout.schema, at));
    let order = LexOrdering::new(keys).ok_or_else(|| Error::internal("a merge has no order"))?;
    StreamingMergeBuilder::new()
        .with_streams(joins.into_iter().map(|join| spawn_buffered(join, JOINED_BATCHES)).collect())
        .with_schema(Arc::clone(&layout.schema))
        .with_expressions(&order)
        .with_metrics(BaselineMetrics::new(&ExecutionPlanMetricsSet::new(), 0))
        .with_batch_size(call.session.config().batch_size())
        .with_reservation(memory)
        .build()
}

/// Batches that a join may be ahead of the merge.
const JOINED_BATCHES: usize = 2;
/// Bytes that a join may be ahead of its turn.
const AHEAD_BYTES: usize = 32 << 20;

/// The rows of streams whose keys ascend from one stream to the next. So many of them work at once, into buffers.
fn one_after_the_other(
    joins: Vec<SendableRecordBatchStream>,
    at_once: usize,
    schema: &SchemaRef,
    memory: &MemoryReservation,
) -> SendableRecordBatchStream {
    let buffers = memory.new_empty();
    let mut waiting = joins.into_iter().map(move |join| MemoryBufferedStream::new(join, AHEAD_BYTES, buffers.new_empty()));
    let working: VecDeque<_> = waiting.by_ref().take(at_once).collect();
    let rows = futures::stream::unfold((waiting, working), |(mut waiting, mut working)| async move {
        loop {
            let batch = working.front_mut()?.next().await;
            if batch.is_some() {
                return Some((batch?, (waiting, working)));
            }
            working.pop_front();
            working.extend(waiting.next());
        }
    });
    Box::pin(RecordBatchStreamAdapter::new(Arc::clone(schema), rows))
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

/// The values of one key: what is known of each, and its row.
#[derive(Debug, Default)]
struct OfKey {
    known: Vec<Known>,
    rows: Vec<u32>,
}

/// One pair of streams, joined.
struct Join {
    pairs: Pairs,
    layout: Layout,
    cancel: CancellationToken,
}

impl Join {
    fn stream(call: &Call, layout: &Layout, sides: Sides, schemas: [SchemaRef; 2]) -> DfResult<SendableRecordBatchStream> {
        let memory = MemoryConsumer::new("features_asof").register(call.task.memory_pool());
        let columns = [layout.spine_key, layout.feature_key];
        let rows = call.session.config().batch_size();
        let pairs = Pairs::new(sides, schemas, columns, &layout.key_type, (rows, ORDERED_KEYS), memory)?;
        let join = Self { pairs, layout: layout.clone(), cancel: call.statement().cancel.clone() };
        let rows = futures::stream::try_unfold(join, |mut join| async move { Ok(join.next().await?.map(|batch| (batch, join))) });
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&layout.schema), rows)))
    }

    /// The next labels with their features.
    async fn next(&mut self) -> DfResult<Option<RecordBatch>> {
        if self.cancel.is_cancelled() {
            return Err(Error::cancelled().into());
        }
        self.pairs.next().await?.map(|pair| self.joined(&pair)).transpose()
    }

    fn joined(&self, pair: &Pair) -> DfResult<RecordBatch> {
        let labels = micros(pair.labels.column(self.layout.label))?;
        let events = micros(pair.values.column(self.layout.event))?;
        let ingested = self.layout.ingested.map(|at| micros(pair.values.column(at))).transpose()?;
        let (keys, others) = (&pair.label_keys, &pair.value_keys);
        let mut picked = UInt32Builder::with_capacity(keys.len());
        let (mut start, mut value, mut of_key) = (0, 0, OfKey::default());
        while start < keys.len() {
            let mut end = start + 1;
            while end < keys.len() && keys.compare(start, keys, end).is_eq() {
                end += 1;
            }
            of_key.known.clear();
            of_key.rows.clear();
            while value < others.len() && others.compare(value, keys, start).is_lt() {
                value += 1;
            }
            while value < others.len() && others.compare(value, keys, start).is_eq() {
                // A value without a time, or never written down, was never known.
                let ingested_us = ingested.as_ref().map_or(Some(i64::MIN), |times| times.is_valid(value).then(|| times.value(value)));
                if let (true, Some(ingested_us)) = (events.is_valid(value), ingested_us) {
                    of_key.known.push(Known { event_us: events.value(value), ingested_us });
                    of_key.rows.push(u32::try_from(value).unwrap_or(u32::MAX));
                }
                value += 1;
            }
            if keys.is_null(start) {
                of_key.known.clear();
            }
            self.pick(&of_key, &labels, start..end, &mut picked);
            start = end;
        }
        self.whole(pair, &events, &picked.finish())
    }

    /// The value that each of the labels `range`, all of one key, may use.
    fn pick(&self, of_key: &OfKey, labels: &TimestampMicrosecondArray, range: Range<usize>, picked: &mut UInt32Builder) {
        if of_key.known.is_empty() {
            picked.append_nulls(range.len());
            return;
        }
        // NULL labels sort first and find nothing.
        let times: Cow<'_, [i64]> = match labels.null_count() {
            0 => Cow::Borrowed(&labels.values()[range.clone()]),
            _ => range.clone().map(|row| if labels.is_valid(row) { labels.value(row) } else { i64::MIN }).collect(),
        };
        let found = latest_known(&of_key.known, &times, self.layout.rule);
        for (at, row) in found.into_iter().zip(range) {
            picked.append_option(at.filter(|_| labels.is_valid(row)).map(|at| of_key.rows[at]));
        }
    }

    /// The labels with the values that were picked for them.
    fn whole(&self, pair: &Pair, events: &TimestampMicrosecondArray, picked: &UInt32Array) -> DfResult<RecordBatch> {
        let mut columns = pair.labels.columns().to_vec();
        let values = self.layout.values.iter().map(|at| pair.values.column(*at).as_ref()).chain([events as &dyn Array]);
        for (values, field) in values.zip(&self.layout.schema.fields()[columns.len()..]) {
            columns.push(match pair.values.num_rows() {
                0 => new_null_array(field.data_type(), picked.len()),
                _ => cast(&take(values, picked, None)?, field.data_type())?,
            });
        }
        RecordBatch::try_new(Arc::clone(&self.layout.schema), columns).map_err(DataFusionError::from)
    }
}
