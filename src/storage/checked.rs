//! A store that believes nothing it reads of tables until its checksums are right.
//!
//! It stands before the store of this server, a folder or a bucket, and looks at three kinds of files below `tables/`: Parquet files,
//! whose blocks are checked as they are read; commits of Delta's log; and Delta's hint where the newest checkpoint is, which counts
//! as missing when it is damaged. All others go through: they have checks of their own. Files of other programs have no checksums
//! and are read as they are; a Parquet file whose name says that it has them must have them.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error as StoreError, GetOptions, GetRange, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};
use parking_lot::Mutex;
use portrait_udfs::error::{Code, Error};

use super::checksums::{Table, check_hash, with_hash, with_hash_in_commit, with_table};

const STORE: &str = "Checked";
/// What names of files end with that have checksums.
pub(crate) const CHECKED_SUFFIX: &str = ".crc.zstd.parquet";
/// Read of a file's end at first: footer and table of most files.
const END_BYTES: u64 = 64 << 10;
/// Tables that are kept in memory.
const TABLES_BYTES: usize = 32 << 20;

/// Checks what is read of tables.
#[derive(Debug, Clone)]
pub(crate) struct Checked {
    inner: Arc<dyn ObjectStore>,
    tables: Arc<Mutex<Tables>>,
}

/// Tables of files, by their paths: a file once written is never changed. `None`: it has none.
#[derive(Debug, Default)]
struct Tables {
    known: HashMap<Path, Option<Arc<Table>>>,
    bytes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Parquet,
    Checkpoint,
    Commit,
    Hint,
    Other,
}

fn kind_of(location: &Path) -> Kind {
    let text = location.as_ref();
    let log = text.contains("_delta_log/");
    match text.rsplit('/').next() {
        _ if !text.starts_with("tables/") => Kind::Other,
        Some("_last_checkpoint") if log => Kind::Hint,
        Some(name) if log && name.ends_with(".json") => Kind::Commit,
        Some(name) if name.ends_with(".parquet") => {
            if log {
                Kind::Checkpoint
            } else {
                Kind::Parquet
            }
        }
        _ => Kind::Other,
    }
}

impl Checked {
    pub(crate) fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self { inner, tables: Arc::default() }
    }

    /// The checksums of a Parquet file; `None` where it has none.
    async fn table(&self, location: &Path) -> Result<Option<Arc<Table>>> {
        if let Some(known) = self.tables.lock().known.get(location) {
            return Ok(known.clone());
        }
        let mut wanted = END_BYTES;
        let table = loop {
            // One request, where a request is what takes time.
            let end = GetOptions { range: Some(GetRange::Suffix(wanted)), ..GetOptions::default() };
            let end = self.inner.get_opts(location, end).await?;
            let size = end.meta.size;
            match Table::read(size, &end.bytes().await?).map_err(|what| damaged(location, what))? {
                Ok(table) => break table.map(Arc::new),
                Err(more) => wanted = more,
            }
        };
        if table.is_none() && location.as_ref().ends_with(CHECKED_SUFFIX) {
            return Err(damaged(location, "its checksums are gone"));
        }
        let mut tables = self.tables.lock();
        if tables.bytes > TABLES_BYTES {
            *tables = Tables::default();
        }
        tables.bytes += location.as_ref().len() + table.as_ref().map_or(0, |table| table.bytes());
        tables.known.insert(location.clone(), table.clone());
        Ok(table)
    }

    fn forget(&self, location: &Path) {
        self.tables.lock().known.remove(location);
    }

    /// Reads a range with what must be read to check it.
    async fn get_blocks(&self, location: &Path, options: GetOptions, table: &Table) -> Result<GetResult> {
        let range = match &options.range {
            None => 0..table.size(),
            Some(range) => range.as_range(table.size()).map_err(|error| generic(Error::internal(error.to_string())))?,
        };
        let wide = table.widen(&range);
        let found = self.inner.get_opts(location, GetOptions { range: Some(GetRange::Bounded(wide.clone())), ..options }).await?;
        let (meta, attributes) = (found.meta.clone(), found.attributes.clone());
        let bytes = checked(location, table, wide.start, found.bytes().await?)?;
        Ok(whole_result(cut(&bytes, wide.start, &range), range, meta, attributes))
    }

    /// Reads JSON that carries its hash.
    async fn get_hashed(&self, location: &Path, options: GetOptions, kind: Kind) -> Result<GetResult> {
        let range = options.range.clone();
        let found = self.inner.get_opts(location, GetOptions { range: None, ..options }).await?;
        let (meta, attributes) = (found.meta.clone(), found.attributes.clone());
        let bytes = found.bytes().await?;
        if let Err(what) = check_hash(&bytes) {
            let error = damaged(location, &what);
            if kind != Kind::Hint {
                return Err(error);
            }
            tracing::warn!(%error, "it is done without");
            return Err(StoreError::NotFound { path: location.to_string(), source: Box::new(error) });
        }
        let size = bytes.len() as u64;
        let range = match range {
            None => 0..size,
            Some(range) => range.as_range(size).map_err(|error| generic(Error::internal(error.to_string())))?,
        };
        Ok(whole_result(cut(&bytes, 0, &range), range, meta, attributes))
    }
}

/// Bytes that were read of a file, once they are known to be right.
fn checked(location: &Path, table: &Table, at: u64, bytes: Bytes) -> Result<Bytes> {
    match table.check(at, &bytes) {
        Ok(()) => Ok(bytes),
        Err(wrong) => Err(damaged(location, &format!("the checksum of bytes {} to {} is wrong", wrong.start, wrong.end))),
    }
}

/// `range` of bytes that begin at `at`.
fn cut(bytes: &Bytes, at: u64, range: &Range<u64>) -> Bytes {
    let place = |position: u64| usize::try_from(position.saturating_sub(at)).unwrap_or(usize::MAX).min(bytes.len());
    bytes.slice(place(range.start)..place(range.end))
}

fn whole_result(bytes: Bytes, range: Range<u64>, meta: ObjectMeta, attributes: object_store::Attributes) -> GetResult {
    let payload = GetResultPayload::Stream(futures::stream::once(std::future::ready(Ok(bytes))).boxed());
    GetResult { payload, meta, range, attributes }
}

fn generic(error: Error) -> StoreError {
    StoreError::Generic { store: STORE, source: Box::new(error) }
}

fn damaged(location: &Path, what: &str) -> StoreError {
    let error = Error::new(Code::DataCorrupted, format!("file \"{location}\" is damaged: {what}"));
    generic(error.hint("Restore the file from a backup."))
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{STORE}({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for Checked {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let payload = match kind_of(location) {
            Kind::Commit => with_hash_in_commit(&payload.into()).into(),
            Kind::Hint => with_hash(&payload.into()).into(),
            Kind::Checkpoint => with_table(&payload.into()).into(),
            Kind::Parquet | Kind::Other => payload,
        };
        self.forget(location);
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(&self, location: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.forget(location);
        if kind_of(location) == Kind::Checkpoint {
            return Ok(Box::new(Gathered { store: self.clone(), location: location.clone(), parts: Vec::new() }));
        }
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let kind = kind_of(location);
        if options.head || kind == Kind::Other {
            return self.inner.get_opts(location, options).await;
        }
        if matches!(kind, Kind::Commit | Kind::Hint) {
            return self.get_hashed(location, options, kind).await;
        }
        match self.table(location).await? {
            Some(table) => self.get_blocks(location, options, &table).await,
            None => self.inner.get_opts(location, options).await,
        }
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let kind = kind_of(location);
        let table = match kind {
            Kind::Parquet | Kind::Checkpoint => self.table(location).await?,
            _ => None,
        };
        let Some(table) = table else { return self.inner.get_ranges(location, ranges).await };
        let wide = joined(ranges.iter().map(|range| table.widen(range)).collect());
        let read = self.inner.get_ranges(location, &wide).await?;
        let mut right = Vec::with_capacity(read.len());
        for (range, bytes) in wide.iter().zip(read) {
            right.push((range.start, checked(location, &table, range.start, bytes)?));
        }
        let find = |range: &Range<u64>| {
            let at = right.partition_point(|(start, _)| *start <= range.start).saturating_sub(1);
            right.get(at).map_or_else(Bytes::new, |(start, bytes)| cut(bytes, *start, range))
        };
        Ok(ranges.iter().map(find).collect())
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let tables = Arc::clone(&self.tables);
        let locations = locations.inspect(move |location| {
            if let Ok(location) = location {
                tables.lock().known.remove(location);
            }
        });
        self.inner.delete_stream(locations.boxed())
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await
    }
}

/// Ranges in order; those that share blocks become one.
fn joined(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_unstable_by_key(|range| range.start);
    let mut out: Vec<Range<u64>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match out.last_mut().filter(|last| range.start < last.end) {
            Some(last) => last.end = last.end.max(range.end),
            None => out.push(range),
        }
    }
    out
}

/// A checkpoint that comes in parts: its footer is known only when it is whole, and it was in memory anyway.
#[derive(Debug)]
struct Gathered {
    store: Checked,
    location: Path,
    parts: Vec<Bytes>,
}

#[async_trait]
impl MultipartUpload for Gathered {
    fn put_part(&mut self, payload: PutPayload) -> UploadPart {
        self.parts.push(payload.into());
        Box::pin(std::future::ready(Ok(())))
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let whole: Bytes = self.parts.concat().into();
        self.store.put_opts(&self.location, whole.into(), PutOptions::default()).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.parts.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use object_store::ObjectStoreExt;
    use object_store::memory::InMemory;

    use super::*;

    fn file(rows: usize) -> Bytes {
        let mut file: Vec<u8> = (0..rows).map(|at| u8::try_from(at * 7919 % 251).unwrap()).collect();
        file.extend_from_slice(&[7; 100]);
        file.extend_from_slice(&100_u32.to_le_bytes());
        file.extend_from_slice(b"PAR1");
        file.into()
    }

    async fn stored(path: &Path, bytes: Bytes) -> Checked {
        let memory = InMemory::new();
        memory.put(path, bytes.into()).await.unwrap();
        Checked::new(Arc::new(memory))
    }

    fn over(memory: &Arc<InMemory>) -> Checked {
        let objects: Arc<dyn ObjectStore> = Arc::<InMemory>::clone(memory);
        Checked::new(objects)
    }

    #[tokio::test]
    async fn ranges_are_those_of_the_file() {
        let (path, whole) = (Path::from("tables/t/part-1.crc.zstd.parquet"), with_table(&file(300_000)));
        let store = stored(&path, whole.clone()).await;
        let size = whole.len() as u64;
        let ranges = [200_000..200_100, 0..10, 5..16_500, 16_384..16_385, 299_990..size, size - 8..size, 32_768..49_152];
        for (range, read) in ranges.iter().zip(store.get_ranges(&path, &ranges).await.unwrap()) {
            assert_eq!(read, cut(&whole, 0, range), "{range:?}");
            assert_eq!(store.get_range(&path, range.clone()).await.unwrap(), read, "{range:?}");
        }
        assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), whole);
        assert_eq!(store.get_opts(&path, GetOptions::new().with_range(Some(GetRange::Suffix(8)))).await.unwrap().range, size - 8..size);
    }

    #[tokio::test]
    async fn damage_is_an_error_with_the_name_of_the_file() {
        let path = Path::from("tables/t/part-1.crc.zstd.parquet");
        let mut wrong = with_table(&file(300_000)).to_vec();
        wrong[100_000] ^= 4;
        let store = stored(&path, wrong.into()).await;
        store.get_range(&path, 0..98_304).await.unwrap();
        for error in [
            store.get_range(&path, 98_304..98_305).await.unwrap_err(),
            store.get_ranges(&path, &[0..1, 99_000..120_000]).await.unwrap_err(),
        ] {
            let error = crate::storage::store_error(error);
            assert!(error.code == Code::DataCorrupted && error.message.contains("part-1.crc") && error.hint.is_some(), "{error:?}");
        }
        // Without checksums: an error where there must be some, and as it is where another program wrote it.
        let store = stored(&path, file(1000)).await;
        store.get_range(&path, 0..1).await.unwrap_err();
        let foreign = Path::from("tables/t/part-1.snappy.parquet");
        assert_eq!(stored(&foreign, file(1000)).await.get(&foreign).await.unwrap().bytes().await.unwrap(), file(1000));
    }

    #[tokio::test]
    async fn what_delta_writes_is_hashed_and_checked() {
        let memory = Arc::new(InMemory::new());
        let store = over(&memory);
        let (commit, hint) =
            (Path::from("tables/t/_delta_log/00000000000000000000.json"), Path::from("tables/t/_delta_log/_last_checkpoint"));
        let checkpoint = Path::from("tables/t/_delta_log/00000000000000000000.checkpoint.parquet");
        store.put(&commit, "{\"commitInfo\":{\"operation\":\"WRITE\"}}\n".into()).await.unwrap();
        store.put(&hint, "{\"version\":3,\"size\":4}".into()).await.unwrap();
        let mut upload = store.put_multipart(&checkpoint).await.unwrap();
        let whole = file(40_000);
        for part in [whole.slice(..39_999), whole.slice(39_999..)] {
            upload.put_part(part.into()).await.unwrap();
        }
        upload.complete().await.unwrap();
        for path in [&commit, &hint, &checkpoint] {
            let mut bytes = memory.get(path).await.unwrap().bytes().await.unwrap().to_vec();
            assert_eq!(store.get(path).await.unwrap().bytes().await.unwrap(), bytes);
            // A digit or letter that JSON does not miss.
            let at = bytes.iter().rposition(|byte| *byte == b'3' || *byte == b'W' || *byte == 9).unwrap();
            bytes[at] ^= 1;
            memory.put(path, bytes.into()).await.unwrap();
            let error = over(&memory).get(path).await.unwrap_err();
            assert_eq!(matches!(error, StoreError::NotFound { .. }), path == &hint, "{error}");
        }
    }
}
