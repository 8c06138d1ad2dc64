//! `retention_matrix(source, …)`: of those who began in a period, how many came back how many periods later.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::timezone::Tz;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Date32Array, Float64Array, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Int64Type, Schema, SchemaRef, TimeUnit};
use datafusion::error::Result as DfResult;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::{Documentation, LogicalPlan, LogicalPlanBuilder, cast, col, lit};

use super::arguments::list_of;
use super::events::{Conditions, EventAggregate, EventFunction, Keep, Reader, Shape};
use super::reading::{COLUMNS, SOURCE, event_plan, event_source, list_items, run, schema};
use super::time_lists::TimeLists;
use crate::error::{Error, Result};
use crate::functions::MlContext;
use crate::functions::relation::{Argument, Arguments, Call, Kind, MlRelation, Parameter};
use crate::functions::utc::utc_day;
use crate::kernels::behavior::calendar::Granularity;
use crate::kernels::behavior::event_log::Event;
use crate::kernels::behavior::retention::{ACTIVE, FIRST};

/// See [`MlRelation::doc`].
#[derive(Debug)]
pub(super) struct RetentionMatrix;

const NAME: &str = "retention_matrix";
/// Periods that one call may ask for.
const PERIODS_MAX: usize = 1000;
const DEFAULT_PERIODS: [i64; 6] = [0, 1, 3, 7, 14, 30];

fn columns() -> SchemaRef {
    schema(&[
        ("cohort", DataType::Date32),
        ("period", DataType::Int64),
        ("users", DataType::Int64),
        ("retained", DataType::Int64),
        ("rate", DataType::Float64),
        ("complete", DataType::Boolean),
    ])
}

impl MlRelation for RetentionMatrix {
    fn name(&self) -> &'static str {
        NAME
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[
            SOURCE,
            Parameter::optional("first", Kind::Text, "NULL", "The event that makes a user begin; any event without it."),
            Parameter::optional("active", Kind::Text, "NULL", "The event that counts as coming back; any event without it."),
            Parameter::optional("granularity", Kind::Text, "'day'", "`day`, `week` (from Monday) or `month`."),
            Parameter::optional("periods", Kind::Any, "ARRAY[0, 1, 3, 7, 14, 30]", "How many periods later."),
            Parameter::optional(
                "kind",
                Kind::Text,
                "'exact'",
                "`exact`: active in that very period; `on_or_after`: in that period or any later one.",
            ),
            Parameter::optional(
                "cohort",
                Kind::Text,
                "'first'",
                "`first`: a user begins once, in the first period; `recurring`: in every period with the event.",
            ),
            Parameter::optional("timezone", Kind::Text, "'UTC'", "Where days begin: a zone's name or an offset."),
            COLUMNS,
        ];
        PARAMETERS
    }

    fn doc(&self) -> &'static str {
        "One row for each period in which users began and each number of periods later: the users who began, those who were active then, their \
         share, and whether that period is over in the data (an `exact` one that is not may still grow; `on_or_after` always may). Periods are \
         those of the calendar in the time zone, not stretches of 24 hours."
    }

    fn example(&self) -> &'static str {
        "SELECT cohort, period, users, retained FROM retention_matrix('events', granularity => 'month', periods => ARRAY[0, 1, 2, 3])"
    }

    fn schema(&self, args: &Arguments, _: Option<&Schema>, _: &MlContext) -> Result<SchemaRef> {
        if ["granularity", "periods", "kind", "cohort", "timezone"].iter().all(|name| !args.is_unbound(name)) {
            Request::new(args)?;
        }
        Ok(columns())
    }

    fn execute(&self, call: Call) -> Result<SendableRecordBatchStream> {
        let request = Request::new(&call.args)?;
        let own = call.clone();
        Ok(call.once(async move { rows(&own, &request).await }))
    }
}

/// What a call asks for.
struct Request {
    first: Option<String>,
    active: Option<String>,
    granularity: Granularity,
    periods: Vec<i64>,
    or_after: bool,
    recurring: bool,
    timezone: String,
}

impl Request {
    fn new(args: &Arguments) -> Result<Self> {
        let text = |name: &str| args.text(name).map(str::to_owned);
        let word = |name: &str, default: &str, words: [&str; 2]| match args.text(name).unwrap_or(default) {
            given if given == words[0] => Ok(false),
            given if given == words[1] => Ok(true),
            given => {
                Err(Error::invalid(format!("{name} of {NAME} cannot be \"{given}\"")).hint(format!("It is {} or {}.", words[0], words[1])))
            }
        };
        let granularity = args.text("granularity").unwrap_or("day");
        let granularity = Granularity::named(granularity).ok_or_else(|| {
            Error::invalid(format!("granularity of {NAME} cannot be \"{granularity}\"")).hint("It is day, week or month.")
        })?;
        let timezone = args.text("timezone").unwrap_or("UTC").to_owned();
        if timezone.parse::<Tz>().is_err() {
            return Err(Error::invalid(format!("there is no time zone \"{timezone}\"")));
        }
        Ok(Self {
            first: text("first"),
            active: text("active"),
            granularity,
            periods: periods(args)?,
            or_after: word("kind", "exact", ["exact", "on_or_after"])?,
            recurring: word("cohort", "first", ["first", "recurring"])?,
            timezone,
        })
    }
}

/// The periods, without repetitions, in order.
fn periods(args: &Arguments) -> Result<Vec<i64>> {
    let wrong = || Error::invalid(format!("periods of {NAME} must be whole numbers, not negative, at most {PERIODS_MAX} of them"));
    let mut periods = match args.get("periods") {
        None => DEFAULT_PERIODS.to_vec(),
        Some(Argument::Any(value)) => {
            let items = list_items(value).filter(|items| items.data_type().is_integer() && items.null_count() == 0).ok_or_else(wrong)?;
            let items = arrow::compute::cast(&items, &DataType::Int64).map_err(|_| wrong())?;
            items.as_primitive_opt::<Int64Type>().ok_or_else(wrong)?.values().to_vec()
        }
        Some(_) => return Err(wrong()),
    };
    periods.sort_unstable();
    periods.dedup();
    let fits = periods.len() <= PERIODS_MAX && !periods.is_empty() && periods.iter().all(|period| (0..=1_000_000).contains(period));
    if fits { Ok(periods) } else { Err(wrong()) }
}

/// A cohort: who began, and who came back after each of the periods.
struct Cohort {
    users: i64,
    retained: Vec<i64>,
}

async fn rows(call: &Call, request: &Request) -> DfResult<RecordBatch> {
    let source = event_source(call, vec![], None).await?;
    let plan = aggregate(event_plan(call, &source).await?, request)?;
    let (mut cohorts, mut last_day) = (Cohorts::new(request), i64::MIN);
    run(call, plan, |batch| {
        let lists = batch.column(0).as_list_opt::<i32>().ok_or_else(|| Error::internal("days are no lists"))?;
        let days = lists.values().as_primitive_opt::<Int64Type>().ok_or_else(|| Error::internal("days are no numbers"))?.values();
        for place in lists.value_offsets().windows(2) {
            let days = &days[place[0] as usize..place[1] as usize];
            last_day = last_day.max(days.last().map_or(i64::MIN, |day| day >> 2));
            cohorts.user(days);
        }
        Ok(())
    })
    .await?;
    table(request, &cohorts.cohorts, last_day)
}

/// One row per user: the days of the time zone with their bits.
fn aggregate(plan: LogicalPlan, request: &Request) -> DfResult<LogicalPlan> {
    let local = DataType::Timestamp(TimeUnit::Microsecond, Some(request.timezone.as_str().into()));
    let day = if request.timezone == "UTC" { utc_day(col("time")) } else { cast(cast(col("time"), local), DataType::Date32) };
    let is = |name: &Option<String>| name.as_ref().map_or(lit(true), |name| col("event").eq(lit(name.clone())));
    let days = EventAggregate::udaf(Days).call(vec![day, is(&request.first), is(&request.active)]).alias("days");
    LogicalPlanBuilder::from(plan).aggregate(vec![col("user")], vec![days])?.project(vec![col("days")])?.build()
}

/// Who began when.
struct Cohorts<'a> {
    request: &'a Request,
    cohorts: BTreeMap<i64, Cohort>,
    /// The periods of one user.
    began: Vec<i64>,
    active: Vec<i64>,
}

impl<'a> Cohorts<'a> {
    const fn new(request: &'a Request) -> Self {
        Self { request, cohorts: BTreeMap::new(), began: vec![], active: vec![] }
    }

    /// Counts a user's days (`day << 2 | bits`, in order).
    fn user(&mut self, days: &[i64]) {
        let Self { request, cohorts, began, active } = self;
        periods_with(FIRST, days, request.granularity, began);
        periods_with(ACTIVE, days, request.granularity, active);
        if !request.recurring {
            began.truncate(1);
        }
        for period in began.iter() {
            let cohort = cohorts.entry(*period).or_insert_with(|| Cohort { users: 0, retained: vec![0; request.periods.len()] });
            cohort.users += 1;
            for (later, retained) in request.periods.iter().zip(&mut cohort.retained) {
                let back = match request.or_after {
                    true => active.last().is_some_and(|last| *last >= period + later),
                    false => active.binary_search(&(period + later)).is_ok(),
                };
                *retained += i64::from(back);
            }
        }
    }
}

/// The periods of the days that have a bit.
fn periods_with(bit: u64, days: &[i64], granularity: Granularity, periods: &mut Vec<i64>) {
    periods.clear();
    periods.extend(days.iter().filter(|day| day.cast_unsigned() & bit != 0).map(|day| granularity.period(day >> 2)));
    periods.dedup();
}

fn table(request: &Request, cohorts: &BTreeMap<i64, Cohort>, last_day: i64) -> DfResult<RecordBatch> {
    let (mut dates, mut periods, mut users, mut retained, mut rates, mut complete) = (vec![], vec![], vec![], vec![], vec![], vec![]);
    for (period, cohort) in cohorts {
        for (later, back) in request.periods.iter().zip(&cohort.retained) {
            dates.push(i32::try_from(request.granularity.begin(*period)).unwrap_or(i32::MAX));
            periods.push(*later);
            users.push(cohort.users);
            retained.push(*back);
            rates.push(*back as f64 / cohort.users as f64);
            // Days up to the one before the last are over: of the last one nobody knows.
            complete.push(!request.or_after && request.granularity.begin(period + later + 1) <= last_day);
        }
    }
    let arrays: Vec<ArrayRef> = vec![
        Arc::new(Date32Array::from(dates)),
        Arc::new(Int64Array::from(periods)),
        Arc::new(Int64Array::from(users)),
        Arc::new(Int64Array::from(retained)),
        Arc::new(Float64Array::from(rates)),
        Arc::new(BooleanArray::from(complete)),
    ];
    Ok(RecordBatch::try_new(columns(), arrays)?)
}

/// The days of a user: the aggregate behind the function.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Days;

impl EventFunction for Days {
    type Reader = DayLists;

    fn name(&self) -> &'static str {
        "retention_days"
    }

    fn aliases(&self) -> &'static [&'static str] {
        &[]
    }

    fn shape(&self, types: &[DataType]) -> Result<Shape> {
        Ok(Shape { time: 0, conditions: Conditions::Columns(1..types.len()), types: types.to_vec() })
    }

    fn value_type(&self, _: &Shape) -> DataType {
        list_of(DataType::Int64)
    }

    fn reader(&self, _: &Shape, _: &AccumulatorArgs) -> DfResult<(DayLists, Keep)> {
        Ok((DayLists { lists: TimeLists::new(&DataType::Int64), days: vec![] }, Keep::default()))
    }

    fn page(&self) -> Option<&Documentation> {
        None
    }
}

#[derive(Debug)]
struct DayLists {
    lists: TimeLists,
    days: Vec<i64>,
}

impl Reader for DayLists {
    fn read(&mut self, events: &[Event]) -> DfResult<()> {
        self.days.clear();
        for event in events {
            let bits = (event.mask & (FIRST | ACTIVE)).cast_signed();
            match self.days.last_mut().filter(|last| **last >> 2 == event.time) {
                Some(last) => *last |= bits,
                None => self.days.push(event.time << 2 | bits),
            }
        }
        self.lists.push(&self.days);
        Ok(())
    }

    fn take(&mut self) -> DfResult<ArrayRef> {
        self.lists.take()
    }
}
