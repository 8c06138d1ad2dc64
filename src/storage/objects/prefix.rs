//! A prefix of a bucket whose objects SQL may read.

use std::path::PathBuf;
use std::sync::Arc;

use chrono::Timelike;
use datafusion::execution::object_store::ObjectStoreUrl;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use portrait_udfs::error::{Error, Result};

use super::remote::Remote;
use super::s3::{S3Place, connect};
use crate::storage::roots::{DataFile, Listing};
use crate::storage::store_error;

/// A bucket, by the name that a scan knows it by.
#[derive(Debug, Clone)]
pub(crate) struct Bucket {
    /// `s3://bucket`.
    pub(crate) url: ObjectStoreUrl,
    /// Its objects, by their whole keys.
    pub(crate) objects: Arc<dyn ObjectStore>,
}

/// A prefix of a bucket.
#[derive(Debug, Clone)]
pub(crate) struct RemoteRoot {
    place: S3Place,
    prefix: Path,
    bucket: Bucket,
}

impl RemoteRoot {
    /// The root `location`; nothing is contacted yet. Roots of one bucket share the client of `others`.
    ///
    /// # Errors
    /// 22023 for what is no prefix, and when the environment has no credentials.
    pub(crate) fn open(location: &str, others: &[Self]) -> Result<Self> {
        let place = S3Place::parse(location)?;
        let shared = others.iter().find(|other| other.place.bucket == place.bucket).map(|other| other.bucket.clone());
        let bucket = match shared {
            Some(bucket) => bucket,
            None => Bucket::of(&place.bucket, connect(&place.bucket)?)?,
        };
        Ok(Self { prefix: place.path()?, place, bucket })
    }

    /// A root over a store of a test's.
    #[cfg(test)]
    pub(crate) fn over(location: &str, objects: Arc<dyn ObjectStore>) -> Result<Self> {
        let place = S3Place::parse(location)?;
        Ok(Self { prefix: place.path()?, bucket: Bucket::of(&place.bucket, objects)?, place })
    }

    /// Its bucket.
    pub(crate) fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    /// Where `location` lies in the bucket; `None` when it is not under this root.
    ///
    /// # Errors
    /// 22023 for what is no location.
    pub(crate) fn locate(&self, location: &str) -> Result<Option<Path>> {
        let place = S3Place::parse(location)?;
        let path = place.path()?;
        Ok((place.bucket == self.place.bucket && path.prefix_matches(&self.prefix)).then_some(path))
    }

    /// The objects that a location stands for: itself, those below it whose names `accept` takes, or the matches of a glob. `None`
    /// when it is not under this root. Names that begin with `.` or `_` are left out.
    ///
    /// # Errors
    /// 22023 for what is no location or pattern, or a bucket that does not exist; 42501 and 58030 for a store that refuses or
    /// does not answer.
    pub(crate) async fn list(&self, location: &str, accept: &(dyn Fn(&str) -> bool + Sync)) -> Result<Option<Listing>> {
        let place = S3Place::parse(location)?;
        let (fixed, pattern) = split_glob(&place.key);
        let base = S3Place { bucket: place.bucket.clone(), key: fixed.to_owned() }.path()?;
        if place.bucket != self.place.bucket || !base.prefix_matches(&self.prefix) {
            return Ok(None);
        }
        let objects = self.bucket.objects.as_ref();
        let pattern = match pattern {
            Some(pattern) => Some(
                glob::Pattern::new(pattern)
                    .map_err(|error| Error::invalid(format!("\"{location}\" is not a valid pattern: {}", error.msg)))?,
            ),
            None => {
                if let Some(file) = self.object(&base, &place.key).await? {
                    let folder = base.parts().collect::<Vec<_>>();
                    let parent = Path::from_iter(folder[..folder.len() - 1].iter().cloned());
                    return Ok(Some(self.listing(&parent, vec![file])));
                }
                None
            }
        };
        let options = glob::MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };
        let mut files = Vec::new();
        let mut found = objects.list(Some(&base));
        while let Some(meta) = found.try_next().await.map_err(store_error)? {
            let Some(parts) = meta.location.prefix_match(&base) else { continue };
            let parts: Vec<String> = parts.map(|part| part.as_ref().to_owned()).collect();
            let Some(name) = parts.last().filter(|_| !parts.iter().any(|part| part.starts_with(['.', '_']))) else { continue };
            let taken = match &pattern {
                // Consoles mark folders by empty objects.
                Some(pattern) => meta.size > 0 && pattern.matches_with(&parts.join("/"), options),
                None => accept(name),
            };
            if taken {
                files.push(meta);
            }
        }
        files.sort_by(|a, b| a.location.cmp(&b.location));
        Ok(Some(self.listing(&base, files)))
    }

    /// The object of that very key.
    async fn object(&self, path: &Path, written: &str) -> Result<Option<ObjectMeta>> {
        if written.is_empty() || written.ends_with('/') {
            return Ok(None);
        }
        match self.bucket.objects.head(path).await {
            Ok(meta) => Ok(Some(meta)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(store_error(error)),
        }
    }

    /// DataFusion's cache of footers knows a file by path, size and time alone, whatever its bucket, and S3's clock ticks in whole
    /// seconds: the fraction says what the tag and the bucket are.
    fn told_apart(&self, mut meta: ObjectMeta) -> ObjectMeta {
        let mut hash = blake3::Hasher::new();
        hash.update(self.place.bucket.as_bytes()).update(b"/").update(meta.e_tag.as_deref().unwrap_or_default().as_bytes());
        let mut short = [0; 4];
        short.copy_from_slice(&hash.finalize().as_bytes()[..4]);
        meta.last_modified = meta.last_modified.with_nanosecond(u32::from_le_bytes(short) % 1_000_000_000).unwrap_or(meta.last_modified);
        meta
    }

    fn listing(&self, base: &Path, files: Vec<ObjectMeta>) -> Listing {
        let shown = |path: &Path| PathBuf::from(format!("s3://{}/{path}", self.place.bucket));
        let files = files.into_iter().map(|meta| DataFile { path: shown(&meta.location), meta: self.told_apart(meta) }).collect();
        Listing { base: shown(base), files, bucket: Some(self.bucket.clone()) }
    }
}

impl std::fmt::Display for RemoteRoot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.place.fmt(f)
    }
}

impl Bucket {
    fn of(name: &str, objects: Arc<dyn ObjectStore>) -> Result<Self> {
        let name = format!("s3://{name}");
        let url = ObjectStoreUrl::parse(&name).map_err(|_| Error::invalid(format!("\"{name}\" is not the name of a bucket")))?;
        Ok(Self { url, objects: Arc::new(Remote::new(objects, name)) })
    }
}

/// The key before the first part with a pattern character, and the pattern from there on.
fn split_glob(key: &str) -> (&str, Option<&str>) {
    let Some(first) = key.find(['*', '?', '[']) else { return (key, None) };
    match key[..first].rfind('/') {
        Some(slash) => (&key[..slash], Some(&key[slash + 1..])),
        None => ("", Some(key)),
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;
    use portrait_udfs::error::Code;

    use super::super::faults::{Fault, Faulty};
    use super::*;

    async fn root() -> RemoteRoot {
        let memory = InMemory::new();
        for key in
            ["lake/events/a.parquet", "lake/events/day=1/b.parquet", "lake/events/_x/c.parquet", "lake/events/n.txt", "other/s.parquet"]
        {
            memory.put(&Path::from(key), "x".into()).await.unwrap();
        }
        RemoteRoot::over("s3://bucket/lake", Arc::new(memory)).unwrap()
    }

    #[tokio::test]
    async fn objects_folders_and_globs_under_the_root() {
        let root = root().await;
        let cases: [(&str, &[&str]); 8] = [
            ("s3://bucket/lake/events", &["a.parquet", "day=1/b.parquet"]),
            ("s3://bucket/lake/events/", &["a.parquet", "day=1/b.parquet"]),
            ("s3://bucket/lake/events/a.parquet", &["a.parquet"]),
            ("s3://bucket/lake/events/*.parquet", &["a.parquet"]),
            ("s3://bucket/lake/events/**/*.parquet", &["a.parquet", "day=1/b.parquet"]),
            ("s3://bucket/lake/ev*/?.parquet", &["events/a.parquet"]),
            ("s3://bucket/lake/none/", &[]),
            ("s3://bucket/lake", &["events/a.parquet", "events/day=1/b.parquet"]),
        ];
        for (location, expected) in cases {
            let listing = root.list(location, &|name| name.ends_with(".parquet")).await.unwrap().unwrap();
            let names: Vec<_> = listing.files.iter().map(|file| file.path.strip_prefix(&listing.base).unwrap().to_str().unwrap()).collect();
            assert_eq!(names, expected, "{location}");
        }
    }

    #[tokio::test]
    async fn nothing_outside_the_root_is_reached() {
        let root = root().await;
        for outside in
            ["s3://bucket/other/s.parquet", "s3://bucket/*/s.parquet", "s3://bucket/lakeside/x", "s3://else/lake/x", "s3://bucket"]
        {
            assert!(root.list(outside, &|_| true).await.unwrap().is_none(), "{outside}");
        }
        for outside in ["s3://bucket/other/s.parquet", "s3://bucket/lakeside/x", "s3://else/lake/x"] {
            assert_eq!(root.locate(outside).unwrap(), None, "{outside}");
        }
        for bad in ["s3://bucket/lake/../other/s.parquet", "s3://bucket/lake/events/[", "s3://bucket/lake//x"] {
            assert_eq!(root.list(bad, &|_| true).await.unwrap_err().code, Code::InvalidParameter, "{bad}");
        }
    }

    #[tokio::test]
    async fn a_store_that_fails_is_an_error_not_an_empty_folder() {
        for fails in 0..2 {
            let store = Faulty::over(Arc::new(InMemory::new())).failing(Fault { call: fails, late: false });
            let root = RemoteRoot::over("s3://bucket/lake", Arc::new(store)).unwrap();
            assert_eq!(root.list("s3://bucket/lake/x", &|_| true).await.unwrap_err().code, Code::Io);
        }
    }
}
