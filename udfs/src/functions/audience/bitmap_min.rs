//! `bitmap_min(bitmap)`

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion::logical_expr::Signature;
use datafusion_macros::user_doc;

use super::arguments::{Call, bigint, scalar};
use crate::error::Result;
use crate::functions::typed::{Shape, Want};
use crate::kernels::bitmap::Bitmap;

const SHAPE: Shape = Shape { name: "bitmap_min", arguments: &[("bitmap", Want::Bytes)], required: 1 };

#[user_doc(
    doc_section(label = "Audience Functions"),
    description = "The smallest id of a bitmap; NULL when it is empty.",
    syntax_example = "bitmap_min(bitmap)",
    sql_example = "```sql\nSELECT bitmap_min(bitmap_build(ARRAY[5, 1, 9]));\n-- 1\n```",
    argument(name = "bitmap", description = "A bitmap."),
    related_udf(name = "bitmap_max")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct BitmapMin {
    signature: Signature,
    aliases: [String; 3],
}

impl BitmapMin {
    pub(super) fn new() -> Self {
        Self { signature: SHAPE.signature(), aliases: ["bitmapMin".into(), "bitmapmin".into(), "rb_min".into()] }
    }
}

scalar!(BitmapMin, DataType::Int64);

fn rows(call: &Call<'_>) -> Result<ArrayRef> {
    let sets = call.sets::<Bitmap>(0)?;
    call.integers(|row| sets.get(row)?.and_then(|set| set.min()).map(bigint).transpose())
}
