//! The catalog's state: the definitions on the disk and the objects made of them.

use std::collections::{BTreeMap, HashSet};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use datafusion::catalog::SchemaProvider;
use datafusion::execution::runtime_env::RuntimeEnv;
use parking_lot::{Mutex, RwLock};
use portrait_udfs::error::{Code, Error, Result};
use uuid::Uuid;

use super::definitions::{ObjectKind, TableInfo};
use super::file::{Body, Definitions, Relation};
use super::temporary::{self, Temporary};
use super::views::View;
use super::{PUBLIC, ViewPlanner, owner};
use crate::storage::audience::{Dictionary, Merging, sweep_sets};
use crate::storage::delta::{DeltaTable, sweep_tables};
use crate::storage::erasure::Forgotten;
use crate::storage::hash_list::sweep_lists;
use crate::storage::identity::Identities;
use crate::storage::types::schema_from_text;
use crate::storage::{DataRoots, DurableLocal, ExternalTable, Lookups, Role, Store, Tag, make_folder};

/// Folder of temporary tables below the data directory.
const TEMPORARY: &str = "temporary";

/// What every handle of the catalog shares.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) store: Store,
    /// The data directory: what stays on this machine.
    pub(super) folder: PathBuf,
    pub(super) roots: Arc<DataRoots>,
    pub(super) attached: RwLock<BTreeMap<String, Arc<dyn SchemaProvider>>>,
    pub(super) planner: RwLock<Option<Arc<dyn ViewPlanner>>>,
    /// The numbers of the users in audiences.
    pub(super) dictionary: Arc<Dictionary>,
    /// Links between ids.
    pub(super) identities: Arc<Identities>,
    /// Users in audiences as persons.
    pub(super) merging: Merging,
    /// Who is forgotten.
    pub(super) forgotten: Arc<Forgotten>,
    /// What questions for one user remember.
    pub(super) lookups: Arc<Lookups>,
    /// Where writers take their memory and their spill files from.
    pub(super) env: RwLock<Arc<RuntimeEnv>>,
    /// Where temporary tables lie, their next object id, and the sessions that have had some.
    pub(super) temporary: Store,
    pub(super) temporary_oids: AtomicU32,
    pub(super) sessions: Mutex<Vec<Weak<Temporary>>>,
    state: RwLock<Arc<State>>,
    /// How often the state has changed.
    pub(super) changes: AtomicU64,
    /// One change at a time; what the catalog's file is.
    gate: tokio::sync::Mutex<Tag>,
    /// Locked as long as the catalog is open.
    _lock: File,
}

/// One version of the catalog.
#[derive(Debug)]
pub(super) struct State {
    pub(super) definitions: Definitions,
    pub(super) entries: BTreeMap<String, Arc<Entry>>,
}

/// One relation, ready for use.
#[derive(Debug)]
pub(super) struct Entry {
    relation: Relation,
    pub(super) info: TableInfo,
    pub(super) object: Object,
}

impl State {
    /// What is known of a relation; of a materialized view also what its refreshes change.
    pub(super) fn info(&self, entry: &Entry) -> TableInfo {
        let mut info = entry.info.clone();
        if let Some(view) = self.definitions.materialized.get(&info.name) {
            info.definition = Some(view.query.clone());
            info.populated = view.last.is_some();
        }
        info
    }
}

#[derive(Debug)]
pub(super) enum Object {
    Managed(Arc<DeltaTable>),
    External(Arc<ExternalTable>),
    View(View),
}

impl Inner {
    /// Opens the catalog in `shared`, or in the data directory itself.
    pub(super) async fn open(data_dir: &Path, shared: Option<Store>, roots: Arc<DataRoots>, take_over: bool) -> Result<Arc<Self>> {
        make_folder(data_dir)?;
        let folder = std::fs::canonicalize(data_dir)?;
        let lock = lock(&folder)?;
        let mut store = match shared {
            Some(store) => store,
            None => Store::folder(DurableLocal::open(&folder)?),
        };
        let (mut definitions, mut tag) = Definitions::read(&store).await?;
        if store.may_write().is_ok() && owner::take(&store, &folder, &mut definitions, &mut tag, take_over).await? {
            store = store.without_sweeps();
        }
        sweep(&store, &definitions).await?;
        definitions.erasures.load(&store).await?;
        let forgotten = Arc::new(Forgotten::default());
        forgotten.set(definitions.erasures.hidden(), definitions.erasures.suppressed());
        let own = Arc::new(DurableLocal::open(&folder)?);
        let temporary = Store::temporary(&folder.join(TEMPORARY))?;
        let identities = Identities::open(&own, store.shared_name().is_none(), &forgotten)?;
        let dictionary = Dictionary::new(Arc::clone(store.objects()));
        let mut entries = BTreeMap::new();
        for (name, relation) in &definitions.relations {
            entries.insert(name.clone(), Arc::new(make_entry(name, relation, &store, &roots, None)?));
        }
        let inner = Arc::new(Self {
            roots,
            attached: RwLock::default(),
            planner: RwLock::default(),
            merging: Merging::new(&dictionary, &identities),
            dictionary,
            identities,
            store,
            folder,
            forgotten,
            lookups: Arc::default(),
            env: RwLock::default(),
            temporary,
            temporary_oids: AtomicU32::new(temporary::FIRST_OID),
            sessions: Mutex::default(),
            state: RwLock::new(Arc::new(State { definitions, entries })),
            changes: AtomicU64::new(0),
            gate: tokio::sync::Mutex::new(tag),
            _lock: lock,
        });
        owner::watch(&inner);
        Ok(inner)
    }

    /// Looks whether the store is still this server's; if it is not, nothing is written any more.
    pub(super) async fn check_owner(&self) -> Result<()> {
        let tag = self.gate.lock().await;
        self.store.may_write()?;
        match Definitions::is_still(&self.store, &tag).await? {
            true => Ok(()),
            false => Err(owner::lost(&self.store)),
        }
    }

    /// Another server may have the store from now on; this one makes no change any more.
    pub(super) async fn release(self: &Arc<Self>) -> Result<()> {
        if self.state().definitions.owner.is_none() || self.store.may_write().is_err() {
            return Ok(());
        }
        self.change(|definitions| {
            definitions.owner = None;
            Ok(())
        })
        .await?;
        self.store.refuse_writes(Error::new(Code::Shutdown, "the server is shutting down"));
        Ok(())
    }

    /// Who plans views.
    pub(super) fn view_planner(&self) -> Result<Arc<dyn ViewPlanner>> {
        let planner = self.planner.read().clone();
        planner.ok_or_else(|| Error::internal("views cannot be planned before the engine has started"))
    }

    /// The catalog of now.
    pub(super) fn state(&self) -> Arc<State> {
        Arc::clone(&self.state.read())
    }

    /// Changes the definitions: durable, then visible. Carried through even when the caller goes away.
    pub(super) async fn change<T: Send + 'static>(
        self: &Arc<Self>,
        change: impl FnOnce(&mut Definitions) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.change_with(Vec::new(), change).await
    }

    /// As [`change`](Self::change), for definitions of `made`, tables that nothing names yet.
    pub(super) async fn change_with<T: Send + 'static>(
        self: &Arc<Self>,
        made: Vec<Arc<DeltaTable>>,
        change: impl FnOnce(&mut Definitions) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let inner = Arc::clone(self);
        tokio::spawn(async move { inner.change_now(made, change).await })
            .await
            .map_err(|error| Error::internal(format!("catalog change ended early: {error}")))?
    }

    async fn change_now<T>(&self, made: Vec<Arc<DeltaTable>>, change: impl FnOnce(&mut Definitions) -> Result<T> + Send) -> Result<T> {
        self.store.may_write()?;
        let mut tag = self.gate.lock().await;
        let before = self.state();
        let mut definitions = before.definitions.clone();
        let value = change(&mut definitions)?;
        let entries = self.entries_of(&definitions, &before, &made)?;
        definitions.write(&self.store, &mut tag).await.map_err(|error| match error.code {
            Code::Serialization => owner::lost(&self.store),
            _ => error,
        })?;
        for (name, entry) in &entries {
            let is_new = !before.entries.get(name).is_some_and(|old| Arc::ptr_eq(old, entry));
            if let (true, Object::Managed(table)) = (is_new, &entry.object) {
                table.mark_kept();
                table.set_retention_us(entry.info.events.as_ref().and_then(|events| events.retention_us));
            }
        }
        for (name, entry) in &before.entries {
            let stays = entries.get(name).is_some_and(|new| folder_of(&new.relation.body) == folder_of(&entry.relation.body));
            if let (false, Object::Managed(table)) = (stays, &entry.object) {
                table.mark_dropped();
            }
        }
        if definitions.erasures != before.definitions.erasures {
            self.forgotten.set(definitions.erasures.hidden(), definitions.erasures.suppressed());
        }
        *self.state.write() = Arc::new(State { definitions, entries });
        self.changes.fetch_add(1, Ordering::Release);
        Ok(value)
    }

    /// The objects of `definitions`; those that did not change stay the same objects, with their caches.
    fn entries_of(&self, definitions: &Definitions, before: &State, made: &[Arc<DeltaTable>]) -> Result<BTreeMap<String, Arc<Entry>>> {
        let mut entries = BTreeMap::new();
        for (name, relation) in &definitions.relations {
            let entry = match before.entries.get(name).filter(|entry| entry.relation == *relation) {
                Some(entry) => Arc::clone(entry),
                None => {
                    let folder = folder_of(&relation.body);
                    // Whoever uses the table already and whoever comes later must meet in one handle.
                    let open = || match before.entries.get(name).map(|entry| &entry.object) {
                        Some(Object::Managed(table)) if Some(table.id()) == folder => Some(Arc::clone(table)),
                        _ => None,
                    };
                    let made = made.iter().find(|table| Some(table.id()) == folder).map(Arc::clone).or_else(open);
                    Arc::new(make_entry(name, relation, &self.store, &self.roots, made)?)
                }
            };
            entries.insert(name.clone(), entry);
        }
        Ok(entries)
    }
}

/// Removes what an interrupted process left.
async fn sweep(store: &Store, definitions: &Definitions) -> Result<()> {
    if !store.sweeps() {
        return Ok(());
    }
    let staged = store.sweep_staged()?;
    let named: HashSet<Uuid> = definitions.relations.values().filter_map(|relation| folder_of(&relation.body)).collect();
    let tables = sweep_tables(store, &named).await?;
    let sets = definitions.audiences.values().flat_map(|audience| &audience.versions).map(|version| version.file).collect();
    let sets = sweep_sets(store.objects().as_ref(), &sets).await?;
    let lists = sweep_lists(store.objects().as_ref(), &definitions.erasures.named()).await?;
    if staged + tables + sets + lists > 0 {
        tracing::info!(staged, tables, sets, lists, "swept what an interrupted process left");
    }
    Ok(())
}

fn make_entry(name: &str, relation: &Relation, store: &Store, roots: &Arc<DataRoots>, made: Option<Arc<DeltaTable>>) -> Result<Entry> {
    let schema = Arc::new(schema_from_text(&relation.schema)?);
    let (kind, definition, object) = match &relation.body {
        Body::Managed { folder, role } => {
            let table = match made {
                Some(table) => table,
                None => Arc::new(DeltaTable::open(store, *folder, name, Arc::clone(&schema), role.clone())?),
            };
            (ObjectKind::of(&relation.body), None, Object::Managed(table))
        }
        Body::External(source) => {
            let table = ExternalTable::new(name, source.clone(), Arc::clone(&schema), Arc::clone(roots))?;
            (ObjectKind::ExternalTable, Some(source.location.clone()), Object::External(Arc::new(table)))
        }
        Body::View { query, options } => {
            (ObjectKind::View, Some(query.clone()), Object::View(View { query: query.clone(), options: options.clone() }))
        }
    };
    let info = TableInfo {
        name: name.to_owned(),
        schema_name: PUBLIC.to_owned(),
        kind,
        oid: relation.oid,
        schema,
        owner: relation.owner.clone(),
        definition,
        events: role_of(&relation.body).and_then(|role| role.events().cloned()),
        populated: true,
    };
    Ok(Entry { relation: relation.clone(), info, object })
}

/// What a managed table is for.
pub(super) fn role_of(body: &Body) -> Option<&Role> {
    match body {
        Body::Managed { role, .. } => Some(role),
        _ => None,
    }
}

fn folder_of(body: &Body) -> Option<Uuid> {
    match body {
        Body::Managed { folder, .. } => Some(*folder),
        _ => None,
    }
}

/// Two processes must not write to one data directory.
fn lock(root: &Path) -> Result<File> {
    let file = File::options().create(true).truncate(false).write(true).open(root.join("LOCK"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(Error::new(Code::NotReady, format!("data directory \"{}\" is in use by another process", root.display()))
                .hint("Connect to that server, or stop it first."))
        }
        Err(TryLockError::Error(error)) => Err(error.into()),
    }
}
