//! Rows for the wire: typed columns in, `DataRow` messages out, in text or binary as PostgreSQL writes them.
//!
//! A batch is prepared once, column by column ([`Column`]: the type is matched, odd representations are cast);
//! rows are then written straight into the output buffer. Nothing is allocated per cell.

mod array;
mod column;
mod datetime;
mod json;
mod number;
mod text;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use bytes::{BufMut, BytesMut};

pub(crate) use column::Column;
pub(crate) use datetime::Zone;
pub use text::TextRows;

use super::sqlstate::{PgError, PgResult};
use super::types::{Formats, field_type};
use crate::sql::RowText;

/// The longest row, as in PostgreSQL.
const ROW_BYTES_MAX: usize = 0x3fff_ffff;

/// What rendering depends on besides the value: taken from the session when the rows start.
#[derive(Debug, Clone, Default)]
pub(crate) struct Style {
    /// The session's time zone, for `timestamp with time zone`.
    pub(crate) zone: Zone,
}

/// A batch that is ready to be written row by row.
#[derive(Debug)]
pub(crate) struct Rows {
    columns: Vec<(Column, bool)>,
    rows: usize,
    next: usize,
}

impl Rows {
    /// Prepares a batch whose fields are `schema`'s.
    pub(crate) fn new(batch: &RecordBatch, schema: &Schema, formats: &Formats, style: &Style) -> PgResult<Self> {
        let mut columns = Vec::with_capacity(batch.num_columns());
        for (index, array) in batch.columns().iter().enumerate() {
            let field = schema.fields().get(index).ok_or_else(|| PgError::internal("a batch has more columns than its schema"))?;
            columns.push((Column::new(array, &field_type(field), style)?, formats.is_binary(index)));
        }
        Ok(Self { columns, rows: batch.num_rows(), next: 0 })
    }

    /// Rows not yet written.
    pub(crate) fn remaining(&self) -> usize {
        self.rows - self.next
    }

    /// Appends the next row as a `DataRow`. On an error nothing of it stays in `output`.
    pub(crate) fn write_next(&mut self, output: &mut BytesMut) -> PgResult<()> {
        self.message(b'D', output, |rows, output| rows.tuple(output))
    }

    /// Appends the next row as a `CopyData`: a tuple of the binary format, behind `header`.
    pub(crate) fn write_tuple(&mut self, header: &[u8], output: &mut BytesMut) -> PgResult<()> {
        self.message(b'd', output, |rows, output| {
            output.put_slice(header);
            rows.tuple(output)
        })
    }

    /// Appends the next row as a `CopyData`: a line of text.
    pub(crate) fn write_line(&mut self, text: &RowText, scratch: &mut BytesMut, output: &mut BytesMut) -> PgResult<()> {
        self.message(b'd', output, |rows, output| {
            let alone = rows.columns.len() == 1;
            for (at, (column, _)) in rows.columns.iter().enumerate() {
                scratch.clear();
                let cell = if column.is_null(rows.next) {
                    None
                } else {
                    column.write_text(rows.next, scratch)?;
                    Some(&scratch[..])
                };
                text.cell(at, cell, alone, output);
            }
            text.end(output);
            Ok(())
        })
    }

    fn message(&mut self, kind: u8, output: &mut BytesMut, body: impl FnOnce(&Self, &mut BytesMut) -> PgResult<()>) -> PgResult<()> {
        let mut whole = Whole { start: output.len(), output, done: false };
        let start = whole.start;
        let result = self.write(kind, whole.output, start, body);
        whole.done = result.is_ok();
        self.next += 1;
        result
    }

    fn tuple(&self, output: &mut BytesMut) -> PgResult<()> {
        output.put_u16(self.columns.len() as u16);
        self.columns.iter().try_for_each(|(column, binary)| column.write_value(self.next, *binary, output))
    }

    fn write(
        &self,
        kind: u8,
        output: &mut BytesMut,
        start: usize,
        body: impl FnOnce(&Self, &mut BytesMut) -> PgResult<()>,
    ) -> PgResult<()> {
        output.put_u8(kind);
        output.put_i32(0);
        body(self, output)?;
        let length = output.len() - start - 1;
        if length > ROW_BYTES_MAX {
            return Err(PgError::new("54000", "row is too long").detail(format!("The row has {length} bytes.")));
        }
        set_length(output, start + 1, length);
        Ok(())
    }
}

/// Takes back what was written of a row that was not finished, whether it failed or panicked.
struct Whole<'a> {
    output: &'a mut BytesMut,
    start: usize,
    done: bool,
}

impl Drop for Whole<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.output.truncate(self.start);
        }
    }
}

impl Column {
    /// A value with its length before it; −1 for NULL.
    fn write_value(&self, row: usize, binary: bool, output: &mut BytesMut) -> PgResult<()> {
        if self.is_null(row) {
            output.put_i32(-1);
            return Ok(());
        }
        let start = output.len();
        output.put_i32(0);
        if binary {
            self.write_binary(row, output)?;
        } else {
            self.write_text(row, output)?;
        }
        set_length(output, start, output.len() - start - 4);
        Ok(())
    }
}

/// Lengths are bounded by [`ROW_BYTES_MAX`] before a message leaves.
fn set_length(output: &mut BytesMut, at: usize, length: usize) {
    output[at..at + 4].copy_from_slice(&(length as i32).to_be_bytes());
}

#[cfg(test)]
mod tests;
