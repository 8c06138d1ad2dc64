//! `audience_bitmap(audience)`

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::DataType;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};
use datafusion_macros::user_doc;

use super::arguments::Call;
use super::stored::Audiences;
use crate::error::{Error, Result};
use crate::functions::MlContext;
use crate::functions::typed::{Shape, Want};

const SHAPE: Shape = Shape { name: "audience_bitmap", arguments: &[("audience", Want::Text)], required: 1 };

#[user_doc(
    doc_section(label = "Audience Functions"),
    description = "The bitmap of a stored audience, for bitmap_and and its like: its ids are the store's own numbers of users, the same in all audiences of a data directory. Ids of one person (link_ids) are one member. audience_users says whom they mean.",
    syntax_example = "audience_bitmap(audience)",
    sql_example = "```sql\nSELECT bitmap_and_cardinality(audience_bitmap('buyers'), audience_bitmap('germans')) AS both;\n```",
    argument(name = "audience", description = "`name` (the newest version) or `name@3`."),
    related_udf(name = "audience_users"),
    related_udf(name = "bitmap_and_cardinality")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct AudienceBitmap {
    audiences: Audiences,
    signature: Signature,
}

impl AudienceBitmap {
    pub(super) fn new(context: &Arc<MlContext>) -> Self {
        let mut signature = SHAPE.signature();
        // A new version must be seen by the next execution.
        signature.volatility = Volatility::Volatile;
        Self { audiences: Audiences::new(context), signature }
    }

    fn rows(&self, call: &Call<'_>) -> Result<ArrayRef> {
        let names = call.column(0)?;
        let (found, _) = self.audiences.members(&names, &call.caller())?;
        let names = names.as_string_opt::<i32>().ok_or_else(|| Error::internal("names of audiences are no texts"))?;
        call.bitmaps(|row| Ok(names.is_valid(row).then(|| found.get(names.value(row))).flatten().map(|set| set.as_ref().clone())))
    }
}

impl ScalarUDFImpl for AudienceBitmap {
    fn name(&self) -> &str {
        SHAPE.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, given: &[DataType]) -> DfResult<DataType> {
        SHAPE.check(given)?;
        Ok(DataType::Binary)
    }

    fn coerce_types(&self, given: &[DataType]) -> DfResult<Vec<DataType>> {
        Ok(SHAPE.coerce(given))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        Call::run(&args, |call| self.rows(call))
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }
}
