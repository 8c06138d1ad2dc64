//! `bsi_merge(index)`

use arrow::datatypes::DataType;
use datafusion::logical_expr::Signature;
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion_macros::user_doc;

use super::states::Merge;
use crate::error::Result;
use crate::functions::grouped::aggregate;
use crate::functions::typed::{Shape, Want};

const SHAPE: Shape = Shape { name: "bsi_merge", arguments: &[("index", Want::Bytes)], required: 1 };

#[user_doc(
    doc_section(label = "Audience Functions"),
    description = "One index of all indexes of a group: the numbers of an id that several have are added.",
    syntax_example = "bsi_merge(index)",
    sql_example = "```sql\nSELECT bsi_sum(bsi_merge(index)) FROM (SELECT bsi_build(id, v) AS index FROM (VALUES (1, 10), (2, -4), (3, 0)) AS t(id, v) GROUP BY id);\n-- 6\n```",
    argument(name = "index", description = "An index; NULLs are left out."),
    related_udf(name = "bsi_build"),
    related_udf(name = "bsi_add")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct BsiMerge {
    signature: Signature,
    aliases: [String; 1],
}

impl BsiMerge {
    pub(super) fn new() -> Self {
        Self { signature: SHAPE.signature(), aliases: ["bsi_add_agg".into()] }
    }

    fn kernel(&self, _: &AccumulatorArgs<'_>) -> Result<Merge> {
        Ok(Merge)
    }
}

aggregate!(BsiMerge, DataType::Binary);
