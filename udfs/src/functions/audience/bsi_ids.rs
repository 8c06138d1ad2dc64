//! `bsi_ids(index)`

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion::logical_expr::Signature;
use datafusion_macros::user_doc;

use super::arguments::{Call, scalar};
use crate::error::Result;
use crate::functions::typed::{Shape, Want};
use crate::kernels::bitmap::Bsi;

const SHAPE: Shape = Shape { name: "bsi_ids", arguments: &[("index", Want::Bytes)], required: 1 };

#[user_doc(
    doc_section(label = "Audience Functions"),
    description = "The ids that have a number in an index, as a bitmap.",
    syntax_example = "bsi_ids(index)",
    sql_example = "```sql\nSELECT bitmap_to_array(bsi_ids(bsi_build(id, v))) FROM (VALUES (1, 10), (2, -4), (3, 0)) AS t(id, v);\n-- {1,2,3}\n```",
    argument(name = "index", description = "An index of bsi_build."),
    related_udf(name = "bsi_build")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct BsiIds {
    signature: Signature,
    aliases: [String; 1],
}

impl BsiIds {
    pub(super) fn new() -> Self {
        Self { signature: SHAPE.signature(), aliases: ["bsi_ebm".into()] }
    }
}

scalar!(BsiIds, DataType::Binary);

fn rows(call: &Call<'_>) -> Result<ArrayRef> {
    let indexes = call.sets::<Bsi>(0)?;
    call.bitmaps(|row| Ok(indexes.get(row)?.map(|index| index.into_owned().into_ids())))
}
