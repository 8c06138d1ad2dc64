//! `robust_scale(x, low => 0.25, high => 0.75)`

use arrow::array::ArrayRef;
use datafusion::logical_expr::Documentation;
use datafusion_macros::user_doc;

use super::whole::{Constants, Kind, Parameter, WholePartition, step};
use crate::error::{Error, Result};
use crate::features::transform::InputKind;
use crate::features::transform::steps::Step;

#[user_doc(
    doc_section(label = "Feature Functions"),
    description = "Subtracts the partition's median and divides by the distance of two quantiles, so that outliers do not set the scale: scikit-learn's RobustScaler, BigQuery's ML.ROBUST_SCALER. Quantiles interpolate linearly, as percentile_cont. Where the quantiles are equal the divisor is 1.",
    syntax_example = "robust_scale(x, low => 0.25, high => 0.75) OVER (…)",
    sql_example = "```sql\nSELECT robust_scale(price) OVER () FROM (VALUES (1.0), (2.0), (3.0), (4.0), (100.0)) AS t(price);\n-- -1, -0.5, 0, 0.5, 48.5\n```",
    argument(name = "x", description = "A number. NULL and NaN are missing and stay NULL."),
    argument(name = "low", description = "The lower quantile, 0.25 by default."),
    argument(name = "high", description = "The upper quantile, 0.75 by default.")
)]
#[derive(Debug)]
pub(super) struct RobustScale;

impl WholePartition for RobustScale {
    fn name(&self) -> &'static str {
        "robust_scale"
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }

    fn parameters(&self) -> &'static [Parameter] {
        const {
            &[
                Parameter::required("x", Kind::Number),
                Parameter::optional("low", Kind::Share(0.25, 0.0, 1.0)),
                Parameter::optional("high", Kind::Share(0.75, 0.0, 1.0)),
            ]
        }
    }

    fn compute(&self, columns: &[ArrayRef], constants: &Constants) -> Result<ArrayRef> {
        let (low, high) = (constants.number("low"), constants.number("high"));
        if low >= high {
            return Err(Error::invalid("argument \"low\" of robust_scale must be less than \"high\""));
        }
        step(columns, InputKind::Number, &Step::Robust(low, high))
    }
}
