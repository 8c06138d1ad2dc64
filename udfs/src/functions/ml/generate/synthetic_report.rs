//! `synthetic_report(model, source => NULL, …)`: how real a gan's rows are.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::error::Result as DfResult;
use datafusion::execution::SendableRecordBatchStream;

use super::generator;
use crate::error::{Code, Error, Result};
use crate::features::{Options, TableColumns, Target};
use crate::functions::MlContext;
use crate::functions::ml::evaluate::columns::{batch, doubles, schema, texts};
use crate::functions::ml::train::read::{Reader, blocking};
use crate::functions::relation::{Arguments, Call, Effect, Kind, MlRelation, Parameter};
use crate::models::Architecture;
use crate::registry::ModelAction;
use crate::train::reality::judge_with;

/// See [`MlRelation::doc`].
#[derive(Debug)]
pub struct SyntheticReport;

fn columns() -> SchemaRef {
    schema(&[("metric", DataType::Utf8), ("column_name", DataType::Utf8), ("value", DataType::Float64), ("reference", DataType::Float64)])
}

impl MlRelation for SyntheticReport {
    fn name(&self) -> &'static str {
        "synthetic_report"
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: [Parameter; 5] = [
            Parameter::required("model", Kind::Model, "A gan, `name` or `name@version`."),
            Parameter::optional(
                "source",
                Kind::Source,
                "NULL",
                "Real rows to compare with; by default those that the model was trained on.",
            ),
            Parameter::optional(
                "label",
                Kind::Text,
                "NULL",
                "The column that classifiers learn; by default that of target => 'column(<label>)'.",
            ),
            Parameter::optional("arch", Kind::Text, "'logreg'", "Those classifiers: logreg or dnn."),
            Parameter::optional("seed", Kind::Integer, "42", "The rows that are compared are those of this seed."),
        ];
        &PARAMETERS
    }

    fn doc(&self) -> &'static str {
        "Compares generated rows with real rows that the training kept apart. `value` is of generated rows, `reference` of real training rows \
         in their place. `column_distance`: mean of the columns' distances `ks` (Kolmogorov-Smirnov, numbers) and `tv` (total variation, \
         classes), 0 = alike. `tstr_roc_auc` (`tstr_accuracy` for more than two classes, `tstr_rmse` for numbers): what a classifier trained on \
         generated rows reaches on real ones, beside one trained on real rows. `detection_auc`: how well a classifier tells the two apart, \
         0.5 = not at all. `nearest_distance`: the median distance to the nearest training row, and `copies`: the share of rows that are \
         equal to one; less and more than the reference mean that rows were learned by heart. Pictures: `recognised` is the accuracy of a \
         classifier of real pictures. It trains, so it is allowed only at the top level of a statement."
    }

    fn example(&self) -> &'static str {
        "SELECT * FROM synthetic_report('twins')"
    }

    fn schema(&self, args: &Arguments, _: Option<&Schema>, _: &MlContext) -> Result<SchemaRef> {
        architecture(args)?;
        Ok(columns())
    }

    fn execute(&self, call: Call) -> Result<SendableRecordBatchStream> {
        let own = call.clone();
        Ok(call.once(async move { rows(&own).await }))
    }

    fn effect(&self) -> Option<Effect> {
        Some(Effect::Trains)
    }
}

fn architecture(args: &Arguments) -> Result<Architecture> {
    match args.text("arch").map(Architecture::parse) {
        None => Ok(Architecture::Logreg),
        Some(Some(found @ (Architecture::Logreg | Architecture::Dnn))) => Ok(found),
        Some(_) => Err(Error::invalid("argument \"arch\" of synthetic_report is logreg or dnn")),
    }
}

async fn rows(call: &Call) -> DfResult<RecordBatch> {
    let statement = call.statement();
    let registry = &call.context.registry;
    let reference = call.args.model("model").ok_or_else(|| call.args.missing("model"))?;
    registry.authorize(&statement.user, &reference.name, ModelAction::Execute)?;
    let model = registry.load(reference).await?;
    let info = Arc::clone(&model.manifest);
    let info = &info.info;
    let seed = call.args.integer_in("seed", 42, 0..=i64::MAX)?.unsigned_abs();
    let generator = generator(&model, seed)?;
    let options: Options = serde_json::from_value(info.options.clone())
        .map_err(|error| Error::new(Code::DataCorrupted, format!("the options of {reference} cannot be read: {error}")))?;
    let own = info.source.as_ref().map(|source| source.sql.clone());
    let sql = call.source.as_ref().map(|source| source.sql.clone()).or(own);
    let sql = sql.ok_or_else(|| {
        Error::new(Code::NotReady, format!("{reference} does not know the source it was trained from"))
            .hint("Give one: source => 'events'.")
    })?;
    let label = match (call.args.text("label"), Target::parse(&info.target)?) {
        (Some(label), _) => Some(label.to_owned()),
        (None, Target::Column(label)) => Some(label),
        (None, _) => None,
    };
    let reader = Reader {
        session: call.session.clone(),
        histories: Arc::clone(&call.context.histories),
        cancel: statement.cancel.clone(),
        may_spill: false,
    };
    let columns_of = model.manifest.preprocessor.rows().map(learned).unwrap_or_default();
    let (table, memory) = reader.rows(&sql, &columns_of, label.as_deref(), &options).await?;
    let (threads, arch, cancel) = (call.context.training_threads, architecture(&call.args)?, statement.cancel.clone());
    let judged = blocking(move || judge_with(&table, &generator, &options, arch, threads, &cancel)).await?;
    drop(memory);
    let arrays = vec![
        texts(judged.rows.iter().map(|row| Some(&row.metric))),
        texts(judged.rows.iter().map(|row| row.column.as_ref())),
        doubles(judged.rows.iter().map(|row| row.value)),
        doubles(judged.rows.iter().map(|row| row.reference)),
    ];
    batch(&columns(), arrays)
}

/// The columns that a plan was made of.
fn learned(plan: &crate::features::RowPlan) -> TableColumns {
    let image = plan.image_column().map(str::to_owned);
    let names = plan.fields().into_iter().map(|field| field.name);
    let features = if image.is_some() { Vec::new() } else { names.collect() };
    TableColumns { image, features: Some(features), ..TableColumns::default() }
}
