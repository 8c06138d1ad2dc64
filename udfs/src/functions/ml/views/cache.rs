//! `ml.cache`: the models in memory.

use async_trait::async_trait;

use super::MlContext;
use super::view::{Column, Kind, SeenBy, View, big, int, text, time};
use crate::error::Result;

#[derive(Debug)]
pub(super) struct Cache;

#[async_trait]
impl View for Cache {
    fn name(&self) -> &'static str {
        "cache"
    }

    fn columns(&self) -> &'static [(&'static str, Kind)] {
        &[
            ("model", Kind::Text),
            ("version", Kind::Int),
            ("bytes", Kind::BigInt),
            ("users", Kind::BigInt),
            ("hits", Kind::BigInt),
            ("loaded_at", Kind::Time),
            ("used_at", Kind::Time),
        ]
    }

    fn seen_by(&self) -> SeenBy {
        SeenBy::UsersOfModel { model: "model", owner: None }
    }

    async fn rows(&self, context: &MlContext) -> Result<Vec<Column>> {
        let rows = context.registry.cache_entries();
        Ok(vec![
            text(&rows, |row| Some(&row.reference.name)),
            int(&rows, |row| Some(row.reference.version)),
            big(&rows, |row| Some(row.bytes as u64)),
            big(&rows, |row| Some(row.users as u64)),
            big(&rows, |row| Some(row.hits)),
            time(&rows, |row| Some(row.loaded_at_us)),
            time(&rows, |row| Some(row.used_at_us)),
        ])
    }
}
