//! `bitmap_has_all(a, b)`

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion::logical_expr::Signature;
use datafusion_macros::user_doc;

use super::arguments::{Call, scalar};
use crate::error::Result;
use crate::functions::typed::{Shape, Want};

const SHAPE: Shape = Shape { name: "bitmap_has_all", arguments: &[("a", Want::Bytes), ("b", Want::Bytes)], required: 2 };

#[user_doc(
    doc_section(label = "Audience Functions"),
    description = "Whether the first bitmap has all ids of the second; true when the second is empty.",
    syntax_example = "bitmap_has_all(a, b)",
    sql_example = "```sql\nSELECT bitmap_has_all(bitmap_build(ARRAY[1, 2]), bitmap_build(ARRAY[2]));\n-- true\n```",
    argument(name = "a", description = "A bitmap."),
    argument(name = "b", description = "A bitmap."),
    related_udf(name = "bitmap_has_any")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct BitmapHasAll {
    signature: Signature,
    aliases: [String; 2],
}

impl BitmapHasAll {
    pub(super) fn new() -> Self {
        Self { signature: SHAPE.signature(), aliases: ["bitmapHasAll".into(), "bitmaphasall".into()] }
    }
}

scalar!(BitmapHasAll, DataType::Boolean);

fn rows(call: &Call<'_>) -> Result<ArrayRef> {
    let both = call.two(|a, b| b.is_within(a))?;
    call.booleans(both)
}
