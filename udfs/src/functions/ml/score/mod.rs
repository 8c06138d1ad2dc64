//! Whole populations and tables: `score_users`, `embed_users`, `score_rows`.
//!
//! Life of a call: the source's histories come in user order, in as many streams as the session has partitions → each
//! stream cuts them user by user, encodes them and scores them in chunks → batches meet in one stream. Memory holds a few
//! batches per partition, whatever the number of users or events; the network is one shared copy.

use std::sync::Arc;

use crate::functions::relation::MlRelation;

mod embed_users;
mod rows;
mod score_rows;
mod score_users;
#[cfg(test)]
mod tests;
mod users;

pub use embed_users::EmbedUsers;
pub use score_rows::ScoreRows;
pub use score_users::ScoreUsers;

/// The functions of this module.
pub fn relations() -> Vec<Arc<dyn MlRelation>> {
    vec![Arc::new(ScoreUsers), Arc::new(EmbedUsers), Arc::new(ScoreRows)]
}
