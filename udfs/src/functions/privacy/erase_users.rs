//! `erase_users(source, suppress => true)`

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::execution::SendableRecordBatchStream;

use super::{receipt, users};
use crate::error::{Error, Result};
use crate::functions::MlContext;
use crate::functions::relation::{Arguments, Call, Effect, Kind, MlRelation, Parameter};

/// See [`MlRelation::doc`].
#[derive(Debug)]
pub(super) struct EraseUsers;

impl MlRelation for EraseUsers {
    fn name(&self) -> &'static str {
        "erase_users"
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[
            Parameter::required("source", Kind::Source, "The users: a query of one column, bigint or text. A NULL is nobody."),
            Parameter::optional("suppress", Kind::Boolean, "true", receipt::SUPPRESS),
        ];
        PARAMETERS
    }

    fn doc(&self) -> &'static str {
        "Forgets the users that a query finds, in one pass over every table: as erase_user, for up to 1048576 users at once. The query \
         is read whole before anything is erased."
    }

    fn example(&self) -> &'static str {
        "SELECT kind, object, removed FROM erase_users($$SELECT user_id FROM events WHERE false$$)"
    }

    fn schema(&self, _: &Arguments, source: Option<&Schema>, _: &MlContext) -> Result<SchemaRef> {
        let columns = &source.ok_or_else(|| Error::internal("a source is missing"))?.fields;
        let [column] = &columns[..] else {
            return Err(Error::invalid(format!("the source of erase_users must have one column, the users, not {}", columns.len()))
                .hint("Give it a query of that column alone: $$SELECT user_id FROM …$$."));
        };
        users::check_source("erase_users", column.data_type())?;
        Ok(receipt::schema())
    }

    fn execute(&self, call: Call) -> Result<SendableRecordBatchStream> {
        Ok(receipt::erase(call.clone(), users::all("erase_users", call)))
    }

    fn effect(&self) -> Option<Effect> {
        Some(Effect::Erases)
    }
}
