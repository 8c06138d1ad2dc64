//! `bitmap_cardinality(bitmap)`

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion::logical_expr::Signature;
use datafusion_macros::user_doc;

use super::arguments::{Call, scalar};
use crate::error::Result;
use crate::functions::typed::{Shape, Want};
use crate::kernels::bitmap::Bitmap;

const SHAPE: Shape = Shape { name: "bitmap_cardinality", arguments: &[("bitmap", Want::Bytes)], required: 1 };

#[user_doc(
    doc_section(label = "Audience Functions"),
    description = "How many ids a bitmap has.",
    syntax_example = "bitmap_cardinality(bitmap)",
    sql_example = "```sql\nSELECT bitmap_cardinality(bitmap_build(ARRAY[5, 1, 5, 9]));\n-- 3\n```",
    argument(name = "bitmap", description = "A bitmap."),
    related_udf(name = "group_bitmap")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct BitmapCardinality {
    signature: Signature,
    aliases: [String; 4],
}

impl BitmapCardinality {
    pub(super) fn new() -> Self {
        Self {
            signature: SHAPE.signature(),
            aliases: ["bitmapCardinality".into(), "bitmapcardinality".into(), "bitmap_count".into(), "rb_cardinality".into()],
        }
    }
}

scalar!(BitmapCardinality, DataType::Int64);

fn rows(call: &Call<'_>) -> Result<ArrayRef> {
    let sets = call.sets::<Bitmap>(0)?;
    call.integers(|row| Ok(sets.get(row)?.map(|set| set.len().cast_signed())))
}
