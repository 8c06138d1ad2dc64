//! `assign_variant(user_id, experiment, weights)`

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringBuilder};
use arrow::datatypes::DataType;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDFImpl, Signature};
use datafusion_macros::user_doc;

use super::variants::parse_weights;
use crate::error::{Error, Result};
use crate::functions::typed::{Shape, Want, over_rows};
use crate::kernels::stats::assign::assign;

const SHAPE: Shape = Shape {
    name: "assign_variant",
    arguments: &[("user_id", Want::Name), ("experiment", Want::Text), ("weights", Want::Text)],
    required: 3,
};

#[user_doc(
    doc_section(label = "Experiment Functions"),
    description = "The variant of an experiment that a user sees; the same at every call, on every machine. Each variant draws u = (XXH64(experiment, 0, variant, 0, user) >> 11 + ½) / 2^53, and the greatest −weight / ln u wins (weighted rendezvous hashing). So a new variant takes users to itself and moves nobody between the others, a changed weight moves no more users than it must, and experiments are independent of each other. Renaming a variant or the experiment assigns anew. NULL when an argument is NULL.",
    syntax_example = "assign_variant(user_id, experiment, weights)",
    sql_example = "```sql\nSELECT assign_variant(12347, 'checkout', 'control=1, treatment=1');\n-- treatment\n```",
    argument(name = "user_id", description = "The user; numbers count as their text, so 42 and '42' are the same."),
    argument(name = "experiment", description = "The experiment's name."),
    argument(
        name = "weights",
        description = "The variants with their weights: `{\"control\": 3, \"treatment\": 1}`, `control=3, treatment=1`, or `control, treatment` with equal weights. At most 100."
    )
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct AssignVariant {
    signature: Signature,
}

impl AssignVariant {
    pub(super) fn new() -> Self {
        Self { signature: SHAPE.signature() }
    }
}

fn rows(columns: &[ArrayRef], count: usize) -> Result<ArrayRef> {
    let texts = columns.iter().map(|column| column.as_string_opt::<i32>());
    let texts = texts.collect::<Option<Vec<_>>>().ok_or_else(|| Error::internal("texts were expected"))?;
    let [users, experiments, weights] = texts[..] else { return Err(Error::internal("three arguments were expected")) };
    let mut out = StringBuilder::with_capacity(count, count * 8);
    let mut last = (String::new(), Vec::new());
    for row in 0..count {
        if texts.iter().any(|column| column.is_null(row)) {
            out.append_null();
            continue;
        }
        // The weights are the same for all rows, as a rule.
        if last.1.is_empty() || last.0 != weights.value(row) {
            last = (weights.value(row).to_owned(), parse_weights(weights.value(row))?);
        }
        let variant = assign(experiments.value(row), users.value(row), &last.1).and_then(|at| last.1.get(at));
        out.append_option(variant.map(|(name, _)| name));
    }
    Ok(Arc::new(out.finish()))
}

impl ScalarUDFImpl for AssignVariant {
    fn name(&self) -> &str {
        SHAPE.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, given: &[DataType]) -> DfResult<DataType> {
        SHAPE.check(given)?;
        Ok(DataType::Utf8)
    }

    fn coerce_types(&self, given: &[DataType]) -> DfResult<Vec<DataType>> {
        Ok(SHAPE.coerce(given))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        over_rows(&args, rows)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }
}
