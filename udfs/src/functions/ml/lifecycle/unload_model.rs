//! `unload_model(model)`: frees a version's memory.

use async_trait::async_trait;
use datafusion::logical_expr::Documentation;
use datafusion_macros::user_doc;

use super::action::{Action, Call, Kind, Parameter};
use crate::error::Result;
use crate::registry::ModelAction;

#[user_doc(
    doc_section(label = "Model Life Cycle Functions"),
    description = "Takes a version out of the shared cache; its memory is free when the statements that use it end. The next prediction loads it again. Returns what was done.",
    syntax_example = "unload_model(model)",
    sql_example = "```sql\nSELECT unload_model('shopper');\n```",
    argument(name = "model", description = "Model name (the active version), or `name@version`."),
    related_udf(name = "warm_model")
)]
#[derive(Debug)]
pub(super) struct UnloadModel;

#[async_trait]
impl Action for UnloadModel {
    fn name(&self) -> &'static str {
        "unload_model"
    }

    fn parameters(&self) -> &'static [Parameter] {
        const { &[Parameter::required("model", Kind::Text)] }
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }

    async fn run(&self, call: Call) -> Result<String> {
        let reference = call.resolve(0, ModelAction::Execute)?;
        let (name, version) = (&reference.name, reference.version);
        Ok(match call.context.registry.unload(&reference) {
            true => format!("unloaded version {version} of model \"{name}\""),
            false => format!("version {version} of model \"{name}\" was not in memory"),
        })
    }
}
