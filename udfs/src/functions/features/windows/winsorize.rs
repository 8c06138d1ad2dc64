//! `winsorize(x, low => 0.05, high => 0.95)`

use arrow::array::ArrayRef;
use datafusion::logical_expr::Documentation;
use datafusion_macros::user_doc;

use super::whole::{Constants, Kind, Parameter, WholePartition, step};
use crate::error::{Error, Result};
use crate::features::transform::InputKind;
use crate::features::transform::steps::Step;

#[user_doc(
    doc_section(label = "Feature Functions"),
    description = "Draws numbers beyond two quantiles of the partition in to them; nothing is dropped. Quantiles interpolate linearly, as percentile_cont, so the limits need not be numbers of the column (scipy's mstats.winsorize takes the nearest number of the column instead).",
    syntax_example = "winsorize(x, low => 0.05, high => 0.95) OVER (…)",
    sql_example = "```sql\nSELECT winsorize(price, 0.25, 0.75) OVER () FROM (VALUES (1.0), (2.0), (3.0), (4.0), (100.0)) AS t(price);\n-- 2, 2, 3, 4, 4\n```",
    argument(name = "x", description = "A number. NULL and NaN are missing and stay NULL."),
    argument(name = "low", description = "The lower quantile, 0.05 by default."),
    argument(name = "high", description = "The upper quantile, 0.95 by default.")
)]
#[derive(Debug)]
pub(super) struct Winsorize;

impl WholePartition for Winsorize {
    fn name(&self) -> &'static str {
        "winsorize"
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }

    fn parameters(&self) -> &'static [Parameter] {
        const {
            &[
                Parameter::required("x", Kind::Number),
                Parameter::optional("low", Kind::Share(0.05, 0.0, 1.0)),
                Parameter::optional("high", Kind::Share(0.95, 0.0, 1.0)),
            ]
        }
    }

    fn compute(&self, columns: &[ArrayRef], constants: &Constants) -> Result<ArrayRef> {
        let (low, high) = (constants.number("low"), constants.number("high"));
        if low >= high {
            return Err(Error::invalid("argument \"low\" of winsorize must be less than \"high\""));
        }
        step(columns, InputKind::Number, &Step::Winsorize(low, high))
    }
}
