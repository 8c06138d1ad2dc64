//! Generated rows: `generate_rows`, and how real they are: `synthetic_report`.
//!
//! Life of a call: the version is loaded once → chunks of rows are made side by side off the query runtime, and come out in
//! their order → memory holds a few chunks, whatever the number of rows. Row `i` of a seed is always the same.

use std::sync::Arc;

use crate::error::{Code, Error, Result};
use crate::functions::relation::MlRelation;
use crate::models::Architecture;
use crate::registry::LoadedModel;
use crate::train::Generator;

mod generate_rows;
mod synthetic_report;

pub use generate_rows::GenerateRows;
pub use synthetic_report::SyntheticReport;

/// The functions of this module.
pub fn relations() -> Vec<Arc<dyn MlRelation>> {
    vec![Arc::new(GenerateRows), Arc::new(SyntheticReport)]
}

/// The rows of a seed of a loaded version.
fn generator(model: &LoadedModel, seed: u64) -> Result<Generator> {
    let plan = model.manifest.preprocessor.rows().ok_or_else(|| no_rows(&model.reference.name, &model.manifest.info.arch))?;
    Ok(Generator::new(Arc::clone(model.scorer.network()), plan, seed))
}

/// The error of a model that makes no rows.
fn no_rows(model: &str, arch: &str) -> Error {
    Error::new(Code::DatatypeMismatch, format!("model \"{model}\" of architecture \"{arch}\" generates no rows"))
        .hint("Train one with arch => 'gan'.")
}

/// Refuses a model that learned without labels where a prediction is asked for.
///
/// # Errors
/// 42804.
pub(in crate::functions::ml) fn check_predicts(model: &str, arch: &str) -> Result<()> {
    match Architecture::parse(arch) {
        Some(Architecture::Gan) => {
            Err(Error::new(Code::DatatypeMismatch, format!("model \"{model}\" generates rows and predicts nothing"))
                .hint(format!("Use generate_rows('{model}', n).")))
        }
        Some(arch) if !arch.is_supervised() => {
            Err(Error::new(Code::DatatypeMismatch, format!("model \"{model}\" learned without labels and predicts nothing"))
                .hint("Use embed_user or embed_users; ml.models shows its reconstruction error."))
        }
        _ => Ok(()),
    }
}
