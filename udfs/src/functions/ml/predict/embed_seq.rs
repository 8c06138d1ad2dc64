//! `embed_seq(model, events [, items => ..., times => ..., normalize => true])`

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature};
use datafusion_macros::user_doc;

use super::marker::Marker;

/// The embedding of a sequence of events that is given, not looked up.
#[user_doc(
    doc_section(label = "Machine Learning Functions"),
    description = "The embedding of a sequence of events that is given, not looked up.",
    syntax_example = "embed_seq(model, events [, items => ..., times => ..., normalize => true])",
    sql_example = "```sql\nSELECT embed_seq('browser', make_array('purchase', 'purchase', 'return'));\n```",
    argument(name = "model", description = "Name of a model (its active version) or `name@version`; a constant."),
    argument(name = "events", description = "The event types, oldest first."),
    argument(name = "items", description = "The items of the events, one for each."),
    argument(name = "times", description = "The times of the events, one for each; the last is the moment of prediction."),
    argument(name = "normalize", description = "Whether the vector is scaled to unit length; a constant, true by default.")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct EmbedSeq {
    signature: Signature,
}

impl Default for EmbedSeq {
    fn default() -> Self {
        Self { signature: Marker::SequenceEmbedding.signature() }
    }
}

impl ScalarUDFImpl for EmbedSeq {
    fn name(&self) -> &str {
        Marker::SequenceEmbedding.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(Marker::SequenceEmbedding.return_type())
    }

    fn return_field_from_args(&self, _arguments: ReturnFieldArgs) -> Result<FieldRef> {
        Ok(Arc::new(arrow::datatypes::Field::new(self.name(), Marker::SequenceEmbedding.return_type(), true)))
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        Marker::SequenceEmbedding.coerce(arguments)
    }

    fn invoke_with_args(&self, _arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Marker::SequenceEmbedding.unplanned()
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }
}
