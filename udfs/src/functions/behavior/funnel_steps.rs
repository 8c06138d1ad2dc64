//! `funnel_steps(source, steps, …)`: how many users reach each step of a funnel, and how fast.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, ListArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Int64Type, Schema, SchemaRef};
use datafusion::error::Result as DfResult;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::functions_aggregate::expr_fn::first_value;
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::{Documentation, Expr, ExprFunctionExt, LogicalPlan, LogicalPlanBuilder, cast, col, lit};

use super::arguments::list_of;
use super::events::{Conditions, EventAggregate, EventFunction, Keep, Reader, Shape};
use super::reading::{COLUMNS, SOURCE, event_plan, event_source, memory, run, schema, texts};
use super::time_lists::TimeLists;
use crate::error::{Error, Result};
use crate::functions::MlContext;
use crate::functions::relation::{Arguments, Call, DAY_US, Kind, MlRelation, Parameter};
use crate::kernels::behavior::event_log::Event;
use crate::kernels::behavior::funnel::{CONDITIONS_MAX, Dialect, Exclusion, Funnel, Mode};

/// See [`MlRelation::doc`].
#[derive(Debug)]
pub(super) struct FunnelSteps;

const NAME: &str = "funnel_steps";

fn columns() -> SchemaRef {
    schema(&[
        ("step", DataType::Int64),
        ("event", DataType::Utf8),
        ("users", DataType::Int64),
        ("of_previous", DataType::Float64),
        ("of_first", DataType::Float64),
        ("median_seconds", DataType::Float64),
        ("p90_seconds", DataType::Float64),
        ("breakdown", DataType::Utf8),
    ])
}

impl MlRelation for FunnelSteps {
    fn name(&self) -> &'static str {
        NAME
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[
            SOURCE,
            Parameter::required("steps", Kind::Any, "The events of the funnel: an array of texts, or one text 'view < cart < purchase'."),
            Parameter::optional("window", Kind::Duration, "'7 days'", "The last step comes at most so long after the first."),
            Parameter::optional("mode", Kind::Text, "'once'", "Modes of `window_funnel`; by default a row takes at most one step."),
            Parameter::optional(
                "breakdown",
                Kind::Text,
                "NULL",
                "A column; a user counts under its value at the user's first row of step 1.",
            ),
            Parameter::optional(
                "exclusions",
                Kind::Any,
                "NULL",
                "Events that break a chain wherever they occur in it, or between two steps only: ARRAY['cancel', 'login:1-2'].",
            ),
            COLUMNS,
        ];
        PARAMETERS
    }

    fn doc(&self) -> &'static str {
        "For each step how many users reach it, or any later one: the numbers never grow from step to step. `of_previous` and `of_first` are \
         shares; `median_seconds` and `p90_seconds` tell how long after the previous step, by each user's first chain of greatest depth. \
         Events at one time count as if the first step came first; an exclusion at the time of a step comes before it."
    }

    fn example(&self) -> &'static str {
        "SELECT step, event, users, of_first FROM funnel_steps('events', ARRAY['purchase', 'return'], window => '30 days')"
    }

    fn schema(&self, args: &Arguments, _: Option<&Schema>, _: &MlContext) -> Result<SchemaRef> {
        if !args.is_unbound("steps") && !args.is_unbound("exclusions") && !args.is_unbound("mode") {
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
    steps: Vec<String>,
    /// Names of the exclusions, at the bits behind the steps.
    excluded: Vec<String>,
    breakdown: Option<String>,
    times: StepTimes,
}

impl Request {
    fn new(args: &Arguments) -> Result<Self> {
        let steps = texts(args, NAME, "steps")?.ok_or_else(|| args.missing("steps"))?;
        let mut excluded = vec![];
        let mut exclusions = vec![];
        for text in texts(args, NAME, "exclusions")?.unwrap_or_default() {
            let (name, from, to) = exclusion(&text, steps.len())?;
            let bit = u32::try_from(steps.len() + excluded.len()).unwrap_or(u32::MAX);
            exclusions.push(Exclusion { bit, from, to });
            excluded.push(name);
        }
        if steps.len() + excluded.len() > CONDITIONS_MAX {
            return Err(Error::invalid(format!("{NAME} takes at most {CONDITIONS_MAX} steps and exclusions together")));
        }
        let mode = Mode::words(args.text("mode").unwrap_or("once"), Dialect::Portrait);
        let mode = mode.map_err(|error| Error::invalid(error.to_string()).hint(error.hint()))?;
        if !exclusions.is_empty() && !matches!(mode, Mode::Levels(_)) {
            return Err(Error::invalid("exclusions do not go together with this funnel mode"));
        }
        let window = match args.micros("window") {
            Some(window) => u64::try_from(window).map_err(|_| Error::invalid(format!("the window of {NAME} cannot be negative")))?,
            None => 7 * DAY_US.unsigned_abs(),
        };
        let times = StepTimes { steps: steps.len(), window, mode, exclusions };
        Ok(Self { steps, excluded, breakdown: args.text("breakdown").map(str::to_owned), times })
    }
}

/// `cancel`, or `cancel:1-2`: the name and the steps, counted from 0, after which and up to which it matters.
fn exclusion(text: &str, steps: usize) -> Result<(String, usize, usize)> {
    let Some((name, between)) = text.rsplit_once(':') else { return Ok((text.to_owned(), 0, steps)) };
    let range = between.split_once('-').and_then(|(from, to)| Some((from.trim().parse::<usize>().ok()?, to.trim().parse::<usize>().ok()?)));
    match range {
        None => Ok((text.to_owned(), 0, steps)),
        Some((from, to)) if from >= 1 && from < to && to <= steps => Ok((name.trim().to_owned(), from - 1, to - 1)),
        Some(_) => Err(Error::invalid(format!("exclusion \"{text}\" does not lie between two of {steps} steps"))),
    }
}

async fn rows(call: &Call, request: &Request) -> DfResult<RecordBatch> {
    let source = event_source(call, request.breakdown.iter().cloned().collect(), None).await?;
    let plan = aggregate(event_plan(call, &source).await?, request)?;
    let held = memory(call, NAME);
    let mut counts: BTreeMap<Option<String>, Counts> = BTreeMap::new();
    let mut durations = 0;
    run(call, plan, |batch| {
        let lists = batch.column(0).as_list_opt::<i32>().ok_or_else(|| Error::internal("step times are no lists"))?;
        let labels = batch.columns().get(1).and_then(|array| array.as_string_opt::<i32>());
        for row in 0..lists.len() {
            let label = labels.filter(|labels| labels.is_valid(row)).map(|labels| labels.value(row).to_owned());
            durations += counts.entry(label).or_insert_with(|| Counts::new(request.steps.len())).add(lists, row)?;
        }
        held.try_resize(durations * size_of::<i64>() * 2)
    })
    .await?;
    if counts.is_empty() {
        counts.insert(None, Counts::new(request.steps.len()));
    }
    table(&request.steps, counts)
}

/// One row per user who took the first step: when each step was taken, and the breakdown.
fn aggregate(plan: LogicalPlan, request: &Request) -> DfResult<LogicalPlan> {
    let is = |name: &String| col("event").eq(lit(name.clone()));
    let conditions = request.steps.iter().chain(&request.excluded).map(is);
    let arguments = std::iter::once(col("time")).chain(conditions).collect();
    let mut aggregates = vec![EventAggregate::udaf(request.times.clone()).call(arguments).alias("steps")];
    let first = request.steps.first().map_or(lit(false), is);
    // The canonical column behind user, time and event is the breakdown.
    let label = plan.schema().fields().get(3).map(|field| Expr::Column(datafusion::common::Column::from_name(field.name())));
    if let Some(label) = label.filter(|_| request.breakdown.is_some()) {
        let order = vec![col("time").sort(true, false), label.clone().sort(true, false)];
        let earliest = first_value(label, vec![]).order_by(order).filter(first).build()?;
        aggregates.push(earliest.alias("label"));
    }
    let mut shown = vec![col("steps")];
    shown.extend((aggregates.len() > 1).then(|| cast(col("label"), DataType::Utf8)));
    // Other events say nothing; users without the first step reach nothing.
    let wanted = request.steps.iter().chain(&request.excluded).map(|name| lit(name.clone())).collect();
    let every_row = request.times.needs_unmatched();
    let builder = LogicalPlanBuilder::from(plan);
    let builder = if every_row { builder } else { builder.filter(col("event").in_list(wanted, false))? };
    builder.aggregate(vec![col("user")], aggregates)?.project(shown)?.build()
}

/// What is counted under one breakdown.
struct Counts {
    users: Vec<u64>,
    /// How long after the previous step, microseconds.
    durations: Vec<Vec<i64>>,
}

impl Counts {
    fn new(steps: usize) -> Self {
        Self { users: vec![0; steps], durations: vec![vec![]; steps] }
    }

    /// Adds a user; says how many durations that were.
    fn add(&mut self, lists: &ListArray, row: usize) -> Result<usize> {
        let times = lists.value(row);
        let times = times.as_primitive_opt::<Int64Type>().ok_or_else(|| Error::internal("step times are no numbers"))?.values().clone();
        for (step, users) in self.users.iter_mut().enumerate().take(times.len()) {
            *users += 1;
            if step > 0 {
                self.durations[step].push(times[step] - times[step - 1]);
            }
        }
        Ok(times.len().saturating_sub(1))
    }
}

/// The `q` quantile in seconds, interpolated as `percentile_cont`.
pub(super) fn quantile_seconds(sorted: &[i64], q: f64) -> Option<f64> {
    let place = q * sorted.len().checked_sub(1)? as f64;
    let (low, high) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    Some((low as f64 + (high - low) as f64 * place.fract()) / 1e6)
}

fn table(steps: &[String], counts: BTreeMap<Option<String>, Counts>) -> DfResult<RecordBatch> {
    let (mut numbers, mut names, mut users, mut labels) = (vec![], vec![], vec![], vec![]);
    let mut shares: [Vec<Option<f64>>; 4] = Default::default();
    for (label, mut found) in counts {
        for (step, name) in steps.iter().enumerate() {
            let count = found.users[step];
            let share = |of: u64| (of > 0).then(|| count as f64 / of as f64);
            found.durations[step].sort_unstable();
            numbers.push(step as i64 + 1);
            names.push(name.clone());
            users.push(i64::try_from(count).unwrap_or(i64::MAX));
            shares[0].push(share(found.users[step.saturating_sub(1)]));
            shares[1].push(share(found.users[0]));
            shares[2].push(quantile_seconds(&found.durations[step], 0.5));
            shares[3].push(quantile_seconds(&found.durations[step], 0.9));
            labels.push(label.clone());
        }
    }
    let mut arrays: Vec<ArrayRef> =
        vec![Arc::new(Int64Array::from(numbers)), Arc::new(StringArray::from(names)), Arc::new(Int64Array::from(users))];
    arrays.extend(shares.into_iter().map(|share| Arc::new(Float64Array::from(share)) as ArrayRef));
    arrays.push(Arc::new(StringArray::from(labels)));
    Ok(RecordBatch::try_new(columns(), arrays)?)
}

/// When a user takes each step: the aggregate behind the function.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct StepTimes {
    steps: usize,
    window: u64,
    mode: Mode,
    exclusions: Vec<Exclusion>,
}

impl StepTimes {
    fn funnel(&self) -> Funnel {
        Funnel::new(self.steps, self.window, self.mode).with_exclusions(self.exclusions.clone()).tracking()
    }

    fn needs_unmatched(&self) -> bool {
        self.funnel().needs_unmatched()
    }
}

impl EventFunction for StepTimes {
    type Reader = StepLists;

    fn name(&self) -> &'static str {
        "funnel_step_times"
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

    fn reader(&self, _: &Shape, _: &AccumulatorArgs) -> DfResult<(StepLists, Keep)> {
        let keep = Keep { unmatched: self.needs_unmatched(), complete_only: false };
        Ok((StepLists { funnel: self.funnel(), lists: TimeLists::new(&DataType::Int64) }, keep))
    }

    fn page(&self) -> Option<&Documentation> {
        None
    }
}

#[derive(Debug)]
struct StepLists {
    funnel: Funnel,
    lists: TimeLists,
}

impl Reader for StepLists {
    fn read(&mut self, events: &[Event]) -> DfResult<()> {
        self.funnel.depth(events);
        self.lists.push(self.funnel.path());
        Ok(())
    }

    fn take(&mut self) -> DfResult<ArrayRef> {
        self.lists.take()
    }
}
