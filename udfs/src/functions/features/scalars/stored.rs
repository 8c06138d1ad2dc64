//! A stored transform inside a plan, and how it meets the rows of a batch.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::DataType;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};

use crate::context::StatementContext;
use crate::error::{Code, Error, Result};
use crate::features::transform::FittedTransform;
use crate::functions::MlContext;
use crate::functions::features::stored_columns;
use crate::kernels::nearest::nearest;
use crate::registry::{ModelAction, StoredTransform};

/// What a call knows of its transform.
#[derive(Clone)]
pub(super) struct Stored {
    context: Arc<MlContext>,
    /// The version that the plan carries; none before the analyzer has seen the call.
    pub(super) pinned: Option<Arc<StoredTransform>>,
}

impl Stored {
    pub(super) fn new(context: &Arc<MlContext>) -> Self {
        Self { context: Arc::clone(context), pinned: None }
    }

    pub(super) fn pinned(&self, stored: &Arc<StoredTransform>) -> Self {
        Self { context: Arc::clone(&self.context), pinned: Some(Arc::clone(stored)) }
    }

    /// The version that the call uses.
    ///
    /// # Errors
    /// 42704 for an unknown name, 42501, 22023 when the name is not a constant.
    pub(super) fn of(&self, function: &str, args: &ScalarFunctionArgs) -> Result<Option<Arc<StoredTransform>>> {
        if let Some(pinned) = &self.pinned {
            return Ok(Some(Arc::clone(pinned)));
        }
        let Some(ColumnarValue::Scalar(name)) = args.args.first() else {
            return Err(Error::invalid(format!("argument \"name\" of {function} must be a constant")));
        };
        let Some(name) = name.try_as_str().flatten() else { return Ok(None) };
        let user = &StatementContext::of_options(&args.config_options).user;
        self.context.registry.authorize_transform(user, name, ModelAction::Execute)?;
        self.context.registry.transform(name).map(Some)
    }
}

impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.pinned {
            Some(stored) => write!(f, "{}@{}", stored.name, stored.version),
            None => f.write_str("not resolved"),
        }
    }
}

impl PartialEq for Stored {
    fn eq(&self, other: &Self) -> bool {
        let same = match (&self.pinned, &other.pinned) {
            (Some(a), Some(b)) => (&a.name, a.version) == (&b.name, b.version),
            (None, None) => true,
            _ => false,
        };
        same && Arc::ptr_eq(&self.context, &other.context)
    }
}

impl Eq for Stored {}

impl Hash for Stored {
    fn hash<H: Hasher>(&self, state: &mut H) {
        if let Some(stored) = &self.pinned {
            (&stored.name, stored.version).hash(state);
        }
    }
}

/// The error for a row that lacks what a transform reads.
fn missing_field(stored: &StoredTransform, name: &str, there: &[&str]) -> Error {
    let error = Error::new(Code::UndefinedColumn, format!("column \"{name}\" does not exist")).detail(format!(
        "Transform \"{}\" reads it; the row has {}.",
        stored.name,
        there.join(", ")
    ));
    match nearest(name, there.iter().copied()) {
        Some(near) => error.hint(format!("Perhaps you meant the column \"{near}\".")),
        None => error.hint("Give a row that names its fields: named_struct('price', price, …)."),
    }
}

/// The features of `row`: a record bound by field name, or the one value that the transform reads. With the rows that are NULL.
pub(super) fn features(stored: &StoredTransform, row: &ArrayRef) -> Result<Vec<Vec<f64>>> {
    let fitted = &stored.fitted;
    if let Some(record) = row.as_struct_opt() {
        let names: Vec<&str> = record.column_names();
        return read(fitted, |name| record.column_by_name(name).cloned().ok_or_else(|| missing_field(stored, name, &names)));
    }
    let mut inputs: Vec<&str> = fitted.inputs.iter().map(|input| input.name.as_str()).collect();
    inputs.dedup();
    if inputs.len() != 1 {
        return Err(Error::new(Code::DatatypeMismatch, format!("transform \"{}\" reads several columns", stored.name))
            .detail(format!("They are {}.", inputs.join(", ")))
            .hint("Give a row that names its fields: named_struct('price', price, …)."));
    }
    read(fitted, |_| Ok(Arc::clone(row)))
}

/// The features of a batch whose columns `column` finds by name.
fn read(fitted: &FittedTransform, column: impl Fn(&str) -> Result<ArrayRef>) -> Result<Vec<Vec<f64>>> {
    fitted.apply(&stored_columns::columns(fitted, &column)?, None)
}

/// Whether a type can be the row of a transform.
pub(super) fn is_row(data_type: &DataType) -> bool {
    !data_type.is_nested() || matches!(data_type, DataType::Struct(_))
}

/// Whether the row of each line is NULL as a whole.
pub(super) fn is_null(row: &ArrayRef, line: usize) -> bool {
    matches!(row.data_type(), DataType::Struct(_)) && row.is_null(line)
}
