//! `pref_vector_add(vector, as_of, more, more_as_of, half_life)`

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringBuilder};
use arrow::datatypes::{DataType, TimestampMicrosecondType};
use datafusion::common::ScalarValue;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDFImpl, Signature};
use datafusion_macros::user_doc;

use super::preferences::{HALF_LIFE, json, vector};
use crate::error::{Error, Result};
use crate::functions::relation::{Argument, Kind};
use crate::functions::typed::{Shape, Want, over_rows};

const SHAPE: Shape = Shape {
    name: "pref_vector_add",
    arguments: &[("vector", Want::Text), ("as_of", Want::Time), ("more", Want::Text), ("more_as_of", Want::Time), HALF_LIFE],
    required: 5,
};

#[user_doc(
    doc_section(label = "Profile Functions"),
    description = "Adds two preference vectors of different times, as of the later one: the older weights are multiplied by 2^(−dt / half_life). So a stored vector is updated with the vector of the new events alone, and equals a full recompute to 1e-9. Both must be complete (without top_n). A NULL vector adds nothing; NULL when both are, or a time is NULL.",
    syntax_example = "pref_vector_add(vector, as_of, more, more_as_of, half_life)",
    sql_example = "```sql\nSELECT pref_vector_add('{\"shoes\":4,\"bags\":1}', TIMESTAMP '2024-01-01', '{\"bags\":1}', TIMESTAMP '2024-01-08', '7 days') AS likes;\n-- {\"shoes\":2.0,\"bags\":1.5}\n```",
    argument(name = "vector", description = "A vector of pref_vector."),
    argument(name = "as_of", description = "Its point in time."),
    argument(name = "more", description = "Another vector, of other events."),
    argument(name = "more_as_of", description = "Its point in time."),
    argument(name = "half_life", description = "The half-life of both."),
    related_udf(name = "pref_vector")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct PrefVectorAdd {
    signature: Signature,
}

impl PrefVectorAdd {
    pub(super) fn new() -> Self {
        Self { signature: SHAPE.signature() }
    }
}

/// `a` and `b`, the older of them decayed; the heaviest key first, ties by the key.
fn add(a: (Option<&str>, i64), b: (Option<&str>, i64), half_life_us: i64) -> Result<Option<String>> {
    let later_us = a.1.max(b.1);
    let mut sums = std::collections::BTreeMap::<String, f64>::new();
    for (text, at_us) in [a, b] {
        let factor = (-(later_us.saturating_sub(at_us) as f64) / half_life_us as f64).exp2();
        for (key, weight) in text.map(vector).transpose()?.into_iter().flatten() {
            *sums.entry(key).or_insert(0.0) += weight.as_f64().unwrap_or(f64::NAN) * factor;
        }
    }
    if a.0.is_none() && b.0.is_none() {
        return Ok(None);
    }
    let mut sums: Vec<(&str, f64)> = sums.iter().map(|(key, weight)| (key.as_str(), *weight)).collect();
    sums.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    Ok(Some(json(sums)))
}

fn rows(columns: &[ArrayRef], count: usize) -> Result<ArrayRef> {
    let wrong = || Error::internal("vectors and times were expected");
    let [first, first_at, second, second_at, half_lives] = columns else { return Err(wrong()) };
    let (Some(first), Some(second)) = (first.as_string_opt::<i32>(), second.as_string_opt::<i32>()) else { return Err(wrong()) };
    let time = |column: &ArrayRef| column.as_primitive_opt::<TimestampMicrosecondType>().cloned().ok_or_else(wrong);
    let (first_at, second_at) = (time(first_at)?, time(second_at)?);
    let mut out = StringBuilder::new();
    for row in 0..count {
        let half_life = ScalarValue::try_from_array(half_lives, row).map_err(|_| wrong())?;
        let half_life_us = match Argument::bind(SHAPE.name, "half_life", Kind::Duration, half_life)? {
            Some(Argument::Micros(us)) if us > 0 => Some(us),
            None => None,
            Some(_) => return Err(Error::invalid("argument \"half_life\" of pref_vector_add must be longer than zero")),
        };
        let text = |column: &arrow::array::StringArray| column.is_valid(row).then(|| column.value(row).to_owned());
        match half_life_us.filter(|_| first_at.is_valid(row) && second_at.is_valid(row)) {
            Some(half_life_us) => {
                let (a, b) = (text(first), text(second));
                out.append_option(add((a.as_deref(), first_at.value(row)), (b.as_deref(), second_at.value(row)), half_life_us)?);
            }
            None => out.append_null(),
        }
    }
    Ok(Arc::new(out.finish()))
}

impl ScalarUDFImpl for PrefVectorAdd {
    fn name(&self) -> &str {
        SHAPE.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, given: &[DataType]) -> DfResult<DataType> {
        SHAPE.check(given)?;
        Ok(DataType::Utf8)
    }

    fn coerce_types(&self, given: &[DataType]) -> DfResult<Vec<DataType>> {
        Ok(SHAPE.coerce(given))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        over_rows(&args, rows)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }
}
