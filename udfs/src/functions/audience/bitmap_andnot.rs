//! `bitmap_andnot(a, b)`

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion::logical_expr::Signature;
use datafusion_macros::user_doc;

use super::arguments::{Call, scalar};
use crate::error::Result;
use crate::functions::typed::{Shape, Want};
use crate::kernels::bitmap::Bitmap;

const SHAPE: Shape = Shape { name: "bitmap_andnot", arguments: &[("a", Want::Bytes), ("b", Want::Bytes)], required: 2 };

#[user_doc(
    doc_section(label = "Audience Functions"),
    description = "The ids that the first bitmap has and the second has not; NULL when either is NULL.",
    syntax_example = "bitmap_andnot(a, b)",
    sql_example = "```sql\nSELECT bitmap_to_array(bitmap_andnot(bitmap_build(ARRAY[1, 2, 3]), bitmap_build(ARRAY[2, 3, 4])));\n-- {1}\n```",
    argument(name = "a", description = "A bitmap."),
    argument(name = "b", description = "A bitmap."),
    related_udf(name = "bitmap_andnot_cardinality")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct BitmapAndnot {
    signature: Signature,
    aliases: [String; 4],
}

impl BitmapAndnot {
    pub(super) fn new() -> Self {
        Self {
            signature: SHAPE.signature(),
            aliases: ["bitmapAndnot".into(), "bitmapandnot".into(), "bitmap_and_not".into(), "rb_andnot".into()],
        }
    }
}

scalar!(BitmapAndnot, DataType::Binary);

fn rows(call: &Call<'_>) -> Result<ArrayRef> {
    let both = call.two(Bitmap::and_not)?;
    call.bitmaps(both)
}
