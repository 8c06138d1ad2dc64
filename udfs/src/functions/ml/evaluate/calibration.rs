//! `calibration(model, bins, …)`: promised against observed.

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::error::Result as DfResult;
use datafusion::execution::SendableRecordBatchStream;

use super::columns::{batch, counts, doubles, schema};
use super::window::{CLASS, MODEL, SINCE, SOURCE, Subject, UNTIL};
use crate::error::Result;
use crate::functions::MlContext;
use crate::functions::relation::{Arguments, Call, Kind, MlRelation, Parameter};
use crate::train::metrics::calibration_bins;

/// See [`MlRelation::doc`].
#[derive(Debug)]
pub struct Calibration;

fn columns() -> SchemaRef {
    schema(&[
        ("bin", DataType::Int64),
        ("low", DataType::Float64),
        ("high", DataType::Float64),
        ("n", DataType::Int64),
        ("mean_probability", DataType::Float64),
        ("observed", DataType::Float64),
    ])
}

impl MlRelation for Calibration {
    fn name(&self) -> &'static str {
        "calibration"
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[
            MODEL,
            Parameter::optional("bins", Kind::Integer, "10", "How many equally wide bins, 2 to 100."),
            CLASS,
            SOURCE,
            SINCE,
            UNTIL,
        ];
        PARAMETERS
    }

    fn doc(&self) -> &'static str {
        "Compares promised probabilities with what came: in a well calibrated model mean_probability and observed agree in every bin."
    }

    fn example(&self) -> &'static str {
        "SELECT * FROM calibration('shopper', 10)"
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
    let bins = call.args.integer_in("bins", 10, 2..=100)?;
    let (judged, _) = subject.judge(call.args.micros("since"), call.args.micros("until")).await?;
    let bins = calibration_bins(&judged.is_class(class), &judged.probabilities_of(class)?, bins as usize);
    let arrays = vec![
        counts(1..=bins.len() as u64),
        doubles(bins.iter().map(|bin| bin.low)),
        doubles(bins.iter().map(|bin| bin.high)),
        counts(bins.iter().map(|bin| bin.count)),
        doubles(bins.iter().map(|bin| bin.mean_probability)),
        doubles(bins.iter().map(|bin| bin.observed)),
    ];
    batch(&columns(), arrays)
}
