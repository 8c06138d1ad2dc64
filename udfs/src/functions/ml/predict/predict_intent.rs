//! `predict_intent(model, user_id [, as_of])`

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature};
use datafusion_macros::user_doc;

use super::marker::Marker;

/// The most likely class of a user under a trained model. NULL for a NULL or unknown user, and for a history shorter than `min_history`.
#[user_doc(
    doc_section(label = "Machine Learning Functions"),
    description = "The most likely class of a user under a trained model. NULL for a NULL or unknown user, and for a history shorter than `min_history`.",
    syntax_example = "predict_intent(model, user_id [, as_of])",
    sql_example = "```sql\nSELECT predict_intent('shopper', 12748);\n```",
    argument(name = "model", description = "Name of a model (its active version) or `name@version`; a constant."),
    argument(
        name = "user_id",
        description = "The user, in the key's own type or as text; or a row, for example `named_struct(...)`, bound by field name, for a model of labelled rows."
    ),
    argument(name = "as_of", description = "Only events up to this time count. By default the largest event time of the model's source.")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct PredictIntent {
    signature: Signature,
}

impl Default for PredictIntent {
    fn default() -> Self {
        Self { signature: Marker::Intent.signature() }
    }
}

impl ScalarUDFImpl for PredictIntent {
    fn name(&self) -> &str {
        Marker::Intent.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(Marker::Intent.return_type())
    }

    fn return_field_from_args(&self, _arguments: ReturnFieldArgs) -> Result<FieldRef> {
        Ok(Arc::new(arrow::datatypes::Field::new(self.name(), Marker::Intent.return_type(), true)))
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        Marker::Intent.coerce(arguments)
    }

    fn invoke_with_args(&self, _arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Marker::Intent.unplanned()
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }
}
