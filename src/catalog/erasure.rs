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

use datafusion::arrow::datatypes::Schema;
use datafusion::execution::runtime_env::RuntimeEnv;
use portrait_udfs::context::{ErasedFrom, ErasureInfo};
use portrait_udfs::error::{Code, Error, Result};
use portrait_udfs::kernels::bitmap::Bitmap;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::file::Definitions;
use super::open::{Inner, Object, State};
use super::roles::random_bytes;
use crate::storage::Role;
use crate::storage::Store;
use crate::storage::audience::{StoredSet, read_set, remove_set, replace_set};
use crate::storage::delta::DeltaTable;
use crate::storage::erasure::{HashKey, UserHash, Users, hash_of, is_user_type};
use crate::storage::events::erase::{Erased, erase, forget_versions};
use crate::storage::hash_list::HashList;

/// How often an erasure begins anew because audiences changed meanwhile.
const ATTEMPTS: usize = 16;

/// Users of one erasure, or suppressed ones, that the catalog's file holds itself.
const FEW: usize = 1000;

/// Hashes that receipts and views show.
const HASHES_SHOWN: usize = 1000;

/// What a receipt calls a managed table.
const TABLE: &str = "table";
const TEMPORARY_TABLE: &str = "temporary table";

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
    /// Hashes of users whose events are not taken: a few, and the others in lists.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    suppressed: BTreeSet<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    suppressed_lists: Vec<Uuid>,
    /// Users of the lists whose events are taken again.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    lifted: BTreeSet<String>,
    /// The lists, as they are on the disk.
    #[serde(skip)]
    lists: BTreeMap<Uuid, HashList>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct StoredErasure {
    /// Hashes of the users, unless they are in a list.
    users: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    list: Option<Uuid>,
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
        Users::new(self.hash_key(), bytes_of(hashes))
    }

    fn lists_of<'a>(&self, files: impl Iterator<Item = &'a Uuid>) -> Vec<HashList> {
        files.filter_map(|file| self.lists.get(file).cloned()).collect()
    }

    /// The lists that are named.
    pub(super) fn named(&self) -> HashSet<Uuid> {
        self.suppressed_lists.iter().copied().chain(self.erasures.iter().filter_map(|erasure| erasure.list)).collect()
    }

    /// Reads the lists.
    ///
    /// # Errors
    /// XX001 naming a damaged one.
    pub(super) async fn load(&mut self, store: &Store) -> Result<()> {
        for file in self.named() {
            self.lists.insert(file, HashList::read(store.objects().as_ref(), file).await?);
        }
        Ok(())
    }

    /// How many users there are whose events are not taken, and some of their hashes.
    fn count_suppressed(&self) -> (u64, Vec<String>) {
        let lists = self.lists_of(self.suppressed_lists.iter());
        let mut count = 0;
        for (at, list) in lists.iter().enumerate() {
            count += list.hashes().iter().filter(|hash| !lists[..at].iter().any(|before| before.contains(hash))).count();
        }
        let few = self.suppressed.iter().filter(|hash| !unhex(hash).is_some_and(|hash| lists.iter().any(|list| list.contains(&hash))));
        let total = (count + few.count()).saturating_sub(self.lifted.len());
        let listed = lists.iter().flat_map(|list| list.hashes().iter().map(|hash| hex(hash))).filter(|hash| !self.lifted.contains(hash));
        (total as u64, self.suppressed.iter().cloned().chain(listed).take(HASHES_SHOWN).collect())
    }

    /// Whether a user is in a list of those whose events are not taken, lifted or not.
    fn is_listed(&self, hash: &str) -> bool {
        let lists = || self.suppressed_lists.iter().filter_map(|file| self.lists.get(file));
        unhex(hash).is_some_and(|hash| lists().any(|list| list.contains(&hash)))
    }

    /// Whose events are not taken from now on; whether that is new.
    fn suppress(&mut self, hash: String) -> bool {
        if self.is_listed(&hash) { self.lifted.remove(&hash) } else { self.suppressed.insert(hash) }
    }

    /// Whose events are taken again; whether that is new.
    fn unsuppress(&mut self, hash: String) -> bool {
        let few = self.suppressed.remove(&hash);
        let listed = self.is_listed(&hash);
        let lifted = listed && self.lifted.insert(hash);
        few || lifted
    }

    /// Names a list of users whose events are not taken in the place of the few that are in it. Those of it who are no longer
    /// among the few were let in meanwhile.
    fn move_to_list(&mut self, list: HashList) {
        for hash in list.hashes().iter().map(|hash| hex(hash)) {
            if !self.suppressed.remove(&hash) {
                self.lifted.insert(hash);
            }
        }
        self.suppressed_lists.push(list.file);
        self.lists.insert(list.file, list);
    }

    fn pending(&self) -> impl Iterator<Item = &StoredErasure> {
        self.erasures.iter().filter(|erasure| erasure.finished_at_us.is_none())
    }

    /// Users whose erasure is under way.
    pub(super) fn hidden(&self) -> Users {
        let lists = self.lists_of(self.pending().filter_map(|erasure| erasure.list.as_ref()));
        self.users(self.pending().flat_map(|erasure| &erasure.users)).with(lists, HashSet::new())
    }

    /// Users whose events are not taken.
    pub(super) fn suppressed(&self) -> Users {
        let lists = self.lists_of(self.suppressed_lists.iter());
        self.users(self.suppressed.iter()).with(lists, bytes_of(self.lifted.iter()))
    }

    fn info(&self, id: usize) -> Option<ErasureInfo> {
        let stored = self.erasures.get(id)?;
        let list = stored.list.as_ref().and_then(|file| self.lists.get(file));
        let listed = list.iter().flat_map(|list| list.hashes()).map(|hash| hex(hash));
        let removed = stored.removed.iter().map(|stored| ErasedFrom {
            kind: stored.kind.clone(),
            object: stored.object.clone(),
            removed: stored.removed,
            files: stored.files,
            remark: stored.remark.clone(),
        });
        Some(ErasureInfo {
            id: id as u64 + 1,
            count: (stored.users.len() + list.map_or(0, |list| list.hashes().len())) as u64,
            users: stored.users.iter().cloned().chain(listed).take(HASHES_SHOWN).collect(),
            suppressed: stored.suppressed,
            requested_by: stored.requested_by.clone(),
            requested_at_us: stored.requested_at_us,
            finished_at_us: stored.finished_at_us,
            removed: removed.collect(),
        })
    }
}

fn bytes_of<'a>(hashes: impl Iterator<Item = &'a String>) -> HashSet<UserHash> {
    hashes.filter_map(|hash| unhex::<16>(hash)).collect()
}

impl StoredErasure {
    fn note(&mut self, found: ErasedFrom) {
        match self.removed.iter_mut().find(|known| known.kind == found.kind && known.object == found.object) {
            Some(known) => {
                known.removed = known.removed.max(found.removed);
                known.files = known.files.max(found.files);
                known.remark = found.remark;
            }
            None => self.removed.push(found.into()),
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
        Role::Derived { user } => {
            let own = user.as_deref().and_then(found);
            let all = plain_user_columns(state, table.schema()).into_iter().chain(own).collect::<BTreeSet<_>>();
            all.into_iter().collect()
        }
        Role::Plain => plain_user_columns(state, table.schema()),
    }
}

/// The columns that say whose a row is, of a table of rows of any kind.
pub(super) fn plain_user_columns(state: &State, schema: &Schema) -> Vec<usize> {
    let users = user_names(state).into_iter().filter_map(|name| schema.fields().find(name));
    users.filter(|(_, field)| is_user_type(field.data_type())).map(|(index, _)| index).collect()
}

/// Erases; it does not keep the catalog alive.
#[derive(Debug, Clone)]
pub struct Eraser {
    inner: Weak<Inner>,
    /// One erasure at a time.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl super::Catalog {
    /// Erasures for functions. It does not keep the catalog alive.
    pub fn eraser(&self) -> Eraser {
        Eraser { inner: Arc::downgrade(&self.inner), turn: Arc::default() }
    }
}

impl Eraser {
    pub(super) fn inner(&self) -> Result<Arc<Inner>> {
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
        let erasures = &state.definitions.erasures;
        (0..erasures.erasures.len()).filter_map(|id| erasures.info(id)).collect()
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
        if super::access::is_superuser(&state.definitions, caller) {
            return Ok(());
        }
        Err(Error::new(Code::InsufficientPrivilege, format!("permission denied to {action} users"))
            .hint("Only superusers may erase and suppress users."))
    }

    /// Every id of the persons whom `users` are.
    ///
    /// # Errors
    /// While the server is shutting down.
    pub fn all_ids(&self, users: &[String]) -> Result<Vec<String>> {
        let people = self.inner()?.identities.people();
        let reader = people.read();
        let ids = |user: &String| match reader.ids(user) {
            Some(ids) => ids.into_iter().map(str::to_owned).collect(),
            None => vec![user.clone()],
        };
        Ok(users.iter().flat_map(ids).collect::<BTreeSet<String>>().into_iter().collect())
    }

    /// Makes an erasure durable: from here on the users are in no answer. Call it in one's [`turn`](Self::turn).
    ///
    /// # Errors
    /// 40001 when audiences changed again and again; failures of the store. Then nothing has changed.
    pub async fn begin(&self, users: &[String], suppress: bool, caller: &str) -> Result<()> {
        let inner = self.inner()?;
        let key = inner.change(|definitions| definitions.erasures.make_key()).await?;
        let hashes: Vec<UserHash> = users.iter().map(|user| hash_of(&key, user)).collect();
        let erased = Users::new(key, hashes.iter().copied().collect());
        let list = if hashes.len() > FEW { Some(HashList::write(inner.store.objects().as_ref(), hashes.clone()).await?) } else { None };
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
                users: if list.is_some() { Vec::new() } else { hashes.iter().map(|hash| hex(hash)).collect() },
                list: list.as_ref().map(|list| list.file),
                suppressed: suppress,
                requested_by: caller.to_owned(),
                requested_at_us: now_us(),
                finished_at_us: None,
                removed: sets.shrunk.iter().cloned().map(StoredRemoval::from).collect(),
            };
            let own = list.clone();
            let begun = inner.change(move |definitions| begin(definitions, erasure, own, &sets)).await?;
            for file in if begun { old } else { new } {
                remove_set(inner.store.objects().as_ref(), file).await;
            }
            if begun {
                return Ok(());
            }
        }
        if let Some(list) = list {
            HashList::remove(inner.store.objects().as_ref(), list.file).await;
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
        match inner.identities.forget(&hidden).await {
            Ok(gone) if gone.files > 0 => {
                let (kind, object) = ("links between ids".to_owned(), "all".to_owned());
                self.note(vec![ErasedFrom { kind, object, removed: gone.links, files: gone.files, remark: String::new() }]).await?;
            }
            Ok(_) => {}
            Err(error) => failure = Some(error),
        }
        for (name, entry) in &state.entries {
            match &entry.object {
                Object::Managed(table) => {
                    let columns = user_columns(&state, table);
                    if columns.is_empty() {
                        continue;
                    }
                    // One table that cannot be written must not keep the others.
                    if let Err(error) = self.erase_from(table, (TABLE, name), &env, &columns, &hidden, again).await {
                        failure.get_or_insert(error);
                    }
                }
                Object::External(_) if names.iter().any(|user| entry.info.schema.fields().find(user).is_some()) => {
                    let remark = "its files are not the store's: remove the users' rows from them".to_owned();
                    self.note(vec![ErasedFrom { kind: "external table".into(), object: name.clone(), removed: 0, files: 0, remark }])
                        .await?;
                }
                _ => {}
            }
        }
        for (schema, table) in inner.temporary_tables() {
            let columns = user_columns(&state, &table);
            if columns.is_empty() {
                continue;
            }
            let shown = format!("{schema}.{}", table.name());
            if let Err(error) = self.erase_from(&table, (TEMPORARY_TABLE, &shown), &env, &columns, &hidden, again).await {
                failure.get_or_insert(error);
            }
        }
        let pool = Arc::clone(&inner.env.read().memory_pool);
        inner.dictionary.load(&pool).await?;
        inner.dictionary.forget(&hidden).await?;
        failure.map_or(Ok(()), Err)
    }

    /// Takes `users` out of one table. What goes is on the receipt before it is gone: a crash in between loses neither.
    async fn erase_from(
        &self,
        table: &Arc<DeltaTable>,
        (kind, object): (&str, &str),
        env: &Arc<RuntimeEnv>,
        columns: &[usize],
        users: &Users,
        again: bool,
    ) -> Result<()> {
        let row = |gone: Erased| ErasedFrom {
            kind: kind.to_owned(),
            object: object.to_owned(),
            removed: gone.rows,
            files: gone.files,
            remark: String::new(),
        };
        let gone = erase(table, env, columns, users, |gone| self.note(vec![row(gone)])).await?;
        if gone.files == 0 {
            self.note(vec![row(gone)]).await?;
        }
        // A table without their rows never had them, and keeps its versions.
        if again || gone.files > 0 {
            forget_versions(table, env).await?;
        }
        Ok(())
    }

    /// Writes on the receipt of what is under way. Of an object that is on it already the greater numbers count: an attempt that
    /// failed may have announced what the next one takes out.
    ///
    /// # Errors
    /// Failures of the store.
    pub async fn note(&self, found: Vec<ErasedFrom>) -> Result<()> {
        self.inner()?
            .change(move |definitions| {
                if let Some(newest) = definitions.erasures.erasures.iter_mut().rfind(|erasure| erasure.finished_at_us.is_none()) {
                    found.into_iter().for_each(|found| newest.note(found));
                }
                Ok(())
            })
            .await
    }

    /// Since when the oldest erasure is under way, and the managed tables that had rows of the users.
    pub fn progress(&self) -> Option<(i64, BTreeSet<String>)> {
        let inner = self.inner().ok()?;
        let state = inner.state();
        let since_us = state.definitions.erasures.pending().map(|erasure| erasure.requested_at_us).min()?;
        let removed = state.definitions.erasures.pending().flat_map(|erasure| &erasure.removed);
        let held = removed.filter(|removal| removal.kind == TABLE && removal.removed > 0).map(|removal| removal.object.clone());
        Some((since_us, held.collect()))
    }

    /// Whether `text` is what a user is called whose erasure is under way.
    pub fn is_going(&self, text: &str) -> bool {
        self.inner().is_ok_and(|inner| inner.forgotten.hidden().contains(text))
    }

    /// Ends what is under way. Returns the receipt of the newest of it.
    ///
    /// # Errors
    /// Failures of the store.
    pub async fn finish(&self) -> Result<ErasureInfo> {
        let done = self.inner()?.change(finish).await?;
        done.ok_or_else(|| Error::internal("no erasure is under way"))
    }

    /// Refuses events of users from now on. Returns how many are new.
    ///
    /// # Errors
    /// Failures of the store.
    pub async fn suppress(&self, users: Vec<String>) -> Result<u64> {
        let inner = self.inner()?;
        let few = bytes_of(inner.state().definitions.erasures.suppressed.iter());
        if few.len() + users.len() > FEW && !few.is_empty() {
            let list = HashList::write(inner.store.objects().as_ref(), few.into_iter().collect()).await?;
            inner
                .change(move |definitions| {
                    definitions.erasures.move_to_list(list);
                    Ok(())
                })
                .await?;
        }
        inner
            .change(move |definitions| {
                let key = definitions.erasures.make_key()?;
                let hashes = users.iter().map(|user| hex(&hash_of(&key, user)));
                Ok(hashes.filter(|hash| definitions.erasures.suppress(hash.clone())).count() as u64)
            })
            .await
    }

    /// How many users there are whose events are not taken, and some of their hashes.
    pub fn suppressed(&self) -> (u64, Vec<String>) {
        self.inner().map_or_else(|_| (0, Vec::new()), |inner| inner.state().definitions.erasures.count_suppressed())
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
                Ok(hashes.filter(|hash| definitions.erasures.unsuppress(hash.clone())).count() as u64)
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

fn now_us() -> i64 {
    chrono::Utc::now().timestamp_micros()
}

/// Writes an erasure and the audiences without its users; false when audiences are not those that `sets` are made of.
fn begin(definitions: &mut Definitions, erasure: StoredErasure, list: Option<HashList>, sets: &Sets) -> Result<bool> {
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
    let erasures = &mut definitions.erasures;
    if let Some(list) = list {
        if erasure.suppressed {
            erasures.lifted.retain(|hash| !unhex(hash).is_some_and(|hash| list.contains(&hash)));
            erasures.suppressed_lists.push(list.file);
        }
        erasures.lists.insert(list.file, list);
    } else if erasure.suppressed {
        for hash in &erasure.users {
            erasures.suppress(hash.clone());
        }
    }
    erasures.erasures.push(erasure);
    Ok(true)
}

fn finish(definitions: &mut Definitions) -> Result<Option<ErasureInfo>> {
    let erasures = &mut definitions.erasures.erasures;
    let Some(newest) = erasures.iter().rposition(|erasure| erasure.finished_at_us.is_none()) else { return Ok(None) };
    let now = now_us();
    erasures.iter_mut().filter(|erasure| erasure.finished_at_us.is_none()).for_each(|erasure| erasure.finished_at_us = Some(now));
    Ok(definitions.erasures.info(newest))
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
