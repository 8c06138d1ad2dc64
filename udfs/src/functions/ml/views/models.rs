//! `ml.models`: one row per model, with what its active version is.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::MlContext;
use super::model_versions::{horizon, scheme};
use super::view::{Column, Kind, SeenBy, View, big, float, int, text, time};
use crate::error::Result;
use crate::registry::{JobInfo, ModelInfo, VersionInfo};

#[derive(Debug)]
pub(super) struct Models;

/// A model, or a first training that has not made one yet.
enum Row {
    Model(ModelInfo),
    Job(JobInfo),
}

impl Row {
    fn name(&self) -> &str {
        match self {
            Self::Model(model) => &model.name,
            Self::Job(job) => &job.model,
        }
    }

    fn model(&self) -> Option<&ModelInfo> {
        match self {
            Self::Model(model) => Some(model),
            Self::Job(_) => None,
        }
    }

    fn info(&self) -> Option<&VersionInfo> {
        self.model().and_then(|model| model.version.as_deref())
    }
}

#[async_trait]
impl View for Models {
    fn name(&self) -> &'static str {
        "models"
    }

    fn columns(&self) -> &'static [(&'static str, Kind)] {
        &[
            ("name", Kind::Text),
            ("active_version", Kind::Int),
            ("state", Kind::Text),
            ("arch", Kind::Text),
            ("target", Kind::Text),
            ("horizon", Kind::Text),
            ("metric", Kind::Text),
            ("test", Kind::Float),
            ("baseline", Kind::Float),
            ("parameters", Kind::BigInt),
            ("bytes", Kind::BigInt),
            ("owner", Kind::Text),
            ("created_at", Kind::Time),
            ("statement", Kind::Text),
            ("scheme", Kind::Text),
            ("contains_erased", Kind::Text),
            ("on_erasure", Kind::Text),
        ]
    }

    fn seen_by(&self) -> SeenBy {
        SeenBy::UsersOfModel { model: "name", owner: Some("owner") }
    }

    async fn rows(&self, context: &MlContext) -> Result<Vec<Column>> {
        let mut rows: BTreeMap<String, Row> =
            context.registry.list_models().into_iter().map(|model| (model.name.clone(), Row::Model(model))).collect();
        for job in context.jobs.list().into_iter().filter(|job| !job.state.ended()) {
            rows.entry(job.model.clone()).or_insert(Row::Job(job));
        }
        let rows: Vec<Row> = rows.into_values().collect();
        let of_job = |row: &Row| if let Row::Job(job) = row { Some(job.started_at_us) } else { None };
        Ok(vec![
            text(&rows, |row| Some(row.name())),
            int(&rows, |row| row.model().and_then(|model| model.active_version)),
            text(&rows, |row| match row {
                Row::Model(model) => Some(model.state),
                Row::Job(job) => Some(job.state.as_str()),
            }),
            text(&rows, |row| row.info().map(|info| info.arch.as_str())),
            text(&rows, |row| row.info().map(|info| info.target.as_str())),
            Column::Text(rows.iter().map(|row| row.info().and_then(horizon)).collect()),
            text(&rows, |row| row.info().map(|info| info.metric.as_str())),
            float(&rows, |row| row.info().map(|info| info.test)),
            float(&rows, |row| row.info().map(|info| info.baseline)),
            big(&rows, |row| row.info().map(|info| info.parameters)),
            big(&rows, |row| row.model().map(|model| model.bytes)),
            text(&rows, |row| match row {
                Row::Model(model) => Some(&model.owner),
                Row::Job(job) => Some(&job.owner),
            }),
            time(&rows, |row| row.model().map(|model| model.created_at_us).or_else(|| of_job(row))),
            text(&rows, |row| match row {
                Row::Model(_) => row.info().map(|info| info.statement.as_str()),
                Row::Job(job) => Some(&job.statement),
            }),
            text(&rows, |row| row.info().map(scheme)),
            text(&rows, |row| row.model().map(|model| model.contains_erased.as_str())),
            text(&rows, |row| row.model().map(|model| model.on_erasure.as_str())),
        ])
    }
}
