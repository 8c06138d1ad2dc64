//! `bitmap_andnot_cardinality(a, b)`

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion::logical_expr::Signature;
use datafusion_macros::user_doc;

use super::arguments::{Call, scalar};
use crate::error::Result;
use crate::functions::typed::{Shape, Want};
use crate::kernels::bitmap::Bitmap;

const SHAPE: Shape = Shape { name: "bitmap_andnot_cardinality", arguments: &[("a", Want::Bytes), ("b", Want::Bytes)], required: 2 };

#[user_doc(
    doc_section(label = "Audience Functions"),
    description = "How many ids the first bitmap has and the second has not, without making their bitmap; NULL when either is NULL.",
    syntax_example = "bitmap_andnot_cardinality(a, b)",
    sql_example = "```sql\nSELECT bitmap_andnot_cardinality(bitmap_build(ARRAY[1, 2, 3]), bitmap_build(ARRAY[2, 3, 4]));\n-- 1\n```",
    argument(name = "a", description = "A bitmap."),
    argument(name = "b", description = "A bitmap."),
    related_udf(name = "bitmap_andnot")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct BitmapAndnotCardinality {
    signature: Signature,
    aliases: [String; 4],
}

impl BitmapAndnotCardinality {
    pub(super) fn new() -> Self {
        Self {
            signature: SHAPE.signature(),
            aliases: [
                "bitmapAndnotCardinality".into(),
                "bitmapandnotcardinality".into(),
                "bitmap_and_not_count".into(),
                "rb_andnot_cardinality".into(),
            ],
        }
    }
}

scalar!(BitmapAndnotCardinality, DataType::Int64);

fn rows(call: &Call<'_>) -> Result<ArrayRef> {
    let both = call.two(Bitmap::and_not_len)?;
    call.integers(|row| Ok(both(row)?.map(u64::cast_signed)))
}
