//! `audience_users(bitmap)`

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{ArrayRef, ListBuilder, StringBuilder};
use arrow::datatypes::DataType;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};
use datafusion_macros::user_doc;

use super::arguments::Call;
use super::bitmap_to_array::IDS_MAX;
use super::stored::Audiences;
use crate::error::{Code, Error, Result};
use crate::functions::MlContext;
use crate::functions::typed::{Shape, Want};
use crate::kernels::bitmap::Bitmap;

const SHAPE: Shape = Shape { name: "audience_users", arguments: &[("bitmap", Want::Bytes)], required: 1 };

#[user_doc(
    doc_section(label = "Audience Functions"),
    description = "The users whom a bitmap of stored audiences means, as an array of texts; `unnest` makes rows of them. 54000 for more than 16777216 in one batch. NULL in the place of a number that nobody has.",
    syntax_example = "audience_users(bitmap)",
    sql_example = "```sql\nSELECT unnest(audience_users(sub_bitmap(bitmap_andnot(audience_bitmap('buyers'), audience_bitmap('germans')), 0, 3))) AS user_id;\n```",
    argument(name = "bitmap", description = "A bitmap of audience_bitmap, or of several."),
    related_udf(name = "audience_bitmap")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct AudienceUsers {
    audiences: Audiences,
    signature: Signature,
}

impl AudienceUsers {
    pub(super) fn new(context: &Arc<MlContext>) -> Self {
        let mut signature = SHAPE.signature();
        // A new version must be seen by the next execution.
        signature.volatility = Volatility::Volatile;
        Self { audiences: Audiences::new(context), signature }
    }

    fn rows(&self, call: &Call<'_>) -> Result<ArrayRef> {
        let sets = call.sets::<Bitmap>(0)?;
        let numbers = self.audiences.numbers()?;
        let mut items = 0;
        let mut out = ListBuilder::new(StringBuilder::new());
        for row in 0..call.rows() {
            let Some(set) = sets.get(row)? else {
                out.append_null();
                continue;
            };
            // One that was kept may be older than links between ids.
            let set = numbers.persons_of(&set).map_or(set, Cow::Owned);
            items += set.len();
            if items > IDS_MAX {
                return Err(Error::new(Code::TooComplex, format!("the arrays of one batch have more than {IDS_MAX} users"))
                    .hint("Read a page at a time with sub_bitmap."));
            }
            let ids: Vec<u64> = set.iter().collect();
            out.append_value(numbers.names(&ids).iter());
        }
        Ok(Arc::new(out.finish()))
    }
}

impl ScalarUDFImpl for AudienceUsers {
    fn name(&self) -> &str {
        SHAPE.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, given: &[DataType]) -> DfResult<DataType> {
        SHAPE.check(given)?;
        Ok(DataType::new_list(DataType::Utf8, true))
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
