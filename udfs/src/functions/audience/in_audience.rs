//! `in_audience(audience, user_id)`

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

const SHAPE: Shape = Shape { name: "in_audience", arguments: &[("audience", Want::Text), ("user_id", Want::Name)], required: 2 };

#[user_doc(
    doc_section(label = "Audience Functions"),
    description = "Whether a user is in a stored audience, by any id of the person; NULL for NULL. The audience is read once, whatever the number of rows.",
    syntax_example = "in_audience(audience, user_id)",
    sql_example = "```sql\nSELECT DISTINCT user_id FROM events WHERE in_audience('buyers', user_id) AND NOT in_audience('germans', user_id) ORDER BY user_id LIMIT 3;\n```",
    argument(name = "audience", description = "`name` (the newest version) or `name@3`."),
    argument(name = "user_id", description = "A user."),
    related_udf(name = "audience_bitmap")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct InAudience {
    audiences: Audiences,
    signature: Signature,
}

impl InAudience {
    pub(super) fn new(context: &Arc<MlContext>) -> Self {
        let mut signature = SHAPE.signature();
        // A new version must be seen by the next execution.
        signature.volatility = Volatility::Volatile;
        Self { audiences: Audiences::new(context), signature }
    }

    fn rows(&self, call: &Call<'_>) -> Result<ArrayRef> {
        let (names, users) = (call.column(0)?, call.column(1)?);
        let no_text = || Error::internal("names are no texts");
        let (found, numbers) = self.audiences.members(&names, &call.caller())?;
        let (names, users) = (names.as_string_opt::<i32>().ok_or_else(no_text)?, users.as_string_opt::<i32>().ok_or_else(no_text)?);
        let numbers = numbers.find(users);
        call.booleans(|row| {
            if names.is_null(row) || users.is_null(row) {
                return Ok(None);
            }
            let members = found.get(names.value(row));
            Ok(Some(numbers[row].is_some_and(|number| members.is_some_and(|members| members.contains(number)))))
        })
    }
}

impl ScalarUDFImpl for InAudience {
    fn name(&self) -> &str {
        SHAPE.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, given: &[DataType]) -> DfResult<DataType> {
        SHAPE.check(given)?;
        Ok(DataType::Boolean)
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
