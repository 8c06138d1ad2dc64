//! A store for tests: its `n`th call fails, before or after its effect; or it ignores the conditions of puts.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error as StoreError, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result as StoreResult, UploadPart,
};

/// Which call fails.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fault {
    /// The number of the call, counted from 0.
    pub(crate) call: usize,
    /// Whether it has its effect first.
    pub(crate) late: bool,
}

/// A store in memory that fails as it is told.
#[derive(Debug, Clone)]
pub(crate) struct Faulty {
    inner: Arc<InMemory>,
    calls: Arc<AtomicUsize>,
    fault: Arc<parking_lot::Mutex<Option<Fault>>>,
    lenient: bool,
}

impl std::fmt::Display for Faulty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Faulty")
    }
}

fn broken() -> StoreError {
    StoreError::Generic { store: "Faulty", source: "the store broke".into() }
}

impl Faulty {
    /// A sound store.
    pub(crate) fn over(inner: Arc<InMemory>) -> Self {
        Self { inner, calls: Arc::default(), fault: Arc::default(), lenient: false }
    }

    /// The same objects behind a store that fails; its calls are counted anew.
    pub(crate) fn failing(&self, fault: Fault) -> Self {
        Self { calls: Arc::default(), fault: Arc::new(parking_lot::Mutex::new(Some(fault))), ..self.clone() }
    }

    /// From now on this store and its copies fail like that; calls are counted anew.
    pub(crate) fn fail(&self, fault: Option<Fault>) {
        *self.fault.lock() = fault;
        self.calls.store(0, Ordering::Relaxed);
    }

    /// The same objects behind a store that ignores conditions.
    pub(crate) fn lenient(&self) -> Self {
        Self { lenient: true, ..self.clone() }
    }

    /// Calls so far.
    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    /// Counts a call; an error when it fails before its effect, true when it fails after it.
    fn begin(&self) -> StoreResult<bool> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        let fault = *self.fault.lock();
        match fault.filter(|fault| fault.call == call) {
            Some(Fault { late: false, .. }) => Err(broken()),
            Some(_) => Ok(true),
            None => Ok(false),
        }
    }

    fn end<T>(late: bool, result: StoreResult<T>) -> StoreResult<T> {
        if late && result.is_ok() { Err(broken()) } else { result }
    }
}

#[derive(Debug)]
struct FaultyUpload {
    inner: Box<dyn MultipartUpload>,
    store: Faulty,
}

#[async_trait]
impl MultipartUpload for FaultyUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        match self.store.begin() {
            Err(error) => Box::pin(std::future::ready(Err(error))),
            Ok(_) => self.inner.put_part(data),
        }
    }

    async fn complete(&mut self) -> StoreResult<PutResult> {
        let late = self.store.begin()?;
        Faulty::end(late, self.inner.complete().await)
    }

    async fn abort(&mut self) -> StoreResult<()> {
        self.inner.abort().await
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, location: &Path, payload: PutPayload, mut options: PutOptions) -> StoreResult<PutResult> {
        let late = self.begin()?;
        if self.lenient {
            options.mode = PutMode::Overwrite;
        }
        Self::end(late, self.inner.put_opts(location, payload, options).await)
    }

    async fn put_multipart_opts(&self, location: &Path, options: PutMultipartOptions) -> StoreResult<Box<dyn MultipartUpload>> {
        self.begin()?;
        Ok(Box::new(FaultyUpload { inner: self.inner.put_multipart_opts(location, options).await?, store: self.clone() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> StoreResult<GetResult> {
        let late = self.begin()?;
        Self::end(late, self.inner.get_opts(location, options).await)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> StoreResult<Vec<Bytes>> {
        let late = self.begin()?;
        Self::end(late, self.inner.get_ranges(location, ranges).await)
    }

    fn delete_stream(&self, locations: BoxStream<'static, StoreResult<Path>>) -> BoxStream<'static, StoreResult<Path>> {
        match self.begin() {
            Err(error) => futures::stream::once(std::future::ready(Err(error))).boxed(),
            Ok(false) => self.inner.delete_stream(locations),
            Ok(true) => self.inner.delete_stream(locations).map(|_| Err(broken())).boxed(),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        match self.begin() {
            Err(error) => futures::stream::once(std::future::ready(Err(error))).boxed(),
            Ok(_) => self.inner.list(prefix),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> StoreResult<ListResult> {
        let late = self.begin()?;
        Self::end(late, self.inner.list_with_delimiter(prefix).await)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> StoreResult<()> {
        let late = self.begin()?;
        Self::end(late, self.inner.copy_opts(from, to, options).await)
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> StoreResult<()> {
        let late = self.begin()?;
        Self::end(late, self.inner.rename_opts(from, to, options).await)
    }
}
