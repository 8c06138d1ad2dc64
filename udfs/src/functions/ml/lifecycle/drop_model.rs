//! `drop_model(model, version => NULL, if_exists => true)`.

use async_trait::async_trait;
use datafusion::logical_expr::Documentation;
use datafusion_macros::user_doc;

use super::action::{Action, Call, Kind, Parameter};
use crate::error::{Code, Result};
use crate::registry::ModelAction;

#[user_doc(
    doc_section(label = "Model Life Cycle Functions"),
    description = "Drops a model with all its versions, or one version that is not active. Statements that already use it go on to their end. Version numbers are not given out again. Returns what was done.",
    syntax_example = "drop_model(model, version => NULL, if_exists => true)",
    sql_example = "```sql\nSELECT drop_model('shopper', version => 1);\n```",
    argument(name = "model", description = "Model name, or `name@version`."),
    argument(name = "version", description = "Version number. Default: the whole model."),
    argument(name = "if_exists", description = "Whether a missing model or version is fine (the default) or error 42704.")
)]
#[derive(Debug)]
pub(super) struct DropModel;

#[async_trait]
impl Action for DropModel {
    fn name(&self) -> &'static str {
        "drop_model"
    }

    fn parameters(&self) -> &'static [Parameter] {
        const {
            &[
                Parameter::required("model", Kind::Text),
                Parameter::optional("version", Kind::Integer),
                Parameter::optional("if_exists", Kind::Boolean),
            ]
        }
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }

    async fn run(&self, call: Call) -> Result<String> {
        let (model, version) = call.model_and_version(0, 1)?;
        call.authorize(&model, ModelAction::Own)?;
        match call.context.registry.drop_model(&model, version).await {
            Ok(gone) => Ok(match (version, gone.len()) {
                (Some(version), _) => format!("dropped version {version} of model \"{model}\""),
                (None, 0) => format!("dropped model \"{model}\""),
                (None, 1) => format!("dropped model \"{model}\" with its version"),
                (None, count) => format!("dropped model \"{model}\" with its {count} versions"),
            }),
            Err(error) if error.code == Code::UndefinedObject && call.boolean(2).unwrap_or(true) => {
                Ok(format!("{}, skipping", error.message))
            }
            Err(error) => Err(error),
        }
    }
}
