//! `bitmap_contains(bitmap, id)`

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion::logical_expr::Signature;
use datafusion_macros::user_doc;

use super::arguments::{Call, scalar};
use crate::error::Result;
use crate::functions::typed::{Shape, Want};
use crate::kernels::bitmap::Bitmap;

const SHAPE: Shape = Shape { name: "bitmap_contains", arguments: &[("bitmap", Want::Bytes), ("id", Want::Id)], required: 2 };

#[user_doc(
    doc_section(label = "Audience Functions"),
    description = "Whether a bitmap has an id. A bitmap that is the same for all rows is read once for each batch.",
    syntax_example = "bitmap_contains(bitmap, id)",
    sql_example = "```sql\nSELECT id, bitmap_contains(bitmap_build(ARRAY[1, 3]), id) AS inside FROM (VALUES (1), (2)) AS t(id);\n```",
    argument(name = "bitmap", description = "A bitmap."),
    argument(name = "id", description = "A whole number."),
    related_udf(name = "bitmap_has_any")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct BitmapContains {
    signature: Signature,
    aliases: [String; 3],
}

impl BitmapContains {
    pub(super) fn new() -> Self {
        Self { signature: SHAPE.signature(), aliases: ["bitmapContains".into(), "bitmapcontains".into(), "rb_contains".into()] }
    }
}

scalar!(BitmapContains, DataType::Boolean);

fn rows(call: &Call<'_>) -> Result<ArrayRef> {
    let (sets, id) = (call.sets::<Bitmap>(0)?, call.ids(1)?);
    call.booleans(|row| {
        let (Some(set), Some(id)) = (sets.get(row)?, id(row)) else { return Ok(None) };
        Ok(Some(u64::try_from(id).is_ok_and(|id| set.contains(id))))
    })
}
