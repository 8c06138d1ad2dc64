//! The functions of `pg_catalog` that drivers and psql call, as scalar UDFs.
//!
//! One line per function in the lists of the families: names, number of arguments, result, and the kernel, which
//! sees one row. Catalog queries have few rows; nothing here is meant for data.

mod acl;
mod cancel;
mod format;
mod names;
mod objects;
mod privileges;
mod session;
mod sleep;
mod templates;
mod typed;
mod values;

use std::hash::{Hash, Hasher};
use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use datafusion::scalar::ScalarValue;

use super::super::cancel::CancelRegistry;
use super::super::types::TYPE_KEY;
use crate::engine::{Session, WeakSession};
use crate::error::Error;

/// One function: SQL name, how many arguments, what it returns, and how.
pub(super) struct Function {
    name: &'static str,
    arguments: RangeInclusive<usize>,
    returns: DataType,
    /// The PostgreSQL type of the result where that says more.
    type_name: Option<&'static str>,
    /// Whether it changes something, so that it must run when the statement does and not before.
    volatile: bool,
    kernel: fn(&Session, &[ScalarValue]) -> Result<ScalarValue, Error>,
}

/// All of them, for one session.
///
/// `engine` are the functions that are there already, some of which are put aside by PostgreSQL's of the same name.
pub(super) fn all(session: &WeakSession, cancels: &Arc<CancelRegistry>, engine: &[Arc<ScalarUDF>]) -> Vec<Arc<ScalarUDF>> {
    let families = [
        acl::functions(),
        format::functions(),
        names::functions(),
        objects::functions(),
        privileges::functions(),
        session::functions(),
        typed::functions(),
        values::functions(),
    ];
    let functions = families.into_iter().flatten().map(|function| {
        Arc::new(ScalarUDF::new_from_impl(PgFunction { signature: signature(&function), function, session: session.clone() }))
    });
    functions.chain([sleep::function()]).chain(cancel::functions(session, cancels)).chain(templates::functions(engine)).collect()
}

fn signature(function: &Function) -> Signature {
    let counts = function.arguments.clone().map(|count| if count == 0 { TypeSignature::Nullary } else { TypeSignature::Any(count) });
    let volatility = if function.volatile { Volatility::Volatile } else { Volatility::Stable };
    Signature::one_of(counts.collect(), volatility)
}

struct PgFunction {
    function: Function,
    signature: Signature,
    session: WeakSession,
}

impl std::fmt::Debug for PgFunction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("PgFunction").field(&self.function.name).finish()
    }
}

impl PartialEq for PgFunction {
    fn eq(&self, other: &Self) -> bool {
        self.function.name == other.function.name && self.session == other.session
    }
}

impl Eq for PgFunction {}

impl Hash for PgFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.function.name.hash(state);
        self.session.hash(state);
    }
}

impl ScalarUDFImpl for PgFunction {
    fn name(&self) -> &str {
        self.function.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(self.function.returns.clone())
    }

    fn return_field_from_args(&self, _args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let field = Field::new(self.name(), self.function.returns.clone(), true);
        Ok(Arc::new(match self.function.type_name {
            Some(name) => field.with_metadata([(TYPE_KEY.to_owned(), name.to_owned())].into()),
            None => field,
        }))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let session = self.session.upgrade().ok_or_else(|| Error::internal("the session is gone"))?;
        let call = |row: &[ScalarValue]| (self.function.kernel)(&session, row).map_err(DataFusionError::from);
        if args.args.iter().all(|value| matches!(value, ColumnarValue::Scalar(_))) && !self.function.volatile {
            let row: Vec<ScalarValue> = args.args.into_iter().filter_map(scalar).collect();
            return Ok(ColumnarValue::Scalar(call(&row)?));
        }
        let mut values = Vec::with_capacity(args.number_rows);
        for row in 0..args.number_rows {
            let row = args.args.iter().map(|value| match value {
                ColumnarValue::Scalar(value) => Ok(value.clone()),
                ColumnarValue::Array(array) => ScalarValue::try_from_array(array, row),
            });
            values.push(call(&row.collect::<Result<Vec<_>>>()?)?);
        }
        if values.is_empty() {
            return Ok(ColumnarValue::Array(arrow::array::new_empty_array(&self.function.returns)));
        }
        Ok(ColumnarValue::Array(ScalarValue::iter_to_array(values)?))
    }
}

fn scalar(value: ColumnarValue) -> Option<ScalarValue> {
    match value {
        ColumnarValue::Scalar(value) => Some(value),
        ColumnarValue::Array(_) => None,
    }
}

/// An argument as text; `None` for NULL and for an argument that is not there.
fn text(row: &[ScalarValue], index: usize) -> Option<String> {
    let value = row.get(index).filter(|value| !value.is_null())?;
    match value.cast_to(&DataType::Utf8) {
        Ok(ScalarValue::Utf8(text)) => text,
        _ => None,
    }
}

/// An argument as a whole number.
fn integer(row: &[ScalarValue], index: usize) -> Option<i64> {
    let value = row.get(index).filter(|value| !value.is_null())?;
    match value.cast_to(&DataType::Int64) {
        Ok(ScalarValue::Int64(number)) => number,
        _ => None,
    }
}

/// An argument as a truth value.
fn boolean(row: &[ScalarValue], index: usize) -> Option<bool> {
    match row.get(index)?.cast_to(&DataType::Boolean) {
        Ok(ScalarValue::Boolean(value)) => value,
        _ => None,
    }
}

fn utf8(text: impl Into<Option<String>>) -> ScalarValue {
    ScalarValue::Utf8(text.into())
}

/// A line of a family's list.
fn function(
    name: &'static str,
    arguments: RangeInclusive<usize>,
    returns: DataType,
    kernel: fn(&Session, &[ScalarValue]) -> Result<ScalarValue, Error>,
) -> Function {
    Function { name, arguments, returns, type_name: None, volatile: false, kernel }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let mut names: Vec<String> =
            all(&WeakSession::default(), &Arc::default(), &[]).iter().map(|function| function.name().to_owned()).collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
