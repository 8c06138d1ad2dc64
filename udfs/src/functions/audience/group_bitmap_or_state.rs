//! `group_bitmap_or_state(bitmap)`

use std::marker::PhantomData;

use arrow::datatypes::DataType;
use datafusion::logical_expr::Signature;
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion_macros::user_doc;

use super::states::{Combine, Or, Output};
use crate::error::Result;
use crate::functions::grouped::aggregate;
use crate::functions::typed::{Shape, Want};

const SHAPE: Shape = Shape { name: "group_bitmap_or_state", arguments: &[("bitmap", Want::Bytes)], required: 1 };

#[user_doc(
    doc_section(label = "Audience Functions"),
    description = "The bitmap of the ids that any bitmap of a group has; empty without rows.",
    syntax_example = "group_bitmap_or_state(bitmap)",
    sql_example = "```sql\nSELECT bitmap_to_array(group_bitmap_or_state(ids)) FROM (SELECT k, group_bitmap_state(id) AS ids FROM (VALUES ('a', 1), ('a', 2), ('b', 2), ('b', 3)) AS t(k, id) GROUP BY k);\n-- {1,2,3}\n```",
    argument(name = "bitmap", description = "A bitmap; NULLs are left out."),
    related_udf(name = "group_bitmap_or")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct GroupBitmapOrState {
    signature: Signature,
    aliases: [String; 6],
}

impl GroupBitmapOrState {
    pub(super) fn new() -> Self {
        Self {
            signature: SHAPE.signature(),
            aliases: [
                "groupBitmapOrState".into(),
                "groupbitmaporstate".into(),
                "groupBitmapMergeState".into(),
                "groupbitmapmergestate".into(),
                "bitmap_union".into(),
                "rb_or_agg".into(),
            ],
        }
    }

    fn kernel(&self, _: &AccumulatorArgs<'_>) -> Result<Combine<Or>> {
        Ok(Combine(Output::Set, PhantomData))
    }
}

aggregate!(GroupBitmapOrState, DataType::Binary);
