//! `bsi_top_k(index, k [, crowd])`

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion::logical_expr::Signature;
use datafusion_macros::user_doc;

use super::arguments::{Call, not_negative, scalar};
use crate::error::Result;
use crate::functions::typed::{Shape, Want};
use crate::kernels::bitmap::{Bitmap, Bsi};

const SHAPE: Shape =
    Shape { name: "bsi_top_k", arguments: &[("index", Want::Bytes), ("k", Want::Id), ("crowd", Want::Bytes)], required: 2 };

#[user_doc(
    doc_section(label = "Audience Functions"),
    description = "The k ids of the greatest numbers of an index, or of those of a crowd, as a bitmap; of equal numbers the smaller ids.",
    syntax_example = "bsi_top_k(index, k [, crowd])",
    sql_example = "```sql\nSELECT bitmap_to_array(bsi_top_k(bsi_build(id, v), 2)) FROM (VALUES (1, 10), (2, -4), (3, 0)) AS t(id, v);\n-- {1,3}\n```",
    argument(name = "index", description = "An index of bsi_build."),
    argument(name = "k", description = "How many ids at most, not negative."),
    argument(name = "crowd", description = "A bitmap: only its ids count. All by default."),
    related_udf(name = "bsi_max")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct BsiTopK {
    signature: Signature,
    aliases: [String; 1],
}

impl BsiTopK {
    pub(super) fn new() -> Self {
        Self { signature: SHAPE.signature(), aliases: ["bsi_topk".into()] }
    }
}

scalar!(BsiTopK, DataType::Binary);

fn rows(call: &Call<'_>) -> Result<ArrayRef> {
    let (indexes, k) = (call.sets::<Bsi>(0)?, call.ids(1)?);
    let crowd = if call.has(2) { Some(call.sets::<Bitmap>(2)?) } else { None };
    call.bitmaps(|row| {
        let (Some(index), Some(k)) = (indexes.get(row)?, k(row)) else { return Ok(None) };
        let k = not_negative(SHAPE.name, "k", k)?;
        match &crowd {
            None => Ok(Some(index.top(k, None))),
            Some(crowd) => Ok(crowd.get(row)?.map(|crowd| index.top(k, Some(&crowd)))),
        }
    })
}
