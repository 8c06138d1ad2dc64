//! `max_abs_scale(x)`

use arrow::array::ArrayRef;
use datafusion::logical_expr::Documentation;
use datafusion_macros::user_doc;

use super::whole::{Constants, Kind, Parameter, WholePartition, step};
use crate::error::Result;
use crate::features::transform::InputKind;
use crate::features::transform::steps::Step;

#[user_doc(
    doc_section(label = "Feature Functions"),
    description = "Divides by the greatest size in the partition, so that numbers lie between -1 and 1 and 0 stays 0: scikit-learn's MaxAbsScaler, BigQuery's ML.MAX_ABS_SCALER.",
    syntax_example = "max_abs_scale(x) OVER (…)",
    sql_example = "```sql\nSELECT max_abs_scale(price) OVER () FROM (VALUES (-4.0), (2.0)) AS t(price);\n-- -1, 0.5\n```",
    argument(name = "x", description = "A number. NULL and NaN are missing and stay NULL.")
)]
#[derive(Debug)]
pub(super) struct MaxAbsScale;

impl WholePartition for MaxAbsScale {
    fn name(&self) -> &'static str {
        "max_abs_scale"
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }

    fn parameters(&self) -> &'static [Parameter] {
        const { &[Parameter::required("x", Kind::Number)] }
    }

    fn compute(&self, columns: &[ArrayRef], _constants: &Constants) -> Result<ArrayRef> {
        step(columns, InputKind::Number, &Step::Maxabs)
    }
}
