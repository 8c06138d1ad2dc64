//! `erase_user(user, suppress => true)`

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::execution::SendableRecordBatchStream;

use super::{receipt, users};
use crate::error::Result;
use crate::functions::MlContext;
use crate::functions::relation::{Arguments, Call, Kind, MlRelation, Parameter};

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
        "Forgets a user, by every id that links (link_ids) say the person has. The user is hidden from every answer at once; then every managed table of events, its quarantine, and every \
         managed table with a column called user_id, or as a table of events' user column (but for id), is written anew without the user's rows, \
         audiences lose the member, links between ids lose the ids, copies of histories are removed, and files and log entries of older versions go: when the function \
         returns, the user's rows are in no file of the data directory, and older versions can no longer be read AS OF. One row per \
         object: what it lost, and what is left to do (models keep what they learned; files of external tables are not touched, and texts of views and audiences stay as they are \
         written). ml.erasure_audit keeps the receipt, with a keyed hash in the place of the id. An erasure that is \
         interrupted goes on at the next start. Statements that were reading older versions may fail. Superusers only."
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

    fn trains(&self) -> bool {
        true
    }
}
