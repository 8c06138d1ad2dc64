//! Who is the same person: links between ids, made and removed as statements, and followed by every question about a user.
//!
//! Life of a link: `link_ids` and its relatives stand in `FROM` (or alone in a `SELECT`), so that they run once, and never while a
//! statement is planned, described or explained → the ids go to the [`IdentityProvider`](crate::context::IdentityProvider) → from the
//! next statement on `resolve_user` calls all ids of the person by one, [`PersonHistories`] gives a user the events of all of them,
//! and audiences count the person once. A statement sees one state of links from its beginning to its end.
//!
//! What this room must never know: where links are stored, audiences.

mod arguments;
mod histories;
mod ids_of_user;
mod link_ids;
mod link_ids_from;
mod resolve_user;
mod unlink_ids;

use std::sync::Arc;

use datafusion::common::config::ConfigExtension;
use datafusion::common::extensions_options;
use datafusion::logical_expr::ScalarUDF;

pub use histories::PersonHistories;

use super::MlContext;
use super::package::Package;
use crate::context::PERSON_IDS;

extensions_options! {
    /// Options of links between ids; a program sets them with `options.extensions.insert(…)`.
    pub struct IdentityOptions {
        /// How many ids a person may have: a link that would join more is refused.
        pub ids_max: usize, default = PERSON_IDS
    }
}

impl IdentityOptions {
    /// The options of a session that has set the limit.
    pub fn new(ids_max: usize) -> Self {
        Self { ids_max }
    }
}

impl ConfigExtension for IdentityOptions {
    const PREFIX: &'static str = "identity";
}

/// What this package offers.
pub fn package() -> Package {
    Package {
        relations: vec![
            Arc::new(ids_of_user::IdsOfUser),
            Arc::new(link_ids::LinkIds),
            Arc::new(link_ids_from::LinkIdsFrom),
            Arc::new(unlink_ids::UnlinkIds),
        ],
        ..Package::default()
    }
}

/// The scalar functions over links.
pub fn scalars(context: &Arc<MlContext>) -> Vec<Arc<ScalarUDF>> {
    vec![Arc::new(ScalarUDF::new_from_impl(resolve_user::ResolveUser::new(context)))]
}
