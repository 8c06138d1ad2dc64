//! Rows on their way to the client, while the statement still runs.

use std::future::Future;
use std::io;
use std::task::Poll;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use datafusion::execution::SendableRecordBatchStream;
use futures::StreamExt;
use pgwire::messages::PgWireBackendMessage;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::encode::{Rows, Style};
use super::sqlstate::{PgError, notice};
use super::types::Formats;
use super::wire::Wire;
use crate::sql::RowTag;

/// How often a statement that runs looks whether its client is still there.
const CLIENT_CHECK: Duration = Duration::from_millis(200);
/// How long a cancelled statement has to end by itself before it is dropped.
const CANCEL_GRACE: Duration = Duration::from_millis(100);
/// Messages that wait to be sent while a statement runs; more are dropped.
pub(crate) const NOTICES_MAX: usize = 64;

/// Why a message could not be answered as it should.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The client reads why.
    Error(PgError),
    /// There is no client any more.
    Lost(#[expect(dead_code, reason = "shown by Debug in the log")] io::Error),
}

impl<E: Into<PgError>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

/// What goes on around a running statement: messages to send, a token to fire.
pub(crate) struct Attention<'a> {
    pub(crate) wire: &'a mut Wire,
    pub(crate) notices: &'a mut mpsc::Receiver<String>,
    pub(crate) cancel: &'a CancellationToken,
}

impl Attention<'_> {
    /// Waits for `work` on the statement. Meanwhile sends notices at once, and cancels the statement when its client
    /// is gone. Once cancelled, `work` has a moment to say so itself.
    pub(crate) async fn wait<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Failure> {
        tokio::pin!(work);
        // What is done at once needs nobody who waits.
        if let Poll::Ready(output) = futures::poll!(&mut work) {
            self.put_notices()?;
            return Ok(output);
        }
        let mut check = tokio::time::interval(CLIENT_CHECK);
        let mut gone = false;
        loop {
            tokio::select! {
                biased;
                Some(message) = self.notices.recv() => {
                    self.put_notice(&message)?;
                    self.flush().await?;
                }
                output = &mut work => {
                    self.put_notices()?;
                    return if gone { Err(lost()) } else { Ok(output) };
                }
                () = self.cancel.cancelled() => {
                    let output = tokio::time::timeout(CANCEL_GRACE, &mut work).await;
                    self.put_notices()?;
                    return match output {
                        _ if gone => Err(lost()),
                        Ok(output) => Ok(output),
                        Err(_) => Err(PgError::cancelled().into()),
                    };
                }
                _ = check.tick() => {
                    if self.wire.is_client_gone() {
                        gone = true;
                        self.cancel.cancel();
                    }
                }
            }
        }
    }

    /// Sends what waits, unless the statement is cancelled first: then the bytes stay for later, and the statement
    /// ends now.
    pub(crate) async fn flush(&mut self) -> Result<(), Failure> {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(PgError::cancelled().into()),
            flushed = self.wire.flush() => flushed.map_err(Failure::Lost),
        }
    }

    fn put_notice(&mut self, message: &str) -> Result<(), PgError> {
        self.wire.put(PgWireBackendMessage::NoticeResponse(notice("NOTICE", "00000", message)))
    }

    /// What the statement said last belongs before its result.
    fn put_notices(&mut self) -> Result<(), PgError> {
        while let Ok(message) = self.notices.try_recv() {
            self.put_notice(&message)?;
        }
        Ok(())
    }
}

pub(super) fn lost() -> Failure {
    Failure::Lost(io::Error::new(io::ErrorKind::ConnectionReset, "the client closed the connection"))
}

/// The rows of a statement, as far as they have been sent.
pub(crate) struct RowSource {
    pub(crate) schema: SchemaRef,
    pub(crate) tag: RowTag,
    pub(crate) formats: Formats,
    style: Style,
    /// `None` once the rows have ended.
    stream: Option<SendableRecordBatchStream>,
    batch: Option<Rows>,
}

/// Where sending stopped.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// The limit was reached; there may be more.
    Suspended,
    /// The rows have ended; so many were sent this time.
    Complete(u64),
}

impl RowSource {
    pub(crate) fn new(schema: SchemaRef, stream: SendableRecordBatchStream, tag: RowTag, formats: Formats, style: Style) -> Self {
        Self { schema, tag, formats, style, stream: Some(stream), batch: None }
    }

    /// Sends rows: `limit` of them, or with 0 all. Memory: one batch here, [`super::wire::FLUSH_BYTES`] encoded.
    pub(crate) async fn send(&mut self, around: &mut Attention<'_>, limit: u64) -> Result<Sent, Failure> {
        let mut sent = 0;
        loop {
            while let Some(rows) = self.batch.as_mut().filter(|rows| rows.remaining() > 0) {
                if limit > 0 && sent == limit {
                    return Ok(Sent::Suspended);
                }
                rows.write_next(&mut around.wire.output)?;
                sent += 1;
                if around.wire.is_full() {
                    around.flush().await?;
                }
            }
            self.batch = None;
            if limit > 0 && sent == limit {
                return Ok(Sent::Suspended);
            }
            let Some(stream) = &mut self.stream else { return Ok(Sent::Complete(sent)) };
            match around.wait(stream.next()).await? {
                Some(batch) => self.batch = Some(Rows::new(&batch?, &self.schema, &self.formats, &self.style)?),
                None => self.stream = None,
            }
        }
    }
}
