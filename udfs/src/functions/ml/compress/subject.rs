//! A model to be made smaller, the rows that it was trained from, and the version that comes of it.

use std::sync::Arc;

use bytes::Bytes;
use datafusion::error::Result as DfResult;

use super::row::compression;
use crate::error::{Code, Error, Result};
use crate::features::{Dataset, Options, TableColumns, Target};
use crate::functions::ml::train::read::{EventCut, Loaded, Reader, Stored, TableCut, blocking};
use crate::functions::relation::{Call, Kind, Parameter};
use crate::models::Network;
use crate::registry::{Compression, LoadedModel, Manifest, ModelAction, ModelRef, VersionInfo, VersionRequest};
use crate::train::{Calibration, Measures, Scorer, rate, recalibrated};

pub(super) const MODEL: Parameter = Parameter::required("model", Kind::Model, "The model: `name` for the active version, or `name@3`.");
pub(super) const ACTIVATE: Parameter =
    Parameter::optional("activate", Kind::Boolean, "false", "true makes the new version the active one; else activate_model does.");

/// The model of a call, loaded, with the means to read its rows.
pub(super) struct Subject {
    pub(super) call: Call,
    pub(super) model: Arc<LoadedModel>,
    reader: Reader,
}

/// A smaller network and how it reads rows.
pub(super) struct Smaller {
    pub(super) network: Arc<dyn Network>,
    /// The rows as it reads them, when they are read otherwise.
    pub(super) dataset: Option<Dataset>,
}

/// Speed and quality of the model and of the smaller one.
pub(super) struct Figures {
    pub(super) calibration: Calibration,
    pub(super) rows_per_s: (f64, f64),
    /// On the test rows.
    pub(super) metric: (f64, f64),
    /// Of the smaller one on the validation rows.
    pub(super) valid: f64,
}

impl Subject {
    /// Loads the model that the argument `name` means, which the caller must own.
    pub(super) async fn new(call: &Call, name: &str) -> Result<Self> {
        let reference = call.args.model(name).ok_or_else(|| call.args.missing(name))?;
        call.context.registry.authorize(&call.statement().user, &reference.name, ModelAction::Own)?;
        let model = call.context.registry.load(reference).await?;
        let reader = Reader {
            session: call.session.clone(),
            histories: Arc::clone(&call.context.histories),
            cancel: call.statement().cancel.clone(),
            may_spill: false,
        };
        Ok(Self { call: call.clone(), model, reader })
    }

    pub(super) fn info(&self) -> &VersionInfo {
        &self.model.manifest.info
    }

    /// The options it was trained with.
    pub(super) fn options(&self) -> Result<Options> {
        serde_json::from_value(self.info().options.clone())
            .map_err(|error| Error::new(Code::DataCorrupted, format!("the options of {} cannot be read: {error}", self.model.reference)))
    }

    /// A version that was made from this one in the same way, by the registry's own account.
    pub(super) fn made_before(&self, same: impl Fn(&Compression) -> bool) -> Option<(ModelRef, Arc<VersionInfo>)> {
        let own = &self.model.reference;
        self.call.context.registry.list_versions().into_iter().filter(|entry| entry.reference.id == own.id).find_map(|entry| {
            let info = entry.info.filter(|info| {
                info.compression.as_ref().is_some_and(|compression| compression.from_version == Some(own.version) && same(compression))
            })?;
            Some((entry.reference, info))
        })
    }

    /// The rows of every part, encoded as the model reads them and cut as `options` say.
    ///
    /// # Errors
    /// Whatever keeps the source from being read.
    pub(super) async fn rows(&self, options: Options) -> DfResult<Loaded> {
        let info = self.info();
        let source = info
            .source
            .as_ref()
            .ok_or_else(|| Error::new(Code::NotReady, format!("{} does not know the source it was trained from", self.model.reference)))?;
        let stored = Some(Stored { encoder: self.model.manifest.preprocessor.clone(), classes: info.classes.clone() });
        if let Target::Column(label) = Target::parse(&info.target)? {
            let cut = TableCut { label: Some(label), columns: TableColumns::default(), options, stored, all_rows: false };
            return self.reader.all_table(&source.sql, cut).await;
        }
        let columns = source.columns.clone().ok_or_else(|| Error::internal("a model of events has no columns"))?;
        let histories = self.reader.open(&source.sql, &columns).await?;
        let watermark_us = histories.watermark_us().ok_or_else(|| Error::invalid("the source has no events"))?;
        let cut = EventCut {
            columns,
            target: Target::parse(&info.target)?,
            horizon_us: info.horizon_us,
            anchor_every_us: info.anchor_every_us,
            options,
            as_of_us: info.as_of_us.unwrap_or(watermark_us),
            anchors_us: None,
            stored,
        };
        self.reader.all_events(&source.sql, histories.as_ref(), cut).await
    }

    /// The rows, or why there are none: a source that is gone keeps nobody from making a model smaller.
    pub(super) async fn rows_if_any(&self) -> DfResult<std::result::Result<Loaded, String>> {
        let options = self.options()?;
        match self.rows(options).await {
            Ok(loaded) => Ok(Ok(loaded)),
            Err(error) if Error::find(&error).is_some_and(|error| error.code == Code::Cancelled) => Err(error),
            Err(error) => Ok(Err(Error::find(&error).map_or_else(|| error.strip_backtrace(), |error| error.message.clone()))),
        }
    }

    /// Fits the smaller network's calibration and measures both, on the same rows.
    pub(super) async fn compare(&self, loaded: Option<Loaded>, smaller: Smaller) -> Result<Figures> {
        let before = self.model.scorer.clone();
        let Some(Loaded { dataset, memory }) = loaded else {
            let calibration = before.calibration().clone();
            return Ok(Figures { calibration, rows_per_s: (f64::NAN, f64::NAN), metric: (f64::NAN, f64::NAN), valid: f64::NAN });
        };
        let cancel = self.reader.cancel.clone();
        // A private training fitted nothing to the validation rows.
        let private = self.info().privacy.is_some();
        let figures = blocking(move || {
            let Smaller { network, dataset: own } = smaller;
            let own = own.as_ref().unwrap_or(&dataset);
            let kept = before.calibration();
            let calibration = if private { kept.clone() } else { recalibrated(&network, kept, own, &cancel)? };
            let after = Scorer::new(Arc::clone(&network), calibration.clone());
            let (theirs, ours) = (Measures::of(&before, &dataset, &cancel)?, Measures::of(&after, own, &cancel)?);
            let rows_per_s = (rate(before.network().as_ref(), &dataset.inputs, &cancel)?, rate(network.as_ref(), &own.inputs, &cancel)?);
            Ok(Figures { calibration, rows_per_s, metric: (theirs.test.value, ours.test.value), valid: ours.valid.value })
        })
        .await?;
        drop(memory);
        Ok(figures)
    }

    /// The manifest of the smaller version, but for its network and encoder.
    pub(super) fn manifest(&self, scheme: &str, weights: crate::models::Scheme, figures: &Figures, note: &str) -> Manifest {
        let (statement, reference) = (self.call.statement(), &self.model.reference);
        let mut manifest = self.model.manifest.as_ref().clone();
        manifest.calibration = figures.calibration.clone();
        let info = &mut manifest.info;
        info.compression = Some(Compression {
            scheme: scheme.to_owned(),
            weights,
            from: reference.to_string(),
            from_version: Some(reference.version),
            bytes_before: self.info().weights_bytes,
            rows_per_s_before: figures.rows_per_s.0,
            rows_per_s_after: figures.rows_per_s.1,
            before: figures.metric.0,
            after: figures.metric.1,
        });
        (info.test, info.valid) = (figures.metric.1, figures.valid);
        info.message = message(info, note);
        info.owner.clone_from(&statement.user);
        info.statement.clone_from(&statement.statement);
        info.created_at_us = chrono::Utc::now().timestamp_micros();
        manifest
    }

    /// Writes the smaller version, and makes it the active one when the call asks for it.
    pub(super) async fn publish(&self, manifest: Manifest, weights: Vec<u8>) -> Result<(ModelRef, Arc<VersionInfo>)> {
        let (registry, statement) = (&self.call.context.registry, self.call.statement());
        let name = self.model.reference.name.to_string();
        let request = VersionRequest { name: name.clone(), owner: statement.user.clone(), statement: statement.statement.clone() };
        let ticket = registry.begin_version(request).await?;
        let reference = registry.publish_bytes(ticket, manifest, Bytes::from(weights)).await?;
        if self.call.args.boolean("activate").unwrap_or(false) {
            registry.activate(&name, Some(reference.version)).await?;
        }
        let info = registry.info(&reference)?;
        Ok((reference, info))
    }
}

/// The change in words.
fn message(info: &VersionInfo, note: &str) -> String {
    let Ok(own) = compression(info) else { return note.to_owned() };
    let mut parts = vec![format!("{} of {}", own.scheme, own.from)];
    if own.after.is_finite() {
        parts.push(format!("{} {:.4} instead of {:.4}", info.metric, own.after, own.before));
    }
    if !note.is_empty() {
        parts.push(note.to_owned());
    }
    parts.join("; ")
}

/// Says why nothing was measured.
pub(super) fn unread(reason: &str) -> String {
    format!("the source cannot be read again, so nothing was measured: {reason}")
}
