//! `bsi_ne(index, value)`

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion::logical_expr::Signature;
use datafusion_macros::user_doc;

use super::arguments::{Call, scalar};
use crate::error::Result;
use crate::functions::typed::{Shape, Want};

const SHAPE: Shape = Shape { name: "bsi_ne", arguments: &[("index", Want::Bytes), ("value", Want::Id)], required: 2 };

#[user_doc(
    doc_section(label = "Audience Functions"),
    description = "The ids whose number in an index is not the value, as a bitmap.",
    syntax_example = "bsi_ne(index, value)",
    sql_example = "```sql\nSELECT bitmap_to_array(bsi_ne(bsi_build(id, v), 0)) FROM (VALUES (1, 10), (2, -4), (3, 0)) AS t(id, v);\n-- {1,2}\n```",
    argument(name = "index", description = "An index of bsi_build."),
    argument(name = "value", description = "A whole number of 64 bits."),
    related_udf(name = "bsi_between")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct BsiNe {
    signature: Signature,
    aliases: [String; 1],
}

impl BsiNe {
    pub(super) fn new() -> Self {
        Self { signature: SHAPE.signature(), aliases: ["bsi_neq".into()] }
    }
}

scalar!(BsiNe, DataType::Binary);

fn rows(call: &Call<'_>) -> Result<ArrayRef> {
    call.compared(SHAPE.name, |order| order.less.or(&order.greater))
}
