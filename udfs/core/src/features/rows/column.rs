//! One column of the source: what it is made of, and its rows as classes or numbers.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::datatypes::{DataType, Float64Type};

use super::modes::{NumberModes, chance};
use super::stored::StoredType;
use super::{Classes, Content};
use crate::error::Result;
use crate::features::table::to_type;
use crate::kernels::intern::Interner;

/// Values of a text column that are learned, at most.
const CLASSES_MAX: usize = 1000;
/// A number column of no more values is one of classes.
const FEW_VALUES: usize = 30;

/// The numbers of a column; `None` = NULL, and what is not finite.
pub(super) fn numbers_of(array: &ArrayRef, stored: &StoredType, name: &str) -> Result<Vec<Option<f64>>> {
    let whole = match stored {
        StoredType::Date32 => to_type(array, &DataType::Int32, name)?,
        StoredType::Date64 | StoredType::Timestamp(..) => to_type(array, &DataType::Int64, name)?,
        _ => Arc::clone(array),
    };
    let numbers = to_type(&whole, &DataType::Float64, name)?;
    Ok(numbers.as_primitive::<Float64Type>().iter().map(|value| value.filter(|value| value.is_finite())).collect())
}

/// The texts of a column.
pub(super) fn texts_of(array: &ArrayRef, name: &str) -> Result<StringArray> {
    Ok(to_type(array, &DataType::Utf8, name)?.as_string::<i32>().clone())
}

/// What the rows of a column are made of.
pub(super) fn fit(array: &ArrayRef, stored: &StoredType, name: &str) -> Result<Content> {
    if stored.is_binary() {
        return Ok(Content::Omitted);
    }
    if stored.is_number() {
        let numbers = numbers_of(array, stored, name)?;
        let mut distinct: Vec<f64> = numbers.iter().flatten().copied().collect();
        distinct.sort_unstable_by(f64::total_cmp);
        distinct.dedup();
        if stored.is_time() || distinct.len() > FEW_VALUES {
            return Ok(Content::Number(NumberModes::fit(&numbers, stored.is_whole())));
        }
    }
    let texts = texts_of(array, name)?;
    let mut table = Interner::default();
    let (mut counts, mut nulls) = (Vec::new(), 0u64);
    for text in &texts {
        let Some(text) = text else {
            nulls += 1;
            continue;
        };
        let code = table.intern(text) as usize;
        if code == counts.len() {
            counts.push(0u64);
        }
        counts[code] += 1;
        // A text that is different in most rows is a name or a sentence: there is nothing to learn, and much to give away.
        if counts.len() > CLASSES_MAX {
            return Ok(Content::Omitted);
        }
    }
    if !stored.is_number() && counts.len() > FEW_VALUES && counts.len() * 2 > texts.len() {
        return Ok(Content::Omitted);
    }
    let mut all: Vec<(u64, Option<String>)> = table.iter().zip(counts).map(|(text, count)| (count, Some(text.to_owned()))).collect();
    all.extend((nulls > 0).then_some((nulls, None)));
    all.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    if all.is_empty() {
        return Ok(Content::Omitted);
    }
    let (counts, values) = all.into_iter().unzip();
    Ok(Content::Classes(Classes { values, counts }))
}

/// The rows of a column as `(class, place)`; what was never seen is the most frequent class.
pub(super) fn encode(
    array: &ArrayRef,
    at: usize,
    stored: &StoredType,
    content: &Content,
    name: &str,
    seed: u64,
) -> Result<Vec<(u32, f32)>> {
    Ok(match content {
        Content::Omitted | Content::Picture(_) => Vec::new(),
        Content::Number(modes) => {
            let numbers = numbers_of(array, stored, name)?;
            numbers.into_iter().enumerate().map(|(row, number)| modes.encode(number, chance(seed, at, row))).collect()
        }
        Content::Classes(classes) => {
            let known: Interner = classes.values.iter().flatten().map(String::as_str).collect();
            let null = classes.values.iter().position(Option::is_none);
            // Codes of the interner skip NULL.
            let class = |code: u32| code + u32::from(null.is_some_and(|null| null as u32 <= code));
            let texts = texts_of(array, name)?;
            let of = |text: Option<&str>| match text {
                Some(text) => known.find(text).map_or(0, class),
                None => null.unwrap_or(0) as u32,
            };
            texts.iter().map(|text| (of(text), 0.0)).collect()
        }
    })
}
