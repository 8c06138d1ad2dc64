//! Applying a fitted step to columns: the same code while fitting and while scoring.

use std::collections::BTreeMap;

use super::column::{Coded, Column, Values};
use super::encode;
use super::fitted::{Fitted, FittedStep};
use crate::error::{Code, Error, Result};

/// The columns that say which fold a row is in, by name.
pub(super) type Keys = BTreeMap<String, Column>;

/// The values of a feature.
pub(super) fn numbers(column: Column) -> Result<Vec<f64>> {
    match column.values {
        Values::Numbers(values) => Ok(values),
        Values::Categories(_) | Values::Times(_) => {
            Err(Error::new(Code::DatatypeMismatch, format!("feature \"{}\" is not a number", column.name))
                .hint("End its steps with an encoding: one_hot, ordinal, frequency, target, hash, tokens or date_parts."))
        }
    }
}

/// A number as the text of a category.
pub(super) fn text_of(number: f64) -> Option<String> {
    (!number.is_nan()).then(|| if number == 0.0 { "0".to_owned() } else { number.to_string() })
}

/// The column as texts: numbers are written out.
pub(super) fn categories(column: Column) -> Result<Coded> {
    match column.values {
        Values::Categories(coded) => Ok(coded),
        Values::Numbers(values) => {
            let mut coded = Coded::default();
            values.iter().for_each(|value| coded.push(text_of(*value).as_deref()));
            Ok(coded)
        }
        Values::Times(_) => Err(wrong(&column.name, "a text or a number")),
    }
}

pub(super) fn wrong(name: &str, what: &str) -> Error {
    Error::new(Code::DatatypeMismatch, format!("a step of \"{name}\" needs {what}")).hint("Look at the order of the steps.")
}

impl FittedStep {
    /// What the step makes of the columns; those that are features already stay as they are.
    pub(super) fn apply(&self, columns: Vec<Column>, keys: Option<&Keys>) -> Result<Vec<Column>> {
        let open = columns.iter().filter(|column| !column.finished).count();
        match self {
            Self::Joint(joint) => {
                let (finished, open): (Vec<Column>, Vec<Column>) = columns.into_iter().partition(|column| column.finished);
                let mut made = match joint {
                    Fitted::Cross => vec![encode::cross(open)?],
                    Fitted::Pca { means, axes, .. } => project(open, means, axes)?,
                    _ => return Err(Error::internal("a step is not one for several columns")),
                };
                made.extend(finished);
                Ok(made)
            }
            Self::Each(each) if each.len() != open => Err(Error::internal("a step was fitted for another number of columns")),
            Self::Each(each) => {
                let mut made = Vec::with_capacity(columns.len());
                let mut fitted = each.iter();
                for column in columns {
                    match if column.finished { None } else { fitted.next() } {
                        Some(fitted) => fitted.apply(column, keys, &mut made)?,
                        None => made.push(column),
                    }
                }
                Ok(made)
            }
        }
    }
}

impl Fitted {
    fn apply(&self, column: Column, keys: Option<&Keys>, made: &mut Vec<Column>) -> Result<()> {
        let name = column.name.clone();
        let one = |values: Vec<f64>| Column::new(name.clone(), Values::Numbers(values));
        match self {
            Self::Fill { value } => made.push(one(map(column, |x| if x.is_nan() { *value } else { x })?)),
            Self::Clip { low, high } => made.push(one(map(column, |x| {
                if x < *low {
                    *low
                } else if x > *high {
                    *high
                } else {
                    x
                }
            })?)),
            Self::Log1p => made.push(one(map(column, |x| if x > -1.0 { x.ln_1p() } else { f64::NAN })?)),
            Self::Scale { center, scale, offset } => made.push(one(map(column, |x| (x - center) / scale + offset)?)),
            Self::Buckets { cuts } => {
                let bucket = |x: f64| if x.is_nan() { x } else { crate::kernels::prepare::order::bucket(cuts, x) as f64 };
                made.push(one(map(column, bucket)?));
            }
            Self::FillText { value } => {
                let mut coded = categories(column)?;
                if let Some(value) = value {
                    let code = coded.values.intern(value);
                    coded.codes.iter_mut().filter(|found| **found == crate::kernels::intern::NULL_CODE).for_each(|found| *found = code);
                }
                made.push(Column::new(name, Values::Categories(coded)));
            }
            Self::Indicator => {
                let missing = missing(&column.values);
                made.push(column);
                made.push(Column::finished(format!("{name}_missing"), Values::Numbers(missing)));
            }
            Self::OneHot { categories: known } => encode::one_hot(&name, &categories(column)?, known, made),
            Self::Ordinal { categories: known } => made.push(one(encode::ordinal(&categories(column)?, known))),
            Self::Frequency { categories: known, shares, missing } => {
                made.push(one(encode::by_category(&categories(column)?, known, shares, 0.0, *missing)));
            }
            Self::Target { categories: known, key, whole, without_fold } => {
                let coded = categories(column)?;
                made.push(one(encode::target(&coded, known, whole, without_fold, key, keys)?));
            }
            Self::Hash { buckets } => made.push(one(encode::hash(&categories(column)?, *buckets))),
            Self::Tokens { buckets } => encode::tokens(&name, &categories(column)?, *buckets, made),
            Self::DateParts { parts } => encode::date_parts(&name, column, parts, made)?,
            Self::Cross | Self::Pca { .. } => return Err(Error::internal("a step is one for several columns")),
        }
        Ok(())
    }
}

fn map(column: Column, number: impl Fn(f64) -> f64) -> Result<Vec<f64>> {
    let Values::Numbers(mut values) = column.values else { return Err(wrong(&column.name, "a number")) };
    values.iter_mut().for_each(|value| *value = number(*value));
    Ok(values)
}

fn missing(values: &Values) -> Vec<f64> {
    let flag = |missing: bool| f64::from(u8::from(missing));
    match values {
        Values::Numbers(values) => values.iter().map(|value| flag(value.is_nan())).collect(),
        Values::Categories(coded) => coded.codes.iter().map(|code| flag(*code == crate::kernels::intern::NULL_CODE)).collect(),
        Values::Times(values) => values.iter().map(|value| flag(value.is_none())).collect(),
    }
}

/// Rows on the axes; a row with a missing number has no place there.
fn project(columns: Vec<Column>, means: &[f64], axes: &[Vec<f64>]) -> Result<Vec<Column>> {
    let columns = columns.into_iter().map(numbers).collect::<Result<Vec<_>>>()?;
    let rows = columns.first().map_or(0, Vec::len);
    let place = |axis: &Vec<f64>| {
        let mut values = vec![0.0; rows];
        for ((column, mean), weight) in columns.iter().zip(means).zip(axis) {
            values.iter_mut().zip(column).for_each(|(value, x)| *value += (x - mean) * weight);
        }
        values
    };
    let named = |(i, axis)| Column::new(format!("pca_{}", i + 1), Values::Numbers(place(axis)));
    Ok(axes.iter().enumerate().map(named).collect())
}
