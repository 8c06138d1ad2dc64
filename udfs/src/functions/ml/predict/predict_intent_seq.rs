//! `predict_intent_seq(model, events [, items => ..., times => ...])`

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature};
use datafusion_macros::user_doc;

use super::marker::Marker;

/// The most likely class for a sequence of events that is given, not looked up: a live session or a what-if.
#[user_doc(
    doc_section(label = "Machine Learning Functions"),
    description = "The most likely class for a sequence of events that is given, not looked up: a live session or a what-if.",
    syntax_example = "predict_intent_seq(model, events [, items => ..., times => ...])",
    sql_example = "```sql\nSELECT predict_intent_seq('browser', make_array('purchase', 'purchase', 'return'));\n```",
    argument(name = "model", description = "Name of a model (its active version) or `name@version`; a constant."),
    argument(name = "events", description = "The event types, oldest first."),
    argument(name = "items", description = "The items of the events, one for each."),
    argument(name = "times", description = "The times of the events, one for each; the last is the moment of prediction.")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct PredictIntentSeq {
    signature: Signature,
}

impl Default for PredictIntentSeq {
    fn default() -> Self {
        Self { signature: Marker::SequenceIntent.signature() }
    }
}

impl ScalarUDFImpl for PredictIntentSeq {
    fn name(&self) -> &str {
        Marker::SequenceIntent.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(Marker::SequenceIntent.return_type())
    }

    fn return_field_from_args(&self, _arguments: ReturnFieldArgs) -> Result<FieldRef> {
        Ok(Arc::new(arrow::datatypes::Field::new(self.name(), Marker::SequenceIntent.return_type(), true)))
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        Marker::SequenceIntent.coerce(arguments)
    }

    fn invoke_with_args(&self, _arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Marker::SequenceIntent.unplanned()
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }
}
