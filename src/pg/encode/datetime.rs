//! Dates, times and intervals as PostgreSQL writes them (ISO date style, `postgres` interval style).

use std::str::FromStr;

use arrow::array::timezone::Tz;
use bytes::{BufMut, BytesMut};
use chrono::{DateTime, Offset, TimeZone};

const DAY_US: i64 = 86_400_000_000;
/// Days from 1970-01-01 to 2000-01-01, where PostgreSQL's binary formats begin.
pub(super) const EPOCH_DAYS: i32 = 10_957;
/// The same in microseconds.
pub(super) const EPOCH_US: i64 = EPOCH_DAYS as i64 * DAY_US;

/// A time zone for rendering. The default is UTC.
#[derive(Debug, Clone, Default)]
pub(crate) enum Zone {
    /// UTC.
    #[default]
    Utc,
    /// A named zone or a fixed offset.
    Named(Tz),
}

impl Zone {
    /// A zone by name or offset; `None` when there is none such.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        if ["utc", "gmt", "z", "etc/utc", "zulu", "universal"].iter().any(|utc| name.eq_ignore_ascii_case(utc)) {
            return Some(Self::Utc);
        }
        Tz::from_str(name).ok().map(Self::Named)
    }

    /// Seconds east of UTC at an instant.
    fn offset_s(&self, us: i64) -> i32 {
        match self {
            Self::Utc => 0,
            Self::Named(zone) => DateTime::from_timestamp_micros(us)
                .map_or(0, |instant| zone.offset_from_utc_datetime(&instant.naive_utc()).fix().local_minus_utc()),
        }
    }
}

/// `2024-02-29`, with more digits after the year 9999 and ` BC` before the year 1.
pub(super) fn write_date(days: i64, output: &mut BytesMut) {
    let (year, month, day) = civil(days);
    write_civil(year, month, day, output);
    if year <= 0 {
        output.put_slice(b" BC");
    }
}

fn write_civil(year: i64, month: u8, day: u8, output: &mut BytesMut) {
    let shown = if year <= 0 { 1 - year } else { year };
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(shown).as_bytes();
    output.put_bytes(b'0', 4_usize.saturating_sub(digits.len()));
    output.put_slice(digits);
    output.put_u8(b'-');
    two(month.into(), output);
    output.put_u8(b'-');
    two(day.into(), output);
}

/// `13:05:00.25`: the fraction without trailing zeros.
pub(super) fn write_time(us: i64, output: &mut BytesMut) {
    two((us / 3_600_000_000) as u64, output);
    output.put_u8(b':');
    two((us / 60_000_000 % 60) as u64, output);
    output.put_u8(b':');
    write_seconds(us.unsigned_abs() % 60_000_000, output);
}

fn write_seconds(us: u64, output: &mut BytesMut) {
    two(us / 1_000_000, output);
    let (mut fraction, mut digits) = (us % 1_000_000, 6);
    if fraction == 0 {
        return;
    }
    while fraction % 10 == 0 {
        fraction /= 10;
        digits -= 1;
    }
    output.put_u8(b'.');
    let mut buffer = itoa::Buffer::new();
    let text = buffer.format(fraction).as_bytes();
    output.put_bytes(b'0', digits - text.len());
    output.put_slice(text);
}

/// `2024-02-29 13:05:00`, with the offset when a zone is given. `separator` is a blank, or `T` in JSON.
pub(super) fn write_timestamp(us: i64, zone: Option<&Zone>, separator: u8, output: &mut BytesMut) {
    let offset_s = zone.map(|zone| zone.offset_s(us));
    let local = i128::from(us) + i128::from(offset_s.unwrap_or_default()) * 1_000_000;
    let (days, time) = (local.div_euclid(DAY_US.into()) as i64, local.rem_euclid(DAY_US.into()) as i64);
    let (year, month, day) = civil(days);
    write_civil(year, month, day, output);
    output.put_u8(separator);
    write_time(time, output);
    if let Some(offset_s) = offset_s {
        write_offset(offset_s, separator == b'T', output);
    }
    if year <= 0 {
        output.put_slice(b" BC");
    }
}

/// `+02`, `-03:30`; always with minutes in JSON.
fn write_offset(offset_s: i32, minutes_always: bool, output: &mut BytesMut) {
    output.put_u8(if offset_s < 0 { b'-' } else { b'+' });
    let (hours, minutes, seconds) = (offset_s.abs() / 3600, offset_s.abs() / 60 % 60, offset_s.abs() % 60);
    two(hours as u64, output);
    if minutes != 0 || seconds != 0 || minutes_always {
        output.put_u8(b':');
        two(minutes as u64, output);
    }
    if seconds != 0 {
        output.put_u8(b':');
        two(seconds as u64, output);
    }
}

/// `1 year 2 mons -3 days +04:05:06.5`, after PostgreSQL's `EncodeInterval`.
pub(super) fn write_interval(months: i32, days: i32, us: i64, output: &mut BytesMut) {
    let start = output.len();
    let mut negative_before = false;
    for (value, unit) in [(months / 12, "year"), (months % 12, "mon"), (days, "day")] {
        if value == 0 {
            continue;
        }
        if output.len() > start {
            output.put_u8(b' ');
        }
        if negative_before && value > 0 {
            output.put_u8(b'+');
        }
        output.put_slice(itoa::Buffer::new().format(value).as_bytes());
        output.put_u8(b' ');
        output.put_slice(unit.as_bytes());
        if value != 1 {
            output.put_u8(b's');
        }
        negative_before = value < 0;
    }
    if us == 0 && output.len() > start {
        return;
    }
    if output.len() > start {
        output.put_u8(b' ');
    }
    if us < 0 {
        output.put_u8(b'-');
    } else if negative_before {
        output.put_u8(b'+');
    }
    let us = us.unsigned_abs();
    two(us / 3_600_000_000, output);
    output.put_u8(b':');
    two(us / 60_000_000 % 60, output);
    output.put_u8(b':');
    write_seconds(us % 60_000_000, output);
}

/// At least two digits.
fn two(value: u64, output: &mut BytesMut) {
    if value < 10 {
        output.put_u8(b'0');
    }
    output.put_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// The proleptic Gregorian date of a day counted from 1970-01-01 (Hinnant, "chrono-compatible low-level date algorithms").
fn civil(days: i64) -> (i64, u8, u8) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_shifted = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * month_shifted + 2) / 5 + 1) as u8;
    let month = if month_shifted < 10 { month_shifted + 3 } else { month_shifted - 9 } as u8;
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut BytesMut)) -> String {
        let mut output = BytesMut::new();
        write(&mut output);
        String::from_utf8(output.to_vec()).unwrap()
    }

    #[test]
    fn dates_reach_both_ends() {
        for (days, expected) in
            [(0, "1970-01-01"), (19_782, "2024-02-29"), (-719_162, "0001-01-01"), (-719_163, "0001-12-31 BC"), (2_932_897, "10000-01-01")]
        {
            assert_eq!(text(|output| write_date(days, output)), expected);
        }
    }

    #[test]
    fn timestamps_trim_their_fraction() {
        for (us, expected) in [
            (0, "1970-01-01 00:00:00"),
            (1, "1970-01-01 00:00:00.000001"),
            (1_500_000, "1970-01-01 00:00:01.5"),
            (-1, "1969-12-31 23:59:59.999999"),
        ] {
            assert_eq!(text(|output| write_timestamp(us, None, b' ', output)), expected);
        }
    }

    #[test]
    fn zones_show_their_offset() {
        let zoned = |zone: &str| text(|output| write_timestamp(1_720_000_000_000_000, Zone::parse(zone).as_ref(), b' ', output));
        assert_eq!(zoned("UTC"), "2024-07-03 09:46:40+00");
        assert_eq!(zoned("Europe/Berlin"), "2024-07-03 11:46:40+02");
        assert_eq!(zoned("Asia/Kolkata"), "2024-07-03 15:16:40+05:30");
        assert!(Zone::parse("Mars/Olympus").is_none());
    }

    #[test]
    fn intervals_sign_each_part() {
        for (months, days, us, expected) in [
            (0, 0, 0, "00:00:00"),
            (14, 3, 4 * 3_600_000_000 + 5_500_000, "1 year 2 mons 3 days 04:00:05.5"),
            (-1, 1, 0, "-1 mons +1 day"),
            (0, -1, 3_600_000_000, "-1 days +01:00:00"),
            (0, 0, -90_000_000, "-00:01:30"),
            (0, 0, 100 * 3_600_000_000, "100:00:00"),
        ] {
            assert_eq!(text(|output| write_interval(months, days, us, output)), expected);
        }
    }
}
