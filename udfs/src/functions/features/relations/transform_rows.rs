//! `transform_rows(name, source, out_of_fold)`

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::error::Result as DfResult;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt;

use super::columns::{doubles, index_of};
use super::read::rows;
use crate::error::{Code, Error, Result};
use crate::functions::MlContext;
use crate::functions::features::stored_columns;
use crate::functions::relation::{Arguments, Call, Kind, MlRelation, Parameter};
use crate::registry::{ModelAction, StoredTransform};

/// Values of features that are made at once: 32 MiB.
const VALUES_AT_ONCE: usize = 4 << 20;

/// See [`MlRelation::doc`].
#[derive(Debug)]
pub(super) struct TransformRows;

impl MlRelation for TransformRows {
    fn name(&self) -> &'static str {
        "transform_rows"
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[
            Parameter::required("name", Kind::Text, "The transform: name for the newest version, or name@3."),
            Parameter::required("source", Kind::Source, "Rows with the columns that the steps read."),
            Parameter::optional(
                "out_of_fold",
                Kind::Boolean,
                "false",
                "true for the rows that the transform was learned from: target means then leave out each row's own fold.",
            ),
        ];
        PARAMETERS
    }

    fn doc(&self) -> &'static str {
        "The rows of a source under a stored transform: columns that no step reads pass through, the features follow as double precision, a \
         missing one NULL. Columns are bound by name. It streams, in no particular order. A transform with the step target has been told the \
         answers of the rows it was learned from: to train on those rows give out_of_fold => true, which takes each row's feature from the \
         folds it is not in."
    }

    fn example(&self) -> &'static str {
        "SELECT * FROM fit_transform('pages', 'sessions', '\"PageValues\", \"ExitRates\": mean | standard');\n\
         SELECT \"Revenue\", \"PageValues\", \"ExitRates\" FROM transform_rows('pages', 'sessions') LIMIT 3"
    }

    fn schema(&self, args: &Arguments, source: Option<&Schema>, context: &MlContext) -> Result<SchemaRef> {
        let source = source.ok_or_else(|| args.missing("source"))?;
        let name = args.text("name").ok_or_else(|| {
            Error::new(Code::IndeterminateType, "the columns of transform_rows depend on the transform")
                .hint("Write its name in the statement instead of a parameter.")
        })?;
        let stored = context.registry.transform(name)?;
        let mut fields: Vec<_> = passed(&stored, source)?.into_iter().map(|index| Arc::clone(&source.fields()[index])).collect();
        for feature in stored.fitted.features() {
            if fields.iter().any(|field| field.name() == feature) {
                return Err(Error::invalid(format!("the source already has a column \"{feature}\""))
                    .detail("A feature of the transform has the same name.")
                    .hint("Leave the column out of the source, or name the feature: column: steps as name."));
            }
            fields.push(Arc::new(Field::new(feature, DataType::Float64, true)));
        }
        Ok(Arc::new(Schema::new(fields)))
    }

    fn execute(&self, call: Call) -> Result<SendableRecordBatchStream> {
        let name = call.args.required_text("name")?;
        call.context.registry.authorize_transform(&call.statement().user, name, ModelAction::Execute)?;
        let stored = call.context.registry.transform(name)?;
        let source = call.source.as_ref().map(|source| source.plan.schema()).ok_or_else(|| call.args.missing("source"))?;
        let passed = passed(&stored, &source)?;
        let planned = call.schema.fields().iter().skip(passed.len()).map(|field| field.name().as_str());
        if !planned.eq(stored.fitted.features()) {
            return Err(Error::new(Code::FeatureNotSupported, "cached plan must not change result type")
                .detail(format!("Transform \"{}\" was fitted anew with other features.", stored.name))
                .hint("Prepare the statement again."));
        }
        let out_of_fold = call.args.boolean("out_of_fold").unwrap_or(false);
        let (schema, token) = (Arc::clone(&call.schema), call.statement().cancel.clone());
        let at_once = (VALUES_AT_ONCE / stored.fitted.features().count().max(1)).max(1);
        let parts = rows(&call).map_err(Error::from_engine)?.flat_map(move |batch| futures::stream::iter(parts(batch, at_once)));
        let made = parts.map(move |batch| {
            if token.is_cancelled() {
                return Err(Error::cancelled().into());
            }
            transformed(&stored, &batch?, &passed, out_of_fold, &schema)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&call.schema), made)))
    }
}

/// A batch in parts of at most so many rows.
fn parts(batch: DfResult<RecordBatch>, at_once: usize) -> Vec<DfResult<RecordBatch>> {
    match batch {
        Ok(batch) if batch.num_rows() > at_once => {
            let starts = (0..batch.num_rows()).step_by(at_once);
            starts.map(|start| Ok(batch.slice(start, at_once.min(batch.num_rows() - start)))).collect()
        }
        other => vec![other],
    }
}

/// The columns that no step reads.
fn passed(stored: &StoredTransform, source: &Schema) -> Result<Vec<usize>> {
    for input in &stored.fitted.inputs {
        index_of(source, &input.name)?;
    }
    let read = |index: &usize| stored.fitted.inputs.iter().any(|input| input.name == *source.field(*index).name());
    Ok((0..source.fields().len()).filter(|index| !read(index)).collect())
}

fn transformed(
    stored: &StoredTransform,
    batch: &RecordBatch,
    passed: &[usize],
    out_of_fold: bool,
    schema: &SchemaRef,
) -> DfResult<RecordBatch> {
    let column = |name: &str| -> Result<ArrayRef> {
        let index = index_of(batch.schema_ref(), name)?;
        Ok(Arc::clone(batch.column(index)))
    };
    let columns = stored_columns::columns(&stored.fitted, &column)?;
    let keys = if out_of_fold { Some(stored_columns::keys(&stored.fitted, &column)?) } else { None };
    let features = stored.fitted.apply(&columns, keys.as_ref())?;
    let kept = passed.iter().map(|index| Arc::clone(batch.column(*index)));
    let arrays = kept.chain(features.into_iter().map(|feature| doubles(feature.into_iter().map(Some)))).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), arrays, &options)?)
}
