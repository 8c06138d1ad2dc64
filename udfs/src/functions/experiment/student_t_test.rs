//! `student_t_test(value, group [, confidence])`

use arrow::datatypes::DataType;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::{AggregateUDFImpl, Documentation, Signature};
use datafusion_macros::user_doc;

use super::t_test::{TTest, result_type, shape};
use crate::error::Result;
use crate::functions::grouped::accumulators;
use crate::functions::typed::Shape;
use crate::kernels::stats::t_test::Variances;

const SHAPE: Shape = shape("student_t_test");

#[user_doc(
    doc_section(label = "Experiment Functions"),
    description = "Student's t test: whether two samples of equal variance have the same mean. Take welch_t_test unless the variances are known to be equal. The result is a record: statistic, p_value (two-sided), degrees_of_freedom, difference (mean of group 0 minus mean of group 1) with its interval ci_low and ci_high, mean_0, mean_1, n_0, n_1. NULL when a sample is empty; a field is NULL where a sample has fewer than two values. Sums are exact: the result does not depend on the order or the partitions of the rows. Alias studentTTest.",
    syntax_example = "student_t_test(value, group [, confidence])",
    sql_example = "```sql\nSELECT round(student_t_test(x, g)['p_value'], 9) AS p\nFROM (VALUES (20.3, 0), (21.1, 0), (21.9, 1), (21.7, 0), (19.9, 1), (21.8, 1)) AS s(x, g);\n-- 0.838542121\n```",
    argument(name = "value", description = "The measured number."),
    argument(
        name = "group",
        description = "Which sample the value belongs to: 0 or 1, or a boolean. Rows where it or the value is NULL do not count."
    ),
    argument(name = "confidence", description = "Of the interval, above 0 and below 1; 0.95 by default.")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct StudentTTest {
    signature: Signature,
    aliases: [String; 2],
}

impl StudentTTest {
    pub(super) fn new() -> Self {
        Self { signature: SHAPE.signature(), aliases: ["studentTTest".into(), "studentTTest".to_lowercase()] }
    }

    fn kernel(&self, args: &AccumulatorArgs<'_>) -> Result<TTest> {
        let confidence = SHAPE.constant_between(args, 2, 0.95, (0.0, 1.0))?;
        Ok(TTest { function: SHAPE.name, variances: Variances::Equal, confidence })
    }
}

impl AggregateUDFImpl for StudentTTest {
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
        Ok(result_type())
    }

    fn coerce_types(&self, given: &[DataType]) -> DfResult<Vec<DataType>> {
        Ok(SHAPE.coerce(given))
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }

    accumulators!();
}
