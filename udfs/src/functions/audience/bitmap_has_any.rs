//! `bitmap_has_any(a, b)`

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion::logical_expr::Signature;
use datafusion_macros::user_doc;

use super::arguments::{Call, scalar};
use crate::error::Result;
use crate::functions::typed::{Shape, Want};
use crate::kernels::bitmap::Bitmap;

const SHAPE: Shape = Shape { name: "bitmap_has_any", arguments: &[("a", Want::Bytes), ("b", Want::Bytes)], required: 2 };

#[user_doc(
    doc_section(label = "Audience Functions"),
    description = "Whether two bitmaps have an id in common.",
    syntax_example = "bitmap_has_any(a, b)",
    sql_example = "```sql\nSELECT bitmap_has_any(bitmap_build(ARRAY[1, 2]), bitmap_build(ARRAY[2, 3]));\n-- true\n```",
    argument(name = "a", description = "A bitmap."),
    argument(name = "b", description = "A bitmap."),
    related_udf(name = "bitmap_has_all")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct BitmapHasAny {
    signature: Signature,
    aliases: [String; 3],
}

impl BitmapHasAny {
    pub(super) fn new() -> Self {
        Self { signature: SHAPE.signature(), aliases: ["bitmapHasAny".into(), "bitmaphasany".into(), "rb_intersect".into()] }
    }
}

scalar!(BitmapHasAny, DataType::Boolean);

fn rows(call: &Call<'_>) -> Result<ArrayRef> {
    let both = call.two(Bitmap::meets)?;
    call.booleans(both)
}
