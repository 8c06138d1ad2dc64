//! What tests of the registry need: the sample without errors, and a store that fails.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, PutMultipartOptions,
    PutOptions, PutPayload, PutResult,
};

pub(crate) use super::sample::{publish, request};
use super::{Manifest, Registry, sample};
use crate::models::Parameters;

/// The sample's manifest.
pub(crate) fn manifest() -> Manifest {
    sample::manifest().unwrap()
}

/// The sample's weights by `seed`.
pub(crate) fn parameters(manifest: &Manifest, seed: u32) -> Parameters {
    sample::parameters(manifest, seed).unwrap()
}

/// The registry on `store`.
pub(crate) async fn open(store: &Arc<InMemory>) -> Registry {
    sample::open(store).await.unwrap()
}

/// Flips one bit of the file that ends with `ending`, and gives its path.
pub(crate) async fn flip(store: &InMemory, ending: &str, at: usize) -> Path {
    let all: Vec<ObjectMeta> = store.list(None).try_collect().await.unwrap();
    let path = all.into_iter().map(|meta| meta.location).filter(|path| path.as_ref().ends_with(ending)).max().unwrap();
    let mut bytes = store.get(&path).await.unwrap().bytes().await.unwrap().to_vec();
    let at = at % bytes.len();
    bytes[at] ^= 0x10;
    store.put(&path, bytes.into()).await.unwrap();
    path
}

/// How a [`FaultStore`] fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The process dies: this write and all later ones do nothing.
    Crash,
    /// The write fails and does nothing; later ones work.
    Refuse,
    /// The write happens and its reply is lost.
    LoseReply,
}

/// A store whose n-th write (puts and deletes, from 0) goes wrong.
#[derive(Debug)]
pub(crate) struct FaultStore {
    inner: Arc<InMemory>,
    fault: Fault,
    at: usize,
    writes: AtomicUsize,
}

impl FaultStore {
    pub(crate) fn new(inner: &Arc<InMemory>, fault: Fault, at: usize) -> Arc<Self> {
        Arc::new(Self { inner: Arc::clone(inner), fault, at, writes: AtomicUsize::new(0) })
    }

    /// Whether the fault has happened.
    pub(crate) fn struck(&self) -> bool {
        self.writes.load(Ordering::SeqCst) > self.at
    }

    /// Counts a write: whether it may happen, and whether its reply arrives.
    fn write(&self) -> (bool, bool) {
        let number = self.writes.fetch_add(1, Ordering::SeqCst);
        match self.fault {
            Fault::Crash => (number < self.at, number < self.at),
            Fault::Refuse => (number != self.at, number != self.at),
            Fault::LoseReply => (true, number != self.at),
        }
    }
}

fn failure() -> object_store::Error {
    object_store::Error::Generic { store: "FaultStore", source: "the write failed".into() }
}

impl fmt::Display for FaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultStore({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for FaultStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> object_store::Result<PutResult> {
        let (happens, heard) = self.write();
        if !happens {
            return Err(failure());
        }
        let done = self.inner.put_opts(location, payload, options).await?;
        if heard { Ok(done) } else { Err(failure()) }
    }

    async fn put_multipart_opts(&self, path: &Path, options: PutMultipartOptions) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, object_store::Result<Path>>) -> BoxStream<'static, object_store::Result<Path>> {
        let (happens, heard) = self.write();
        if !happens {
            return stream::once(async { Err(failure()) }).boxed();
        }
        let done = self.inner.delete_stream(locations);
        if heard { done } else { done.map(|_| Err(failure())).boxed() }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
