//! `lift_table(model, class, buckets, …)`: whom to address first.

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::error::Result as DfResult;
use datafusion::execution::SendableRecordBatchStream;

use super::columns::{batch, counts, doubles, schema};
use super::window::{CLASS, MODEL, SINCE, SOURCE, Subject, UNTIL};
use crate::error::Result;
use crate::functions::MlContext;
use crate::functions::relation::{Arguments, Call, Kind, MlRelation, Parameter};
use crate::train::metrics::lift_table as table;

/// See [`MlRelation::doc`].
#[derive(Debug)]
pub struct LiftTable;

fn columns() -> SchemaRef {
    schema(&[
        ("bucket", DataType::Int64),
        ("n", DataType::Int64),
        ("positives", DataType::Int64),
        ("threshold", DataType::Float64),
        ("lift", DataType::Float64),
        ("cumulative_recall", DataType::Float64),
        ("cumulative_lift", DataType::Float64),
    ])
}

impl MlRelation for LiftTable {
    fn name(&self) -> &'static str {
        "lift_table"
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[
            MODEL,
            CLASS,
            Parameter::optional("buckets", Kind::Integer, "10", "How many equally large buckets, 2 to 100."),
            SOURCE,
            SINCE,
            UNTIL,
        ];
        PARAMETERS
    }

    fn doc(&self) -> &'static str {
        "Ranks rows by probability and cuts them into equally large buckets, best first: how much more often the class occurs there than on \
         average, and how much of it is found up to there."
    }

    fn example(&self) -> &'static str {
        "SELECT bucket, lift, cumulative_recall FROM lift_table('shopper', 'purchase', 10)"
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
    let buckets = call.args.integer_in("buckets", 10, 2..=100)?;
    let (judged, _) = subject.judge(call.args.micros("since"), call.args.micros("until")).await?;
    let table = table(&judged.is_class(class), &judged.probabilities_of(class)?, buckets as usize);
    let arrays = vec![
        counts(table.iter().map(|row| row.bucket as u64)),
        counts(table.iter().map(|row| row.count)),
        counts(table.iter().map(|row| row.positives)),
        doubles(table.iter().map(|row| row.threshold)),
        doubles(table.iter().map(|row| row.lift)),
        doubles(table.iter().map(|row| row.cumulative_recall)),
        doubles(table.iter().map(|row| row.cumulative_lift)),
    ];
    batch(&columns(), arrays)
}
