//! `group_bitmap_and_state(bitmap)`

use std::marker::PhantomData;

use arrow::datatypes::DataType;
use datafusion::logical_expr::Signature;
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion_macros::user_doc;

use super::states::{And, Combine, Output};
use crate::error::Result;
use crate::functions::grouped::aggregate;
use crate::functions::typed::{Shape, Want};

const SHAPE: Shape = Shape { name: "group_bitmap_and_state", arguments: &[("bitmap", Want::Bytes)], required: 1 };

#[user_doc(
    doc_section(label = "Audience Functions"),
    description = "The bitmap of the ids that all bitmaps of a group have; empty without rows.",
    syntax_example = "group_bitmap_and_state(bitmap)",
    sql_example = "```sql\nSELECT bitmap_to_array(group_bitmap_and_state(ids)) FROM (SELECT k, group_bitmap_state(id) AS ids FROM (VALUES ('a', 1), ('a', 2), ('b', 2), ('b', 3)) AS t(k, id) GROUP BY k);\n-- {2}\n```",
    argument(name = "bitmap", description = "A bitmap; NULLs are left out."),
    related_udf(name = "group_bitmap_and")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct GroupBitmapAndState {
    signature: Signature,
    aliases: [String; 4],
}

impl GroupBitmapAndState {
    pub(super) fn new() -> Self {
        Self {
            signature: SHAPE.signature(),
            aliases: ["groupBitmapAndState".into(), "groupbitmapandstate".into(), "bitmap_intersect".into(), "rb_and_agg".into()],
        }
    }

    fn kernel(&self, _: &AccumulatorArgs<'_>) -> Result<Combine<And>> {
        Ok(Combine(Output::Set, PhantomData))
    }
}

aggregate!(GroupBitmapAndState, DataType::Binary);
