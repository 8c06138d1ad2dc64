//! `bsi_get(index, id)`

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion::logical_expr::Signature;
use datafusion_macros::user_doc;

use super::arguments::{Call, scalar};
use crate::error::Result;
use crate::functions::typed::{Shape, Want};
use crate::kernels::bitmap::Bsi;

const SHAPE: Shape = Shape { name: "bsi_get", arguments: &[("index", Want::Bytes), ("id", Want::Id)], required: 2 };

#[user_doc(
    doc_section(label = "Audience Functions"),
    description = "The number of an id in an index; NULL when it has none.",
    syntax_example = "bsi_get(index, id)",
    sql_example = "```sql\nSELECT bsi_get(bsi_build(id, v), 2) FROM (VALUES (1, 10), (2, -4), (3, 0)) AS t(id, v);\n-- -4\n```",
    argument(name = "index", description = "An index of bsi_build."),
    argument(name = "id", description = "A whole number."),
    related_udf(name = "bsi_build")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct BsiGet {
    signature: Signature,
    aliases: [String; 0],
}

impl BsiGet {
    pub(super) fn new() -> Self {
        Self { signature: SHAPE.signature(), aliases: [] }
    }
}

scalar!(BsiGet, DataType::Int64);

fn rows(call: &Call<'_>) -> Result<ArrayRef> {
    let (indexes, id) = (call.sets::<Bsi>(0)?, call.ids(1)?);
    call.integers(|row| {
        let (Some(index), Some(id)) = (indexes.get(row)?, id(row)) else { return Ok(None) };
        Ok(u64::try_from(id).ok().and_then(|id| index.get(id)))
    })
}
