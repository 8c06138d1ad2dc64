//! Users who are forgotten: what of an erasure is durable, and its steps.
//!
//! Life of an erasure: [`Eraser::begin`] makes it durable in one change of the catalog's file: the users' hashes, and audiences
//! without them. From then on they are in no answer. [`Eraser::erase_rows`] writes tables anew and takes the ids out of the
//! dictionary of users; [`Eraser::finish`] keeps the receipt and ends the hiding. Killed anywhere between, the next start goes on
//! with `erase_rows`: it needs the hashes alone.
//!
//! What is not here: histories' copies and models, which the engine looks after.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, Weak};

use datafusion::execution::runtime_env::RuntimeEnv;
use parking_lot::RwLock;
use portrait_udfs::context::{ErasedFrom, ErasureInfo};
use portrait_udfs::error::{Code, Error, Result};
use portrait_udfs::kernels::bitmap::Bitmap;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::file::Definitions;
use super::open::{Inner, Object, State};
use super::roles::random_bytes;
use crate::storage::Role;
use crate::storage::audience::{StoredSet, read_set, remove_set, replace_set};
use crate::storage::delta::DeltaTable;
use crate::storage::erasure::{HashKey, UserHash, Users, hash_of, is_user_type};
use crate::storage::events::erase::{Erased, erase, forget_versions};

/// How often an erasure begins anew because audiences changed meanwhile.
const ATTEMPTS: usize = 16;

/// What a column of users is called where no table of events says.
const USUAL_USER: &str = "user_id";

/// What the catalog's file knows of users who are forgotten.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredErasures {
    /// The key of the hashes, hexadecimal; made with the first erasure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// The oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    erasures: Vec<StoredErasure>,
    /// Hashes of users whose events are not taken.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    suppressed: BTreeSet<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct StoredErasure {
    users: Vec<String>,
    suppressed: bool,
    requested_by: String,
    requested_at_us: i64,
    finished_at_us: Option<i64>,
    removed: Vec<StoredRemoval>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct StoredRemoval {
    kind: String,
    object: String,
    removed: u64,
    files: u64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    remark: String,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    (text.len() == 2 * N).then_some(bytes)
}

impl StoredErasures {
    /// Whether there never was any.
    pub(super) fn is_empty(&self) -> bool {
        self == &Self::default()
    }

    /// How many erasures have begun; what was read before one must not be written after it.
    pub(super) fn begun(&self) -> usize {
        self.erasures.len()
    }

    fn hash_key(&self) -> HashKey {
        self.key.as_deref().and_then(unhex).unwrap_or_default()
    }

    /// The key, made if there is none.
    fn make_key(&mut self) -> Result<HashKey> {
        if self.key.is_none() {
            self.key = Some(hex(&random_bytes::<32>()?));
        }
        Ok(self.hash_key())
    }

    fn users<'a>(&self, hashes: impl Iterator<Item = &'a String>) -> Users {
        Users::new(self.hash_key(), hashes.filter_map(|hash| unhex::<16>(hash)).collect::<HashSet<UserHash>>())
    }

    fn pending(&self) -> impl Iterator<Item = &StoredErasure> {
        self.erasures.iter().filter(|erasure| erasure.finished_at_us.is_none())
    }

    /// Users whose erasure is under way.
    pub(super) fn hidden(&self) -> Users {
        self.users(self.pending().flat_map(|erasure| &erasure.users))
    }

    /// Users whose events are not taken.
    pub(super) fn suppressed(&self) -> Users {
        self.users(self.suppressed.iter())
    }
}

impl StoredErasure {
    fn info(&self, id: usize) -> ErasureInfo {
        let removed = self.removed.iter().map(|stored| ErasedFrom {
            kind: stored.kind.clone(),
            object: stored.object.clone(),
            removed: stored.removed,
            files: stored.files,
            remark: stored.remark.clone(),
        });
        ErasureInfo {
            id: id as u64 + 1,
            users: self.users.clone(),
            suppressed: self.suppressed,
            requested_by: self.requested_by.clone(),
            requested_at_us: self.requested_at_us,
            finished_at_us: self.finished_at_us,
            removed: removed.collect(),
        }
    }
}

/// The columns that say whose a row is: those that tables of events declare, and the usual one.
fn user_names(state: &State) -> BTreeSet<&str> {
    let declared = state.entries.values().filter_map(|entry| Some(entry.info.events.as_ref()?.user.as_str()));
    // Any table has an `id`, and mostly not a user's.
    declared.filter(|name| *name != "id").chain([USUAL_USER]).collect()
}

/// The columns of a managed table that say whose a row is.
pub(super) fn user_columns(state: &State, table: &DeltaTable) -> Vec<usize> {
    let found = |name: &str| {
        let (index, field) = table.schema().fields().find(name)?;
        is_user_type(field.data_type()).then_some(index)
    };
    match table.role() {
        Role::Events(columns) => found(&columns.user).into_iter().collect(),
        Role::Quarantine { of, .. } => {
            let events = state.entries.get(of).and_then(|entry| entry.info.events.as_ref());
            events.and_then(|events| found(&events.user)).into_iter().collect()
        }
        Role::Plain => user_names(state).into_iter().filter_map(found).collect(),
    }
}

/// Erases; it does not keep the catalog alive.
#[derive(Debug, Clone)]
pub struct Eraser {
    inner: Weak<Inner>,
    /// One erasure at a time.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// What was taken out so far of what is under way, also by an attempt that failed.
    progress: Arc<RwLock<BTreeMap<(String, String), ErasedFrom>>>,
}

impl super::Catalog {
    /// Erasures for functions. It does not keep the catalog alive.
    pub fn eraser(&self) -> Eraser {
        Eraser { inner: Arc::downgrade(&self.inner), turn: Arc::default(), progress: Arc::default() }
    }
}

impl Eraser {
    fn inner(&self) -> Result<Arc<Inner>> {
        self.inner.upgrade().ok_or_else(|| Error::new(Code::Shutdown, "the server is shutting down"))
    }

    /// Waits for this erasure's turn.
    pub async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// Every erasure, the oldest first.
    pub fn list(&self) -> Vec<ErasureInfo> {
        let Ok(inner) = self.inner() else { return Vec::new() };
        let state = inner.state();
        state.definitions.erasures.erasures.iter().enumerate().map(|(id, stored)| stored.info(id)).collect()
    }

    /// Whether an erasure is under way.
    pub fn is_pending(&self) -> bool {
        self.inner().is_ok_and(|inner| inner.state().definitions.erasures.pending().next().is_some())
    }

    /// Succeeds when `caller` may erase.
    ///
    /// # Errors
    /// 42501.
    pub fn authorize(&self, caller: &str, action: &str) -> Result<()> {
        let inner = self.inner()?;
        let state = inner.state();
        if state.definitions.roles.get(caller).is_none_or(|role| role.superuser) {
            return Ok(());
        }
        Err(Error::new(Code::InsufficientPrivilege, format!("permission denied to {action} users"))
            .hint("Only superusers may erase and suppress users."))
    }

    /// Makes an erasure durable: from here on the users are in no answer. Call it in one's [`turn`](Self::turn).
    ///
    /// # Errors
    /// 40001 when audiences changed again and again; failures of the store. Then nothing has changed.
    pub async fn begin(&self, users: &[String], suppress: bool, caller: &str) -> Result<()> {
        let inner = self.inner()?;
        let key = inner.change(|definitions| definitions.erasures.make_key()).await?;
        let hashes: Vec<String> = users.iter().map(|user| hex(&hash_of(&key, user))).collect();
        let erased = Users::new(key, users.iter().map(|user| hash_of(&key, user)).collect());
        let pool = Arc::clone(&inner.env.read().memory_pool);
        inner.dictionary.load(&pool).await?;
        for _ in 0..ATTEMPTS {
            // Before the numbers: whoever is in these audiences has one.
            let state = inner.state();
            let numbers = Bitmap::from_ids(inner.dictionary.numbers_of(&erased));
            let sets = match Sets::without(&inner, &state, &numbers).await {
                // An audience was dropped meanwhile.
                Err(_) if !Arc::ptr_eq(&state, &inner.state()) => continue,
                sets => sets?,
            };
            let old: Vec<Uuid> = sets.replaced.keys().copied().collect();
            let new: Vec<Uuid> = sets.replaced.values().map(|set| set.file).collect();
            let erasure = StoredErasure {
                users: hashes.clone(),
                suppressed: suppress,
                requested_by: caller.to_owned(),
                requested_at_us: now_us(),
                finished_at_us: None,
                removed: sets.shrunk.iter().cloned().map(StoredRemoval::from).collect(),
            };
            let begun = inner.change(move |definitions| begin(definitions, erasure, &sets)).await?;
            for file in if begun { old } else { new } {
                remove_set(inner.store.objects().as_ref(), file).await;
            }
            if begun {
                return Ok(());
            }
        }
        Err(Error::new(Code::Serialization, "audiences were changed by other statements again and again").hint("Run the statement again."))
    }

    /// Takes everybody whose erasure is under way out of tables and out of the dictionary of users. With `again`, an earlier
    /// attempt failed: older versions may hold rows that the newest does not.
    ///
    /// # Errors
    /// Failures of the store: then the users stay hidden, and another call goes on.
    pub async fn erase_rows(&self, again: bool) -> Result<()> {
        let inner = self.inner()?;
        let state = inner.state();
        let hidden = inner.forgotten.hidden();
        if hidden.is_empty() {
            return Ok(());
        }
        let env = Arc::clone(&inner.env.read());
        let names = user_names(&state);
        let mut failure = None;
        for (name, entry) in &state.entries {
            let has_users = || names.iter().any(|user| entry.info.schema.fields().find(user).is_some());
            let found = match &entry.object {
                Object::Managed(table) => {
                    let columns = user_columns(&state, table);
                    if columns.is_empty() {
                        continue;
                    }
                    // One table that cannot be written must not keep the others.
                    let gone = match erase_from(table, &env, &columns, &hidden, again).await {
                        Ok(gone) => gone,
                        Err(error) => {
                            failure.get_or_insert(error);
                            continue;
                        }
                    };
                    ErasedFrom { kind: "table".into(), object: name.clone(), removed: gone.rows, files: gone.files, remark: String::new() }
                }
                Object::External(_) if has_users() => ErasedFrom {
                    kind: "external table".into(),
                    object: name.clone(),
                    removed: 0,
                    files: 0,
                    remark: "its files are not the store's: remove the users' rows from them".into(),
                },
                _ => continue,
            };
            self.note(vec![found]);
        }
        let pool = Arc::clone(&inner.env.read().memory_pool);
        inner.dictionary.load(&pool).await?;
        inner.dictionary.forget(&hidden).await?;
        failure.map_or(Ok(()), Err)
    }

    /// Adds to the receipt of what is under way.
    pub fn note(&self, found: Vec<ErasedFrom>) {
        let mut progress = self.progress.write();
        for found in found {
            let known = progress.entry((found.kind.clone(), found.object.clone())).or_insert_with(|| ErasedFrom {
                removed: 0,
                files: 0,
                ..found.clone()
            });
            known.removed += found.removed;
            known.files += found.files;
        }
    }

    /// Ends what is under way, and keeps the receipt with the newest of it.
    ///
    /// # Errors
    /// Failures of the store.
    pub async fn finish(&self) -> Result<ErasureInfo> {
        let removed: Vec<ErasedFrom> = self.progress.read().values().cloned().collect();
        let stored: Vec<StoredRemoval> = removed.into_iter().map(StoredRemoval::from).collect();
        let done = self.inner()?.change(move |definitions| finish(definitions, stored)).await?;
        self.progress.write().clear();
        done.ok_or_else(|| Error::internal("no erasure is under way"))
    }

    /// Refuses events of users from now on. Returns how many are new.
    ///
    /// # Errors
    /// Failures of the store.
    pub async fn suppress(&self, users: Vec<String>) -> Result<u64> {
        self.inner()?
            .change(move |definitions| {
                let key = definitions.erasures.make_key()?;
                let hashes = users.iter().map(|user| hex(&hash_of(&key, user)));
                Ok(hashes.filter(|hash| definitions.erasures.suppressed.insert(hash.clone())).count() as u64)
            })
            .await
    }

    /// Takes events of users again. Returns how many were suppressed.
    ///
    /// # Errors
    /// Failures of the store.
    pub async fn unsuppress(&self, users: Vec<String>) -> Result<u64> {
        self.inner()?
            .change(move |definitions| {
                let key = definitions.erasures.hash_key();
                let hashes = users.iter().map(|user| hex(&hash_of(&key, user)));
                Ok(hashes.filter(|hash| definitions.erasures.suppressed.remove(hash)).count() as u64)
            })
            .await
    }
}

impl From<ErasedFrom> for StoredRemoval {
    fn from(found: ErasedFrom) -> Self {
        let ErasedFrom { kind, object, removed, files, remark } = found;
        Self { kind, object, removed, files, remark }
    }
}

async fn erase_from(table: &Arc<DeltaTable>, env: &Arc<RuntimeEnv>, columns: &[usize], users: &Users, again: bool) -> Result<Erased> {
    let gone = erase(table, env, columns, users).await?;
    // A table without their rows never had them, and keeps its versions.
    if again || gone.files > 0 {
        forget_versions(table, env).await?;
    }
    Ok(gone)
}

fn now_us() -> i64 {
    chrono::Utc::now().timestamp_micros()
}

/// Writes an erasure and the audiences without its users; false when audiences are not those that `sets` are made of.
fn begin(definitions: &mut Definitions, erasure: StoredErasure, sets: &Sets) -> Result<bool> {
    let versions = || definitions.audiences.values().flat_map(|audience| &audience.versions);
    if versions().any(|version| !sets.seen.contains(&version.file)) {
        return Ok(false);
    }
    for version in definitions.audiences.values_mut().flat_map(|audience| &mut audience.versions) {
        if let Some(set) = sets.replaced.get(&version.file) {
            let StoredSet { file, members, bytes, hash } = set.clone();
            (version.file, version.members, version.bytes, version.hash) = (file, members, bytes, hash);
        }
    }
    if erasure.suppressed {
        definitions.erasures.suppressed.extend(erasure.users.iter().cloned());
    }
    definitions.erasures.erasures.push(erasure);
    Ok(true)
}

fn finish(definitions: &mut Definitions, removed: Vec<StoredRemoval>) -> Result<Option<ErasureInfo>> {
    let erasures = &mut definitions.erasures.erasures;
    let Some(newest) = erasures.iter().rposition(|erasure| erasure.finished_at_us.is_none()) else { return Ok(None) };
    let now = now_us();
    erasures.iter_mut().filter(|erasure| erasure.finished_at_us.is_none()).for_each(|erasure| erasure.finished_at_us = Some(now));
    erasures[newest].removed.extend(removed);
    Ok(Some(erasures[newest].info(newest)))
}

/// Audiences' sets without some users.
struct Sets {
    /// Every set that was looked at.
    seen: HashSet<Uuid>,
    /// What takes the place of those that have such members.
    replaced: BTreeMap<Uuid, StoredSet>,
    /// For the receipt.
    shrunk: Vec<ErasedFrom>,
}

impl Sets {
    async fn without(inner: &Inner, state: &State, numbers: &Bitmap) -> Result<Self> {
        let mut found = Self { seen: HashSet::new(), replaced: BTreeMap::new(), shrunk: Vec::new() };
        for (name, audience) in &state.definitions.audiences {
            let mut versions = 0;
            for version in &audience.versions {
                found.seen.insert(version.file);
                if numbers.is_empty() {
                    continue;
                }
                let set = read_set(inner.store.objects().as_ref(), version.file).await?;
                if set.meets(numbers) {
                    found.replaced.insert(version.file, replace_set(inner.store.objects().as_ref(), set.and_not(numbers)).await?);
                    versions += 1;
                }
            }
            if versions > 0 {
                let (kind, object) = ("audience".to_owned(), name.clone());
                found.shrunk.push(ErasedFrom { kind, object, removed: versions, files: versions, remark: String::new() });
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_as_they_are_written() {
        assert_eq!(unhex::<3>(&hex(&[0, 255, 16])), Some([0, 255, 16]));
        assert_eq!((unhex::<2>("00"), unhex::<1>("zz"), unhex::<1>("0000")), (None, None, None));
    }
}
