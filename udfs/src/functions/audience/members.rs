//! `audience(name)`

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::stream;

use super::named::{Opened, batch, named, open, page, user_field, users};
use crate::context::AudienceKey;
use crate::error::{Error, Result};
use crate::functions::MlContext;
use crate::functions::relation::{Arguments, Call, Kind, MlRelation, Parameter};

/// See [`MlRelation::doc`].
#[derive(Debug)]
pub(super) struct Members;

impl MlRelation for Members {
    fn name(&self) -> &'static str {
        "audience"
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[Parameter::required("audience", Kind::Text, "`name` (the newest version) or `name@3`.")];
        PARAMETERS
    }

    fn doc(&self) -> &'static str {
        "The users of an audience, one row each (one for a person whose ids are linked), in no particular order: to join with, to export, to compare with INTERSECT and EXCEPT. \
         The column has the type that the audience's query had: bigint or text. CREATE AUDIENCE name AS SELECT user_id … makes an \
         audience, REFRESH AUDIENCE name gives it a new version when its users changed, DROP AUDIENCE name removes it; ml.audiences \
         lists them."
    }

    fn example(&self) -> &'static str {
        "SELECT user_id FROM audience('buyers') ORDER BY user_id LIMIT 5"
    }

    fn schema(&self, args: &Arguments, _: Option<&Schema>, context: &MlContext) -> Result<SchemaRef> {
        let key = named(args, "audience", context)?.map_or(AudienceKey::Text, |found| found.key);
        Ok(Arc::new(Schema::new(vec![user_field(key)])))
    }

    fn execute(&self, call: Call) -> Result<SendableRecordBatchStream> {
        let schema = Arc::clone(&call.schema);
        let (statement, call) = (call.statement(), Arc::new(call));
        let rows = stream::try_unfold((None::<Opened>, 0), move |(opened, next)| {
            let (call, statement) = (Arc::clone(&call), Arc::clone(&statement));
            async move {
                if statement.cancel.is_cancelled() {
                    return Err(Error::cancelled().into());
                }
                let opened = match opened {
                    Some(opened) => opened,
                    None => open(&call, "audience").await?,
                };
                let Some((ids, next)) = page(&opened.members, next) else { return Ok(None) };
                let column = users(&*opened.numbers, &ids, call.schema.field(0).data_type())?;
                Ok(Some((batch(&call, vec![column])?, (Some(opened), next))))
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }
}
