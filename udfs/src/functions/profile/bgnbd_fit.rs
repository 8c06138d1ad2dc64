//! `bgnbd_fit(source, …)`

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::error::Result as DfResult;
use datafusion::execution::SendableRecordBatchStream;

use super::events::{AS_OF, COLUMNS, EVENT, SOURCE, key_type, time_type};
use super::lifetime::fit;
use super::rfm::time;
use crate::error::Result;
use crate::functions::MlContext;
use crate::functions::relation::{Arguments, Call, MlRelation, Parameter};

/// See [`MlRelation::doc`].
#[derive(Debug)]
pub(super) struct BgNbdFit;

const NUMBERS: [&str; 9] = ["r", "alpha", "a", "b", "log_likelihood", "p", "q", "v", "value_log_likelihood"];

fn columns() -> SchemaRef {
    let mut fields = vec![Field::new("customers", DataType::Int64, false), Field::new("returning_customers", DataType::Int64, false)];
    fields.extend(NUMBERS.map(|name| Field::new(name, DataType::Float64, true)));
    fields.extend([Field::new("as_of", time_type(), false), Field::new("dropped_rows", DataType::Int64, false)]);
    Arc::new(Schema::new(fields))
}

impl MlRelation for BgNbdFit {
    fn name(&self) -> &'static str {
        "bgnbd_fit"
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[SOURCE, COLUMNS, EVENT, AS_OF];
        PARAMETERS
    }

    fn doc(&self) -> &'static str {
        "The parameters behind ltv_bgnbd, one row: BG/NBD (r, alpha, a, b; time in days) with its log-likelihood, and Gamma-Gamma (p, q, v) of \
         customers who came back and spent something, NULL where it cannot be fitted. Error 22023 when BG/NBD cannot be."
    }

    fn example(&self) -> &'static str {
        "SELECT customers, returning_customers, r > 0 AND alpha > 0 AS fitted FROM bgnbd_fit('events', event => 'purchase')"
    }

    fn schema(&self, args: &Arguments, source: Option<&Schema>, _: &MlContext) -> Result<SchemaRef> {
        key_type(args, source)?;
        Ok(columns())
    }

    fn execute(&self, call: Call) -> Result<SendableRecordBatchStream> {
        let own = call.clone();
        Ok(call.once(async move { rows(&own).await }))
    }
}

async fn rows(call: &Call) -> DfResult<RecordBatch> {
    let fitted = fit(call, "bgnbd_fit").await?;
    let returning = fitted.users.iter().filter(|orders| orders.days > 1).count();
    let (model, spend) = (fitted.model, fitted.spend);
    let spend = spend.map(|(spend, likelihood)| [spend.p, spend.q, spend.v, likelihood]);
    let numbers = [model.r, model.alpha, model.a, model.b, fitted.likelihood].map(Some).into_iter();
    let numbers = numbers.chain((0..4).map(|at| spend.map(|spend| spend[at])));
    let count = |value: usize| Arc::new(Int64Array::from_value(value as i64, 1)) as ArrayRef;
    let mut arrays = vec![count(fitted.users.len()), count(returning)];
    arrays.extend(numbers.map(|number| Arc::new(Float64Array::from_iter([number])) as ArrayRef));
    arrays.push(time(fitted.events.as_of_us).to_array_of_size(1)?);
    arrays.push(count(usize::try_from(fitted.events.histories.dropped_rows()).unwrap_or(usize::MAX)));
    Ok(RecordBatch::try_new(columns(), arrays)?)
}
