//! `similar_items(model, item_id, k => 10)`

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::error::Result as DfResult;
use datafusion::execution::SendableRecordBatchStream;

use super::subject::{self, Items};
use crate::error::{Error, Result};
use crate::functions::MlContext;
use crate::functions::relation::{Arguments, Call, Kind, MlRelation, Parameter};

/// Items like another.
#[derive(Debug)]
pub struct SimilarItems;

impl MlRelation for SimilarItems {
    fn name(&self) -> &'static str {
        "similar_items"
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[
            subject::MODEL,
            Parameter::required("item_id", Kind::Any, "The item. NULL has no rows; one that the model does not know is an error."),
            subject::K,
        ];
        PARAMETERS
    }

    fn doc(&self) -> &'static str {
        "The items most like another under a model of target next_item, by the cosine of the vectors with which the model scores them; the \
         item itself is not among them. Items whose vectors point the same way are taken after the same histories. The model must have one \
         vector per item: rnn, gru, lstm, transformer, cnn, mf and two_tower do."
    }

    fn example(&self) -> &'static str {
        "SELECT item_id, similarity FROM similar_items('basket', '85123A', k => 5)"
    }

    fn schema(&self, args: &Arguments, _source: Option<&Schema>, context: &MlContext) -> Result<SchemaRef> {
        subject::check_items(args, context)?;
        Ok(Arc::new(Schema::new(vec![Field::new("item_id", DataType::Utf8, false), Field::new("similarity", DataType::Float64, false)])))
    }

    fn execute(&self, call: Call) -> Result<SendableRecordBatchStream> {
        subject::k(&call.args)?;
        let own = call.clone();
        Ok(call.once(async move { rows(&own).await }))
    }
}

async fn rows(call: &Call) -> DfResult<RecordBatch> {
    let model = subject::load(call).await?;
    let items = Items::new(&model)?;
    let Some(item) = subject::name(&call.args, "item_id")? else {
        return Ok(RecordBatch::new_empty(Arc::clone(&call.schema)));
    };
    let found = items.retriever.similar_items(items.class(&item)?, subject::k(&call.args)?)?.ok_or_else(|| {
        Error::invalid(format!("items of {} have no vectors", model.reference))
            .detail(format!("Its architecture is {}.", model.manifest.config.architecture))
            .hint("Train one with arch => 'mf', 'two_tower', 'gru' or 'transformer'.")
    })?;
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(found.iter().map(|(_, class)| &items.classes[*class as usize]))),
        Arc::new(Float64Array::from_iter_values(found.iter().map(|(similarity, _)| *similarity))),
    ];
    Ok(RecordBatch::try_new(Arc::clone(&call.schema), columns)?)
}
