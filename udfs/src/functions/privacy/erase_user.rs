//! `erase_user(user, suppress => true)`

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::execution::SendableRecordBatchStream;

use super::{receipt, users};
use crate::error::Result;
use crate::functions::MlContext;
use crate::functions::relation::{Arguments, Call, Effect, Kind, MlRelation, Parameter};

/// See [`MlRelation::doc`].
#[derive(Debug)]
pub(super) struct EraseUser;

impl MlRelation for EraseUser {
    fn name(&self) -> &'static str {
        "erase_user"
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[
            Parameter::required("user", Kind::Any, "The user's id: bigint or text."),
            Parameter::optional("suppress", Kind::Boolean, "true", receipt::SUPPRESS),
        ];
        PARAMETERS
    }

    fn doc(&self) -> &'static str {
        "Forgets a user, by every id that links (link_ids) say the person has. It reaches every managed table of events by its column of \
         users, their quarantines, every other managed table by a column called user_id or as a table of events' column of users (but for \
         id), and materialized views by their column of users too. The user is hidden from answers of those at once; then they are written \
         anew without the user's rows, audiences lose the member, links between ids lose the ids, copies of histories are removed, and \
         files and log entries of older versions go: when the function returns, no file of these has the rows, and older versions can no \
         longer be read AS OF. It does not reach users in columns of other names, bitmaps kept in tables, files of external tables, files \
         outside the data directory, and the texts of views and audiences. Models keep what they learned: those that learned from the user, \
         or of which it cannot be told, are marked (ml.model_versions, contains_erased) and treated as set_model_policy says. One row per \
         object: what it lost, and what is left to do. ml.erasure_audit keeps the receipt, with a keyed hash in the place of the id. An \
         erasure that is interrupted goes on at the next start. Statements that read the user's rows before and write them after fail with \
         40001; those that were reading older versions may fail. It cannot be undone: it is refused inside a transaction block, and where a \
         condition that is never true or LIMIT 0 would leave nothing to run. Superusers only."
    }

    fn example(&self) -> &'static str {
        "SELECT kind, object, removed FROM erase_user('nobody', suppress => false)"
    }

    fn schema(&self, _: &Arguments, _: Option<&Schema>, _: &MlContext) -> Result<SchemaRef> {
        Ok(receipt::schema())
    }

    fn execute(&self, call: Call) -> Result<SendableRecordBatchStream> {
        let users = users::one("erase_user", &call.args)?;
        Ok(receipt::erase(call, async move { Ok(users) }))
    }

    fn effect(&self) -> Option<Effect> {
        Some(Effect::Erases)
    }
}
