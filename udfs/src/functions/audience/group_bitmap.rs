//! `group_bitmap(id)`

use arrow::datatypes::DataType;
use datafusion::logical_expr::Signature;
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion_macros::user_doc;

use super::states::{Collect, Output};
use crate::error::Result;
use crate::functions::grouped::aggregate;
use crate::functions::typed::{Shape, Want};

const SHAPE: Shape = Shape { name: "group_bitmap", arguments: &[("id", Want::Id)], required: 1 };

#[user_doc(
    doc_section(label = "Audience Functions"),
    description = "How many different ids a group has: count(DISTINCT id), exactly, in the memory of a bitmap. As ClickHouse's groupBitmap; group_bitmap_state gives the bitmap itself.",
    syntax_example = "group_bitmap(id)",
    sql_example = "```sql\nSELECT group_bitmap(id) FROM (VALUES ('a', 1), ('a', 2), ('b', 2), ('b', 3)) AS t(k, id);\n-- 3\n```",
    argument(name = "id", description = "A whole number, not negative; NULLs are left out."),
    related_udf(name = "group_bitmap_state")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct GroupBitmap {
    signature: Signature,
    aliases: [String; 2],
}

impl GroupBitmap {
    pub(super) fn new() -> Self {
        Self { signature: SHAPE.signature(), aliases: ["groupBitmap".into(), "groupbitmap".into()] }
    }

    fn kernel(&self, _: &AccumulatorArgs<'_>) -> Result<Collect> {
        Ok(Collect(Output::Count))
    }
}

aggregate!(GroupBitmap, DataType::Int64);
