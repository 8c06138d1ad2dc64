//! Structs and maps as JSON, rendered as PostgreSQL's `to_json` does.

use arrow::array::cast::AsArray;
use arrow::array::{Array, ArrayRef, UnionArray};
use arrow::datatypes::DataType;
use bytes::{BufMut, BytesMut};

use super::super::types::{data_type, field_type};
use super::column::{Column, Kind};
use super::datetime::write_timestamp;
use super::{PgError, PgResult, Style};

/// A column whose values are JSON documents.
#[derive(Debug)]
pub(crate) enum Json {
    /// An object per row; the keys are ready to be written.
    Struct(Vec<(Vec<u8>, Column)>),
    /// An object per row, from entries.
    Map { offsets: arrow::buffer::OffsetBuffer<i32>, keys: Column, values: Column },
    /// Whatever the row's variant is.
    Union { array: UnionArray, variants: Vec<(i8, Column)> },
}

impl Json {
    pub(super) fn new(array: &ArrayRef, style: &Style) -> PgResult<Self> {
        match array.data_type() {
            DataType::Struct(fields) => {
                let columns = fields.iter().zip(array.as_struct().columns()).map(|(field, values)| {
                    let mut key = BytesMut::new();
                    write_string(field.name(), &mut key);
                    key.put_u8(b':');
                    Ok((key.to_vec(), Column::new(values, &field_type(field), style)?))
                });
                Ok(Self::Struct(columns.collect::<PgResult<_>>()?))
            }
            DataType::Map(..) => {
                let map = array.as_map();
                let column = |values: &ArrayRef| Column::new(values, &data_type(values.data_type()), style);
                Ok(Self::Map { offsets: map.offsets().clone(), keys: column(map.keys())?, values: column(map.values())? })
            }
            DataType::Union(fields, _) => {
                let array = array.as_union().clone();
                let variants = fields
                    .iter()
                    .map(|(id, field)| Ok((id, Column::new(array.child(id), &field_type(field), style)?)))
                    .collect::<PgResult<_>>()?;
                Ok(Self::Union { array, variants })
            }
            other => Err(PgError::internal(&format!("{other} is not rendered as JSON"))),
        }
    }

    /// Appends the document of `row`.
    pub(super) fn write(&self, row: usize, output: &mut BytesMut) -> PgResult<()> {
        match self {
            Self::Struct(columns) => {
                output.put_u8(b'{');
                for (index, (key, column)) in columns.iter().enumerate() {
                    if index > 0 {
                        output.put_u8(b',');
                    }
                    output.put_slice(key);
                    write_value(column, row, output)?;
                }
                output.put_u8(b'}');
            }
            Self::Map { offsets, keys, values } => {
                output.put_u8(b'{');
                let span = offsets[row] as usize..offsets[row + 1] as usize;
                for entry in span.clone() {
                    if entry > span.start {
                        output.put_u8(b',');
                    }
                    let mut key = BytesMut::new();
                    keys.write_text(entry, &mut key)?;
                    write_string(&String::from_utf8_lossy(&key), output);
                    output.put_u8(b':');
                    write_value(values, entry, output)?;
                }
                output.put_u8(b'}');
            }
            Self::Union { array, variants } => {
                let id = array.type_id(row);
                match variants.iter().find(|(variant, _)| *variant == id) {
                    Some((_, column)) => write_value(column, array.value_offset(row), output)?,
                    None => output.put_slice(b"null"),
                }
            }
        }
        Ok(())
    }
}

fn write_value(column: &Column, row: usize, output: &mut BytesMut) -> PgResult<()> {
    if column.is_null(row) {
        output.put_slice(b"null");
        return Ok(());
    }
    match &column.kind {
        Kind::Bool(values) => output.put_slice(if values.value(row) { b"true" } else { b"false" }),
        Kind::Int2(_) | Kind::Int4(_) | Kind::Int8(_) | Kind::UInt8(_) | Kind::Decimal(..) | Kind::WideDecimal(..) => {
            column.write_text(row, output)?;
        }
        Kind::Float4(values) if values.value(row).is_finite() => column.write_text(row, output)?,
        Kind::Float8(values) if values.value(row).is_finite() => column.write_text(row, output)?,
        Kind::Json(json) => json.write(row, output)?,
        Kind::List(list) => {
            output.put_u8(b'[');
            let span = list.span(row);
            for item in span.clone() {
                if item > span.start {
                    output.put_u8(b',');
                }
                write_value(list.items(), item, output)?;
            }
            output.put_u8(b']');
        }
        Kind::Timestamp(values, zone) => {
            output.put_u8(b'"');
            write_timestamp(values.value(row), zone.as_ref(), b'T', output);
            output.put_u8(b'"');
        }
        _ => {
            let mut text = BytesMut::new();
            column.write_text(row, &mut text)?;
            write_string(&String::from_utf8_lossy(&text), output);
        }
    }
    Ok(())
}

/// A JSON string with its quotes.
fn write_string(text: &str, output: &mut BytesMut) {
    output.put_u8(b'"');
    for character in text.chars() {
        match character {
            '"' => output.put_slice(b"\\\""),
            '\\' => output.put_slice(b"\\\\"),
            '\n' => output.put_slice(b"\\n"),
            '\r' => output.put_slice(b"\\r"),
            '\t' => output.put_slice(b"\\t"),
            control if (control as u32) < 0x20 => output.put_slice(format!("\\u{:04x}", control as u32).as_bytes()),
            other => output.put_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    output.put_u8(b'"');
}
