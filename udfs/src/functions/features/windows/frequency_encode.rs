//! `frequency_encode(x)`

use arrow::array::ArrayRef;
use datafusion::logical_expr::Documentation;
use datafusion_macros::user_doc;

use super::whole::{Constants, Kind, Parameter, WholePartition, step};
use crate::error::Result;
use crate::features::transform::InputKind;
use crate::features::transform::steps::Step;

#[user_doc(
    doc_section(label = "Feature Functions"),
    description = "The share of the partition's rows that have the same category; NULL is a category of its own.",
    syntax_example = "frequency_encode(x) OVER (…)",
    sql_example = "```sql\nSELECT frequency_encode(country) OVER () FROM (VALUES ('FR'), ('DE'), (NULL), ('FR')) AS t(country);\n-- 0.5, 0.25, 0.25, 0.5\n```",
    argument(name = "x", description = "A text, a number, a boolean or a time.")
)]
#[derive(Debug)]
pub(super) struct FrequencyEncode;

impl WholePartition for FrequencyEncode {
    fn name(&self) -> &'static str {
        "frequency_encode"
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }

    fn parameters(&self) -> &'static [Parameter] {
        const { &[Parameter::required("x", Kind::Category)] }
    }

    fn compute(&self, columns: &[ArrayRef], _constants: &Constants) -> Result<ArrayRef> {
        step(columns, InputKind::Category, &Step::Frequency)
    }
}
