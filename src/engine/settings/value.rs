//! Values of settings: text in, canonical text out, and the way `SHOW` prints them.

use std::str::FromStr;

use portrait_udfs::error::{Error, Result};

use super::{Definition, Kind, Unit};

/// The canonical text of `text` as a value of `definition`.
///
/// # Errors
/// `InvalidParameter` when it is not one.
pub(super) fn parse(definition: &Definition, text: &str) -> Result<String> {
    let trimmed = text.trim();
    match definition.kind {
        Kind::Bool => boolean(trimmed)
            .map(|value| if value { "on" } else { "off" }.to_owned())
            .ok_or_else(|| Error::invalid(format!("parameter \"{}\" requires a Boolean value", definition.name))),
        Kind::Integer { min, max, unit } => {
            let value = integer(trimmed, unit).ok_or_else(|| invalid(definition, text).hint(unit.hint()))?;
            if value < min || value > max {
                return Err(Error::invalid(format!(
                    "{value}{} is outside the valid range for parameter \"{}\" ({min} .. {max})",
                    unit.suffix(),
                    definition.name
                )));
            }
            Ok(value.to_string())
        }
        Kind::Real { min, max } => match trimmed.parse::<f64>() {
            Ok(value) if value >= min && value <= max => Ok(trimmed.to_owned()),
            Ok(value) => {
                Err(Error::invalid(format!("{value} is outside the valid range for parameter \"{}\" ({min} .. {max})", definition.name)))
            }
            Err(_) => Err(invalid(definition, text)),
        },
        Kind::Enum(values) => values
            .iter()
            .find(|value| value.eq_ignore_ascii_case(trimmed))
            .map(|&value| value.to_owned())
            .ok_or_else(|| invalid(definition, text).hint(format!("Available values: {}.", values.join(", ")))),
        Kind::Text => Ok(text.to_owned()),
        Kind::TimeZone => time_zone(trimmed)
            .ok_or_else(|| invalid(definition, text).hint("Use a name such as 'Europe/Berlin', 'UTC' or an offset such as '+02:00'.")),
        Kind::DateStyle => date_style(trimmed).ok_or_else(|| invalid(definition, text)),
    }
}

/// A canonical text as `SHOW` prints it.
pub(super) fn print(definition: &Definition, raw: &str) -> String {
    let Kind::Integer { unit, .. } = definition.kind else { return raw.to_owned() };
    let Ok(value) = raw.parse::<i64>() else { return raw.to_owned() };
    if value <= 0 {
        return raw.to_owned();
    }
    match unit.steps().iter().rev().find(|(_, size)| value % size == 0) {
        Some((name, size)) => format!("{}{name}", value / size),
        None => raw.to_owned(),
    }
}

/// The Booleans that PostgreSQL reads: unique prefixes of true, false, yes, no; on, off; 1, 0.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    let lower = text.to_ascii_lowercase();
    if lower.is_empty() {
        return None;
    }
    if "true".starts_with(&lower) || "yes".starts_with(&lower) || lower == "on" || lower == "1" {
        return Some(true);
    }
    let off = "false".starts_with(&lower) || "no".starts_with(&lower) || lower == "0" || ["of", "off"].contains(&lower.as_str());
    off.then_some(false)
}

fn integer(text: &str, unit: Unit) -> Option<i64> {
    let split = text.char_indices().find(|&(at, c)| !(c.is_ascii_digit() || (at == 0 && (c == '-' || c == '+')) || c == '.'));
    let (number, name) = text.split_at(split.map_or(text.len(), |(at, _)| at));
    let number: f64 = number.parse().ok()?;
    let name = name.trim();
    let factor = if name.is_empty() { 1 } else { unit.steps().iter().find(|(step, _)| *step == name)?.1 };
    let value = (number * factor as f64).round();
    (value.abs() < 9.0e15).then_some(value as i64)
}

/// A time zone's canonical name; `None` when it is not one.
pub(crate) fn time_zone(text: &str) -> Option<String> {
    let bare = text.trim_matches('\'');
    if bare.eq_ignore_ascii_case("utc") || bare.eq_ignore_ascii_case("gmt") || bare.eq_ignore_ascii_case("z") {
        return Some(if bare.eq_ignore_ascii_case("gmt") { "GMT" } else { "UTC" }.to_owned());
    }
    if bare.eq_ignore_ascii_case("default") || bare.eq_ignore_ascii_case("local") {
        return Some("UTC".to_owned());
    }
    // `SET TIME ZONE 2` is an offset in hours, east positive.
    if let Ok(hours) = bare.parse::<f64>() {
        let minutes = (hours * 60.0).round() as i64;
        if minutes.abs() > 15 * 60 {
            return None;
        }
        let sign = if minutes < 0 { '-' } else { '+' };
        return Some(format!("{sign}{:02}:{:02}", minutes.abs() / 60, minutes.abs() % 60));
    }
    let zone = arrow::array::timezone::Tz::from_str(bare);
    if zone.is_ok() {
        return Some(bare.to_owned());
    }
    // Names are matched in any case, as PostgreSQL does: `europe/berlin`.
    let titled: String = bare
        .split_inclusive(['/', '_', '-'])
        .map(|part| {
            let mut letters = part.chars();
            letters.next().map_or_else(String::new, |c| c.to_uppercase().to_string() + &letters.as_str().to_lowercase())
        })
        .collect();
    arrow::array::timezone::Tz::from_str(&titled).ok().map(|_| titled)
}

/// `ISO`, `ISO, MDY` …: this server prints ISO dates only, whatever order it is told to read.
fn date_style(text: &str) -> Option<String> {
    let mut order = "MDY";
    for part in text.split(',').map(|part| part.trim().to_ascii_uppercase()) {
        match part.as_str() {
            "ISO" | "DEFAULT" => {}
            "MDY" | "US" | "NONEURO" | "NONEUROPEAN" => order = "MDY",
            "DMY" | "EURO" | "EUROPEAN" => order = "DMY",
            "YMD" => order = "YMD",
            _ => return None,
        }
    }
    Some(format!("ISO, {order}"))
}

fn invalid(definition: &Definition, text: &str) -> Error {
    Error::invalid(format!("invalid value for parameter \"{}\": \"{text}\"", definition.name))
}

impl Unit {
    fn steps(self) -> &'static [(&'static str, i64)] {
        match self {
            Self::None => &[],
            Self::Milliseconds => &[("ms", 1), ("s", 1000), ("min", 60_000), ("h", 3_600_000), ("d", 86_400_000)],
            Self::Kilobytes => &[("kB", 1), ("MB", 1024), ("GB", 1024 * 1024), ("TB", 1024 * 1024 * 1024)],
        }
    }

    fn suffix(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Milliseconds => " ms",
            Self::Kilobytes => " kB",
        }
    }

    fn hint(self) -> &'static str {
        match self {
            Self::None => "Write a whole number.",
            Self::Milliseconds => "Valid units for this parameter are \"ms\", \"s\", \"min\", \"h\", and \"d\".",
            Self::Kilobytes => "Valid units for this parameter are \"kB\", \"MB\", \"GB\", and \"TB\".",
        }
    }
}
