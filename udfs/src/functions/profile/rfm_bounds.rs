//! `rfm_bounds(source, bins => 5, …)`

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::error::Result as DfResult;
use datafusion::execution::SendableRecordBatchStream;

use super::events::{AS_OF, COLUMNS, EVENT, Events, SOURCE, key_type, time_type};
use super::rfm::{BINS, Bounds, FIGURES, bins, time};
use crate::error::Result;
use crate::functions::MlContext;
use crate::functions::relation::{Arguments, Call, MlRelation, Parameter};

/// See [`MlRelation::doc`].
#[derive(Debug)]
pub(super) struct RfmBounds;

fn columns() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("metric", DataType::Utf8, false),
        Field::new("bin", DataType::Int32, false),
        Field::new("bound", DataType::Float64, false),
        Field::new("users", DataType::Int64, false),
        Field::new("as_of", time_type(), false),
        Field::new("dropped_rows", DataType::Int64, false),
    ]))
}

impl MlRelation for RfmBounds {
    fn name(&self) -> &'static str {
        "rfm_bounds"
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[SOURCE, BINS, COLUMNS, EVENT, AS_OF];
        PARAMETERS
    }

    fn doc(&self) -> &'static str {
        "The bounds between the bins of rfm_scores, to be kept: CREATE TABLE bounds AS SELECT * FROM rfm_bounds(…), then \
         rfm_scores(…, bounds => 'bounds') scores new users and new days alike. One row per metric (recency in days, frequency, \
         monetary) and bound; bound i is the value of the ⌈users · i / bins⌉-th user, the worst first, and belongs to bin i."
    }

    fn example(&self) -> &'static str {
        "SELECT metric, bin, bound, users FROM rfm_bounds('events', event => 'purchase')"
    }

    fn schema(&self, args: &Arguments, source: Option<&Schema>, _: &MlContext) -> Result<SchemaRef> {
        bins(args)?;
        key_type(args, source)?;
        Ok(columns())
    }

    fn execute(&self, call: Call) -> Result<SendableRecordBatchStream> {
        let own = call.clone();
        Ok(call.once(async move { rows(&own).await }))
    }
}

async fn rows(call: &Call) -> DfResult<RecordBatch> {
    let events = Events::open_orders(call).await?;
    events.need_value()?;
    let (users, _memory) = events.orders(call, "rfm_bounds").await?;
    let users = Arc::new(users);
    let bounds = Bounds::of(&users, events.as_of_us, bins(&call.args)?).await?;
    let row = |figure: usize| {
        let sign = if figure == 0 { -1.0 } else { 1.0 };
        // Not −0.
        (1..).zip(&bounds.figures[figure]).map(move |(bin, bound)| (FIGURES[figure], bin, bound * sign + 0.0))
    };
    let rows: Vec<(&str, i32, f64)> = (0..FIGURES.len()).flat_map(row).collect();
    let count = rows.len();
    let same = |value: u64| Arc::new(Int64Array::from_value(i64::try_from(value).unwrap_or(i64::MAX), count)) as ArrayRef;
    let arrays: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(rows.iter().map(|(figure, ..)| *figure))),
        Arc::new(rows.iter().map(|(_, bin, _)| *bin).collect::<Int32Array>()),
        Arc::new(rows.iter().map(|(.., bound)| *bound).collect::<Float64Array>()),
        same(users.len() as u64),
        time(events.as_of_us).to_array_of_size(count)?,
        same(events.histories.dropped_rows()),
    ];
    Ok(RecordBatch::try_new(columns(), arrays)?)
}
