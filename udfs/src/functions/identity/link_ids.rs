//! `link_ids(a, b, source => NULL, at => now)`

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::execution::SendableRecordBatchStream;

use super::arguments::{id, ids_max, link_row, link_schema, now_us};
use crate::context::LinkOf;
use crate::error::Result;
use crate::functions::MlContext;
use crate::functions::relation::{Arguments, Call, Effect, Kind, MlRelation, Parameter};

/// See [`MlRelation::doc`].
#[derive(Debug)]
pub(super) struct LinkIds;

impl MlRelation for LinkIds {
    fn name(&self) -> &'static str {
        "link_ids"
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[
            Parameter::required("a", Kind::Any, "An id: bigint or text."),
            Parameter::required("b", Kind::Any, "Another id of the same person."),
            Parameter::optional("source", Kind::Text, "NULL", "Where that is known from, such as 'login'."),
            Parameter::optional("at", Kind::Timestamp, "NULL", "Since when; by default now."),
        ];
        PARAMETERS
    }

    fn doc(&self) -> &'static str {
        "Says that two ids are one person. Ids are one person when a chain of links leads from one to the other, and the person is called \
         by the smallest of them: whole numbers come before texts, numbers by value, texts by their bytes. So the answer depends on the \
         links alone, not on their order, direction or time, and a person who has a number is called by one. Durable when it returns, and \
         from the next statement on resolve_user, profile_card, profile_timeline, scoring by user id (predict_intent, embed_user and the like) \
         and audiences go by the person. What reads a table's column as it is does not: GROUP BY user_id, funnels, score_users and training go by \
         person with resolve_user(user_id). A link that is there already changes nothing. A link that would give a person more than \
         identity_ids_max ids (SET identity_ids_max = …, 32 by default) is refused with 54000: that is how a shared device shows itself. Users \
         who are suppressed are not linked. One row: the person, how many ids it has, whether anything changed. Superusers only."
    }

    fn example(&self) -> &'static str {
        "SELECT user_id, ids, changed FROM link_ids('cookie-1', 12347, source => 'login')"
    }

    fn schema(&self, _: &Arguments, _: Option<&Schema>, _: &MlContext) -> Result<SchemaRef> {
        Ok(link_schema())
    }

    fn execute(&self, call: Call) -> Result<SendableRecordBatchStream> {
        let (a, b) = (id(self.name(), &call.args, "a")?, id(self.name(), &call.args, "b")?);
        let own = call.clone();
        Ok(call.once(async move { Ok(link(&own, &a, &b).await?) }))
    }

    fn effect(&self) -> Option<Effect> {
        Some(Effect::Changes)
    }
}

async fn link(call: &Call, a: &str, b: &str) -> Result<RecordBatch> {
    let statement = call.statement();
    let mut writer = call.context.identities.writer(&statement.user)?;
    let at_us = call.args.micros("at").unwrap_or_else(now_us);
    writer.link(LinkOf { a, b, source: call.args.text("source"), at_us })?;
    let done = writer.commit(ids_max(call), statement.cancel.clone()).await?;
    let message = match done {
        _ if done.changed > 0 => format!("\"{a}\" and \"{b}\" are one person"),
        _ if done.suppressed > 0 => "not linked: nothing is taken of a user who is suppressed or being erased".to_owned(),
        _ if a == b => "an id is always one person with itself".to_owned(),
        _ => format!("there was a link between \"{a}\" and \"{b}\" already"),
    };
    link_row(call, a, done.changed > 0, &message)
}
