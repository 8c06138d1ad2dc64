//! `bitmap_to_array(bitmap)`

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Builder, ListBuilder};
use arrow::datatypes::DataType;
use datafusion::logical_expr::Signature;
use datafusion_macros::user_doc;

use super::arguments::{Call, bigint, scalar};
use crate::error::{Code, Error, Result};
use crate::functions::typed::{Shape, Want};
use crate::kernels::bitmap::Bitmap;

const SHAPE: Shape = Shape { name: "bitmap_to_array", arguments: &[("bitmap", Want::Bytes)], required: 1 };

#[user_doc(
    doc_section(label = "Audience Functions"),
    description = "The ids of a bitmap as an array, ascending; `unnest` makes rows of them. 54000 when the arrays of one batch have more than 16777216 ids: read a page at a time with sub_bitmap or bitmap_subset_limit.",
    syntax_example = "bitmap_to_array(bitmap)",
    sql_example = "```sql\nSELECT unnest(bitmap_to_array(bitmap_build(ARRAY[5, 1, 9]))) AS user_id;\n```",
    argument(name = "bitmap", description = "A bitmap."),
    related_udf(name = "bitmap_build"),
    related_udf(name = "sub_bitmap")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct BitmapToArray {
    signature: Signature,
    aliases: [String; 3],
}

impl BitmapToArray {
    pub(super) fn new() -> Self {
        Self { signature: SHAPE.signature(), aliases: ["bitmapToArray".into(), "bitmaptoarray".into(), "rb_to_array".into()] }
    }
}

scalar!(BitmapToArray, DataType::new_list(DataType::Int64, true));

/// Ids of one batch of arrays, at most: 128 MiB.
pub(super) const IDS_MAX: u64 = 1 << 24;

fn rows(call: &Call<'_>) -> Result<ArrayRef> {
    let sets = call.sets::<Bitmap>(0)?;
    let mut items = 0;
    let mut out = ListBuilder::new(Int64Builder::new());
    for row in 0..call.rows() {
        let Some(set) = sets.get(row)? else {
            out.append_null();
            continue;
        };
        items += set.len();
        if items > IDS_MAX {
            return Err(Error::new(Code::TooComplex, format!("the arrays of one batch have more than {IDS_MAX} ids"))
                .hint("Read a page at a time with sub_bitmap or bitmap_subset_limit."));
        }
        for id in set.iter() {
            out.values().append_value(bigint(id)?);
        }
        out.append(true);
    }
    Ok(Arc::new(out.finish()))
}
