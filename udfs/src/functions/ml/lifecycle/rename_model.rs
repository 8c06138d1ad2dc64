//! `rename_model(model, new_name)`.

use async_trait::async_trait;
use datafusion::logical_expr::Documentation;
use datafusion_macros::user_doc;

use super::action::{Action, Call, Kind, Parameter};
use crate::error::Result;
use crate::registry::ModelAction;

#[user_doc(
    doc_section(label = "Model Life Cycle Functions"),
    description = "Gives a model another name; its versions keep their numbers. Atomic: a statement finds the model under the old name or under the new one. A training that runs publishes under the new name. Returns what was done.",
    syntax_example = "rename_model(model, new_name)",
    sql_example = "```sql\nSELECT rename_model('shopper', 'shopper_de');\n```",
    argument(name = "model", description = "Model name."),
    argument(name = "new_name", description = "The name to be. It must be free.")
)]
#[derive(Debug)]
pub(super) struct RenameModel;

#[async_trait]
impl Action for RenameModel {
    fn name(&self) -> &'static str {
        "rename_model"
    }

    fn parameters(&self) -> &'static [Parameter] {
        const { &[Parameter::required("model", Kind::Text), Parameter::required("new_name", Kind::Text)] }
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }

    async fn run(&self, call: Call) -> Result<String> {
        let (model, new_name) = (call.model(0)?, call.required_text(1)?);
        call.authorize(model, ModelAction::Own)?;
        let changed = call.context.registry.rename(model, new_name).await?;
        Ok(match changed {
            true => format!("model \"{model}\" is now \"{new_name}\""),
            false => format!("model \"{model}\" has that name already"),
        })
    }
}
