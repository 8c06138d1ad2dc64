//! `sub_bitmap(bitmap, offset, limit)`

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion::logical_expr::Signature;
use datafusion_macros::user_doc;

use super::arguments::{Call, not_negative, scalar};
use crate::error::Result;
use crate::functions::typed::{Shape, Want};
use crate::kernels::bitmap::Bitmap;

const SHAPE: Shape =
    Shape { name: "sub_bitmap", arguments: &[("bitmap", Want::Bytes), ("offset", Want::Id), ("limit", Want::Id)], required: 3 };

#[user_doc(
    doc_section(label = "Audience Functions"),
    description = "At most `limit` ids of a bitmap, the smallest first, after the smallest `offset` ones.",
    syntax_example = "sub_bitmap(bitmap, offset, limit)",
    sql_example = "```sql\nSELECT bitmap_to_array(sub_bitmap(bitmap_build(ARRAY[1, 5, 7, 9]), 1, 2));\n-- {5,7}\n```",
    argument(name = "bitmap", description = "A bitmap."),
    argument(name = "offset", description = "How many of the smallest ids to leave out, not negative."),
    argument(name = "limit", description = "How many ids at most, not negative."),
    related_udf(name = "bitmap_subset_limit")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct SubBitmap {
    signature: Signature,
    aliases: [String; 3],
}

impl SubBitmap {
    pub(super) fn new() -> Self {
        Self { signature: SHAPE.signature(), aliases: ["subBitmap".into(), "subbitmap".into(), "rb_select".into()] }
    }
}

scalar!(SubBitmap, DataType::Binary);

fn rows(call: &Call<'_>) -> Result<ArrayRef> {
    let (sets, offset, limit) = (call.sets::<Bitmap>(0)?, call.ids(1)?, call.ids(2)?);
    call.bitmaps(|row| {
        let (Some(set), Some(offset), Some(limit)) = (sets.get(row)?, offset(row), limit(row)) else { return Ok(None) };
        let number = |argument, value| not_negative(SHAPE.name, argument, value);
        Ok(Some(set.page(number("offset", offset)?, number("limit", limit)?)))
    })
}
