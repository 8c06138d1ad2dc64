//! How good a model is.

use std::sync::Arc;

use crate::functions::relation::MlRelation;

/// The functions of this family.
pub fn relations() -> Vec<Arc<dyn MlRelation>> {
    vec![]
}
