//! `value::bytea`: a text is read as PostgreSQL reads one, bytes stay what they are.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryBuilder};
use arrow::datatypes::DataType;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::ScalarUDF;

use super::kernel::{Kernel, Returns, refused, uncast};
use crate::error::{Code, Error, Result};
use crate::pg::params;

const NAME: &str = "bytea";

pub(super) fn function() -> Arc<ScalarUDF> {
    Kernel { name: NAME, coerce, returns: Returns::This(DataType::Binary), type_name: None, run }.function()
}

fn coerce(given: &[DataType]) -> DfResult<Vec<DataType>> {
    match given {
        [DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View] => Ok(vec![DataType::Utf8]),
        [DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) | DataType::Null] => {
            Ok(vec![DataType::Binary])
        }
        _ => refused(NAME),
    }
}

fn run(columns: &[ArrayRef], _: &DataType) -> Result<ArrayRef> {
    let [values] = columns else { return Err(uncast(NAME)) };
    if *values.data_type() == DataType::Binary {
        return Ok(Arc::clone(values));
    }
    let texts = values.as_string_opt::<i32>().ok_or_else(|| uncast(NAME))?;
    let mut found = BinaryBuilder::with_capacity(texts.len(), 0);
    for text in texts {
        match text.map(|text| params::bytea(text).ok_or_else(|| wrong(text))).transpose()? {
            Some(bytes) => found.append_value(bytes),
            None => found.append_null(),
        }
    }
    Ok(Arc::new(found.finish()))
}

fn wrong(text: &str) -> Error {
    match text.starts_with("\\x") {
        true => Error::invalid("invalid hexadecimal data"),
        false => Error::new(Code::InvalidText, "invalid input syntax for type bytea"),
    }
}
