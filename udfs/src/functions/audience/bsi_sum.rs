//! `bsi_sum(index [, crowd])`

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion::logical_expr::Signature;
use datafusion_macros::user_doc;

use super::arguments::{Call, scalar, total};
use crate::error::Result;
use crate::functions::typed::{Shape, Want};

const SHAPE: Shape = Shape { name: "bsi_sum", arguments: &[("index", Want::Bytes), ("crowd", Want::Bytes)], required: 1 };

#[user_doc(
    doc_section(label = "Audience Functions"),
    description = "The sum of the numbers of an index, or of those of a crowd: what sum(value) says of the rows that it was built of, without reading them. NULL without ids, as sum.",
    syntax_example = "bsi_sum(index [, crowd])",
    sql_example = "```sql\nSELECT bsi_sum(bsi_build(id, v)), bsi_sum(bsi_build(id, v), bitmap_build(ARRAY[1, 2])) FROM (VALUES (1, 10), (2, -4), (3, 0)) AS t(id, v);\n-- 6, 6\n```",
    argument(name = "index", description = "An index of bsi_build."),
    argument(name = "crowd", description = "A bitmap: only its ids count. All by default."),
    related_udf(name = "bsi_build")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct BsiSum {
    signature: Signature,
    aliases: [String; 0],
}

impl BsiSum {
    pub(super) fn new() -> Self {
        Self { signature: SHAPE.signature(), aliases: [] }
    }
}

scalar!(BsiSum, DataType::Int64);

fn rows(call: &Call<'_>) -> Result<ArrayRef> {
    let sum = call.within(1, |index, crowd| {
        let some = crowd.map_or_else(|| !index.ids().is_empty(), |crowd| index.ids().meets(crowd));
        some.then(|| total(index.sum(crowd))).transpose()
    })?;
    call.integers(|row| Ok(sum(row)?.flatten()))
}
