//! `group_bitmap_state(id)`

use arrow::datatypes::DataType;
use datafusion::logical_expr::Signature;
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion_macros::user_doc;

use super::states::{Collect, Output};
use crate::error::Result;
use crate::functions::grouped::aggregate;
use crate::functions::typed::{Shape, Want};

const SHAPE: Shape = Shape { name: "group_bitmap_state", arguments: &[("id", Want::Id)], required: 1 };

#[user_doc(
    doc_section(label = "Audience Functions"),
    description = "The bitmap of a group's ids; empty without rows. See bitmap_build for what a bitmap is.",
    syntax_example = "group_bitmap_state(id)",
    sql_example = "```sql\nSELECT k, bitmap_to_array(group_bitmap_state(id)) AS ids FROM (VALUES ('a', 1), ('a', 2), ('b', 2), ('b', 3)) AS t(k, id) GROUP BY k ORDER BY k;\n```",
    argument(name = "id", description = "A whole number, not negative; NULLs are left out."),
    related_udf(name = "group_bitmap"),
    related_udf(name = "bitmap_build")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct GroupBitmapState {
    signature: Signature,
    aliases: [String; 4],
}

impl GroupBitmapState {
    pub(super) fn new() -> Self {
        Self {
            signature: SHAPE.signature(),
            aliases: ["groupBitmapState".into(), "groupbitmapstate".into(), "bitmap_agg".into(), "rb_build_agg".into()],
        }
    }

    fn kernel(&self, _: &AccumulatorArgs<'_>) -> Result<Collect> {
        Ok(Collect(Output::Set))
    }
}

aggregate!(GroupBitmapState, DataType::Binary);
