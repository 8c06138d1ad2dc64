//! `suppress_user(user)` and `unsuppress_user(user)`

use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::execution::SendableRecordBatchStream;

use super::users;
use crate::error::{Error, Result};
use crate::functions::MlContext;
use crate::functions::relation::{Arguments, Call, Effect, Kind, MlRelation, Parameter};

/// See [`MlRelation::doc`].
#[derive(Debug)]
pub(super) struct Suppression {
    suppress: bool,
}

pub(super) const SUPPRESS: Suppression = Suppression { suppress: true };
pub(super) const UNSUPPRESS: Suppression = Suppression { suppress: false };

impl MlRelation for Suppression {
    fn name(&self) -> &'static str {
        if self.suppress { "suppress_user" } else { "unsuppress_user" }
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[Parameter::required("user", Kind::Any, "The user's id: bigint or text.")];
        PARAMETERS
    }

    fn doc(&self) -> &'static str {
        if self.suppress {
            "From now on nothing is taken in of this user: INSERT, COPY and import into tables of events, and into tables with their column of \
             users or one called user_id, leave the rows out and say how many in a NOTICE; so do audiences. What is there stays. One row: \
             whether the user was taken before. Superusers only."
        } else {
            "Takes events of a user again whom suppress_user or an erasure suppressed. One row: whether the user was suppressed. \
             Superusers only."
        }
    }

    fn example(&self) -> &'static str {
        if self.suppress { "SELECT changed FROM suppress_user('nobody')" } else { "SELECT changed FROM unsuppress_user('nobody')" }
    }

    fn schema(&self, _: &Arguments, _: Option<&Schema>, _: &MlContext) -> Result<SchemaRef> {
        Ok(Arc::new(Schema::new(vec![Field::new("changed", DataType::Boolean, true)])))
    }

    fn execute(&self, call: Call) -> Result<SendableRecordBatchStream> {
        let (users, suppress) = (users::one(self.name(), &call.args)?, self.suppress);
        let (erasure, caller, schema) = (Arc::clone(&call.context.erasure), call.statement().user.clone(), Arc::clone(&call.schema));
        Ok(call.once(async move {
            let changed = match suppress {
                true => erasure.suppress(users, &caller).await?,
                false => erasure.unsuppress(users, &caller).await?,
            };
            let column = Arc::new(BooleanArray::from(vec![changed > 0]));
            Ok(RecordBatch::try_new(schema, vec![column]).map_err(|error| Error::internal(error.to_string()))?)
        }))
    }

    fn effect(&self) -> Option<Effect> {
        Some(Effect::Changes)
    }
}
