//! `score_rows(model, source)`

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::execution::SendableRecordBatchStream;

use super::rows;
use crate::error::{Code, Error, Result};
use crate::functions::MlContext;
use crate::functions::ml::generate::check_predicts;
use crate::functions::relation::{Arguments, Call, Kind, MlRelation, Parameter};

/// Scores the rows of a table with a model of labelled rows.
#[derive(Debug)]
pub struct ScoreRows;

/// The columns that it adds.
const ADDED: [(&str, DataType); 3] = [("intent", DataType::Utf8), ("probability", DataType::Float64), ("value", DataType::Float64)];

impl MlRelation for ScoreRows {
    fn name(&self) -> &'static str {
        "score_rows"
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: [Parameter; 2] = [
            Parameter::required("model", Kind::Model, "A model of labelled rows, `name` or `name@version`."),
            Parameter::required("source", Kind::Source, "Rows with the columns the model was trained on; others are passed through."),
        ];
        &PARAMETERS
    }

    fn doc(&self) -> &'static str {
        "Scores the rows of a source with a model that was trained on labelled rows (`column(...)`). The source's own columns are \
         passed through; features are bound by name, so their order does not matter and the label need not be there. `intent` and \
         `probability` are the most likely class and its calibrated probability, `value` is the predicted number; what does not \
         apply to the model is NULL. Rows come in no particular order."
    }

    fn example(&self) -> &'static str {
        "SELECT intent, count(*) FROM score_rows('visits', 'visitors') GROUP BY intent"
    }

    fn schema(&self, args: &Arguments, source: Option<&Schema>, context: &MlContext) -> Result<SchemaRef> {
        let source = source.ok_or_else(|| args.missing("source"))?;
        if let Some(model) = args.resolve_model("model", context)? {
            let info = context.registry.info(&model)?;
            check_predicts(&model.name, &info.arch)?;
            if info.source.as_ref().is_some_and(|source| source.columns.is_some()) {
                return Err(about_users(&model.name));
            }
        }
        let mut fields: Vec<_> = source.fields().iter().cloned().collect();
        for (name, data_type) in ADDED {
            if source.field_with_name(name).is_ok() {
                return Err(Error::invalid(format!("the source already has a column \"{name}\""))
                    .hint(format!("Give it another name in the source: SELECT {name} AS my_{name}, ....")));
            }
            fields.push(Arc::new(Field::new(name, data_type, true)));
        }
        Ok(Arc::new(Schema::new(fields)))
    }

    fn execute(&self, call: Call) -> Result<SendableRecordBatchStream> {
        Ok(rows::stream(call))
    }
}

/// The error of a model that predicts from events.
pub(super) fn about_users(model: &str) -> Error {
    Error::new(Code::DatatypeMismatch, format!("model \"{model}\" predicts from users' events, not from rows"))
        .hint(format!("Use score_users('{model}', source => ...)."))
}
