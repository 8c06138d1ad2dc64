//! Fitted transforms by name: the registry's small sibling for parameters of a few kilobytes.
//!
//! **Decision.** A transform is a name with numbered versions, each one immutable document
//! `transforms/<hash of the name>/<version>.json` under the registry's own root, written once with a conditional create. The
//! newest document is the truth: a fitted transform, or the mark that it was dropped; so a version exists or it does not,
//! also after a crash in the middle, and two processes that publish at once get two numbers. Numbers are never given out
//! again. Reasons:
//! - not a model: a model is weights beside a manifest with an architecture, metrics, an active version and a training
//!   window; of that a transform has nothing, and each function over models would have to refuse it;
//! - not a table: parameters that a statement's plan carries must be read without waiting and must not change under it;
//! - one document, so there is no manifest to write last: the document is the manifest;
//! - all of them are in memory, as the models' records are: a document is at most [`BYTES_MAX`] long, and of each name
//!   the newest [`VERSIONS_KEPT`] versions are kept.
//!
//! A statement resolves a name once and its plan carries the parameters themselves, so dropping or fitting anew never
//! touches a statement that runs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

use super::index::{check_name, split_reference};
use super::now_us;
use super::open::Registry;
use super::permission::ModelAction;
use super::store::{Object, Put, corrupted, document};
use crate::error::{Code, Error, Result};
use crate::features::transform::FittedTransform;
use crate::kernels::nearest::nearest;

/// Bytes of a document at most.
const BYTES_MAX: usize = 16 << 20;
/// Versions of a name that are kept, the newest ones.
const VERSIONS_KEPT: u32 = 16;
/// Attempts to publish when other processes publish at the same time.
const ATTEMPTS_MAX: u32 = 16;
/// The format of the documents that this build writes and reads.
const FORMAT_VERSION: u32 = 1;

/// One version of a transform, or the mark that the transform was dropped.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    format_version: u32,
    /// Tells two records of one number apart.
    commit: String,
    name: String,
    owner: String,
    statement: String,
    created_at_us: i64,
    /// None when this record drops the transform.
    fitted: Option<FittedTransform>,
}

/// A version of a transform.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredTransform {
    /// Its name.
    pub name: String,
    /// Counted from 1.
    pub version: u32,
    /// Who fitted the first version.
    pub owner: String,
    /// The statement that fitted it.
    pub statement: String,
    /// When, microseconds since 1970 UTC.
    pub created_at_us: i64,
    /// The parameters.
    pub fitted: FittedTransform,
}

/// What is known of one name.
#[derive(Debug, Clone, Default)]
struct Entry {
    /// The highest number that was ever taken.
    newest: u32,
    /// Versions that can be used, by number; a damaged one says so when it is asked for.
    versions: BTreeMap<u32, Result<Arc<StoredTransform>>>,
}

/// All transforms of a registry.
#[derive(Debug, Default)]
pub(super) struct Transforms {
    /// By the hash of the name.
    entries: RwLock<BTreeMap<String, Entry>>,
}

/// Succeeds when `name` can be the name of a transform.
///
/// # Errors
/// 22023 otherwise.
pub fn check_transform_name(name: &str) -> Result<()> {
    check_name(name).map_err(|error| Error { message: error.message.replace("model name", "transform name"), ..error })
}

fn key_of(name: &str) -> String {
    blake3::hash(name.as_bytes()).to_hex().to_string()
}

impl Transforms {
    fn live(&self) -> Vec<Arc<StoredTransform>> {
        let entries = self.entries.read();
        let mut found: Vec<Arc<StoredTransform>> =
            entries.values().flat_map(|entry| entry.versions.values()).filter_map(|found| found.as_ref().ok().map(Arc::clone)).collect();
        found.sort_by(|a, b| (&a.name, a.version).cmp(&(&b.name, b.version)));
        found
    }

    fn unknown(&self, name: &str) -> Error {
        let names: BTreeSet<String> = self.live().iter().map(|found| found.name.clone()).collect();
        let error = Error::new(Code::UndefinedObject, format!("transform \"{name}\" does not exist"));
        match nearest(name, names.iter().map(String::as_str)) {
            Some(near) => error.hint(format!("Perhaps you meant \"{near}\".")),
            None => error.hint("Fit it first: SELECT * FROM fit_transform('name', source, 'column: step | step')."),
        }
    }
}

impl Registry {
    /// `name` (the newest version) or `name@3` to the parameters; never waits.
    ///
    /// # Errors
    /// 42704 with the nearest name; XX001 when its document is damaged; 22023 when what follows `@` is not a number.
    pub fn transform(&self, name_at_version: &str) -> Result<Arc<StoredTransform>> {
        let (name, version) = split_reference(name_at_version)?;
        let entries = self.transforms.entries.read();
        let found = entries.get(&key_of(name)).filter(|entry| !entry.versions.is_empty());
        let Some(entry) = found else {
            drop(entries);
            return Err(self.transforms.unknown(name));
        };
        let found = match version {
            Some(version) => entry.versions.get(&version),
            None => entry.versions.values().next_back(),
        };
        found.cloned().unwrap_or_else(|| {
            let kept: Vec<String> = entry.versions.keys().map(u32::to_string).collect();
            let message = format!("version {} of transform \"{name}\" does not exist", version.unwrap_or(0));
            Err(Error::new(Code::UndefinedObject, message).detail(format!("The versions are {}.", kept.join(", "))))
        })
    }

    /// Succeeds when `caller` may do `action` to a transform; an unknown one passes: who resolves it next gets the better
    /// error.
    ///
    /// # Errors
    /// 42501.
    pub fn authorize_transform(&self, caller: &str, name_at_version: &str, action: ModelAction) -> Result<()> {
        match self.transform(name_at_version) {
            Ok(found) => self.permissions.check(caller, &found.name, &found.owner, action),
            Err(_) => Ok(()),
        }
    }

    /// Succeeds when `caller` may store a version of the transform `name`, which need not exist yet.
    ///
    /// # Errors
    /// 42501.
    pub fn authorize_fitting(&self, caller: &str, name: &str) -> Result<()> {
        match self.transform(name) {
            Ok(found) => self.permissions.check(caller, &found.name, &found.owner, ModelAction::Own),
            Err(_) => self.permissions.check_new(caller),
        }
    }

    /// Every version of every transform, by name and number.
    pub fn list_transforms(&self) -> Vec<Arc<StoredTransform>> {
        self.transforms.live()
    }

    /// Stores a new version of `name`; readers see it from here on.
    ///
    /// # Errors
    /// 22023 for a name that cannot be one, 54000 when it is too large, 40001 when others publish without end, 58030, 53100.
    pub async fn publish_transform(
        &self,
        name: &str,
        owner: &str,
        statement: &str,
        fitted: FittedTransform,
    ) -> Result<Arc<StoredTransform>> {
        check_transform_name(name)?;
        let _writer = self.writer.lock().await;
        let owner = self.transform(name).map_or_else(|_| owner.to_owned(), |found| found.owner.clone());
        let version = self.append(name, &owner, statement, Some(&fitted)).await?;
        let stored = Arc::new(StoredTransform {
            name: name.to_owned(),
            version: version.0,
            owner,
            statement: statement.to_owned(),
            created_at_us: version.1,
            fitted,
        });
        let gone = {
            let mut entries = self.transforms.entries.write();
            let entry = entries.entry(key_of(name)).or_default();
            entry.newest = entry.newest.max(stored.version);
            entry.versions.insert(stored.version, Ok(Arc::clone(&stored)));
            let oldest = stored.version.saturating_sub(VERSIONS_KEPT - 1);
            let kept = entry.versions.split_off(&oldest);
            std::mem::replace(&mut entry.versions, kept)
        };
        self.forget_transforms(name, gone.into_keys()).await;
        Ok(stored)
    }

    /// Drops a transform with all its versions; how many those were.
    ///
    /// # Errors
    /// 42704 when there is none; 40001, 58030, 53100.
    pub async fn drop_transform(&self, name: &str) -> Result<usize> {
        let _writer = self.writer.lock().await;
        let owner = match self.transform(name) {
            Ok(found) => found.owner.clone(),
            Err(error) if error.code == Code::DataCorrupted => String::new(),
            Err(error) => return Err(error),
        };
        let (version, _) = self.append(name, &owner, "", None).await?;
        let gone = {
            let mut entries = self.transforms.entries.write();
            let entry = entries.entry(key_of(name)).or_default();
            entry.newest = entry.newest.max(version);
            std::mem::take(&mut entry.versions)
        };
        let count = gone.len();
        self.forget_transforms(name, gone.into_keys()).await;
        Ok(count)
    }

    /// Writes the next record of a name: its number and time.
    async fn append(&self, name: &str, owner: &str, statement: &str, fitted: Option<&FittedTransform>) -> Result<(u32, i64)> {
        let key = key_of(name);
        let created_at_us = now_us();
        let record = Record {
            format_version: FORMAT_VERSION,
            commit: uuid::Uuid::now_v7().to_string(),
            name: name.to_owned(),
            owner: owner.to_owned(),
            statement: statement.to_owned(),
            created_at_us,
            fitted: fitted.cloned(),
        };
        let bytes = document(&record)?;
        if bytes.len() > BYTES_MAX {
            return Err(Error::new(Code::TooComplex, format!("transform \"{name}\" is too large to be stored"))
                .detail(format!("It has {} bytes, the limit is {BYTES_MAX}.", bytes.len()))
                .hint("Encode columns of many categories with hash, or keep fewer of them: one_hot(100)."));
        }
        for _ in 0..ATTEMPTS_MAX {
            let next = self.transforms.entries.read().get(&key).map_or(0, |entry| entry.newest) + 1;
            if self.store.create(&self.store.transform(&key, next), bytes.clone()).await? == Put::Created {
                return Ok((next, created_at_us));
            }
            self.reload_transforms().await?;
        }
        Err(Error::new(Code::Serialization, format!("transform \"{name}\" is being changed by other processes")).hint("Try again."))
    }

    /// Removes documents that nobody resolves any more; one that stays is skipped when the store is opened again.
    async fn forget_transforms(&self, name: &str, versions: impl Iterator<Item = u32> + Send) {
        let key = key_of(name);
        for version in versions {
            if let Err(error) = self.store.delete(&self.store.transform(&key, version)).await {
                tracing::warn!(transform = name, version, %error, "an old version stays");
            }
        }
    }

    /// Reads what changed in the store since last time; the caller holds the writer's lock.
    pub(super) async fn reload_transforms(&self) -> Result<()> {
        let mut found: BTreeMap<String, BTreeSet<u32>> = BTreeMap::new();
        for (object, _) in self.store.list(&self.store.transforms()).await? {
            if let Object::Transform { key, version } = object {
                found.entry(key).or_default().insert(version);
            }
        }
        let mut entries = BTreeMap::new();
        for (key, numbers) in found {
            let newest = numbers.last().copied().unwrap_or(0);
            let before = self.transforms.entries.read().get(&key).cloned();
            let entry = match before.filter(|before| before.newest == newest) {
                Some(before) => before,
                None => self.read_entry(&key, &numbers).await?,
            };
            entries.insert(key, entry);
        }
        *self.transforms.entries.write() = entries;
        Ok(())
    }

    /// The versions after the last drop.
    async fn read_entry(&self, key: &str, numbers: &BTreeSet<u32>) -> Result<Entry> {
        let mut entry = Entry { newest: numbers.last().copied().unwrap_or(0), versions: BTreeMap::new() };
        for version in numbers.iter().rev().take(VERSIONS_KEPT as usize) {
            let path = self.store.transform(key, *version);
            let record = match self.store.read_document::<Record>(&path).await {
                Ok(Some(record)) if record.format_version != FORMAT_VERSION => {
                    Err(Error::new(Code::FeatureNotSupported, format!("file \"{path}\" has an unknown format"))
                        .hint("Use the version of Portrait that wrote it, or a newer one."))
                }
                Ok(Some(record)) if key_of(&record.name) != key => Err(corrupted(&path, "it belongs to another transform")),
                Ok(Some(record)) => Ok(record),
                Ok(None) => continue,
                Err(error) if error.code == Code::DataCorrupted => Err(error),
                Err(error) => return Err(error),
            };
            match record {
                Ok(Record { fitted: None, .. }) => break,
                Ok(Record { fitted: Some(fitted), name, owner, statement, created_at_us, .. }) => {
                    let stored = StoredTransform { name, version: *version, owner, statement, created_at_us, fitted };
                    drop(entry.versions.insert(*version, Ok(Arc::new(stored))));
                }
                Err(error) => {
                    tracing::error!(%error, "a transform cannot be read");
                    drop(entry.versions.insert(*version, Err(error)));
                }
            }
        }
        Ok(entry)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use object_store::memory::InMemory;
    use object_store::path::Path;
    use object_store::{ObjectStore, ObjectStoreExt};

    use super::*;

    fn fitted(rows: u64) -> FittedTransform {
        FittedTransform { steps: "x: mean".into(), rows, inputs: vec![], entries: vec![] }
    }

    async fn open(store: &Arc<InMemory>) -> Registry {
        Registry::open(Arc::clone(store) as Arc<dyn ObjectStore>, Path::from("models"), 1 << 20).await.unwrap()
    }

    #[tokio::test]
    async fn versions_survive_a_restart() {
        let store = Arc::new(InMemory::new());
        let registry = open(&store).await;
        for rows in 1..=3 {
            let stored = registry.publish_transform("prep", "ann", "SELECT 1", fitted(rows)).await.unwrap();
            assert_eq!((stored.version, stored.fitted.rows), (rows as u32, rows));
        }
        let again = open(&store).await;
        assert_eq!(again.transform("prep").unwrap().version, 3);
        assert_eq!(*again.transform("prep@2").unwrap(), *registry.transform("prep@2").unwrap());
        assert_eq!(again.transform("prep@9").unwrap_err().code, Code::UndefinedObject);
        assert_eq!(again.transform("perp").unwrap_err().hint.as_deref(), Some("Perhaps you meant \"prep\"."));
        // Another process sees the drop after a refresh; numbers go on.
        assert_eq!(again.drop_transform("prep").await.unwrap(), 3);
        registry.refresh().await.unwrap();
        assert_eq!(registry.transform("prep").unwrap_err().code, Code::UndefinedObject);
        assert_eq!(registry.drop_transform("prep").await.unwrap_err().code, Code::UndefinedObject);
        assert_eq!(registry.publish_transform("prep", "bob", "", fitted(9)).await.unwrap().version, 5);
        assert_eq!(open(&store).await.list_transforms().len(), 1);
    }

    #[tokio::test]
    async fn two_processes_get_two_numbers() {
        let store = Arc::new(InMemory::new());
        let (one, two) = (open(&store).await, open(&store).await);
        assert_eq!(one.publish_transform("prep", "a", "", fitted(1)).await.unwrap().version, 1);
        assert_eq!(two.publish_transform("prep", "a", "", fitted(2)).await.unwrap().version, 2);
        assert_eq!(two.list_transforms().len(), 2);
    }

    #[tokio::test]
    async fn old_versions_go() {
        let store = Arc::new(InMemory::new());
        let registry = open(&store).await;
        for rows in 0..20 {
            registry.publish_transform("prep", "a", "", fitted(rows)).await.unwrap();
        }
        assert_eq!(registry.list_transforms().len(), VERSIONS_KEPT as usize);
        assert_eq!(open(&store).await.list_transforms().len(), VERSIONS_KEPT as usize);
        assert!(registry.transform("prep@4").is_err() && registry.transform("prep@5").is_ok());
    }

    #[tokio::test]
    async fn a_damaged_document_hides_nothing_else() {
        let store = Arc::new(InMemory::new());
        let registry = open(&store).await;
        registry.publish_transform("a", "x", "", fitted(1)).await.unwrap();
        registry.publish_transform("b", "x", "", fitted(1)).await.unwrap();
        let path = registry.store.transform(&key_of("a"), 1);
        let mut bytes = store.get(&path).await.unwrap().bytes().await.unwrap().to_vec();
        let at = bytes.len() / 2;
        bytes[at] ^= 1;
        store.put(&path, Bytes::from(bytes).into()).await.unwrap();
        let again = open(&store).await;
        let error = again.transform("a").unwrap_err();
        assert_eq!(error.code, Code::DataCorrupted);
        assert!(error.message.contains("transforms/"), "{}", error.message);
        assert!(again.transform("b").is_ok());
        again.drop_transform("a").await.unwrap();
        assert_eq!(again.transform("a").unwrap_err().code, Code::UndefinedObject);
    }
}
