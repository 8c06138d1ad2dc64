//! `export_model(model, path)`: a version as a folder that other programs read.

use async_trait::async_trait;
use datafusion::logical_expr::Documentation;
use datafusion_macros::user_doc;

use super::action::{Action, Call, Kind, Parameter};
use crate::error::Result;
use crate::registry::{Folder, ModelAction};

#[user_doc(
    doc_section(label = "Model Life Cycle Functions"),
    description = "Writes a version to a folder under a data root: `model.safetensors` with PyTorch's tensor names (`torch.load_state_dict(safetensors.torch.load_file(…))` reads it) and `manifest.json` with features, vocabularies, network, calibration and metrics. The folder must not hold another model. Returns what was done.",
    syntax_example = "export_model(model, path)",
    sql_example = "```sql\nSELECT export_model('shopper', 'exports/shopper');\n```",
    argument(name = "model", description = "Model name (the active version), or `name@version`."),
    argument(name = "path", description = "A folder under a data root."),
    related_udf(name = "import_model")
)]
#[derive(Debug)]
pub(super) struct ExportModel;

#[async_trait]
impl Action for ExportModel {
    fn name(&self) -> &'static str {
        "export_model"
    }

    fn parameters(&self) -> &'static [Parameter] {
        const { &[Parameter::required("model", Kind::Text), Parameter::required("path", Kind::Text)] }
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }

    async fn run(&self, call: Call) -> Result<String> {
        let reference = call.resolve(0, ModelAction::Own)?;
        let path = call.required_text(1)?;
        let (store, folder) = call.context.files.folder(path, &call.statement.user, true)?;
        let written = call.context.registry.export(&reference, &Folder { store, path: folder }).await?;
        let (name, version) = (&reference.name, reference.version);
        Ok(match written {
            true => format!("exported version {version} of model \"{name}\" to \"{path}\""),
            false => format!("version {version} of model \"{name}\" was at \"{path}\" already"),
        })
    }
}
