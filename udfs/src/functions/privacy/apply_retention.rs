//! `apply_retention(table, as_of => NULL)`

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::execution::SendableRecordBatchStream;

use crate::context::Retained;
use crate::error::{Error, Result};
use crate::functions::MlContext;
use crate::functions::relation::{Arguments, Call, Effect, Kind, MlRelation, Parameter};

/// See [`MlRelation::doc`].
#[derive(Debug)]
pub(super) struct ApplyRetention;

fn columns() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("table_name", DataType::Utf8, true),
        Field::new("cutoff", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
        Field::new("removed", DataType::Int64, true),
        Field::new("files", DataType::Int64, true),
    ]))
}

fn rows(schema: SchemaRef, done: &[Retained]) -> Result<RecordBatch> {
    let count = |of: fn(&Retained) -> u64| Arc::new(done.iter().map(|table| i64::try_from(of(table)).ok()).collect::<Int64Array>());
    let cutoffs: TimestampMicrosecondArray = done.iter().map(|table| table.cutoff_us).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(done.iter().map(|table| Some(table.table.as_str())).collect::<StringArray>()),
        Arc::new(cutoffs.with_timezone("UTC")),
        count(|table| table.removed),
        count(|table| table.files),
    ];
    RecordBatch::try_new(schema, columns).map_err(|error| Error::internal(error.to_string()))
}

impl MlRelation for ApplyRetention {
    fn name(&self) -> &'static str {
        "apply_retention"
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[
            Parameter::required("table", Kind::Text, "A table of events that declares a retention."),
            Parameter::optional(
                "as_of",
                Kind::Timestamp,
                "NULL",
                "The time that age is counted from; by default that of the newest event. now() forgets by the clock.",
            ),
        ];
        PARAMETERS
    }

    fn doc(&self) -> &'static str {
        "Takes events out of a table's files that are older than its retention (CREATE TABLE … WITH (retention = '400 days') or ALTER TABLE \
         … SET (retention = …)), and refusals out of its quarantine that came before the same time. Those events are in no answer already, \
         so only their bytes go, unless as_of is later than the newest event. Files that hold such rows are written anew in one commit; \
         derived copies of histories are removed; older versions keep their files until VACUUM. One row per table: since when events are \
         kept, how many rows went, and how many files held them. OPTIMIZE, and the server itself once 65536 rows are too old, do the same \
         for files of which a quarter or more is. For the table's owner and superusers."
    }

    fn example(&self) -> &'static str {
        "SELECT table_name, cutoff, removed, files FROM apply_retention('kept_events')"
    }

    fn schema(&self, _: &Arguments, _: Option<&Schema>, _: &MlContext) -> Result<SchemaRef> {
        Ok(columns())
    }

    fn execute(&self, call: Call) -> Result<SendableRecordBatchStream> {
        let table = call.args.required_text("table")?.to_owned();
        let (erasure, caller, schema) = (Arc::clone(&call.context.erasure), call.statement().user.clone(), Arc::clone(&call.schema));
        let as_of_us = call.args.micros("as_of");
        Ok(call.once(async move {
            let done = tokio::spawn(async move { erasure.apply_retention(&table, as_of_us, &caller).await }).await;
            let done = done.map_err(|error| Error::internal(format!("the removal ended early: {error}")))??;
            Ok(rows(schema, &done)?)
        }))
    }

    fn effect(&self) -> Option<Effect> {
        Some(Effect::Erases)
    }
}
