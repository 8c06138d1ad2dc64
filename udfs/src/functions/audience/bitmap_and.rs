//! `bitmap_and(a, b)`

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion::logical_expr::Signature;
use datafusion_macros::user_doc;

use super::arguments::{Call, scalar};
use crate::error::Result;
use crate::functions::typed::{Shape, Want};
use crate::kernels::bitmap::Bitmap;

const SHAPE: Shape = Shape { name: "bitmap_and", arguments: &[("a", Want::Bytes), ("b", Want::Bytes)], required: 2 };

#[user_doc(
    doc_section(label = "Audience Functions"),
    description = "The ids that both bitmaps have; NULL when either is NULL.",
    syntax_example = "bitmap_and(a, b)",
    sql_example = "```sql\nSELECT bitmap_to_array(bitmap_and(bitmap_build(ARRAY[1, 2, 3]), bitmap_build(ARRAY[2, 3, 4])));\n-- {2,3}\n```",
    argument(name = "a", description = "A bitmap."),
    argument(name = "b", description = "A bitmap."),
    related_udf(name = "bitmap_and_cardinality")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct BitmapAnd {
    signature: Signature,
    aliases: [String; 3],
}

impl BitmapAnd {
    pub(super) fn new() -> Self {
        Self { signature: SHAPE.signature(), aliases: ["bitmapAnd".into(), "bitmapand".into(), "rb_and".into()] }
    }
}

scalar!(BitmapAnd, DataType::Binary);

fn rows(call: &Call<'_>) -> Result<ArrayRef> {
    let both = call.two(Bitmap::and)?;
    call.bitmaps(both)
}
