//! Recorded answers of PostgreSQL 15 (`cases.tsv`): function, value, template, answer or `!SQLSTATE message | detail | hint`.

use super::calendar::{UNIX_EPOCH, date_of, day_number};
use super::resolve::Parsed;
use super::{DateTimeParts, DateTimeTemplate, Decimal, Number, NumberTemplate, TemplateError};

const DAY_US: i64 = 86_400_000_000;

#[test]
fn answers_are_those_of_postgresql() {
    let mut differences = Vec::new();
    let cases = include_str!("cases.tsv").lines().filter(|line| !line.starts_with('#'));
    for (index, case) in cases.enumerate() {
        let columns: Vec<String> = case.split('\t').map(unescape).collect();
        let [function, value, template, expected] = columns.as_slice() else { panic!("case {index} has four columns: {case}") };
        let got = answer(function, value, template);
        if got != *expected {
            differences.push(format!("{function}({value:?}, {template:?})\n  expected {expected:?}\n  got      {got:?}"));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn an_offset_comes_from_the_text_or_the_session() {
    let with_offset = DateTimeTemplate::new("YYYY-MM-DD HH24:MI TZH:TZM");
    let parsed = with_offset.read_datetime("2024-05-06 07:08 +05:30").unwrap();
    assert_eq!(parsed.timestamp(|_, _| panic!("the text has an offset")).unwrap(), 1_714_959_480_000_000);

    let without_offset = DateTimeTemplate::new("YYYY-MM-DD HH24:MI");
    let parsed = without_offset.read_datetime("2024-05-06 07:08").unwrap();
    let session = |day, time_us| {
        assert_eq!((day, time_us), (19_849, 25_680_000_000));
        8 * 3600
    };
    assert_eq!(parsed.timestamp(session).unwrap(), 1_714_950_480_000_000);
}

#[test]
fn digits_beyond_128_bits_are_refused() {
    let template = NumberTemplate::try_new(&"9".repeat(50)).unwrap();
    assert_eq!(template.read_number(&"9".repeat(38)).unwrap().unscaled, 10_i128.pow(38) - 1);
    assert_eq!(template.read_number(&"9".repeat(40)).unwrap_err().code, "22003");
}

/// Undoes the escapes of a column.
fn unescape(column: &str) -> String {
    let mut text = String::new();
    let mut characters = column.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => text.push(match characters.next() {
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some(other) => other,
                None => '\\',
            }),
            _ => text.push(character),
        }
    }
    text
}

/// A case's answer in the form in which it is recorded.
fn answer(function: &str, value: &str, template: &str) -> String {
    run(function, value, template).unwrap_or_else(|error| {
        let mut text = format!("!{} {error}", error.code);
        for more in error.detail.as_deref().into_iter().chain(error.hint) {
            text.push_str(" | ");
            text.push_str(more);
        }
        text
    })
}

fn run(function: &str, value: &str, template: &str) -> Result<String, TemplateError> {
    let mut out = String::new();
    match function {
        "timestamp" | "timestamptz" | "date" => DateTimeTemplate::new(template).write_datetime(&mut out, &parts(value)),
        "interval" => {
            let numbers: Vec<i64> = value.split(' ').map(|number| number.parse().expect("a number")).collect();
            DateTimeTemplate::new(template).write_interval(&mut out, numbers[0] as i32, numbers[1] as i32, numbers[2])?;
        }
        "to_timestamp" => out = timestamp_text(&DateTimeTemplate::new(template).read_datetime(value)?)?,
        "to_date" => out = date_text(DateTimeTemplate::new(template).read_datetime(value)?.date()?),
        "to_number" => {
            let decimal = NumberTemplate::try_new(template)?.read_number(value)?;
            out = decimal.fixed(0, decimal.scale as usize);
        }
        _ => NumberTemplate::try_new(template)?.write_number(&mut out, number(function, value))?,
    }
    Ok(out)
}

/// `year-month-day hour:minute:second.microsecond [BC] [@offset abbreviation]`
fn parts(value: &str) -> DateTimeParts<'_> {
    let (local, zone) = value.split_once(" @").map_or((value, None), |(local, zone)| (local, zone.split_once(' ')));
    let (local, is_bc) = local.strip_suffix(" BC").map_or((local, false), |local| (local, true));
    let numbers: Vec<i64> = local.split(['-', ' ', ':', '.']).map(|number| number.parse().expect("a number")).collect();
    let [year, month, day, hour, minute, second, microsecond] = numbers[..] else { panic!("seven numbers: {value}") };
    let year = if is_bc { 1 - year } else { year };
    DateTimeParts {
        day: day_number(year as i32, month as i32, day as i32) - UNIX_EPOCH,
        time_us: ((hour * 60 + minute) * 60 + second) * 1_000_000 + microsecond,
        offset_s: zone.map_or(0, |(offset, _)| offset.parse().expect("an offset")),
        zone: zone.map(|(_, abbreviation)| abbreviation),
    }
}

fn number(function: &str, value: &str) -> Number {
    match function {
        "int4" => Number::Int4(value.parse().expect("an integer")),
        "int8" => Number::Int8(value.parse().expect("an integer")),
        "float4" => Number::Float4(value.parse().expect("a float")),
        "float8" => Number::Float8(value.parse().expect("a float")),
        "numeric" => {
            let scale = value.find('.').map_or(0, |point| value.len() - point - 1) as i32;
            Number::Decimal(Decimal { unscaled: value.replace('.', "").parse().expect("digits"), scale })
        }
        _ => panic!("no function {function}"),
    }
}

/// A timestamp as PostgreSQL shows it in UTC.
fn timestamp_text(parsed: &Parsed<'_>) -> Result<String, TemplateError> {
    let micros = parsed.timestamp(|_, _| 0)?;
    let (seconds, fraction) = (micros.rem_euclid(DAY_US) / 1_000_000, micros.rem_euclid(1_000_000));
    let fraction = if fraction == 0 { String::new() } else { format!(".{fraction:06}").trim_end_matches('0').to_owned() };
    let date = date_text(micros.div_euclid(DAY_US) as i32);
    let (date, era) = date.strip_suffix(" BC").map_or((date.as_str(), ""), |date| (date, " BC"));
    Ok(format!("{date} {:02}:{:02}:{:02}{fraction}+00{era}", seconds / 3600, seconds / 60 % 60, seconds % 60))
}

fn date_text(day: i32) -> String {
    let (year, month, day) = date_of(day.wrapping_add(UNIX_EPOCH));
    let (year, era) = if year > 0 { (year, "") } else { (1 - year, " BC") };
    format!("{year:04}-{month:02}-{day:02}{era}")
}
