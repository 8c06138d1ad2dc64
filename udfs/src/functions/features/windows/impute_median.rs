//! `impute_median(x)`

use arrow::array::ArrayRef;
use datafusion::logical_expr::Documentation;
use datafusion_macros::user_doc;

use super::whole::{Constants, Kind, Parameter, WholePartition, step};
use crate::error::Result;
use crate::features::transform::InputKind;
use crate::features::transform::steps::Step;

#[user_doc(
    doc_section(label = "Feature Functions"),
    description = "The number, or the median of the partition's numbers where it is missing. NULL when the partition has none. The result is double precision.",
    syntax_example = "impute_median(x) OVER (…)",
    sql_example = "```sql\nSELECT impute_median(price) OVER () FROM (VALUES (1.0), (NULL), (2.0), (9.0)) AS t(price);\n-- 1, 2, 2, 9\n```",
    argument(name = "x", description = "A number. NULL and NaN are missing.")
)]
#[derive(Debug)]
pub(super) struct ImputeMedian;

impl WholePartition for ImputeMedian {
    fn name(&self) -> &'static str {
        "impute_median"
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }

    fn parameters(&self) -> &'static [Parameter] {
        const { &[Parameter::required("x", Kind::Number)] }
    }

    fn compute(&self, columns: &[ArrayRef], _constants: &Constants) -> Result<ArrayRef> {
        step(columns, InputKind::Number, &Step::Median)
    }
}
