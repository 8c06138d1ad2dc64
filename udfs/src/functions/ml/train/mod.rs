//! Training, and what one looks at before it.

use std::sync::Arc;

use arrow::datatypes::Schema;

use crate::error::{Code, Error, Result};
use crate::functions::relation::MlRelation;
use crate::kernels::nearest::nearest;

pub mod describe_events;
mod federated;
pub mod federated_join;
mod generative;
mod incumbent;
pub(crate) mod progress;
pub(crate) mod read;
pub(crate) mod resources;
mod row;
mod run;
pub(crate) mod spec;
pub mod train_profile_model;

/// The functions of this family.
pub fn relations() -> Vec<Arc<dyn MlRelation>> {
    vec![
        Arc::new(train_profile_model::TrainProfileModel),
        Arc::new(describe_events::DescribeEvents),
        Arc::new(federated_join::FederatedJoin),
    ]
}

/// Refuses a label column that the source does not have.
pub(crate) fn check_label(label: &str, source: &Schema) -> Result<()> {
    if source.field_with_name(label).is_ok() {
        return Ok(());
    }
    let error = Error::new(Code::UndefinedColumn, format!("column \"{label}\" of the target does not exist in the source"));
    let names = source.fields().iter().map(|field| field.name().as_str());
    Err(match nearest(label, names) {
        Some(near) => error.hint(format!("Perhaps you meant the column \"{near}\".")),
        None => error,
    })
}
