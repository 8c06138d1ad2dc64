//! `fit_transform(name, source, steps, exclude)`

use std::sync::{Arc, LazyLock};

use arrow::array::{Int32Array, RecordBatch};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::error::Result as DfResult;
use datafusion::execution::SendableRecordBatchStream;
use futures::StreamExt;

use super::columns::{batch, counts, names, schema, texts};
use super::read::{reservation, rows};
use crate::error::{Error, Result};
use crate::features::transform::{FittedTransform, Fitting};
use crate::functions::MlContext;
use crate::functions::relation::{Arguments, Call, Effect, Kind, MlRelation, Parameter};
use crate::registry::{StoredTransform, check_transform_name};

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    schema(&[
        ("transform", DataType::Utf8),
        ("version", DataType::Int32),
        ("position", DataType::Int32),
        ("feature", DataType::Utf8),
        ("inputs", DataType::Utf8),
        ("parameters", DataType::Utf8),
        ("rows", DataType::Int64),
    ])
});

/// See [`MlRelation::doc`].
#[derive(Debug)]
pub(super) struct FitTransform;

impl MlRelation for FitTransform {
    fn name(&self) -> &'static str {
        "fit_transform"
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[
            Parameter::required("name", Kind::Text, "The transform's name; fitting one that exists makes its next version."),
            Parameter::required("source", Kind::Source, "The rows to learn from."),
            Parameter::optional(
                "steps",
                Kind::Text,
                "'auto'",
                "'columns: step | step; columns: step as name'. auto: numbers median | standard, texts one_hot(20), times date_parts.",
            ),
            Parameter::optional("exclude", Kind::Text, "NULL", "Columns that auto leaves alone, 'user_id, label'."),
        ];
        PARAMETERS
    }

    fn doc(&self) -> &'static str {
        "Learns a preprocessing chain from a source and stores its parameters under a name, so that every later row is treated the same: \
         transform, transform_value and transform_rows apply it, ml.transforms lists it, drop_transform drops it. Returns what was learned, a \
         row for each feature. Steps, from left to right, each learned from what the ones before it made: missing values mean, median, mode, zero, \
         constant(value), indicator (one more feature, 1 where missing); outliers winsorize(0.05, 0.95), iqr(1.5), zscore(3), log1p; scaling \
         standard, minmax(0, 1), robust(0.25, 0.75), maxabs; buckets(10) of equal width, quantiles(10) equally full; encodings one_hot(20) (the \
         most frequent categories, and features for any other and for a missing one), ordinal, frequency, hash(1024), tokens(64) (counts of \
         words by hash), target(label, key = user_id, folds = 5, smooth = 20) (the mean of a column by category; see transform_rows for \
         the rows that were learned from); cross (several columns as one category), date_parts(year, month, day, dow, hour, weekend, \
         also quarter, week, doy, minute, and hour_sin, hour_cos and their like); pca(2) over the columns of an entry. Values of the columns \
         that the steps read are held in memory while they are learned. What is learned does not depend on the order of rows. At the \
         top level of a statement only, as training."
    }

    fn example(&self) -> &'static str {
        "SELECT version, feature, parameters FROM fit_transform('visit_prep', 'sessions', \
         '\"PageValues\": median | winsorize(0.01, 0.99) | standard; \"Month\": one_hot(12)')"
    }

    fn schema(&self, _: &Arguments, _: Option<&Schema>, _: &MlContext) -> Result<SchemaRef> {
        Ok(Arc::clone(&SCHEMA))
    }

    fn effect(&self) -> Option<Effect> {
        Some(Effect::Trains)
    }

    fn execute(&self, call: Call) -> Result<SendableRecordBatchStream> {
        let name = call.args.required_text("name")?.to_owned();
        check_transform_name(&name)?;
        call.context.registry.authorize_fitting(&call.statement().user, &name)?;
        let source = call.source.as_ref().map(|source| source.plan.schema()).ok_or_else(|| call.args.missing("source"))?;
        let exclude = names(call.args.text("exclude").unwrap_or(""));
        let fitting = Fitting::new(call.args.text("steps").unwrap_or("auto"), &source, &exclude)?;
        let own = call.clone();
        Ok(call.once(async move {
            let fitted = fit(&own, fitting).await?;
            let statement = own.statement();
            let stored = own.context.registry.publish_transform(&name, &statement.user, &statement.statement, fitted).await?;
            learned(&stored)
        }))
    }
}

/// Reads the source and learns.
async fn fit(call: &Call, mut fitting: Fitting) -> DfResult<FittedTransform> {
    let room = reservation(call, "fit_transform");
    let mut rows = rows(call)?;
    while let Some(batch) = rows.next().await {
        fitting.push(&batch?)?;
        // Columns are held once, and an entry's a second time while it is learned.
        room.try_resize(2 * fitting.bytes())?;
    }
    let (token, held) = (call.statement().cancel.clone(), 2 * fitting.bytes());
    let work = move || {
        let mut check = |more: usize| {
            if token.is_cancelled() {
                return Err(Error::cancelled());
            }
            if more == 0 { Ok(()) } else { room.try_resize(held.saturating_add(more)).map_err(Error::from_engine) }
        };
        fitting.finish(&mut check)
    };
    Ok(tokio::task::spawn_blocking(work).await.map_err(|error| Error::internal(format!("a worker failed: {error}")))??)
}

/// A row for each feature.
fn learned(stored: &StoredTransform) -> DfResult<RecordBatch> {
    let fitted = &stored.fitted;
    let features: Vec<(&str, usize)> =
        fitted.entries.iter().enumerate().flat_map(|(at, entry)| entry.features.iter().map(move |name| (name.as_str(), at))).collect();
    let inputs: Vec<String> = fitted.entries.iter().map(|entry| entry.input_names(fitted)).collect();
    let parameters: Vec<String> = fitted.entries.iter().map(crate::features::transform::FittedEntry::describe).collect();
    let of = |values: &[String]| texts(features.iter().map(|(_, entry)| values.get(*entry).cloned()));
    let arrays = vec![
        texts(features.iter().map(|_| Some(&stored.name))),
        Arc::new(features.iter().map(|_| i32::try_from(stored.version).ok()).collect::<Int32Array>()) as arrow::array::ArrayRef,
        Arc::new((1..=features.len()).map(|position| i32::try_from(position).ok()).collect::<Int32Array>()),
        texts(features.iter().map(|(name, _)| Some(*name))),
        of(&inputs),
        of(&parameters),
        counts(features.iter().map(|_| fitted.rows)),
    ];
    batch(&SCHEMA, arrays)
}
