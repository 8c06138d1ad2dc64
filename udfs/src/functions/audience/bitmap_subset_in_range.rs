//! `bitmap_subset_in_range(bitmap, first, behind)`

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion::logical_expr::Signature;
use datafusion_macros::user_doc;

use super::arguments::{Call, scalar};
use crate::error::Result;
use crate::functions::typed::{Shape, Want};
use crate::kernels::bitmap::Bitmap;

const SHAPE: Shape =
    Shape { name: "bitmap_subset_in_range", arguments: &[("bitmap", Want::Bytes), ("first", Want::Id), ("behind", Want::Id)], required: 3 };

#[user_doc(
    doc_section(label = "Audience Functions"),
    description = "The ids of a bitmap from `first` on that are below `behind`.",
    syntax_example = "bitmap_subset_in_range(bitmap, first, behind)",
    sql_example = "```sql\nSELECT bitmap_to_array(bitmap_subset_in_range(bitmap_build(ARRAY[1, 5, 7, 9]), 5, 9));\n-- {5,7}\n```",
    argument(name = "bitmap", description = "A bitmap."),
    argument(name = "first", description = "The first id that may be in it."),
    argument(name = "behind", description = "The id behind the last one."),
    related_udf(name = "bitmap_subset_limit")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct BitmapSubsetInRange {
    signature: Signature,
    aliases: [String; 3],
}

impl BitmapSubsetInRange {
    pub(super) fn new() -> Self {
        Self { signature: SHAPE.signature(), aliases: ["bitmapSubsetInRange".into(), "bitmapsubsetinrange".into(), "rb_range".into()] }
    }
}

scalar!(BitmapSubsetInRange, DataType::Binary);

fn rows(call: &Call<'_>) -> Result<ArrayRef> {
    let (sets, first, behind) = (call.sets::<Bitmap>(0)?, call.ids(1)?, call.ids(2)?);
    call.bitmaps(|row| {
        let (Some(set), Some(first), Some(behind)) = (sets.get(row)?, first(row), behind(row)) else { return Ok(None) };
        let (Ok(first), Ok(last)) = (u64::try_from(first.max(0)), u64::try_from(behind - 1)) else { return Ok(Some(Bitmap::default())) };
        Ok(Some(set.range(first, last)))
    })
}
