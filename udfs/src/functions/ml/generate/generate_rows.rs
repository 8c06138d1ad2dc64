//! `generate_rows(model, n, seed => …)`

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{StreamExt, TryStreamExt};

use super::{generator, no_rows};
use crate::error::{Code, Error, Result};
use crate::features::rows::schema_of;
use crate::functions::MlContext;
use crate::functions::ml::train::read::blocking;
use crate::functions::relation::{Arguments, Call, Kind, MlRelation, Parameter};
use crate::registry::ModelAction;

/// Rows of one call at most.
const ROWS_MAX: i64 = 1_000_000_000;
/// The seed when none is given.
const SEED: i64 = 42;

/// See [`MlRelation::doc`].
#[derive(Debug)]
pub struct GenerateRows;

impl MlRelation for GenerateRows {
    fn name(&self) -> &'static str {
        "generate_rows"
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: [Parameter; 3] = [
            Parameter::required("model", Kind::Model, "A gan, `name` or `name@version`."),
            Parameter::required("n", Kind::Integer, "How many rows."),
            Parameter::optional("seed", Kind::Integer, "42", "Row i of a seed is always the same one; another seed gives other rows."),
        ];
        &PARAMETERS
    }

    fn doc(&self) -> &'static str {
        "Makes rows like those that a gan was trained on: its source's columns with their names and types, categories and NULLs as often as \
         there, numbers in their own units, rounded and within the range of the source; pictures are PNG files in bytea, with the class \
         that they show where the target was column(<label>). Rows come in their order, in bounded memory. Columns that cannot be learned \
         (texts that are different in every row) are NULL."
    }

    fn example(&self) -> &'static str {
        "SELECT * FROM generate_rows('twins', 1000, seed => 7)"
    }

    fn schema(&self, args: &Arguments, _: Option<&Schema>, context: &MlContext) -> Result<SchemaRef> {
        let model = args.resolve_model("model", context)?.ok_or_else(|| {
            Error::new(Code::FeatureNotSupported, "the model of generate_rows must be known when the statement is planned")
                .detail("Its rows have the columns of the model's source.")
        })?;
        let info = context.registry.info(&model)?;
        if info.row_columns.is_empty() {
            return Err(no_rows(&model.name, &info.arch));
        }
        if !args.is_unbound("n") {
            count(args)?;
        }
        Ok(schema_of(&info.row_columns))
    }

    fn execute(&self, call: Call) -> Result<SendableRecordBatchStream> {
        count(&call.args)?;
        let schema = Arc::clone(&call.schema);
        let rows = futures::stream::once(async move { open(call).await }).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }
}

fn count(args: &Arguments) -> Result<u64> {
    if args.integer("n").is_none() {
        return Err(args.missing("n"));
    }
    Ok(args.integer_in("n", 0, 0..=ROWS_MAX)?.unsigned_abs())
}

async fn open(call: Call) -> DataFusionResult<SendableRecordBatchStream> {
    let statement = call.statement();
    let registry = &call.context.registry;
    let reference = call.args.model("model").ok_or_else(|| call.args.missing("model"))?;
    registry.authorize(&statement.user, &reference.name, ModelAction::Execute)?;
    let model = registry.load_to_answer(reference).await?;
    let seed = call.args.integer_in("seed", SEED, 0..=i64::MAX)?.unsigned_abs();
    let (generator, total, schema) = (generator(&model, seed)?, count(&call.args)?, Arc::clone(&call.schema));
    let chunk = generator.batch_rows() as u64;
    let ahead = call.task.session_config().target_partitions().max(1);
    let (cancel, own) = (statement.cancel.clone(), Arc::clone(&schema));
    let made = futures::stream::iter((0..total.div_ceil(chunk)).map(move |at| (at * chunk, chunk.min(total - at * chunk))))
        .map(move |(first, rows)| {
            let (generator, cancel, schema) = (generator.clone(), cancel.clone(), Arc::clone(&own));
            blocking(move || {
                if cancel.is_cancelled() {
                    return Err(Error::cancelled());
                }
                let batch = generator.rows(first, rows as usize)?;
                as_planned(&batch, &schema)
            })
        })
        // In order, a few chunks ahead.
        .buffered(ahead)
        .map_err(DataFusionError::from);
    Ok(Box::pin(RecordBatchStreamAdapter::new(schema, made)))
}

/// A version that became active since the plan was made may have other columns.
fn as_planned(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    if batch.schema_ref() == schema {
        return Ok(batch.clone());
    }
    Err(Error::new(Code::NotReady, "the model changed while the statement ran").hint("Prepare the statement again."))
}
