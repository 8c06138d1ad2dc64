//! `cancel_training(job)`.

use async_trait::async_trait;
use datafusion::logical_expr::Documentation;
use datafusion_macros::user_doc;

use super::action::{Action, Call, Kind, Parameter};
use crate::error::{Error, Result};
use crate::registry::ModelAction;

#[user_doc(
    doc_section(label = "Model Life Cycle Functions"),
    description = "Asks a training to stop; it does so at its next batch and frees the device. Its version is not kept, the active version stays. A job that has ended is left as it is. Returns what was done.",
    syntax_example = "cancel_training(job)",
    sql_example = "```sql\nSELECT cancel_training(job_id) FROM ml.jobs WHERE state = 'training';\n```",
    argument(name = "job", description = "`job_id` of `ml.jobs`."),
    related_udf(name = "wait_for_model")
)]
#[derive(Debug)]
pub(super) struct CancelTraining;

#[async_trait]
impl Action for CancelTraining {
    fn name(&self) -> &'static str {
        "cancel_training"
    }

    fn parameters(&self) -> &'static [Parameter] {
        const { &[Parameter::required("job", Kind::Integer)] }
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }

    async fn run(&self, call: Call) -> Result<String> {
        let id = call.integer(0).ok_or_else(|| Error::internal("a required argument is missing"))?;
        let jobs = &call.context.jobs;
        let job = jobs.get(id)?;
        if job.owner != call.statement.user {
            call.authorize(&job.model, ModelAction::Own)?;
        }
        Ok(match jobs.cancel(id)? {
            true => format!("job {id} is stopping"),
            false => format!("job {id} has ended already: {}", jobs.get(id)?.state),
        })
    }
}
