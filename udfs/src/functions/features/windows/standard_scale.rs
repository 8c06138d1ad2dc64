//! `standard_scale(x)`

use arrow::array::ArrayRef;
use datafusion::logical_expr::Documentation;
use datafusion_macros::user_doc;

use super::whole::{Constants, Kind, Parameter, WholePartition, step};
use crate::error::Result;
use crate::features::transform::InputKind;
use crate::features::transform::steps::Step;

#[user_doc(
    doc_section(label = "Feature Functions"),
    description = "Scales to mean 0 and standard deviation 1 over the partition, with n below the line: scikit-learn's StandardScaler, scipy's zscore, BigQuery's ML.STANDARD_SCALER. A column that does not vary becomes 0. Frame and order of the window do not matter. The same parameters for other rows: fit_transform with the step standard.",
    syntax_example = "standard_scale(x) OVER (…)",
    sql_example = "```sql\nSELECT invoice, standard_scale(price) OVER () FROM (VALUES (1, 2.5), (2, 7.5)) AS t(invoice, price);\n-- -1, 1\n```",
    argument(name = "x", description = "A number. NULL and NaN are missing and stay NULL.")
)]
#[derive(Debug)]
pub(super) struct StandardScale;

impl WholePartition for StandardScale {
    fn name(&self) -> &'static str {
        "standard_scale"
    }

    fn aliases(&self) -> &'static [&'static str] {
        &["zscore"]
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }

    fn parameters(&self) -> &'static [Parameter] {
        const { &[Parameter::required("x", Kind::Number)] }
    }

    fn compute(&self, columns: &[ArrayRef], _constants: &Constants) -> Result<ArrayRef> {
        step(columns, InputKind::Number, &Step::Standard)
    }
}
