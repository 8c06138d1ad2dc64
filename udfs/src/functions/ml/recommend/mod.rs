//! Items for users and users like users: `recommend_items`, `recommend_all`, `similar_items`, `similar_users`, `lookalike`, `nearest`.
//!
//! Life of a call: [`subject`] loads the model and opens its histories → one user is looked up, or [`scan`] goes through all
//! of them in bounded memory → the model's `Retriever` ranks the whole catalogue, or embeddings are compared → rows.
//! Everything is exact, and equal scores have an order: of items the one more frequent in training comes first, of users the
//! smaller key.

use std::sync::Arc;

use crate::functions::relation::MlRelation;

mod lookalike;
mod nearest;
mod recommend_all;
mod recommend_items;
mod rows;
mod scan;
mod similar_items;
mod similar_users;
mod subject;

pub use lookalike::Lookalike;
pub use nearest::Nearest;
pub use recommend_all::RecommendAll;
pub use recommend_items::RecommendItems;
pub use similar_items::SimilarItems;
pub use similar_users::SimilarUsers;

/// The functions of this module.
pub fn relations() -> Vec<Arc<dyn MlRelation>> {
    vec![
        Arc::new(RecommendItems),
        Arc::new(RecommendAll),
        Arc::new(SimilarItems),
        Arc::new(SimilarUsers),
        Arc::new(Lookalike),
        Arc::new(Nearest),
    ]
}
