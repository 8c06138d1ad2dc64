//! Lists as PostgreSQL arrays: nested lists are dimensions.

use arrow::array::cast::AsArray;
use arrow::array::{Array, ArrayRef};
use arrow::datatypes::DataType;
use bytes::{BufMut, BytesMut};
use pgwire::api::Type;

use super::super::types::element_of;
use super::column::{Column, Kind};
use super::{PgError, PgResult, Style, set_length};

/// PostgreSQL's MAXDIM.
const DIMENSIONS_MAX: usize = 6;

/// A column of lists and the column of all their elements.
#[derive(Debug)]
pub(crate) struct List {
    spans: Spans,
    items: Column,
    item_type: Type,
}

#[derive(Debug)]
enum Spans {
    Small(arrow::buffer::OffsetBuffer<i32>),
    Large(arrow::buffer::OffsetBuffer<i64>),
    Fixed(usize),
}

impl List {
    /// Prepares a list array that goes out as the array type `target`.
    pub(super) fn new(array: &ArrayRef, target: &Type, style: &Style) -> PgResult<Self> {
        let item_type = element_of(target).unwrap_or(Type::TEXT);
        let (spans, items) = match array.data_type() {
            DataType::LargeList(_) => {
                let list = array.as_list::<i64>();
                (Spans::Large(list.offsets().clone()), list.values())
            }
            DataType::FixedSizeList(_, size) => {
                let list = array.as_fixed_size_list();
                (Spans::Fixed(usize::try_from(*size).unwrap_or_default()), list.values())
            }
            _ => {
                let list = array.as_list::<i32>();
                (Spans::Small(list.offsets().clone()), list.values())
            }
        };
        // The elements of a list of lists have the same array type as the whole.
        let nested = matches!(items.data_type(), DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..));
        let items = Column::new(items, if nested { target } else { &item_type }, style)?;
        Ok(Self { spans, items, item_type })
    }

    pub(super) fn items(&self) -> &Column {
        &self.items
    }

    /// Where the elements of `row` are.
    pub(super) fn span(&self, row: usize) -> std::ops::Range<usize> {
        match &self.spans {
            Spans::Small(offsets) => offsets[row] as usize..offsets[row + 1] as usize,
            Spans::Large(offsets) => offsets[row] as usize..offsets[row + 1] as usize,
            Spans::Fixed(size) => row * size..(row + 1) * size,
        }
    }

    /// `{1,NULL,"a b"}`.
    pub(super) fn write_text(&self, row: usize, output: &mut BytesMut) -> PgResult<()> {
        output.put_u8(b'{');
        let span = self.span(row);
        for item in span.clone() {
            if item > span.start {
                output.put_u8(b',');
            }
            if self.items.is_null(item) {
                output.put_slice(b"NULL");
                continue;
            }
            let start = output.len();
            self.items.write_text(item, output)?;
            if self.may_need_quotes() {
                quote(start, output);
            }
        }
        output.put_u8(b'}');
        Ok(())
    }

    fn may_need_quotes(&self) -> bool {
        !matches!(
            self.items.kind,
            Kind::Null
                | Kind::Bool(_)
                | Kind::Int2(_)
                | Kind::Int4(_)
                | Kind::Int8(_)
                | Kind::UInt8(_)
                | Kind::Float4(_)
                | Kind::Float8(_)
                | Kind::Decimal(..)
                | Kind::WideDecimal(..)
                | Kind::Time(_)
                | Kind::Uuid(_)
                | Kind::UuidView(_)
                | Kind::List(_)
        )
    }

    /// Dimensions, element type, then each element with its length.
    pub(super) fn write_binary(&self, row: usize, output: &mut BytesMut) -> PgResult<()> {
        let mut dimensions = Vec::with_capacity(1);
        self.measure(row, 0, &mut dimensions)?;
        if dimensions.contains(&0) {
            dimensions.clear();
        }
        output.put_i32(dimensions.len() as i32);
        let flags = output.len();
        output.put_i32(0);
        output.put_u32(self.item_type.oid());
        for length in &dimensions {
            output.put_i32(i32::try_from(*length).map_err(|_| PgError::new("54000", "array is too long"))?);
            output.put_i32(1);
        }
        if !dimensions.is_empty() && self.write_items(row, output)? {
            output[flags + 3] = 1;
        }
        Ok(())
    }

    /// Elements, innermost first; says whether one was NULL.
    fn write_items(&self, row: usize, output: &mut BytesMut) -> PgResult<bool> {
        let span = self.span(row);
        if let (Kind::Float4(values), false) = (&self.items.kind, self.items.has_nulls()) {
            // Embeddings: one pass over the slice, no branch per element.
            output.reserve(8 * span.len());
            for value in &values.values()[span] {
                output.put_u64((4 << 32) | u64::from(value.to_bits()));
            }
            return Ok(false);
        }
        let mut null = false;
        for item in span {
            if let Kind::List(inner) = &self.items.kind {
                null |= inner.write_items(item, output)?;
            } else if self.items.is_null(item) {
                output.put_i32(-1);
                null = true;
            } else {
                let start = output.len();
                output.put_i32(0);
                self.items.write_binary(item, output)?;
                set_length(output, start, output.len() - start - 4);
            }
        }
        Ok(null)
    }

    /// Lengths per dimension; an array's rows must all be as long.
    fn measure(&self, row: usize, depth: usize, dimensions: &mut Vec<usize>) -> PgResult<()> {
        let span = self.span(row);
        match dimensions.get(depth) {
            None if depth == DIMENSIONS_MAX => return Err(PgError::new("54000", "arrays have at most 6 dimensions")),
            None => dimensions.push(span.len()),
            Some(length) if *length == span.len() => {}
            Some(_) => return Err(ragged()),
        }
        if let Kind::List(inner) = &self.items.kind {
            for item in span {
                if self.items.is_null(item) {
                    return Err(ragged());
                }
                inner.measure(item, depth + 1, dimensions)?;
            }
        }
        Ok(())
    }
}

fn ragged() -> PgError {
    PgError::new("2202E", "multidimensional arrays must have sub-arrays with matching dimensions")
        .hint("Read such a column as text, or unnest it.")
}

/// Puts quotes around the text from `start` on, when it needs them.
fn quote(start: usize, output: &mut BytesMut) {
    let text = &output[start..];
    let special = |byte: &u8| matches!(byte, b'{' | b'}' | b',' | b'"' | b'\\') || byte.is_ascii_whitespace() || *byte == 0x0b;
    if !text.is_empty() && !text.iter().any(special) && !text.eq_ignore_ascii_case(b"null") {
        return;
    }
    let text = output.split_off(start);
    output.put_u8(b'"');
    for byte in text {
        if matches!(byte, b'"' | b'\\') {
            output.put_u8(b'\\');
        }
        output.put_u8(byte);
    }
    output.put_u8(b'"');
}
