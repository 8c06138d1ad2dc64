//! `ml.training_info`: one row per epoch of every version.

use async_trait::async_trait;

use super::MlContext;
use super::view::{Column, Kind, SeenBy, View, float, int, text};
use crate::error::Result;

#[derive(Debug)]
pub(super) struct TrainingInfo;

#[async_trait]
impl View for TrainingInfo {
    fn name(&self) -> &'static str {
        "training_info"
    }

    fn columns(&self) -> &'static [(&'static str, Kind)] {
        &[
            ("model", Kind::Text),
            ("version", Kind::Int),
            ("epoch", Kind::Int),
            ("train_loss", Kind::Float),
            ("valid_loss", Kind::Float),
            ("valid_metric", Kind::Float),
            ("learning_rate", Kind::Float),
            ("seconds", Kind::Float),
            ("rows_per_s", Kind::Float),
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
            .flat_map(|(reference, info)| info.history.iter().map(move |epoch| (reference, epoch)))
            .collect();
        Ok(vec![
            text(&rows, |(reference, _)| Some(&reference.name)),
            int(&rows, |(reference, _)| Some(reference.version)),
            int(&rows, |(_, epoch)| u32::try_from(epoch.epoch).ok()),
            float(&rows, |(_, epoch)| Some(epoch.train_loss)),
            float(&rows, |(_, epoch)| Some(epoch.valid_loss)),
            float(&rows, |(_, epoch)| Some(epoch.valid_metric)),
            float(&rows, |(_, epoch)| Some(epoch.learning_rate)),
            float(&rows, |(_, epoch)| Some(epoch.seconds)),
            float(&rows, |(_, epoch)| Some(epoch.rows_per_s)),
        ])
    }
}
