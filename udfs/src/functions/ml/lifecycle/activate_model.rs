//! `activate_model(model, version)`: chooses what the bare name means.

use async_trait::async_trait;
use datafusion::logical_expr::Documentation;
use datafusion_macros::user_doc;

use super::action::{Action, Call, Kind, Parameter};
use crate::error::Result;
use crate::registry::ModelAction;

#[user_doc(
    doc_section(label = "Model Life Cycle Functions"),
    description = "Makes a version the active one: what the model's bare name means from now on. The swap is atomic; statements that already run keep their version, prepared ones see the new version at their next execution. Doing it twice changes nothing. Returns what was done.",
    syntax_example = "activate_model(model, version)",
    sql_example = "```sql\nSELECT activate_model('shopper', 2);\n```",
    argument(name = "model", description = "Model name, or `name@version`."),
    argument(name = "version", description = "Version number. Default: the newest version that is ready."),
    related_udf(name = "rollback_model")
)]
#[derive(Debug)]
pub(super) struct ActivateModel;

#[async_trait]
impl Action for ActivateModel {
    fn name(&self) -> &'static str {
        "activate_model"
    }

    fn parameters(&self) -> &'static [Parameter] {
        const { &[Parameter::required("model", Kind::Text), Parameter::optional("version", Kind::Integer)] }
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }

    async fn run(&self, call: Call) -> Result<String> {
        let (model, version) = call.model_and_version(0, 1)?;
        call.authorize(&model, ModelAction::Own)?;
        let done = call.context.registry.activate(&model, version).await?;
        let version = done.reference.version;
        Ok(match (done.changed, done.previous) {
            (false, _) => format!("version {version} of model \"{model}\" was active already"),
            (true, Some(previous)) if previous != version => {
                format!("version {version} of model \"{model}\" is active, it was version {previous}")
            }
            (true, _) => format!("version {version} of model \"{model}\" is active"),
        })
    }
}
