//! `transform(name, row)`

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Float64Builder, ListBuilder, new_null_array};
use arrow::datatypes::DataType;
use datafusion::common::Result as DfResult;
use datafusion::logical_expr::{ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};
use datafusion_macros::user_doc;

use super::arguments::{count, is_text, list_of, over_rows, wrong_type};
use super::stored::{Stored, features, is_null, is_row};
use crate::error::{Error, Result};
use crate::functions::MlContext;
use crate::registry::StoredTransform;

const SYNTAX: &str = "transform(name, row)";

#[user_doc(
    doc_section(label = "Feature Functions"),
    description = "The features of a row under a stored transform, in the order of ml.transform_features, with the parameters that were learned when it was fitted. A missing feature is NULL in the array. The version is fixed when the statement is planned. For columns with names use transform_rows in FROM, for one number transform_value.",
    syntax_example = "transform(name, row)",
    sql_example = "```sql\nSELECT * FROM fit_transform('prices', 'events', 'price: median | robust');\nSELECT price, transform('prices', price) FROM events LIMIT 3;\n```",
    argument(name = "name", description = "The transform: name for the newest version, or name@3; a constant."),
    argument(
        name = "row",
        description = "named_struct('price', price, …), bound by field name; or the value itself when the transform reads one column."
    ),
    related_udf(name = "transform_value")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Transform {
    signature: Signature,
    pub(super) stored: Stored,
}

impl Transform {
    pub(super) fn new(context: &Arc<MlContext>) -> Self {
        Self { signature: signature(Volatility::Volatile), stored: Stored::new(context) }
    }

    /// The same, with the version that a plan carries: it depends on nothing else any more.
    pub(super) fn pinned(&self, stored: &Arc<StoredTransform>) -> Self {
        Self { signature: signature(Volatility::Immutable), stored: self.stored.pinned(stored) }
    }
}

fn signature(volatility: Volatility) -> Signature {
    let mut signature = Signature::user_defined(volatility);
    signature.parameter_names = Some(vec!["name".into(), "row".into()]);
    signature
}

impl ScalarUDFImpl for Transform {
    fn name(&self) -> &str {
        "transform"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> DfResult<Vec<DataType>> {
        Ok(given.iter().enumerate().map(|(i, found)| if i == 0 && is_text(found) { DataType::Utf8 } else { found.clone() }).collect())
    }

    fn return_type(&self, given: &[DataType]) -> DfResult<DataType> {
        count(self.name(), given.len(), 2..=2, SYNTAX)?;
        match given {
            [DataType::Utf8, row] if is_row(row) => Ok(list_of(DataType::Float64)),
            [DataType::Utf8, other] => Err(wrong_type(self.name(), "row", "a row or a value", other).into()),
            [other, ..] => Err(wrong_type(self.name(), "name", "text", other).into()),
            [] => Err(Error::internal("no arguments").into()),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let stored = self.stored.of(self.name(), &args)?;
        over_rows(&args, |arrays, rows| -> Result<ArrayRef> {
            let (Some(stored), Some(row)) = (&stored, arrays.get(1)) else {
                return Ok(new_null_array(&list_of(DataType::Float64), rows));
            };
            let features = features(stored, row)?;
            let mut lists = ListBuilder::with_capacity(Float64Builder::with_capacity(rows * features.len()), rows);
            for line in 0..row.len() {
                if is_null(row, line) {
                    lists.append_null();
                    continue;
                }
                for feature in &features {
                    lists.values().append_option(feature.get(line).copied().filter(|value| !value.is_nan()));
                }
                lists.append(true);
            }
            Ok(Arc::new(lists.finish()))
        })
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }
}
