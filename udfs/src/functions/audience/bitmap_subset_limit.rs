//! `bitmap_subset_limit(bitmap, first, limit)`

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion::logical_expr::Signature;
use datafusion_macros::user_doc;

use super::arguments::{Call, not_negative, scalar};
use crate::error::Result;
use crate::functions::typed::{Shape, Want};
use crate::kernels::bitmap::Bitmap;

const SHAPE: Shape =
    Shape { name: "bitmap_subset_limit", arguments: &[("bitmap", Want::Bytes), ("first", Want::Id), ("limit", Want::Id)], required: 3 };

#[user_doc(
    doc_section(label = "Audience Functions"),
    description = "At most `limit` ids of a bitmap, the smallest first, from `first` on: a page after the last id of the page before, whatever was added since.",
    syntax_example = "bitmap_subset_limit(bitmap, first, limit)",
    sql_example = "```sql\nSELECT bitmap_to_array(bitmap_subset_limit(bitmap_build(ARRAY[1, 5, 7, 9]), 5, 2));\n-- {5,7}\n```",
    argument(name = "bitmap", description = "A bitmap."),
    argument(name = "first", description = "The first id that may be in it."),
    argument(name = "limit", description = "How many ids at most, not negative."),
    related_udf(name = "sub_bitmap")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct BitmapSubsetLimit {
    signature: Signature,
    aliases: [String; 2],
}

impl BitmapSubsetLimit {
    pub(super) fn new() -> Self {
        Self { signature: SHAPE.signature(), aliases: ["bitmapSubsetLimit".into(), "bitmapsubsetlimit".into()] }
    }
}

scalar!(BitmapSubsetLimit, DataType::Binary);

fn rows(call: &Call<'_>) -> Result<ArrayRef> {
    let (sets, first, limit) = (call.sets::<Bitmap>(0)?, call.ids(1)?, call.ids(2)?);
    call.bitmaps(|row| {
        let (Some(set), Some(first), Some(limit)) = (sets.get(row)?, first(row), limit(row)) else { return Ok(None) };
        let limit = not_negative(SHAPE.name, "limit", limit)?;
        Ok(Some(u64::try_from(first.max(0)).map_or_else(|_| Bitmap::default(), |first| set.from(first, limit))))
    })
}
