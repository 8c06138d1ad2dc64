//! Texts of time stamps: PostgreSQL reads `2011-11-06 13:00` and `12:00+00`, the engine only what is spelled out.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, StringArray};
use arrow::compute::kernels::cast_utils::string_to_datetime;
use arrow::compute::{CastOptions, cast, cast_with_options};
use arrow::datatypes::DataType;
use chrono::Utc;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::ScalarUDF;

use super::kernel::{Kernel, Returns, refused, uncast};
use crate::error::{Result, classify};

const NAME: &str = "timestamp_in";

/// Text to `target`, for columns.
pub(super) fn reader(target: &DataType) -> Arc<ScalarUDF> {
    Kernel { name: NAME, coerce, returns: Returns::This(target.clone()), type_name: None, run }.function()
}

fn coerce(given: &[DataType]) -> DfResult<Vec<DataType>> {
    if given.len() == 1 { Ok(vec![DataType::Utf8]) } else { refused(NAME) }
}

fn run(columns: &[ArrayRef], target: &DataType) -> Result<ArrayRef> {
    let [texts] = columns else { return Err(uncast(NAME)) };
    let options = CastOptions { safe: false, ..CastOptions::default() };
    // Nearly always the engine can read them all.
    if let Ok(times) = cast_with_options(texts, target, &options) {
        return Ok(times);
    }
    let texts = cast(texts, &DataType::Utf8).map_err(|error| classify(error.into()))?;
    let texts = texts.as_string_opt::<i32>().ok_or_else(|| uncast(NAME))?;
    let whole: StringArray = texts.iter().map(|text| text.map(|text| spelled_out(text).unwrap_or_else(|| text.to_owned()))).collect();
    cast_with_options(&whole, target, &options).map_err(|error| classify(error.into()))
}

/// `2024-07-01T12:00:00+00:00` for `2024-07-01 12:00+00`; `None` when nothing has to be added, or it is no time stamp.
pub(crate) fn spelled_out(text: &str) -> Option<String> {
    let (date, time) = text.trim().split_once([' ', 'T', 't'])?;
    let time = time.trim();
    let is_clock = |letter: char| letter.is_ascii_digit() || letter == ':' || letter == '.';
    let (clock, rest) = time.split_at(time.find(|letter: char| !is_clock(letter)).unwrap_or(time.len()));
    let mut parts = clock.split(':');
    let (hours, minutes, seconds) = (parts.next()?, parts.next()?, parts.next());
    let digits = |part: &str| matches!(part.len(), 1 | 2) && part.bytes().all(|byte| byte.is_ascii_digit());
    if parts.next().is_some() || !digits(hours) || !digits(minutes) || !date.contains('-') {
        return None;
    }
    let (hours, zone) = half_day(hours.parse().ok()?, rest.trim())?;
    let zone = offset(zone);
    if seconds.is_some() && zone.as_deref() == Some(rest) {
        return None;
    }
    let whole = format!("{date}T{hours:02}:{minutes:0>2}:{:0>2}{}", seconds.unwrap_or("00"), zone?);
    // What is wrong with a text is said of the text as it was written.
    string_to_datetime(&Utc, &whole).is_ok().then_some(whole)
}

/// The hour by a clock of 24, and what stands behind `AM` or `PM`.
fn half_day(hours: u32, rest: &str) -> Option<(u32, &str)> {
    let word = rest.get(..2).map(str::to_ascii_lowercase);
    let behind = || rest.get(2..).filter(|rest| !rest.starts_with(|next: char| next.is_ascii_alphabetic())).map(str::trim);
    match word.as_deref() {
        Some("am") if behind().is_some() => (1..=12).contains(&hours).then_some((hours % 12, behind()?)),
        Some("pm") if behind().is_some() => (1..=12).contains(&hours).then_some((hours % 12 + 12, behind()?)),
        _ => Some((hours, rest)),
    }
}

/// An offset with its minutes; a name behind a blank.
fn offset(text: &str) -> Option<String> {
    let Some((sign, number)) = text.split_at_checked(1).filter(|(sign, _)| matches!(*sign, "+" | "-")) else {
        return Some(match text {
            "" | "Z" => text.to_owned(),
            "z" => "Z".to_owned(),
            name if name.starts_with(|first: char| first.is_ascii_alphabetic()) => format!(" {name}"),
            _ => return None,
        });
    };
    let (hours, minutes) = match (number.split_once(':'), number.len()) {
        (Some((hours, minutes)), _) => (hours, minutes),
        (None, 4) => (number.get(..2)?, number.get(2..)?),
        (None, _) => (number, "00"),
    };
    let digits = |part: &str| matches!(part.len(), 1 | 2) && part.bytes().all(|byte| byte.is_ascii_digit());
    (digits(hours) && digits(minutes)).then(|| format!("{sign}{hours:0>2}:{minutes:0>2}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_added() {
        for (text, expected) in [
            ("2011-11-06 13:00", "2011-11-06T13:00:00"),
            ("2024-07-01 12:00+00", "2024-07-01T12:00:00+00:00"),
            ("2024-07-01 12:00:05.5 -0330", "2024-07-01T12:00:05.5-03:30"),
            ("2024-07-01T9:05 PM", "2024-07-01T21:05:00"),
            ("2024-07-01 12:30 am +2", "2024-07-01T00:30:00+02:00"),
            ("2024-07-01 12:00 Europe/Berlin", "2024-07-01T12:00:00 Europe/Berlin"),
        ] {
            assert_eq!(spelled_out(text).as_deref(), Some(expected), "{text}");
        }
        for other in
            ["2024-07-01", "2024-07-01 12:00:00", "2024-07-01T12:00:00Z", "x y", "2024-07-01 12", "2024-07-01 13:00 pm", "1 1:1:1:1"]
        {
            assert_eq!(spelled_out(other), None, "{other}");
        }
    }
}
