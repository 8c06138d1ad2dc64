//! `group_bitmap_and(bitmap)`

use std::marker::PhantomData;

use arrow::datatypes::DataType;
use datafusion::logical_expr::Signature;
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion_macros::user_doc;

use super::states::{And, Combine, Output};
use crate::error::Result;
use crate::functions::grouped::aggregate;
use crate::functions::typed::{Shape, Want};

const SHAPE: Shape = Shape { name: "group_bitmap_and", arguments: &[("bitmap", Want::Bytes)], required: 1 };

#[user_doc(
    doc_section(label = "Audience Functions"),
    description = "How many ids there are that all bitmaps of a group have. No bitmap at all has no ids. As ClickHouse's groupBitmapAnd; group_bitmap_and_state gives the bitmap itself.",
    syntax_example = "group_bitmap_and(bitmap)",
    sql_example = "```sql\nSELECT group_bitmap_and(ids) FROM (SELECT k, group_bitmap_state(id) AS ids FROM (VALUES ('a', 1), ('a', 2), ('b', 2), ('b', 3)) AS t(k, id) GROUP BY k);\n-- 1\n```",
    argument(name = "bitmap", description = "A bitmap; NULLs are left out."),
    related_udf(name = "group_bitmap_and_state")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct GroupBitmapAnd {
    signature: Signature,
    aliases: [String; 2],
}

impl GroupBitmapAnd {
    pub(super) fn new() -> Self {
        Self { signature: SHAPE.signature(), aliases: ["groupBitmapAnd".into(), "groupbitmapand".into()] }
    }

    fn kernel(&self, _: &AccumulatorArgs<'_>) -> Result<Combine<And>> {
        Ok(Combine(Output::Count, PhantomData))
    }
}

aggregate!(GroupBitmapAnd, DataType::Int64);
