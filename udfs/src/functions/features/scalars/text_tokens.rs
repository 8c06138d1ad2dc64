//! `text_tokens(text)`

use std::sync::Arc;

use arrow::array::{Array, AsArray, ListBuilder, StringBuilder};
use arrow::datatypes::DataType;
use datafusion::common::Result as DfResult;
use datafusion::logical_expr::{ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDFImpl, Signature};
use datafusion_macros::user_doc;

use super::arguments::{count, is_text, list_of, over_rows, signature, wrong_type};
use crate::error::{Error, Result};
use crate::kernels::words::words;

const SYNTAX: &str = "text_tokens(text)";

#[user_doc(
    doc_section(label = "Feature Functions"),
    description = "The words of a text in order: runs of letters in lower case; of scripts without spaces every character and every pair of neighbours; a number as its first digit and its size (#3e2 for 300 to 399). The same words that a model of texts learns from. NULL for NULL, an empty array for a text without words.",
    syntax_example = "text_tokens(text)",
    sql_example = "```sql\nSELECT text_tokens('Great shoes, 350 €!');\n-- {great,shoes,#3e2}\n```",
    argument(name = "text", description = "A text.")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct TextTokens {
    signature: Signature,
}

impl TextTokens {
    pub(super) fn new() -> Self {
        Self { signature: signature(&["text"]) }
    }
}

impl ScalarUDFImpl for TextTokens {
    fn name(&self) -> &str {
        "text_tokens"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> DfResult<Vec<DataType>> {
        Ok(given.iter().map(|found| if is_text(found) { DataType::Utf8 } else { found.clone() }).collect())
    }

    fn return_type(&self, given: &[DataType]) -> DfResult<DataType> {
        count(self.name(), given.len(), 1..=1, SYNTAX)?;
        match given {
            [DataType::Utf8] => Ok(list_of(DataType::Utf8)),
            [other, ..] => Err(wrong_type(self.name(), "text", "text", other).into()),
            [] => Err(Error::internal("no arguments").into()),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        over_rows(&args, |arrays, rows| -> Result<_> {
            let [texts] = arrays else { return Err(Error::internal("one argument was expected")) };
            let texts = texts.as_string::<i32>();
            let mut tokens = ListBuilder::new(StringBuilder::new());
            for row in 0..rows {
                if texts.is_valid(row) {
                    words(texts.value(row), |word| tokens.values().append_value(word));
                }
                tokens.append(texts.is_valid(row));
            }
            Ok(Arc::new(tokens.finish()))
        })
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }
}
