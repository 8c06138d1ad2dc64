//! Measures the active version on a challenger's test window: "better" is decided on the same rows.

use datafusion::error::Result as DfResult;

use super::read::{EventCut, Reader, Stored, TableCut};
use crate::context::UserHistories;
use crate::functions::ml::evaluate::judge::Judged;
use crate::registry::LoadedModel;
use crate::train::Metric;

fn stored(model: &LoadedModel) -> Stored {
    Stored { encoder: model.manifest.preprocessor.clone(), classes: model.manifest.info.classes.clone() }
}

/// `metric`, the challenger's headline, of `model` on the test rows of `cut`.
pub(super) async fn on_events(
    reader: &Reader,
    sql: &str,
    histories: &dyn UserHistories,
    cut: EventCut,
    model: &LoadedModel,
    metric: Metric,
) -> DfResult<f64> {
    let cut = EventCut { stored: Some(stored(model)), ..cut };
    let loaded = reader.events(sql, histories, cut).await?;
    Ok(Judged::new(loaded, model, &reader.cancel).await?.headline_in(metric).value)
}

/// The same for a labelled table.
pub(super) async fn on_table(reader: &Reader, sql: &str, cut: TableCut, model: &LoadedModel) -> DfResult<f64> {
    let cut = TableCut { stored: Some(stored(model)), ..cut };
    let loaded = reader.table(sql, cut).await?;
    Ok(Judged::new(loaded, model, &reader.cancel).await?.headline().value)
}
