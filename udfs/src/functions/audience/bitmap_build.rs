//! `bitmap_build(ids)`

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::DataType;
use datafusion::logical_expr::Signature;
use datafusion_macros::user_doc;

use super::arguments::{Call, ids, member, scalar};
use crate::error::{Error, Result};
use crate::functions::typed::{Shape, Want};
use crate::kernels::bitmap::Bitmap;

const SHAPE: Shape = Shape { name: "bitmap_build", arguments: &[("ids", Want::Ids)], required: 1 };

#[user_doc(
    doc_section(label = "Audience Functions"),
    description = "The bitmap of an array's ids. A bitmap is a set of 64-bit ids as `bytea`, in the portable 64-bit format of roaring bitmaps that CRoaring, its bindings and ClickHouse read; equal sets have equal bytes, so `=` and GROUP BY compare sets.",
    syntax_example = "bitmap_build(ids)",
    sql_example = "```sql\nSELECT bitmap_cardinality(bitmap_build(ARRAY[5, 1, 5, 9]));\n-- 3\n```",
    argument(name = "ids", description = "Whole numbers, not negative, in any order; NULLs are left out."),
    related_udf(name = "group_bitmap_state"),
    related_udf(name = "bitmap_to_array")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct BitmapBuild {
    signature: Signature,
    aliases: [String; 4],
}

impl BitmapBuild {
    pub(super) fn new() -> Self {
        Self {
            signature: SHAPE.signature(),
            aliases: ["bitmapBuild".into(), "bitmapbuild".into(), "bitmap_from_array".into(), "rb_build".into()],
        }
    }
}

scalar!(BitmapBuild, DataType::Binary);

fn rows(call: &Call<'_>) -> Result<ArrayRef> {
    let column = call.column(0)?;
    let lists = column.as_list_opt::<i32>().ok_or_else(|| Error::internal("ids are not an array"))?;
    let id = ids(lists.values())?;
    call.bitmaps(|row| {
        if lists.is_null(row) {
            return Ok(None);
        }
        let items = lists.value_offsets()[row] as usize..lists.value_offsets()[row + 1] as usize;
        Ok(Some(Bitmap::from_ids(items.filter_map(&id).map(member).collect::<Result<Vec<u64>>>()?)))
    })
}
