//! `federated_join(model, source, exchange => …, worker => …)`: trains with others on rows that stay here.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::error::Result as DfResult;
use datafusion::execution::SendableRecordBatchStream;

use super::federated::exchange;
use super::progress::Reporter;
use super::read::{Reader, blocking};
use crate::error::{Error, Result};
use crate::features::{Options, Share, TableColumns};
use crate::functions::MlContext;
use crate::functions::relation::{Arguments, Call, Effect, Kind, MlRelation, Parameter};
use crate::registry::FolderExchange;
use crate::train::federated::remote::{Joined, Joining, Plan, await_plan, check_name};

/// See [`MlRelation::doc`].
#[derive(Debug)]
pub struct FederatedJoin;

fn columns() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("model", DataType::Utf8, false),
        Field::new("worker", DataType::Utf8, false),
        Field::new("rounds", DataType::Int32, false),
        Field::new("rows", DataType::Int64, false),
        Field::new("message", DataType::Utf8, false),
    ]))
}

impl MlRelation for FederatedJoin {
    fn name(&self) -> &'static str {
        "federated_join"
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[
            Parameter::required("model", Kind::Text, "The model's name, as the coordinator calls it."),
            Parameter::required("source", Kind::Source, "This worker's labelled rows; they are read here and stay here."),
            Parameter::required("exchange", Kind::Text, "The folder under a data root where coordinator and workers meet."),
            Parameter::required("worker", Kind::Text, "This worker's name; each one's is its own."),
            Parameter::optional("wait", Kind::Duration, "'1 minute'", "How long a training is waited for."),
        ];
        PARAMETERS
    }

    fn doc(&self) -> &'static str {
        "Takes part in a federated training that another process leads with train_profile_model and the option federated: tells \
         statistics of the rows that name nobody, then trains on them from the common weights whenever a round calls, and hands over the \
         change of the weights and the number of rows, nothing else. Ends with the training. Like training, it is allowed only at the top \
         level of a statement."
    }

    fn example(&self) -> &'static str {
        "SELECT * FROM federated_join('risk', 'customers', exchange => 'exchange', worker => 'bank_a')"
    }

    fn schema(&self, _: &Arguments, _: Option<&Schema>, _: &MlContext) -> Result<SchemaRef> {
        Ok(columns())
    }

    fn execute(&self, call: Call) -> Result<SendableRecordBatchStream> {
        check_name(call.args.required_text("worker")?)?;
        let own = call.clone();
        Ok(call.once(async move { run(&own).await }))
    }

    fn effect(&self) -> Option<Effect> {
        Some(Effect::Trains)
    }
}

async fn run(call: &Call) -> DfResult<RecordBatch> {
    let statement = call.statement();
    let (model, worker) = (call.args.required_text("model")?.to_owned(), call.args.required_text("worker")?.to_owned());
    let path = call.args.required_text("exchange")?;
    let sql = call.source.as_ref().map(|source| source.sql.clone()).ok_or_else(|| call.args.missing("source"))?;
    let wait_seconds = call.args.positive_micros("wait")?.map_or(60.0, |us| us as f64 / 1e6);
    // Fires when this future is dropped: the training thread stops at its next batch.
    let cancel = statement.cancel.child_token();
    let _stop = cancel.clone().drop_guard();
    let exchange = exchange(&call.context, path, &statement.user, &model)?;
    let reporter = Reporter::new(Arc::clone(&statement.notice), Box::new(|_| {}), 1);
    let (own, stop) = (exchange.clone(), cancel.clone());
    let plan = blocking(move || await_plan(&own, wait_seconds, &stop)).await?;
    let reader =
        Reader { session: call.session.clone(), histories: Arc::clone(&call.context.histories), cancel: cancel.clone(), may_spill: false };
    let options = Options { federated: None, ..plan.options.clone() };
    let (builder, _memory) = reader.table_builder(&sql, &plan.label, &TableColumns::parse(&plan.columns)?, &options).await?;
    let (threads, name) = (call.context.training_threads, worker.clone());
    let joined = blocking(move || {
        let least = plan.options.federated.as_ref().map_or(1, |settings| settings.min_count);
        let statistics = builder.statistics(Share::All, u64::from(least))?;
        let member = joining(&exchange, plan, &name, statistics)?.terms(&cancel)?;
        let dataset = builder.finish_shared(&member.terms.shared, Share::All)?;
        if dataset.inputs.rows == 0 {
            return Err(Error::invalid("there are no rows to train on"));
        }
        member.work(&dataset, threads, &cancel, &|progress| reporter.report(progress))
    })
    .await?;
    row(&model, &worker, &joined)
}

fn joining<'a>(
    exchange: &'a FolderExchange,
    plan: Plan,
    name: &str,
    statistics: crate::features::statistics::TableStatistics,
) -> Result<Joining<'a>> {
    Joining::hello(exchange, plan, name, statistics)
}

fn row(model: &str, worker: &str, joined: &Joined) -> DfResult<RecordBatch> {
    let text = |value: &str| Arc::new(StringArray::from(vec![value])) as ArrayRef;
    let message = format!("trained on {} rows in {} rounds", joined.rows, joined.rounds);
    let arrays = vec![
        text(model),
        text(worker),
        Arc::new(Int32Array::from(vec![i32::try_from(joined.rounds).unwrap_or(i32::MAX)])),
        Arc::new(Int64Array::from(vec![i64::try_from(joined.rows).unwrap_or(i64::MAX)])),
        text(&message),
    ];
    Ok(RecordBatch::try_new(columns(), arrays)?)
}
