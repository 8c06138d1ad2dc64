//! `bsi_add(a, b)`

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion::logical_expr::Signature;
use datafusion_macros::user_doc;

use super::arguments::{Call, scalar};
use crate::error::{Code, Error, Result};
use crate::functions::typed::{Shape, Want};
use crate::kernels::bitmap::Bsi;

const SHAPE: Shape = Shape { name: "bsi_add", arguments: &[("a", Want::Bytes), ("b", Want::Bytes)], required: 2 };

#[user_doc(
    doc_section(label = "Audience Functions"),
    description = "The index of both: the numbers of an id that both have are added. So yesterday's index and that of today's events make today's, without reading yesterday's events.",
    syntax_example = "bsi_add(a, b)",
    sql_example = "```sql\nSELECT bsi_get(bsi_add(bsi_build(id, v), bsi_build(id, 100)), 2) FROM (VALUES (1, 10), (2, -4), (3, 0)) AS t(id, v);\n-- 96\n```",
    argument(name = "a", description = "An index."),
    argument(name = "b", description = "An index."),
    related_udf(name = "bsi_merge")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct BsiAdd {
    signature: Signature,
    aliases: [String; 0],
}

impl BsiAdd {
    pub(super) fn new() -> Self {
        Self { signature: SHAPE.signature(), aliases: [] }
    }
}

scalar!(BsiAdd, DataType::Binary);

fn rows(call: &Call<'_>) -> Result<ArrayRef> {
    let (left, right) = (call.sets::<Bsi>(0)?, call.sets::<Bsi>(1)?);
    call.bytes(|row| {
        let (Some(left), Some(right)) = (left.get(row)?, right.get(row)?) else { return Ok(None) };
        let sum = left.plus(&right).ok_or_else(|| Error::new(Code::NumericOutOfRange, "bigint out of range"))?;
        Ok(Some(sum.to_bytes()))
    })
}
