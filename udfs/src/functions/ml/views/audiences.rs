//! `ml.audiences`: one row per audience.

use async_trait::async_trait;

use super::MlContext;
use super::view::{Column, Kind, SeenBy, View, big, int, text, time};
use crate::context::AudienceKey;
use crate::error::Result;

#[derive(Debug)]
pub(super) struct Audiences;

#[async_trait]
impl View for Audiences {
    fn name(&self) -> &'static str {
        "audiences"
    }

    fn columns(&self) -> &'static [(&'static str, Kind)] {
        &[
            ("name", Kind::Text),
            ("version", Kind::Int),
            ("users", Kind::BigInt),
            ("key_type", Kind::Text),
            ("bytes", Kind::BigInt),
            ("owner", Kind::Text),
            ("created_at", Kind::Time),
            ("refreshed_at", Kind::Time),
            ("definition", Kind::Text),
        ]
    }

    fn seen_by(&self) -> SeenBy {
        SeenBy::ReadersOfAudience("name")
    }

    async fn rows(&self, context: &MlContext) -> Result<Vec<Column>> {
        let rows = context.audiences.list();
        let mut users = Vec::with_capacity(rows.len());
        for row in &rows {
            // A set that cannot be read has no number; asking for its members says why.
            users.push(match row.versions.last() {
                Some(newest) => context.audiences.persons(&row.name, newest).await.ok(),
                None => None,
            });
        }
        let key = |key: AudienceKey| match key {
            AudienceKey::BigInt => "bigint",
            AudienceKey::Text => "text",
        };
        Ok(vec![
            text(&rows, |row| Some(&row.name)),
            int(&rows, |row| row.versions.last().map(|newest| newest.version)),
            big(&users, |users| *users),
            text(&rows, |row| Some(key(row.key))),
            big(&rows, |row| Some(row.versions.iter().map(|version| version.bytes).sum())),
            text(&rows, |row| Some(&row.owner)),
            time(&rows, |row| row.versions.first().map(|first| first.created_at_us)),
            time(&rows, |row| Some(row.refreshed_at_us)),
            text(&rows, |row| Some(&row.definition)),
        ])
    }
}
