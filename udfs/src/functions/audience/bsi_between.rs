//! `bsi_between(index, low, high)`

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion::logical_expr::Signature;
use datafusion_macros::user_doc;

use super::arguments::{Call, number, scalar};
use crate::error::Result;
use crate::functions::typed::{Shape, Want};
use crate::kernels::bitmap::{Bitmap, Bsi};

const SHAPE: Shape =
    Shape { name: "bsi_between", arguments: &[("index", Want::Bytes), ("low", Want::Id), ("high", Want::Id)], required: 3 };

#[user_doc(
    doc_section(label = "Audience Functions"),
    description = "The ids whose number in an index lies from `low` to `high`, both included, as a bitmap: a band of a numeric tag.",
    syntax_example = "bsi_between(index, low, high)",
    sql_example = "```sql\nSELECT bitmap_to_array(bsi_between(bsi_build(id, v), -4, 0)) FROM (VALUES (1, 10), (2, -4), (3, 0)) AS t(id, v);\n-- {2,3}\n```",
    argument(name = "index", description = "An index of bsi_build."),
    argument(name = "low", description = "The least number."),
    argument(name = "high", description = "The greatest number."),
    related_udf(name = "bsi_ge"),
    related_udf(name = "bsi_le")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct BsiBetween {
    signature: Signature,
    aliases: [String; 0],
}

impl BsiBetween {
    pub(super) fn new() -> Self {
        Self { signature: SHAPE.signature(), aliases: [] }
    }
}

scalar!(BsiBetween, DataType::Binary);

fn rows(call: &Call<'_>) -> Result<ArrayRef> {
    let (indexes, low, high) = (call.sets::<Bsi>(0)?, call.ids(1)?, call.ids(2)?);
    call.bitmaps(|row| {
        let (Some(index), Some(low), Some(high)) = (indexes.get(row)?, low(row), high(row)) else { return Ok(None) };
        if low > high {
            return Ok(Some(Bitmap::default()));
        }
        let outside = index.compare(number(SHAPE.name, low)?).less.or(&index.compare(number(SHAPE.name, high)?).greater);
        Ok(Some(index.ids().and_not(&outside)))
    })
}
