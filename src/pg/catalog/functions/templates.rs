//! `to_char`, `to_timestamp`, `to_date` and `to_number` with PostgreSQL's templates, over the engine's functions of those names.
//!
//! A template with a `%` is the engine's own (`'%Y-%m'`), and so is every other way to call them: those go on as before.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Date32Builder, Decimal128Builder, StringArray, StringBuilder, TimestampMicrosecondBuilder};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Field, FieldRef, Float32Type, Float64Type, Int32Type, Int64Type, IntervalMonthDayNanoType,
    IntervalUnit, Time64MicrosecondType, TimeUnit, TimestampMicrosecondType,
};
use chrono::{DateTime, NaiveDate, Offset, TimeZone};
use chrono_tz::OffsetName;
use datafusion::common::config::ConfigOptions;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

use crate::error::{Code, Error};
use crate::pg::templates::{DateTimeParts, DateTimeTemplate, Decimal, Number, NumberTemplate, TemplateError};

const DAY_US: i64 = 86_400_000_000;
/// The type of what `to_number` reads: as many digits as there are, with room for a fraction.
const NUMBER: DataType = DataType::Decimal128(38, 10);

/// The functions, each over the engine's one of its name.
pub(super) fn functions(engine: &[Arc<ScalarUDF>]) -> Vec<Arc<ScalarUDF>> {
    let one = |kind: Kind| {
        let inner = engine.iter().find(|found| found.name() == kind.name()).map(Arc::clone);
        Arc::new(ScalarUDF::new_from_impl(Templated { kind, inner, signature: Signature::variadic_any(Volatility::Stable) }))
    };
    [Kind::Char, Kind::Timestamp, Kind::Date, Kind::Number].into_iter().map(one).collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Char,
    Timestamp,
    Date,
    Number,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Char => "to_char",
            Self::Timestamp => "to_timestamp",
            Self::Date => "to_date",
            Self::Number => "to_number",
        }
    }

    fn returns(self) -> DataType {
        match self {
            Self::Char => DataType::Utf8,
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::Date => DataType::Date32,
            Self::Number => NUMBER,
        }
    }
}

struct Templated {
    kind: Kind,
    /// The engine's function of that name.
    inner: Option<Arc<ScalarUDF>>,
    signature: Signature,
}

impl fmt::Debug for Templated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Templated").field(&self.kind.name()).finish()
    }
}

impl PartialEq for Templated {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind
    }
}

impl Eq for Templated {}

impl Hash for Templated {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.kind.hash(state);
    }
}

impl Templated {
    /// Whether a call is PostgreSQL's: a value and a template without `%`.
    fn is_own(&self, types: &[DataType], template: Option<&str>) -> bool {
        let [value, format] = types else { return false };
        let text = |kind: &DataType| kind.is_string() || kind.is_null();
        let value = match self.kind {
            Kind::Char => value.is_temporal() || value.is_numeric() || matches!(value, DataType::Interval(_) | DataType::Null),
            Kind::Timestamp | Kind::Date | Kind::Number => text(value),
        };
        value && text(format) && template.is_none_or(|template| !template.contains('%'))
    }

    fn inner(&self) -> Result<&Arc<ScalarUDF>> {
        let missing = || Error::new(Code::UndefinedFunction, format!("function {} does not take these arguments", self.kind.name()));
        Ok(self.inner.as_ref().ok_or_else(missing)?)
    }
}

impl ScalarUDFImpl for Templated {
    fn name(&self) -> &str {
        self.kind.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        if self.is_own(types, None) { Ok(self.kind.returns()) } else { self.inner()?.return_type(types) }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let types: Vec<DataType> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        let template = args.scalar_arguments.get(1).and_then(|value| value.and_then(|value| value.try_as_str()).flatten());
        if self.is_own(&types, template) {
            return Ok(Arc::new(Field::new(self.name(), self.kind.returns(), true)));
        }
        self.inner()?.inner().return_field_from_args(args)
    }

    /// The engine's `to_timestamp` answers in the zone of its settings.
    fn with_updated_config(&self, config: &ConfigOptions) -> Option<ScalarUDF> {
        let inner = self.inner.as_ref()?.inner().with_updated_config(config)?;
        let (kind, signature) = (self.kind, self.signature.clone());
        Some(ScalarUDF::new_from_impl(Self { kind, inner: Some(Arc::new(inner)), signature }))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let types: Vec<DataType> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        let template = match args.args.get(1) {
            Some(ColumnarValue::Scalar(value)) => value.try_as_str().flatten().map(str::to_owned),
            _ => None,
        };
        if !self.is_own(&types, template.as_deref()) {
            return self.inner()?.invoke_with_args(args);
        }
        let all_scalar = args.args.iter().all(|value| matches!(value, ColumnarValue::Scalar(_)));
        let rows = if all_scalar { 1 } else { args.number_rows };
        let name = args.config_options.execution.time_zone.as_deref().unwrap_or("UTC");
        let (zone, named) = (name.parse().ok(), name.parse().ok());
        let columns = args.args.iter().map(|value| value.to_array(rows)).collect::<Result<Vec<_>>>()?;
        let texts = cast(&columns[1], &DataType::Utf8)?;
        let call = Call { value: &columns[0], templates: texts.as_string::<i32>(), zone, named };
        let answer = match self.kind {
            Kind::Char => call.to_char()?,
            Kind::Timestamp => call.to_timestamp()?,
            Kind::Date => call.to_date()?,
            Kind::Number => call.to_number()?,
        };
        if all_scalar {
            return Ok(ColumnarValue::Scalar(datafusion::scalar::ScalarValue::try_from_array(&answer, 0)?));
        }
        Ok(ColumnarValue::Array(answer))
    }
}

/// The columns of one call.
struct Call<'a> {
    value: &'a ArrayRef,
    templates: &'a StringArray,
    /// The session's; `None` = UTC.
    zone: Option<arrow::array::timezone::Tz>,
    /// The same, where it has names.
    named: Option<chrono_tz::Tz>,
}

/// The template that was compiled last: as a rule it is the same for all rows.
struct Last<T>(Option<(String, T)>);

impl<T> Last<T> {
    fn of(&mut self, text: &str, compile: impl FnOnce(&str) -> Result<T, TemplateError>) -> Result<&T> {
        if self.0.as_ref().is_none_or(|(known, _)| known != text) {
            self.0 = Some((text.to_owned(), compile(text).map_err(told)?));
        }
        self.0.as_ref().map(|(_, template)| template).ok_or_else(|| Error::internal("a template is gone").into())
    }
}

fn told(error: TemplateError) -> Error {
    let code = match error.code {
        "22007" => Code::InvalidDatetime,
        "22008" => Code::DatetimeOverflow,
        "22003" => Code::NumericOutOfRange,
        "22P02" => Code::InvalidText,
        "42601" => Code::Syntax,
        "0A000" => Code::FeatureNotSupported,
        _ => Code::InvalidParameter,
    };
    let found = Error::new(code, error.message);
    let found = match error.detail {
        Some(detail) => found.detail(detail),
        None => found,
    };
    if let Some(hint) = error.hint { found.hint(hint) } else { found }
}

impl Call<'_> {
    /// The template of a row, unless it or the value is NULL.
    fn template(&self, row: usize) -> Option<&str> {
        (self.value.is_valid(row) && self.templates.is_valid(row)).then(|| self.templates.value(row))
    }

    fn offset_s(&self, us: i64) -> i32 {
        let (Some(zone), Some(instant)) = (&self.zone, DateTime::from_timestamp_micros(us)) else { return 0 };
        zone.offset_from_utc_datetime(&instant.naive_utc()).fix().local_minus_utc()
    }

    /// The offset of the session's zone at a local time; of two the earlier one, as PostgreSQL takes standard time.
    fn local_offset_s(&self, day: i32, time_us: i64) -> i32 {
        let Some(zone) = &self.zone else { return 0 };
        let local = NaiveDate::from_epoch_days(day).and_then(|day| {
            let seconds = u32::try_from(time_us / 1_000_000).ok()?;
            day.and_time(chrono::NaiveTime::from_num_seconds_from_midnight_opt(seconds, 0)?).into()
        });
        let Some(local) = local else { return 0 };
        match zone.offset_from_local_datetime(&local) {
            chrono::LocalResult::Single(offset) => offset.fix().local_minus_utc(),
            chrono::LocalResult::Ambiguous(_, later) => later.fix().local_minus_utc(),
            // In the hour that is left out: as if the clock had not been changed yet.
            chrono::LocalResult::None => zone.offset_from_utc_datetime(&(local - chrono::Duration::hours(3))).fix().local_minus_utc(),
        }
    }

    fn to_char(&self) -> Result<ArrayRef> {
        let number = || DataType::Int32;
        match self.value.data_type() {
            DataType::Timestamp(_, zone) => self.times(zone.is_some()),
            DataType::Date32 | DataType::Date64 => self.dates(),
            DataType::Time32(_) | DataType::Time64(_) => self.clock(),
            DataType::Interval(_) | DataType::Duration(_) => self.intervals(),
            DataType::Int8 | DataType::UInt8 | DataType::Int16 | DataType::UInt16 | DataType::Int32 => {
                let values = cast(self.value, &number())?;
                let values = values.as_primitive::<Int32Type>();
                self.numbers(|row| Number::Int4(values.value(row)))
            }
            DataType::UInt32 | DataType::Int64 | DataType::Null => {
                let values = cast(self.value, &DataType::Int64)?;
                let values = values.as_primitive::<Int64Type>();
                self.numbers(|row| Number::Int8(values.value(row)))
            }
            DataType::Float16 | DataType::Float32 => {
                let values = cast(self.value, &DataType::Float32)?;
                let values = values.as_primitive::<Float32Type>();
                self.numbers(|row| Number::Float4(values.value(row)))
            }
            DataType::Float64 => {
                let values = self.value.as_primitive::<Float64Type>();
                self.numbers(|row| Number::Float8(values.value(row)))
            }
            other => {
                let scale = if let DataType::Decimal32(_, s)
                | DataType::Decimal64(_, s)
                | DataType::Decimal128(_, s)
                | DataType::Decimal256(_, s) = other
                {
                    *s
                } else {
                    0
                };
                let values = cast(self.value, &DataType::Decimal128(38, scale))?;
                let values = values.as_primitive::<Decimal128Type>();
                self.numbers(|row| Number::Decimal(Decimal { unscaled: values.value(row), scale: scale.into() }))
            }
        }
    }

    fn numbers(&self, value: impl Fn(usize) -> Number) -> Result<ArrayRef> {
        let (mut last, mut answers, mut text) = (Last(None), StringBuilder::new(), String::new());
        for row in 0..self.value.len() {
            let Some(template) = self.template(row) else {
                answers.append_null();
                continue;
            };
            text.clear();
            last.of(template, NumberTemplate::try_new)?.write_number(&mut text, value(row)).map_err(told)?;
            answers.append_value(&text);
        }
        Ok(Arc::new(answers.finish()))
    }

    /// Writes what `parts` gives for each row: (microseconds of local time since 1970, offset, zone).
    fn datetimes(&self, parts: impl Fn(usize) -> (i64, i32, Option<String>)) -> Result<ArrayRef> {
        let (mut last, mut answers, mut text) = (Last(None), StringBuilder::new(), String::new());
        for row in 0..self.value.len() {
            let Some(template) = self.template(row).filter(|template| !template.is_empty()) else {
                answers.append_null();
                continue;
            };
            let (local_us, offset_s, zone) = parts(row);
            let day = i32::try_from(local_us.div_euclid(DAY_US)).unwrap_or(i32::MAX);
            let value = DateTimeParts { day, time_us: local_us.rem_euclid(DAY_US), offset_s, zone: zone.as_deref() };
            text.clear();
            last.of(template, |text| Ok(DateTimeTemplate::new(text)))?.write_datetime(&mut text, &value);
            answers.append_value(&text);
        }
        Ok(Arc::new(answers.finish()))
    }

    fn times(&self, zoned: bool) -> Result<ArrayRef> {
        let zone = if zoned { Some("UTC".into()) } else { None };
        let values = cast(self.value, &DataType::Timestamp(TimeUnit::Microsecond, zone))?;
        let values = values.as_primitive::<TimestampMicrosecondType>();
        self.datetimes(|row| {
            let us = values.value(row);
            if !zoned {
                return (us, 0, None);
            }
            let offset_s = self.offset_s(us);
            (us.saturating_add(i64::from(offset_s) * 1_000_000), offset_s, Some(self.abbreviation(us, offset_s)))
        })
    }

    /// `CEST`, or `+03` where a zone has no letters.
    fn abbreviation(&self, us: i64, offset_s: i32) -> String {
        let named = self.named.zip(DateTime::from_timestamp_micros(us)).and_then(|(zone, instant)| {
            let offset = zone.offset_from_utc_datetime(&instant.naive_utc());
            offset.abbreviation().map(str::to_owned)
        });
        named.unwrap_or_else(|| {
            let (sign, hours, minutes) = (if offset_s < 0 { '-' } else { '+' }, offset_s.abs() / 3600, offset_s.abs() / 60 % 60);
            if minutes == 0 { format!("{sign}{hours:02}") } else { format!("{sign}{hours:02}:{minutes:02}") }
        })
    }

    fn dates(&self) -> Result<ArrayRef> {
        let values = cast(self.value, &DataType::Date32)?;
        let values = values.as_primitive::<Date32Type>();
        self.datetimes(|row| {
            let (day, offset_s) = (values.value(row), self.local_offset_s(values.value(row), 0));
            let local_us = i64::from(day) * DAY_US;
            (local_us, offset_s, Some(self.abbreviation(local_us - i64::from(offset_s) * 1_000_000, offset_s)))
        })
    }

    fn clock(&self) -> Result<ArrayRef> {
        let values = cast(self.value, &DataType::Time64(TimeUnit::Microsecond))?;
        let values = values.as_primitive::<Time64MicrosecondType>();
        self.spans(|row| (0, 0, values.value(row)))
    }

    fn intervals(&self) -> Result<ArrayRef> {
        let values = cast(self.value, &DataType::Interval(IntervalUnit::MonthDayNano))?;
        let values = values.as_primitive::<IntervalMonthDayNanoType>();
        self.spans(|row| {
            let value = values.value(row);
            (value.months, value.days, value.nanoseconds / 1_000)
        })
    }

    fn spans(&self, value: impl Fn(usize) -> (i32, i32, i64)) -> Result<ArrayRef> {
        let (mut last, mut answers, mut text) = (Last(None), StringBuilder::new(), String::new());
        for row in 0..self.value.len() {
            let Some(template) = self.template(row).filter(|template| !template.is_empty()) else {
                answers.append_null();
                continue;
            };
            let (months, days, micros) = value(row);
            text.clear();
            last.of(template, |text| Ok(DateTimeTemplate::new(text)))?.write_interval(&mut text, months, days, micros).map_err(told)?;
            answers.append_value(&text);
        }
        Ok(Arc::new(answers.finish()))
    }

    fn to_timestamp(&self) -> Result<ArrayRef> {
        let texts = cast(self.value, &DataType::Utf8)?;
        let texts = texts.as_string::<i32>();
        let (mut last, mut answers) = (Last(None), TimestampMicrosecondBuilder::new().with_timezone("UTC"));
        for row in 0..texts.len() {
            let Some(template) = self.template(row) else {
                answers.append_null();
                continue;
            };
            let parsed = last.of(template, |text| Ok(DateTimeTemplate::new(text)))?.read_datetime(texts.value(row)).map_err(told)?;
            answers.append_value(parsed.timestamp(|day, time_us| self.local_offset_s(day, time_us)).map_err(told)?);
        }
        Ok(Arc::new(answers.finish()))
    }

    fn to_date(&self) -> Result<ArrayRef> {
        let texts = cast(self.value, &DataType::Utf8)?;
        let texts = texts.as_string::<i32>();
        let (mut last, mut answers) = (Last(None), Date32Builder::new());
        for row in 0..texts.len() {
            let Some(template) = self.template(row) else {
                answers.append_null();
                continue;
            };
            let parsed = last.of(template, |text| Ok(DateTimeTemplate::new(text)))?.read_datetime(texts.value(row)).map_err(told)?;
            answers.append_value(parsed.date().map_err(told)?);
        }
        Ok(Arc::new(answers.finish()))
    }

    fn to_number(&self) -> Result<ArrayRef> {
        let texts = cast(self.value, &DataType::Utf8)?;
        let texts = texts.as_string::<i32>();
        let (mut last, mut answers) = (Last(None), Decimal128Builder::new().with_data_type(NUMBER));
        for row in 0..texts.len() {
            let Some(template) = self.template(row).filter(|template| !template.is_empty()) else {
                answers.append_null();
                continue;
            };
            let read = last.of(template, NumberTemplate::try_new)?.read_number(texts.value(row)).map_err(told)?;
            answers.append_value(rescaled(&read)?);
        }
        Ok(Arc::new(answers.finish()))
    }
}

/// A number in the type of the answer.
fn rescaled(number: &Decimal) -> Result<i128> {
    let DataType::Decimal128(digits, scale) = NUMBER else { return Err(Error::internal("numbers have no scale").into()) };
    let overflow = || Error::new(Code::NumericOutOfRange, "numeric field overflow");
    let by = i32::from(scale) - number.scale;
    let factor = 10_i128.checked_pow(by.unsigned_abs()).ok_or_else(overflow)?;
    let value = if by >= 0 { number.unscaled.checked_mul(factor) } else { Some(number.unscaled / factor) };
    let limit = 10_i128.pow(u32::from(digits));
    Ok(value.filter(|value| value.abs() < limit).ok_or_else(overflow)?)
}
