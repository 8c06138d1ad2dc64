//! Checksums inside the files of tables, so that damage on the disk is an error and not an answer.
//!
//! A Parquet file has a table of CRC-32s before its footer: one for each block of 16 KiB, one for the footer, one for the table.
//! Readers of Parquet find the footer from the end and all else by the positions that it names, so only who looks for the table
//! sees it. What Delta writes as JSON has a BLAKE3 hash of itself among its fields, which Delta leaves to whoever writes.
//!
//! ```text
//! data, indexes │ CRC of each block │ CRC of the footer, bytes before the table, CRC of the table, magic │ footer, its length, PAR1
//! ```
//!
//! Must never know: which files there are ([`super::checked`]), what is in them.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use futures::future::BoxFuture;
use parquet::arrow::async_writer::AsyncFileWriter;
use parquet::errors::{ParquetError, Result as ParquetResult};

/// Bytes that one checksum is of: what a small read has to read at least.
const BLOCK: u64 = 16 << 10;
const MAGIC: &[u8; 8] = b"PTRTSUM1";
/// CRC of the footer, covered bytes, CRC of the table, magic.
const TRAILER: usize = 4 + 8 + 4 + 8;
/// What a Parquet file ends with.
const PARQUET: &[u8; 4] = b"PAR1";
/// The footer's length and magic.
const LAST: usize = 8;

/// Checksums of bytes as they come.
#[derive(Debug, Clone, Default)]
pub(crate) struct Summer {
    block: crc32fast::Hasher,
    filled: u64,
    sums: Vec<u32>,
    covered: u64,
}

impl Summer {
    pub(crate) fn update(&mut self, mut bytes: &[u8]) {
        self.covered += bytes.len() as u64;
        while !bytes.is_empty() {
            let room = usize::try_from(BLOCK - self.filled).unwrap_or(usize::MAX).min(bytes.len());
            let (now, rest) = bytes.split_at(room);
            self.block.update(now);
            self.filled += now.len() as u64;
            if self.filled == BLOCK {
                self.end_block();
            }
            bytes = rest;
        }
    }

    fn end_block(&mut self) {
        self.sums.push(std::mem::take(&mut self.block).finalize());
        self.filled = 0;
    }

    /// The checksums of all blocks, the last one's too.
    pub(crate) fn finish(mut self) -> Sums {
        if self.filled > 0 {
            self.end_block();
        }
        Sums { covered: self.covered, sums: self.sums }
    }

    fn table(self, footer: &[u8]) -> Vec<u8> {
        let Sums { covered, sums } = self.finish();
        let mut out = Vec::with_capacity(sums.len() * 4 + TRAILER);
        sums.iter().for_each(|sum| out.extend_from_slice(&sum.to_le_bytes()));
        out.extend_from_slice(&crc32fast::hash(footer).to_le_bytes());
        out.extend_from_slice(&covered.to_le_bytes());
        let own = crc32fast::hash(&out);
        out.extend_from_slice(&own.to_le_bytes());
        out.extend_from_slice(MAGIC);
        out
    }
}

/// The checksums of a file's blocks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    /// Bytes that have checksums.
    pub(crate) covered: u64,
    pub(crate) sums: Vec<u32>,
}

impl Sums {
    /// The blocks that a range touches, whole.
    pub(crate) fn widen(&self, range: &Range<u64>) -> Range<u64> {
        range.start / BLOCK * BLOCK..range.end.div_ceil(BLOCK).saturating_mul(BLOCK).min(self.covered)
    }

    /// Checks whole blocks, which begin at `at`.
    ///
    /// # Errors
    /// The bytes that are damaged.
    pub(crate) fn check(&self, at: u64, bytes: &[u8]) -> Result<(), Range<u64>> {
        let size = usize::try_from(BLOCK).unwrap_or(usize::MAX);
        for (first, block) in (at / BLOCK..).zip(bytes.chunks(size)) {
            let known = usize::try_from(first).ok().and_then(|first| self.sums.get(first));
            if known != Some(&crc32fast::hash(block)) {
                return Err(first * BLOCK..first * BLOCK + block.len() as u64);
            }
        }
        Ok(())
    }
}

/// The table of a Parquet file.
#[derive(Debug)]
pub(crate) struct Table {
    blocks: Sums,
    /// Bytes of the file.
    size: u64,
    /// CRC of the table and the footer, which were right when they were read.
    end: u32,
}

impl Table {
    /// Reads the table of a file of `size` bytes from its last bytes. `Ok(Err(bytes))`: that many of them are needed. `None`: it has none.
    ///
    /// # Errors
    /// What is damaged.
    pub(crate) fn read(size: u64, end: &[u8]) -> Result<Result<Option<Self>, u64>, &'static str> {
        let Some(footer) = footer_bytes(end) else { return Ok(Ok(None)) };
        let more = |bytes: usize| if bytes as u64 <= size { Ok(Err(bytes as u64)) } else { Ok(Ok(None)) };
        if end.len() < footer + TRAILER {
            return more(footer + TRAILER);
        }
        let (before, footer_text) = end.split_at(end.len() - footer);
        let Some(rest) = before.strip_suffix(MAGIC) else { return Ok(Ok(None)) };
        let (rest, own) = rest.split_at(rest.len() - 4);
        let covered = u64::from_le_bytes(array(&rest[rest.len() - 8..]));
        let length = usize::try_from(covered.div_ceil(BLOCK)).unwrap_or(usize::MAX).saturating_mul(4).saturating_add(12);
        if covered.saturating_add(length as u64 + 12 + footer as u64) != size {
            return Err("its table of checksums does not fit");
        }
        if rest.len() < length {
            return more(length + 12 + footer);
        }
        let table = &rest[rest.len() - length..];
        if crc32fast::hash(table).to_le_bytes() != own {
            return Err("its table of checksums is wrong");
        }
        if crc32fast::hash(footer_text).to_le_bytes() != table[length - 12..length - 8] {
            return Err("the checksum of its footer is wrong");
        }
        let sums = table[..length - 12].chunks_exact(4).map(|sum| u32::from_le_bytes(array(sum))).collect();
        let end = crc32fast::hash(&end[end.len() - (length + 12 + footer)..]);
        Ok(Ok(Some(Self { blocks: Sums { covered, sums }, size, end })))
    }

    /// Bytes of the file.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Bytes in memory.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>() + self.blocks.sums.len() * 4
    }

    /// What must be read to check a range.
    pub(crate) fn widen(&self, range: &Range<u64>) -> Range<u64> {
        let covered = self.blocks.covered;
        let start = if range.start < covered { self.blocks.widen(range).start } else { covered };
        let end = if range.end <= covered { self.blocks.widen(range).end } else { self.size };
        start..end
    }

    /// Checks what was read of a widened range.
    ///
    /// # Errors
    /// The bytes that are damaged.
    pub(crate) fn check(&self, at: u64, bytes: &[u8]) -> Result<(), Range<u64>> {
        let rows = usize::try_from(self.blocks.covered.saturating_sub(at)).unwrap_or(usize::MAX).min(bytes.len());
        let (rows, end) = bytes.split_at(rows);
        self.blocks.check(at, rows)?;
        if end.is_empty() || crc32fast::hash(end) == self.end { Ok(()) } else { Err(self.blocks.covered..self.size) }
    }
}

/// How long the footer is, with its length and magic.
fn footer_bytes(end: &[u8]) -> Option<usize> {
    let rest = end.strip_suffix(PARQUET)?;
    let length = u32::from_le_bytes(array(rest.get(rest.len().checked_sub(4)?..)?));
    usize::try_from(length).ok()?.checked_add(LAST)
}

/// A whole Parquet file with its table; anything else as it is.
pub(crate) fn with_table(file: &Bytes) -> Bytes {
    let Some(at) = footer_bytes(file).and_then(|footer| file.len().checked_sub(footer)) else { return file.clone() };
    let mut summer = Summer::default();
    summer.update(&file[..at]);
    let table = summer.table(&file[at..]);
    let mut out = BytesMut::with_capacity(file.len() + table.len());
    out.extend_from_slice(&file[..at]);
    out.extend_from_slice(&table);
    out.extend_from_slice(&file[at..]);
    out.freeze()
}

/// Puts the table into a Parquet file while it is written.
pub(crate) struct Summed<W> {
    output: W,
    summer: Summer,
    /// What may be the end of the file.
    held: Option<Bytes>,
    written: Arc<AtomicU64>,
}

impl<W: AsyncFileWriter> Summed<W> {
    pub(crate) fn new(output: W) -> Self {
        Self { output, summer: Summer::default(), held: None, written: Arc::default() }
    }

    /// Bytes of the file, once it is complete.
    pub(crate) fn written(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.written)
    }

    async fn put(&mut self, bytes: Bytes) -> ParquetResult<()> {
        self.written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.output.write(bytes).await
    }

    async fn put_summed(&mut self, bytes: Bytes) -> ParquetResult<()> {
        self.summer.update(&bytes);
        self.put(bytes).await
    }
}

impl<W: AsyncFileWriter> AsyncFileWriter for Summed<W> {
    fn write(&mut self, bytes: Bytes) -> BoxFuture<'_, ParquetResult<()>> {
        async move {
            if let Some(held) = self.held.take() {
                self.put_summed(held).await?;
            }
            // The footer comes in one piece, and with it the file's last bytes.
            if bytes.ends_with(PARQUET) {
                self.held = Some(bytes);
                return Ok(());
            }
            self.put_summed(bytes).await
        }
        .boxed()
    }

    fn complete(&mut self) -> BoxFuture<'_, ParquetResult<()>> {
        async move {
            let last = self.held.take().unwrap_or_default();
            let at = footer_bytes(&last).and_then(|footer| last.len().checked_sub(footer));
            let at = at.ok_or_else(|| ParquetError::General("a file's footer came in pieces".into()))?;
            self.put_summed(last.slice(..at)).await?;
            let footer = last.slice(at..);
            let table = std::mem::take(&mut self.summer).table(&footer);
            self.put(table.into()).await?;
            self.put(footer).await?;
            self.output.complete().await
        }
        .boxed()
    }
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(bytes);
    out
}

/// The name of a JSON object's own hash.
const HASH: &str = "portraitHash";
const HEX: usize = 32;
/// How a line of a commit begins that tells who wrote it and why.
const COMMIT_INFO: &str = "{\"commitInfo\":{";

/// A commit of Delta's log with its hash among what it says about itself; as it is when it says nothing.
pub(crate) fn with_hash_in_commit(text: &Bytes) -> Bytes {
    let Some(at) = line_that_begins(text, COMMIT_INFO.as_bytes()) else { return text.clone() };
    with_hash_at(text, at + COMMIT_INFO.len())
}

/// A JSON object with its hash as its first field; anything else as it is.
pub(crate) fn with_hash(text: &Bytes) -> Bytes {
    if text.starts_with(b"{\"") { with_hash_at(text, 1) } else { text.clone() }
}

fn with_hash_at(text: &Bytes, at: usize) -> Bytes {
    if text.get(at) != Some(&b'"') {
        return text.clone();
    }
    let field = format!("\"{HASH}\":\"{}\",", "0".repeat(HEX));
    let mut out = [&text[..at], field.as_bytes(), &text[at..]].concat();
    let hash = hex_of(&out);
    let place = at + HASH.len() + 4;
    out[place..place + HEX].copy_from_slice(hash.as_bytes());
    out.into()
}

/// Checks JSON lines; those of others have no hash, and are right when they are JSON.
///
/// # Errors
/// What is damaged.
pub(crate) fn check_hash(text: &[u8]) -> Result<(), String> {
    let field = format!("\"{HASH}\":\"");
    if let Some(at) = text.windows(field.len()).position(|window| window == field.as_bytes()) {
        let place = at + field.len();
        let Some(said) = text.get(place..place + HEX) else { return Err("its hash is cut off".into()) };
        let mut zeroed = text.to_vec();
        zeroed[place..place + HEX].fill(b'0');
        return if hex_of(&zeroed).as_bytes() == said { Ok(()) } else { Err("its hash is wrong".into()) };
    }
    // What is ignored is not looked at: bytes that are no text would pass.
    let text = std::str::from_utf8(text).map_err(|error| error.to_string())?;
    for line in text.lines().filter(|line| !line.is_empty()) {
        serde_json::from_str::<serde::de::IgnoredAny>(line).map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn hex_of(text: &[u8]) -> String {
    let mut hex = blake3::hash(text).to_hex().to_string();
    hex.truncate(HEX);
    hex
}

/// Where the first line begins that begins so.
fn line_that_begins(text: &[u8], start: &[u8]) -> Option<usize> {
    let begins = |at: &usize| text[*at..].starts_with(start);
    std::iter::once(0).chain(text.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1)).find(begins)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parquet(rows: usize, footer: usize) -> Bytes {
        let mut file: Vec<u8> = (0..rows).map(|at| (at * 7919 % 251) as u8).collect();
        file.extend((0..footer).map(|at| at as u8));
        file.extend_from_slice(&u32::try_from(footer).unwrap().to_le_bytes());
        file.extend_from_slice(PARQUET);
        file.into()
    }

    fn table(file: &[u8], end: usize) -> Table {
        let size = file.len() as u64;
        match Table::read(size, &file[file.len() - end..]).unwrap() {
            Ok(table) => table.unwrap(),
            Err(more) => table(file, usize::try_from(more).unwrap()),
        }
    }

    #[tokio::test]
    async fn a_file_in_pieces_has_the_table_of_the_whole() {
        for rows in [0, 1, 16_383, 16_384, 16_385, 100_000] {
            let file = parquet(rows, 300);
            let whole = with_table(&file);
            let mut out = Vec::new();
            let mut writer = Summed::new(&mut out);
            let written = writer.written();
            for piece in file[..rows].chunks(5000) {
                writer.write(Bytes::copy_from_slice(piece)).await.unwrap();
            }
            writer.write(file.slice(rows..)).await.unwrap();
            writer.complete().await.unwrap();
            assert_eq!((out.len() as u64, out), (written.load(Ordering::Relaxed), whole.to_vec()), "{rows}");
        }
    }

    #[test]
    fn each_flipped_byte_is_found() {
        let file = with_table(&parquet(40_000, 300)).to_vec();
        let known = table(&file, 8);
        assert_eq!(known.widen(&(20_000..20_010)), 16_384..32_768);
        assert_eq!(known.widen(&(39_999..40_000)), 32_768..40_000);
        for at in (0..file.len()).step_by(37).chain(40_000..file.len()) {
            let mut wrong = file.clone();
            wrong[at] ^= 1;
            assert!(known.check(0, &wrong).is_err(), "{at}");
            let range = known.widen(&(at as u64..at as u64 + 1));
            let read = |file: &[u8]| file[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()].to_vec();
            assert!(known.check(range.start, &read(&wrong)).is_err(), "{at}");
            known.check(range.start, &read(&file)).unwrap();
            // Without knowing it before: where rows are, the table is read all the same; elsewhere it is not believed.
            let found = Table::read(wrong.len() as u64, &wrong);
            assert!(at < 40_000 || !matches!(found, Ok(Ok(Some(_)))), "{at}");
        }
    }

    #[test]
    fn a_commit_keeps_its_meaning_and_shows_damage() {
        let text = Bytes::from_static(b"{\"add\":{\"path\":\"x\"}}\n{\"commitInfo\":{\"operation\":\"WRITE\"}}");
        let hashed = with_hash_in_commit(&text);
        check_hash(&hashed).unwrap();
        let lines: Vec<serde_json::Value> = hashed.split(|byte| *byte == b'\n').map(|line| serde_json::from_slice(line).unwrap()).collect();
        assert_eq!(lines[1]["commitInfo"]["operation"], "WRITE");
        let key = hashed.windows(HASH.len()).position(|window| window == HASH.as_bytes()).unwrap();
        for at in 0..hashed.len() {
            let mut wrong = hashed.to_vec();
            wrong[at] ^= 2;
            // Another name of the hash says nothing wrong about anything else.
            let harmless = (key - 1..key + HASH.len() + 3).contains(&at);
            assert!(harmless || check_hash(&wrong).is_err(), "{at}");
            // Bytes that are no text are damage wherever they are.
            wrong[at] = 0xE8;
            check_hash(&wrong).unwrap_err();
        }
        for other in ["{\"add\":{}}", "{\"commitInfo\":{}}", ""] {
            let other = Bytes::copy_from_slice(other.as_bytes());
            assert_eq!(with_hash_in_commit(&other), other);
            check_hash(&other).unwrap();
        }
        check_hash(&with_hash(&Bytes::from_static(b"{\"version\":3}"))).unwrap();
        check_hash(b"{\"add\":").unwrap_err();
    }
}
