//! Batches as text cells, for whoever prints rows instead of sending them: the same text that a client would get.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::BytesMut;
use pgwire::api::Type;

use super::{Column, Style, Zone};
use crate::error::{Code, Error, Result};
use crate::pg::sqlstate::PgError;
use crate::pg::types::field_type;

/// Renders batches of one schema.
#[derive(Debug)]
pub struct TextRows {
    types: Vec<Type>,
    style: Style,
}

impl TextRows {
    /// For batches of `schema`; times are shown in `zone` (a name or an offset; UTC when it is neither).
    pub fn new(schema: &SchemaRef, zone: &str) -> Self {
        let style = Style { zone: Zone::parse(zone).unwrap_or_default() };
        Self { types: schema.fields().iter().map(|field| field_type(field)).collect(), style }
    }

    /// Whether a column is a number, which is printed at the right.
    pub fn right_aligned(&self, column: usize) -> bool {
        let numbers = [Type::INT2, Type::INT4, Type::INT8, Type::FLOAT4, Type::FLOAT8, Type::NUMERIC, Type::OID];
        self.types.get(column).is_some_and(|found| numbers.contains(found))
    }

    /// PostgreSQL's name of a column's type.
    pub fn type_name(&self, column: usize) -> &str {
        self.types.get(column).map_or("text", Type::name)
    }

    /// The cells of `batch`, row by row; `None` = NULL.
    ///
    /// # Errors
    /// When a value cannot be shown, such as a date beyond the calendar.
    pub fn cells(&self, batch: &RecordBatch) -> Result<Vec<Vec<Option<String>>>> {
        let columns: Vec<Column> = batch
            .columns()
            .iter()
            .zip(&self.types)
            .map(|(array, kind)| Column::new(array, kind, &self.style))
            .collect::<std::result::Result<_, PgError>>()
            .map_err(shown)?;
        let mut buffer = BytesMut::new();
        let mut rows = Vec::with_capacity(batch.num_rows());
        for row in 0..batch.num_rows() {
            let mut cells = Vec::with_capacity(columns.len());
            for column in &columns {
                cells.push(if column.is_null(row) {
                    None
                } else {
                    buffer.clear();
                    column.write_text(row, &mut buffer).map_err(shown)?;
                    Some(String::from_utf8_lossy(&buffer).into_owned())
                });
            }
            rows.push(cells);
        }
        Ok(rows)
    }
}

fn shown(error: PgError) -> Error {
    Error::new(Code::DatatypeMismatch, error.message)
}
