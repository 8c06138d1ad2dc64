//! `warm_model(model)`: loads a version before somebody waits for it.

use async_trait::async_trait;
use datafusion::logical_expr::Documentation;
use datafusion_macros::user_doc;

use super::action::{Action, Call, Kind, Parameter};
use crate::error::Result;
use crate::registry::ModelAction;

#[user_doc(
    doc_section(label = "Model Life Cycle Functions"),
    description = "Loads a version into the shared cache, so that the first prediction need not. Returns what was done; `ml.cache` shows what is loaded.",
    syntax_example = "warm_model(model)",
    sql_example = "```sql\nSELECT warm_model('shopper');\n```",
    argument(name = "model", description = "Model name (the active version), or `name@version`."),
    related_udf(name = "unload_model")
)]
#[derive(Debug)]
pub(super) struct WarmModel;

#[async_trait]
impl Action for WarmModel {
    fn name(&self) -> &'static str {
        "warm_model"
    }

    fn parameters(&self) -> &'static [Parameter] {
        const { &[Parameter::required("model", Kind::Text)] }
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }

    async fn run(&self, call: Call) -> Result<String> {
        let reference = call.resolve(0, ModelAction::Execute)?;
        let model = call.context.registry.load(&reference).await?;
        let (name, version, bytes) = (&reference.name, reference.version, model.bytes);
        Ok(format!("version {version} of model \"{name}\" is in memory, {bytes} bytes"))
    }
}
