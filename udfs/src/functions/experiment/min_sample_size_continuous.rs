//! `min_sample_size_continuous(baseline, deviation, effect [, power [, alpha]])`

use arrow::array::{Array, ArrayRef, AsArray, Float64Array};
use arrow::datatypes::{DataType, Float64Type};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDFImpl, Signature};
use datafusion_macros::user_doc;
use std::sync::Arc;

use super::min_sample_size::probability;
use crate::error::{Error, Result};
use crate::functions::typed::{Shape, Want, over_rows};
use crate::kernels::stats::sample_size::for_mean;

const SHAPE: Shape = Shape {
    name: "min_sample_size_continuous",
    arguments: &[
        ("baseline", Want::Number),
        ("deviation", Want::Number),
        ("effect", Want::Number),
        ("power", Want::Number),
        ("alpha", Want::Number),
    ],
    required: 3,
};

#[user_doc(
    doc_section(label = "Experiment Functions"),
    description = "How many users each of two equal groups needs, so that a relative change of a mean is found. Not rounded: take ceil(…). NULL when an argument is NULL. Aliases minSampleSizeContinuous and minSampleSizeContinous, of which ClickHouse returns the first number.",
    syntax_example = "min_sample_size_continuous(baseline, deviation, effect [, power [, alpha]])",
    sql_example = "```sql\nSELECT ceil(min_sample_size_continuous(112.25, 21.1, 0.03));\n-- 617\n```",
    argument(name = "baseline", description = "The mean without the change; not zero."),
    argument(name = "deviation", description = "The standard deviation of the values; above zero."),
    argument(name = "effect", description = "The smallest change worth finding, relative to the mean: 0.03 is three percent. Not zero."),
    argument(name = "power", description = "The probability with which it is found, above 0 and below 1; 0.8 by default."),
    argument(
        name = "alpha",
        description = "The probability of finding a change where there is none, above 0 and below 1; 0.05 by default."
    ),
    related_udf(name = "min_sample_size")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct MinSampleSizeContinuous {
    signature: Signature,
    aliases: [String; 4],
}

impl MinSampleSizeContinuous {
    pub(super) fn new() -> Self {
        Self {
            signature: SHAPE.signature(),
            aliases: [
                "minSampleSizeContinuous".into(),
                "minsamplesizecontinuous".into(),
                "minSampleSizeContinous".into(),
                "minsamplesizecontinous".into(),
            ],
        }
    }
}

fn users(given: impl Fn(usize, f64) -> f64) -> Result<f64> {
    let probability = |argument, value| probability(SHAPE.name, argument, value);
    let (deviation, effect) = (given(1, 0.0), given(0, 0.0) * given(2, 0.0));
    if !(deviation > 0.0 && deviation.is_finite() && effect != 0.0 && effect.is_finite()) {
        return Err(Error::invalid(format!("{} needs a mean, a deviation above zero and an effect that are not zero", SHAPE.name)));
    }
    Ok(for_mean(deviation, effect, probability("power", given(3, 0.8))?, probability("alpha", given(4, 0.05))?))
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

impl ScalarUDFImpl for MinSampleSizeContinuous {
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
