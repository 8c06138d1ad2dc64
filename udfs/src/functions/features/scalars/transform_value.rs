//! `transform_value(name, row, feature)`

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, new_null_array};
use arrow::datatypes::DataType;
use datafusion::common::Result as DfResult;
use datafusion::logical_expr::{ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};
use datafusion_macros::user_doc;

use super::arguments::{count, is_text, over_rows, wrong_type};
use super::stored::{Stored, features, is_null, is_row};
use crate::error::{Error, Result};
use crate::functions::MlContext;
use crate::registry::StoredTransform;

const SYNTAX: &str = "transform_value(name, row, feature)";

#[user_doc(
    doc_section(label = "Feature Functions"),
    description = "One feature of a row under a stored transform: transform, for tools that want a number rather than an array. NULL when the feature is missing.",
    syntax_example = "transform_value(name, row, feature => NULL)",
    sql_example = "```sql\nSELECT * FROM fit_transform('prices', 'events', 'price: median | robust');\nSELECT price, transform_value('prices', price) FROM events LIMIT 3;\n```",
    argument(name = "name", description = "The transform: name for the newest version, or name@3; a constant."),
    argument(
        name = "row",
        description = "named_struct('price', price, …), bound by field name; or the value itself when the transform reads one column."
    ),
    argument(name = "feature", description = "Its name, a constant; may be left out when the transform makes one."),
    related_udf(name = "transform")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct TransformValue {
    signature: Signature,
    pub(super) stored: Stored,
}

impl TransformValue {
    pub(super) fn new(context: &Arc<MlContext>) -> Self {
        Self { signature: signature(Volatility::Volatile), stored: Stored::new(context) }
    }

    /// The same, with the version that a plan carries.
    pub(super) fn pinned(&self, stored: &Arc<StoredTransform>) -> Self {
        Self { signature: signature(Volatility::Immutable), stored: self.stored.pinned(stored) }
    }
}

fn signature(volatility: Volatility) -> Signature {
    let mut signature = Signature::user_defined(volatility);
    signature.parameter_names = Some(vec!["name".into(), "row".into(), "feature".into()]);
    signature
}

/// The place of the feature that a call names.
fn place(stored: &StoredTransform, args: &ScalarFunctionArgs) -> Result<Option<usize>> {
    let fitted = &stored.fitted;
    match args.args.get(2) {
        None if fitted.features().count() == 1 => Ok(Some(0)),
        None => Err(Error::invalid(format!("transform \"{}\" makes several features", stored.name))
            .detail(format!("They are {}.", fitted.features().take(50).collect::<Vec<_>>().join(", ")))
            .hint(format!("Name one: {SYNTAX}."))),
        Some(ColumnarValue::Scalar(name)) => name.try_as_str().flatten().map(|name| fitted.feature(name)).transpose(),
        Some(ColumnarValue::Array(_)) => Err(Error::invalid("argument \"feature\" of transform_value must be a constant")),
    }
}

impl ScalarUDFImpl for TransformValue {
    fn name(&self) -> &str {
        "transform_value"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> DfResult<Vec<DataType>> {
        Ok(given.iter().enumerate().map(|(i, found)| if i != 1 && is_text(found) { DataType::Utf8 } else { found.clone() }).collect())
    }

    fn return_type(&self, given: &[DataType]) -> DfResult<DataType> {
        count(self.name(), given.len(), 2..=3, SYNTAX)?;
        for (found, name) in given.iter().zip(["name", "row", "feature"]) {
            let fits = if name == "row" { is_row(found) } else { *found == DataType::Utf8 };
            if !fits {
                let what = if name == "row" { "a row or a value" } else { "text" };
                return Err(wrong_type(self.name(), name, what, found).into());
            }
        }
        Ok(DataType::Float64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let stored = self.stored.of(self.name(), &args)?;
        let place = match &stored {
            Some(stored) => place(stored, &args)?,
            None => None,
        };
        over_rows(&args, |arrays, rows| -> Result<ArrayRef> {
            let (Some(stored), Some(place), Some(row)) = (&stored, place, arrays.get(1)) else {
                return Ok(new_null_array(&DataType::Float64, rows));
            };
            let mut features = features(stored, row)?;
            let feature = if place < features.len() { features.swap_remove(place) } else { Vec::new() };
            let value = |(line, value): (usize, f64)| Some(value).filter(|value| !value.is_nan() && !is_null(row, line));
            Ok(Arc::new(feature.into_iter().enumerate().map(value).collect::<Float64Array>()))
        })
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }
}
