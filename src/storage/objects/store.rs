//! Where tables, audiences, models and the catalog's file lie: a folder of this machine, or a prefix of a bucket.

use std::sync::Arc;

use bytes::Bytes;
use datafusion::execution::object_store::ObjectStoreUrl;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{Error as StoreError, ObjectStore, ObjectStoreExt, PutMode, PutOptions, UpdateVersion};
use portrait_udfs::error::{Code, Error, Result};

use super::proof;
use super::remote::Remote;
use super::s3::{S3Place, connect};
use crate::storage::checked::Checked;
use crate::storage::durable::DurableLocal;
use crate::storage::store_error;

/// A store of this server's own.
#[derive(Debug, Clone)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    place: Place,
    /// Whether what nobody names may be removed: not where another server may be about to name it.
    sweeps: bool,
    /// What it is called where several are read from.
    host: &'static str,
}

/// The store of tables that stay, and that of tables that end with their session.
const KEPT: &str = "data";
const TEMPORARY: &str = "temporary";

#[derive(Debug, Clone)]
enum Place {
    Folder(DurableLocal),
    Remote(Remote),
}

/// What a file was when it was last read or written.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tag {
    /// `None`: there was none.
    seen: Option<UpdateVersion>,
    /// What was written meanwhile, or perhaps not: the store did not say.
    doubtful: Option<blake3::Hash>,
}

impl Store {
    /// A folder of this machine.
    pub(crate) fn folder(local: DurableLocal) -> Self {
        Self { objects: Arc::new(Checked::new(Arc::new(local.clone()))), place: Place::Folder(local), sweeps: true, host: KEPT }
    }

    /// A folder of this machine for what ends with this process: nothing of it is fsynced, and nothing is there yet.
    ///
    /// # Errors
    /// When the folder cannot be emptied or made.
    pub(crate) fn temporary(folder: &std::path::Path) -> Result<Self> {
        match std::fs::remove_dir_all(folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let local = DurableLocal::open(folder)?.without_sync();
        // Nobody else writes here, and nothing of an earlier process is left.
        Ok(Self { objects: Arc::new(Checked::new(Arc::new(local.clone()))), place: Place::Folder(local), sweeps: false, host: TEMPORARY })
    }

    /// The name under which a runtime knows the store.
    pub(crate) fn url(&self) -> datafusion::common::Result<ObjectStoreUrl> {
        ObjectStoreUrl::parse(format!("portrait://{}", self.host))
    }

    /// Whether what lies in it ends with this process.
    pub(crate) fn is_temporary(&self) -> bool {
        self.host == TEMPORARY
    }

    /// `s3://bucket/prefix`. A store that does not keep what commits rest on is opened for reading only, with a warning.
    ///
    /// # Errors
    /// 22023 for what is no such location or a bucket that does not exist, 42501 when the store refuses the server's credentials,
    /// 58030 when it does not answer.
    pub async fn remote(location: &str) -> Result<Self> {
        let place = S3Place::parse(location)?;
        if place.key.contains(['*', '?', '[']) {
            return Err(Error::invalid(format!("\"{location}\" is not a prefix")));
        }
        let (prefix, bucket) = (place.path()?, connect(&place.bucket)?);
        let name = location.trim_end_matches('/').to_owned();
        Self::try_over(Arc::new(PrefixStore::new(bucket, prefix)), name).await
    }

    /// A store that may or may not keep its promises.
    pub(crate) async fn try_over(objects: Arc<dyn ObjectStore>, name: String) -> Result<Self> {
        let remote = Remote::new(objects, name);
        // Reading comes first: it tells a bucket that does not exist and credentials that are wrong.
        remote.list_with_delimiter(None).await.map_err(store_error)?;
        let wrong = proof::what_is_wrong(remote.inner()).await.map_err(|error| store_error(remote.in_words(error)))?;
        if let Some(wrong) = wrong {
            tracing::warn!(store = remote.name(), "{wrong} It is opened for reading only.");
            remote.refuse_writes(
                Error::new(Code::ReadOnly, format!("the store \"{}\" is open for reading only", remote.name()))
                    .detail(wrong)
                    .hint("Writing needs a store with conditional puts (If-None-Match and If-Match), and credentials that may write."),
            );
        }
        let sweeps = wrong.is_none();
        Ok(Self { objects: Arc::new(Checked::new(Arc::new(remote.clone()))), place: Place::Remote(remote), sweeps, host: KEPT })
    }

    /// A store of a test's, taken as it is.
    #[cfg(test)]
    pub(crate) fn over(objects: &Arc<dyn ObjectStore>) -> Self {
        let remote = Remote::new(Arc::clone(objects), "test".into());
        Self { objects: Arc::new(Checked::new(Arc::clone(objects))), place: Place::Remote(remote), sweeps: true, host: KEPT }
    }

    /// The objects, by their paths below the store's place.
    pub(crate) fn objects(&self) -> &Arc<dyn ObjectStore> {
        &self.objects
    }

    /// Its name, where other servers may reach it too.
    pub(crate) fn shared_name(&self) -> Option<&str> {
        match &self.place {
            Place::Folder(_) => None,
            Place::Remote(remote) => Some(remote.name()),
        }
    }

    /// # Errors
    /// Why nothing may be written: 25006, or 55000 once another server has taken it over.
    pub(crate) fn may_write(&self) -> Result<()> {
        match &self.place {
            Place::Folder(_) => Ok(()),
            Place::Remote(remote) => remote.may_write(),
        }
    }

    /// The failure of this store that a text repeats, whole.
    pub(crate) fn failure_in(&self, text: &str) -> Option<Error> {
        match &self.place {
            Place::Folder(_) => None,
            Place::Remote(remote) => remote.failure_in(text),
        }
    }

    /// From now on every write is this error.
    pub(crate) fn refuse_writes(&self, why: Error) {
        if let Place::Remote(remote) = &self.place {
            remote.refuse_writes(why);
        }
    }

    /// Whether what nobody names may be removed.
    pub(crate) fn sweeps(&self) -> bool {
        self.sweeps
    }

    /// Leaves alone what nobody names: another server may be about to name it.
    pub(crate) fn without_sweeps(mut self) -> Self {
        self.sweeps = false;
        self
    }

    /// Removes files that were being written when the process was killed.
    pub(crate) fn sweep_staged(&self) -> Result<usize> {
        match &self.place {
            Place::Folder(local) => Ok(local.sweep_staged()?),
            // An object is there whole or not at all.
            Place::Remote(_) => Ok(0),
        }
    }

    /// A small file and what it was; `None` when there is none.
    pub(crate) async fn read(&self, path: &Path) -> Result<Option<(Bytes, Tag)>> {
        let found = match self.objects.get(path).await {
            Ok(found) => found,
            Err(StoreError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(store_error(error)),
        };
        let seen = UpdateVersion { e_tag: found.meta.e_tag.clone(), version: found.meta.version.clone() };
        let bytes = found.bytes().await.map_err(store_error)?;
        Ok(Some((bytes, Tag { seen: Some(seen), doubtful: None })))
    }

    /// Whether a file is what `tag` says; also when that cannot be told.
    pub(crate) async fn is_still(&self, path: &Path, tag: &Tag) -> Result<bool> {
        let Some(seen) = tag.seen.as_ref().filter(|_| tag.doubtful.is_none()) else { return Ok(true) };
        match self.objects.head(path).await {
            Ok(meta) => Ok(meta.e_tag == seen.e_tag),
            Err(StoreError::NotFound { .. }) => Ok(false),
            Err(error) => Err(store_error(error)),
        }
    }

    /// Replaces a small file that is what `tag` says; `tag` says then what it is.
    ///
    /// # Errors
    /// 40001 when another server changed it; failures of the store.
    pub(crate) async fn replace(&self, path: &Path, bytes: Bytes, tag: &mut Tag) -> Result<()> {
        if let Place::Folder(_) = &self.place {
            // Locked: nobody else writes here.
            self.objects.put_opts(path, bytes.into(), PutOptions::default()).await.map_err(store_error)?;
            return Ok(());
        }
        let hash = blake3::hash(&bytes);
        loop {
            let mode = tag.seen.clone().map_or(PutMode::Create, PutMode::Update);
            match self.objects.put_opts(path, bytes.clone().into(), mode.into()).await {
                Ok(put) => {
                    *tag = Tag { seen: Some(UpdateVersion { e_tag: put.e_tag, version: put.version }), doubtful: None };
                    return Ok(());
                }
                Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }) => {
                    // What is there may be a write of ours that was given up, and landed after all.
                    let doubtful = tag.doubtful.take();
                    match self.read(path).await? {
                        Some((found, seen)) if doubtful.is_some_and(|hash| hash == blake3::hash(&found)) => *tag = seen,
                        _ => return Err(Error::new(Code::Serialization, format!("file \"{path}\" was changed by another server"))),
                    }
                }
                Err(error) => {
                    tag.doubtful = Some(hash);
                    return Err(store_error(error));
                }
            }
        }
    }

    /// Removes everything below `folder`.
    pub(crate) async fn remove_folder(&self, folder: &Path) -> Result<()> {
        if let Place::Folder(local) = &self.place {
            return remove_folder_now(local, folder);
        }
        let found = self.objects.list(Some(folder)).map_ok(|meta| meta.location).boxed();
        self.objects.delete_stream(found).try_for_each(|_| std::future::ready(Ok(()))).await.map_err(store_error)
    }

    /// Removes everything below `folder`, behind the caller's back where that takes a while. What cannot be removed now is swept
    /// at the next start.
    pub(crate) fn remove_folder_later(&self, folder: &Path) {
        let warn = |error: Error, folder: &Path| tracing::warn!(%error, %folder, "folder of a dropped table not removed");
        if let Place::Folder(local) = &self.place {
            if let Err(error) = remove_folder_now(local, folder) {
                warn(error, folder);
            }
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (store, folder) = (self.clone(), folder.clone());
        runtime.spawn(async move {
            if let Err(error) = store.remove_folder(&folder).await {
                warn(error, &folder);
            }
        });
    }
}

fn remove_folder_now(local: &DurableLocal, folder: &Path) -> Result<()> {
    match std::fs::remove_dir_all(local.root().join(folder.as_ref())) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::super::faults::{Fault, Faulty};
    use super::*;

    fn path() -> Path {
        Path::from("catalog/catalog.json")
    }

    async fn open(store: &Faulty) -> Store {
        Store::try_over(Arc::new(store.clone()), "s3://bucket/p".into()).await.unwrap()
    }

    #[tokio::test]
    async fn of_two_servers_the_second_to_write_is_refused() {
        let faulty = Faulty::over(Arc::new(InMemory::new()));
        let (one, two) = (open(&faulty).await, open(&faulty).await);
        let (mut first, mut second) = (Tag::default(), Tag::default());
        one.replace(&path(), "a".into(), &mut first).await.unwrap();
        let error = two.replace(&path(), "b".into(), &mut second).await.unwrap_err();
        assert_eq!(error.code, Code::Serialization);
        let (_, mut second) = two.read(&path()).await.unwrap().unwrap();
        two.replace(&path(), "b".into(), &mut second).await.unwrap();
        assert_eq!(one.replace(&path(), "c".into(), &mut first).await.unwrap_err().code, Code::Serialization);
        assert_eq!(one.read(&path()).await.unwrap().unwrap().0, Bytes::from_static(b"b"));
    }

    #[tokio::test]
    async fn a_replacement_whose_answer_is_lost_happens_once() {
        for late in [false, true] {
            let sound = Faulty::over(Arc::new(InMemory::new()));
            let store = open(&sound).await;
            let mut tag = Tag::default();
            store.replace(&path(), "a".into(), &mut tag).await.unwrap();
            for call in 0..2 {
                // Over the client that fails, with the settling above it.
                let faulty = Remote::new(Arc::new(sound.failing(Fault { call, late })), "s3://bucket/p".into());
                let broken = Store { objects: Arc::new(faulty.clone()), place: Place::Remote(faulty), sweeps: true, host: KEPT };
                broken.replace(&path(), format!("{late} {call}").into(), &mut tag).await.unwrap();
                broken.replace(&path(), format!("{late} {call} again").into(), &mut tag).await.unwrap();
            }
        }
    }

    #[tokio::test]
    async fn a_write_that_was_given_up_and_landed_is_not_anothers() {
        let store = open(&Faulty::over(Arc::new(InMemory::new()))).await;
        let mut tag = Tag::default();
        store.replace(&path(), "a".into(), &mut tag).await.unwrap();
        let mut stale = Tag { doubtful: Some(blake3::hash(b"b")), ..tag.clone() };
        store.replace(&path(), "b".into(), &mut tag).await.unwrap();
        store.replace(&path(), "c".into(), &mut stale).await.unwrap();
        assert_eq!(store.read(&path()).await.unwrap().unwrap().0, Bytes::from_static(b"c"));
    }

    #[tokio::test]
    async fn a_store_that_ignores_conditions_is_opened_for_reading() {
        let memory = Arc::new(InMemory::new());
        memory.put(&Path::from("tables/x"), "1".into()).await.unwrap();
        let store = open(&Faulty::over(Arc::clone(&memory)).lenient()).await;
        let error = store.may_write().unwrap_err();
        assert_eq!((error.code, error.detail.as_deref()), (Code::ReadOnly, Some("The store lets a key be created twice.")));
        let put = store.objects().put(&Path::from("tables/y"), "2".into()).await.unwrap_err();
        assert_eq!(store_error(put).code, Code::ReadOnly);
        assert_eq!(store.remove_folder(&Path::from("tables")).await.unwrap_err().code, Code::ReadOnly);
        assert!(!store.sweeps());
        let left: Vec<_> = memory.list(None).map_ok(|meta| meta.location.to_string()).try_collect().await.unwrap();
        assert_eq!(left, ["tables/x"], "and the trial leaves nothing");
        assert_eq!(store.read(&Path::from("tables/x")).await.unwrap().unwrap().0, Bytes::from_static(b"1"));
    }

    #[tokio::test]
    async fn folders_are_removed_whole() {
        let memory = Arc::new(InMemory::new());
        for key in ["tables/a/1", "tables/a/b/2", "tables/ab/3"] {
            memory.put(&Path::from(key), "x".into()).await.unwrap();
        }
        open(&Faulty::over(Arc::clone(&memory))).await.remove_folder(&Path::from("tables/a")).await.unwrap();
        let left: Vec<_> = memory.list(None).map_ok(|meta| meta.location.to_string()).try_collect().await.unwrap();
        assert_eq!(left, ["tables/ab/3"]);
    }
}
