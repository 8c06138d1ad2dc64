//! `profile_card(user_id, source => 'events', …)`

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int32Array, Int64Array, ListBuilder, RecordBatch, StringArray, StringBuilder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::error::Result as DfResult;
use datafusion::execution::SendableRecordBatchStream;

use super::decayed::decay;
use super::events::{AS_OF, COLUMNS, Events, key_type, time_type};
use super::rfm::{days, time};
use crate::error::Result;
use crate::features::events::Strings;
use crate::features::{KeyType, UserHistory};
use crate::functions::MlContext;
use crate::functions::ml::predict::loaded::key_array;
use crate::functions::relation::{Arguments, Call, DAY_US, Kind, MlRelation, Parameter};
use crate::kernels::intern::{Interner, NULL_CODE};
use crate::kernels::profile::decay::{Decay, DecayedSum};
use crate::kernels::profile::lifecycle::{Activity, Stage};
use crate::kernels::profile::preference::{Preferences, Scratch, top};
use crate::kernels::session::SessionCounter;
use crate::kernels::stats::exact::ExactSum;

/// The user of both functions.
pub(super) const USER: Parameter = Parameter::required("user_id", Kind::Any, "The user. An unknown or NULL one has no rows.");
/// Their events.
pub(super) const OF: Parameter = Parameter::optional("source", Kind::Source, "'events'", "The events.");

/// A session ends after half an hour without an event.
pub(super) const SESSION_GAP_US: i64 = 1_800_000_000;

/// See [`MlRelation::doc`].
#[derive(Debug)]
pub(super) struct ProfileCard;

fn columns(key: KeyType) -> SchemaRef {
    let list = |name: &str| Field::new(name, DataType::new_list(DataType::Utf8, true), true);
    Arc::new(Schema::new(vec![
        Field::new("user_id", key.data_type(), false),
        Field::new("as_of", time_type(), false),
        Field::new("stage", DataType::Utf8, false),
        Field::new("first_event", time_type(), false),
        Field::new("last_event", time_type(), false),
        Field::new("recency_days", DataType::Float64, false),
        Field::new("events", DataType::Int64, false),
        Field::new("active_days", DataType::Int64, false),
        Field::new("sessions", DataType::Int64, false),
        Field::new("value", DataType::Float64, true),
        Field::new("recent_value", DataType::Float64, true),
        Field::new("peak_hour", DataType::Int32, false),
        Field::new("favourite_item", DataType::Utf8, true),
        Field::new("favourite_category", DataType::Utf8, true),
        list("top_items"),
        list("top_categories"),
        list("event_types"),
    ]))
}

impl MlRelation for ProfileCard {
    fn name(&self) -> &'static str {
        "profile_card"
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[
            USER,
            OF,
            COLUMNS,
            AS_OF,
            Parameter::optional(
                "half_life",
                Kind::Duration,
                "'30 days'",
                "After which an event counts half for preferences and recent_value.",
            ),
            Parameter::optional("period", Kind::Duration, "'30 days'", "The period of lifecycle_stage."),
            Parameter::optional("top", Kind::Integer, "5", "How many items, categories and event types are listed, from 1 to 100."),
        ];
        PARAMETERS
    }

    fn doc(&self) -> &'static str {
        "One user at a glance, as one row; SELECT profile_card(…) gives the row as JSON. It reads that user's events alone and sees them as \
         soon as they are committed. stage is that of lifecycle_stage; a session ends after 30 minutes without an event; value is the exact \
         sum of values, recent_value the sum halved for every half-life of age; peak_hour is UTC; items, categories and event types are \
         listed by their decayed number of events, the highest first, ties by name. An unknown user, a NULL one and one whose events all come \
         after as_of have no row. Columns that the source does not have are NULL."
    }

    fn example(&self) -> &'static str {
        "SELECT profile_card(12347, source => 'events')"
    }

    fn schema(&self, args: &Arguments, source: Option<&Schema>, _: &MlContext) -> Result<SchemaRef> {
        args.integer_in("top", 5, 1..=100)?;
        args.positive_micros("half_life")?;
        args.positive_micros("period")?;
        Ok(columns(key_type(args, source)?))
    }

    fn execute(&self, call: Call) -> Result<SendableRecordBatchStream> {
        let own = call.clone();
        Ok(call.once(async move { row(&own).await }))
    }
}

async fn row(call: &Call) -> DfResult<RecordBatch> {
    let events = Events::open(call).await?;
    let schema = columns(events.columns().key_type);
    let Some((history, strings)) = events.user(&call.args).await? else { return Ok(RecordBatch::new_empty(schema)) };
    let half_life_us = call.args.positive_micros("half_life")?.unwrap_or(30 * DAY_US);
    let look = Look {
        as_of_us: events.as_of_us,
        decay: decay("profile_card", half_life_us as f64)?,
        period_us: call.args.positive_micros("period")?.unwrap_or(30 * DAY_US),
        top: call.args.integer_in("top", 5, 1..=100)? as usize,
    };
    Ok(RecordBatch::try_new(schema, look.columns(&history, &strings, events.columns().key_type)?)?)
}

/// How a card is made.
#[derive(Debug, Clone, Copy)]
struct Look {
    as_of_us: i64,
    decay: Decay,
    period_us: i64,
    top: usize,
}

impl Look {
    /// The names of a column by their decayed number of events.
    fn top_of(&self, times_us: &[i64], codes: &[u32], names: &Interner) -> Vec<String> {
        let mut preferences = Preferences::new(self.decay);
        for (time_us, code) in times_us.iter().zip(codes).filter(|(_, code)| **code != NULL_CODE) {
            preferences.add(0, names.get(*code), 1.0, *time_us);
        }
        // As of the newest event, where no weight has faded to zero.
        let now_us = times_us.last().copied().unwrap_or(self.as_of_us);
        let (places, mut weights) = (preferences.arrange(1), vec![]);
        let mut add = |key, sum: &DecayedSum| weights.push((preferences.name(key), sum.at(self.decay, now_us)));
        preferences.each(&places, 0, &mut Scratch::default(), &mut add);
        top(weights, self.top).into_iter().map(|(name, _)| name.to_owned()).collect()
    }

    fn columns(&self, history: &UserHistory, strings: &Strings, key_type: KeyType) -> Result<Vec<ArrayRef>> {
        let count = history.times_us.partition_point(|time_us| *time_us <= self.as_of_us);
        let times_us = history.times_us.get(..count).unwrap_or_default();
        let first = |codes: &[u32]| codes.iter().copied().take(count).collect::<Vec<_>>();
        let (first_us, last_us) = (times_us.first().copied().unwrap_or_default(), times_us.last().copied().unwrap_or_default());
        let facts = Facts::of(times_us, history.values.get(..count).unwrap_or_default(), self);
        let items = self.top_of(times_us, &first(&history.items), &strings.items);
        let categories = self.top_of(times_us, &first(&history.categories), &strings.categories);
        let types = self.top_of(times_us, &first(&history.events), &strings.events);
        let moment = |us: i64| time(us).to_array().map_err(crate::error::Error::from_engine);
        let whole = |value: u64| Arc::new(Int64Array::from_value(i64::try_from(value).unwrap_or(i64::MAX), 1)) as ArrayRef;
        let number = |value: Option<f64>| Arc::new(Float64Array::from_iter([value])) as ArrayRef;
        let text = |value: Option<&str>| Arc::new(StringArray::from_iter([value])) as ArrayRef;
        Ok(vec![
            key_array(std::iter::once(&history.user), key_type),
            moment(self.as_of_us)?,
            text(facts.stage.map(Stage::name)),
            moment(first_us)?,
            moment(last_us)?,
            number(Some(days(last_us, self.as_of_us))),
            whole(count as u64),
            whole(facts.active_days),
            whole(facts.sessions),
            number(facts.value),
            number(facts.recent_value),
            Arc::new(Int32Array::from_iter([Some(facts.peak_hour)])),
            text(items.first().map(String::as_str)),
            text(categories.first().map(String::as_str)),
            list(&items, !history.items.is_empty()),
            list(&categories, !history.categories.is_empty()),
            list(&types, !history.events.is_empty()),
        ])
    }
}

/// One list of names; NULL where the source has no such column.
fn list(names: &[String], present: bool) -> ArrayRef {
    let mut out = ListBuilder::new(StringBuilder::new());
    if present {
        names.iter().for_each(|name| out.values().append_value(name));
    }
    out.append(present);
    Arc::new(out.finish())
}

/// What the times and values of a history say.
#[derive(Debug)]
struct Facts {
    stage: Option<Stage>,
    active_days: u64,
    sessions: u64,
    peak_hour: i32,
    value: Option<f64>,
    recent_value: Option<f64>,
}

impl Facts {
    fn of(times_us: &[i64], values: &[f64], look: &Look) -> Self {
        let (mut activity, mut sessions) = (Activity::default(), SessionCounter::new(SESSION_GAP_US));
        let mut active_days = 0;
        let mut hours = BTreeMap::<i32, u64>::new();
        let mut last_day = None;
        for time_us in times_us {
            activity.add(*time_us, look.as_of_us, look.period_us);
            sessions.update(*time_us);
            let day = time_us.div_euclid(DAY_US);
            active_days += u64::from(last_day != Some(day));
            last_day = Some(day);
            let hour = time_us.rem_euclid(DAY_US) / 3_600_000_000;
            *hours.entry(i32::try_from(hour).unwrap_or_default()).or_default() += 1;
        }
        let (mut value, mut recent) = (ExactSum::default(), crate::kernels::profile::decay::DecayedSum::default());
        for (time_us, number) in times_us.iter().zip(values).filter(|(_, number)| number.is_finite()) {
            value.add(*number);
            recent.add(look.decay, *number, *time_us);
        }
        let has_values = !values.is_empty();
        Self {
            stage: activity.stage(),
            active_days,
            sessions: sessions.sessions(),
            // The earliest of the busiest.
            peak_hour: hours.iter().rev().max_by_key(|(_, count)| **count).map_or(0, |(hour, _)| *hour),
            value: has_values.then(|| value.value()),
            recent_value: has_values.then(|| recent.at(look.decay, look.as_of_us)),
        }
    }
}
