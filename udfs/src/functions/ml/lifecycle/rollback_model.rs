//! `rollback_model(model)`: back to the version that was active before.

use async_trait::async_trait;
use datafusion::logical_expr::Documentation;
use datafusion_macros::user_doc;

use super::action::{Action, Call, Kind, Parameter};
use crate::error::Result;
use crate::registry::ModelAction;

#[user_doc(
    doc_section(label = "Model Life Cycle Functions"),
    description = "Makes the version active that was active before the present one; again, the one before that. Versions that were dropped are passed over. Returns what was done.",
    syntax_example = "rollback_model(model)",
    sql_example = "```sql\nSELECT rollback_model('shopper');\n```",
    argument(name = "model", description = "Model name."),
    related_udf(name = "activate_model")
)]
#[derive(Debug)]
pub(super) struct RollbackModel;

#[async_trait]
impl Action for RollbackModel {
    fn name(&self) -> &'static str {
        "rollback_model"
    }

    fn parameters(&self) -> &'static [Parameter] {
        const { &[Parameter::required("model", Kind::Text)] }
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }

    async fn run(&self, call: Call) -> Result<String> {
        let model = call.model(0)?;
        call.authorize(model, ModelAction::Own)?;
        let done = call.context.registry.rollback(model).await?;
        let version = done.reference.version;
        Ok(match done.previous {
            Some(previous) => format!("version {version} of model \"{model}\" is active again, it was version {previous}"),
            None => format!("version {version} of model \"{model}\" is active again"),
        })
    }
}
