//! Finds records and fields in bytes that come in pieces, as PostgreSQL's text and CSV formats have them.

use arrow::array::{StringArray, StringBuilder};
use bytes::{Buf, BytesMut};
use portrait_udfs::error::{Code, Error, Result};

use super::CopyFormat;
use super::options::Options;

/// A longer record is refused: it has to be in memory as a whole.
const RECORD_BYTES_MAX: usize = 64 << 20;
/// A batch of rows is complete at one of these.
const BATCH_ROWS: usize = 8192;
const BATCH_BYTES: usize = 8 << 20;

/// Rows as columns of text.
pub(super) struct Fields {
    columns: Vec<StringBuilder>,
    /// The line that each row ends at.
    lines: Vec<u64>,
    bytes: usize,
    /// The fields of the last record; `None` is NULL.
    last: Vec<Option<String>>,
    /// Whether the last record is still to be put with the others.
    waits: bool,
}

impl Fields {
    pub(super) fn new(columns: usize) -> Self {
        let columns = (0..columns).map(|_| StringBuilder::new()).collect();
        Self { columns, lines: Vec::new(), bytes: 0, last: Vec::new(), waits: false }
    }

    /// How many fields the last record has.
    pub(super) fn last_len(&self) -> usize {
        self.last.len()
    }

    /// Takes the last record away.
    pub(super) fn take_last(&mut self) -> Vec<Option<String>> {
        if self.waits {
            self.waits = false;
            self.lines.pop();
        }
        std::mem::take(&mut self.last)
    }

    fn settle(&mut self) {
        if std::mem::take(&mut self.waits) {
            for (column, field) in self.columns.iter_mut().zip(&self.last) {
                column.append_option(field.as_deref());
                self.bytes += field.as_ref().map_or(1, String::len);
            }
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.lines.len() >= BATCH_ROWS || self.bytes >= BATCH_BYTES
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The first `count` columns, and the line of each row.
    pub(super) fn take(&mut self, count: usize) -> (Vec<StringArray>, Vec<u64>) {
        self.settle();
        self.bytes = 0;
        let columns = self.columns.iter_mut().take(count).map(StringBuilder::finish).collect();
        (columns, std::mem::take(&mut self.lines))
    }
}

/// The records of a stream of bytes.
pub(super) struct Records {
    options: Options,
    buffer: BytesMut,
    /// How far the buffer was looked through for the end of a record.
    scanned: usize,
    quoted: bool,
    /// Whether the byte before `scanned` takes away the meaning of the next one.
    escaped: bool,
    /// Lines that ended, within records too.
    line: u64,
    ended: bool,
}

impl Records {
    pub(super) fn new(options: &Options) -> Self {
        let options = options.clone();
        Self { options, buffer: BytesMut::new(), scanned: 0, quoted: false, escaped: false, line: 0, ended: false }
    }

    /// Takes bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        if !self.ended {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// The line that the last record ended at.
    pub(super) fn line(&self) -> u64 {
        self.line
    }

    /// Puts the next record into `fields`; false when the buffer holds no whole one. `at_end`: nothing comes any more.
    ///
    /// # Errors
    /// 22P04 for a record that is too long or ends within quotes, 22021 for what is not UTF-8.
    pub(super) fn next(&mut self, at_end: bool, fields: &mut Fields) -> Result<bool> {
        let Some((length, ending)) = self.record(at_end)? else { return Ok(false) };
        let record = self.buffer.split_to(length);
        self.buffer.advance(ending);
        self.line += 1;
        let line = match self.options.format {
            CopyFormat::Csv => record.strip_suffix(b"\r").unwrap_or(&record),
            _ => &record,
        };
        if line == b"\\." {
            self.ended = true;
            self.buffer.clear();
            return Ok(false);
        }
        fields.settle();
        fields.last.clear();
        match self.options.format {
            CopyFormat::Csv => self.csv(line, &mut fields.last),
            _ => self.text(line.strip_suffix(b"\r").unwrap_or(line), &mut fields.last),
        }
        .map_err(|error| error.detail(format!("Line {}.", self.line)))?;
        self.line += line.iter().filter(|byte| **byte == b'\n').count() as u64;
        fields.lines.push(self.line);
        fields.waits = true;
        Ok(true)
    }

    /// The bytes of the next record, and of its ending.
    fn record(&mut self, at_end: bool) -> Result<Option<(usize, usize)>> {
        let csv = self.options.format == CopyFormat::Csv;
        let (quote, escape) = (self.options.quote, self.options.escape);
        while let Some(&byte) = self.buffer.get(self.scanned) {
            let at = self.scanned;
            self.scanned += 1;
            if std::mem::take(&mut self.escaped) {
                continue;
            }
            match byte {
                b'\n' if !self.quoted => {
                    self.scanned = 0;
                    return Ok(Some((at, 1)));
                }
                b'\\' if !csv => self.escaped = true,
                byte if csv && self.quoted && escape != quote && byte == escape => {
                    // An escape that stands before anything else is itself.
                    match self.buffer.get(at + 1) {
                        Some(next) => self.escaped = *next == quote || *next == escape,
                        None if !at_end => {
                            self.scanned = at;
                            return Ok(None);
                        }
                        None => {}
                    }
                }
                byte if csv && byte == quote => self.quoted = !self.quoted,
                _ => {}
            }
        }
        if self.buffer.len() > RECORD_BYTES_MAX {
            return Err(Error::new(Code::BadCopyFormat, "a record is too long")
                .detail(format!("Line {}: the limit is {RECORD_BYTES_MAX} bytes.", self.line + 1))
                .hint("A quote that is never closed makes one record of everything behind it."));
        }
        if !at_end || self.buffer.is_empty() {
            return Ok(None);
        }
        if self.quoted {
            return Err(Error::new(Code::BadCopyFormat, "unterminated CSV quoted field").detail(format!("Line {}.", self.line + 1)));
        }
        self.scanned = 0;
        Ok(Some((self.buffer.len(), 0)))
    }

    fn csv(&self, record: &[u8], fields: &mut Vec<Option<String>>) -> Result<()> {
        let Options { delimiter, quote, escape, null, .. } = &self.options;
        let (mut field, mut quoted, mut was_quoted) = (Vec::new(), false, false);
        let mut at = 0;
        while let Some(&byte) = record.get(at) {
            at += 1;
            if quoted && byte == *escape && record.get(at).is_some_and(|next| next == quote || next == escape) {
                field.push(record[at]);
                at += 1;
            } else if byte == *quote {
                quoted = !quoted;
                was_quoted = true;
            } else if byte == *delimiter && !quoted {
                fields.push(finish(std::mem::take(&mut field), null, was_quoted)?);
                was_quoted = false;
            } else {
                field.push(byte);
            }
        }
        fields.push(finish(field, null, was_quoted)?);
        Ok(())
    }

    fn text(&self, record: &[u8], fields: &mut Vec<Option<String>>) -> Result<()> {
        let Options { delimiter, null, .. } = &self.options;
        let (mut start, mut at) = (0, 0);
        loop {
            match record.get(at) {
                Some(b'\\') => at += 2,
                Some(byte) if byte != delimiter => at += 1,
                ended => {
                    let raw = &record[start.min(record.len())..at.min(record.len())];
                    fields.push(if raw == null.as_slice() { None } else { Some(utf8(unescape(raw))?) });
                    if ended.is_none() {
                        return Ok(());
                    }
                    at += 1;
                    start = at;
                }
            }
        }
    }
}

fn finish(field: Vec<u8>, null: &[u8], was_quoted: bool) -> Result<Option<String>> {
    if !was_quoted && field == null { Ok(None) } else { utf8(field).map(Some) }
}

fn utf8(bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes).map_err(|error| {
        let bad = error.as_bytes().get(error.utf8_error().valid_up_to()).copied().unwrap_or_default();
        Error::new(Code::InvalidEncoding, format!("invalid byte sequence for encoding \"UTF8\": 0x{bad:02x}"))
    })
}

/// What a field of the text format says.
fn unescape(raw: &[u8]) -> Vec<u8> {
    let mut field = Vec::with_capacity(raw.len());
    let mut at = 0;
    let digits = |from: usize, most: usize, radix: u32| {
        let digit = |byte: &u8| char::from(*byte).to_digit(radix);
        let found: Vec<u32> = raw.iter().skip(from).take(most).map_while(digit).collect();
        let value = found.iter().fold(0_u32, |value, digit| value * radix + digit);
        (found.len(), value as u8)
    };
    while let Some(&byte) = raw.get(at) {
        at += 1;
        let Some(&escaped) = raw.get(at).filter(|_| byte == b'\\') else {
            field.push(byte);
            continue;
        };
        at += 1;
        field.push(match escaped {
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'v' => 11,
            b'0'..=b'7' => {
                let (length, value) = digits(at - 1, 3, 8);
                at += length - 1;
                value
            }
            b'x' => match digits(at, 2, 16) {
                (0, _) => b'x',
                (length, value) => {
                    at += length;
                    value
                }
            },
            other => other,
        });
    }
    field
}

#[cfg(test)]
mod tests {
    use super::super::options::Header;
    use super::*;

    fn options(format: CopyFormat) -> Options {
        let csv = format == CopyFormat::Csv;
        let null = if csv { Vec::new() } else { b"\\N".to_vec() };
        Options { format, delimiter: if csv { b',' } else { b'\t' }, quote: b'"', escape: b'"', null, header: Header::None }
    }

    /// Every way of cutting the bytes in two gives the same rows.
    fn rows(options: &Options, bytes: &[u8]) -> Result<Vec<Vec<Option<String>>>> {
        let read = |pieces: &[&[u8]]| {
            let (mut records, mut fields, mut rows) = (Records::new(options), Fields::new(3), Vec::new());
            for (at, piece) in pieces.iter().enumerate() {
                records.push(piece);
                while records.next(at + 1 == pieces.len(), &mut fields)? {
                    rows.push(fields.take_last());
                }
            }
            Ok::<_, Error>(rows)
        };
        let whole = read(&[bytes])?;
        for cut in 0..bytes.len() {
            assert_eq!(read(&[&bytes[..cut], &bytes[cut..]])?, whole, "cut at {cut}");
        }
        Ok(whole)
    }

    fn texts(row: &[Option<String>]) -> Vec<Option<&str>> {
        row.iter().map(Option::as_deref).collect()
    }

    #[test]
    fn csv_as_in_postgresql() {
        let found = rows(&options(CopyFormat::Csv), b"1,\"a,\"\"b\"\"\nc\",\r\n,\"\",x y\"z\"\n2,,end").unwrap();
        assert_eq!(found.len(), 3);
        assert_eq!(texts(&found[0]), [Some("1"), Some("a,\"b\"\nc"), None]);
        assert_eq!(texts(&found[1]), [None, Some(""), Some("x yz")]);
        assert_eq!(texts(&found[2]), [Some("2"), None, Some("end")]);
        let escaped = Options { escape: b'\\', delimiter: b';', null: b"NULL".to_vec(), ..options(CopyFormat::Csv) };
        let found = rows(&escaped, b"\"a\\\"b\";NULL;\"NULL\"\n\"\\n\";;\n").unwrap();
        assert_eq!(texts(&found[0]), [Some("a\"b"), None, Some("NULL")]);
        assert_eq!(texts(&found[1]), [Some("\\n"), Some(""), Some("")]);
    }

    #[test]
    fn text_as_in_postgresql() {
        let found = rows(&options(CopyFormat::Text), b"1\ta\\tb\\\\\\x41\\101\t\\N\n\\\n\t\\\\N\t\n\\.\nrest\n").unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(texts(&found[0]), [Some("1"), Some("a\tb\\AA"), None]);
        assert_eq!(texts(&found[1]), [Some("\n"), Some("\\N"), Some("")]);
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        let unterminated = rows(&options(CopyFormat::Csv), b"1,\"a\n2,b\n").unwrap_err();
        assert_eq!(unterminated.code, Code::BadCopyFormat);
        assert_eq!(rows(&options(CopyFormat::Csv), b"1,\xff\n").unwrap_err().code, Code::InvalidEncoding);
        assert!(rows(&options(CopyFormat::Csv), b"").unwrap().is_empty());
    }

    proptest::proptest! {
        #[test]
        fn no_input_panics(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..64), csv in proptest::prelude::any::<bool>()) {
            let _ = rows(&options(if csv { CopyFormat::Csv } else { CopyFormat::Text }), &bytes);
        }
    }
}
