//! `recommend_items(model, user_id, k => 10, exclude_seen => true, as_of => NULL)`

use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::error::Result as DfResult;
use datafusion::execution::SendableRecordBatchStream;

use super::rows::{item_rows, item_schema};
use super::subject::{self, Items, Subject};
use crate::error::Result;
use crate::functions::MlContext;
use crate::functions::relation::{Arguments, Call, MlRelation, Parameter};

/// Recommends items to one user.
#[derive(Debug)]
pub struct RecommendItems;

impl MlRelation for RecommendItems {
    fn name(&self) -> &'static str {
        "recommend_items"
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[subject::MODEL, subject::USER, subject::K, subject::UNSEEN, subject::AS_OF];
        PARAMETERS
    }

    fn doc(&self) -> &'static str {
        "The best items for one user under a model of target next_item, of the whole catalogue and best first. score is the calibrated \
         probability that the item is next; for mf and two_tower it is the inner product of embed_user's vector (not scaled) and the item's. \
         reason says in words which item of the history counts most. Events that came after the training count at once. An unknown user, a \
         NULL one and a history shorter than `min_history` have no rows."
    }

    fn example(&self) -> &'static str {
        "SELECT rank, item_id, score, reason FROM recommend_items('basket', 12748, k => 5)"
    }

    fn schema(&self, args: &Arguments, _source: Option<&Schema>, context: &MlContext) -> Result<SchemaRef> {
        subject::check_items(args, context)?;
        Ok(item_schema(subject::key_type(args, context)?))
    }

    fn execute(&self, call: Call) -> Result<SendableRecordBatchStream> {
        subject::k(&call.args)?;
        let own = call.clone();
        Ok(call.once(async move { rows(&own).await }))
    }
}

async fn rows(call: &Call) -> DfResult<RecordBatch> {
    let none = || RecordBatch::new_empty(SchemaRef::clone(&call.schema));
    let subject = Subject::open(call).await?;
    let items = Items::new(&subject.model)?;
    let Some(user) = subject.user(&call.args)? else { return Ok(none()) };
    let Some((inputs, history, user)) = subject.look_up(user, Some(&items)).await? else { return Ok(none()) };
    let unseen = call.args.boolean("exclude_seen").unwrap_or(true);
    let found = items.retriever.recommend(&inputs, &[history], subject::k(&call.args)?, unseen)?;
    Ok(item_rows(&[user.user], &found, &items, &call.schema)?)
}
