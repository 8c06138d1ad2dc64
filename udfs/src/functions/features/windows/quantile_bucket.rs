//! `quantile_bucket(x, buckets)`

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
    description = "The number's bucket, from 0, among buckets that are about equally full: it counts the quantiles 1/n … (n-1)/n of the partition (linear interpolation, each once) that are not above the number. Unlike with ntile, equal numbers share a bucket and the order of rows does not matter: scikit-learn's KBinsDiscretizer, BigQuery's ML.QUANTILE_BUCKETIZE. For buckets of equal width or with given bounds see width_bucket.",
    syntax_example = "quantile_bucket(x, buckets) OVER (…)",
    sql_example = "```sql\nSELECT quantile_bucket(price, 2) OVER () FROM (VALUES (1.0), (1.0), (2.0), (9.0)) AS t(price);\n-- 0, 0, 1, 1\n```",
    argument(name = "x", description = "A number. NULL and NaN are missing and stay NULL."),
    argument(name = "buckets", description = "How many, 2 to 100000.")
)]
#[derive(Debug)]
pub(super) struct QuantileBucket;

impl WholePartition for QuantileBucket {
    fn name(&self) -> &'static str {
        "quantile_bucket"
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }

    fn parameters(&self) -> &'static [Parameter] {
        const { &[Parameter::required("x", Kind::Number), Parameter::required("buckets", Kind::Share(10.0, 2.0, 100_000.0))] }
    }

    fn output(&self, _types: &[DataType]) -> DataType {
        DataType::Int64
    }

    fn compute(&self, columns: &[ArrayRef], constants: &Constants) -> Result<ArrayRef> {
        whole_numbers(columns, InputKind::Number, &Step::Quantiles(constants.number("buckets") as usize))
    }
}
