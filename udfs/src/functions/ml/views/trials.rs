//! `ml.trials`: one row per setting and round of every hyper-parameter search.

use async_trait::async_trait;

use super::MlContext;
use super::view::{Column, Kind, SeenBy, View, float, int, text};
use crate::error::Result;

#[derive(Debug)]
pub(super) struct Trials;

#[async_trait]
impl View for Trials {
    fn name(&self) -> &'static str {
        "trials"
    }

    fn columns(&self) -> &'static [(&'static str, Kind)] {
        &[
            ("model", Kind::Text),
            ("version", Kind::Int),
            ("trial", Kind::Int),
            ("rung", Kind::Int),
            ("params", Kind::Text),
            ("epochs", Kind::Int),
            ("metric", Kind::Text),
            ("value", Kind::Float),
            ("seconds", Kind::Float),
            ("state", Kind::Text),
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
            .flat_map(|(reference, info)| info.trials.iter().map(move |trial| (reference, info, trial)))
            .collect();
        Ok(vec![
            text(&rows, |(reference, ..)| Some(&reference.name)),
            int(&rows, |(reference, ..)| Some(reference.version)),
            int(&rows, |(_, _, trial)| u32::try_from(trial.trial).ok()),
            int(&rows, |(_, _, trial)| u32::try_from(trial.rung).ok()),
            Column::Text(rows.iter().map(|(_, _, trial)| Some(trial.params.to_string())).collect()),
            int(&rows, |(_, _, trial)| u32::try_from(trial.epochs).ok()),
            text(&rows, |(_, info, _)| Some(&info.metric)),
            float(&rows, |(_, _, trial)| Some(trial.value)),
            float(&rows, |(_, _, trial)| Some(trial.seconds)),
            text(&rows, |(_, _, trial)| Some(trial.state.as_str())),
        ])
    }
}
