//! `evaluate_model(model, …)`: every metric with its baseline.

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::error::Result as DfResult;
use datafusion::execution::SendableRecordBatchStream;

use super::columns::{batch, counts, doubles, schema, texts};
use super::window::{MODEL, SINCE, SOURCE, Subject, UNTIL};
use crate::error::Result;
use crate::functions::MlContext;
use crate::functions::relation::{Arguments, Call, MlRelation, Parameter};

/// See [`MlRelation::doc`].
#[derive(Debug)]
pub struct EvaluateModel;

fn columns() -> SchemaRef {
    schema(&[
        ("metric", DataType::Utf8),
        ("class", DataType::Utf8),
        ("value", DataType::Float64),
        ("baseline", DataType::Float64),
        ("n", DataType::Int64),
        ("split", DataType::Utf8),
    ])
}

impl MlRelation for EvaluateModel {
    fn name(&self) -> &'static str {
        "evaluate_model"
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[MODEL, SOURCE, SINCE, UNTIL];
        PARAMETERS
    }

    fn doc(&self) -> &'static str {
        "Measures a model on rows that it has not learned from, every metric beside what knowing nothing reaches. Without a source it is the test \
         window of the training, and the headline metric equals the training row's test. class is NULL where a metric is about all classes. For the target next_item \
         recall@k, ndcg@k and mrr rank the whole catalogue, never a sample of it, with ties against the model, beside a ranking by popularity in \
         training; rows in which no item came next do not count there, and items outside the catalogue are misses."
    }

    fn example(&self) -> &'static str {
        "SELECT metric, value, baseline FROM evaluate_model('shopper')"
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
    let (judged, split) = subject.judge(call.args.micros("since"), call.args.micros("until")).await?;
    let metrics = judged.metrics();
    let class = |class: Option<usize>| class.and_then(|class| judged.classes.get(class));
    let arrays = vec![
        texts(metrics.iter().map(|row| Some(&row.metric))),
        texts(metrics.iter().map(|row| class(row.class))),
        doubles(metrics.iter().map(|row| row.value)),
        doubles(metrics.iter().map(|row| row.baseline)),
        counts(metrics.iter().map(|row| row.n)),
        texts(metrics.iter().map(|_| Some(split))),
    ];
    batch(&columns(), arrays)
}
