//! Which rows a quality function measures: by default the model's own test window, else another source or other
//! anchors.

use std::sync::Arc;

use datafusion::error::Result as DfResult;

use super::judge::Judged;
use crate::context::UserHistories;
use crate::error::{Code, Error, Result};
use crate::features::{EventColumns, Options, TableColumns, Target};
use crate::functions::ml::generate::check_predicts;
use crate::functions::ml::train::read::{EventCut, Reader, Stored, TableCut};
use crate::functions::relation::{Call, Kind, Parameter};
use crate::functions::source::{resolve_columns, source_schema};
use crate::registry::{LoadedModel, VersionInfo};

/// Anchors of one call at most.
const ANCHORS_MAX: usize = 1000;

pub(super) const MODEL: Parameter = Parameter::required("model", Kind::Model, "The model: `name` for the active version, or `name@3`.");
pub(super) const SOURCE: Parameter = Parameter::optional(
    "source",
    Kind::Source,
    "NULL",
    "Other events or labelled rows to measure on; by default the source that the model was trained from.",
);
pub(super) const SINCE: Parameter =
    Parameter::optional("since", Kind::Timestamp, "NULL", "The earliest anchor; by default only the latest one.");
pub(super) const UNTIL: Parameter =
    Parameter::optional("until", Kind::Timestamp, "NULL", "Events after it are not looked at; by default the data watermark.");
pub(super) const CLASS: Parameter =
    Parameter::optional("class", Kind::Text, "NULL", "The class in question; may be left out when there are two.");

/// A model with the means to read rows for it.
pub(super) struct Subject {
    pub(super) model: Arc<LoadedModel>,
    pub(super) reader: Reader,
    /// The source that was given, if it is another than the model's own.
    source: Option<String>,
}

impl Subject {
    /// Loads the model of a call.
    pub(super) async fn new(call: &Call) -> Result<Self> {
        let reference = call.args.model("model").ok_or_else(|| call.args.missing("model"))?;
        check_predicts(&reference.name, &call.context.registry.info(reference)?.arch)?;
        let model = call.context.registry.load(reference).await?;
        let reader = Reader {
            session: call.session.clone(),
            histories: Arc::clone(&call.context.histories),
            cancel: call.statement().cancel.clone(),
            may_spill: true,
        };
        Ok(Self { model, reader, source: call.source.as_ref().map(|source| source.sql.clone()) })
    }

    pub(super) fn info(&self) -> &VersionInfo {
        &self.model.manifest.info
    }

    pub(super) fn target(&self) -> Result<Target> {
        Target::parse(&self.info().target)
    }

    fn options(&self) -> Result<Options> {
        serde_json::from_value(self.info().options.clone())
            .map_err(|error| Error::new(Code::DataCorrupted, format!("the options of {} cannot be read: {error}", self.model.reference)))
    }

    /// The SQL to read from.
    fn sql(&self) -> Result<String> {
        let own = || self.info().source.as_ref().map(|source| source.sql.clone());
        self.source.clone().or_else(own).ok_or_else(|| {
            Error::new(Code::NotReady, format!("{} does not know the source it was trained from", self.model.reference))
                .hint("Give one: source => 'events'.")
        })
    }

    fn stored(&self) -> Stored {
        Stored { encoder: self.model.manifest.preprocessor.clone(), classes: self.info().classes.clone() }
    }

    /// The columns of the model in the source; recognised anew when another source calls them differently.
    async fn columns(&self, sql: &str) -> DfResult<EventColumns> {
        let stored = self.info().source.as_ref().and_then(|source| source.columns.clone());
        let stored = stored.ok_or_else(|| Error::internal("a model of events has no columns"))?;
        if self.source.is_none() {
            return Ok(stored);
        }
        let schema = source_schema(&self.reader.session, sql).await?;
        if schema.field_with_name(&stored.user).is_ok() && schema.field_with_name(&stored.time).is_ok() {
            return Ok(stored);
        }
        Ok(resolve_columns(&self.reader.session, sql, "auto").await?.0)
    }

    /// Opens an event source.
    pub(super) async fn open(&self) -> DfResult<Opened> {
        let sql = self.sql()?;
        let columns = self.columns(&sql).await?;
        let histories = self.reader.open(&sql, &columns).await?;
        let watermark_us = histories.watermark_us().ok_or_else(|| Error::invalid("the source has no events"))?;
        Ok(Opened { sql, columns, histories, watermark_us })
    }

    /// The step between anchors.
    pub(super) fn step_us(&self) -> i64 {
        self.info().anchor_every_us.unwrap_or(self.info().horizon_us).max(1)
    }

    /// Judges the rows at `anchors_us`, or (`None`) the test rows that the training measured.
    pub(super) async fn judge_events(&self, opened: &Opened, as_of_us: i64, anchors_us: Option<Vec<i64>>) -> DfResult<Judged> {
        let cut = EventCut {
            columns: opened.columns.clone(),
            target: self.target()?,
            horizon_us: self.info().horizon_us,
            anchor_every_us: self.info().anchor_every_us,
            options: self.options()?,
            as_of_us,
            anchors_us,
            stored: Some(self.stored()),
        };
        let loaded = self.reader.events(&opened.sql, opened.histories.as_ref(), cut).await?;
        Ok(Judged::new(loaded, &self.model, &self.reader.cancel).await?)
    }

    async fn judge_table(&self, label: &str) -> DfResult<Judged> {
        let cut = TableCut {
            label: Some(label.to_owned()),
            columns: TableColumns::default(),
            options: self.options()?,
            stored: Some(self.stored()),
            all_rows: self.source.is_some(),
        };
        let loaded = self.reader.table(&self.sql()?, cut).await?;
        Ok(Judged::new(loaded, &self.model, &self.reader.cancel).await?)
    }

    /// What the arguments `source`, `since` and `until` ask for, and what that is called.
    pub(super) async fn judge(&self, since_us: Option<i64>, until_us: Option<i64>) -> DfResult<(Judged, &'static str)> {
        if let Target::Column(label) = self.target()? {
            if since_us.or(until_us).is_some() {
                return Err(Error::invalid("since and until need a model of events; this one was trained from labelled rows").into());
            }
            let split = if self.source.is_some() { "source" } else { "test" };
            return Ok((self.judge_table(&label).await?, split));
        }
        let opened = self.open().await?;
        if self.source.is_none() && since_us.or(until_us).is_none() {
            let as_of_us = self.info().as_of_us.unwrap_or(opened.watermark_us);
            return Ok((self.judge_events(&opened, as_of_us, None).await?, "test"));
        }
        let as_of_us = until_us.unwrap_or(opened.watermark_us).min(opened.watermark_us);
        let last_us = as_of_us.saturating_sub(self.info().horizon_us);
        let anchors = match self.target()? {
            // Every event is an anchor: a stretch of time, or the last tenth of them as in training.
            Target::NextEvent | Target::NextItem => since_us.map(|since_us| vec![since_us, as_of_us]),
            _ => Some(anchors_back(last_us, since_us.unwrap_or(last_us), self.step_us())?),
        };
        Ok((self.judge_events(&opened, as_of_us, anchors).await?, "source"))
    }

    /// The index of a class by name; the positive one by default.
    pub(super) fn class(&self, name: Option<&str>) -> Result<usize> {
        let classes = &self.info().classes;
        if classes.is_empty() {
            return Err(Error::invalid(format!("{} predicts a number and has no classes", self.model.reference)));
        }
        let all = || format!("The classes are {}.", classes.iter().map(|c| format!("\"{c}\"")).collect::<Vec<_>>().join(", "));
        match name {
            None if classes.len() == 2 => Ok(1),
            None => Err(Error::invalid(format!("{} has {} classes: name one", self.model.reference, classes.len())).detail(all())),
            Some(name) => classes
                .iter()
                .position(|class| class == name)
                .ok_or_else(|| Error::invalid(format!("{} has no class \"{name}\"", self.model.reference)).detail(all())),
        }
    }
}

/// An opened event source.
pub(super) struct Opened {
    pub(super) sql: String,
    columns: EventColumns,
    pub(super) histories: Arc<dyn UserHistories>,
    pub(super) watermark_us: i64,
}

/// Anchors from `last_us` back to `first_us`.
fn anchors_back(last_us: i64, first_us: i64, step_us: i64) -> Result<Vec<i64>> {
    if first_us > last_us {
        return Err(Error::invalid("since leaves no room for the horizon").detail("The latest anchor is a horizon before the last event."));
    }
    series(last_us, first_us, -step_us)
}

/// `from`, `from + step`, … up to and including `to`; `step` may be negative.
pub(super) fn series(from_us: i64, to_us: i64, step_us: i64) -> Result<Vec<i64>> {
    let (mut at, mut anchors) = (from_us, vec![]);
    while (step_us > 0 && at <= to_us) || (step_us < 0 && at >= to_us) {
        if anchors.len() == ANCHORS_MAX {
            return Err(Error::invalid(format!("more than {ANCHORS_MAX} anchors")).hint("Take a longer step or a shorter range."));
        }
        anchors.push(at);
        match at.checked_add(step_us) {
            Some(next) => at = next,
            None => break,
        }
    }
    Ok(anchors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anchors_are_a_series_with_both_ends() {
        assert_eq!(series(10, 30, 10).unwrap(), [10, 20, 30]);
        assert_eq!(series(10, 29, 10).unwrap(), [10, 20]);
        assert_eq!(anchors_back(30, 12, 10).unwrap(), [30, 20]);
        assert_eq!(anchors_back(30, 30, 10).unwrap(), [30]);
        assert!(anchors_back(30, 31, 10).is_err());
        assert!(series(0, i64::MAX, 1).is_err());
    }
}
