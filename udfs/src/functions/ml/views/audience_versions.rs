//! `ml.audience_versions`: one row per version of every audience.

use async_trait::async_trait;

use super::MlContext;
use super::view::{Column, Kind, SeenBy, View, big, int, text, time};
use crate::error::Result;

#[derive(Debug)]
pub(super) struct AudienceVersions;

#[async_trait]
impl View for AudienceVersions {
    fn name(&self) -> &'static str {
        "audience_versions"
    }

    fn columns(&self) -> &'static [(&'static str, Kind)] {
        &[("name", Kind::Text), ("version", Kind::Int), ("users", Kind::BigInt), ("bytes", Kind::BigInt), ("created_at", Kind::Time)]
    }

    fn seen_by(&self) -> SeenBy {
        SeenBy::ReadersOfAudience("name")
    }

    async fn rows(&self, context: &MlContext) -> Result<Vec<Column>> {
        let audiences = context.audiences.list();
        let rows: Vec<_> =
            audiences.iter().flat_map(|audience| audience.versions.iter().map(|version| (&audience.name, version))).collect();
        let mut users = Vec::with_capacity(rows.len());
        for (name, version) in &rows {
            users.push(context.audiences.persons(name, version).await.ok());
        }
        Ok(vec![
            text(&rows, |(name, _)| Some(name)),
            int(&rows, |(_, version)| Some(version.version)),
            big(&users, |users| *users),
            big(&rows, |(_, version)| Some(version.bytes)),
            time(&rows, |(_, version)| Some(version.created_at_us)),
        ])
    }
}
