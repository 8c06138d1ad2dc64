//! Values as texts: a cast to text writes what a client would see.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringBuilder};
use arrow::datatypes::DataType;
use bytes::BytesMut;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::ScalarUDF;

use super::kernel::{Kernel, Returns, refused, uncast};
use crate::error::{Code, Error, Result};
use crate::pg::encode::{Column, Style, Zone};
use crate::pg::types::data_type;

const NAME: &str = "text";

/// The value, and the zone that instants are shown in.
pub(super) fn writer() -> Arc<ScalarUDF> {
    Kernel { name: NAME, coerce, returns: Returns::This(DataType::Utf8), type_name: None, run }.function()
}

/// Whether the engine writes values of this type in another way.
pub(super) fn differs(from: &DataType) -> bool {
    match from {
        DataType::Float16 | DataType::Float32 | DataType::Float64 => true,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => true,
        DataType::Timestamp(..) | DataType::Time32(_) | DataType::Time64(_) | DataType::Interval(_) | DataType::Duration(_) => true,
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => !item.data_type().is_nested(),
        _ => false,
    }
}

fn coerce(given: &[DataType]) -> DfResult<Vec<DataType>> {
    match given {
        [value, _] => Ok(vec![value.clone(), DataType::Utf8]),
        _ => refused(NAME),
    }
}

fn run(columns: &[ArrayRef], _: &DataType) -> Result<ArrayRef> {
    let [values, zones] = columns else { return Err(uncast(NAME)) };
    let zone = zones.as_string_opt::<i32>().and_then(|zones| zones.iter().flatten().next()).and_then(Zone::parse);
    let style = Style { zone: zone.unwrap_or_default() };
    let shown = |error: crate::pg::sqlstate::PgError| Error::new(Code::DatetimeOverflow, error.message);
    let column = Column::new(values, &data_type(values.data_type()), &style).map_err(shown)?;
    let mut texts = StringBuilder::with_capacity(values.len(), 0);
    let mut buffer = BytesMut::new();
    for row in 0..values.len() {
        if values.is_null(row) {
            texts.append_null();
            continue;
        }
        buffer.clear();
        column.write_text(row, &mut buffer).map_err(shown)?;
        texts.append_value(String::from_utf8_lossy(&buffer));
    }
    Ok(Arc::new(texts.finish()))
}
