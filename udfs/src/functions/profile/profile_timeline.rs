//! `profile_timeline(user_id, n => 50, source => 'events', …)`

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::error::Result as DfResult;
use datafusion::execution::SendableRecordBatchStream;

use super::events::{AS_OF, COLUMNS, Events, time_type};
use super::profile_card::{OF, SESSION_GAP_US, USER};
use crate::error::Result;
use crate::features::UserHistory;
use crate::features::events::Strings;
use crate::functions::MlContext;
use crate::functions::relation::{Arguments, Call, Kind, MlRelation, Parameter};
use crate::kernels::intern::{Interner, NULL_CODE};
use crate::kernels::session::SessionCounter;

/// See [`MlRelation::doc`].
#[derive(Debug)]
pub(super) struct ProfileTimeline;

/// Events of one answer, at most.
const EVENTS_MAX: i64 = 100_000;

fn columns() -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    Arc::new(Schema::new(vec![
        Field::new("rank", DataType::Int64, false),
        Field::new("event_time", time_type(), false),
        text("event_type"),
        text("item_id"),
        text("category"),
        Field::new("value", DataType::Float64, true),
        Field::new("session", DataType::Int64, false),
        Field::new("seconds_since_previous", DataType::Float64, true),
    ]))
}

impl MlRelation for ProfileTimeline {
    fn name(&self) -> &'static str {
        "profile_timeline"
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] =
            &[USER, Parameter::optional("n", Kind::Integer, "50", "How many events at most, from 1 to 100000."), OF, COLUMNS, AS_OF];
        PARAMETERS
    }

    fn doc(&self) -> &'static str {
        "The last events of one user, the newest first; events of the same time by event type and item, the last first. session numbers the \
         user's sessions from 1, the oldest first; one ends after 30 minutes without an event. It reads that user's events alone. An unknown \
         user and a NULL one have no rows. Columns that the source does not have are NULL."
    }

    fn example(&self) -> &'static str {
        "SELECT rank, event_time, event_type, item_id FROM profile_timeline(12347, 5)"
    }

    fn schema(&self, args: &Arguments, source: Option<&Schema>, _: &MlContext) -> Result<SchemaRef> {
        args.integer_in("n", 50, 1..=EVENTS_MAX)?;
        super::events::key_type(args, source)?;
        Ok(columns())
    }

    fn execute(&self, call: Call) -> Result<SendableRecordBatchStream> {
        let own = call.clone();
        Ok(call.once(async move { rows(&own).await }))
    }
}

async fn rows(call: &Call) -> DfResult<RecordBatch> {
    let most = call.args.integer_in("n", 50, 1..=EVENTS_MAX)? as usize;
    let events = Events::open(call).await?;
    match events.user(&call.args).await? {
        Some((history, strings)) => timeline(&history, &strings, events.as_of_us, most),
        None => Ok(RecordBatch::new_empty(columns())),
    }
}

fn timeline(history: &UserHistory, strings: &Strings, as_of_us: i64, most: usize) -> DfResult<RecordBatch> {
    let times_us = &history.times_us;
    let count = times_us.partition_point(|time_us| *time_us <= as_of_us);
    let mut counter = SessionCounter::new(SESSION_GAP_US);
    let session = |time_us: &i64| {
        counter.update(*time_us);
        i64::try_from(counter.sessions()).unwrap_or(i64::MAX)
    };
    let sessions: Vec<i64> = times_us.iter().take(count).map(session).collect();
    let shown: Vec<usize> = (0..count).rev().take(most).collect();
    let text = |codes: &[u32], names: &Interner| {
        let name = |at: &usize| codes.get(*at).filter(|code| **code != NULL_CODE).map(|code| names.get(*code));
        Arc::new(shown.iter().map(name).collect::<StringArray>()) as ArrayRef
    };
    let value = |at: &usize| history.values.get(*at).copied().filter(|value| !value.is_nan());
    let gap = |at: &usize| at.checked_sub(1).map(|before| (times_us[*at] - times_us[before]) as f64 / 1e6);
    let arrays: Vec<ArrayRef> = vec![
        Arc::new((1..).take(shown.len()).collect::<Int64Array>()),
        Arc::new(TimestampMicrosecondArray::from_iter_values(shown.iter().map(|at| times_us[*at])).with_timezone("UTC")),
        text(&history.events, &strings.events),
        text(&history.items, &strings.items),
        text(&history.categories, &strings.categories),
        Arc::new(shown.iter().map(value).collect::<Float64Array>()),
        Arc::new(shown.iter().map(|at| sessions[*at]).collect::<Int64Array>()),
        Arc::new(shown.iter().map(gap).collect::<Float64Array>()),
    ];
    Ok(RecordBatch::try_new(columns(), arrays)?)
}
