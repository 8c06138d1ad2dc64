//! `min_sample_size(baseline, effect [, power [, alpha]])`

use arrow::array::{Array, ArrayRef, AsArray, Float64Array};
use arrow::datatypes::{DataType, Float64Type};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDFImpl, Signature};
use datafusion_macros::user_doc;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::functions::typed::{Shape, Want, over_rows};
use crate::kernels::stats::sample_size::for_proportion;

const SHAPE: Shape = Shape {
    name: "min_sample_size",
    arguments: &[("baseline", Want::Number), ("effect", Want::Number), ("power", Want::Number), ("alpha", Want::Number)],
    required: 2,
};

#[user_doc(
    doc_section(label = "Experiment Functions"),
    description = "How many users each of two equal groups needs, so that a change of a proportion is found. Not rounded: take ceil(…). NULL when an argument is NULL. Aliases min_sample_size_conversion and minSampleSizeConversion, of which ClickHouse returns the first number.",
    syntax_example = "min_sample_size(baseline, effect [, power [, alpha]])",
    sql_example = "```sql\nSELECT ceil(min_sample_size(0.25, 0.03));\n-- 3397\n```",
    argument(name = "baseline", description = "The proportion without the change, above 0 and below 1."),
    argument(name = "effect", description = "The smallest change worth finding, in points: 0.03 is from 0.25 to 0.28. Not zero."),
    argument(name = "power", description = "The probability with which it is found, above 0 and below 1; 0.8 by default."),
    argument(
        name = "alpha",
        description = "The probability of finding a change where there is none, above 0 and below 1; 0.05 by default."
    ),
    related_udf(name = "min_sample_size_continuous")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct MinSampleSize {
    signature: Signature,
    aliases: [String; 3],
}

impl MinSampleSize {
    pub(super) fn new() -> Self {
        Self {
            signature: SHAPE.signature(),
            aliases: ["min_sample_size_conversion".into(), "minSampleSizeConversion".into(), "minsamplesizeconversion".into()],
        }
    }
}

/// A probability that is neither 0 nor 1.
///
/// # Errors
/// 22023 for anything else.
pub(super) fn probability(function: &str, argument: &str, value: f64) -> Result<f64> {
    if value > 0.0 && value < 1.0 {
        return Ok(value);
    }
    Err(Error::invalid(format!("argument \"{argument}\" of {function} must be above 0 and below 1, not {value}")))
}

fn users(given: impl Fn(usize, f64) -> f64) -> Result<f64> {
    let probability = |argument, value| probability(SHAPE.name, argument, value);
    let (baseline, effect) = (probability("baseline", given(0, 0.0))?, given(1, 0.0));
    if effect == 0.0 || !(0.0..=1.0).contains(&(baseline + effect)) {
        return Err(Error::invalid(format!("a change of {effect} from {baseline} is not a proportion"))
            .hint("The effect is in points of the proportion, not zero, and leads to a proportion again."));
    }
    Ok(for_proportion(baseline, effect, probability("power", given(2, 0.8))?, probability("alpha", given(3, 0.05))?))
}

fn rows(columns: &[ArrayRef], count: usize) -> Result<ArrayRef> {
    let columns = columns.iter().map(|column| column.as_primitive_opt::<Float64Type>());
    let columns = columns.collect::<Option<Vec<_>>>().ok_or_else(|| Error::internal("numbers were expected"))?;
    let row = |row: usize| {
        if columns.iter().any(|column| column.is_null(row)) {
            return Ok(None);
        }
        let given = |index: usize, default: f64| columns.get(index).map_or(default, |column| column.value(row));
        users(given).map(Some)
    };
    Ok(Arc::new((0..count).map(row).collect::<Result<Float64Array>>()?))
}

impl ScalarUDFImpl for MinSampleSize {
    fn name(&self) -> &str {
        SHAPE.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, given: &[DataType]) -> DfResult<DataType> {
        SHAPE.check(given)?;
        Ok(DataType::Float64)
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
