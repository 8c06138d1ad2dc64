//! Distances between embeddings, with pgvector's meaning: `cosine_similarity`, `l2_distance`, `inner_product`, and the
//! operators `<->`, `<=>`, `<#>`.
//!
//! They are scalar functions over `float4[]`; the kernel of each is one loop over two slices.

mod cosine_similarity;
mod distance;
mod inner_product;
mod l2_distance;
mod operators;

use std::sync::Arc;

use datafusion::logical_expr::ScalarUDF;
use datafusion::logical_expr::planner::ExprPlanner;

use super::super::MlContext;

/// The scalar functions of the family.
pub fn scalars(_context: &Arc<MlContext>) -> Vec<Arc<ScalarUDF>> {
    vec![
        Arc::new(ScalarUDF::new_from_impl(cosine_similarity::CosineSimilarity::new())),
        Arc::new(ScalarUDF::new_from_impl(inner_product::InnerProduct::new())),
        Arc::new(ScalarUDF::new_from_impl(l2_distance::L2Distance::new())),
    ]
}

/// The operators of the family.
pub fn expr_planners() -> Vec<Arc<dyn ExprPlanner>> {
    vec![Arc::new(operators::VectorOperators::new())]
}
