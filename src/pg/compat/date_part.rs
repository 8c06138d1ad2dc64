//! `date_part(part, time)` and `EXTRACT(part FROM time)`, counted as PostgreSQL counts and with fractions: double precision.

use std::str::FromStr;
use std::sync::Arc;

use arrow::array::timezone::Tz;
use arrow::array::types::{IntervalMonthDayNanoType, Time64MicrosecondType, TimestampMicrosecondType};
use arrow::array::{ArrayRef, AsArray, Float64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, IntervalMonthDayNano, TimeUnit};
use chrono::{DateTime, Datelike, NaiveDateTime, Timelike};
use datafusion::common::plan_err;
use datafusion::error::Result as DfResult;
use datafusion::functions::datetime::date_part::DatePartFunc;
use datafusion::logical_expr::preimage::PreimageResult;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use datafusion::scalar::ScalarValue;

use super::kernel::{INTERVAL, TIMESTAMP, refused, uncast};
use super::zones::{offset_s, out_of_range};
use crate::error::{Code, Error, Result};

const NAME: &str = "date_part";
const SECOND_US: i64 = 1_000_000;
const DAY_US: i64 = 86_400 * SECOND_US;
/// The Julian day of 1970-01-01.
const EPOCH_JULIAN: i64 = 2_440_588;

pub(super) fn function() -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::new_from_impl(DatePart {
        signature: Signature::user_defined(Volatility::Immutable),
        aliases: vec!["datepart".to_owned()],
        inner: DatePartFunc::new(),
    }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct DatePart {
    signature: Signature,
    aliases: Vec<String>,
    /// The engine's, which knows how a year is a range of times.
    inner: DatePartFunc,
}

impl ScalarUDFImpl for DatePart {
    fn name(&self) -> &str {
        NAME
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> DfResult<Vec<DataType>> {
        let [part, time] = given else { return refused(NAME) };
        if !matches!(part, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) {
            return refused(NAME);
        }
        let time = match time {
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => TIMESTAMP,
            found if found.is_temporal() => found.clone(),
            _ => return refused(NAME),
        };
        Ok(vec![DataType::Utf8, time])
    }

    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(DataType::Float64)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> DfResult<FieldRef> {
        let nullable = args.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(NAME, DataType::Float64, nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let [part, time] = args.args.as_slice() else { return refused(NAME) };
        let ColumnarValue::Scalar(part) = part else {
            return plan_err!("the first argument of date_part must be a constant");
        };
        let constant = matches!(time, ColumnarValue::Scalar(_));
        let times = time.to_array(if constant { 1 } else { args.number_rows })?;
        let parts = match part.try_as_str().flatten() {
            Some(name) => parts(name, &times)?,
            None => Float64Array::new_null(times.len()),
        };
        Ok(if constant { ColumnarValue::Scalar(ScalarValue::try_from_array(&parts, 0)?) } else { ColumnarValue::Array(Arc::new(parts)) })
    }

    fn preimage(&self, args: &[Expr], literal: &Expr, info: &SimplifyContext) -> DfResult<PreimageResult> {
        match literal {
            Expr::Literal(ScalarValue::Float64(Some(year)), metadata) if year.fract() == 0.0 && year.abs() < 200_000.0 => {
                let year = Expr::Literal(ScalarValue::Int32(Some(*year as i32)), metadata.clone());
                self.inner.preimage(args, &year, info)
            }
            _ => Ok(PreimageResult::None),
        }
    }
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Microseconds,
    Milliseconds,
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Quarter,
    Year,
    IsoYear,
    Decade,
    Century,
    Millennium,
    DayOfWeek,
    IsoDayOfWeek,
    DayOfYear,
    Julian,
    Epoch,
    Timezone,
    TimezoneHour,
    TimezoneMinute,
}

/// Names of parts, with the abbreviations and plurals that PostgreSQL reads.
const NAMES: &[(Part, &[&str])] = &[
    (Part::Microseconds, &["microsecond", "microseconds", "us", "usec", "usecs", "usecond", "useconds", "microsecon"]),
    (Part::Milliseconds, &["millisecond", "milliseconds", "ms", "msec", "msecs", "msecond", "mseconds", "millisecon"]),
    (Part::Second, &["second", "seconds", "s", "sec", "secs"]),
    (Part::Minute, &["minute", "minutes", "m", "min", "mins"]),
    (Part::Hour, &["hour", "hours", "h", "hr", "hrs"]),
    (Part::Day, &["day", "days", "d"]),
    (Part::Week, &["week", "weeks", "w"]),
    (Part::Month, &["month", "months", "mon", "mons"]),
    (Part::Quarter, &["quarter", "qtr"]),
    (Part::Year, &["year", "years", "y", "yr", "yrs"]),
    (Part::IsoYear, &["isoyear"]),
    (Part::Decade, &["decade", "decades", "dec", "decs"]),
    (Part::Century, &["century", "centuries", "c", "cent"]),
    (Part::Millennium, &["millennium", "millennia", "mil", "mils"]),
    (Part::DayOfWeek, &["dow"]),
    (Part::IsoDayOfWeek, &["isodow"]),
    (Part::DayOfYear, &["doy"]),
    (Part::Julian, &["julian", "jd", "j"]),
    (Part::Epoch, &["epoch"]),
    (Part::Timezone, &["timezone"]),
    (Part::TimezoneHour, &["timezone_hour", "timezone_h"]),
    (Part::TimezoneMinute, &["timezone_minute", "timezone_m"]),
];

impl Part {
    fn named(name: &str) -> Option<Self> {
        let name = name.trim().trim_matches(['\'', '"']).to_ascii_lowercase();
        NAMES.iter().find(|(_, names)| names.contains(&name.as_str())).map(|(part, _)| *part)
    }
}

fn parts(name: &str, times: &ArrayRef) -> Result<Float64Array> {
    let found = times.data_type();
    let kind = kind(found);
    let part = Part::named(name)
        .ok_or_else(|| Error::invalid(format!("unit \"{}\" not recognized for type {kind}", name.to_ascii_lowercase())))?;
    let unsupported =
        || Error::new(Code::FeatureNotSupported, format!("unit \"{}\" not supported for type {kind}", name.to_ascii_lowercase()));
    let to = |wanted: &DataType| cast(times, wanted).map_err(|error| crate::error::classify(error.into()));
    match found {
        DataType::Interval(_) | DataType::Duration(_) => {
            let times = to(&INTERVAL)?;
            let times = times.as_primitive_opt::<IntervalMonthDayNanoType>().ok_or_else(|| uncast(NAME))?;
            times.iter().map(|time| time.map(|time| of_interval(part, time).ok_or_else(unsupported)).transpose()).collect()
        }
        DataType::Time32(_) | DataType::Time64(_) => {
            let times = to(&DataType::Time64(TimeUnit::Microsecond))?;
            let times = times.as_primitive_opt::<Time64MicrosecondType>().ok_or_else(|| uncast(NAME))?;
            times.iter().map(|time| time.map(|us| of_clock(part, us).ok_or_else(unsupported)).transpose()).collect()
        }
        found => {
            let zone = match found {
                DataType::Timestamp(_, Some(zone)) => Some(Tz::from_str(zone).map_err(|error| crate::error::classify(error.into()))?),
                _ => None,
            };
            let times = to(&DataType::Timestamp(TimeUnit::Microsecond, zone.map(|_| "UTC".into())))?;
            let times = times.as_primitive_opt::<TimestampMicrosecondType>().ok_or_else(|| uncast(NAME))?;
            times.iter().map(|time| time.map(|us| of_time(part, us, zone.as_ref())?.ok_or_else(unsupported)).transpose()).collect()
        }
    }
}

fn kind(found: &DataType) -> &'static str {
    match found {
        DataType::Interval(_) | DataType::Duration(_) => "interval",
        DataType::Time32(_) | DataType::Time64(_) => "time without time zone",
        DataType::Timestamp(_, Some(_)) => "timestamp with time zone",
        DataType::Date32 | DataType::Date64 => "date",
        _ => "timestamp without time zone",
    }
}

/// The parts that the time of day has.
fn of_clock(part: Part, us: i64) -> Option<f64> {
    let in_minute = us % (60 * SECOND_US);
    Some(match part {
        Part::Microseconds => in_minute as f64,
        Part::Milliseconds => in_minute as f64 / 1e3,
        Part::Second => in_minute as f64 / 1e6,
        Part::Minute => (us / (60 * SECOND_US) % 60) as f64,
        Part::Hour => (us / (3600 * SECOND_US)) as f64,
        Part::Epoch => us as f64 / 1e6,
        _ => return None,
    })
}

fn of_interval(part: Part, interval: IntervalMonthDayNano) -> Option<f64> {
    let (months, us) = (interval.months, interval.nanoseconds / 1000);
    let year = months / 12;
    Some(match part {
        Part::Day => f64::from(interval.days),
        Part::Month => f64::from(months % 12),
        Part::Quarter => f64::from(months % 12 / 3 + 1),
        Part::Year => f64::from(year),
        Part::Decade => f64::from(year / 10),
        Part::Century => f64::from(year / 100),
        Part::Millennium => f64::from(year / 1000),
        Part::Epoch => {
            let days = f64::from(year) * 365.25 + f64::from(months % 12) * 30.0 + f64::from(interval.days);
            days * 86_400.0 + us as f64 / 1e6
        }
        clock => return of_clock(clock, us),
    })
}

/// `None` when such a time has no such part.
fn of_time(part: Part, us: i64, zone: Option<&Tz>) -> Result<Option<f64>> {
    let offset = zone.map(|zone| offset_s(us, zone));
    match (part, offset) {
        (Part::Epoch, _) => return Ok(Some(us as f64 / 1e6)),
        (Part::Timezone, offset) => return Ok(offset.map(|offset| offset as f64)),
        (Part::TimezoneHour, offset) => return Ok(offset.map(|offset| (offset / 3600) as f64)),
        (Part::TimezoneMinute, offset) => return Ok(offset.map(|offset| (offset / 60 % 60) as f64)),
        _ => {}
    }
    let us = us.checked_add(offset.unwrap_or_default() * SECOND_US).ok_or_else(out_of_range)?;
    let shown = DateTime::from_timestamp_micros(us).ok_or_else(out_of_range)?.naive_utc();
    Ok(of_date(part, &shown, us).or_else(|| of_clock(part, us.rem_euclid(DAY_US))))
}

fn of_date(part: Part, time: &NaiveDateTime, us: i64) -> Option<f64> {
    // There is no year 0: 1 BC comes before 1 AD.
    let before_christ = |year: i32| if year <= 0 { year - 1 } else { year };
    let rounded_up = |year: i32, by: i32| {
        let year = before_christ(year);
        if year > 0 { (year + by - 1) / by } else { -((by - 1 - year) / by) }
    };
    Some(match part {
        Part::Hour => f64::from(time.hour()),
        Part::Minute => f64::from(time.minute()),
        Part::Day => f64::from(time.day()),
        Part::Week => f64::from(time.iso_week().week()),
        Part::Month => f64::from(time.month()),
        Part::Quarter => f64::from((time.month() - 1) / 3 + 1),
        Part::Year => f64::from(before_christ(time.year())),
        Part::IsoYear => f64::from(before_christ(time.iso_week().year())),
        Part::Decade => f64::from(time.year().div_euclid(10)),
        Part::Century => f64::from(rounded_up(time.year(), 100)),
        Part::Millennium => f64::from(rounded_up(time.year(), 1000)),
        Part::DayOfWeek => f64::from(time.weekday().num_days_from_sunday()),
        Part::IsoDayOfWeek => f64::from(time.weekday().number_from_monday()),
        Part::DayOfYear => f64::from(time.ordinal()),
        Part::Julian => (us.div_euclid(DAY_US) + EPOCH_JULIAN) as f64 + us.rem_euclid(DAY_US) as f64 / DAY_US as f64,
        _ => return None,
    })
}
