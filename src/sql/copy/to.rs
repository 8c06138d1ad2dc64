//! `COPY table [(columns)] | (query) TO STDOUT [WITH (options)]`: the rows of a query, for a client to keep.
//!
//! The statement runs as any query; [`RowText`] writes its cells as PostgreSQL's text format or as CSV. Binary tuples are made by
//! whoever speaks the protocol. Must never know: messages, and how a value looks as text.

use arrow::datatypes::SchemaRef;
use bytes::{BufMut, BytesMut};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::sql::sqlparser::ast;
use portrait_udfs::error::{Error, Result};

use super::CopyFormat;
use super::options::{Header, Options};
use crate::sql::{Call, Outcome, query};

/// What a COPY that gives rows says.
#[derive(Debug)]
pub(in crate::sql) struct CopyTo {
    pub(super) query: Box<ast::Statement>,
    /// Whether the query was made from a table's name: places in it mean nothing to a reader.
    pub(super) of_table: bool,
    pub(super) options: Options,
}

impl CopyTo {
    pub(super) async fn run(&self, call: Call<'_>) -> Result<Outcome> {
        let rows = query::run(call, &self.query).await.map_err(|mut error| {
            error.position = error.position.filter(|_| !self.of_table);
            error
        })?;
        let Outcome::Rows { schema, stream, .. } = rows else { return Err(Error::internal("a query has no rows")) };
        let (text, header) = (RowText::new(&self.options), self.options.header == Header::Skip);
        Ok(Outcome::CopyOut(Box::new(CopyOut { schema, stream, format: self.options.format, header, text })))
    }
}

/// A COPY whose rows are to be sent. The stream honours cancel and timeout; dropping it stops the statement.
pub struct CopyOut {
    /// The columns.
    pub schema: SchemaRef,
    /// The rows, in batches.
    pub stream: SendableRecordBatchStream,
    /// How they are written.
    pub format: CopyFormat,
    /// Whether the names of the columns come first.
    pub header: bool,
    /// Writes them, unless they are binary.
    pub text: RowText,
}

impl std::fmt::Debug for CopyOut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CopyOut").field("format", &self.format).finish_non_exhaustive()
    }
}

/// Writes rows of text, cell by cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowText {
    csv: bool,
    delimiter: u8,
    quote: u8,
    escape: u8,
    null: Vec<u8>,
}

impl RowText {
    fn new(options: &Options) -> Self {
        let Options { delimiter, quote, escape, ref null, .. } = *options;
        Self { csv: options.format == CopyFormat::Csv, delimiter, quote, escape, null: null.clone() }
    }

    /// Appends a row with its end of line; `None` = NULL.
    pub fn row<'a>(&self, cells: impl ExactSizeIterator<Item = Option<&'a [u8]>>, out: &mut BytesMut) {
        let alone = cells.len() == 1;
        for (at, cell) in cells.enumerate() {
            self.cell(at, cell, alone, out);
        }
        self.end(out);
    }

    /// Appends one cell of a row; `alone` when the row has no other.
    pub fn cell(&self, at: usize, cell: Option<&[u8]>, alone: bool, out: &mut BytesMut) {
        if at > 0 {
            out.put_u8(self.delimiter);
        }
        match cell {
            None => out.put_slice(&self.null),
            Some(cell) if self.csv => self.csv_cell(cell, alone, out),
            Some(cell) => self.escaped(cell, out),
        }
    }

    /// Ends a row.
    pub fn end(&self, out: &mut BytesMut) {
        out.put_u8(b'\n');
    }

    fn csv_cell(&self, cell: &[u8], alone: bool, out: &mut BytesMut) {
        let special = |byte: &u8| *byte == self.delimiter || *byte == self.quote || matches!(byte, b'\n' | b'\r');
        // What a reader would take for NULL, or for the end of the data.
        if cell != self.null && !(alone && cell == b"\\.") && !cell.iter().any(special) {
            return out.put_slice(cell);
        }
        out.put_u8(self.quote);
        for byte in cell {
            if *byte == self.quote || *byte == self.escape {
                out.put_u8(self.escape);
            }
            out.put_u8(*byte);
        }
        out.put_u8(self.quote);
    }

    fn escaped(&self, cell: &[u8], out: &mut BytesMut) {
        for byte in cell {
            let short = match byte {
                0x08 => b'b',
                0x0C => b'f',
                b'\n' => b'n',
                b'\r' => b'r',
                b'\t' => b't',
                0x0B => b'v',
                b'\\' => b'\\',
                byte if *byte == self.delimiter => *byte,
                byte => {
                    out.put_u8(*byte);
                    continue;
                }
            };
            out.put_slice(&[b'\\', short]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &RowText, cells: &[Option<&str>]) -> String {
        let mut out = BytesMut::new();
        text.row(cells.iter().map(|cell| cell.map(str::as_bytes)), &mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    /// As PostgreSQL 15 writes the same rows.
    #[test]
    fn cells_are_quoted_and_escaped_as_postgresql_does() {
        let csv = RowText { csv: true, delimiter: b',', quote: b'"', escape: b'"', null: vec![] };
        assert_eq!(written(&csv, &[Some("a"), None, Some(""), Some("b,c"), Some("say \"hi\"")]), "a,,\"\",\"b,c\",\"say \"\"hi\"\"\"\n");
        assert_eq!(written(&csv, &[Some("two\nlines"), Some(" x "), Some("\\.")]), "\"two\nlines\", x ,\\.\n");
        assert_eq!(written(&csv, &[Some("\\.")]), "\"\\.\"\n");
        let other = RowText { csv: true, delimiter: b';', quote: b'\'', escape: b'\\', null: b"NA".to_vec() };
        assert_eq!(written(&other, &[None, Some("NA"), Some("it's"), Some("a\\b;")]), "NA;'NA';'it\\'s';'a\\\\b;'\n");
        let text = RowText { csv: false, delimiter: b'\t', quote: b'"', escape: b'"', null: b"\\N".to_vec() };
        assert_eq!(
            written(&text, &[None, Some("a\tb"), Some("c\\d\n"), Some("\u{8}\u{b}\u{c}\r"), Some("\"")]),
            "\\N\ta\\tb\tc\\\\d\\n\t\\b\\v\\f\\r\t\"\n"
        );
        let bars = RowText { csv: false, delimiter: b'|', quote: b'"', escape: b'"', null: b"\\N".to_vec() };
        assert_eq!(written(&bars, &[Some("a|b"), Some("c\td")]), "a\\|b|c\\td\n");
        assert_eq!(written(&bars, &[]), "\n");
    }
}
