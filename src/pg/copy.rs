//! COPY on the wire: its messages, and PostgreSQL's binary format.
//!
//! Life of a COPY TO: `sql` hands over a [`CopyOut`] → the client is told what comes → one CopyData a row, sent while the query
//! runs → CopyDone. Life of a COPY FROM: `sql` hands over a [`CopyIn`] → the client is told to send → each CopyData goes to it, until CopyDone
//! commits or CopyFail gives up. What still comes after an error is skipped by the connection's loop. Text and CSV are
//! read by `sql`; a binary tuple is read here, with the decoders of parameters.

use arrow::array::RecordBatch;
use bytes::{Buf, Bytes, BytesMut};
use datafusion::scalar::ScalarValue;
use futures::{FutureExt, StreamExt};
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::copy::{CopyData, CopyDone, CopyInResponse, CopyOutResponse};
use tokio_util::sync::CancellationToken;

use super::connection::{Connection, message_limit};
use super::encode::Rows;
use super::params;
use super::rows::{Failure, lost};
use super::sqlstate::{PgError, PgResult};
use super::types::{Formats, field_type};
use crate::sql::{CopyFormat, CopyIn, CopyOut};

/// What a binary COPY begins with.
const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// Signature, flags, length of the extension.
const HEADER_BYTES: usize = SIGNATURE.len() + 8;
/// Without flags and extension.
const HEADER: [u8; HEADER_BYTES] = *b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// Rows and bytes of a batch of binary tuples.
const BATCH_ROWS: usize = 4096;
const BATCH_BYTES: usize = 8 << 20;

impl Connection {
    /// Takes the rows of a COPY, and commits them. Returns its tag.
    pub(super) async fn copy_in(&mut self, mut copy: Box<CopyIn>, cancel: &CancellationToken) -> Result<String, Failure> {
        let binary = copy.format() == CopyFormat::Binary;
        let columns = i16::try_from(copy.column_count()).map_err(|_| PgError::new("54011", "too many columns for COPY"))?;
        let formats = vec![i16::from(binary); copy.column_count()];
        self.wire.put(PgWireBackendMessage::CopyInResponse(CopyInResponse::new(i8::from(binary), columns, formats)))?;
        let zone = self.session.with_settings(|settings| settings.raw("TimeZone")).unwrap_or_default();
        let mut tuples = Tuples::default();
        loop {
            let (kind, body) = self.copy_message(&copy, cancel).await?;
            match kind {
                b'd' if binary => {
                    tuples.buffer.extend_from_slice(&body);
                    while let Some(rows) = tuples.next(&copy, &zone)? {
                        self.around(cancel).wait(copy.rows(rows)).await??;
                    }
                }
                b'd' => {
                    if copy.push(&body) {
                        self.around(cancel).wait(copy.decode()).await??;
                    }
                }
                b'c' => break,
                b'f' => {
                    let reason = String::from_utf8_lossy(body.strip_suffix(b"\0").unwrap_or(&body)).into_owned();
                    return Err(PgError::new("57014", format!("COPY from stdin failed: {reason}")).into());
                }
                // Sent before the client knew; they say nothing here.
                b'H' | b'S' => {}
                b'X' => return Err(lost()),
                other => {
                    return Err(PgError::protocol(format!("unexpected message type 0x{other:02X} during COPY from stdin")).into());
                }
            }
        }
        if binary && let Some(rows) = tuples.last(&copy)? {
            self.around(cancel).wait(copy.rows(rows)).await??;
        }
        Ok(self.around(cancel).wait(copy.finish()).await??)
    }

    /// Sends the rows of a COPY. Returns its tag. Memory: one batch, and what waits to be sent.
    pub(super) async fn copy_out(&mut self, mut copy: Box<CopyOut>, cancel: &CancellationToken) -> Result<String, Failure> {
        let binary = copy.format == CopyFormat::Binary;
        let count = copy.schema.fields().len();
        let columns = i16::try_from(count).map_err(|_| PgError::new("54011", "too many columns for COPY"))?;
        let response = CopyOutResponse::new(i8::from(binary), columns, vec![i16::from(binary); count]);
        self.wire.put(PgWireBackendMessage::CopyOutResponse(response))?;
        if !binary && copy.header {
            let mut line = BytesMut::new();
            copy.text.row(copy.schema.fields().iter().map(|field| Some(field.name().as_bytes())), &mut line);
            self.wire.put(PgWireBackendMessage::CopyData(CopyData::new(line.freeze())))?;
        }
        let formats = Formats::new(vec![i16::from(binary)], count)?;
        let (style, mut sent, mut scratch) = (self.style(), 0_u64, BytesMut::new());
        // The header comes in one message with what follows it, as from PostgreSQL: readers count on that.
        let mut header: &[u8] = if binary { &HEADER } else { &[] };
        while let Some(batch) = self.around(cancel).wait(copy.stream.next()).await? {
            let mut rows = Rows::new(&batch?, &copy.schema, &formats, &style)?;
            while rows.remaining() > 0 {
                match binary {
                    true => rows.write_tuple(std::mem::take(&mut header), &mut self.wire.output)?,
                    false => rows.write_line(&copy.text, &mut scratch, &mut self.wire.output)?,
                }
                sent += 1;
                if self.wire.is_full() {
                    self.around(cancel).flush().await?;
                }
            }
        }
        if binary {
            let trailer = [header, &[0xFF; 2]].concat();
            self.wire.put(PgWireBackendMessage::CopyData(CopyData::new(trailer.into())))?;
        }
        self.wire.put(PgWireBackendMessage::CopyDone(CopyDone::new()))?;
        Ok(format!("COPY {sent}"))
    }

    /// The next message of a client that sends rows; what waits to be sent goes first.
    async fn copy_message(&mut self, copy: &CopyIn, cancel: &CancellationToken) -> Result<(u8, Bytes), Failure> {
        loop {
            if copy.cancel().is_cancelled() {
                return Err(copy.stopped().into());
            }
            if let Some(message) = self.wire.take_message(message_limit)? {
                return Ok(message);
            }
            self.around(cancel).flush().await?;
            let stopped = copy.cancel().cancelled().fuse();
            tokio::select! {
                biased;
                () = stopped => return Err(copy.stopped().into()),
                () = self.shutdown() => return Err(PgError::fatal("57P01", "terminating connection due to administrator command").into()),
                filled = self.wire.fill() => match filled {
                    Ok(true) => {}
                    Ok(false) | Err(_) => return Err(lost()),
                },
            }
        }
    }
}

/// Tuples of the binary format.
#[derive(Default)]
struct Tuples {
    buffer: BytesMut,
    begun: bool,
    ended: bool,
    columns: Vec<Vec<ScalarValue>>,
    bytes: usize,
}

fn malformed(what: &str) -> PgError {
    PgError::new("22P04", what)
}

impl Tuples {
    /// A batch of rows, once there are enough of them.
    fn next(&mut self, copy: &CopyIn, zone: &str) -> PgResult<Option<RecordBatch>> {
        self.columns.resize(copy.column_count(), Vec::new());
        while self.tuple(copy, zone)? {
            if self.columns.first().is_some_and(|column| column.len() >= BATCH_ROWS) || self.bytes >= BATCH_BYTES {
                return self.batch(copy).map(Some);
            }
        }
        Ok(None)
    }

    /// What is left at the end.
    fn last(&mut self, copy: &CopyIn) -> PgResult<Option<RecordBatch>> {
        if !self.buffer.is_empty() && !self.ended {
            return Err(malformed("unexpected EOF in COPY data"));
        }
        if self.columns.first().is_none_or(Vec::is_empty) { Ok(None) } else { self.batch(copy).map(Some) }
    }

    /// Reads one tuple, when it is whole.
    fn tuple(&mut self, copy: &CopyIn, zone: &str) -> PgResult<bool> {
        if !self.begin()? || self.ended {
            return Ok(false);
        }
        let mut rest = &self.buffer[..];
        let Ok(count) = rest.try_get_i16() else { return Ok(false) };
        if count == -1 {
            self.ended = true;
            return Ok(false);
        }
        if usize::try_from(count) != Ok(copy.column_count()) {
            return Err(malformed(&format!("row field count is {count}, expected {}", copy.column_count())));
        }
        let mut fields = Vec::with_capacity(copy.column_count());
        for _ in 0..copy.column_count() {
            let Ok(length) = rest.try_get_i32() else { return Ok(false) };
            match usize::try_from(length) {
                Err(_) if length == -1 => fields.push(None),
                Err(_) => return Err(malformed("invalid field size")),
                Ok(length) if rest.len() < length => return Ok(false),
                Ok(length) => {
                    fields.push(Some(Bytes::copy_from_slice(&rest[..length])));
                    rest.advance(length);
                }
            }
        }
        let used = self.buffer.len() - rest.len();
        self.buffer.advance(used);
        self.bytes += used;
        for ((field, column), values) in fields.iter().zip(copy.schema().fields()).zip(&mut self.columns) {
            values.push(params::decode(field.as_ref(), true, &field_type(column), column.data_type(), zone)?);
        }
        Ok(true)
    }

    /// Reads the header; false while it is not whole.
    fn begin(&mut self) -> PgResult<bool> {
        if self.begun {
            return Ok(true);
        }
        let seen = self.buffer.len().min(SIGNATURE.len());
        if self.buffer[..seen] != SIGNATURE[..seen] {
            return Err(malformed("COPY file signature not recognized"));
        }
        let Some(mut header) = self.buffer.get(SIGNATURE.len()..HEADER_BYTES) else { return Ok(false) };
        let (flags, extension) = (header.get_i32(), header.get_i32());
        if flags >> 16 != 0 {
            return Err(malformed("unrecognized critical flags in COPY file header"));
        }
        let length = HEADER_BYTES + usize::try_from(extension).map_err(|_| malformed("invalid COPY file header"))?;
        if self.buffer.len() < length {
            return Ok(false);
        }
        self.buffer.advance(length);
        self.begun = true;
        Ok(true)
    }

    fn batch(&mut self, copy: &CopyIn) -> PgResult<RecordBatch> {
        self.bytes = 0;
        let internal = |error: &dyn std::fmt::Display| PgError::internal(&format!("COPY: {error}"));
        let columns = self.columns.iter_mut().map(|values| ScalarValue::iter_to_array(std::mem::take(values)));
        let columns = columns.collect::<Result<Vec<_>, _>>().map_err(|error| internal(&error))?;
        let fields: Vec<_> = copy.schema().fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
        let schema = std::sync::Arc::new(arrow::datatypes::Schema::new(fields));
        RecordBatch::try_new(schema, columns).map_err(|error| internal(&error))
    }
}
