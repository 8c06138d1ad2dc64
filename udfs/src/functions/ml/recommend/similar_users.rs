//! `similar_users(model, user_id, k => 10, as_of => NULL)`

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::error::Result as DfResult;
use datafusion::execution::SendableRecordBatchStream;

use super::nearest::search;
use super::rows::user_schema;
use super::subject::{self, Subject};
use crate::error::Result;
use crate::functions::MlContext;
use crate::functions::relation::{Arguments, Call, MlRelation, Parameter};

/// Users like another.
#[derive(Debug)]
pub struct SimilarUsers;

impl MlRelation for SimilarUsers {
    fn name(&self) -> &'static str {
        "similar_users"
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[subject::MODEL, subject::USER, subject::K, subject::AS_OF];
        PARAMETERS
    }

    fn doc(&self) -> &'static str {
        "The users whose embeddings are nearest to a user's, by cosine similarity, nearest first and the user not among them. Exact: every \
         user of the model's source is embedded and compared, in bounded memory. An unknown user, a NULL one and a history shorter than \
         `min_history` have no rows."
    }

    fn example(&self) -> &'static str {
        "SELECT user_id, similarity FROM similar_users('browser', 12748, k => 5)"
    }

    fn schema(&self, args: &Arguments, _source: Option<&Schema>, context: &MlContext) -> Result<SchemaRef> {
        Ok(user_schema(subject::key_type(args, context)?))
    }

    fn execute(&self, call: Call) -> Result<SendableRecordBatchStream> {
        subject::k(&call.args)?;
        let own = call.clone();
        Ok(call.once(async move { rows(&own).await }))
    }
}

async fn rows(call: &Call) -> DfResult<RecordBatch> {
    let none = || RecordBatch::new_empty(Arc::clone(&call.schema));
    let subject = Subject::open(call).await?;
    let Some(user) = subject.user(&call.args)? else { return Ok(none()) };
    let Some((inputs, _, user)) = subject.look_up(user, None).await? else { return Ok(none()) };
    let vector = subject.model.scorer.embeddings(&inputs)?;
    search(call, subject, &vector, Some(user.user)).await
}
