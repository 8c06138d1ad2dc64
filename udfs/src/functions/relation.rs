//! What every table-like function is: a name, parameters, documentation, a schema known without running, and a
//! lazy stream of rows. One function = one file that implements [`MlRelation`]; the planner binds the arguments.
//!
//! Life of a call: `prepass` turns a named source into a subquery → `planner` matches the name, binds positional
//! and `=>` arguments to [`Parameter`]s and asks [`MlRelation::schema`] → at physical planning the constants are
//! evaluated and a model name is pinned to a version → the first poll of the stream calls [`MlRelation::execute`].
//!
//! A function here must never train, score or read data while it is planned, described or explained.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::compute::cast;
use arrow::datatypes::{DataType, IntervalUnit, Schema, SchemaRef, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::execution::{SendableRecordBatchStream, SessionState, TaskContext};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{Future, Stream, TryStreamExt};

use super::MlContext;
use crate::context::StatementContext;
use crate::error::{Code, Error, Result};
use crate::features::OPTION_KEYS;
use crate::kernels::nearest::nearest;
use crate::registry::ModelRef;

/// A day in microseconds.
pub const DAY_US: i64 = 86_400_000_000;

/// What an argument may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// `name` (the active version) or `name@3`; pinned to a version when the plan is made.
    Model,
    /// One read-only query: table or view name, `$$SELECT …$$`, parenthesised subquery, path under a data root.
    Source,
    /// A 64-bit integer.
    Integer,
    /// A double.
    Float,
    /// A boolean.
    Boolean,
    /// A point in time, date or text; microseconds since 1970 UTC.
    Timestamp,
    /// `'7 days'` or an interval; microseconds, a month counts 30 days.
    Duration,
    /// A JSON object as text.
    Json,
    /// Any constant.
    Any,
}

impl Kind {
    /// The name in messages and documentation.
    pub fn sql_name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Model => "model",
            Self::Source => "source",
            Self::Integer => "bigint",
            Self::Float => "double precision",
            Self::Boolean => "boolean",
            Self::Timestamp => "timestamp with time zone",
            Self::Duration => "interval",
            Self::Json => "json",
            Self::Any => "any",
        }
    }

    /// The type a placeholder in this place takes.
    pub fn placeholder_type(self) -> DataType {
        match self {
            Self::Integer => DataType::Int64,
            Self::Float => DataType::Float64,
            Self::Boolean => DataType::Boolean,
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            _ => DataType::Utf8,
        }
    }
}

/// One parameter of a function.
#[derive(Debug, Clone, Copy)]
pub struct Parameter {
    /// The name, as in `name => value`.
    pub name: &'static str,
    /// What it may be.
    pub kind: Kind,
    /// Whether a call without it is an error.
    pub required: bool,
    /// The default as it would be written in SQL; only documentation, `NULL` when there is none.
    pub default: &'static str,
    /// One sentence for the reference.
    pub doc: &'static str,
}

impl Parameter {
    /// A parameter that every call gives.
    pub const fn required(name: &'static str, kind: Kind, doc: &'static str) -> Self {
        Self { name, kind, required: true, default: "", doc }
    }

    /// A parameter with a default.
    pub const fn optional(name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Self {
        Self { name, kind, required: false, default, doc }
    }
}

/// A bound argument.
#[derive(Debug, Clone, PartialEq)]
pub enum Argument {
    /// Text and JSON arguments, models while they are not pinned.
    Text(String),
    /// Integers.
    Integer(i64),
    /// Doubles.
    Float(f64),
    /// Booleans.
    Boolean(bool),
    /// Microseconds: since 1970 UTC for a timestamp, a length for a duration.
    Micros(i64),
    /// A model, pinned to a version; text until the plan is physical.
    Model(ModelRef),
    /// Whatever was written.
    Any(ScalarValue),
}

impl Argument {
    /// Reads `value` as `kind`; `None` for NULL.
    ///
    /// # Errors
    /// 22P02 when a text cannot be read as the type, 22023 when the type cannot be meant.
    pub fn bind(function: &str, name: &str, kind: Kind, value: ScalarValue) -> Result<Option<Self>> {
        if value.is_null() {
            return Ok(None);
        }
        let value = match value {
            ScalarValue::Dictionary(_, inner) => *inner,
            other => other,
        };
        let text = value.try_as_str().flatten().map(str::to_owned);
        let wrong = || {
            Error::invalid(format!("argument \"{name}\" of {function} must be {}, not {}", kind.sql_name(), sql_type(&value.data_type())))
        };
        let unreadable = |text: &str| {
            Error::new(Code::InvalidText, format!("invalid input syntax for type {}: \"{text}\"", kind.sql_name()))
                .detail(format!("It is the argument \"{name}\" of {function}."))
        };
        let to = |target: DataType| match &text {
            Some(text) => value.cast_to(&target).map_err(|_| unreadable(text)),
            None => value.cast_to(&target).map_err(|_| wrong()),
        };
        let bound = match kind {
            Kind::Any => Self::Any(value),
            Kind::Source => return Err(wrong()),
            Kind::Text | Kind::Model | Kind::Json => Self::Text(text.ok_or_else(wrong)?),
            Kind::Integer if text.is_none() && !value.data_type().is_integer() => return Err(wrong()),
            Kind::Integer => match to(DataType::Int64)? {
                ScalarValue::Int64(Some(v)) => Self::Integer(v),
                _ => return Err(wrong()),
            },
            Kind::Float if text.is_none() && !value.data_type().is_numeric() => return Err(wrong()),
            Kind::Float => match to(DataType::Float64)? {
                ScalarValue::Float64(Some(v)) if v.is_finite() => Self::Float(v),
                _ => return Err(wrong()),
            },
            Kind::Boolean if text.is_none() && value.data_type() != DataType::Boolean => return Err(wrong()),
            Kind::Boolean => match to(DataType::Boolean)? {
                ScalarValue::Boolean(Some(v)) => Self::Boolean(v),
                _ => return Err(text.as_deref().map_or_else(wrong, unreadable)),
            },
            Kind::Timestamp if text.is_none() && !value.data_type().is_temporal() => return Err(wrong()),
            Kind::Timestamp => match to(Kind::Timestamp.placeholder_type())? {
                ScalarValue::TimestampMicrosecond(Some(v), _) => Self::Micros(v),
                _ => return Err(text.as_deref().map_or_else(wrong, unreadable)),
            },
            Kind::Duration => match &value {
                ScalarValue::IntervalYearMonth(_) | ScalarValue::IntervalDayTime(_) | ScalarValue::IntervalMonthDayNano(_) => {
                    Self::Micros(interval_us(&to(DataType::Interval(IntervalUnit::MonthDayNano))?).ok_or_else(wrong)?)
                }
                _ => {
                    let text = text.as_deref().ok_or_else(wrong)?;
                    Self::Micros(duration_us(text).ok_or_else(|| unreadable(text))?)
                }
            },
        };
        Ok(Some(bound))
    }
}

/// Reads `'7 days'`, `'12 hours'`, `'1 month 2 days'` as microseconds; a month counts 30 days, a year 360.
pub fn duration_us(text: &str) -> Option<i64> {
    // Arrow reads a bare number as seconds; a horizon without a unit is a mistake.
    if !text.chars().any(char::is_alphabetic) && !text.contains(':') {
        return None;
    }
    let value = ScalarValue::Utf8(Some(text.to_owned())).cast_to(&DataType::Interval(IntervalUnit::MonthDayNano)).ok()?;
    interval_us(&value)
}

fn interval_us(value: &ScalarValue) -> Option<i64> {
    match value {
        ScalarValue::IntervalMonthDayNano(Some(v)) => {
            let days = i64::from(v.months) * 30 + i64::from(v.days);
            days.checked_mul(DAY_US)?.checked_add(v.nanoseconds / 1000)
        }
        _ => None,
    }
}

/// Writes microseconds as a person would: `7 days`, `90 minutes`.
pub fn duration_text(us: i64) -> String {
    const UNITS: [(i64, &str); 4] = [(DAY_US, "day"), (3_600_000_000, "hour"), (60_000_000, "minute"), (1_000_000, "second")];
    for (unit, name) in UNITS {
        if us != 0 && us % unit == 0 {
            let n = us / unit;
            return format!("{n} {name}{}", if n == 1 { "" } else { "s" });
        }
    }
    format!("{us} microseconds")
}

/// A type's name as PostgreSQL writes it, for messages.
pub fn sql_type(data_type: &DataType) -> String {
    match data_type {
        DataType::Boolean => "boolean".into(),
        DataType::Int8 | DataType::Int16 | DataType::UInt8 => "smallint".into(),
        DataType::Int32 | DataType::UInt16 => "integer".into(),
        DataType::Int64 | DataType::UInt32 => "bigint".into(),
        DataType::UInt64 | DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) | DataType::Decimal256(..) => {
            "numeric".into()
        }
        DataType::Float16 | DataType::Float32 => "real".into(),
        DataType::Float64 => "double precision".into(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "text".into(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => "bytea".into(),
        DataType::Date32 | DataType::Date64 => "date".into(),
        DataType::Time32(_) | DataType::Time64(_) => "time".into(),
        DataType::Timestamp(_, None) => "timestamp".into(),
        DataType::Timestamp(_, Some(_)) => "timestamp with time zone".into(),
        DataType::Interval(_) | DataType::Duration(_) => "interval".into(),
        DataType::Dictionary(_, value) => sql_type(value),
        DataType::List(f) | DataType::LargeList(f) | DataType::FixedSizeList(f, _) => format!("{}[]", sql_type(f.data_type())),
        DataType::Struct(_) => "record".into(),
        DataType::Null => "unknown".into(),
        other => other.to_string().to_lowercase(),
    }
}

/// The arguments of one call, by parameter name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Arguments {
    function: &'static str,
    values: BTreeMap<&'static str, Argument>,
    unbound: BTreeSet<&'static str>,
    options: serde_json::Map<String, serde_json::Value>,
}

impl Arguments {
    /// No arguments yet for `function`.
    pub fn new(function: &'static str) -> Self {
        Self { function, ..Self::default() }
    }

    /// Sets an argument.
    pub fn set(&mut self, name: &'static str, value: Argument) {
        self.unbound.remove(name);
        self.values.insert(name, value);
    }

    /// Marks an argument whose value is not known while planning (`$1`).
    pub fn set_unbound(&mut self, name: &'static str) {
        self.unbound.insert(name);
    }

    /// Adds an option that was written as a named argument (`epochs => 5`).
    pub fn set_option(&mut self, name: &str, value: serde_json::Value) {
        self.options.insert(name.to_owned(), value);
    }

    /// Options written as named arguments; they win over the options JSON.
    pub fn options(&self) -> &serde_json::Map<String, serde_json::Value> {
        &self.options
    }

    /// Whether the argument is a parameter whose value comes later. Only true while planning.
    pub fn is_unbound(&self, name: &str) -> bool {
        self.unbound.contains(name)
    }

    /// The argument, `None` when it was not given or NULL.
    pub fn get(&self, name: &str) -> Option<&Argument> {
        self.values.get(name)
    }

    /// A model, pinned; only at execution.
    pub fn model(&self, name: &str) -> Option<&ModelRef> {
        match self.values.get(name) {
            Some(Argument::Model(model)) => Some(model),
            _ => None,
        }
    }

    /// The model that an argument means now, pinned or not; `None` when it is not given or not known yet.
    ///
    /// # Errors
    /// 42704 and 55000 as [`resolve`](crate::registry::Registry::resolve).
    pub fn resolve_model(&self, name: &str, context: &MlContext) -> Result<Option<ModelRef>> {
        match self.values.get(name) {
            Some(Argument::Model(model)) => Ok(Some(model.clone())),
            Some(Argument::Text(text)) => context.registry.resolve(text).map(Some),
            _ => Ok(None),
        }
    }

    /// A text or JSON argument, or a model while it is not pinned.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.values.get(name) {
            Some(Argument::Text(v)) => Some(v),
            _ => None,
        }
    }

    /// A text that the call must have.
    ///
    /// # Errors
    /// 22023 when it is NULL.
    pub fn required_text(&self, name: &str) -> Result<&str> {
        self.text(name).ok_or_else(|| self.missing(name))
    }

    /// An integer argument.
    pub fn integer(&self, name: &str) -> Option<i64> {
        match self.values.get(name) {
            Some(Argument::Integer(v)) => Some(*v),
            _ => None,
        }
    }

    /// An integer within `range`, or `default`.
    ///
    /// # Errors
    /// 22023 outside the range.
    pub fn integer_in(&self, name: &str, default: i64, range: std::ops::RangeInclusive<i64>) -> Result<i64> {
        let value = self.integer(name).unwrap_or(default);
        if range.contains(&value) {
            return Ok(value);
        }
        Err(Error::invalid(format!("argument \"{name}\" of {} must be between {} and {}", self.function, range.start(), range.end()))
            .detail(format!("The value given is {value}.")))
    }

    /// A double argument.
    pub fn float(&self, name: &str) -> Option<f64> {
        match self.values.get(name) {
            Some(Argument::Float(v)) => Some(*v),
            _ => None,
        }
    }

    /// A boolean argument.
    pub fn boolean(&self, name: &str) -> Option<bool> {
        match self.values.get(name) {
            Some(Argument::Boolean(v)) => Some(*v),
            _ => None,
        }
    }

    /// Microseconds of a timestamp (since 1970 UTC) or of a duration.
    pub fn micros(&self, name: &str) -> Option<i64> {
        match self.values.get(name) {
            Some(Argument::Micros(v)) => Some(*v),
            _ => None,
        }
    }

    /// A duration that must be longer than nothing.
    ///
    /// # Errors
    /// 22023 when it is zero or negative.
    pub fn positive_micros(&self, name: &str) -> Result<Option<i64>> {
        match self.micros(name) {
            Some(v) if v <= 0 => Err(Error::invalid(format!("argument \"{name}\" of {} must be longer than zero", self.function))),
            other => Ok(other),
        }
    }

    /// The error for an argument that is missing or NULL.
    pub fn missing(&self, name: &str) -> Error {
        Error::invalid(format!("argument \"{name}\" of {} must not be null", self.function))
    }

    /// `name => value` pairs for EXPLAIN.
    pub fn display(&self) -> String {
        let shown = self.values.iter().map(|(name, value)| match value {
            Argument::Text(v) => format!("{name} => '{}'", v.replace('\'', "''")),
            Argument::Integer(v) => format!("{name} => {v}"),
            Argument::Float(v) => format!("{name} => {v}"),
            Argument::Boolean(v) => format!("{name} => {v}"),
            Argument::Micros(v) => format!("{name} => {v} us"),
            Argument::Model(v) => format!("{name} => '{v}'"),
            Argument::Any(v) => format!("{name} => {v}"),
        });
        shown.chain(self.options.iter().map(|(k, v)| format!("{k} => {v}"))).collect::<Vec<_>>().join(", ")
    }
}

/// The query behind a `source` argument.
#[derive(Debug, Clone)]
pub struct Source {
    /// The physical plan of the query, with the caller's rights.
    pub plan: Arc<dyn ExecutionPlan>,
    /// The same as self-contained SQL: common table expressions are inlined, parameters substituted.
    pub sql: String,
}

/// Everything a call has at execution.
#[derive(Debug, Clone)]
pub struct Call {
    /// The bound arguments; models are [pinned](Arguments::model).
    pub args: Arguments,
    /// The source, when one was given.
    pub source: Option<Source>,
    /// The second source, of a function that has two.
    pub second: Option<Arc<dyn ExecutionPlan>>,
    /// The session that planned the statement.
    pub session: SessionState,
    /// Memory pool and configuration of this execution.
    pub task: Arc<TaskContext>,
    /// Registry, jobs and histories.
    pub context: Arc<MlContext>,
    /// The schema that the stream must have.
    pub schema: SchemaRef,
    /// Counters of the plan node, for EXPLAIN ANALYZE.
    pub metrics: ExecutionPlanMetricsSet,
}

impl Call {
    /// The running statement: cancel token, notices, user.
    pub fn statement(&self) -> Arc<StatementContext> {
        StatementContext::of(self.task.session_config())
    }

    /// A stream of the one batch that `rows` makes, not started before the first poll.
    pub fn once<F>(&self, rows: F) -> SendableRecordBatchStream
    where
        F: Future<Output = datafusion::error::Result<RecordBatch>> + Send + 'static,
    {
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), futures::stream::once(self.or_cancelled(rows))))
    }

    /// A stream of the batches of a stream that `rows` makes, not started before the first poll.
    pub fn batches<F, S>(&self, rows: F) -> SendableRecordBatchStream
    where
        F: Future<Output = datafusion::error::Result<S>> + Send + 'static,
        S: Stream<Item = datafusion::error::Result<RecordBatch>> + Send + 'static,
    {
        let batches = futures::stream::once(self.or_cancelled(rows)).try_flatten();
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches))
    }

    /// `work`, until the statement is cancelled.
    fn or_cancelled<T>(
        &self,
        work: impl Future<Output = datafusion::error::Result<T>> + Send + 'static,
    ) -> impl Future<Output = datafusion::error::Result<T>> + Send + 'static {
        let token = self.statement().cancel.clone();
        async move {
            tokio::select! {
                biased;
                () = token.cancelled() => Err(Error::cancelled().into()),
                done = work => done,
            }
        }
    }
}

/// What a call does besides answering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Makes a model or a transform. A program that probes it with LIMIT 0 makes nothing.
    Trains,
    /// Changes what is stored; another call can change it back.
    Changes,
    /// Takes something away for good.
    Erases,
}

/// One table-like SQL function.
pub trait MlRelation: Send + Sync + Debug {
    /// The SQL name, lower case.
    fn name(&self) -> &'static str;

    /// Its parameters, in positional order.
    fn parameters(&self) -> &'static [Parameter];

    /// What it returns and when to use it: sentences for the reference.
    fn doc(&self) -> &'static str;

    /// An example that the tests may run, for the reference.
    fn example(&self) -> &'static str {
        ""
    }

    /// Its output. Called while planning: never trains, never reads data. An argument may be
    /// [unbound](Arguments::is_unbound); the schema decided here stays, whatever value comes later.
    ///
    /// # Errors
    /// Arguments that can be refused early are.
    fn schema(&self, args: &Arguments, source: Option<&Schema>, context: &MlContext) -> Result<SchemaRef>;

    /// [`schema`](Self::schema) for a function of two sources, of which the first is required: their schemas, in order.
    ///
    /// # Errors
    /// As [`schema`](Self::schema).
    fn schema_of(&self, args: &Arguments, sources: &[Schema], context: &MlContext) -> Result<SchemaRef> {
        self.schema(args, sources.first(), context)
    }

    /// Runs the call; nothing happens before the stream is polled.
    ///
    /// # Errors
    /// Arguments that contradict each other.
    fn execute(&self, call: Call) -> Result<SendableRecordBatchStream>;

    /// What it does besides answering: then it is allowed only as the top level of a statement (0A000 elsewhere).
    fn effect(&self) -> Option<Effect> {
        None
    }

    /// Whether it does anything besides answering.
    fn has_effects(&self) -> bool {
        self.effect().is_some()
    }

    /// Whether a training option may be written as a named argument (`epochs => 5`).
    fn takes_options(&self) -> bool {
        false
    }
}

/// Makes a batch have exactly `schema`: same number of columns, cast where the types differ.
///
/// # Errors
/// A bug of ours when the number of columns differs or a cast is impossible.
pub fn conform(batch: &RecordBatch, schema: &SchemaRef) -> datafusion::error::Result<RecordBatch> {
    if batch.schema_ref() == schema {
        return Ok(batch.clone());
    }
    if batch.num_columns() != schema.fields().len() {
        let (got, want) = (batch.num_columns(), schema.fields().len());
        return Err(Error::internal(format!("a function returned {got} columns instead of {want}")).into());
    }
    let columns = batch.columns().iter().zip(schema.fields());
    let columns = columns.map(|(column, field)| Ok(cast(column, field.data_type())?)).collect::<datafusion::error::Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}

/// The error for a named argument that a function does not have.
pub fn unknown_argument(relation: &dyn MlRelation, name: &str) -> Error {
    let names: Vec<&str> = relation.parameters().iter().map(|p| p.name).collect();
    let options: Vec<&str> = if relation.takes_options() { OPTION_KEYS.iter().map(|option| option.key).collect() } else { Vec::new() };
    let mut detail = format!("Valid arguments are: {}.", names.join(", "));
    if !options.is_empty() {
        detail.push_str(&format!(" Options may be named as well: {}.", options.join(", ")));
    }
    let error = Error::invalid(format!("{} has no argument \"{name}\"", relation.name())).detail(detail);
    match nearest(name, names.into_iter().chain(options)) {
        Some(near) => error.hint(format!("Perhaps you meant \"{near}\".")),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(kind: Kind, value: ScalarValue, expected: Result<Option<Argument>, (Code, &str)>) {
        match (Argument::bind("f", "a", kind, value), expected) {
            (Ok(got), Ok(want)) => assert_eq!(got, want),
            (Err(got), Err((code, message))) => {
                assert_eq!(got.code, code);
                assert_eq!(got.message, message);
            }
            (got, want) => panic!("{got:?} is not {want:?}"),
        }
    }

    #[test]
    fn arguments_are_read_as_their_kind() {
        let day = DAY_US;
        check(Kind::Integer, "12".into(), Ok(Some(Argument::Integer(12))));
        check(Kind::Integer, ScalarValue::Int32(Some(3)), Ok(Some(Argument::Integer(3))));
        check(Kind::Integer, "x".into(), Err((Code::InvalidText, "invalid input syntax for type bigint: \"x\"")));
        check(Kind::Integer, true.into(), Err((Code::InvalidParameter, "argument \"a\" of f must be bigint, not boolean")));
        check(Kind::Text, 3i64.into(), Err((Code::InvalidParameter, "argument \"a\" of f must be text, not bigint")));
        check(Kind::Text, ScalarValue::Utf8(None), Ok(None));
        check(Kind::Boolean, "true".into(), Ok(Some(Argument::Boolean(true))));
        check(Kind::Boolean, "perhaps".into(), Err((Code::InvalidText, "invalid input syntax for type boolean: \"perhaps\"")));
        check(Kind::Duration, "7 days".into(), Ok(Some(Argument::Micros(7 * day))));
        check(Kind::Duration, "2 weeks".into(), Ok(Some(Argument::Micros(14 * day))));
        check(Kind::Duration, "1 month".into(), Ok(Some(Argument::Micros(30 * day))));
        check(Kind::Duration, "7".into(), Err((Code::InvalidText, "invalid input syntax for type interval: \"7\"")));
        check(Kind::Duration, ScalarValue::new_interval_mdn(0, 2, 0), Ok(Some(Argument::Micros(2 * day))));
        check(Kind::Timestamp, "1970-01-02".into(), Ok(Some(Argument::Micros(day))));
        check(Kind::Timestamp, ScalarValue::Date32(Some(1)), Ok(Some(Argument::Micros(day))));
        check(Kind::Timestamp, "soon".into(), Err((Code::InvalidText, "invalid input syntax for type timestamp with time zone: \"soon\"")));
    }

    #[test]
    fn durations_are_written_for_people() {
        assert_eq!(duration_text(7 * DAY_US), "7 days");
        assert_eq!(duration_text(5_400_000_000), "90 minutes");
        assert_eq!(duration_text(DAY_US), "1 day");
    }
}
