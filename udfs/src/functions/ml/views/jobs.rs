//! `ml.jobs`: trainings, running and ended.

use async_trait::async_trait;

use super::MlContext;
use super::view::{Column, Kind, SeenBy, View, float, int, text, time};
use crate::error::Result;

#[derive(Debug)]
pub(super) struct Jobs;

#[async_trait]
impl View for Jobs {
    fn name(&self) -> &'static str {
        "jobs"
    }

    fn columns(&self) -> &'static [(&'static str, Kind)] {
        &[
            ("job_id", Kind::BigInt),
            ("model", Kind::Text),
            ("version", Kind::Int),
            ("state", Kind::Text),
            ("progress", Kind::Float),
            ("eta_seconds", Kind::Float),
            ("started_at", Kind::Time),
            ("heartbeat", Kind::Time),
            ("message", Kind::Text),
            ("owner", Kind::Text),
            ("statement", Kind::Text),
        ]
    }

    fn seen_by(&self) -> SeenBy {
        SeenBy::UsersOfModel { model: "model", owner: Some("owner") }
    }

    async fn rows(&self, context: &MlContext) -> Result<Vec<Column>> {
        let rows = context.jobs.list();
        Ok(vec![
            Column::BigInt(rows.iter().map(|row| Some(row.job_id)).collect()),
            text(&rows, |row| Some(&row.model)),
            int(&rows, |row| Some(row.version)),
            text(&rows, |row| Some(row.state.as_str())),
            float(&rows, |row| Some(row.progress)),
            float(&rows, |row| row.eta_seconds),
            time(&rows, |row| Some(row.started_at_us)),
            time(&rows, |row| Some(row.heartbeat_us)),
            text(&rows, |row| Some(row.message.as_str()).filter(|message| !message.is_empty())),
            text(&rows, |row| Some(&row.owner)),
            text(&rows, |row| Some(&row.statement)),
        ])
    }
}
