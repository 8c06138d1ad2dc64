//! Smaller and cheaper models from trained ones: fewer bits, fewer strings, a smaller network.
//!
//! Life of a call: [`subject`] loads the model and reads the rows that it was trained from again → [`crate::train`] makes the
//! smaller one and measures both on the same rows → the smaller one becomes a version of its own, its figures in its
//! manifest → [`row`] shows them. Nothing is changed in place.

use std::sync::Arc;

use crate::functions::relation::MlRelation;

pub mod distill_model;
pub mod prune_model;
pub mod quantize_model;
mod row;
mod subject;

/// The functions of this family.
pub fn relations() -> Vec<Arc<dyn MlRelation>> {
    vec![Arc::new(quantize_model::QuantizeModel), Arc::new(prune_model::PruneModel), Arc::new(distill_model::DistillModel)]
}
