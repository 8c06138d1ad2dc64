//! `minmax_scale(x, low => 0, high => 1)`

use arrow::array::ArrayRef;
use datafusion::logical_expr::Documentation;
use datafusion_macros::user_doc;

use super::whole::{Constants, Kind, Parameter, WholePartition, step};
use crate::error::{Error, Result};
use crate::features::transform::InputKind;
use crate::features::transform::steps::Step;

#[user_doc(
    doc_section(label = "Feature Functions"),
    description = "Maps the partition's least number to low and its greatest to high, linearly: scikit-learn's MinMaxScaler, BigQuery's ML.MIN_MAX_SCALER. A column that does not vary becomes low.",
    syntax_example = "minmax_scale(x, low => 0, high => 1) OVER (…)",
    sql_example = "```sql\nSELECT minmax_scale(price) OVER () FROM (VALUES (2.0), (4.0), (10.0)) AS t(price);\n-- 0, 0.25, 1\n```",
    argument(name = "x", description = "A number. NULL and NaN are missing and stay NULL."),
    argument(name = "low", description = "What the least number becomes; 0 by default."),
    argument(name = "high", description = "What the greatest becomes; 1 by default.")
)]
#[derive(Debug)]
pub(super) struct MinmaxScale;

impl WholePartition for MinmaxScale {
    fn name(&self) -> &'static str {
        "minmax_scale"
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }

    fn parameters(&self) -> &'static [Parameter] {
        const {
            &[
                Parameter::required("x", Kind::Number),
                Parameter::optional("low", Kind::Share(0.0, f64::MIN, f64::MAX)),
                Parameter::optional("high", Kind::Share(1.0, f64::MIN, f64::MAX)),
            ]
        }
    }

    fn compute(&self, columns: &[ArrayRef], constants: &Constants) -> Result<ArrayRef> {
        let (low, high) = (constants.number("low"), constants.number("high"));
        if low >= high {
            return Err(Error::invalid("argument \"low\" of minmax_scale must be less than \"high\""));
        }
        step(columns, InputKind::Number, &Step::Minmax(low, high))
    }
}
