//! `feature_cross(a, b, …)`

use std::sync::Arc;

use arrow::array::{Array, AsArray, StringBuilder};
use arrow::datatypes::DataType;
use datafusion::common::Result as DfResult;
use datafusion::logical_expr::{ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDFImpl, Signature};
use datafusion_macros::user_doc;

use super::arguments::{count, over_rows, signature, wrong_type};
use crate::error::Result;
use crate::features::transform::InputKind;

const SYNTAX: &str = "feature_cross(a, b, …)";
const ARGUMENTS_MAX: usize = 32;

#[user_doc(
    doc_section(label = "Feature Functions"),
    description = "Several categories as one: their texts joined by |, a | inside one doubled, so that different combinations give different texts. NULL when one of them is. BigQuery's ML.FEATURE_CROSS for one combination.",
    syntax_example = "feature_cross(a, b, …)",
    sql_example = "```sql\nSELECT feature_cross('DE', 'mobile', 3);\n-- DE|mobile|3\n```",
    argument(name = "a, b, …", description = "Two to 32 texts, numbers, booleans or times.")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct FeatureCross {
    signature: Signature,
}

impl FeatureCross {
    pub(super) fn new() -> Self {
        Self { signature: signature(&[]) }
    }
}

impl ScalarUDFImpl for FeatureCross {
    fn name(&self) -> &str {
        "feature_cross"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> DfResult<Vec<DataType>> {
        Ok(given.iter().map(|found| if InputKind::Category.reads(found) { DataType::Utf8 } else { found.clone() }).collect())
    }

    fn return_type(&self, given: &[DataType]) -> DfResult<DataType> {
        count(self.name(), given.len(), 2..=ARGUMENTS_MAX, SYNTAX)?;
        match given.iter().enumerate().find(|(_, found)| **found != DataType::Utf8) {
            Some((index, found)) => Err(wrong_type(self.name(), &(index + 1).to_string(), "text, a number or a time", found).into()),
            None => Ok(DataType::Utf8),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        over_rows(&args, |arrays, rows| -> Result<_> {
            let columns: Vec<_> = arrays.iter().map(|array| array.as_string::<i32>()).collect();
            let mut crossed = StringBuilder::new();
            let mut text = String::new();
            for row in 0..rows {
                if columns.iter().any(|column| column.is_null(row)) {
                    crossed.append_null();
                    continue;
                }
                text.clear();
                for (index, column) in columns.iter().enumerate() {
                    if index > 0 {
                        text.push('|');
                    }
                    text.push_str(&column.value(row).replace('|', "||"));
                }
                crossed.append_value(&text);
            }
            Ok(Arc::new(crossed.finish()))
        })
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }
}
