//! `proportionsZTest(successes_x, successes_y, trials_x, trials_y, confidence, pool)`: the test on counts, as ClickHouse has it.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDFImpl, Signature};
use datafusion_macros::user_doc;

use super::proportions_z_test::is_pooled;
use super::record::{Cell, record_type, records};
use crate::error::{Error, Result};
use crate::functions::typed::{Shape, Want, over_rows};
use crate::kernels::stats::proportion::{Proportion, proportions_z_test};

const SHAPE: Shape = Shape {
    name: "proportionsztest",
    arguments: &[
        ("successes_x", Want::Whole),
        ("successes_y", Want::Whole),
        ("trials_x", Want::Whole),
        ("trials_y", Want::Whole),
        ("confidence", Want::Number),
        ("pool", Want::Text),
    ],
    required: 4,
};
const NUMBERS: &[&str] = &["z_statistic", "p_value", "ci_low", "ci_high"];

#[user_doc(
    doc_section(label = "Experiment Functions"),
    description = "The z test of two proportions from counts, as ClickHouse's proportionsZTest. The result is a record: z_statistic, p_value (two-sided), ci_low, ci_high of share x minus share y. NULL when an argument is NULL or there are no trials. For rows instead of counts there is proportions_z_test.",
    syntax_example = "proportionsZTest(successes_x, successes_y, trials_x, trials_y [, confidence [, pool]])",
    sql_example = "```sql\nSELECT round(proportionsZTest(10, 11, 100, 101, 0.95, 'unpooled')['p_value'], 9) AS p;\n-- 0.836347844\n```",
    argument(name = "successes_x", description = "Successes in the first sample."),
    argument(name = "successes_y", description = "Successes in the second sample."),
    argument(name = "trials_x", description = "Trials in the first sample."),
    argument(name = "trials_y", description = "Trials in the second sample."),
    argument(name = "confidence", description = "Of the interval, above 0 and below 1; 0.95 by default."),
    argument(name = "pool", description = "`pooled` by default, or `unpooled`.")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct ProportionsZTestCounts {
    signature: Signature,
    aliases: [String; 1],
}

impl ProportionsZTestCounts {
    pub(super) fn new() -> Self {
        Self { signature: SHAPE.signature(), aliases: ["proportionsZTest".into()] }
    }
}

fn sample(successes: i64, trials: i64) -> Result<Proportion> {
    match (u64::try_from(successes), u64::try_from(trials)) {
        (Ok(successes), Ok(trials)) if successes <= trials => Ok(Proportion { successes, trials }),
        _ => Err(Error::invalid(format!("{successes} successes of {trials} trials are impossible"))),
    }
}

fn rows(columns: &[ArrayRef], count: usize) -> Result<ArrayRef> {
    let wrong = || Error::internal("counts were expected");
    let counts = columns.iter().take(4).map(|column| column.as_primitive_opt::<Int64Type>().ok_or_else(wrong));
    let counts = counts.collect::<Result<Vec<_>>>()?;
    let [sx, sy, tx, ty] = counts[..] else { return Err(wrong()) };
    let confidence = columns.get(4).and_then(|column| column.as_primitive_opt::<Float64Type>());
    let pool = columns.get(5).and_then(|column| column.as_string_opt::<i32>());
    let row = |row: usize| {
        if columns.iter().any(|column| column.is_null(row)) {
            return Ok(None);
        }
        let confidence = confidence.map_or(0.95, |column| column.value(row));
        if !(confidence > 0.0 && confidence < 1.0) {
            return Err(Error::invalid("argument \"confidence\" of proportionsZTest must be above 0 and below 1"));
        }
        let pooled = pool.map_or(Ok(true), |column| is_pooled("proportionsZTest", column.value(row)))?;
        let (x, y) = (sample(sx.value(row), tx.value(row))?, sample(sy.value(row), ty.value(row))?);
        if x.trials == 0 || y.trials == 0 {
            return Ok(None);
        }
        let test = proportions_z_test(x, y, pooled, confidence);
        Ok(Some([test.statistic, test.p_value, test.interval.0, test.interval.1].map(Cell::Number).to_vec()))
    };
    records(NUMBERS, &[], &(0..count).map(row).collect::<Result<Vec<_>>>()?)
}

impl ScalarUDFImpl for ProportionsZTestCounts {
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
        Ok(record_type(NUMBERS, &[]))
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
