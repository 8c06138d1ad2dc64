//! `backtest_model(model, from, to, step)`: how good it would have been.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Schema, SchemaRef, TimeUnit};
use datafusion::error::Result as DfResult;
use datafusion::execution::SendableRecordBatchStream;

use super::columns::{batch, counts, doubles, schema, texts};
use super::judge::{Headline, Judged};
use super::window::{MODEL, Subject, series};
use crate::error::{Error, Result};
use crate::features::Target;
use crate::functions::MlContext;
use crate::functions::relation::{Arguments, Call, Kind, MlRelation, Parameter};

/// See [`MlRelation::doc`].
#[derive(Debug)]
pub struct BacktestModel;

fn columns() -> SchemaRef {
    schema(&[
        ("anchor", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
        ("n", DataType::Int64),
        ("metric", DataType::Utf8),
        ("value", DataType::Float64),
        ("baseline", DataType::Float64),
    ])
}

impl MlRelation for BacktestModel {
    fn name(&self) -> &'static str {
        "backtest_model"
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[
            MODEL,
            Parameter::optional("from", Kind::Timestamp, "NULL", "The first anchor; by default the anchor of the training's test."),
            Parameter::optional("to", Kind::Timestamp, "NULL", "The last anchor; by default the latest whose horizon is over."),
            Parameter::optional("step", Kind::Duration, "NULL", "From one anchor to the next; by default the horizon."),
        ];
        PARAMETERS
    }

    fn doc(&self) -> &'static str {
        "Measures a model as if it had been asked at each of these times: features from events up to the anchor, the truth from the horizon \
         after it. Without from and to it is the test window of the training and reproduces its figure exactly. Anchors whose horizon is \
         not over are left out. Anchors that the model learned from flatter it."
    }

    fn example(&self) -> &'static str {
        "SELECT anchor, n, value, baseline FROM backtest_model('shopper')"
    }

    fn schema(&self, _: &Arguments, _: Option<&Schema>, _: &MlContext) -> Result<SchemaRef> {
        Ok(columns())
    }

    fn execute(&self, call: Call) -> Result<SendableRecordBatchStream> {
        let own = call.clone();
        Ok(call.once(async move { rows(&own).await }))
    }
}

async fn rows(call: &Call) -> DfResult<RecordBatch> {
    let subject = Subject::new(call).await?;
    let target = subject.target()?;
    if matches!(target, Target::Column(_)) {
        let message = format!("{} was trained from labelled rows and has no anchors", subject.model.reference);
        return Err(Error::invalid(message).hint("Use evaluate_model or cross_validate.").into());
    }
    let (judged, buckets) = judge(call, &subject, &target).await?;
    let measured = measure(&judged, buckets);
    let anchors = TimestampMicrosecondArray::from_iter_values(measured.iter().map(|(anchor, _)| *anchor)).with_timezone("UTC");
    let arrays = vec![
        Arc::new(anchors) as ArrayRef,
        counts(measured.iter().map(|(_, headline)| headline.rows)),
        texts(measured.iter().map(|(_, headline)| Some(headline.metric.name()))),
        doubles(measured.iter().map(|(_, headline)| headline.value)),
        doubles(measured.iter().map(|(_, headline)| headline.baseline)),
    ];
    batch(&columns(), arrays)
}

/// The scored rows, and where the buckets that they are dealt to begin.
async fn judge(call: &Call, subject: &Subject, target: &Target) -> DfResult<(Judged, Vec<i64>)> {
    let opened = subject.open().await?;
    let (from_us, to_us) = (call.args.micros("from"), call.args.micros("to"));
    let as_of_us = subject.info().as_of_us.unwrap_or(opened.watermark_us);
    if from_us.or(to_us).is_none() {
        let judged = subject.judge_events(&opened, as_of_us, None).await?;
        let first_us = judged.dataset.anchors_us.iter().min().copied().unwrap_or(as_of_us);
        return Ok((judged, vec![first_us]));
    }
    let step_us = call.args.positive_micros("step")?.unwrap_or_else(|| subject.step_us());
    let horizon_us = subject.info().horizon_us;
    // Where every event is an anchor, a bucket holds a stretch of them; else it is one anchor.
    let at_events = matches!(target, Target::NextEvent | Target::NextItem);
    let last_us = opened.watermark_us.saturating_sub(horizon_us);
    let from_us = from_us.unwrap_or_else(|| as_of_us.saturating_sub(horizon_us));
    let to_us = to_us.unwrap_or(last_us);
    let buckets = series(from_us, if at_events { to_us } else { to_us.min(last_us) }, step_us)?;
    if buckets.is_empty() {
        return Err(Error::invalid("no anchor lies between from and to with a horizon that is over")
            .detail(format!("The latest anchor that can be measured is {}.", utc(last_us)))
            .into());
    }
    let mut anchors = buckets.clone();
    if at_events {
        anchors.push(to_us);
    }
    Ok((subject.judge_events(&opened, opened.watermark_us, Some(anchors)).await?, buckets))
}

/// The headline of each bucket: the rows whose anchor lies in it.
fn measure(judged: &Judged, buckets: Vec<i64>) -> Vec<(i64, Headline)> {
    if let [only] = buckets.as_slice() {
        return vec![(*only, judged.headline())];
    }
    let mut rows: Vec<Vec<u32>> = vec![vec![]; buckets.len()];
    for (row, anchor) in judged.dataset.anchors_us.iter().enumerate() {
        if let Some(bucket) = buckets.partition_point(|start| start <= anchor).checked_sub(1) {
            rows[bucket].push(row as u32);
        }
    }
    let measured = buckets.into_iter().zip(&rows).filter(|(_, rows)| !rows.is_empty());
    measured.map(|(anchor, rows)| (anchor, judged.headline_of(rows))).collect()
}

fn utc(us: i64) -> String {
    chrono::DateTime::from_timestamp_micros(us).map_or_else(|| us.to_string(), |t| t.format("%Y-%m-%d %H:%M:%S UTC").to_string())
}
