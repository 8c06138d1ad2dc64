//! `bsi_build(id, value)`

use arrow::datatypes::DataType;
use datafusion::logical_expr::Signature;
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion_macros::user_doc;

use super::states::Index;
use crate::error::Result;
use crate::functions::grouped::aggregate;
use crate::functions::typed::{Shape, Want};

const SHAPE: Shape = Shape { name: "bsi_build", arguments: &[("id", Want::Id), ("value", Want::Id)], required: 2 };

#[user_doc(
    doc_section(label = "Audience Functions"),
    description = "The bit-sliced index of a group: one 64-bit number per id, the sum of its values, as bitmaps. A numeric tag (spend, orders, balance) in this form answers comparisons, sums, extremes and the best k of any crowd with bitmap operations, without a join. Zero and negative numbers are numbers like others; rows with a NULL are left out, and an id without a number is not in the index. The sum of an id must fit 64 bits (22003).",
    syntax_example = "bsi_build(id, value)",
    sql_example = "```sql\nSELECT bsi_sum(bsi_build(id, v)), bitmap_to_array(bsi_ge(bsi_build(id, v), 0)) FROM (VALUES (1, 10), (2, -4), (3, 0)) AS t(id, v);\n-- 6, {1,3}\n```",
    argument(name = "id", description = "A whole number, not negative."),
    argument(name = "value", description = "A whole number of any sign; the values of one id are added."),
    related_udf(name = "bsi_merge"),
    related_udf(name = "bsi_between"),
    related_udf(name = "bsi_top_k")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct BsiBuild {
    signature: Signature,
    aliases: [String; 1],
}

impl BsiBuild {
    pub(super) fn new() -> Self {
        Self { signature: SHAPE.signature(), aliases: ["bsi_build_agg".into()] }
    }

    fn kernel(&self, _: &AccumulatorArgs<'_>) -> Result<Index> {
        Ok(Index)
    }
}

aggregate!(BsiBuild, DataType::Binary);
