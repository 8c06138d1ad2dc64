//! `embed_users(model, source => NULL, as_of => …)`

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::execution::SendableRecordBatchStream;

use super::users::{self, Scored};
use crate::error::Result;
use crate::functions::MlContext;
use crate::functions::ml::predict::answers::{embedding_list, unit_scale};
use crate::functions::relation::{Arguments, Call, Kind, MlRelation, Parameter};

/// Embeds every user of a source.
#[derive(Debug)]
pub struct EmbedUsers;

impl MlRelation for EmbedUsers {
    fn name(&self) -> &'static str {
        "embed_users"
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: [Parameter; 3] = [
            Parameter::required("model", Kind::Model, "The model, `name` or `name@version`."),
            Parameter::optional("source", Kind::Source, "NULL", "Events to embed; by default what the model was trained on, as it is now."),
            Parameter::optional(
                "as_of",
                Kind::Timestamp,
                "NULL",
                "Only events up to this time count; by default the largest event time of the source.",
            ),
        ];
        &PARAMETERS
    }

    fn doc(&self) -> &'static str {
        "The embedding of every user of a source, scaled to unit length, in bounded memory. A history shorter than \
         `min_history` has a NULL embedding. Rows come in no particular order."
    }

    fn example(&self) -> &'static str {
        "SELECT user_id, embedding FROM embed_users('shopper') LIMIT 10"
    }

    fn schema(&self, args: &Arguments, _source: Option<&Schema>, context: &MlContext) -> Result<SchemaRef> {
        let key = users::key_type(args, context, self.name())?;
        Ok(Arc::new(Schema::new(vec![
            Field::new("user_id", key.data_type(), false),
            Field::new("embedding", DataType::new_list(DataType::Float32, true), true),
            Field::new("model_version", DataType::Int32, false),
        ])))
    }

    fn execute(&self, call: Call) -> Result<SendableRecordBatchStream> {
        Ok(users::stream(call, self.name(), columns))
    }
}

fn columns(scored: &Scored) -> Result<Vec<ArrayRef>> {
    let dim = scored.scores.embedding_dim;
    let mut numbers = Vec::with_capacity(scored.scores.embedding.len());
    for row in scored.rows.iter().flatten() {
        let vector = &scored.scores.embedding[row * dim..(row + 1) * dim];
        let scale = unit_scale(vector);
        numbers.extend(vector.iter().map(|number| number * scale));
    }
    let lengths = scored.rows.iter().map(|row| if row.is_some() { dim } else { 0 }).collect();
    let valid = scored.rows.iter().map(Option::is_some).collect();
    Ok(vec![
        scored.user_column(),
        Arc::new(embedding_list(numbers, lengths, valid)?),
        Arc::new(Int32Array::from_value(scored.version(), scored.users.len())),
    ])
}
