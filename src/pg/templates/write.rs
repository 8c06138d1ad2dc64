//! `to_char` for timestamps and intervals.

use std::fmt::Write;

use super::calendar::{UNIX_EPOCH, date_of, day_number, iso_week, iso_year_day, weekday};
use super::error::TemplateError;
use super::fields::{Case, DAY_ABBREVIATIONS, DAYS, Field, MONTH_ABBREVIATIONS, MONTHS, ROMAN_MONTHS, eras, meridiems};
use super::keywords::{DateTimeTemplate, FieldItem, Item};

const SECOND_US: i64 = 1_000_000;

/// A point in time as its zone's clocks and calendars show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DateTimeParts<'a> {
    /// Local date: days since 1970-01-01.
    pub(crate) day: i32,
    /// Local time: microseconds since midnight.
    pub(crate) time_us: i64,
    /// Seconds east of UTC; 0 for a timestamp without time zone.
    pub(crate) offset_s: i32,
    /// The zone's abbreviation (`CET`); `None` for a timestamp without time zone.
    pub(crate) zone: Option<&'a str>,
}

/// A value taken apart: what the fields are written from.
struct Moment<'a> {
    year: i32,
    month: i32,
    day: i32,
    day_of_year: i32,
    weekday: i32,
    hour: i64,
    minute: i64,
    second: i64,
    microsecond: i64,
    offset_s: i32,
    zone: Option<&'a str>,
    is_interval: bool,
}

impl DateTimeTemplate {
    /// Appends a timestamp to `out`.
    pub(crate) fn write_datetime(&self, out: &mut String, value: &DateTimeParts<'_>) {
        let number = value.day.wrapping_add(UNIX_EPOCH);
        let (year, month, day) = date_of(number);
        let seconds = value.time_us / SECOND_US;
        let moment = Moment {
            year,
            month,
            day,
            day_of_year: number.wrapping_sub(day_number(year, 1, 1)).wrapping_add(1),
            weekday: weekday(number),
            hour: seconds / 3600,
            minute: seconds / 60 % 60,
            second: seconds % 60,
            microsecond: value.time_us % SECOND_US,
            offset_s: value.offset_s,
            zone: value.zone,
            is_interval: false,
        };
        self.write_moment(out, &moment);
    }

    /// Appends an interval to `out`. Fields of a calendar date are refused.
    pub(crate) fn write_interval(&self, out: &mut String, months: i32, days: i32, micros: i64) -> Result<(), TemplateError> {
        let calendar_only = |item: &Item| matches!(item, Item::Field(item) if needs_date(item.field));
        if self.items.iter().any(calendar_only) {
            return Err(TemplateError::format("invalid format specification for an interval value")
                .hint("Intervals are not tied to specific calendar dates."));
        }
        let seconds = micros / SECOND_US;
        let moment = Moment {
            year: months / 12,
            month: months % 12,
            day: days,
            day_of_year: months.wrapping_mul(30).wrapping_add(days),
            weekday: 0,
            hour: seconds / 3600,
            minute: seconds / 60 % 60,
            second: seconds % 60,
            microsecond: micros % SECOND_US,
            offset_s: 0,
            zone: None,
            is_interval: true,
        };
        self.write_moment(out, &moment);
        Ok(())
    }

    fn write_moment(&self, out: &mut String, moment: &Moment<'_>) {
        for item in &self.items {
            match item {
                Item::Space(character) | Item::Separator(character) | Item::Text(character) => out.push(*character),
                Item::Field(item) => write_field(out, item, moment),
            }
        }
    }
}

/// Whether a field has no meaning for an interval.
fn needs_date(field: Field) -> bool {
    matches!(
        field,
        Field::Era { .. }
            | Field::MonthName(_)
            | Field::MonthAbbreviation(_)
            | Field::DayName(_)
            | Field::DayAbbreviation(_)
            | Field::DayOfWeek
            | Field::IsoDayOfWeek
            | Field::Zone(_)
            | Field::ZoneHour
            | Field::ZoneMinute
            | Field::Offset
    )
}

fn write_field(out: &mut String, item: &FieldItem, moment: &Moment<'_>) {
    let (fill, name_fill) = (item.fill, item.fill || item.translated);
    let name = |names: &[&'static str], index: i32| usize::try_from(index).ok().and_then(|index| names.get(index).copied()).unwrap_or("");
    match item.field {
        Field::Meridiem { dotted, case } => {
            push_name(out, name(meridiems(dotted), i32::from(moment.hour % 24 >= 12)), case, 0);
        }
        Field::Era { dotted, case } => push_name(out, name(eras(dotted), i32::from(moment.year <= 0)), case, 0),
        Field::MonthName(case) => push_name(out, name(&MONTHS, moment.month - 1), case, if name_fill { 0 } else { 9 }),
        Field::MonthAbbreviation(case) => push_name(out, name(&MONTH_ABBREVIATIONS, moment.month - 1), case, 0),
        Field::DayName(case) => push_name(out, name(&DAYS, moment.weekday), case, if name_fill { 0 } else { 9 }),
        Field::DayAbbreviation(case) => push_name(out, name(&DAY_ABBREVIATIONS, moment.weekday), case, 0),
        Field::RomanMonth(case) => {
            if let Some(index) = roman_month(moment) {
                push_name(out, name(&ROMAN_MONTHS, index), case, if fill { 0 } else { 4 });
            }
        }
        Field::Zone(case) => push_name(out, moment.zone.unwrap_or(""), if case == Case::Upper { Case::Capital } else { case }, 0),
        Field::ZoneHour => push_offset_hours(out, moment, 2),
        Field::ZoneMinute => push_number(out, i64::from(moment.offset_s.abs() / 60 % 60), 2),
        Field::Offset => {
            push_offset_hours(out, moment, if fill { 0 } else { 2 });
            if moment.offset_s % 3600 != 0 {
                out.push(':');
                push_number(out, i64::from(moment.offset_s.abs() / 60 % 60), 2);
            }
        }
        Field::Exact => {}
        _ => {
            let start = out.len();
            if item.field == Field::YearWithComma {
                let year = shown_year(moment.year, moment);
                push_number(out, i64::from(year / 1000), 0);
                out.push(',');
                push_number(out, i64::from(year % 1000), 3);
            } else if let Some((value, width)) = number(item.field, fill, moment) {
                push_number(out, value, width);
            }
            if let (Some(case), true) = (item.ordinal, out.len() > start) {
                let suffix = ordinal_suffix(&out.as_bytes()[start..]);
                push_name(out, suffix, case, 0);
            }
        }
    }
}

/// A numeric field's value and its width with leading zeros, sign included.
fn number(field: Field, fill: bool, moment: &Moment<'_>) -> Option<(i64, usize)> {
    let date = (moment.year, moment.month, moment.day);
    let signed = |value: i64, width: usize| (value, if value < 0 { width + 1 } else { width });
    let (value, width) = match field {
        Field::Hour12 => {
            let hour = if moment.hour % 12 == 0 { 12 } else { moment.hour % 12 };
            (hour, if moment.hour < 0 { 3 } else { 2 })
        }
        Field::Hour24 => signed(moment.hour, 2),
        Field::Minute => signed(moment.minute, 2),
        Field::Second => signed(moment.second, 2),
        // The fraction has all of its digits with `FM`, too.
        Field::Millisecond => return Some((moment.microsecond / 1000, 3)),
        Field::Microsecond => return Some((moment.microsecond, 6)),
        Field::Fraction(digits) => return Some((moment.microsecond / 10_i64.pow(6 - digits as u32), digits)),
        Field::SecondOfDay => (moment.hour * 3600 + moment.minute * 60 + moment.second, 0),
        Field::Month => signed(moment.month.into(), 2),
        Field::DayOfYear => (moment.day_of_year.into(), 3),
        Field::IsoDayOfYear => (iso_year_day(date.0, date.1, date.2).into(), 3),
        Field::DayOfMonth => (moment.day.into(), 2),
        Field::DayOfWeek => (i64::from(moment.weekday) + 1, 0),
        Field::IsoDayOfWeek => (if moment.weekday == 0 { 7 } else { moment.weekday.into() }, 0),
        Field::Week => (i64::from(moment.day_of_year.wrapping_sub(1) / 7 + 1), 2),
        Field::IsoWeek => (iso_week(date.0, date.1, date.2).1.into(), 2),
        Field::WeekOfMonth => (i64::from(moment.day.wrapping_sub(1) / 7 + 1), 0),
        Field::Quarter => ((moment.month != 0).then(|| i64::from((moment.month - 1) / 3 + 1))?, 0),
        Field::JulianDay => (day_number(date.0, date.1, date.2).into(), 0),
        Field::Century => signed(century(moment), 2),
        Field::Year(digits) => year_digits(moment.year, digits, moment),
        Field::IsoYear(digits) => year_digits(iso_week(date.0, date.1, date.2).0, digits, moment),
        _ => return None,
    };
    Some((value, if fill { 0 } else { width }))
}

/// The last digits of a year. Their width follows the sign of the calendar year, also where the ISO year's differs.
fn year_digits(year: i32, digits: usize, moment: &Moment<'_>) -> (i64, usize) {
    let year = shown_year(year, moment);
    let shown = if digits < 4 { year % 10_i32.pow(digits as u32) } else { year };
    let width = match digits {
        1 => 0,
        _ if shown_year(moment.year, moment) < 0 => digits + 1,
        _ => digits,
    };
    (shown.into(), width)
}

/// Years before the first are counted backwards from 1; an interval's are just a number.
fn shown_year(year: i32, moment: &Moment<'_>) -> i32 {
    if moment.is_interval || year > 0 { year } else { 1_i32.wrapping_sub(year) }
}

fn century(moment: &Moment<'_>) -> i64 {
    let year = i64::from(moment.year);
    match (moment.is_interval, year > 0) {
        (true, _) => year / 100,
        (false, true) => (year - 1) / 100 + 1,
        (false, false) => year / 100 - 1,
    }
}

/// Where a month is in [`ROMAN_MONTHS`]. Negative months of an interval count from December; whole years are December or January.
fn roman_month(moment: &Moment<'_>) -> Option<i32> {
    match (moment.month, moment.year) {
        (0, 0) => None,
        (0, year) => Some(if year >= 0 { 0 } else { 11 }),
        (month, _) if month < 0 => Some(-(month + 1)),
        (month, _) => Some(12 - month),
    }
}

fn push_offset_hours(out: &mut String, moment: &Moment<'_>, width: usize) {
    out.push(if moment.offset_s >= 0 { '+' } else { '-' });
    push_number(out, i64::from(moment.offset_s.abs() / 3600), width);
}

fn push_number(out: &mut String, value: i64, width: usize) {
    // Writing to a string does not fail.
    let _ = write!(out, "{value:0width$}");
}

/// Appends a name with blanks up to `width`.
pub(super) fn push_name(out: &mut String, name: &str, case: Case, width: usize) {
    match case {
        Case::Upper => out.extend(name.chars().map(|character| character.to_ascii_uppercase())),
        Case::Lower => out.extend(name.chars().map(|character| character.to_ascii_lowercase())),
        Case::Capital => out.push_str(name),
    }
    out.extend(std::iter::repeat_n(' ', width.saturating_sub(name.len())));
}

/// What makes a number an ordinal one.
pub(super) fn ordinal_suffix(digits: &[u8]) -> &'static str {
    match digits {
        [.., b'1', _] => "TH",
        [.., b'1'] => "ST",
        [.., b'2'] => "ND",
        [.., b'3'] => "RD",
        _ => "TH",
    }
}
