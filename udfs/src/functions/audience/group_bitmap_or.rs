//! `group_bitmap_or(bitmap)`

use std::marker::PhantomData;

use arrow::datatypes::DataType;
use datafusion::logical_expr::Signature;
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion_macros::user_doc;

use super::states::{Combine, Or, Output};
use crate::error::Result;
use crate::functions::grouped::aggregate;
use crate::functions::typed::{Shape, Want};

const SHAPE: Shape = Shape { name: "group_bitmap_or", arguments: &[("bitmap", Want::Bytes)], required: 1 };

#[user_doc(
    doc_section(label = "Audience Functions"),
    description = "How many ids there are that any bitmap of a group has. No bitmap at all has no ids. As ClickHouse's groupBitmapOr; group_bitmap_or_state gives the bitmap itself.",
    syntax_example = "group_bitmap_or(bitmap)",
    sql_example = "```sql\nSELECT group_bitmap_or(ids) FROM (SELECT k, group_bitmap_state(id) AS ids FROM (VALUES ('a', 1), ('a', 2), ('b', 2), ('b', 3)) AS t(k, id) GROUP BY k);\n-- 3\n```",
    argument(name = "bitmap", description = "A bitmap; NULLs are left out."),
    related_udf(name = "group_bitmap_or_state")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct GroupBitmapOr {
    signature: Signature,
    aliases: [String; 6],
}

impl GroupBitmapOr {
    pub(super) fn new() -> Self {
        Self {
            signature: SHAPE.signature(),
            aliases: [
                "groupBitmapOr".into(),
                "groupbitmapor".into(),
                "groupBitmapMerge".into(),
                "groupbitmapmerge".into(),
                "bitmap_union_count".into(),
                "rb_or_cardinality_agg".into(),
            ],
        }
    }

    fn kernel(&self, _: &AccumulatorArgs<'_>) -> Result<Combine<Or>> {
        Ok(Combine(Output::Count, PhantomData))
    }
}

aggregate!(GroupBitmapOr, DataType::Int64);
