//! `drop_transform(name, if_exists => true)`.

use async_trait::async_trait;
use datafusion::logical_expr::Documentation;
use datafusion_macros::user_doc;

use super::action::{Action, Call, Kind, Parameter};
use crate::error::{Code, Result};
use crate::registry::ModelAction;

#[user_doc(
    doc_section(label = "Feature Functions"),
    description = "Drops a stored transform with all its versions. Statements that already use it go on to their end. Version numbers are not given out again. Returns what was done.",
    syntax_example = "drop_transform(name, if_exists => true)",
    sql_example = "```sql\nSELECT drop_transform('old_prep');\n```",
    argument(name = "name", description = "The transform's name."),
    argument(name = "if_exists", description = "Whether a missing transform is fine (the default) or error 42704.")
)]
#[derive(Debug)]
pub(super) struct DropTransform;

#[async_trait]
impl Action for DropTransform {
    fn name(&self) -> &'static str {
        "drop_transform"
    }

    fn parameters(&self) -> &'static [Parameter] {
        const { &[Parameter::required("name", Kind::Text), Parameter::optional("if_exists", Kind::Boolean)] }
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }

    async fn run(&self, call: Call) -> Result<String> {
        let name = call.model(0)?;
        call.context.registry.authorize_transform(&call.statement.user, name, ModelAction::Own)?;
        match call.context.registry.drop_transform(name).await {
            Ok(1) => Ok(format!("dropped transform \"{name}\" with its version")),
            Ok(count) => Ok(format!("dropped transform \"{name}\" with its {count} versions")),
            Err(error) if error.code == Code::UndefinedObject && call.boolean(1).unwrap_or(true) => {
                Ok(format!("{}, skipping", error.message))
            }
            Err(error) => Err(error),
        }
    }
}
