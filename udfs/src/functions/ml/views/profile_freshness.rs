//! `ml.profile_freshness`: one row per materialized view, with how old its rows are.

use async_trait::async_trait;

use super::MlContext;
use super::view::{Column, Kind, View, big, bool, float, text, time};
use crate::context::ProfileInfo;
use crate::error::Result;

#[derive(Debug)]
pub(super) struct ProfileFreshness;

/// Seconds of events that the newest refresh did not see.
fn lag(row: &ProfileInfo) -> Option<f64> {
    let seen = row.last.as_ref()?.as_of_us?;
    Some(row.newest_us?.saturating_sub(seen).max(0) as f64 / 1e6)
}

#[async_trait]
impl View for ProfileFreshness {
    fn name(&self) -> &'static str {
        "profile_freshness"
    }

    fn columns(&self) -> &'static [(&'static str, Kind)] {
        &[
            ("name", Kind::Text),
            ("fresh", Kind::Bool),
            ("as_of", Kind::Time),
            ("newest_event", Kind::Time),
            ("lag_seconds", Kind::Float),
            ("pending_commits", Kind::BigInt),
            ("refreshed_at", Kind::Time),
            ("refresh", Kind::Text),
            ("incremental", Kind::Bool),
            ("reason", Kind::Text),
            ("last_refresh", Kind::Text),
            ("users_refreshed", Kind::BigInt),
            ("rows", Kind::BigInt),
            ("seconds", Kind::Float),
            ("version", Kind::BigInt),
            ("user_column", Kind::Text),
            ("error", Kind::Text),
        ]
    }

    async fn rows(&self, context: &MlContext) -> Result<Vec<Column>> {
        let rows = context.profiles.list().await?;
        Ok(vec![
            text(&rows, |row| Some(&row.name)),
            bool(&rows, |row| Some(row.fresh)),
            time(&rows, |row| row.last.as_ref()?.as_of_us),
            time(&rows, |row| row.newest_us),
            float(&rows, lag),
            big(&rows, |row| row.pending_commits),
            time(&rows, |row| Some(row.last.as_ref()?.refreshed_at_us)),
            text(&rows, |row| Some(&row.refresh)),
            bool(&rows, |row| Some(row.incremental)),
            text(&rows, |row| row.reason.as_deref()),
            text(&rows, |row| Some(&row.last.as_ref()?.how)),
            big(&rows, |row| row.last.as_ref()?.users),
            big(&rows, |row| Some(row.last.as_ref()?.rows)),
            float(&rows, |row| Some(row.last.as_ref()?.seconds)),
            big(&rows, |row| Some(row.last.as_ref()?.version)),
            text(&rows, |row| row.user.as_deref()),
            text(&rows, |row| row.error.as_deref()),
        ])
    }
}
