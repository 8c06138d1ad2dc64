//! Bytes to and from one socket: frames in, messages out, with limits and timeouts on both.
//!
//! Knows lengths and buffers, never what a message means. Input grows only as bytes arrive, whatever length a
//! frame claims; output is flushed at [`FLUSH_BYTES`], so a client that reads slowly stalls the query and
//! not the server's memory.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures::FutureExt;
use pgwire::messages::PgWireBackendMessage;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::sqlstate::{PgError, PgResult};

/// Encoded rows are sent in pieces of about this size.
pub(crate) const FLUSH_BYTES: usize = 64 * 1024;
/// A buffer that grew beyond this for one large message is given back afterwards.
const KEEP_BYTES: usize = 1024 * 1024;
/// Room made for each read.
const READ_BYTES: usize = 16 * 1024;

/// The transport under the protocol.
#[derive(Debug)]
pub(crate) enum Stream {
    /// As the client opened it.
    Plain(TcpStream),
    /// After the TLS handshake.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls.get_ref().0,
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

/// One client's connection as buffers.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: Stream,
    input: BytesMut,
    /// Bytes to send; append whole messages only.
    pub(crate) output: BytesMut,
    write_timeout: Duration,
}

impl Wire {
    pub(crate) fn new(stream: Stream, write_timeout: Duration) -> Self {
        Self { stream, input: BytesMut::new(), output: BytesMut::with_capacity(READ_BYTES), write_timeout }
    }

    /// Takes the socket out again, for the TLS handshake. `None` when the client already sent more than it was
    /// asked for: bytes from before the handshake must never be read as if they came through it (CVE-2021-23214).
    pub(crate) fn into_plain(self) -> Option<TcpStream> {
        match self.stream {
            Stream::Plain(tcp) if self.input.is_empty() => Some(tcp),
            _ => None,
        }
    }

    pub(crate) fn is_tls(&self) -> bool {
        matches!(self.stream, Stream::Tls(_))
    }

    /// Reads more input; `false` at the end of the stream. Safe to drop and call again.
    pub(crate) async fn fill(&mut self) -> io::Result<bool> {
        self.input.reserve(READ_BYTES);
        Ok(self.stream.read_buf(&mut self.input).await? > 0)
    }

    /// Whether the event loop has heard of more input. Does not block.
    pub(crate) fn has_heard(&self) -> bool {
        self.stream.tcp().ready(Interest::READABLE).now_or_never().is_some()
    }

    /// A packet without a type byte (as before and at startup), without its length field.
    pub(crate) fn take_packet(&mut self, limit: usize) -> PgResult<Option<Bytes>> {
        let Some(length) = self.frame_length(0, limit)? else { return Ok(None) };
        if self.input.len() < length {
            return Ok(None);
        }
        self.input.advance(4);
        Ok(Some(self.input.split_to(length - 4).freeze()))
    }

    /// A message with its type, once it is complete.
    ///
    /// # Errors
    /// FATAL when the claimed length is over `limit(type)`, before its bytes are read.
    pub(crate) fn take_message(&mut self, limit: impl Fn(u8) -> usize) -> PgResult<Option<(u8, Bytes)>> {
        let Some(kind) = self.input.first().copied() else { return Ok(None) };
        let Some(length) = self.frame_length(1, limit(kind))? else { return Ok(None) };
        if self.input.len() < length + 1 {
            return Ok(None);
        }
        self.input.advance(5);
        let body = self.input.split_to(length - 4).freeze();
        if self.input.is_empty() && length > KEEP_BYTES {
            self.input = BytesMut::new();
        }
        Ok(Some((kind, body)))
    }

    fn frame_length(&self, offset: usize, limit: usize) -> PgResult<Option<usize>> {
        let Some(mut length) = self.input.get(offset..offset + 4) else { return Ok(None) };
        match usize::try_from(length.get_i32()) {
            Ok(length) if (4..=limit).contains(&length) => Ok(Some(length)),
            _ => Err(PgError::protocol("invalid message length")),
        }
    }

    /// Appends a message to the output.
    pub(crate) fn put(&mut self, message: PgWireBackendMessage) -> PgResult<()> {
        message.encode(&mut self.output).map_err(|error| PgError::internal(&format!("cannot encode a message: {error}")))
    }

    /// Appends one raw byte: the answer to an encryption request.
    pub(crate) fn put_byte(&mut self, byte: u8) {
        self.output.extend_from_slice(&[byte]);
    }

    /// Whether enough is waiting to be worth a write.
    pub(crate) fn is_full(&self) -> bool {
        self.output.len() >= FLUSH_BYTES
    }

    /// Sends what is waiting. Safe to drop and call again: what was sent is gone from the buffer.
    ///
    /// # Errors
    /// `TimedOut` when the client takes nothing for the write timeout.
    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        while self.output.has_remaining() {
            let write = self.stream.write_buf(&mut self.output);
            match tokio::time::timeout(self.write_timeout, write).await {
                Ok(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(result) => result?,
                Err(_) => return Err(io::Error::new(io::ErrorKind::TimedOut, "the client reads nothing")),
            };
        }
        if self.output.capacity() > KEEP_BYTES {
            self.output = BytesMut::with_capacity(READ_BYTES);
        }
        match tokio::time::timeout(self.write_timeout, self.stream.flush()).await {
            Ok(result) => result,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the client reads nothing")),
        }
    }

    /// Whether the client closed its side, even while bytes that it sent before wait unread. Does not block.
    pub(crate) fn is_client_gone(&self) -> bool {
        match self.stream.tcp().ready(Interest::READABLE).now_or_never() {
            Some(Ok(ready)) => ready.is_read_closed(),
            Some(Err(_)) => true,
            None => false,
        }
    }

    /// Sends what is waiting, then closes.
    pub(crate) async fn close(mut self) {
        if self.flush().await.is_ok() {
            let _ = tokio::time::timeout(Duration::from_secs(1), self.stream.shutdown()).await;
        }
    }
}
