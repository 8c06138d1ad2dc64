//! `bitmap_max(bitmap)`

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion::logical_expr::Signature;
use datafusion_macros::user_doc;

use super::arguments::{Call, bigint, scalar};
use crate::error::Result;
use crate::functions::typed::{Shape, Want};
use crate::kernels::bitmap::Bitmap;

const SHAPE: Shape = Shape { name: "bitmap_max", arguments: &[("bitmap", Want::Bytes)], required: 1 };

#[user_doc(
    doc_section(label = "Audience Functions"),
    description = "The greatest id of a bitmap; NULL when it is empty.",
    syntax_example = "bitmap_max(bitmap)",
    sql_example = "```sql\nSELECT bitmap_max(bitmap_build(ARRAY[5, 1, 9]));\n-- 9\n```",
    argument(name = "bitmap", description = "A bitmap."),
    related_udf(name = "bitmap_min")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct BitmapMax {
    signature: Signature,
    aliases: [String; 3],
}

impl BitmapMax {
    pub(super) fn new() -> Self {
        Self { signature: SHAPE.signature(), aliases: ["bitmapMax".into(), "bitmapmax".into(), "rb_max".into()] }
    }
}

scalar!(BitmapMax, DataType::Int64);

fn rows(call: &Call<'_>) -> Result<ArrayRef> {
    let sets = call.sets::<Bitmap>(0)?;
    call.integers(|row| sets.get(row)?.and_then(|set| set.max()).map(bigint).transpose())
}
