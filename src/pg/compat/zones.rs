//! `AT TIME ZONE`, which is `timezone(zone, time)`: an instant as the clocks of a zone show it, and back.

use std::str::FromStr;
use std::sync::Arc;

use arrow::array::timezone::Tz;
use arrow::array::types::{IntervalMonthDayNanoType, TimestampMicrosecondType};
use arrow::array::{Array, ArrayRef, AsArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, TimeUnit};
use chrono::{DateTime, Days, FixedOffset, MappedLocalTime, NaiveDateTime, Offset, TimeZone};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::ScalarUDF;

use super::kernel::{INTERVAL, Kernel, Returns, TIMESTAMP, refused, uncast};
use crate::engine::settings::time_zone;
use crate::error::{Code, Error, Result};

const NAME: &str = "timezone";
/// Abbreviations that are no names of zones, with their hours east of Greenwich.
const ABBREVIATIONS: &[(&str, i32)] = &[
    ("EST", -5),
    ("EDT", -4),
    ("CST", -6),
    ("CDT", -5),
    ("MST", -7),
    ("MDT", -6),
    ("PST", -8),
    ("PDT", -7),
    ("WET", 0),
    ("BST", 1),
    ("CET", 1),
    ("CEST", 2),
    ("EET", 2),
    ("EEST", 3),
    ("MSK", 3),
    ("JST", 9),
    ("KST", 9),
];

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![function()]
}

pub(super) fn function() -> Arc<ScalarUDF> {
    Kernel { name: NAME, coerce, returns: Returns::Of(returns), type_name: None, run }.function()
}

fn coerce(given: &[DataType]) -> DfResult<Vec<DataType>> {
    let [zone, time] = given else { return refused(NAME) };
    let zone = match zone {
        DataType::Interval(_) => INTERVAL,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => DataType::Utf8,
        _ => return refused(NAME),
    };
    let time = match time {
        DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
        // What has no type yet is an instant, as in PostgreSQL.
        DataType::Date32 | DataType::Date64 | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => utc(),
        _ => return refused(NAME),
    };
    Ok(vec![zone, time])
}

fn utc() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

fn returns(given: &[DataType]) -> DfResult<DataType> {
    match given {
        [_, DataType::Timestamp(_, None)] => Ok(utc()),
        [_, DataType::Timestamp(_, Some(_))] => Ok(TIMESTAMP),
        _ => refused(NAME),
    }
}

fn run(columns: &[ArrayRef], result: &DataType) -> Result<ArrayRef> {
    let [zones, times] = columns else { return Err(uncast(NAME)) };
    let times = times.as_primitive_opt::<TimestampMicrosecondType>().ok_or_else(|| uncast(NAME))?;
    let to_local = *result == TIMESTAMP;
    let mut last: Option<(usize, Tz)> = None;
    let mut moved = TimestampMicrosecondArray::builder(times.len());
    for row in 0..times.len() {
        if times.is_null(row) || zones.is_null(row) {
            moved.append_null();
            continue;
        }
        let zone = match last {
            Some((before, zone)) if same(zones, before, row) => zone,
            _ => zone_of(zones, row)?,
        };
        last = Some((row, zone));
        let us = times.value(row);
        moved.append_value(if to_local { local(us, &zone)? } else { instant(us, &zone)? });
    }
    Ok(Arc::new(moved.finish().with_data_type(result.clone())))
}

/// Zones are nearly always one constant.
fn same(zones: &ArrayRef, before: usize, row: usize) -> bool {
    match zones.as_string_opt::<i32>() {
        Some(names) => names.value(before) == names.value(row),
        None => false,
    }
}

fn zone_of(zones: &ArrayRef, row: usize) -> Result<Tz> {
    if let Some(names) = zones.as_string_opt::<i32>() {
        return named(names.value(row));
    }
    let offset = zones.as_primitive_opt::<IntervalMonthDayNanoType>().ok_or_else(|| uncast(NAME))?.value(row);
    if offset.months != 0 || offset.days != 0 {
        return Err(Error::invalid("interval time zone must not include months or days"));
    }
    let seconds = i32::try_from(offset.nanoseconds / 1_000_000_000).unwrap_or(i32::MAX);
    fixed(seconds).ok_or_else(|| Error::invalid("interval time zone is out of range"))
}

/// A zone by its name, abbreviation or offset. An offset counts west of Greenwich, as POSIX has it.
fn named(name: &str) -> Result<Tz> {
    let name = name.trim();
    let unknown = || Error::invalid(format!("time zone \"{name}\" not recognized"));
    if let Some((_, hours)) = ABBREVIATIONS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
        return fixed(hours * 3600).ok_or_else(unknown);
    }
    let west = match name.split_at_checked(1) {
        Some(("+", east)) => Some(format!("-{east}")),
        Some(("-", west)) => Some(format!("+{west}")),
        _ => None,
    };
    if let Some(west) = west {
        let padded = if west.len() == 2 { format!("{}0{}", &west[..1], &west[1..]) } else { west };
        return Tz::from_str(&padded).map_err(|_| unknown());
    }
    time_zone(name).and_then(|name| Tz::from_str(&name).ok()).ok_or_else(unknown)
}

fn fixed(seconds: i32) -> Option<Tz> {
    FixedOffset::east_opt(seconds)?;
    let minutes = seconds.abs() / 60;
    Tz::from_str(&format!("{}{:02}:{:02}", if seconds < 0 { '-' } else { '+' }, minutes / 60, minutes % 60)).ok()
}

/// Seconds east of Greenwich at an instant.
pub(super) fn offset_s(us: i64, zone: &Tz) -> i64 {
    DateTime::from_timestamp_micros(us)
        .map_or(0, |instant| i64::from(zone.offset_from_utc_datetime(&instant.naive_utc()).fix().local_minus_utc()))
}

/// What the clocks of `zone` show at an instant.
fn local(us: i64, zone: &Tz) -> Result<i64> {
    us.checked_add(offset_s(us, zone) * 1_000_000).ok_or_else(out_of_range)
}

/// The instant at which the clocks of `zone` show `us`. When they show it twice it is the later one, when they skip it the one
/// that they would have shown without the change, as in PostgreSQL.
fn instant(us: i64, zone: &Tz) -> Result<i64> {
    let shown: NaiveDateTime = DateTime::from_timestamp_micros(us).ok_or_else(out_of_range)?.naive_utc();
    let offset = match zone.offset_from_local_datetime(&shown) {
        MappedLocalTime::Single(offset) => offset.fix().local_minus_utc(),
        MappedLocalTime::Ambiguous(first, second) => first.fix().local_minus_utc().min(second.fix().local_minus_utc()),
        MappedLocalTime::None => {
            let before = shown.checked_sub_days(Days::new(1)).ok_or_else(out_of_range)?;
            zone.offset_from_utc_datetime(&before).fix().local_minus_utc()
        }
    };
    us.checked_sub(i64::from(offset) * 1_000_000).ok_or_else(out_of_range)
}

pub(super) fn out_of_range() -> Error {
    Error::new(Code::DatetimeOverflow, "timestamp out of range")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_that_change() -> Result<()> {
        let berlin = named("europe/berlin")?;
        let at = |text: &str| NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M").unwrap().and_utc().timestamp_micros();
        for (shown, instant_then) in [
            ("2024-01-01 12:00", "2024-01-01 11:00"),
            ("2024-07-01 12:00", "2024-07-01 10:00"),
            ("2024-03-31 02:30", "2024-03-31 01:30"),
            ("2024-10-27 02:30", "2024-10-27 01:30"),
        ] {
            assert_eq!(instant(at(shown), &berlin)?, at(instant_then), "{shown}");
        }
        assert_eq!(local(at("2024-07-01 10:00"), &berlin)?, at("2024-07-01 12:00"));
        Ok(())
    }

    #[test]
    fn offsets_count_west() -> Result<()> {
        assert_eq!(offset_s(0, &named("+02")?), -7200);
        assert_eq!(offset_s(0, &named("-5")?), 5 * 3600);
        assert_eq!(offset_s(0, &named("CEST")?), 7200);
        assert_eq!(offset_s(0, &named("utc")?), 0);
        assert!(named("Mars/Olympus").is_err());
        Ok(())
    }
}
