//! One column of a batch, its type matched once.

use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::types::{
    Date32Type, Decimal128Type, Decimal256Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type, IntervalMonthDayNanoType,
    Time64MicrosecondType, TimestampMicrosecondType, UInt64Type,
};
use arrow::array::{
    Array, ArrayRef, BinaryArray, BinaryViewArray, BooleanArray, FixedSizeBinaryArray, LargeBinaryArray, LargeStringArray, PrimitiveArray,
    StringArray, StringViewArray,
};
use arrow::buffer::NullBuffer;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, IntervalUnit, TimeUnit};
use bytes::{BufMut, BytesMut};
use pgwire::api::Type;

use super::array::List;
use super::datetime::{EPOCH_DAYS, EPOCH_US, Zone, write_date, write_interval, write_time, write_timestamp};
use super::json::Json;
use super::number::{Digits, write_f32, write_f64};
use super::{PgError, PgResult, Style};
use crate::pg::catalog::regproc_name;

/// A column ready to be written.
#[derive(Debug)]
pub(crate) struct Column {
    nulls: Option<NullBuffer>,
    pub(super) kind: Kind,
}

/// The values, by how they are written.
#[derive(Debug)]
pub(crate) enum Kind {
    Null,
    Bool(BooleanArray),
    Int2(PrimitiveArray<Int16Type>),
    Int4(PrimitiveArray<Int32Type>),
    Int8(PrimitiveArray<Int64Type>),
    UInt8(PrimitiveArray<UInt64Type>),
    Float4(PrimitiveArray<Float32Type>),
    Float8(PrimitiveArray<Float64Type>),
    Decimal(PrimitiveArray<Decimal128Type>, i32),
    WideDecimal(PrimitiveArray<Decimal256Type>, i32),
    Text(StringArray),
    LargeText(LargeStringArray),
    TextView(StringViewArray),
    /// Texts of uuids.
    Uuid(StringArray),
    UuidView(StringViewArray),
    Bytes(BinaryArray),
    LargeBytes(LargeBinaryArray),
    BytesView(BinaryViewArray),
    FixedBytes(FixedSizeBinaryArray),
    /// OIDs of functions: their names in text.
    Regproc(PrimitiveArray<Int32Type>),
    Date(PrimitiveArray<Date32Type>),
    Time(PrimitiveArray<Time64MicrosecondType>),
    Timestamp(PrimitiveArray<TimestampMicrosecondType>, Option<Zone>),
    Interval(PrimitiveArray<IntervalMonthDayNanoType>),
    List(Box<List>),
    Json(Box<Json>),
}

impl Column {
    /// Prepares an array that goes out as `target`.
    ///
    /// # Errors
    /// 22008 or 22003 when a value has no place in the PostgreSQL type.
    pub(crate) fn new(array: &ArrayRef, target: &Type, style: &Style) -> PgResult<Self> {
        let array = &plain(array, target)?;
        let kind = match array.data_type() {
            DataType::Null => Kind::Null,
            DataType::Boolean => Kind::Bool(array.as_boolean().clone()),
            DataType::Int16 => Kind::Int2(array.as_primitive().clone()),
            DataType::Int32 if *target == Type::REGPROC => Kind::Regproc(array.as_primitive().clone()),
            DataType::Int32 => Kind::Int4(array.as_primitive().clone()),
            DataType::Int64 => Kind::Int8(array.as_primitive().clone()),
            DataType::UInt64 => Kind::UInt8(array.as_primitive().clone()),
            DataType::Float32 => Kind::Float4(array.as_primitive().clone()),
            DataType::Float64 => Kind::Float8(array.as_primitive().clone()),
            DataType::Decimal128(_, scale) => Kind::Decimal(array.as_primitive().clone(), i32::from(*scale)),
            DataType::Decimal256(_, scale) => Kind::WideDecimal(array.as_primitive().clone(), i32::from(*scale)),
            DataType::Utf8 if *target == Type::UUID => Kind::Uuid(array.as_string().clone()),
            DataType::Utf8 => Kind::Text(array.as_string().clone()),
            DataType::LargeUtf8 => Kind::LargeText(array.as_string().clone()),
            DataType::Utf8View if *target == Type::UUID => Kind::UuidView(array.as_string_view().clone()),
            DataType::Utf8View => Kind::TextView(array.as_string_view().clone()),
            DataType::Binary => Kind::Bytes(array.as_binary().clone()),
            DataType::LargeBinary => Kind::LargeBytes(array.as_binary().clone()),
            DataType::BinaryView => Kind::BytesView(array.as_binary_view().clone()),
            DataType::FixedSizeBinary(_) => Kind::FixedBytes(array.as_fixed_size_binary().clone()),
            DataType::Date32 => Kind::Date(array.as_primitive().clone()),
            DataType::Time64(TimeUnit::Microsecond) => Kind::Time(array.as_primitive().clone()),
            DataType::Timestamp(TimeUnit::Microsecond, zone) => {
                Kind::Timestamp(array.as_primitive().clone(), zone.is_some().then(|| style.zone.clone()))
            }
            DataType::Interval(IntervalUnit::MonthDayNano) => Kind::Interval(array.as_primitive().clone()),
            DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) => {
                Kind::List(Box::new(List::new(array, target, style)?))
            }
            DataType::Struct(_) | DataType::Map(..) | DataType::Union(..) => Kind::Json(Box::new(Json::new(array, style)?)),
            other => return Err(PgError::new("0A000", format!("columns of type {other} cannot be sent"))),
        };
        let nulls = if array.data_type() == &DataType::Null { None } else { array.logical_nulls() };
        Ok(Self { nulls, kind })
    }

    pub(super) fn is_null(&self, row: usize) -> bool {
        matches!(self.kind, Kind::Null) || self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    }

    pub(super) fn has_nulls(&self) -> bool {
        matches!(self.kind, Kind::Null) || self.nulls.as_ref().is_some_and(|nulls| nulls.null_count() > 0)
    }

    /// The text of a value that is not NULL.
    pub(crate) fn write_text(&self, row: usize, output: &mut BytesMut) -> PgResult<()> {
        match &self.kind {
            Kind::Null => {}
            Kind::Bool(values) => output.put_u8(if values.value(row) { b't' } else { b'f' }),
            Kind::Int2(values) => put_int(values.value(row), output),
            Kind::Int4(values) => put_int(values.value(row), output),
            Kind::Int8(values) => put_int(values.value(row), output),
            Kind::Regproc(values) => output.put_slice(regproc_name(values.value(row)).as_bytes()),
            Kind::UInt8(values) => put_int(values.value(row), output),
            Kind::Float4(values) => write_f32(values.value(row), output),
            Kind::Float8(values) => write_f64(values.value(row), output),
            Kind::Decimal(values, scale) => Digits::from_i128(values.value(row)).write_text(*scale, output),
            Kind::WideDecimal(values, scale) => Digits::from_i256(values.value(row)).write_text(*scale, output),
            Kind::Text(_) | Kind::LargeText(_) | Kind::TextView(_) | Kind::Uuid(_) | Kind::UuidView(_) => output.put_slice(self.bytes(row)),
            Kind::Bytes(_) | Kind::LargeBytes(_) | Kind::BytesView(_) | Kind::FixedBytes(_) => write_hex(self.bytes(row), output),
            Kind::Date(values) => write_date(values.value(row).into(), output),
            Kind::Time(values) => write_time(values.value(row), output),
            Kind::Timestamp(values, zone) => write_timestamp(values.value(row), zone.as_ref(), b' ', output),
            Kind::Interval(values) => {
                let value = values.value(row);
                write_interval(value.months, value.days, value.nanoseconds / 1000, output);
            }
            Kind::List(list) => list.write_text(row, output)?,
            Kind::Json(json) => json.write(row, output)?,
        }
        Ok(())
    }

    /// The binary form of a value that is not NULL.
    pub(super) fn write_binary(&self, row: usize, output: &mut BytesMut) -> PgResult<()> {
        match &self.kind {
            Kind::Null => {}
            Kind::Bool(values) => output.put_u8(u8::from(values.value(row))),
            Kind::Int2(values) => output.put_i16(values.value(row)),
            Kind::Int4(values) => output.put_i32(values.value(row)),
            Kind::Int8(values) => output.put_i64(values.value(row)),
            Kind::Regproc(values) => output.put_i32(values.value(row)),
            Kind::UInt8(values) => Digits::from_u64(values.value(row)).write_binary(0, output),
            Kind::Float4(values) => output.put_f32(values.value(row)),
            Kind::Float8(values) => output.put_f64(values.value(row)),
            Kind::Decimal(values, scale) => Digits::from_i128(values.value(row)).write_binary(*scale, output),
            Kind::WideDecimal(values, scale) => Digits::from_i256(values.value(row)).write_binary(*scale, output),
            Kind::Uuid(values) => write_uuid(values.value(row), output)?,
            Kind::UuidView(values) => write_uuid(values.value(row), output)?,
            Kind::Text(_)
            | Kind::LargeText(_)
            | Kind::TextView(_)
            | Kind::Bytes(_)
            | Kind::LargeBytes(_)
            | Kind::BytesView(_)
            | Kind::FixedBytes(_) => output.put_slice(self.bytes(row)),
            Kind::Date(values) => {
                output.put_i32(values.value(row).checked_sub(EPOCH_DAYS).ok_or_else(|| out_of_range("date"))?);
            }
            Kind::Time(values) => output.put_i64(values.value(row)),
            Kind::Timestamp(values, _) => {
                output.put_i64(values.value(row).checked_sub(EPOCH_US).ok_or_else(|| out_of_range("timestamp"))?);
            }
            Kind::Interval(values) => {
                let value = values.value(row);
                output.put_i64(value.nanoseconds / 1000);
                output.put_i32(value.days);
                output.put_i32(value.months);
            }
            Kind::List(list) => list.write_binary(row, output)?,
            Kind::Json(json) => json.write(row, output)?,
        }
        Ok(())
    }

    /// The bytes of a text or bytea; empty for other kinds.
    pub(super) fn bytes(&self, row: usize) -> &[u8] {
        match &self.kind {
            Kind::Text(values) | Kind::Uuid(values) => values.value(row).as_bytes(),
            Kind::LargeText(values) => values.value(row).as_bytes(),
            Kind::TextView(values) | Kind::UuidView(values) => values.value(row).as_bytes(),
            Kind::Bytes(values) => values.value(row),
            Kind::LargeBytes(values) => values.value(row),
            Kind::BytesView(values) => values.value(row),
            Kind::FixedBytes(values) => values.value(row),
            _ => &[],
        }
    }
}

fn put_int(value: impl itoa::Integer, output: &mut BytesMut) {
    output.put_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// The 16 bytes of a uuid.
fn write_uuid(text: &str, output: &mut BytesMut) -> PgResult<()> {
    let invalid = |_| PgError::new("22P02", format!("invalid input syntax for type uuid: \"{text}\""));
    output.put_slice(uuid::Uuid::try_parse(text).map_err(invalid)?.as_bytes());
    Ok(())
}

/// `\x` and two digits per byte.
fn write_hex(bytes: &[u8], output: &mut BytesMut) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    output.reserve(2 + 2 * bytes.len());
    output.put_slice(b"\\x");
    for byte in bytes {
        output.put_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
}

fn out_of_range(what: &str) -> PgError {
    PgError::new("22008", format!("{what} out of range"))
}

/// Odd representations become the one that [`Kind`] knows; the usual ones are passed on without a copy.
fn plain(array: &ArrayRef, target: &Type) -> PgResult<ArrayRef> {
    let to = match array.data_type() {
        DataType::Int64 if *target == Type::OID => DataType::Int32,
        DataType::Int8 | DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 => DataType::Int64,
        DataType::Float16 => DataType::Float32,
        DataType::Decimal32(_, scale) | DataType::Decimal64(_, scale) => DataType::Decimal128(38, *scale),
        DataType::Date64 => DataType::Date32,
        DataType::Time32(_) | DataType::Time64(TimeUnit::Nanosecond) => DataType::Time64(TimeUnit::Microsecond),
        DataType::Timestamp(unit, zone) if *unit != TimeUnit::Microsecond => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
        DataType::Interval(IntervalUnit::YearMonth | IntervalUnit::DayTime) | DataType::Duration(_) => {
            DataType::Interval(IntervalUnit::MonthDayNano)
        }
        DataType::ListView(item) => DataType::List(Arc::clone(item)),
        DataType::LargeListView(item) => DataType::LargeList(Arc::clone(item)),
        DataType::Dictionary(_, value) => value.as_ref().clone(),
        DataType::RunEndEncoded(_, value) => value.data_type().clone(),
        _ => return Ok(Arc::clone(array)),
    };
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let cast = cast_with_options(array, &to, &options).map_err(|error| match to {
        DataType::Timestamp(..) | DataType::Date32 => out_of_range("timestamp").detail(error.to_string()),
        _ => PgError::new("22003", "value out of range").detail(error.to_string()),
    })?;
    // A dictionary's values may be odd themselves.
    if matches!(array.data_type(), DataType::Dictionary(..) | DataType::RunEndEncoded(..)) { plain(&cast, target) } else { Ok(cast) }
}
