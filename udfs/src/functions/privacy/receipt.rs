//! What an erasure answers.

use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::execution::SendableRecordBatchStream;

use crate::context::ErasedFrom;
use crate::error::{Error, Result};
use crate::functions::relation::Call;
use crate::registry::{OnErasure, Registry};

pub(super) const SUPPRESS: &str =
    "Whether events of these users are refused from now on; otherwise a file that is imported again brings them back.";

/// The columns of the answer.
pub(super) fn schema() -> SchemaRef {
    let field = |name: &str, kind: DataType| Field::new(name, kind, true);
    Arc::new(Schema::new(vec![
        field("kind", DataType::Utf8),
        field("object", DataType::Utf8),
        field("removed", DataType::Int64),
        field("files", DataType::Int64),
        field("remark", DataType::Utf8),
    ]))
}

fn rows(schema: &SchemaRef, removed: &[ErasedFrom]) -> Result<RecordBatch> {
    let texts = |text: fn(&ErasedFrom) -> &str| {
        Arc::new(removed.iter().map(|row| Some(text(row)).filter(|text| !text.is_empty())).collect::<StringArray>())
    };
    let counts = |count: fn(&ErasedFrom) -> u64| Arc::new(removed.iter().map(|row| i64::try_from(count(row)).ok()).collect::<Int64Array>());
    let columns: Vec<arrow::array::ArrayRef> = vec![
        texts(|row| &row.kind),
        texts(|row| &row.object),
        counts(|row| row.removed),
        counts(|row| row.files),
        texts(|row| &row.remark),
    ];
    RecordBatch::try_new(Arc::clone(schema), columns).map_err(|error| Error::internal(error.to_string()))
}

/// The active versions on a receipt whose models' policy is to be trained again.
fn to_retrain<'a>(registry: &'a Registry, removed: &'a [ErasedFrom]) -> impl Iterator<Item = &'a str> {
    let asks = move |object: &str| {
        let version = registry.resolve(object).ok()?;
        let active = registry.resolve(&version.name).is_ok_and(|active| active == version);
        (active && registry.erased(&version).1 == OnErasure::Retrain).then_some(())
    };
    removed.iter().filter(move |row| row.kind == "model" && asks(&row.object).is_some()).map(|row| row.object.as_str())
}

/// Erases the users that `users` finds. What has begun goes to its end, even when the statement is cancelled.
pub(super) fn erase(call: Call, users: impl Future<Output = Result<Vec<String>>> + Send + 'static) -> SendableRecordBatchStream {
    let (erasure, caller) = (Arc::clone(&call.context.erasure), call.statement().user.clone());
    let (registry, notice) = (Arc::clone(&call.context.registry), Arc::clone(&call.statement().notice));
    let (suppress, schema) = (call.args.boolean("suppress").unwrap_or(true), Arc::clone(&call.schema));
    call.once(async move {
        let users = users.await?;
        if users.is_empty() {
            return Ok(RecordBatch::new_empty(schema));
        }
        let done = tokio::spawn(async move { erasure.erase(users, suppress, &caller).await }).await;
        let done = done.map_err(|error| Error::internal(format!("erasure ended early: {error}")))??;
        for model in to_retrain(&registry, &done.removed) {
            notice(&format!("model \"{model}\" is to be trained again: it learned from users who were erased"));
        }
        Ok(rows(&schema, &done.removed)?)
    })
}
