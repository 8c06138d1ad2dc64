//! Audiences in the catalog: names, queries and versions here, members in `storage`.
//!
//! A version is named only after its set is on the disk, and a set is removed only after nothing names it. An audience that
//! is dropped and made again starts at version 1 with sets of its own; a reader that has opened a version keeps it.

use std::sync::{Arc, Weak};

use async_trait::async_trait;
use datafusion::arrow::compute::filter;
use datafusion::common::HashMap;
use parking_lot::Mutex;
use portrait_udfs::context::{AudienceInfo, AudienceKey, AudienceProvider, AudienceVersion, UserNumbers};
use portrait_udfs::error::{Code, Error, Result};
use portrait_udfs::kernels::bitmap::Bitmap;
use uuid::Uuid;

use super::file::{StoredAudience, StoredVersion};
use super::open::Inner;
use super::{Catalog, Created, Object, ObjectClass, Privilege};
use crate::storage::audience::{Builder, StoredSet, read_set, remove_set};
use crate::storage::erasure::Refusal;

/// Bytes of sets that stay in memory once they were read.
const KEPT_BYTES: usize = 64 << 20;

/// A `CREATE AUDIENCE` whose query was run.
#[derive(Debug, Clone)]
pub struct CreateAudience {
    /// Its name.
    pub name: String,
    /// The query, as text that parses again.
    pub query: String,
    /// What its users are called by.
    pub key: AudienceKey,
    /// `IF NOT EXISTS`.
    pub if_not_exists: bool,
    /// Role that runs the statement.
    pub owner: String,
}

/// What a `REFRESH AUDIENCE` did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refreshed {
    /// The newest version now.
    pub version: u32,
    /// Whether it is new; the members are the same as before otherwise.
    pub changed: bool,
}

/// The members of an audience on their way into the catalog.
#[derive(Debug)]
pub struct AudienceBuilder {
    members: Builder,
    refusal: Arc<Refusal>,
}

/// Members on the disk that no catalog names yet.
#[derive(Debug, Clone)]
pub struct Members {
    set: StoredSet,
    refusal: Arc<Refusal>,
}

impl AudienceBuilder {
    /// Adds a column of user ids; a NULL is nobody, and users who are suppressed are left out.
    ///
    /// # Errors
    /// 53200, 54000.
    pub fn push(&mut self, users: &datafusion::arrow::array::ArrayRef) -> Result<()> {
        // Before they get numbers: those are kept.
        nobody_erased(&self.refusal)?;
        match self.refusal.users().others(users)? {
            Some(others) => {
                let users = filter(users, &others).map_err(|error| Error::internal(error.to_string()))?;
                self.members.push(&users)
            }
            None => self.members.push(users),
        }
    }

    /// Writes them.
    ///
    /// # Errors
    /// 53100, 58030.
    pub async fn finish(self) -> Result<Members> {
        nobody_erased(&self.refusal)?;
        Ok(Members { set: self.members.finish().await?, refusal: self.refusal })
    }
}

impl Members {
    /// How many users.
    pub fn count(&self) -> u64 {
        self.set.members
    }

    fn version(&self, version: u32) -> StoredVersion {
        let StoredSet { file, members, bytes, hash } = self.set.clone();
        StoredVersion { version, file, members, bytes, hash, created_at_us: now_us() }
    }
}

fn now_us() -> i64 {
    chrono::Utc::now().timestamp_micros()
}

fn missing(name: &str) -> Error {
    Error::new(Code::UndefinedObject, format!("audience \"{name}\" does not exist"))
}

impl Catalog {
    /// Takes members for an audience. `erasures` is what [`erasures_begun`](Self::erasures_begun) said before the query was
    /// planned.
    ///
    /// # Errors
    /// XX001 when the dictionary of user ids is damaged, 53200.
    pub async fn audience_builder(&self, erasures: u64) -> Result<AudienceBuilder> {
        let pool = Arc::clone(&self.inner.env.read().memory_pool);
        let members = Builder::new(Arc::clone(self.inner.store.objects()), Arc::clone(&self.inner.dictionary), &pool).await?;
        Ok(AudienceBuilder { members, refusal: self.refusal(erasures) })
    }

    /// Whether an audience of that name can be made: true when there is one and that is fine.
    ///
    /// # Errors
    /// 42710 when there is one.
    pub fn audience_exists(&self, name: &str, if_not_exists: bool) -> Result<bool> {
        match self.inner.state().definitions.audiences.contains_key(name) {
            true if !if_not_exists => Err(taken(name)),
            found => Ok(found),
        }
    }

    /// `CREATE AUDIENCE`: it appears whole, as version 1.
    ///
    /// # Errors
    /// 42710.
    pub async fn create_audience(&self, audience: CreateAudience, members: Members) -> Result<Created> {
        let (file, refusal) = (members.set.file, Arc::clone(&members.refusal));
        let CreateAudience { name, query, key, if_not_exists, owner } = audience;
        let first = members.version(1);
        let made = self
            .inner
            .change(move |definitions| {
                nobody_erased(&refusal)?;
                if definitions.audiences.contains_key(&name) {
                    return if if_not_exists { Ok(Created::Existed) } else { Err(taken(&name)) };
                }
                let refreshed_at_us = first.created_at_us;
                definitions.access.begin(&Object::new(ObjectClass::Audience, name.as_str()), &owner);
                let key = key == AudienceKey::Text;
                let stored = StoredAudience { owner, query, text_key: key, versions: vec![first], refreshed_at_us };
                definitions.audiences.insert(name, stored);
                Ok(Created::New)
            })
            .await;
        if made.as_ref().map_or_else(refused, |made| *made == Created::Existed) {
            remove_set(self.inner.store.objects().as_ref(), file).await;
        }
        made
    }

    /// The query of an audience and what its users are called by.
    ///
    /// # Errors
    /// 42704.
    pub fn audience_query(&self, name: &str) -> Result<(String, AudienceKey)> {
        let state = self.inner.state();
        let found = state.definitions.audiences.get(name).ok_or_else(|| missing(name))?;
        Ok((found.query.clone(), found.key()))
    }

    /// `REFRESH AUDIENCE`: a new version, unless the members are those of the newest one. `query` is what was run: an
    /// audience that was made anew meanwhile is another.
    ///
    /// # Errors
    /// 42704, 40001.
    pub async fn refresh_audience(&self, name: &str, query: &str, members: Members) -> Result<Refreshed> {
        let file = members.set.file;
        let (name, query) = (name.to_owned(), query.to_owned());
        let refreshed = self
            .inner
            .change(move |definitions| {
                nobody_erased(&members.refusal)?;
                let found = definitions.audiences.get_mut(&name).ok_or_else(|| missing(&name))?;
                if found.query != query {
                    return Err(Error::new(Code::Serialization, format!("audience \"{name}\" was made anew meanwhile")));
                }
                found.refreshed_at_us = now_us();
                let newest = found.versions.last().map_or(0, |newest| newest.version);
                if found.versions.last().is_some_and(|newest| newest.hash == members.set.hash) {
                    return Ok(Refreshed { version: newest, changed: false });
                }
                found.versions.push(members.version(newest + 1));
                Ok(Refreshed { version: newest + 1, changed: true })
            })
            .await;
        if refreshed.as_ref().map_or_else(refused, |refreshed| !refreshed.changed) {
            remove_set(self.inner.store.objects().as_ref(), file).await;
        }
        refreshed
    }

    /// `DROP AUDIENCE`: all its versions. Returns false when there was none and `if_exists`.
    ///
    /// # Errors
    /// 42704.
    pub async fn drop_audience(&self, name: &str, if_exists: bool) -> Result<bool> {
        let name = name.to_owned();
        let dropped = self
            .inner
            .change(move |definitions| match definitions.audiences.remove(&name) {
                Some(found) => {
                    definitions.access.forget(&Object::new(ObjectClass::Audience, name));
                    Ok(Some(found))
                }
                None if if_exists => Ok(None),
                None => Err(missing(&name)),
            })
            .await?;
        for version in dropped.iter().flat_map(|found| &found.versions) {
            remove_set(self.inner.store.objects().as_ref(), version.file).await;
        }
        Ok(dropped.is_some())
    }

    /// Audiences for functions. It does not keep the catalog alive.
    pub fn audiences(&self) -> Arc<dyn AudienceProvider> {
        Arc::new(Audiences { inner: Arc::downgrade(&self.inner), kept: Mutex::default() })
    }
}

/// Succeeds when no user was erased since the members were read: one of them may be there.
fn nobody_erased(refusal: &Refusal) -> Result<()> {
    refusal.still_holds("the members of an audience")
}

/// Whether the catalog refused a change before it wrote anything. A failure to write may have been a success: then the set
/// stays, and the next start knows.
fn refused(error: &Error) -> bool {
    matches!(error.code, Code::DuplicateObject | Code::UndefinedObject | Code::Serialization)
}

fn taken(name: &str) -> Error {
    Error::new(Code::DuplicateObject, format!("audience \"{name}\" already exists"))
}

impl StoredAudience {
    fn key(&self) -> AudienceKey {
        if self.text_key { AudienceKey::Text } else { AudienceKey::BigInt }
    }

    fn info(&self, name: &str) -> AudienceInfo {
        let version = |stored: &StoredVersion| AudienceVersion {
            version: stored.version,
            members: stored.members,
            bytes: stored.bytes,
            created_at_us: stored.created_at_us,
        };
        AudienceInfo {
            name: name.to_owned(),
            owner: self.owner.clone(),
            definition: self.query.clone(),
            key: self.key(),
            versions: self.versions.iter().map(version).collect(),
            refreshed_at_us: self.refreshed_at_us,
        }
    }
}

/// The catalog's audiences, and the sets that were read last.
#[derive(Debug)]
struct Audiences {
    inner: Weak<Inner>,
    kept: Mutex<Kept>,
}

/// Sets in memory, as many as fit.
#[derive(Debug, Default)]
struct Kept {
    sets: HashMap<Uuid, Arc<Bitmap>>,
    bytes: usize,
}

impl Audiences {
    fn inner(&self) -> Result<Arc<Inner>> {
        self.inner.upgrade().ok_or_else(|| Error::new(Code::Shutdown, "the server is shutting down"))
    }
}

#[async_trait]
impl AudienceProvider for Audiences {
    fn list(&self) -> Vec<AudienceInfo> {
        let Ok(inner) = self.inner() else { return Vec::new() };
        inner.state().definitions.audiences.iter().map(|(name, stored)| stored.info(name)).collect()
    }

    fn get(&self, name: &str) -> Option<AudienceInfo> {
        self.inner().ok()?.state().definitions.audiences.get(name).map(|stored| stored.info(name))
    }

    fn check(&self, caller: &str, name: &str) -> Result<()> {
        let audience = Object::new(ObjectClass::Audience, name);
        super::access::Rights::new(self.inner()?.state(), caller).require(Privilege::Select, &audience)
    }

    async fn members(&self, name: &str, version: u32) -> Result<Arc<Bitmap>> {
        let inner = self.inner()?;
        let file = {
            let state = inner.state();
            let found = state.definitions.audiences.get(name).ok_or_else(|| missing(name))?;
            let found = found.versions.iter().find(|known| known.version == version);
            found.ok_or_else(|| Error::new(Code::UndefinedObject, format!("audience \"{name}\" has no version {version}")))?.file
        };
        if let Some(set) = self.kept.lock().sets.get(&file) {
            return Ok(Arc::clone(set));
        }
        let set = Arc::new(read_set(inner.store.objects().as_ref(), file).await?);
        let bytes = set.heap_bytes();
        let mut kept = self.kept.lock();
        if kept.bytes + bytes > KEPT_BYTES {
            *kept = Kept::default();
        }
        if bytes <= KEPT_BYTES && kept.sets.insert(file, Arc::clone(&set)).is_none() {
            kept.bytes += bytes;
        }
        Ok(set)
    }

    async fn numbers(&self) -> Result<Arc<dyn UserNumbers>> {
        let inner = self.inner()?;
        let pool = Arc::clone(&inner.env.read().memory_pool);
        inner.dictionary.load(&pool).await?;
        Ok(inner.merging.now())
    }

    async fn persons(&self, name: &str, version: &AudienceVersion) -> Result<u64> {
        if self.inner()?.identities.people().are_plain() {
            return Ok(version.members);
        }
        let members = self.members(name, version.version).await?;
        Ok(self.numbers().await?.persons(&members).len())
    }
}
