//! `ordinal_encode(x)`

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion::logical_expr::Documentation;
use datafusion_macros::user_doc;

use super::whole::{Constants, Kind, Parameter, WholePartition, whole_numbers};
use crate::error::Result;
use crate::features::transform::InputKind;
use crate::features::transform::steps::Step;

#[user_doc(
    doc_section(label = "Feature Functions"),
    description = "The category's place, from 0, among the partition's categories in the order of their text: scikit-learn's OrdinalEncoder, BigQuery's ML.LABEL_ENCODER without its shift. NULL stays NULL. Of more than 65536 categories the most frequent ones are kept, the others share one place after them.",
    syntax_example = "ordinal_encode(x) OVER (…)",
    sql_example = "```sql\nSELECT ordinal_encode(country) OVER () FROM (VALUES ('FR'), ('DE'), (NULL), ('FR')) AS t(country);\n-- 1, 0, NULL, 1\n```",
    argument(name = "x", description = "A text, a number, a boolean or a time.")
)]
#[derive(Debug)]
pub(super) struct OrdinalEncode;

impl WholePartition for OrdinalEncode {
    fn name(&self) -> &'static str {
        "ordinal_encode"
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }

    fn parameters(&self) -> &'static [Parameter] {
        const { &[Parameter::required("x", Kind::Category)] }
    }

    fn output(&self, _types: &[DataType]) -> DataType {
        DataType::Int64
    }

    fn compute(&self, columns: &[ArrayRef], _constants: &Constants) -> Result<ArrayRef> {
        whole_numbers(columns, InputKind::Category, &Step::Ordinal)
    }
}
