//! `wait_for_model(model, timeout => NULL)`.

use std::time::Duration;

use async_trait::async_trait;
use datafusion::logical_expr::Documentation;
use datafusion_macros::user_doc;

use super::action::{Action, Call, Kind, Parameter};
use crate::error::{Code, Error, Result};
use crate::features::options::parse_interval_us;
use crate::registry::{JobState, ModelAction};

#[user_doc(
    doc_section(label = "Model Life Cycle Functions"),
    description = "Waits until no training of the model is queued or running. Returns what the last training came to; when that failed or was cancelled, error 55000. Without a training it returns at once.",
    syntax_example = "wait_for_model(model, timeout => NULL)",
    sql_example = "```sql\nSELECT wait_for_model('shopper', timeout => '10 minutes');\n```",
    argument(name = "model", description = "Model name."),
    argument(
        name = "timeout",
        description = "Seconds, or text such as `10 minutes`; error 57014 when it passes. Default: no limit but `statement_timeout`."
    ),
    related_udf(name = "cancel_training")
)]
#[derive(Debug)]
pub(super) struct WaitForModel;

#[async_trait]
impl Action for WaitForModel {
    fn name(&self) -> &'static str {
        "wait_for_model"
    }

    fn parameters(&self) -> &'static [Parameter] {
        const { &[Parameter::required("model", Kind::Text), Parameter::optional("timeout", Kind::Seconds)] }
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }

    async fn run(&self, call: Call) -> Result<String> {
        let model = call.model(0)?;
        call.authorize(model, ModelAction::Execute)?;
        let job = call.context.jobs.wait_for(model, timeout(&call)?).await?;
        match job {
            Some(job) if matches!(job.state, JobState::Failed | JobState::Cancelled) => {
                Err(Error::new(Code::NotReady, format!("the last training of model \"{model}\" was not completed"))
                    .detail(format!("Job {} for version {} is {}: {}.", job.job_id, job.version, job.state, job.message)))
            }
            Some(job) => Ok(format!("version {} of model \"{model}\" is {}", job.version, job.state)),
            None => {
                let reference = call.context.registry.resolve(model)?;
                Ok(format!("version {} of model \"{model}\" is active", reference.version))
            }
        }
    }
}

/// The second argument as a duration.
fn timeout(call: &Call) -> Result<Option<Duration>> {
    let seconds = match (call.number(1), call.text(1)) {
        (Some(seconds), _) => seconds,
        (None, Some(text)) => parse_interval_us(text)? as f64 / 1e6,
        (None, None) => return Ok(None),
    };
    Duration::try_from_secs_f64(seconds)
        .map(Some)
        .map_err(|_| Error::invalid(format!("timeout must not be negative, got {seconds} seconds")))
}
