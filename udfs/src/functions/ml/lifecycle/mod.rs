//! The life of a model after its training: activate, roll back, rename, drop, move, warm, wait, cancel.
//!
//! Each function is one file with an [`action::Action`]; [`action::ActionFunction`] makes it a scalar function that
//! returns text. They are volatile, so that nothing runs while a statement is planned or explained, and are
//! evaluated where they stand: one inside a `CASE` branch that is not taken does nothing.

mod action;
mod activate_model;
mod cancel_training;
mod drop_model;
mod drop_transform;
mod export_model;
mod import_model;
mod rename_model;
mod rollback_model;
mod set_model_policy;
mod unload_model;
mod wait_for_model;
mod warm_model;

use std::sync::Arc;

use datafusion::logical_expr::{Documentation, ScalarUDF};

use self::action::{Action, ActionFunction, WaitFunction};
use super::super::MlContext;

/// Every function of the family that is done at once.
fn actions() -> Vec<Arc<dyn Action>> {
    vec![
        Arc::new(activate_model::ActivateModel),
        Arc::new(cancel_training::CancelTraining),
        Arc::new(drop_model::DropModel),
        Arc::new(drop_transform::DropTransform),
        Arc::new(export_model::ExportModel),
        Arc::new(import_model::ImportModel),
        Arc::new(rename_model::RenameModel),
        Arc::new(rollback_model::RollbackModel),
        Arc::new(set_model_policy::SetModelPolicy),
        Arc::new(unload_model::UnloadModel),
        Arc::new(warm_model::WarmModel),
    ]
}

/// Functions that may take long without doing anything themselves.
fn waits() -> Vec<Arc<dyn Action>> {
    vec![Arc::new(wait_for_model::WaitForModel)]
}

/// The scalar functions of the family.
pub fn scalars(context: &Arc<MlContext>) -> Vec<Arc<ScalarUDF>> {
    let actions = actions().into_iter().map(|action| ActionFunction::udf(action, context));
    actions.chain(waits().into_iter().map(|action| WaitFunction::udf(action, context))).collect()
}

/// The documentation of every function of the family by its name; the engine does not hand out that of functions
/// that wait.
pub fn documentation() -> Vec<(&'static str, Documentation)> {
    let all = actions().into_iter().chain(waits());
    all.filter_map(|action| action.documentation().map(|found| (action.name(), found.clone()))).collect()
}

/// The parameters of a function of the family, in order, and how many must be given; `None` for any other name.
pub fn parameters(name: &str) -> Option<(Vec<&'static str>, usize)> {
    let found = actions().into_iter().chain(waits()).find(|action| action.name() == name)?;
    let parameters = found.parameters();
    Some((parameters.iter().map(|parameter| parameter.name).collect(), parameters.iter().filter(|parameter| parameter.required).count()))
}

#[cfg(test)]
mod tests;
