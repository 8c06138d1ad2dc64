//! Texts and times to numbers.

use std::collections::HashMap;

use chrono::{DateTime, Datelike, Timelike, Utc};

use super::apply::{Keys, categories, wrong};
use super::column::{Coded, Column, Values};
use super::fitted::Encoding;
use crate::error::{Error, Result};
use crate::kernels::intern::NULL_CODE;
use crate::kernels::prepare::folds;
use crate::kernels::words;

/// The place of every text of `coded` among the sorted `known`; none for one that is not there.
fn places<'a>(coded: &'a Coded, known: &'a [String]) -> impl Iterator<Item = Option<usize>> + 'a {
    coded.values.iter().map(|text| known.binary_search_by(|found| found.as_str().cmp(text)).ok())
}

/// The number of each row's category.
pub(super) fn by_category(coded: &Coded, known: &[String], numbers: &[f64], unseen: f64, missing: f64) -> Vec<f64> {
    let number = |place: Option<usize>| place.and_then(|place| numbers.get(place).copied()).unwrap_or(unseen);
    let by_code: Vec<f64> = places(coded, known).map(number).collect();
    coded.map(&by_code, missing)
}

/// The place; one more than the last for a category that was not seen, missing for a missing one.
pub(super) fn ordinal(coded: &Coded, known: &[String]) -> Vec<f64> {
    let by_code: Vec<f64> = places(coded, known).map(|place| place.unwrap_or(known.len()) as f64).collect();
    coded.map(&by_code, f64::NAN)
}

/// `name=category` for every category, `name_other` and `name_missing`: exactly one of them is 1.
pub(super) fn one_hot(name: &str, coded: &Coded, known: &[String], made: &mut Vec<Column>) {
    let (other, missing) = (known.len(), known.len() + 1);
    let by_code: Vec<usize> = places(coded, known).map(|place| place.unwrap_or(other)).collect();
    let mut columns = vec![vec![0.0; coded.codes.len()]; known.len() + 2];
    for (row, code) in coded.codes.iter().enumerate() {
        let place = by_code.get(*code as usize).copied().unwrap_or(missing);
        if let Some(cell) = columns.get_mut(place).and_then(|column| column.get_mut(row)) {
            *cell = 1.0;
        }
    }
    let names = known.iter().map(|category| format!("{name}={category}")).chain([format!("{name}_other"), format!("{name}_missing")]);
    made.extend(names.zip(columns).map(|(name, values)| Column::new(name, Values::Numbers(values))));
}

/// The mean of the target of each row's category, without the row's own fold when its key is at hand.
pub(super) fn target(
    coded: &Coded,
    known: &[String],
    whole: &Encoding,
    without_fold: &[Encoding],
    key: &str,
    keys: Option<&Keys>,
) -> Result<Vec<f64>> {
    let Some(keys) = keys else { return Ok(by_category(coded, known, &whole.means, whole.unseen, whole.missing)) };
    let folds = fold_of_rows(keys.get(key), without_fold.len() as u32, key)?;
    let places: Vec<Option<usize>> = places(coded, known).collect();
    let row = |(code, fold): (&u32, &u32)| {
        let encoding = without_fold.get(*fold as usize).unwrap_or(whole);
        match *code {
            NULL_CODE => encoding.missing,
            code => {
                let place = places.get(code as usize).copied().flatten();
                place.and_then(|place| encoding.means.get(place).copied()).unwrap_or(encoding.unseen)
            }
        }
    };
    Ok(coded.codes.iter().zip(&folds).map(row).collect())
}

/// The fold of every row. Rows without a key share one.
pub(super) fn fold_of_rows(key: Option<&Column>, folds: u32, name: &str) -> Result<Vec<u32>> {
    let Some(Column { values: Values::Categories(coded), .. }) = key else {
        return Err(Error::internal(format!("the key \"{name}\" was not read")));
    };
    let by_code: Vec<u32> = coded.values.iter().map(|text| folds::fold(text, folds)).collect();
    Ok(coded.codes.iter().map(|code| by_code.get(*code as usize).copied().unwrap_or(0)).collect())
}

/// The bucket of each category; a missing one stays missing.
pub(super) fn hash(coded: &Coded, buckets: u32) -> Vec<f64> {
    let by_code: Vec<f64> = coded.values.iter().map(|text| f64::from(words::bucket(text, buckets))).collect();
    coded.map(&by_code, f64::NAN)
}

/// How many words of each row's text fall into each bucket; a missing text has none.
pub(super) fn tokens(name: &str, coded: &Coded, buckets: u32, made: &mut Vec<Column>) {
    let mut columns = vec![vec![0.0; coded.codes.len()]; buckets as usize];
    let counted: Vec<HashMap<u32, f64>> = coded
        .values
        .iter()
        .map(|text| {
            let mut counts = HashMap::new();
            words::words(text, |word| *counts.entry(words::bucket(word, buckets)).or_default() += 1.0);
            counts
        })
        .collect();
    for (row, code) in coded.codes.iter().enumerate() {
        for (bucket, count) in counted.get(*code as usize).into_iter().flatten() {
            if let Some(cell) = columns.get_mut(*bucket as usize).and_then(|column| column.get_mut(row)) {
                *cell = *count;
            }
        }
    }
    let named = columns.into_iter().enumerate();
    made.extend(named.map(|(i, values)| Column::new(format!("{name}_token{i}"), Values::Numbers(values))));
}

/// The categories of several columns as one; missing where one of them is. The parts are told apart: a separator inside
/// one is doubled.
pub(super) fn cross(columns: Vec<Column>) -> Result<Column> {
    let name = columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join("_x_");
    let coded = columns.into_iter().map(categories).collect::<Result<Vec<_>>>()?;
    let rows = coded.first().map_or(0, |coded| coded.codes.len());
    let mut crossed = Coded::default();
    let mut text = String::new();
    for row in 0..rows {
        text.clear();
        let mut whole = true;
        for (i, part) in coded.iter().enumerate() {
            let Some(value) = part.get(row) else {
                whole = false;
                break;
            };
            if i > 0 {
                text.push('|');
            }
            text.push_str(&value.replace('|', "||"));
        }
        crossed.push(whole.then_some(text.as_str()));
    }
    Ok(Column::new(name, Values::Categories(crossed)))
}

/// Parts of each row's time.
pub(super) fn date_parts(name: &str, column: Column, parts: &[String], made: &mut Vec<Column>) -> Result<()> {
    let Values::Times(times) = column.values else { return Err(wrong(name, "a date or a time")) };
    let times: Vec<Option<DateTime<Utc>>> = times.iter().map(|us| us.and_then(DateTime::from_timestamp_micros)).collect();
    for part in parts {
        let values = times.iter().map(|time| time.as_ref().map_or(f64::NAN, |time| date_part(time, part))).collect();
        made.push(Column::new(format!("{name}_{part}"), Values::Numbers(values)));
    }
    Ok(())
}

/// As PostgreSQL's `date_part` in UTC; Sunday is day 0, weeks are ISO's. A cycle's sine and cosine begin at its first value.
fn date_part(time: &DateTime<Utc>, part: &str) -> f64 {
    let (base, turn) = match part.rsplit_once('_') {
        Some((base, turn @ ("sin" | "cos"))) => (base, Some(turn)),
        _ => (part, None),
    };
    let dow = time.weekday().num_days_from_sunday();
    let days_of_month = |time: &DateTime<Utc>| f64::from(time.date_naive().num_days_in_month());
    let (value, first, length) = match base {
        "year" => (f64::from(time.year()), 0.0, f64::INFINITY),
        "quarter" => (f64::from(time.month0() / 3 + 1), 1.0, 4.0),
        "month" => (f64::from(time.month()), 1.0, 12.0),
        "week" => (f64::from(time.iso_week().week()), 1.0, 53.0),
        "day" => (f64::from(time.day()), 1.0, days_of_month(time)),
        "doy" => (f64::from(time.ordinal()), 1.0, if time.date_naive().leap_year() { 366.0 } else { 365.0 }),
        "dow" => (f64::from(dow), 0.0, 7.0),
        "hour" => (f64::from(time.hour()), 0.0, 24.0),
        "minute" => (f64::from(time.minute()), 0.0, 60.0),
        _ => (f64::from(u8::from(dow == 0 || dow == 6)), 0.0, f64::INFINITY),
    };
    let angle = std::f64::consts::TAU * (value - first) / length;
    match turn {
        Some("sin") => angle.sin(),
        Some(_) => angle.cos(),
        None => value,
    }
}
