//! `confusion_matrix(model, …)`: what is taken for what.

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::error::Result as DfResult;
use datafusion::execution::SendableRecordBatchStream;

use super::columns::{batch, counts, doubles, schema, texts};
use super::window::{MODEL, SINCE, SOURCE, Subject, UNTIL};
use crate::error::{Error, Result};
use crate::functions::MlContext;
use crate::functions::relation::{Arguments, Call, MlRelation, Parameter};
use crate::train::metrics::classification::most_likely;
use crate::train::metrics::confusion;

/// See [`MlRelation::doc`].
#[derive(Debug)]
pub struct ConfusionMatrix;

fn columns() -> SchemaRef {
    schema(&[("actual", DataType::Utf8), ("predicted", DataType::Utf8), ("n", DataType::Int64), ("share", DataType::Float64)])
}

impl MlRelation for ConfusionMatrix {
    fn name(&self) -> &'static str {
        "confusion_matrix"
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[MODEL, SOURCE, SINCE, UNTIL];
        PARAMETERS
    }

    fn doc(&self) -> &'static str {
        "Counts, for each true class, which class the model says is most likely; share is within the true class."
    }

    fn example(&self) -> &'static str {
        "SELECT actual, predicted, n FROM confusion_matrix('shopper')"
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
    let (judged, _) = subject.judge(call.args.micros("since"), call.args.micros("until")).await?;
    judged.check_probabilities()?;
    let classes = judged.classes.len();
    if classes == 0 {
        return Err(Error::invalid(format!("{} predicts a number and has no classes", subject.model.reference)).into());
    }
    let matrix = confusion(judged.labels(), &most_likely(&judged.scores.probabilities, classes), classes);
    let cells: Vec<(usize, usize)> = (0..classes).flat_map(|actual| (0..classes).map(move |predicted| (actual, predicted))).collect();
    let share = |(actual, predicted): &(usize, usize)| matrix.count(*actual, *predicted) as f64 / matrix.support(*actual) as f64;
    let arrays = vec![
        texts(cells.iter().map(|(actual, _)| judged.classes.get(*actual))),
        texts(cells.iter().map(|(_, predicted)| judged.classes.get(*predicted))),
        counts(cells.iter().map(|(actual, predicted)| matrix.count(*actual, *predicted))),
        doubles(cells.iter().map(share)),
    ];
    batch(&columns(), arrays)
}
