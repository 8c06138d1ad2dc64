//! A local object store that loses nothing it has acknowledged.
//!
//! `object_store`'s own `LocalFileSystem` never calls fsync: after a power cut an acknowledged file may be empty or
//! gone. Here a write goes to a staged file beside its target, is fsynced, then gets its name by `link` (create, fails
//! when the name is taken) or `rename` (overwrite), and the folder is fsynced, as is the parent of every folder that
//! had to be made. Reads are delegated. Listings come sorted, which Delta's log replay relies on.
//!
//! Staged files are called `<name>#<digits>`: the delegate hides such names from listings and refuses to open them,
//! so a half-written file is never seen. [`DurableLocal::sweep_staged`] removes what a killed process left.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyMode, CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};

const STORE: &str = "DurableLocal";

/// Local files under one folder, fsynced before they are acknowledged.
#[derive(Debug, Clone)]
pub struct DurableLocal {
    root: PathBuf,
    inner: LocalFileSystem,
    /// Whether files are fsynced.
    synced: bool,
}

impl DurableLocal {
    /// Opens `root`, making it (mode 0700) when it does not exist. Fails on a file system where "create unless it
    /// exists" does not work, since commits rest on it.
    pub fn open(root: &FsPath) -> portrait_udfs::error::Result<Self> {
        make_folder(root)?;
        let root = std::fs::canonicalize(root)?;
        let inner = LocalFileSystem::new_with_prefix(&root).map_err(super::store_error)?;
        self_test(&root)?;
        Ok(Self { root, inner, synced: true })
    }

    /// The same folder for files that nobody needs once this process has ended: nothing is fsynced.
    pub(crate) fn without_sync(self) -> Self {
        Self { synced: false, ..self }
    }

    /// The folder all paths are relative to; absolute, without symbolic links.
    pub fn root(&self) -> &FsPath {
        &self.root
    }

    /// Removes staged files that a killed process left. Call only while no other process writes here.
    pub fn sweep_staged(&self) -> io::Result<usize> {
        sweep_folder(&self.root)
    }

    /// Where a path of this store lies on the disk.
    pub fn file_path(&self, location: &Path) -> Result<PathBuf> {
        self.inner.path_to_filesystem(location)
    }
}

impl fmt::Display for DurableLocal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{STORE}({})", self.root.display())
    }
}

#[async_trait]
impl ObjectStore for DurableLocal {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let target = self.inner.path_to_filesystem(location)?;
        let create = match options.mode {
            PutMode::Create => true,
            PutMode::Overwrite => false,
            PutMode::Update(_) => {
                return Err(Error::NotImplemented {
                    operation: "`put_opts` with mode `PutMode::Update`".into(),
                    implementer: STORE.into(),
                });
            }
        };
        let synced = self.synced;
        blocking(move || {
            let mut staged = Staged::create(target, synced)?;
            payload.iter().try_for_each(|chunk| staged.file.write_all(chunk)).map_err(generic)?;
            staged.publish(create)
        })
        .await
    }

    async fn put_multipart_opts(&self, location: &Path, _options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let target = self.inner.path_to_filesystem(location)?;
        let synced = self.synced;
        let staged = blocking(move || Staged::create(target, synced)).await?;
        Ok(Box::new(DurableUpload { staged: Some(Arc::new(staged)), offset: 0 }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        sorted(self.inner.list(prefix))
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        sorted(self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let mut result = self.inner.list_with_delimiter(prefix).await?;
        result.objects.sort_by(|a, b| a.location.cmp(&b.location));
        Ok(result)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let (source, target) = (self.inner.path_to_filesystem(from)?, self.inner.path_to_filesystem(to)?);
        let (create, synced) = (matches!(options.mode, CopyMode::Create), self.synced);
        blocking(move || {
            let mut input = File::open(&source).map_err(|error| not_found(error, &source))?;
            let mut staged = Staged::create(target, synced)?;
            io::copy(&mut input, &mut staged.file).map_err(generic)?;
            staged.publish(create).map(|_| ())
        })
        .await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        let (source, target) = (self.inner.path_to_filesystem(from)?, self.inner.path_to_filesystem(to)?);
        let create = matches!(options.target_mode, object_store::RenameTargetMode::Create);
        blocking(move || {
            if !source.exists() {
                return Err(not_found(ErrorKind::NotFound.into(), &source));
            }
            make_folder(parent_of(&target)).map_err(generic)?;
            File::open(&source).and_then(|file| file.sync_all()).map_err(generic)?;
            if create {
                link_new(&source, &target)?
            } else {
                std::fs::rename(&source, &target).map_err(generic)?
            }
            sync_folder(parent_of(&target)).and_then(|()| sync_folder(parent_of(&source))).map_err(generic)
        })
        .await
    }
}

/// A file being written beside its target. Dropped unpublished, it disappears.
#[derive(Debug)]
struct Staged {
    file: File,
    staged: PathBuf,
    target: PathBuf,
    synced: bool,
    published: bool,
}

impl Staged {
    fn create(target: PathBuf, synced: bool) -> Result<Self> {
        make_folder_with(parent_of(&target), synced).map_err(generic)?;
        let mut name = target.file_name().unwrap_or_default().to_os_string();
        name.push(format!("#{}", rand::random::<u64>()));
        let staged = target.with_file_name(name);
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&staged).map_err(generic)?;
        Ok(Self { file, staged, target, synced, published: false })
    }

    fn publish(mut self, create: bool) -> Result<PutResult> {
        self.publish_ref(create)
    }

    fn publish_ref(&mut self, create: bool) -> Result<PutResult> {
        if self.synced {
            self.file.sync_all().map_err(generic)?;
        }
        if create {
            link_new(&self.staged, &self.target)?;
        } else {
            std::fs::rename(&self.staged, &self.target).map_err(generic)?;
        }
        self.published = true;
        if self.synced {
            sync_folder(parent_of(&self.target)).map_err(generic)?;
        }
        Ok(PutResult { e_tag: None, version: None })
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.published {
            // Nothing waits for this; what cannot be removed now is swept at the next start.
            let _ = std::fs::remove_file(&self.staged);
        }
    }
}

#[derive(Debug)]
struct DurableUpload {
    staged: Option<Arc<Staged>>,
    offset: u64,
}

#[async_trait]
impl MultipartUpload for DurableUpload {
    fn put_part(&mut self, payload: PutPayload) -> UploadPart {
        let offset = self.offset;
        self.offset += payload.content_length() as u64;
        let staged = self.staged.clone();
        Box::pin(async move {
            let staged = staged.ok_or_else(aborted)?;
            blocking(move || {
                let mut offset = offset;
                for chunk in payload.iter() {
                    staged.file.write_all_at(chunk, offset).map_err(generic)?;
                    offset += chunk.len() as u64;
                }
                Ok(())
            })
            .await
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let staged = self.staged.take().ok_or_else(aborted)?;
        // Parts must be awaited before completing; a part still running would hold another reference.
        let staged = Arc::into_inner(staged).ok_or_else(|| generic(io::Error::other("parts are still being written")))?;
        blocking(move || staged.publish(false)).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.staged = None;
        Ok(())
    }
}

fn aborted() -> Error {
    generic(io::Error::other("the upload was completed or aborted before"))
}

/// Gives `target` the file that is now called `source`, unless `target` exists.
fn link_new(source: &FsPath, target: &FsPath) -> Result<()> {
    match std::fs::hard_link(source, target) {
        Ok(()) => {
            let _ = std::fs::remove_file(source);
            Ok(())
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            Err(Error::AlreadyExists { path: target.display().to_string(), source: Box::new(error) })
        }
        // Some file systems have no hard links; a rename that refuses to replace is as good.
        Err(_) => rename_new(source, target).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => Error::AlreadyExists { path: target.display().to_string(), source: Box::new(error) },
            _ => generic(error),
        }),
    }
}

#[cfg(target_os = "linux")]
fn rename_new(source: &FsPath, target: &FsPath) -> io::Result<()> {
    use std::ffi::CString;
    use std::os::unix::ffi::OsStrExt;
    let source = CString::new(source.as_os_str().as_bytes())?;
    let target = CString::new(target.as_os_str().as_bytes())?;
    // SAFETY: both are NUL-terminated strings that outlive the call.
    let status = unsafe { libc::renameat2(libc::AT_FDCWD, source.as_ptr(), libc::AT_FDCWD, target.as_ptr(), libc::RENAME_NOREPLACE) };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(not(target_os = "linux"))]
fn rename_new(_: &FsPath, _: &FsPath) -> io::Result<()> {
    Err(io::Error::new(ErrorKind::Unsupported, "this file system has no hard links"))
}

/// Makes a folder and its ancestors, fsyncing the parent of each one that is new. Mode 0700: the data directory
/// holds password verifiers.
pub(crate) fn make_folder(folder: &FsPath) -> io::Result<()> {
    make_folder_with(folder, true)
}

fn make_folder_with(folder: &FsPath, synced: bool) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    if folder.is_dir() {
        return Ok(());
    }
    let parent = parent_of(folder);
    make_folder_with(parent, synced)?;
    match std::fs::DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) if synced => sync_folder(parent),
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(folder: &FsPath) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn parent_of(path: &FsPath) -> &FsPath {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => FsPath::new("."),
        Some(parent) => parent,
        None => path,
    }
}

fn is_staged(name: &str) -> bool {
    name.rsplit_once('#').is_some_and(|(_, digits)| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
}

fn sweep_folder(folder: &FsPath) -> io::Result<usize> {
    let mut removed = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            removed += sweep_folder(&entry.path())?;
        } else if kind.is_file() && is_staged(&entry.file_name().to_string_lossy()) {
            std::fs::remove_file(entry.path())?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Proves that the second of two creations of one name fails.
fn self_test(root: &FsPath) -> portrait_udfs::error::Result<()> {
    let target = root.join(format!(".create-test-{}", rand::random::<u64>()));
    let first = Staged::create(target.clone(), true).and_then(|staged| staged.publish(true));
    let second = Staged::create(target.clone(), true).and_then(|staged| staged.publish(true));
    let _ = std::fs::remove_file(&target);
    first.map_err(super::store_error)?;
    match second {
        Err(Error::AlreadyExists { .. }) => Ok(()),
        _ => Err(portrait_udfs::Error::new(
            portrait_udfs::Code::FeatureNotSupported,
            format!("the file system of \"{}\" cannot create a file only if it does not exist", root.display()),
        )
        .hint("Put the data directory on a local file system such as ext4 or xfs.")),
    }
}

fn sorted(stream: BoxStream<'static, Result<ObjectMeta>>) -> BoxStream<'static, Result<ObjectMeta>> {
    futures::stream::once(async move {
        let mut objects = stream.try_collect::<Vec<_>>().await?;
        objects.sort_by(|a, b| a.location.cmp(&b.location));
        Ok::<_, Error>(futures::stream::iter(objects.into_iter().map(Ok)))
    })
    .try_flatten()
    .boxed()
}

fn generic(error: io::Error) -> Error {
    Error::Generic { store: STORE, source: Box::new(error) }
}

fn not_found(error: io::Error, path: &FsPath) -> Error {
    match error.kind() {
        ErrorKind::NotFound => Error::NotFound { path: path.display().to_string(), source: Box::new(error) },
        _ => generic(error),
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => runtime.spawn_blocking(work).await.map_err(|error| generic(io::Error::other(error)))?,
        Err(_) => work(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::ObjectStoreExt;

    #[tokio::test]
    async fn create_refuses_a_taken_name_and_overwrite_replaces_it() {
        let (_folder, store) = store();
        let path = Path::from("a/b/c.json");
        store.put_opts(&path, "one".into(), PutMode::Create.into()).await.unwrap();
        let error = store.put_opts(&path, "two".into(), PutMode::Create.into()).await.unwrap_err();
        assert!(matches!(error, Error::AlreadyExists { .. }), "{error}");
        assert_eq!(read(&store, "a/b/c.json").await, "one");
        store.put(&path, "three".into()).await.unwrap();
        assert_eq!(read(&store, "a/b/c.json").await, "three");
        assert_eq!(names_on_disk(store.root()), ["a/b/c.json"]);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn of_concurrent_creates_exactly_one_wins() {
        let (_folder, store) = store();
        for round in 0..10 {
            let path = Path::from(format!("log/{round}"));
            let attempts = (0..16).map(|i| {
                let (store, path) = (store.clone(), path.clone());
                tokio::spawn(async move { store.put_opts(&path, format!("{i}").into(), PutMode::Create.into()).await.map(|_| i) })
            });
            let outcomes = futures::future::join_all(attempts).await;
            let winners: Vec<_> = outcomes.into_iter().filter_map(|outcome| outcome.unwrap().ok()).collect();
            assert_eq!(winners.len(), 1);
            assert_eq!(read(&store, path.as_ref()).await, winners[0].to_string());
        }
        assert_eq!(names_on_disk(store.root()).len(), 10);
    }

    #[tokio::test]
    async fn an_upload_is_invisible_until_it_completes() {
        let (_folder, store) = store();
        let path = Path::from("data/big");
        let mut upload = store.put_multipart(&path).await.unwrap();
        upload.put_part("hello ".into()).await.unwrap();
        upload.put_part("world".into()).await.unwrap();
        assert!(store.get(&path).await.is_err());
        assert!(store.list(None).try_collect::<Vec<_>>().await.unwrap().is_empty());
        upload.complete().await.unwrap();
        assert_eq!(read(&store, "data/big").await, "hello world");
        let mut dropped = store.put_multipart(&Path::from("data/dropped")).await.unwrap();
        dropped.put_part("x".into()).await.unwrap();
        drop(dropped);
        assert_eq!(names_on_disk(store.root()), ["data/big"]);
    }

    #[tokio::test]
    async fn listings_are_sorted_and_staged_files_are_swept() {
        let (_folder, store) = store();
        for name in ["b/2", "a/9", "b/10", "a/1"] {
            store.put(&Path::from(name), "x".into()).await.unwrap();
        }
        std::fs::write(store.root().join("b/3#17"), "half").unwrap();
        let listed: Vec<_> = store.list(None).map_ok(|meta| meta.location.to_string()).try_collect().await.unwrap();
        assert_eq!(listed, ["a/1", "a/9", "b/10", "b/2"]);
        assert_eq!(store.sweep_staged().unwrap(), 1);
        assert!(!store.root().join("b/3#17").exists());
    }

    #[tokio::test]
    async fn rename_and_copy_keep_their_promises() {
        let (_folder, store) = store();
        let (one, two, three) = (Path::from("one"), Path::from("x/two"), Path::from("y/three"));
        store.put(&one, "1".into()).await.unwrap();
        store.copy(&one, &two).await.unwrap();
        assert!(matches!(store.copy_if_not_exists(&one, &two).await, Err(Error::AlreadyExists { .. })));
        store.rename(&one, &three).await.unwrap();
        assert!(store.get(&one).await.is_err());
        assert!(matches!(store.rename_if_not_exists(&three, &two).await, Err(Error::AlreadyExists { .. })));
        assert_eq!((read(&store, "x/two").await, read(&store, "y/three").await), ("1".into(), "1".into()));
    }

    fn store() -> (tempfile::TempDir, DurableLocal) {
        let folder = tempfile::tempdir().unwrap();
        let store = DurableLocal::open(&folder.path().join("new/data")).unwrap();
        (folder, store)
    }

    async fn read(store: &DurableLocal, path: &str) -> String {
        let bytes = store.get(&Path::from(path)).await.unwrap().bytes().await.unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    fn names_on_disk(root: &FsPath) -> Vec<String> {
        let mut names = Vec::new();
        let mut folders = vec![root.to_path_buf()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    names.push(path.strip_prefix(root).unwrap().display().to_string());
                }
            }
        }
        names.sort();
        names
    }
}
