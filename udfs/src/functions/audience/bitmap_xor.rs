//! `bitmap_xor(a, b)`

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion::logical_expr::Signature;
use datafusion_macros::user_doc;

use super::arguments::{Call, scalar};
use crate::error::Result;
use crate::functions::typed::{Shape, Want};
use crate::kernels::bitmap::Bitmap;

const SHAPE: Shape = Shape { name: "bitmap_xor", arguments: &[("a", Want::Bytes), ("b", Want::Bytes)], required: 2 };

#[user_doc(
    doc_section(label = "Audience Functions"),
    description = "The ids that one of the bitmaps has alone; NULL when either is NULL.",
    syntax_example = "bitmap_xor(a, b)",
    sql_example = "```sql\nSELECT bitmap_to_array(bitmap_xor(bitmap_build(ARRAY[1, 2, 3]), bitmap_build(ARRAY[2, 3, 4])));\n-- {1,4}\n```",
    argument(name = "a", description = "A bitmap."),
    argument(name = "b", description = "A bitmap."),
    related_udf(name = "bitmap_xor_cardinality")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct BitmapXor {
    signature: Signature,
    aliases: [String; 3],
}

impl BitmapXor {
    pub(super) fn new() -> Self {
        Self { signature: SHAPE.signature(), aliases: ["bitmapXor".into(), "bitmapxor".into(), "rb_xor".into()] }
    }
}

scalar!(BitmapXor, DataType::Binary);

fn rows(call: &Call<'_>) -> Result<ArrayRef> {
    let both = call.two(Bitmap::xor)?;
    call.bitmaps(both)
}
