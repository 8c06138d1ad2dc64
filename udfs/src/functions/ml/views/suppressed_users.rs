//! `ml.suppressed_users`: one row: how many users there are whose events are not taken, and what can be said of who they are.

use async_trait::async_trait;

use super::MlContext;
use super::view::{Column, Kind, SeenBy, View, big, text};
use crate::error::Result;

#[derive(Debug)]
pub(super) struct SuppressedUsers;

#[async_trait]
impl View for SuppressedUsers {
    fn name(&self) -> &'static str {
        "suppressed_users"
    }

    fn columns(&self) -> &'static [(&'static str, Kind)] {
        // The ids themselves are what was forgotten; the hashes are those of ml.erasure_audit, of the first thousand.
        &[("users", Kind::BigInt), ("user_hashes", Kind::Text)]
    }

    fn seen_by(&self) -> SeenBy {
        SeenBy::Superusers
    }

    async fn rows(&self, context: &MlContext) -> Result<Vec<Column>> {
        let (users, hashes) = context.erasure.suppressed();
        let rows = [(users, hashes.join(" "))];
        Ok(vec![big(&rows, |row| Some(row.0)), text(&rows, |row| Some(row.1.as_str()).filter(|hashes| !hashes.is_empty()))])
    }
}
