//! `ids_of_user(user_id)`

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::execution::SendableRecordBatchStream;

use super::arguments::id_or_null;
use crate::error::{Error, Result};
use crate::functions::MlContext;
use crate::functions::relation::{Arguments, Call, Kind, MlRelation, Parameter};

/// See [`MlRelation::doc`].
#[derive(Debug)]
pub(super) struct IdsOfUser;

impl MlRelation for IdsOfUser {
    fn name(&self) -> &'static str {
        "ids_of_user"
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[Parameter::required("user_id", Kind::Any, "Any id of the person: bigint or text.")];
        PARAMETERS
    }

    fn doc(&self) -> &'static str {
        "Every id of a person, the one that the person is called by first: user_id, id, and the source and time of the id's first link. \
         One that was never linked has itself alone; NULL has no rows. ml.identities has everybody's."
    }

    fn example(&self) -> &'static str {
        "SELECT id, source, linked_at FROM ids_of_user(12347)"
    }

    fn schema(&self, _: &Arguments, _: Option<&Schema>, _: &MlContext) -> Result<SchemaRef> {
        Ok(Arc::new(Schema::new(vec![
            Field::new("user_id", DataType::Utf8, false),
            Field::new("id", DataType::Utf8, false),
            Field::new("source", DataType::Utf8, true),
            Field::new("linked_at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
        ])))
    }

    fn execute(&self, call: Call) -> Result<SendableRecordBatchStream> {
        let id = id_or_null(self.name(), &call.args, "user_id")?;
        let own = call.clone();
        Ok(call.once(async move {
            match id {
                Some(id) => Ok(rows(&own, &id)?),
                None => Ok(RecordBatch::new_empty(Arc::clone(&own.schema))),
            }
        }))
    }
}

fn rows(call: &Call, id: &str) -> Result<RecordBatch> {
    let statement = call.statement();
    let reader = statement.people(&*call.context.identities).read();
    let ids = reader.ids(id).unwrap_or_else(|| vec![id]);
    let first: Vec<_> = ids.iter().map(|id| reader.links(id).into_iter().next()).collect();
    let times = first.iter().map(|link| link.as_ref().map(|link| link.at_us)).collect::<TimestampMicrosecondArray>();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(ids.iter().map(|_| ids[0]))),
        Arc::new(StringArray::from_iter_values(&ids)),
        Arc::new(first.iter().map(|link| link.as_ref().and_then(|link| link.source.as_deref())).collect::<StringArray>()),
        Arc::new(times.with_timezone("UTC")),
    ];
    RecordBatch::try_new(Arc::clone(&call.schema), columns).map_err(|error| Error::internal(error.to_string()))
}
