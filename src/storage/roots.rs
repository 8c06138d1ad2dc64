//! Which files SQL may read: the configured data roots and the data directory's own `files/`.
//!
//! A location is a path (absolute, `file://`, or relative to the roots, tried in order), a folder, or a glob. It is
//! checked twice: as it is written (no `..`, no other scheme) and as it really is, after every symbolic link has been
//! followed; a link that leads out of the roots is refused, whoever made it. The check runs at each use, not only when a
//! table is created. Nothing is told about files outside the roots, not even whether they exist.
//!
//! A root may be a prefix of a bucket (`s3://bucket/prefix`); then locations below it are written like it.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use object_store::{ObjectMeta, ObjectStore};
use portrait_udfs::context::FileAccess;
use portrait_udfs::error::{Code, Error, Result};

use super::durable::{DurableLocal, make_folder};
use super::objects::{Bucket, RemoteRoot, is_remote};

/// Folders inside folders inside …: beyond this a folder is taken for a loop of links.
const DEPTH_MAX: usize = 32;

/// The folders whose files SQL may read.
#[derive(Debug, Clone)]
pub struct DataRoots {
    roots: Vec<PathBuf>,
    remote: Vec<RemoteRoot>,
    /// The folders, and prefixes of buckets, outside which nothing is reached; `None` = the roots are the only bounds.
    only: Option<Vec<String>>,
}

/// One file as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataFile {
    /// Absolute, as found below the listed folder (links inside it are not replaced); `s3://bucket/key` for an object.
    pub path: PathBuf,
    /// Where it lies in its store, its size, and when it was last written.
    pub meta: ObjectMeta,
}

/// What a location stands for.
#[derive(Debug, Clone)]
pub struct Listing {
    /// The folder that hive partitions are counted from (a file's own folder for a single file).
    pub base: PathBuf,
    /// Its files, by path.
    pub files: Vec<DataFile>,
    /// The bucket that they lie in; `None` for files of this machine.
    pub(crate) bucket: Option<Bucket>,
}

impl DataRoots {
    /// Takes the configured roots, then `<data_dir>/files`, which is made when it does not exist.
    ///
    /// # Errors
    /// A configured root that is not a folder; an object store's for which the environment has no credentials.
    pub fn new(data_dir: &Path, configured: &[PathBuf]) -> Result<Self> {
        let (mut roots, mut remote) = (Vec::with_capacity(configured.len() + 1), Vec::new());
        for root in configured {
            if let Some(location) = root.to_str().filter(|root| is_remote(root)) {
                remote.push(RemoteRoot::open(location, &remote)?);
                continue;
            }
            let canonical = std::fs::canonicalize(root).ok().filter(|path| path.is_dir());
            roots.push(canonical.ok_or_else(|| {
                Error::invalid(format!("data root \"{}\" is not a folder", root.display()))
                    .hint("Create it, or give --data-root the path of an existing folder.")
            })?);
        }
        let files = data_dir.join("files");
        make_folder(&files)?;
        roots.push(std::fs::canonicalize(files)?);
        Ok(Self { roots, remote, only: None })
    }

    /// The same roots, of which only what lies in some folders is reached.
    #[must_use]
    pub fn within(&self, folders: Vec<String>) -> Self {
        Self { only: Some(folders), ..self.clone() }
    }

    /// The folder that a location names, as it is kept: absolute and without links, or a prefix of a bucket.
    ///
    /// # Errors
    /// 42501 outside the roots, 22023 for what is no folder.
    pub fn folder_of_location(&self, location: &str) -> Result<String> {
        if is_remote(location) {
            let trimmed = location.trim_end_matches('/');
            for root in &self.remote {
                if root.locate(trimmed)?.is_some() {
                    return Ok(trimmed.to_owned());
                }
            }
            return Err(self.denied(location));
        }
        let path = self.resolve(location)?;
        if !path.is_dir() {
            return Err(Error::invalid(format!("\"{location}\" is not a folder")));
        }
        path.into_os_string().into_string().map_err(|_| Error::invalid("the folder's name is not UTF-8"))
    }

    /// Whether a place in a bucket may be reached.
    fn reaches(&self, location: &str) -> bool {
        let inside = |folder: &String| location.strip_prefix(folder.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        self.only.as_ref().is_none_or(|only| only.iter().any(inside))
    }

    /// With another root, in a store of a test's.
    #[cfg(test)]
    pub(crate) fn with_remote(mut self, root: RemoteRoot) -> Self {
        self.remote.push(root);
        self
    }

    /// The local roots: absolute, without symbolic links, the data directory's own `files/` last.
    pub fn roots(&self) -> &[PathBuf] {
        &self.roots
    }

    /// The path of one existing file or folder, all links followed.
    ///
    /// # Errors
    /// 42501 outside the roots, 22023 when it does not exist or has another scheme.
    pub fn resolve(&self, location: &str) -> Result<PathBuf> {
        let written = self.written_path(location)?;
        self.resolve_path(&written, location)
    }

    /// The path of a file or folder that need not exist yet: its closest existing ancestor must lie in a root.
    /// Relative ones that do not exist are taken below the data directory's `files/`.
    ///
    /// # Errors
    /// As [`resolve`](Self::resolve).
    pub fn resolve_new(&self, location: &str) -> Result<PathBuf> {
        let written = self.written_path(location)?;
        match self.resolve_path(&written, location) {
            Ok(existing) => return Ok(existing),
            Err(error) if error.code == Code::InsufficientPrivilege => return Err(error),
            Err(_) => {}
        }
        let path = match (written.is_absolute(), self.roots.last()) {
            (false, Some(files)) => files.join(&written),
            _ => written,
        };
        let mut ancestor = path.as_path();
        while let Some(parent) = ancestor.parent() {
            ancestor = parent;
            // A dangling link must not be taken for "does not exist yet".
            if std::fs::symlink_metadata(ancestor).is_ok() {
                break;
            }
        }
        let canonical = std::fs::canonicalize(ancestor).map_err(|_| self.denied(location))?;
        let rest = path.strip_prefix(ancestor).map_err(|_| self.denied(location))?;
        if !self.contains(&canonical) || std::fs::symlink_metadata(&path).is_ok() {
            return Err(self.denied(location));
        }
        Ok(canonical.join(rest))
    }

    /// The files a location stands for: itself, the data files of a folder and its sub-folders whose names `accept`
    /// takes, or the matches of a glob (`*`, `?`, `[…]`, `**`). Names that start with `.` or `_` are left out.
    ///
    /// # Errors
    /// As [`resolve`](Self::resolve), 42501 for a link that leads out of the roots, and an object store's.
    pub async fn list<F: Fn(&str) -> bool + Send + Sync + 'static>(self: &Arc<Self>, location: &str, accept: F) -> Result<Listing> {
        if is_remote(location) {
            for root in self.remote.iter().filter(|_| self.reaches(location)) {
                if let Some(listing) = root.list(location, &accept).await? {
                    return Ok(listing);
                }
            }
            return Err(self.denied(location));
        }
        let (roots, location) = (Arc::clone(self), location.to_owned());
        tokio::task::spawn_blocking(move || roots.list_local(&location, &accept))
            .await
            .map_err(|error| Error::internal(format!("listing ended early: {error}")))?
    }

    fn list_local(&self, location: &str, accept: &dyn Fn(&str) -> bool) -> Result<Listing> {
        let written = self.written_path(location)?;
        let Some((base, pattern)) = split_glob(&written) else {
            let path = self.resolve_path(&written, location)?;
            let metadata = std::fs::metadata(&path)?;
            if metadata.is_dir() {
                let mut files = Vec::new();
                self.walk(&path, 0, location, &mut |path, name, _| accept(name).then(|| path.to_path_buf()), &mut files)?;
                return Ok(Listing { base: path, files: in_order(files), bucket: None });
            }
            let file = data_file(path.clone(), &metadata)?;
            let base = path.parent().map(Path::to_path_buf).unwrap_or_default();
            return Ok(Listing { base, files: vec![file], bucket: None });
        };
        let pattern = glob::Pattern::new(&pattern)
            .map_err(|error| Error::invalid(format!("\"{location}\" is not a valid pattern: {}", error.msg)))?;
        let base = self.resolve_path(&base, location)?;
        let options = glob::MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };
        let mut files = Vec::new();
        self.walk(
            &base,
            0,
            location,
            &mut |path, _, _| {
                let relative = path.strip_prefix(&base).ok()?;
                pattern.matches_path_with(relative, options).then(|| path.to_path_buf())
            },
            &mut files,
        )?;
        Ok(Listing { base, files: in_order(files), bucket: None })
    }

    /// Whether a name used as a table looks like a location: it has a separator, a pattern or a data file's ending.
    pub fn looks_like_location(name: &str) -> bool {
        name.contains('/') || name.contains('*') || super::external::kind_of_name(name).is_some()
    }

    fn walk(
        &self,
        folder: &Path,
        depth: usize,
        location: &str,
        take: &mut dyn FnMut(&Path, &str, usize) -> Option<PathBuf>,
        files: &mut Vec<DataFile>,
    ) -> Result<()> {
        if depth > DEPTH_MAX {
            return Err(Error::invalid(format!("folder \"{}\" is nested too deeply", folder.display()))
                .hint("A symbolic link may lead back to one of its own parents."));
        }
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            if name.starts_with(['.', '_']) {
                continue;
            }
            let path = entry.path();
            let mut kind = entry.file_type()?;
            if kind.is_symlink() {
                let Ok(target) = std::fs::canonicalize(&path) else { continue };
                if !self.contains(&target) {
                    return Err(self.denied(location).detail(format!("\"{name}\" is a link that leads out of the data roots.")));
                }
                kind = std::fs::metadata(&target)?.file_type();
            }
            if kind.is_dir() {
                self.walk(&path, depth + 1, location, take, files)?;
            } else if kind.is_file()
                && let Some(path) = take(&path, name, depth)
            {
                let metadata = std::fs::metadata(&path)?;
                files.push(data_file(path, &metadata)?);
            }
        }
        Ok(())
    }

    /// The path as written: scheme taken off, `..` refused.
    fn written_path(&self, location: &str) -> Result<PathBuf> {
        if location.is_empty() || location.contains('\0') {
            return Err(Error::invalid("a location must not be empty or hold a zero byte"));
        }
        let path = match location.split_once("://") {
            None if location.starts_with("file:") => PathBuf::from(location.trim_start_matches("file:")),
            None => PathBuf::from(location),
            Some(("file", _)) => url::Url::parse(location)
                .ok()
                .and_then(|url| url.to_file_path().ok())
                .ok_or_else(|| Error::invalid(format!("\"{location}\" is not a valid file location")))?,
            Some((scheme, _)) => {
                let what = if is_remote(location) { "for reading tables only" } else { "not supported" };
                return Err(Error::invalid(format!("locations of scheme \"{scheme}\" are {what}")).hint(self.hint()));
            }
        };
        // `Url::parse` resolves `..`; look at the text as well.
        let dotted = |path: &Path| path.components().any(|part| part == Component::ParentDir);
        if dotted(&path) || dotted(Path::new(location)) || location.to_ascii_lowercase().contains("%2e%2e") {
            return Err(self.denied(location).detail("A location must not contain \"..\"."));
        }
        Ok(path)
    }

    fn resolve_path(&self, path: &Path, location: &str) -> Result<PathBuf> {
        if path.is_absolute() {
            let inside = |path: &Path| self.contains(path);
            return match std::fs::canonicalize(path) {
                Ok(canonical) if inside(&canonical) => Ok(canonical),
                Ok(_) => Err(self.denied(location)),
                Err(_) if inside(path) => Err(self.missing(location)),
                Err(_) => Err(self.denied(location)),
            };
        }
        for root in &self.roots {
            let candidate = root.join(path);
            if std::fs::symlink_metadata(&candidate).is_err() {
                continue;
            }
            return match std::fs::canonicalize(&candidate) {
                Ok(canonical) if self.contains(&canonical) => Ok(canonical),
                Ok(_) => Err(self.denied(location)),
                Err(_) => Err(self.missing(location)),
            };
        }
        Err(self.missing(location))
    }

    fn contains(&self, canonical: &Path) -> bool {
        let allowed = self.only.as_ref().is_none_or(|only| only.iter().any(|folder| canonical.starts_with(folder)));
        allowed && self.roots.iter().any(|root| canonical.starts_with(root))
    }

    fn denied(&self, location: &str) -> Error {
        Error::new(Code::InsufficientPrivilege, format!("permission denied for location \"{location}\"")).hint(self.hint())
    }

    fn missing(&self, location: &str) -> Error {
        // Whether something exists outside the locations is nobody's to know.
        if self.only.is_some() && !self.contains(Path::new(location)) {
            return self.denied(location);
        }
        Error::invalid(format!("location \"{location}\" does not exist")).hint(self.hint())
    }

    fn hint(&self) -> String {
        if let Some(only) = &self.only {
            let folders: Vec<_> = only.iter().map(|folder| format!("\"{folder}\"")).collect();
            return match folders.is_empty() {
                true => "Ask a superuser for a location: GRANT USAGE ON LOCATION name TO role.".to_owned(),
                false => format!("You may use files under {}.", folders.join(", ")),
            };
        }
        let remote = self.remote.iter().map(|root| format!("\"{root}\""));
        let roots: Vec<_> = remote.chain(self.roots.iter().map(|root| format!("\"{}\"", root.display()))).collect();
        format!("Files can be read under {}. Start the server with --data-root to add a folder.", roots.join(", "))
    }
}

impl FileAccess for DataRoots {
    fn folder(&self, path: &str, _caller: &str, write: bool) -> Result<(Arc<dyn ObjectStore>, object_store::path::Path)> {
        if is_remote(path) && !write {
            for root in self.remote.iter().filter(|_| self.reaches(path)) {
                if let Some(place) = root.locate(path)? {
                    return Ok((Arc::clone(&root.bucket().objects), place));
                }
            }
            return Err(self.denied(path));
        }
        let folder = if write { self.resolve_new(path)? } else { self.resolve(path)? };
        let root = self.roots.iter().find(|root| folder.starts_with(root)).ok_or_else(|| self.denied(path))?;
        let relative = folder.strip_prefix(root).map_err(|_| self.denied(path))?;
        let place = object_store::path::Path::from_iter(relative.iter().map(|part| part.to_string_lossy().into_owned()));
        // Reading must not need a writable root, so the durable store is opened only to write.
        let store: Arc<dyn ObjectStore> = if write {
            Arc::new(DurableLocal::open(root)?)
        } else {
            Arc::new(object_store::local::LocalFileSystem::new_with_prefix(root).map_err(super::store_error)?)
        };
        Ok((store, place))
    }
}

fn data_file(path: PathBuf, metadata: &std::fs::Metadata) -> Result<DataFile> {
    let location = object_store::path::Path::from_absolute_path(&path)
        .map_err(|error| Error::invalid(format!("file name \"{}\" cannot be used: {error}", path.display())))?;
    let meta = ObjectMeta { location, last_modified: metadata.modified()?.into(), size: metadata.len(), e_tag: None, version: None };
    Ok(DataFile { path, meta })
}

fn in_order(mut files: Vec<DataFile>) -> Vec<DataFile> {
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

/// The folder before the first component with a pattern character, and the pattern from there on.
fn split_glob(path: &Path) -> Option<(PathBuf, String)> {
    let has_pattern = |part: &Component<'_>| part.as_os_str().to_string_lossy().contains(['*', '?', '[']);
    let parts: Vec<_> = path.components().collect();
    let first = parts.iter().position(has_pattern)?;
    let base: PathBuf = parts[..first].iter().collect();
    let pattern: PathBuf = parts[first..].iter().collect();
    let base = if base.as_os_str().is_empty() { PathBuf::from(".") } else { base };
    Some((base, pattern.to_string_lossy().into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn finds_files_under_the_roots_however_they_are_written() {
        let (folder, roots) = roots();
        let absolute = roots.roots()[0].join("events/a.parquet");
        for location in ["events/a.parquet", "./events/a.parquet", absolute.to_str().unwrap(), &format!("file://{}", absolute.display())] {
            assert_eq!(roots.resolve(location).unwrap(), absolute, "{location}");
        }
        std::fs::write(folder.path().join("data/files/own.csv"), "x").unwrap();
        assert!(roots.resolve("own.csv").unwrap().ends_with("files/own.csv"));
    }

    #[test]
    fn nothing_outside_the_roots_is_reached() {
        let (folder, roots) = roots();
        let root = roots.roots()[0].clone();
        let secret = folder.path().join("secret.csv");
        symlink(&secret, root.join("link.csv")).unwrap();
        symlink(folder.path(), root.join("out")).unwrap();
        let inside_dots = format!("{}/../secret.csv", root.display());
        let url_dots = format!("file://{}/%2e%2e/secret.csv", root.display());
        for location in [
            "../secret.csv",
            "events/../../secret.csv",
            "/etc/passwd",
            "/no/such/file",
            "file:///etc/passwd",
            "link.csv",
            "out/secret.csv",
            &inside_dots,
            &url_dots,
            secret.to_str().unwrap(),
            "out/*.csv",
            "/etc/*",
            "file:/etc/passwd",
        ] {
            let error = roots.list_local(location, &|_| true).unwrap_err();
            assert_eq!(error.code, Code::InsufficientPrivilege, "{location}: {error}");
            assert!(error.hint.unwrap().contains(root.to_str().unwrap()));
            if !location.contains('*') {
                assert_eq!(roots.resolve(location).unwrap_err().code, Code::InsufficientPrivilege, "{location}");
                assert_eq!(roots.resolve_new(location).unwrap_err().code, Code::InsufficientPrivilege, "{location}");
            }
        }
        for location in ["s3://bucket/x", "http://host/x", "events/none.parquet", "", "a\0b"] {
            assert_eq!(roots.resolve(location).unwrap_err().code, Code::InvalidParameter, "{location}");
        }
        // A link met inside a folder is refused as well, not silently left out.
        assert_eq!(roots.list_local(".", &|_| true).unwrap_err().code, Code::InsufficientPrivilege);
    }

    #[test]
    fn lists_folders_and_globs() {
        let (_folder, roots) = roots();
        let names = |location: &str| -> Vec<String> {
            let listing = roots.list_local(location, &|name| name.ends_with(".parquet")).unwrap();
            listing.files.iter().map(|file| file.path.strip_prefix(&listing.base).unwrap().display().to_string()).collect()
        };
        assert_eq!(names("events"), ["a.parquet", "day=1/b.parquet"]);
        assert_eq!(names("events/"), ["a.parquet", "day=1/b.parquet"]);
        assert_eq!(names("events/*.parquet"), ["a.parquet"]);
        assert_eq!(names("events/*/*.parquet"), ["day=1/b.parquet"]);
        assert_eq!(names("events/**/*.parquet"), ["a.parquet", "day=1/b.parquet"]);
        assert_eq!(names("ev*/?.parquet"), ["events/a.parquet"]);
        assert!(names("events/none*").is_empty());
    }

    #[test]
    fn new_files_stay_under_a_root() {
        let (_folder, roots) = roots();
        let files = roots.roots().last().unwrap().clone();
        assert_eq!(roots.resolve_new("out/model").unwrap(), files.join("out/model"));
        let absolute = roots.roots()[0].join("new/deep/x");
        assert_eq!(roots.resolve_new(absolute.to_str().unwrap()).unwrap(), absolute);
        symlink("/tmp/portrait-no-such-target", files.join("dangling")).unwrap();
        assert_eq!(roots.resolve_new("dangling").unwrap_err().code, Code::InsufficientPrivilege);
    }

    fn roots() -> (tempfile::TempDir, DataRoots) {
        let folder = tempfile::tempdir().unwrap();
        let events = folder.path().join("lake/events");
        std::fs::create_dir_all(events.join("day=1")).unwrap();
        for name in ["a.parquet", "day=1/b.parquet", "_SUCCESS", ".hidden.parquet", "notes.txt"] {
            std::fs::write(events.join(name), "x").unwrap();
        }
        std::fs::write(folder.path().join("secret.csv"), "secret").unwrap();
        let roots = DataRoots::new(&folder.path().join("data"), &[folder.path().join("lake")]).unwrap();
        (folder, roots)
    }
}
