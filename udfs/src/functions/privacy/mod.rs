//! Privacy: users who must be forgotten, users whose events must not be taken, and events that are too old.
//!
//! Life of an erasure: the ids come as one argument or as a query's first column, become texts, and go to the
//! [`ErasureProvider`](crate::context::ErasureProvider) in one piece → what it took out of what comes back as rows. The functions
//! stand in `FROM`, so that they run once, and never while a statement is planned, described or explained.
//!
//! What this room must never know: where events, audiences and models lie, and how they are rewritten.

mod apply_retention;
mod erase_user;
mod erase_users;
mod receipt;
mod suppress_user;
mod users;

use std::sync::Arc;

use super::package::Package;

/// What this package offers.
pub fn package() -> Package {
    Package {
        relations: vec![
            Arc::new(apply_retention::ApplyRetention),
            Arc::new(erase_user::EraseUser),
            Arc::new(erase_users::EraseUsers),
            Arc::new(suppress_user::SUPPRESS),
            Arc::new(suppress_user::UNSUPPRESS),
        ],
        ..Package::default()
    }
}
