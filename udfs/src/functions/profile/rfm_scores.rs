//! `rfm_scores(source, bounds => NULL, bins => 5, …)`

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::runtime::SpawnedTask;
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::physical_plan::collect;
use futures::{Stream, StreamExt};

use super::events::{AS_OF, COLUMNS, EVENT, Events, SOURCE, key_type, time_type};
use super::orders::Orders;
use super::rfm::{BINS, Bounds, bins, check_bounds, figures, time};
use crate::error::{Error, Result};
use crate::features::KeyType;
use crate::functions::MlContext;
use crate::functions::ml::predict::loaded::key_array;
use crate::functions::relation::{Arguments, Call, Kind, MlRelation, Parameter};
use crate::kernels::profile::rfm::segment;

/// See [`MlRelation::doc`].
#[derive(Debug)]
pub(super) struct RfmScores;

/// Rows of stored bounds, at most: 99 for each of three figures.
const BOUND_ROWS_MAX: usize = 297;

fn columns(key: KeyType) -> SchemaRef {
    let score = |name: &str| Field::new(name, DataType::Int32, false);
    Arc::new(Schema::new(vec![
        Field::new("user_id", key.data_type(), false),
        Field::new("recency_days", DataType::Float64, false),
        Field::new("frequency", DataType::Int64, false),
        Field::new("monetary", DataType::Float64, false),
        score("r"),
        score("f"),
        score("m"),
        Field::new("segment", DataType::Utf8, false),
        Field::new("as_of", time_type(), false),
    ]))
}

impl MlRelation for RfmScores {
    fn name(&self) -> &'static str {
        "rfm_scores"
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[
            SOURCE,
            Parameter::optional(
                "bounds",
                Kind::Source,
                "NULL",
                "Bounds that rfm_bounds made and a table kept; by default they come from the source itself.",
            ),
            BINS,
            COLUMNS,
            EVENT,
            AS_OF,
        ];
        PARAMETERS
    }

    fn doc(&self) -> &'static str {
        "Recency, frequency and money of every user with such events, in the order of the users. recency_days is the time since the last \
         event, frequency counts distinct event times (the lines of one order are one), monetary is the exact sum of values. r, f, m are \
         the bins, from 1 (worst) to `bins` (best). The tie rule: users with equal figures have equal scores, a bound belongs to the \
         lower bin, and nothing depends on the order of rows; so bins need not be equally large. With stored `bounds` the scores of a \
         user depend on that user alone. segment is the customary name of r and f."
    }

    fn example(&self) -> &'static str {
        "SELECT segment, count(*) AS users, avg(monetary) AS money FROM rfm_scores('events', event => 'purchase') GROUP BY segment ORDER BY users DESC"
    }

    fn schema(&self, args: &Arguments, source: Option<&Schema>, _: &MlContext) -> Result<SchemaRef> {
        bins(args)?;
        Ok(columns(key_type(args, source)?))
    }

    fn schema_of(&self, args: &Arguments, sources: &[Schema], context: &MlContext) -> Result<SchemaRef> {
        sources.get(1).map(check_bounds).transpose()?;
        self.schema(args, sources.first(), context)
    }

    fn execute(&self, call: Call) -> Result<SendableRecordBatchStream> {
        let own = call.clone();
        Ok(call.batches(rows(own)))
    }
}

async fn stored(call: &Call) -> DfResult<Option<Bounds>> {
    let Some(plan) = &call.second else { return Ok(None) };
    let batches = collect(Arc::clone(plan), Arc::clone(&call.task)).await?;
    let count: usize = batches.iter().map(RecordBatch::num_rows).sum();
    if count > BOUND_ROWS_MAX {
        return Err(Error::invalid(format!("argument \"bounds\" has {count} rows; rfm_bounds makes at most {BOUND_ROWS_MAX}")).into());
    }
    Bounds::read(&batches).map(Some)
}

/// The users in parts, which are scored side by side and come in order.
async fn rows(call: Call) -> DfResult<impl Stream<Item = DfResult<RecordBatch>>> {
    let stored = stored(&call).await?;
    let events = Events::open_orders(&call).await?;
    events.need_value()?;
    let (users, memory) = events.orders(&call, "rfm_scores").await?;
    let users = Arc::new(users);
    let bounds = match stored {
        Some(bounds) => bounds,
        None => Bounds::of(&users, events.as_of_us, bins(&call.args)?).await?,
    };
    let threads = call.session.config().target_partitions().max(1);
    // The parts at hand stand beside the users.
    memory.try_grow(PART.min(users.len()) * threads * (120 + size_of::<Orders>()))?;
    let mut users = Arc::into_inner(users).ok_or_else(|| Error::internal("somebody still reads the users"))?.in_order();
    let scoring = Arc::new(Scoring { bounds, as_of_us: events.as_of_us, key_type: events.columns().key_type, _memory: memory });
    let parts = std::iter::from_fn(move || {
        let part: Vec<Orders> = users.by_ref().take(PART).collect();
        (!part.is_empty()).then_some(part)
    });
    let parts = parts.map(move |users| {
        let scoring = Arc::clone(&scoring);
        let part = SpawnedTask::spawn(async move { scoring.part(&users) });
        async move { part.join_unwind().await.map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))? }
    });
    Ok(futures::stream::iter(parts).buffered(threads))
}

/// Users that are worth a task.
const PART: usize = 1 << 15;

/// What scores users.
struct Scoring {
    bounds: Bounds,
    as_of_us: i64,
    key_type: KeyType,
    _memory: MemoryReservation,
}

impl Scoring {
    fn part(&self, users: &[Orders]) -> DfResult<RecordBatch> {
        let figures: Vec<[f64; 3]> = users.iter().map(|orders| figures(orders, self.as_of_us)).collect();
        let scores: Vec<[usize; 3]> = figures.iter().map(|figures| self.bounds.scores(*figures)).collect();
        let score = |at: usize| Arc::new(scores.iter().map(|scores| i32::try_from(scores[at]).ok()).collect::<Int32Array>()) as ArrayRef;
        let segments = scores.iter().map(|[r, f, _]| segment(*r, *f, self.bounds.bins()));
        let arrays: Vec<ArrayRef> = vec![
            key_array(users.iter().map(|orders: &Orders| &orders.user), self.key_type),
            Arc::new(figures.iter().map(|figures| -figures[0] + 0.0).collect::<Float64Array>()),
            Arc::new(users.iter().map(|orders| i64::try_from(orders.orders).ok()).collect::<Int64Array>()),
            Arc::new(users.iter().map(|orders| orders.total).collect::<Float64Array>()),
            score(0),
            score(1),
            score(2),
            Arc::new(StringArray::from_iter_values(segments)),
            time(self.as_of_us).to_array_of_size(users.len())?,
        ];
        Ok(RecordBatch::try_new(columns(self.key_type), arrays)?)
    }
}
