//! `bsi_min(index [, crowd])`

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion::logical_expr::Signature;
use datafusion_macros::user_doc;

use super::arguments::{Call, scalar};
use crate::error::Result;
use crate::functions::typed::{Shape, Want};

const SHAPE: Shape = Shape { name: "bsi_min", arguments: &[("index", Want::Bytes), ("crowd", Want::Bytes)], required: 1 };

#[user_doc(
    doc_section(label = "Audience Functions"),
    description = "The least number of an index, or of those of a crowd; NULL without ids.",
    syntax_example = "bsi_min(index [, crowd])",
    sql_example = "```sql\nSELECT bsi_min(bsi_build(id, v)) FROM (VALUES (1, 10), (2, -4), (3, 0)) AS t(id, v);\n-- -4\n```",
    argument(name = "index", description = "An index of bsi_build."),
    argument(name = "crowd", description = "A bitmap: only its ids count. All by default."),
    related_udf(name = "bsi_top_k")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct BsiMin {
    signature: Signature,
    aliases: [String; 0],
}

impl BsiMin {
    pub(super) fn new() -> Self {
        Self { signature: SHAPE.signature(), aliases: [] }
    }
}

scalar!(BsiMin, DataType::Int64);

fn rows(call: &Call<'_>) -> Result<ArrayRef> {
    let extreme = call.within(1, |index, crowd| Ok(index.extreme(false, crowd)))?;
    call.integers(|row| Ok(extreme(row)?.flatten()))
}
