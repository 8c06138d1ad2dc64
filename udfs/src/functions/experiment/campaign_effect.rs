//! `campaign_effect(source, starts_at, ends_at, …)`

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float64Type, Schema, SchemaRef, TimestampMicrosecondType};
use datafusion::error::Result as DfResult;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::physical_plan::execute_stream;
use futures::StreamExt;

use super::ab_test::confidence;
use crate::error::{Code, Error, Result};
use crate::functions::MlContext;
use crate::functions::relation::{Arguments, Call, Kind, MlRelation, Parameter, sql_type};
use crate::functions::typed::{Want, column_at, number_at};
use crate::kernels::stats::exact::ExactSum;
use crate::kernels::stats::lift::Cuped;
use crate::kernels::stats::moments::{Moments, PairMoments};
use crate::kernels::stats::t_test::{Difference, Variances, t_test};

/// See [`MlRelation::doc`].
#[derive(Debug)]
pub(super) struct CampaignEffect;

const NUMBERS: [&str; 8] = ["treated_mean", "control_mean", "effect", "ci_low", "ci_high", "p_value", "lift", "total_effect"];

fn columns() -> SchemaRef {
    let mut fields = vec![
        Field::new("method", DataType::Utf8, false),
        Field::new("treated_users", DataType::Int64, false),
        Field::new("control_users", DataType::Int64, false),
    ];
    fields.extend(NUMBERS.map(|name| Field::new(name, DataType::Float64, true)));
    fields.push(Field::new("dropped_rows", DataType::Int64, false));
    Arc::new(Schema::new(fields))
}

impl MlRelation for CampaignEffect {
    fn name(&self) -> &'static str {
        "campaign_effect"
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[
            Parameter::required("source", Kind::Source, "Events of treated users and of a control group, before and during the campaign."),
            Parameter::required("starts_at", Kind::Timestamp, "When the campaign began."),
            Parameter::required("ends_at", Kind::Timestamp, "When it ended; that moment is no longer part of it."),
            Parameter::optional(
                "treated",
                Kind::Text,
                "'treated'",
                "The column, a boolean or 0 and 1, that says whether the user was addressed.",
            ),
            Parameter::optional("user", Kind::Text, "'user_id'", "The column of the user."),
            Parameter::optional("time", Kind::Text, "'event_time'", "The column of the time."),
            Parameter::optional("outcome", Kind::Text, "NULL", "The column that is summed per user; by default events are counted."),
            Parameter::optional(
                "before",
                Kind::Duration,
                "NULL",
                "How long before the start is compared; as long as the campaign by default.",
            ),
            Parameter::optional("confidence", Kind::Float, "0.95", "Of the intervals, above 0 and below 1."),
        ];
        PARAMETERS
    }

    fn doc(&self) -> &'static str {
        "What a campaign changed, per user, in three ways: `difference` compares the outcome during the campaign of treated users and control; \
         `difference_in_differences` compares how much it changed against the time before, which takes out differences between the groups \
         that were there already; `cuped` takes out what the time before explains, the most precise when the groups were drawn at random. \
         Users are those with any row in the source, also outside both times: give the control group's users too. effect is per user with \
         Welch's test, lift is relative to what the treated would have been, total_effect is effect times treated users. Rows where user or \
         treated is NULL do not count (dropped_rows), nor do outcomes at other times. A user who is both treated and control is error 22023."
    }

    fn example(&self) -> &'static str {
        "SELECT method, effect, ci_low, ci_high, p_value FROM campaign_effect(\n\
         (SELECT user_id, event_time, price, user_id % 2 = 0 AS treated FROM events), '2011-02-01', '2011-03-01', outcome => 'price')"
    }

    fn schema(&self, args: &Arguments, source: Option<&Schema>, _: &MlContext) -> Result<SchemaRef> {
        if let Some(source) = source {
            Plan::new(args, source)?;
        }
        Ok(columns())
    }

    fn execute(&self, call: Call) -> Result<SendableRecordBatchStream> {
        let own = call.clone();
        Ok(call.once(async move { rows(&own).await }))
    }
}

/// What a call asks for, its columns found.
#[derive(Debug)]
struct Plan {
    starts_us: i64,
    ends_us: i64,
    before_us: i64,
    confidence: f64,
    treated: usize,
    user: usize,
    time: usize,
    outcome: Option<usize>,
}

impl Plan {
    fn new(args: &Arguments, source: &Schema) -> Result<Self> {
        let name = |argument: &'static str, default: &'static str| args.text(argument).unwrap_or(default).to_owned();
        // A parameter without a value yet passes; execution checks again.
        let (starts_us, ends_us) = (args.micros("starts_at").unwrap_or(i64::MIN), args.micros("ends_at").unwrap_or(i64::MAX));
        if starts_us >= ends_us {
            return Err(Error::invalid("a campaign ends after it starts"));
        }
        let time_name = name("time", "event_time");
        let time = column_at(source, &time_name)?;
        let found = source.field(time).data_type();
        if !matches!(found, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64) {
            return Err(Error::new(Code::DatatypeMismatch, format!("column \"{time_name}\" must be a timestamp or a date"))
                .detail(format!("Its type is {}.", sql_type(found))));
        }
        let length = ends_us.saturating_sub(starts_us);
        Ok(Self {
            starts_us,
            ends_us,
            before_us: args.positive_micros("before")?.unwrap_or(length),
            confidence: confidence(args)?,
            treated: number_at(source, &name("treated", "treated"))?,
            user: column_at(source, &name("user", "user_id"))?,
            time,
            outcome: args.text("outcome").map(|name| number_at(source, name)).transpose()?,
        })
    }
}

/// A user's outcomes.
#[derive(Debug)]
struct Unit {
    treated: bool,
    before: ExactSum,
    during: ExactSum,
}

/// What a user costs beside the key and the digits of the sums.
const UNIT_BYTES: usize = 320;

impl Plan {
    fn take(&self, batch: &RecordBatch, units: &mut BTreeMap<Box<str>, Unit>) -> DfResult<(u64, usize)> {
        let wrong = || Error::internal("a cast gave another type");
        let (users, treated) = (cast(batch.column(self.user), &DataType::Utf8)?, cast(batch.column(self.treated), &DataType::Float64)?);
        let times = cast(batch.column(self.time), &Want::Time.target_type())?;
        let outcomes = self.outcome.map(|at| cast(batch.column(at), &DataType::Float64)).transpose()?;
        let users = users.as_string_opt::<i32>().ok_or_else(wrong)?;
        let treated = treated.as_primitive_opt::<Float64Type>().ok_or_else(wrong)?;
        let times = times.as_primitive_opt::<TimestampMicrosecondType>().ok_or_else(wrong)?;
        let outcomes = outcomes.as_ref().map(|column| column.as_primitive_opt::<Float64Type>().ok_or_else(wrong)).transpose()?;
        let usable = BooleanArray::from_iter((0..batch.num_rows()).map(|row| Some(users.is_valid(row) && treated.is_valid(row))));
        let (mut dropped, mut bytes) = (0, 0);
        for row in 0..batch.num_rows() {
            if !usable.value(row) {
                dropped += 1;
                continue;
            }
            let (user, is_treated) = (users.value(row), treated.value(row) != 0.0);
            if !units.contains_key(user) {
                bytes += user.len() + UNIT_BYTES;
                units.insert(user.into(), Unit { treated: is_treated, before: ExactSum::default(), during: ExactSum::default() });
            }
            let Some(unit) = units.get_mut(user) else { continue };
            if unit.treated != is_treated {
                return Err(Error::invalid(format!("user \"{user}\" is both treated and control")).into());
            }
            let outcome = outcomes.map_or(Some(1.0), |column| column.is_valid(row).then(|| column.value(row)));
            let (Some(outcome), true) = (outcome.filter(|outcome| outcome.is_finite()), times.is_valid(row)) else { continue };
            let time_us = times.value(row);
            if time_us >= self.starts_us && time_us < self.ends_us {
                unit.during.add(outcome);
            } else if time_us < self.starts_us && time_us >= self.starts_us.saturating_sub(self.before_us) {
                unit.before.add(outcome);
            }
        }
        Ok((dropped, bytes))
    }
}

async fn rows(call: &Call) -> DfResult<RecordBatch> {
    let source = call.source.as_ref().ok_or_else(|| call.args.missing("source"))?;
    let plan = Plan::new(&call.args, &source.plan.schema())?;
    let memory = MemoryConsumer::new("campaign_effect").register(call.task.memory_pool());
    let mut stream = execute_stream(Arc::clone(&source.plan), Arc::clone(&call.task))?;
    let (mut units, mut dropped) = (BTreeMap::new(), 0_u64);
    while let Some(batch) = stream.next().await {
        let (more, bytes) = plan.take(&batch?, &mut units)?;
        dropped += more;
        memory.try_grow(bytes)?;
    }
    let scale = plan.before_us as f64 / plan.ends_us.saturating_sub(plan.starts_us) as f64;
    let results = compare(&units, scale, plan.confidence);
    let treated = units.values().filter(|unit| unit.treated).count();
    let count = |value: usize| Arc::new(Int64Array::from_value(value as i64, results.len())) as ArrayRef;
    let number =
        |at: usize| Arc::new(results.iter().map(|(_, row)| Some(row[at]).filter(|value| value.is_finite())).collect::<Float64Array>());
    let mut arrays: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(results.iter().map(|(method, _)| *method))),
        count(treated),
        count(units.len() - treated),
    ];
    arrays.extend((0..NUMBERS.len()).map(|at| number(at) as ArrayRef));
    arrays.push(count(usize::try_from(dropped).unwrap_or(usize::MAX)));
    Ok(RecordBatch::try_new(columns(), arrays)?)
}

/// The three ways, in order. `scale`: the time before, relative to the campaign.
fn compare(units: &BTreeMap<Box<str>, Unit>, scale: f64, confidence: f64) -> Vec<(&'static str, [f64; NUMBERS.len()])> {
    let (mut during, mut change, mut pairs) = <([Moments; 2], [Moments; 2], [PairMoments; 2])>::default();
    for unit in units.values() {
        let (before, after) = (unit.before.value() / scale, unit.during.value());
        let group = usize::from(unit.treated);
        during[group].add(after);
        change[group].add(after - before);
        pairs[group].add(after, before);
    }
    let treated = during[1].summary();
    let row = |test: &Difference, treated_mean: f64, control_mean: f64| {
        // Relative to what the treated would have been without it.
        let lift = test.estimate / (treated.mean - test.estimate);
        let (low, high) = test.interval;
        [treated_mean, control_mean, test.estimate, low, high, test.p_value, lift, test.estimate * treated.count as f64]
    };
    let welch = |groups: &[Moments; 2]| {
        let (control, treated) = (groups[0].summary(), groups[1].summary());
        row(&t_test(groups[1].mean_difference(&groups[0]), &treated, &control, Variances::Unequal, confidence), treated.mean, control.mean)
    };
    let mut all = pairs[0].clone();
    all.merge(&pairs[1]);
    let cuped = Cuped::new(&all);
    let (a, b) = (cuped.adjust(&pairs[1].summary()), cuped.adjust(&pairs[0].summary()));
    let adjusted = row(&t_test(a.mean - b.mean, &a, &b, Variances::Unequal, confidence), a.mean, b.mean);
    vec![("difference", welch(&during)), ("difference_in_differences", welch(&change)), ("cuped", adjusted)]
}
