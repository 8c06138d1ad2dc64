//! `to_bitmap(id)`

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion::logical_expr::Signature;
use datafusion_macros::user_doc;

use super::arguments::{Call, member, scalar};
use crate::error::Result;
use crate::functions::typed::{Shape, Want};
use crate::kernels::bitmap::Bitmap;

const SHAPE: Shape = Shape { name: "to_bitmap", arguments: &[("id", Want::Id)], required: 1 };

#[user_doc(
    doc_section(label = "Audience Functions"),
    description = "The bitmap of one id; NULL for NULL.",
    syntax_example = "to_bitmap(id)",
    sql_example = "```sql\nSELECT bitmap_to_array(bitmap_or(to_bitmap(7), to_bitmap(3)));\n-- {3,7}\n```",
    argument(name = "id", description = "A whole number, not negative."),
    related_udf(name = "bitmap_build")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct ToBitmap {
    signature: Signature,
    aliases: [String; 0],
}

impl ToBitmap {
    pub(super) fn new() -> Self {
        Self { signature: SHAPE.signature(), aliases: [] }
    }
}

scalar!(ToBitmap, DataType::Binary);

fn rows(call: &Call<'_>) -> Result<ArrayRef> {
    let id = call.ids(0)?;
    call.bitmaps(|row| id(row).map(|id| Ok(Bitmap::from_ascending(&[member(id)?]))).transpose())
}
