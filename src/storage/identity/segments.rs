//! Changes of links as files, `identities/<first>-<last>.links`: each written once, with the numbers of the changes that it holds.
//!
//! A file is a magic number, the numbers of its first and last change, its steps, and a BLAKE3 hash of all that. A step is a byte
//! that says link or unlink, the ids with their lengths in LEB128, and for a link its source (length + 1; 0 = none) and time. Files
//! that follow one another are joined to one that takes their place under a name that covers theirs: whoever finds both reads the
//! wider one.

use std::cmp::Reverse;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path as FsPath;

use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStoreExt};
use portrait_udfs::error::{Code, Error, Result};

use crate::storage::{DurableLocal, store_error};

const FOLDER: &str = "identities";
const MAGIC: &[u8; 8] = b"PLINKS\0\x01";
/// Magic, first and last change.
const HEADER_BYTES: u64 = 8 + 8 + 8;
const HASH_BYTES: u64 = 32;
/// Bytes that are written or copied at once.
pub(super) const PIECE_BYTES: usize = 1 << 20;
/// Files that are joined at once, at least.
const RUN: usize = 8;
/// A file this small is joined with whatever follows it.
const SMALL_BYTES: u64 = 4096;

/// One change of one link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step<'a> {
    Link { ids: [&'a str; 2], source: Option<&'a str>, at_us: i64 },
    Unlink { ids: [&'a str; 2] },
}

/// A file of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) bytes: u64,
}

impl Segment {
    fn path(&self) -> Path {
        Path::from(format!("{FOLDER}/{:020}-{:020}.links", self.first, self.last))
    }

    fn parse(name: &str, bytes: u64) -> Option<Self> {
        let (first, last) = name.strip_suffix(".links")?.split_once('-')?;
        Some(Self { first: first.parse().ok()?, last: last.parse().ok()?, bytes })
    }

    fn damaged(&self, what: &str) -> Error {
        Error::new(Code::DataCorrupted, format!("file \"{}\" is damaged: {what}", self.path()))
    }
}

/// The files that hold all changes, in order; others, which an interrupted process left, are removed. Call only while nothing else
/// works in the folder.
///
/// # Errors
/// XX001 when changes are missing.
pub(super) fn list(store: &DurableLocal) -> Result<Vec<Segment>> {
    let folder = store.root().join(FOLDER);
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        found.extend(Segment::parse(&entry.file_name().to_string_lossy(), entry.metadata()?.len()));
    }
    found.sort_by_key(|segment| (segment.first, Reverse(segment.last)));
    let mut kept: Vec<Segment> = Vec::new();
    for segment in found {
        let next = kept.last().map_or(1, |last| last.last + 1);
        if segment.last < next {
            std::fs::remove_file(store.root().join(segment.path().as_ref()))?;
        } else if segment.first == next {
            kept.push(segment);
        } else {
            let what = format!("the file with change {next} of the links between ids is missing");
            return Err(Error::new(Code::DataCorrupted, what).detail(format!("The next one is \"{}\".", segment.path())));
        }
    }
    Ok(kept)
}

/// Reads the steps of a file in order.
///
/// # Errors
/// XX001 naming the file; what `each` says.
pub(super) fn read(store: &DurableLocal, segment: &Segment, mut each: impl FnMut(Step<'_>) -> Result<()>) -> Result<()> {
    let mut body = Body::open(&store.root().join(segment.path().as_ref()), segment)?;
    let (mut a, mut b, mut source) = (String::new(), String::new(), String::new());
    while body.left > 0 {
        let kind = body.byte()?;
        let length = body.number()?;
        body.text(length, &mut a)?;
        let length = body.number()?;
        body.text(length, &mut b)?;
        let ids = [a.as_str(), b.as_str()];
        match kind {
            0 => each(Step::Unlink { ids })?,
            1 => {
                let from = match body.number()? {
                    0 => None,
                    length => {
                        body.text(length - 1, &mut source)?;
                        Some(source.as_str())
                    }
                };
                let mut at_us = [0; 8];
                body.take(&mut at_us)?;
                each(Step::Link { ids, source: from, at_us: i64::from_le_bytes(at_us) })?;
            }
            _ => return Err(segment.damaged("a step is neither a link nor its end")),
        }
    }
    body.close()
}

/// The steps of a file, hashed as they are read.
struct Body<'a> {
    input: BufReader<File>,
    hasher: blake3::Hasher,
    /// Bytes before the hash.
    left: u64,
    segment: &'a Segment,
}

impl<'a> Body<'a> {
    fn open(path: &FsPath, segment: &'a Segment) -> Result<Self> {
        let input = BufReader::with_capacity(PIECE_BYTES, File::open(path)?);
        let left = segment.bytes.checked_sub(HASH_BYTES).ok_or_else(|| segment.damaged("it is too short"))?;
        let mut body = Self { input, hasher: blake3::Hasher::new(), left, segment };
        let mut header = [0; HEADER_BYTES as usize];
        body.take(&mut header)?;
        if header != header_of(segment.first, segment.last) {
            return Err(segment.damaged("it is no file of links with that name, or a newer one"));
        }
        Ok(body)
    }

    fn take(&mut self, out: &mut [u8]) -> Result<()> {
        let cut = |_| self.segment.damaged("it is cut off");
        self.left = self.left.checked_sub(out.len() as u64).ok_or_else(|| self.segment.damaged("a step is cut off"))?;
        self.input.read_exact(out).map_err(cut)?;
        self.hasher.update(out);
        Ok(())
    }

    fn byte(&mut self) -> Result<u8> {
        let mut byte = [0];
        self.take(&mut byte)?;
        Ok(byte[0])
    }

    fn number(&mut self) -> Result<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(self.segment.damaged("a length is too long"))
    }

    fn text(&mut self, length: u64, out: &mut String) -> Result<()> {
        let length = usize::try_from(length).ok().filter(|length| *length as u64 <= self.left);
        let mut bytes = std::mem::take(out).into_bytes();
        bytes.resize(length.ok_or_else(|| self.segment.damaged("an id is cut off"))?, 0);
        self.take(&mut bytes)?;
        *out = String::from_utf8(bytes).map_err(|_| self.segment.damaged("an id is no text"))?;
        Ok(())
    }

    fn close(mut self) -> Result<()> {
        let mut hash = [0; HASH_BYTES as usize];
        self.input.read_exact(&mut hash).map_err(|_| self.segment.damaged("it is cut off"))?;
        let same = self.hasher.finalize().as_bytes() == &hash;
        if same && self.input.read(&mut [0])? == 0 { Ok(()) } else { Err(self.segment.damaged("its hash is wrong")) }
    }
}

fn header_of(first: u64, last: u64) -> [u8; HEADER_BYTES as usize] {
    let mut header = [0; HEADER_BYTES as usize];
    header[..8].copy_from_slice(MAGIC);
    header[8..16].copy_from_slice(&first.to_le_bytes());
    header[16..].copy_from_slice(&last.to_le_bytes());
    header
}

/// Appends a step's bytes.
pub(super) fn encode(step: Step<'_>, out: &mut Vec<u8>) {
    let number = |mut number: u64, out: &mut Vec<u8>| {
        while number >= 0x80 {
            out.push(number as u8 | 0x80);
            number >>= 7;
        }
        out.push(number as u8);
    };
    let text = |text: &str, out: &mut Vec<u8>| {
        number(text.len() as u64, out);
        out.extend_from_slice(text.as_bytes());
    };
    let (kind, ids) = match step {
        Step::Unlink { ids } => (0, ids),
        Step::Link { ids, .. } => (1, ids),
    };
    out.push(kind);
    ids.iter().for_each(|id| text(id, out));
    if let Step::Link { source, at_us, .. } = step {
        number(source.map_or(0, |source| source.len() as u64 + 1), out);
        out.extend_from_slice(source.unwrap_or_default().as_bytes());
        out.extend_from_slice(&at_us.to_le_bytes());
    }
}

/// A file that is being written. Dropped unfinished, nothing is left of it.
pub(super) struct Writer {
    upload: Box<dyn MultipartUpload>,
    waiting: Vec<u8>,
    hasher: blake3::Hasher,
    segment: Segment,
}

impl Writer {
    pub(super) async fn begin(store: &DurableLocal, first: u64, last: u64) -> Result<Self> {
        let segment = Segment { first, last, bytes: 0 };
        let upload = store.put_multipart(&segment.path()).await.map_err(store_error)?;
        let mut writer = Self { upload, waiting: Vec::new(), hasher: blake3::Hasher::new(), segment };
        writer.add(&header_of(first, last)).await?;
        Ok(writer)
    }

    /// Adds the bytes of steps.
    pub(super) async fn add(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        self.push(bytes).await
    }

    async fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.segment.bytes += bytes.len() as u64;
        self.waiting.extend_from_slice(bytes);
        if self.waiting.len() >= PIECE_BYTES {
            self.upload.put_part(std::mem::take(&mut self.waiting).into()).await.map_err(store_error)?;
        }
        Ok(())
    }

    /// Durable when it returns.
    pub(super) async fn finish(mut self) -> Result<Segment> {
        let hash = self.hasher.finalize();
        self.push(hash.as_bytes()).await?;
        if !self.waiting.is_empty() {
            self.upload.put_part(std::mem::take(&mut self.waiting).into()).await.map_err(store_error)?;
        }
        self.upload.complete().await.map_err(store_error)?;
        Ok(self.segment)
    }
}

/// Joins files that follow one another, step by step, to one.
pub(super) async fn join(store: &DurableLocal, segments: &[Segment]) -> Result<Segment> {
    let (Some(first), Some(last)) = (segments.first(), segments.last()) else { return Err(Error::internal("nothing to join")) };
    let mut writer = Writer::begin(store, first.first, last.last).await?;
    for segment in segments {
        let (mut hasher, end, mut at) = (blake3::Hasher::new(), segment.bytes.saturating_sub(HASH_BYTES), 0);
        while at < end {
            let piece = at..end.min(at + PIECE_BYTES as u64);
            let bytes = store.get_range(&segment.path(), piece.clone()).await.map_err(store_error)?;
            hasher.update(&bytes);
            // The header goes, the steps stay.
            let header = HEADER_BYTES.saturating_sub(at).min(bytes.len() as u64) as usize;
            writer.add(&bytes[header..]).await?;
            at = piece.end;
        }
        let hash = store.get_range(&segment.path(), end..segment.bytes).await.map_err(store_error)?;
        if hasher.finalize().as_bytes()[..] != hash[..] {
            return Err(segment.damaged("its hash is wrong"));
        }
    }
    writer.finish().await
}

/// Removes a file that another one covers; what cannot be removed now is removed at the next start.
pub(super) async fn remove(store: &DurableLocal, segment: &Segment) {
    if let Err(error) = store.delete(&segment.path()).await {
        tracing::debug!(%error, file = %segment.path(), "covered file of links not removed");
    }
}

/// From which file on all are to be joined: each step is so written as often as the number of files has digits.
pub(super) fn run_to_join(segments: &[Segment]) -> Option<usize> {
    let mut start = segments.len().checked_sub(1)?;
    let mut total = segments[start].bytes;
    while start > 0 && segments[start - 1].bytes <= total.max(SMALL_BYTES) {
        start -= 1;
        total += segments[start].bytes;
    }
    (segments.len() - start >= RUN).then_some(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEPS: [Step<'_>; 3] = [
        Step::Link { ids: ["cookie-1", "ü"], source: Some("login"), at_us: -5 },
        Step::Unlink { ids: ["a", "b"] },
        Step::Link { ids: ["x", "7"], source: None, at_us: i64::MAX },
    ];

    async fn write(store: &DurableLocal, first: u64, steps: &[Step<'_>]) -> Segment {
        let mut writer = Writer::begin(store, first, first).await.unwrap();
        let mut bytes = Vec::new();
        steps.iter().for_each(|step| encode(*step, &mut bytes));
        writer.add(&bytes).await.unwrap();
        writer.finish().await.unwrap()
    }

    fn texts(store: &DurableLocal, segment: &Segment) -> Result<Vec<String>> {
        let mut found = Vec::new();
        read(store, segment, |step| {
            found.push(format!("{step:?}"));
            Ok(())
        })?;
        Ok(found)
    }

    #[tokio::test]
    async fn steps_come_back_and_every_damage_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let store = DurableLocal::open(folder.path()).unwrap();
        let one = write(&store, 1, &STEPS).await;
        let two = write(&store, 2, &STEPS[1..2]).await;
        let joined = join(&store, &[one, two]).await.unwrap();
        let all = texts(&store, &joined).unwrap();
        assert_eq!(all[..3], STEPS.map(|step| format!("{step:?}")));
        assert_eq!(all[3], format!("{:?}", STEPS[1]));
        // The wider file wins, and the others go.
        assert_eq!(list(&store).unwrap(), [joined]);
        assert!(texts(&store, &one).is_err());
        let path = folder.path().join(joined.path().as_ref());
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len() as u64, joined.bytes);
        for place in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[place] ^= 0x10;
            std::fs::write(&path, &flipped).unwrap();
            assert_eq!(texts(&store, &joined).unwrap_err().code, Code::DataCorrupted, "byte {place}");
            std::fs::write(&path, &bytes[..place]).unwrap();
            let cut = Segment { bytes: place as u64, ..joined };
            assert_eq!(texts(&store, &cut).unwrap_err().code, Code::DataCorrupted, "cut at {place}");
        }
        write(&store, 4, &STEPS).await;
        let error = list(&store).unwrap_err();
        assert_eq!((error.code, error.message.contains("change 3")), (Code::DataCorrupted, true), "{error}");
    }

    #[test]
    fn files_are_joined_so_that_few_are_left() {
        let mut segments: Vec<Segment> = Vec::new();
        let (mut written, mut most) = (0, 0);
        for change in 1..=20_000_u64 {
            segments.push(Segment { first: change, last: change, bytes: 100 });
            if let Some(start) = run_to_join(&segments) {
                let bytes = segments[start..].iter().map(|segment| segment.bytes).sum();
                let joined = Segment { first: segments[start].first, last: change, bytes };
                segments.truncate(start);
                segments.push(joined);
                written += bytes;
            }
            most = most.max(segments.len());
        }
        assert!(most < 60, "{most} files");
        assert!(written < 2_000_000 * 20, "{written} bytes for 2000000");
    }
}
