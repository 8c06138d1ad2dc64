//! Intervals: times a number, by a number, between two times; and a time stamp from its parts.

use std::sync::Arc;

use arrow::array::types::{Float64Type, Int32Type, IntervalMonthDayNanoType, TimestampMicrosecondType};
use arrow::array::{Array, ArrayRef, AsArray, IntervalMonthDayNanoArray, PrimitiveArray, TimestampMicrosecondArray};
use arrow::datatypes::{ArrowPrimitiveType, DataType, IntervalMonthDayNano};
use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, Timelike};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::ScalarUDF;

use super::kernel::{INTERVAL, Kernel, Returns, TIMESTAMP, refused, uncast};
use super::zones::out_of_range;
use crate::error::{Code, Error, Result};

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let age = Kernel { name: "age", coerce: two_times, returns: Returns::This(INTERVAL), type_name: None, run: age };
    let made =
        Kernel { name: "make_timestamp", coerce: six_numbers, returns: Returns::This(TIMESTAMP), type_name: None, run: make_timestamp };
    vec![age.function(), made.function(), multiplied(), divided()]
}

pub(super) fn multiplied() -> Arc<ScalarUDF> {
    let run = |columns: &[ArrayRef], _: &DataType| scaled(columns, |value, factor| value * factor);
    Kernel { name: "interval_mul", coerce: interval_and_number, returns: Returns::This(INTERVAL), type_name: None, run }.function()
}

pub(super) fn divided() -> Arc<ScalarUDF> {
    let run = |columns: &[ArrayRef], _: &DataType| scaled(columns, |value, factor| value / factor);
    Kernel { name: "interval_div", coerce: interval_and_number, returns: Returns::This(INTERVAL), type_name: None, run }.function()
}

fn interval_and_number(given: &[DataType]) -> DfResult<Vec<DataType>> {
    if given.len() == 2 { Ok(vec![INTERVAL, DataType::Float64]) } else { refused("interval_mul") }
}

fn two_times(given: &[DataType]) -> DfResult<Vec<DataType>> {
    let is_time =
        |found: &DataType| matches!(found, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 | DataType::Utf8 | DataType::Null);
    if given.len() == 2 && given.iter().all(is_time) { Ok(vec![TIMESTAMP, TIMESTAMP]) } else { refused("age") }
}

fn six_numbers(given: &[DataType]) -> DfResult<Vec<DataType>> {
    let is_number = |found: &DataType| found.is_numeric() || found.is_null();
    if given.len() != 6 || !given.iter().all(is_number) {
        return refused("make_timestamp");
    }
    Ok([vec![DataType::Int32; 5], vec![DataType::Float64]].concat())
}

fn primitive<T: ArrowPrimitiveType>(column: Option<&ArrayRef>) -> Result<&PrimitiveArray<T>> {
    column.and_then(|column| column.as_primitive_opt::<T>()).ok_or_else(|| uncast("a function of intervals"))
}

fn scaled(columns: &[ArrayRef], scale: fn(f64, f64) -> f64) -> Result<ArrayRef> {
    let intervals = primitive::<IntervalMonthDayNanoType>(columns.first())?;
    let numbers = primitive::<Float64Type>(columns.get(1))?;
    let divides = scale(1.0, 2.0) < 1.0;
    let rows = intervals.iter().zip(numbers.iter()).map(|row| match row {
        (Some(_), Some(0.0)) if divides => Err(Error::new(Code::DivisionByZero, "division by zero")),
        (Some(interval), Some(number)) => scaled_one(interval, |value| scale(value, number)).map(Some),
        _ => Ok(None),
    });
    Ok(Arc::new(rows.collect::<Result<IntervalMonthDayNanoArray>>()?))
}

/// After PostgreSQL's `interval_mul`: what is left of a month are days of 30 to it, what is left of a day is time.
fn scaled_one(interval: IntervalMonthDayNano, scale: impl Fn(f64) -> f64) -> Result<IntervalMonthDayNano> {
    let range = || Error::new(Code::DatetimeOverflow, "interval out of range");
    let whole = |value: f64| (value.is_finite() && value.abs() < f64::from(i32::MAX)).then_some(value as i32).ok_or_else(range);
    let to_us = |value: f64| (value * 1e6).round() / 1e6;
    let (months, days) = (scale(f64::from(interval.months)), scale(f64::from(interval.days)));
    let (month, mut day) = (whole(months)?, whole(days)?);
    let days_left = to_us((months - f64::from(month)) * 30.0);
    let mut seconds_left = to_us((days - f64::from(day) + days_left - days_left.trunc()) * 86_400.0);
    if seconds_left.abs() >= 86_400.0 {
        let more = (seconds_left / 86_400.0).trunc();
        day += more as i32;
        seconds_left -= more * 86_400.0;
    }
    day = day.checked_add(days_left as i32).ok_or_else(range)?;
    let us = (scale(interval.nanoseconds as f64 / 1e3) + seconds_left * 1e6).round_ties_even();
    if !us.is_finite() || us.abs() > (i64::MAX / 1000) as f64 {
        return Err(range());
    }
    Ok(IntervalMonthDayNano::new(month, day, us as i64 * 1000))
}

fn age(columns: &[ArrayRef], _: &DataType) -> Result<ArrayRef> {
    let (later, earlier) =
        (primitive::<TimestampMicrosecondType>(columns.first())?, primitive::<TimestampMicrosecondType>(columns.get(1))?);
    let rows = later.iter().zip(earlier.iter()).map(|row| match row {
        (Some(later), Some(earlier)) => between(later, earlier).map(Some),
        _ => Ok(None),
    });
    Ok(Arc::new(rows.collect::<Result<IntervalMonthDayNanoArray>>()?))
}

/// Years, months and days as people count them, after PostgreSQL's `timestamp_age`.
fn between(first: i64, second: i64) -> Result<IntervalMonthDayNano> {
    const DAY_NS: i64 = 86_400_000_000_000;
    let time = |us: i64| DateTime::from_timestamp_micros(us).map(|time| time.naive_utc()).ok_or_else(out_of_range);
    let clock = |time: &NaiveDateTime| i64::from(time.num_seconds_from_midnight()) * 1_000_000_000 + i64::from(time.nanosecond());
    let sign = if first < second { -1 } else { 1 };
    let (from, to) = (time(first.min(second))?, time(first.max(second))?);
    let mut months = (to.year() - from.year()) * 12 + to.month() as i32 - from.month() as i32;
    let mut days = to.day() as i32 - from.day() as i32;
    let mut ns = clock(&to) - clock(&from);
    if ns < 0 {
        ns += DAY_NS;
        days -= 1;
    }
    if days < 0 {
        // The days of the month in which the earlier time lies.
        days += month_days(from.year(), from.month());
        months -= 1;
    }
    Ok(IntervalMonthDayNano::new(sign * months, sign * days, i64::from(sign) * ns))
}

fn month_days(year: i32, month: u32) -> i32 {
    let next = if month == 12 { NaiveDate::from_ymd_opt(year + 1, 1, 1) } else { NaiveDate::from_ymd_opt(year, month + 1, 1) };
    next.and_then(|next| next.pred_opt()).map_or(31, |last| last.day() as i32)
}

fn make_timestamp(columns: &[ArrayRef], _: &DataType) -> Result<ArrayRef> {
    let whole = (0..5).map(|at| primitive::<Int32Type>(columns.get(at))).collect::<Result<Vec<_>>>()?;
    let seconds = primitive::<Float64Type>(columns.get(5))?;
    let rows = (0..seconds.len()).map(|row| {
        let fields: Option<Vec<i32>> = whole.iter().map(|column| column.is_valid(row).then(|| column.value(row))).collect();
        match fields.filter(|_| seconds.is_valid(row)) {
            Some(fields) => made(&fields, seconds.value(row)).map(Some),
            None => Ok(None),
        }
    });
    Ok(Arc::new(rows.collect::<Result<TimestampMicrosecondArray>>()?))
}

fn made(fields: &[i32], seconds: f64) -> Result<i64> {
    let &[year, month, day, hour, minute] = fields else { return Err(uncast("make_timestamp")) };
    let field = |value: i32| u32::try_from(value).unwrap_or(u32::MAX);
    let shown = || format!("{year}-{month:02}-{day:02}");
    let wrong = |what: &str, text: String| Error::new(Code::DatetimeOverflow, format!("{what} field value out of range: {text}"));
    let date = NaiveDate::from_ymd_opt(year, field(month), field(day)).filter(|_| year != 0).ok_or_else(|| wrong("date", shown()))?;
    if !(0..24).contains(&hour) || !(0..60).contains(&minute) || !(0.0..=60.0).contains(&seconds) {
        return Err(wrong("time", format!("{hour}:{minute:02}:{seconds}")));
    }
    let midnight = date.and_hms_opt(0, 0, 0).ok_or_else(out_of_range)?.and_utc().timestamp_micros();
    Ok(midnight + (i64::from(hour) * 3600 + i64::from(minute) * 60) * 1_000_000 + (seconds * 1e6).round() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn us(text: &str) -> i64 {
        NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M").unwrap().and_utc().timestamp_micros()
    }

    #[test]
    fn ages_as_people_count() -> Result<()> {
        for (later, earlier, expected) in [
            ("2024-03-01 00:00", "2024-01-31 00:00", (1, 1, 0)),
            ("2024-01-01 10:00", "2023-01-01 12:00", (11, 30, 22)),
            ("2023-01-01 12:00", "2024-01-01 10:00", (-11, -30, -22)),
        ] {
            let (months, days, hours) = expected;
            let found = between(us(later), us(earlier))?;
            assert_eq!(found, IntervalMonthDayNano::new(months, days, hours * 3_600_000_000_000), "{later} {earlier}");
        }
        Ok(())
    }

    #[test]
    fn fractions_go_down() -> Result<()> {
        let day = IntervalMonthDayNano::new(0, 1, 0);
        assert_eq!(scaled_one(day, |value| value * 1.5)?, IntervalMonthDayNano::new(0, 1, 43_200_000_000_000));
        assert_eq!(scaled_one(IntervalMonthDayNano::new(1, 0, 0), |value| value / 2.0)?, IntervalMonthDayNano::new(0, 15, 0));
        assert!(scaled_one(day, |value| value * 1e12).is_err());
        Ok(())
    }
}
