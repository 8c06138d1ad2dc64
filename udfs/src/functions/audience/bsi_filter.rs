//! `bsi_filter(index, crowd)`

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion::logical_expr::Signature;
use datafusion_macros::user_doc;

use super::arguments::{Call, scalar};
use crate::error::Result;
use crate::functions::typed::{Shape, Want};
use crate::kernels::bitmap::{Bitmap, Bsi};

const SHAPE: Shape = Shape { name: "bsi_filter", arguments: &[("index", Want::Bytes), ("crowd", Want::Bytes)], required: 2 };

#[user_doc(
    doc_section(label = "Audience Functions"),
    description = "The index of those ids alone that are in a crowd.",
    syntax_example = "bsi_filter(index, crowd)",
    sql_example = "```sql\nSELECT bsi_sum(bsi_filter(bsi_build(id, v), bitmap_build(ARRAY[2, 9]))) FROM (VALUES (1, 10), (2, -4), (3, 0)) AS t(id, v);\n-- -4\n```",
    argument(name = "index", description = "An index of bsi_build."),
    argument(name = "crowd", description = "A bitmap."),
    related_udf(name = "bsi_sum")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct BsiFilter {
    signature: Signature,
    aliases: [String; 0],
}

impl BsiFilter {
    pub(super) fn new() -> Self {
        Self { signature: SHAPE.signature(), aliases: [] }
    }
}

scalar!(BsiFilter, DataType::Binary);

fn rows(call: &Call<'_>) -> Result<ArrayRef> {
    let (indexes, crowds) = (call.sets::<Bsi>(0)?, call.sets::<Bitmap>(1)?);
    call.bytes(|row| {
        let (Some(index), Some(crowd)) = (indexes.get(row)?, crowds.get(row)?) else { return Ok(None) };
        Ok(Some(index.restrict(&crowd).to_bytes()))
    })
}
