//! `ml.members`: one row per network of every ensemble.

use async_trait::async_trait;

use super::MlContext;
use super::view::{Column, Kind, SeenBy, View, float, int, text};
use crate::error::Result;

#[derive(Debug)]
pub(super) struct Members;

#[async_trait]
impl View for Members {
    fn name(&self) -> &'static str {
        "members"
    }

    fn columns(&self) -> &'static [(&'static str, Kind)] {
        &[
            ("model", Kind::Text),
            ("version", Kind::Int),
            ("member", Kind::Int),
            ("arch", Kind::Text),
            ("weight", Kind::Float),
            ("metric", Kind::Text),
            ("valid", Kind::Float),
            ("epochs", Kind::Int),
            ("best_epoch", Kind::Int),
            ("parameters", Kind::Int),
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
            .flat_map(|(reference, info)| info.members.iter().map(move |member| (reference, info, member)))
            .collect();
        Ok(vec![
            text(&rows, |(reference, ..)| Some(&reference.name)),
            int(&rows, |(reference, ..)| Some(reference.version)),
            int(&rows, |(_, _, member)| u32::try_from(member.member).ok()),
            text(&rows, |(_, _, member)| Some(member.architecture.name())),
            float(&rows, |(_, _, member)| Some(member.weight)),
            text(&rows, |(_, info, _)| Some(&info.metric)),
            float(&rows, |(_, _, member)| Some(member.valid)),
            int(&rows, |(_, _, member)| u32::try_from(member.epochs_run).ok()),
            int(&rows, |(_, _, member)| u32::try_from(member.best_epoch).ok()),
            int(&rows, |(_, _, member)| u32::try_from(member.parameters).ok()),
            float(&rows, |(_, _, member)| Some(member.seconds)),
        ])
    }
}
