//! `embed_user(model, user_id [, as_of, normalize => true])`

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature};
use datafusion_macros::user_doc;

use super::marker::Marker;

/// The embedding of a user under a trained model. NULL for a NULL or unknown user, and for a history shorter than `min_history`.
#[user_doc(
    doc_section(label = "Machine Learning Functions"),
    description = "The embedding of a user under a trained model. NULL for a NULL or unknown user, and for a history shorter than `min_history`.",
    syntax_example = "embed_user(model, user_id [, as_of, normalize => true])",
    sql_example = "```sql\nSELECT embed_user('shopper', 12748);\n```",
    argument(name = "model", description = "Name of a model (its active version) or `name@version`; a constant."),
    argument(
        name = "user_id",
        description = "The user, in the key's own type or as text; or a row, for example `named_struct(...)`, bound by field name, for a model of labelled rows."
    ),
    argument(name = "as_of", description = "Only events up to this time count. By default the largest event time of the model's source."),
    argument(name = "normalize", description = "Whether the vector is scaled to unit length; a constant, true by default.")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct EmbedUser {
    signature: Signature,
}

impl Default for EmbedUser {
    fn default() -> Self {
        Self { signature: Marker::Embedding.signature() }
    }
}

impl ScalarUDFImpl for EmbedUser {
    fn name(&self) -> &str {
        Marker::Embedding.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(Marker::Embedding.return_type())
    }

    fn return_field_from_args(&self, _arguments: ReturnFieldArgs) -> Result<FieldRef> {
        Ok(Arc::new(arrow::datatypes::Field::new(self.name(), Marker::Embedding.return_type(), true)))
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        Marker::Embedding.coerce(arguments)
    }

    fn invoke_with_args(&self, _arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Marker::Embedding.unplanned()
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }
}
