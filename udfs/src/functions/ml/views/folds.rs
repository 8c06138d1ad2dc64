//! `ml.folds`: one row per fold of every training with the option `folds`.

use async_trait::async_trait;

use super::MlContext;
use super::view::{Column, Kind, SeenBy, View, float, int, text};
use crate::error::Result;

#[derive(Debug)]
pub(super) struct Folds;

#[async_trait]
impl View for Folds {
    fn name(&self) -> &'static str {
        "folds"
    }

    fn columns(&self) -> &'static [(&'static str, Kind)] {
        &[
            ("model", Kind::Text),
            ("version", Kind::Int),
            ("fold", Kind::Int),
            ("train_rows", Kind::Int),
            ("valid_rows", Kind::Int),
            ("test_rows", Kind::Int),
            ("metric", Kind::Text),
            ("value", Kind::Float),
            ("baseline", Kind::Float),
            ("epochs", Kind::Int),
            ("seconds", Kind::Float),
        ]
    }

    fn seen_by(&self) -> SeenBy {
        SeenBy::UsersOfModel { model: "model", owner: None }
    }

    async fn rows(&self, context: &MlContext) -> Result<Vec<Column>> {
        let versions = context.registry.list_versions();
        let rows: Vec<_> = versions
            .iter()
            .filter_map(|entry| entry.info.as_ref().map(|info| (&entry.reference, info)))
            .flat_map(|(reference, info)| info.folds.iter().map(move |fold| (reference, info, fold)))
            .collect();
        Ok(vec![
            text(&rows, |(reference, ..)| Some(&reference.name)),
            int(&rows, |(reference, ..)| Some(reference.version)),
            int(&rows, |(_, _, fold)| u32::try_from(fold.fold).ok()),
            int(&rows, |(_, _, fold)| u32::try_from(fold.train_rows).ok()),
            int(&rows, |(_, _, fold)| u32::try_from(fold.valid_rows).ok()),
            int(&rows, |(_, _, fold)| u32::try_from(fold.test_rows).ok()),
            text(&rows, |(_, info, _)| Some(&info.metric)),
            float(&rows, |(_, _, fold)| Some(fold.value)),
            float(&rows, |(_, _, fold)| Some(fold.baseline)),
            int(&rows, |(_, _, fold)| u32::try_from(fold.epochs_run).ok()),
            float(&rows, |(_, _, fold)| Some(fold.seconds)),
        ])
    }
}
