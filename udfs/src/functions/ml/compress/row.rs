//! The one row that every function of the family returns: size, speed and quality before and after.

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::error::Result as DfResult;

use crate::error::{Error, Result};
use crate::functions::relation::Call;
use crate::registry::{Compression, ModelRef, VersionInfo};

/// The columns.
pub(super) static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let field = |name: &str, data_type: DataType| Field::new(name, data_type, true);
    Arc::new(Schema::new(vec![
        Field::new("model", DataType::Utf8, false),
        Field::new("version", DataType::Int32, false),
        Field::new("scheme", DataType::Utf8, false),
        field("bytes_before", DataType::Int64),
        field("bytes_after", DataType::Int64),
        field("rows_per_s_before", DataType::Float64),
        field("rows_per_s_after", DataType::Float64),
        field("metric", DataType::Utf8),
        field("before", DataType::Float64),
        field("after", DataType::Float64),
        Field::new("active", DataType::Boolean, false),
        field("message", DataType::Utf8),
    ]))
});

/// The row of a version that is made smaller.
pub(super) fn row(call: &Call, reference: &ModelRef, info: &VersionInfo, message: &str) -> DfResult<RecordBatch> {
    let own = compression(info)?;
    let active = call.context.registry.resolve(&reference.name).is_ok_and(|active| active.version == reference.version);
    let text = |value: &str| Arc::new(StringArray::from(vec![value])) as ArrayRef;
    let count = |value: u64| Arc::new(Int64Array::from(vec![i64::try_from(value).ok()])) as ArrayRef;
    let number = |value: f64| Arc::new(Float64Array::from(vec![Some(value).filter(|value| value.is_finite())])) as ArrayRef;
    let columns = vec![
        text(&reference.name),
        Arc::new(Int32Array::from(vec![i32::try_from(reference.version).unwrap_or(i32::MAX)])),
        text(&own.scheme),
        count(own.bytes_before),
        count(info.weights_bytes),
        number(own.rows_per_s_before),
        number(own.rows_per_s_after),
        text(&info.metric),
        number(own.before),
        number(own.after),
        Arc::new(BooleanArray::from(vec![active])),
        text(message),
    ];
    Ok(RecordBatch::try_new(Arc::clone(&SCHEMA), columns)?)
}

/// How a version was made.
pub(super) fn compression(info: &VersionInfo) -> Result<&Compression> {
    info.compression.as_ref().ok_or_else(|| Error::internal("a version that was made smaller does not say how"))
}
