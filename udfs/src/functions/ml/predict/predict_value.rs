//! `predict_value(model, user_id [, as_of])`

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature};
use datafusion_macros::user_doc;

use super::marker::Marker;

/// The number that a count, sum or regression model predicts for a user, in the units of the target. NULL for a NULL or unknown user, and for a history shorter than `min_history`.
#[user_doc(
    doc_section(label = "Machine Learning Functions"),
    description = "The number that a count, sum or regression model predicts for a user, in the units of the target. NULL for a NULL or unknown user, and for a history shorter than `min_history`.",
    syntax_example = "predict_value(model, user_id [, as_of])",
    sql_example = "```sql\nSELECT predict_value('spender', 12748);\n```",
    argument(name = "model", description = "Name of a model (its active version) or `name@version`; a constant."),
    argument(
        name = "user_id",
        description = "The user, in the key's own type or as text; or a row, for example `named_struct(...)`, bound by field name, for a model of labelled rows."
    ),
    argument(name = "as_of", description = "Only events up to this time count. By default the largest event time of the model's source.")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct PredictValue {
    signature: Signature,
}

impl Default for PredictValue {
    fn default() -> Self {
        Self { signature: Marker::Value.signature() }
    }
}

impl ScalarUDFImpl for PredictValue {
    fn name(&self) -> &str {
        Marker::Value.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(Marker::Value.return_type())
    }

    fn return_field_from_args(&self, _arguments: ReturnFieldArgs) -> Result<FieldRef> {
        Ok(Arc::new(arrow::datatypes::Field::new(self.name(), Marker::Value.return_type(), true)))
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        Marker::Value.coerce(arguments)
    }

    fn invoke_with_args(&self, _arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Marker::Value.unplanned()
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }
}
