//! What a client says: bodies of frontend messages, read strictly.
//!
//! pgwire's decoder panics on short bodies and replaces invalid UTF-8, so bodies are read here: every count is
//! checked against the bytes that are there, every text is valid UTF-8, and nothing may be left over.

use bytes::{Buf, Bytes};

use super::sqlstate::{PgError, PgResult};

/// A message of a client after it logged in.
#[derive(Debug)]
pub(crate) enum Message {
    Query(String),
    Parse {
        name: String,
        query: String,
        types: Vec<u32>,
    },
    Bind(Bind),
    DescribeStatement(String),
    DescribePortal(String),
    Execute {
        portal: String,
        max_rows: i32,
    },
    CloseStatement(String),
    ClosePortal(String),
    Flush,
    Sync,
    Terminate,
    /// Data of a COPY that is not running (any more); ignored, as PostgreSQL does.
    Copy,
    /// The long-deprecated function call interface.
    FunctionCall,
}

/// Values for the parameters of a prepared statement.
#[derive(Debug)]
pub(crate) struct Bind {
    pub(crate) portal: String,
    pub(crate) statement: String,
    pub(crate) parameter_formats: Vec<i16>,
    /// `None` is NULL.
    pub(crate) parameters: Vec<Option<Bytes>>,
    pub(crate) result_formats: Vec<i16>,
}

impl Message {
    /// Reads the body of a message of type `kind`.
    ///
    /// An unknown type is FATAL (the stream is out of step); a malformed body is an ERROR, for the frame around
    /// it was whole.
    pub(crate) fn decode(kind: u8, body: Bytes) -> PgResult<Self> {
        let mut reader = Reader(body);
        let message = match kind {
            b'Q' => Self::Query(reader.text()?),
            b'P' => {
                let (name, query) = (reader.text()?, reader.text()?);
                let count = reader.count(4)?;
                let types = (0..count).map(|_| reader.0.get_u32()).collect();
                Self::Parse { name, query, types }
            }
            b'B' => Self::Bind(reader.bind()?),
            b'D' | b'C' => {
                let target = reader.u8()?;
                let name = reader.text()?;
                match (kind, target) {
                    (b'D', b'S') => Self::DescribeStatement(name),
                    (b'D', b'P') => Self::DescribePortal(name),
                    (b'C', b'S') => Self::CloseStatement(name),
                    (b'C', b'P') => Self::ClosePortal(name),
                    _ => return Err(PgError::new("08P01", format!("invalid message subtype {target}"))),
                }
            }
            b'E' => {
                let portal = reader.text()?;
                Self::Execute { portal, max_rows: reader.i32()? }
            }
            b'H' => Self::Flush,
            b'S' => Self::Sync,
            b'X' => Self::Terminate,
            b'd' | b'c' | b'f' => return Ok(Self::Copy),
            b'F' => return Ok(Self::FunctionCall),
            other => return Err(PgError::protocol(format!("invalid frontend message type {other}"))),
        };
        if reader.0.has_remaining() {
            return Err(malformed());
        }
        Ok(message)
    }
}

fn malformed() -> PgError {
    PgError::new("08P01", "invalid message format")
}

/// Reads fields off a body; never past its end.
pub(crate) struct Reader(pub(crate) Bytes);

impl Reader {
    fn need(&self, bytes: usize) -> PgResult<()> {
        if self.0.remaining() < bytes { Err(malformed()) } else { Ok(()) }
    }

    fn u8(&mut self) -> PgResult<u8> {
        self.need(1)?;
        Ok(self.0.get_u8())
    }

    pub(crate) fn i32(&mut self) -> PgResult<i32> {
        self.need(4)?;
        Ok(self.0.get_i32())
    }

    /// A count of elements that take at least `element` bytes each; never more than the body can hold.
    fn count(&mut self, element: usize) -> PgResult<usize> {
        self.need(2)?;
        let count = usize::from(self.0.get_u16());
        self.need(count * element)?;
        Ok(count)
    }

    /// A text up to its NUL.
    pub(crate) fn text(&mut self) -> PgResult<String> {
        let end = self.0.iter().position(|byte| *byte == 0).ok_or_else(malformed)?;
        let bytes = self.0.split_to(end);
        self.0.advance(1);
        utf8(&bytes).map(str::to_owned)
    }

    /// `length` bytes.
    pub(crate) fn bytes(&mut self, length: usize) -> PgResult<Bytes> {
        self.need(length)?;
        Ok(self.0.split_to(length))
    }

    fn formats(&mut self) -> PgResult<Vec<i16>> {
        let count = self.count(2)?;
        let formats: Vec<i16> = (0..count).map(|_| self.0.get_i16()).collect();
        match formats.iter().find(|format| !matches!(format, 0 | 1)) {
            Some(format) => Err(PgError::new("22023", format!("unsupported format code: {format}"))),
            None => Ok(formats),
        }
    }

    fn bind(&mut self) -> PgResult<Bind> {
        let (portal, statement) = (self.text()?, self.text()?);
        let parameter_formats = self.formats()?;
        let count = self.count(4)?;
        let mut parameters = Vec::with_capacity(count);
        for _ in 0..count {
            parameters.push(match self.i32()? {
                -1 => None,
                length => Some(self.bytes(usize::try_from(length).map_err(|_| malformed())?)?),
            });
        }
        let result_formats = self.formats()?;
        Ok(Bind { portal, statement, parameter_formats, parameters, result_formats })
    }
}

/// Text as the protocol's encoding has it, or 22021 naming the first bad byte.
pub(crate) fn utf8(bytes: &[u8]) -> PgResult<&str> {
    std::str::from_utf8(bytes).map_err(|error| {
        let bad = bytes.get(error.valid_up_to()).copied().unwrap_or_default();
        PgError::new("22021", format!("invalid byte sequence for encoding \"UTF8\": 0x{bad:02x}"))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(kind: u8, body: &[u8]) -> PgResult<Message> {
        Message::decode(kind, Bytes::copy_from_slice(body))
    }

    #[test]
    fn malformed_bodies_are_errors() {
        for (kind, body) in [
            (b'Q', &b"no end"[..]),
            (b'Q', b"a\0left over\0"),
            (b'P', b"\0select 1\0\0"),
            (b'P', b"\0select 1\0\xff\xff"),
            (b'B', b"\0\0\0\0\0\x01\x7f\xff\xff\xff\0\0"),
            (b'B', b"\0\0\0\0\0\x01\xff\xff\xff\xfe\0\0"),
            (b'D', b"X\0"),
            (b'E', b"\0\0\0"),
        ] {
            assert_eq!(decode(kind, body).unwrap_err().sqlstate, "08P01", "{} {body:?}", char::from(kind));
        }
        assert_eq!(decode(b'Q', b"\xff\0").unwrap_err().sqlstate, "22021");
        assert_eq!(decode(b'B', b"\0\0\0\x01\0\x02\0\0\0\0").unwrap_err().sqlstate, "22023");
    }

    #[test]
    fn execute_keeps_a_negative_limit() {
        assert!(matches!(decode(b'E', b"p\0\xff\xff\xff\xff"), Ok(Message::Execute { max_rows: -1, .. })));
    }

    proptest! {
        #[test]
        fn no_body_panics(kind in any::<u8>(), body in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = decode(kind, &body);
        }
    }
}
