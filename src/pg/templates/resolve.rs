//! From the fields of a text to the timestamp or date that they mean.

use super::calendar::{UNIX_EPOCH, date_of, day_number, days_before, is_leap, iso_week_start};
use super::error::TemplateError;
use super::fields::Convention;
use super::keywords::DateTimeTemplate;
use super::read::Fields;

const DAY_US: i64 = 86_400_000_000;
const SECOND_US: i64 = 1_000_000;
/// 2000-01-01, from which PostgreSQL counts, in days since 1970-01-01.
const POSTGRES_EPOCH: i64 = 10_957;
/// The last date's Julian day, 5874897-12-31, and one.
const DATE_END: i32 = 2_147_483_494;
/// 294277-01-01, which no timestamp reaches, in days since 1970-01-01.
const TIMESTAMP_END: i64 = 106_762_048;
/// Offsets from UTC are less than 16 hours.
const OFFSET_HOUR_MAX: i32 = 15;

/// A text that was read: a local date and time, not yet checked against the range of the type that it becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parsed<'a> {
    /// Year (0 is 1 BC), month and day; 30 February when the text had no year.
    date: (i32, i32, i32),
    time_us: i64,
    /// Seconds east of UTC, if the text says so (`TZH`, `TZM`).
    offset_s: Option<i32>,
    /// Digits of the fraction (`FF1` to `FF6`), if the template says so.
    precision: Option<usize>,
    /// What was read, for messages.
    text: &'a str,
}

/// A date while it is put together, and which of its parts are known.
struct Date {
    year: i32,
    month: i32,
    day: i32,
    has_year: bool,
    has_month: bool,
    has_day: bool,
}

impl DateTimeTemplate {
    /// Reads a text. An empty template reads every text as midnight of 1 January, 1 BC.
    pub(crate) fn read_datetime<'a>(&self, text: &'a str) -> Result<Parsed<'a>, TemplateError> {
        let mut fields = self.read_fields(text)?;
        let (hour, minute, second) = time(&fields)?;
        let date = date(&mut fields)?;
        let microsecond = fields.millisecond.wrapping_mul(1000).wrapping_add(fields.microsecond);
        let in_range = date.exists()
            && (0..24).contains(&hour)
            && (0..60).contains(&minute)
            && (0..60).contains(&second)
            && (0..1_000_000).contains(&microsecond);
        if !in_range {
            return Err(TemplateError::field_overflow(text));
        }
        let seconds = i64::from(hour) * 3600 + i64::from(minute) * 60 + i64::from(second);
        Ok(Parsed {
            date: (date.year, date.month, date.day),
            time_us: seconds * SECOND_US + i64::from(microsecond),
            offset_s: offset(&fields, text)?,
            precision: (fields.precision > 0).then_some(fields.precision),
            text,
        })
    }
}

impl Parsed<'_> {
    /// `to_timestamp`: microseconds since 1970-01-01 UTC. `session_offset_s` gives the session's offset from UTC at a local
    /// time, as days since 1970-01-01 and microseconds since midnight; it is asked unless the text has an offset itself.
    /// The last 30 years of PostgreSQL's range do not fit and are out of range here.
    pub(crate) fn timestamp(&self, session_offset_s: impl FnOnce(i32, i64) -> i32) -> Result<i64, TemplateError> {
        let out_of_range = || TemplateError::new("22008", "timestamp out of range");
        let day = self.day().ok_or_else(out_of_range)?;
        let offset_s = self.offset_s.unwrap_or_else(|| session_offset_s(day, self.time_us));
        // Counted from 2000, as rounding goes away from there.
        let since_epoch = (i64::from(day) - POSTGRES_EPOCH)
            .checked_mul(DAY_US)
            .and_then(|since| since.checked_add(self.time_us - i64::from(offset_s) * SECOND_US))
            .filter(|since| (-i64::from(UNIX_EPOCH) - POSTGRES_EPOCH..TIMESTAMP_END - POSTGRES_EPOCH).contains(&since.div_euclid(DAY_US)))
            .ok_or_else(out_of_range)?;
        let rounded = match self.precision {
            Some(digits) if digits < 6 => {
                let unit = 10_i64.pow(6 - digits as u32);
                (since_epoch + since_epoch.signum() * (unit / 2)) / unit * unit
            }
            _ => since_epoch,
        };
        rounded.checked_add(POSTGRES_EPOCH * DAY_US).ok_or_else(out_of_range)
    }

    /// `to_date`: days since 1970-01-01.
    pub(crate) fn date(&self) -> Result<i32, TemplateError> {
        self.day().ok_or_else(|| TemplateError::new("22008", format!("date out of range: \"{}\"", self.text)))
    }

    /// Days since 1970-01-01, from the first Julian day to the last date.
    fn day(&self) -> Option<i32> {
        let (year, month, day) = self.date;
        let in_range = (year, month) >= (-4713, 11) && (year, month) < (5_874_898, 6);
        let number = in_range.then(|| day_number(year, month, day))?;
        (0..DATE_END).contains(&number).then_some(number - UNIX_EPOCH)
    }
}

fn time(fields: &Fields) -> Result<(i32, i32, i32), TemplateError> {
    let seconds = fields.second_of_day;
    let or = |value: i32, otherwise: i32| if value != 0 { value } else { otherwise };
    let mut hour = or(fields.hour, seconds / 3600);
    if fields.is_12_hour {
        if !(1..=12).contains(&hour) {
            return Err(TemplateError::format(format!("hour \"{hour}\" is invalid for the 12-hour clock"))
                .hint("Use the 24-hour clock, or give an hour between 1 and 12."));
        }
        hour = hour % 12 + if fields.is_pm != 0 { 12 } else { 0 };
    }
    Ok((hour, or(fields.minute, seconds % 3600 / 60), or(fields.second, seconds % 60)))
}

fn date(fields: &mut Fields) -> Result<Date, TemplateError> {
    let mut date = Date { year: 0, month: 1, day: 1, has_year: false, has_month: false, has_day: false };
    if let Some(year) = year(fields) {
        date.year = year;
        date.has_year = true;
    }
    if fields.julian_day != 0 {
        date.set(fields.julian_day);
    }
    if fields.week != 0 {
        if fields.convention == Some(Convention::IsoWeek) {
            // Sunday, 1, is the last day of an ISO week; no day at all is its Monday.
            let since_monday = match fields.weekday {
                0 => 0,
                weekday if weekday > 1 => weekday - 2,
                _ => 6,
            };
            date.set(iso_week_start(date.year, fields.week).wrapping_add(since_monday));
        } else {
            fields.day_of_year = first_of_week(fields.week);
        }
    }
    if fields.week_of_month != 0 {
        fields.day = first_of_week(fields.week_of_month);
    }
    if fields.day != 0 {
        date.day = fields.day;
        date.has_day = true;
    }
    if fields.month != 0 {
        date.month = fields.month;
        date.has_month = true;
    }
    if fields.day_of_year != 0 && (date.month <= 1 || date.day <= 1) {
        if date.year == 0 && fields.is_bc == 0 {
            return Err(TemplateError::format("cannot calculate day of year without year information"));
        }
        if fields.convention == Some(Convention::IsoWeek) {
            date.set(iso_week_start(date.year, 1).wrapping_sub(1).wrapping_add(fields.day_of_year));
        } else {
            date.set_day_of_year(fields.day_of_year);
        }
    }
    Ok(date)
}

fn first_of_week(week: i32) -> i32 {
    week.wrapping_sub(1).wrapping_mul(7).wrapping_add(1)
}

/// The year, 0 being 1 BC. A century fills up a year of one or two digits, or stands for its own first year.
fn year(fields: &Fields) -> Option<i32> {
    let is_bc = fields.is_bc != 0;
    let century = if is_bc { fields.century.wrapping_neg() } else { fields.century };
    if fields.year == 0 {
        let first = if century >= 0 { century.wrapping_sub(1) } else { century };
        return (century != 0).then(|| first.wrapping_mul(100).wrapping_add(1));
    }
    if century != 0 && fields.year_digits <= 2 {
        let year = fields.year % 100;
        return Some(match (year, century >= 0) {
            (0, true) => century.wrapping_mul(100),
            (0, false) => century.wrapping_mul(100).wrapping_add(1),
            (_, true) => century.wrapping_sub(1).wrapping_mul(100).wrapping_add(year),
            (_, false) => century.wrapping_add(1).wrapping_mul(100).wrapping_sub(year).wrapping_add(1),
        });
    }
    let year = if is_bc { fields.year.wrapping_neg() } else { fields.year };
    Some(if year < 0 { year + 1 } else { year })
}

/// Seconds east of UTC.
fn offset(fields: &Fields, text: &str) -> Result<Option<i32>, TemplateError> {
    if fields.offset_sign == 0 {
        return Ok(None);
    }
    if !(0..=OFFSET_HOUR_MAX).contains(&fields.offset_hour) || !(0..60).contains(&fields.offset_minute) {
        return Err(TemplateError::new("22009", format!("time zone displacement out of range: \"{text}\"")));
    }
    Ok(Some(fields.offset_sign * (fields.offset_hour * 60 + fields.offset_minute) * 60))
}

impl Date {
    fn set(&mut self, number: i32) {
        (self.year, self.month, self.day) = date_of(number);
        (self.has_year, self.has_month, self.has_day) = (true, true, true);
    }

    /// Month and day, as far as they are not known, from the day of the year.
    fn set_day_of_year(&mut self, day_of_year: i32) {
        let months = (1..=12).find(|months| day_of_year <= days_before(self.year, *months)).unwrap_or(13);
        if self.month <= 1 {
            self.month = months as i32;
        }
        if self.day <= 1 {
            self.day = day_of_year.wrapping_sub(days_before(self.year, months - 1));
        }
        (self.has_month, self.has_day) = (true, true);
    }

    /// Whether the calendar has the date, as far as the text gives it: without a year every month has 31 days.
    fn exists(&self) -> bool {
        let month_length = match self.month {
            2 if self.has_year && self.has_month => 28 + i32::from(is_leap(self.year)),
            4 | 6 | 9 | 11 if self.has_year && self.has_month => 30,
            _ => 31,
        };
        (!self.has_month || (1..=12).contains(&self.month)) && (!self.has_day || (1..=month_length).contains(&self.day))
    }
}
