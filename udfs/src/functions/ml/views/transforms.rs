//! `ml.transforms`: one row per version of every stored transform.

use async_trait::async_trait;

use super::MlContext;
use super::view::{Column, Kind, SeenBy, View, big, int, text, time};
use crate::error::Result;

#[derive(Debug)]
pub(super) struct Transforms;

#[async_trait]
impl View for Transforms {
    fn name(&self) -> &'static str {
        "transforms"
    }

    fn columns(&self) -> &'static [(&'static str, Kind)] {
        &[
            ("name", Kind::Text),
            ("version", Kind::Int),
            ("features", Kind::BigInt),
            ("rows", Kind::BigInt),
            ("steps", Kind::Text),
            ("owner", Kind::Text),
            ("created_at", Kind::Time),
            ("statement", Kind::Text),
        ]
    }

    fn seen_by(&self) -> SeenBy {
        SeenBy::UsersOfTransform("name")
    }

    async fn rows(&self, context: &MlContext) -> Result<Vec<Column>> {
        let rows = context.registry.list_transforms();
        Ok(vec![
            text(&rows, |row| Some(&row.name)),
            int(&rows, |row| Some(row.version)),
            big(&rows, |row| u64::try_from(row.fitted.features().count()).ok()),
            big(&rows, |row| Some(row.fitted.rows)),
            text(&rows, |row| Some(&row.fitted.steps)),
            text(&rows, |row| Some(&row.owner)),
            time(&rows, |row| Some(row.created_at_us)),
            text(&rows, |row| Some(&row.statement)),
        ])
    }
}
