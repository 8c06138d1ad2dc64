//! `import_model(model, path)`: a folder that `export_model` wrote, as a new version.

use async_trait::async_trait;
use datafusion::logical_expr::Documentation;
use datafusion_macros::user_doc;

use super::action::{Action, Call, Kind, Parameter};
use crate::error::Result;
use crate::registry::{Folder, VersionRequest};

#[user_doc(
    doc_section(label = "Model Life Cycle Functions"),
    description = "Takes the model in a folder that `export_model` wrote up as the next version of a model, after checking its checksums and format. It becomes active when the model has no active version. Importing the same files again changes nothing. Returns what was done.",
    syntax_example = "import_model(model, path)",
    sql_example = "```sql\nSELECT import_model('shopper', 'exports/shopper');\n```",
    argument(name = "model", description = "Model name; the model is created when it does not exist."),
    argument(name = "path", description = "A folder under a data root."),
    related_udf(name = "export_model")
)]
#[derive(Debug)]
pub(super) struct ImportModel;

#[async_trait]
impl Action for ImportModel {
    fn name(&self) -> &'static str {
        "import_model"
    }

    fn parameters(&self) -> &'static [Parameter] {
        const { &[Parameter::required("model", Kind::Text), Parameter::required("path", Kind::Text)] }
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }

    async fn run(&self, call: Call) -> Result<String> {
        let (name, path) = (call.model(0)?, call.required_text(1)?);
        call.context.registry.authorize_training(&call.statement.user, name)?;
        let (store, folder) = call.context.files.folder(path, &call.statement.user, false)?;
        let request =
            VersionRequest { name: name.to_owned(), owner: call.statement.user.clone(), statement: call.statement.statement.clone() };
        let done = call.context.registry.import(request, &Folder { store, path: folder }).await?;
        let version = done.reference.version;
        Ok(match (done.changed, done.activated) {
            (false, _) => format!("version {version} of model \"{name}\" is that model already"),
            (true, true) => format!("imported version {version} of model \"{name}\", it is active"),
            (true, false) => format!("imported version {version} of model \"{name}\", it is ready"),
        })
    }
}
