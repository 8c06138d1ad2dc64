//! `ml.model_versions`: one row per version: those that can be used, and those that trainings are making or failed to.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::MlContext;
use super::view::{Column, Kind, SeenBy, View, big, float, int, text, time};
use crate::error::Result;
use crate::functions::relation::duration_text;
use crate::models::Scheme;
use crate::registry::{JobInfo, VersionEntry, VersionInfo};

#[derive(Debug)]
pub(super) struct ModelVersions;

/// A version, or the job that did not make one (yet).
enum Row {
    Version(VersionEntry),
    Job(JobInfo),
}

impl Row {
    fn info(&self) -> Option<&VersionInfo> {
        match self {
            Self::Version(entry) => entry.info.as_deref(),
            Self::Job(_) => None,
        }
    }

    fn message(&self) -> Option<&str> {
        let message = match self {
            Self::Version(entry) => entry.message.as_deref().or_else(|| entry.info.as_deref().map(|info| info.message.as_str())),
            Self::Job(job) => Some(job.message.as_str()),
        };
        message.filter(|message| !message.is_empty())
    }
}

/// The horizon in words; `None` for a labelled table, which has none.
pub(super) fn horizon(info: &VersionInfo) -> Option<String> {
    (info.horizon_us > 0).then(|| duration_text(info.horizon_us))
}

/// How the weights are stored.
pub(super) fn scheme(info: &VersionInfo) -> &str {
    info.compression.as_ref().map_or(Scheme::Float32, |compression| compression.weights).name()
}

const COLUMNS: &[(&str, Kind)] = &[
    ("name", Kind::Text),
    ("version", Kind::Int),
    ("state", Kind::Text),
    ("arch", Kind::Text),
    ("target", Kind::Text),
    ("horizon", Kind::Text),
    ("users", Kind::BigInt),
    ("train_rows", Kind::BigInt),
    ("valid_rows", Kind::BigInt),
    ("test_rows", Kind::BigInt),
    ("dropped_rows", Kind::BigInt),
    ("censored_rows", Kind::BigInt),
    ("metric", Kind::Text),
    ("valid", Kind::Float),
    ("test", Kind::Float),
    ("baseline", Kind::Float),
    ("simple_baseline", Kind::Float),
    ("epochs", Kind::Int),
    ("best_epoch", Kind::Int),
    ("parameters", Kind::BigInt),
    ("bytes", Kind::BigInt),
    ("device", Kind::Text),
    ("seconds", Kind::Float),
    ("epsilon", Kind::Float),
    ("delta", Kind::Float),
    ("as_of", Kind::Time),
    ("owner", Kind::Text),
    ("created_at", Kind::Time),
    ("statement", Kind::Text),
    ("options", Kind::Text),
    ("weights_hash", Kind::Text),
    ("message", Kind::Text),
    ("scheme", Kind::Text),
    ("contains_erased", Kind::Text),
];

#[async_trait]
impl View for ModelVersions {
    fn name(&self) -> &'static str {
        "model_versions"
    }

    fn columns(&self) -> &'static [(&'static str, Kind)] {
        COLUMNS
    }

    fn seen_by(&self) -> SeenBy {
        SeenBy::UsersOfModel { model: "name", owner: Some("owner") }
    }

    async fn rows(&self, context: &MlContext) -> Result<Vec<Column>> {
        let rows = versions(context);
        let mut columns = vec![
            text(&rows, |row| match row {
                Row::Version(entry) => Some(&entry.reference.name),
                Row::Job(job) => Some(&job.model),
            }),
            int(&rows, |row| match row {
                Row::Version(entry) => Some(entry.reference.version),
                Row::Job(job) => Some(job.version),
            }),
            text(&rows, |row| match row {
                Row::Version(entry) => Some(entry.state),
                Row::Job(job) => Some(job.state.as_str()),
            }),
        ];
        columns.extend(training_columns(&rows));
        columns.extend(origin_columns(&rows));
        Ok(columns)
    }
}

/// Versions of the registry, and the newest job of every version that is not there: a dropped version's job said
/// `ready` or `active`, so those are left out.
fn versions(context: &MlContext) -> Vec<Row> {
    let mut rows: BTreeMap<(String, u32), Row> = BTreeMap::new();
    for job in context.jobs.list() {
        if !matches!(job.state.as_str(), "ready" | "active") {
            rows.entry((job.model.clone(), job.version)).or_insert(Row::Job(job));
        }
    }
    for entry in context.registry.list_versions() {
        rows.insert((entry.reference.name.to_string(), entry.reference.version), Row::Version(entry));
    }
    rows.into_values().collect()
}

fn training_columns(rows: &[Row]) -> Vec<Column> {
    vec![
        text(rows, |row| row.info().map(|info| info.arch.as_str())),
        text(rows, |row| row.info().map(|info| info.target.as_str())),
        Column::Text(rows.iter().map(|row| row.info().and_then(horizon)).collect()),
        big(rows, |row| row.info().map(|info| info.users)),
        big(rows, |row| row.info().map(|info| info.train_rows)),
        big(rows, |row| row.info().map(|info| info.valid_rows)),
        big(rows, |row| row.info().map(|info| info.test_rows)),
        big(rows, |row| row.info().map(|info| info.dropped_rows)),
        big(rows, |row| row.info().map(|info| info.censored_rows)),
        text(rows, |row| row.info().map(|info| info.metric.as_str())),
        float(rows, |row| row.info().map(|info| info.valid)),
        float(rows, |row| row.info().map(|info| info.test)),
        float(rows, |row| row.info().map(|info| info.baseline)),
        float(rows, |row| row.info().and_then(|info| info.simple_baseline)),
        int(rows, |row| row.info().map(|info| info.epochs)),
        int(rows, |row| row.info().map(|info| info.best_epoch)),
        big(rows, |row| row.info().map(|info| info.parameters)),
        big(rows, |row| row.info().map(|info| info.weights_bytes)),
        text(rows, |row| row.info().map(|info| info.device.as_str())),
        float(rows, |row| row.info().map(|info| info.seconds)),
        float(rows, |row| row.info().and_then(|info| info.privacy).map(|privacy| privacy.epsilon)),
        float(rows, |row| row.info().and_then(|info| info.privacy).map(|privacy| privacy.delta)),
    ]
}

fn origin_columns(rows: &[Row]) -> Vec<Column> {
    vec![
        time(rows, |row| row.info().and_then(|info| info.as_of_us)),
        text(rows, |row| match row {
            Row::Version(entry) => entry.info.as_deref().map(|info| info.owner.as_str()),
            Row::Job(job) => Some(&job.owner),
        }),
        time(rows, |row| match row {
            Row::Version(entry) => entry.info.as_deref().map(|info| info.created_at_us),
            Row::Job(job) => Some(job.started_at_us),
        }),
        text(rows, |row| match row {
            Row::Version(entry) => entry.info.as_deref().map(|info| info.statement.as_str()),
            Row::Job(job) => Some(&job.statement),
        }),
        Column::Text(rows.iter().map(|row| row.info().map(|info| info.options.to_string())).collect()),
        text(rows, |row| row.info().map(|info| info.weights_hash.as_str())),
        text(rows, Row::message),
        text(rows, |row| row.info().map(scheme)),
        text(rows, |row| match row {
            Row::Version(entry) => Some(entry.contains_erased.as_str()),
            Row::Job(_) => None,
        }),
    ]
}
