//! `unlink_ids(a, b)`

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::execution::SendableRecordBatchStream;

use super::arguments::{id, ids_max, link_row, link_schema};
use crate::error::Result;
use crate::functions::MlContext;
use crate::functions::relation::{Arguments, Call, Effect, Kind, MlRelation, Parameter};

/// See [`MlRelation::doc`].
#[derive(Debug)]
pub(super) struct UnlinkIds;

impl MlRelation for UnlinkIds {
    fn name(&self) -> &'static str {
        "unlink_ids"
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[
            Parameter::required("a", Kind::Any, "An id: bigint or text."),
            Parameter::required("b", Kind::Any, "The other id of the link."),
        ];
        PARAMETERS
    }

    fn doc(&self) -> &'static str {
        "Takes back what link_ids or link_ids_from has said of two ids. If no other links hold them together they are two persons again, \
         everywhere and at once: events, audiences and links of each id are kept by id, so nothing is lost by a merge. A link that is not \
         there changes nothing. One row: the person of the first id, how many ids it has, whether anything changed. Superusers only."
    }

    fn example(&self) -> &'static str {
        "SELECT user_id, ids, changed, message FROM unlink_ids('cookie-1', 12347)"
    }

    fn schema(&self, _: &Arguments, _: Option<&Schema>, _: &MlContext) -> Result<SchemaRef> {
        Ok(link_schema())
    }

    fn execute(&self, call: Call) -> Result<SendableRecordBatchStream> {
        let (a, b) = (id(self.name(), &call.args, "a")?, id(self.name(), &call.args, "b")?);
        let own = call.clone();
        Ok(call.once(async move { Ok(unlink(&own, &a, &b).await?) }))
    }

    fn effect(&self) -> Option<Effect> {
        Some(Effect::Changes)
    }
}

async fn unlink(call: &Call, a: &str, b: &str) -> Result<RecordBatch> {
    let statement = call.statement();
    let mut writer = call.context.identities.writer(&statement.user)?;
    writer.unlink(a, b)?;
    let changed = writer.commit(ids_max(call), statement.cancel.clone()).await?.changed > 0;
    let people = call.context.identities.people();
    let together = {
        let reader = people.read();
        reader.canonical(a) == reader.canonical(b)
    };
    let message = match (changed, together) {
        (false, _) => format!("there was no link between \"{a}\" and \"{b}\""),
        (true, false) => format!("\"{a}\" and \"{b}\" are two persons"),
        (true, true) => format!("other links still join \"{a}\" and \"{b}\""),
    };
    link_row(call, a, changed, &message)
}
