//! `roc_curve(model, class, …)`: the true positive rate over the false positive rate.

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::error::Result as DfResult;
use datafusion::execution::SendableRecordBatchStream;

use super::columns::{batch, doubles, schema};
use super::window::{CLASS, MODEL, SINCE, SOURCE, Subject, UNTIL};
use crate::error::Result;
use crate::functions::MlContext;
use crate::functions::relation::{Arguments, Call, MlRelation, Parameter};
use crate::train::metrics::roc_curve;

/// See [`MlRelation::doc`].
#[derive(Debug)]
pub struct RocCurve;

fn columns() -> SchemaRef {
    schema(&[("threshold", DataType::Float64), ("false_positive_rate", DataType::Float64), ("true_positive_rate", DataType::Float64)])
}

impl MlRelation for RocCurve {
    fn name(&self) -> &'static str {
        "roc_curve"
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[MODEL, CLASS, SOURCE, SINCE, UNTIL];
        PARAMETERS
    }

    fn doc(&self) -> &'static str {
        "The receiver operating characteristic of one class against the others: a point for every distinct probability, from the strictest \
         threshold on."
    }

    fn example(&self) -> &'static str {
        "SELECT * FROM roc_curve('shopper', 'purchase')"
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
    let class = subject.class(call.args.text("class"))?;
    let (judged, _) = subject.judge(call.args.micros("since"), call.args.micros("until")).await?;
    let points = roc_curve(&judged.is_class(class), &judged.probabilities_of(class)?);
    let arrays =
        vec![doubles(points.iter().map(|p| p.threshold)), doubles(points.iter().map(|p| p.x)), doubles(points.iter().map(|p| p.y))];
    batch(&columns(), arrays)
}
