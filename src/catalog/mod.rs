//! What SQL can see: tables, views, materialized views, audiences, roles and links between ids, durable in the data directory or in an
//! object store.
//!
//! One small versioned [`file`] holds every definition and is replaced atomically: a relation is visible only once that
//! file names it, and its bytes are removed only after the file no longer does. Planning reads an in-memory copy.
//! A change that has begun is carried through even when the statement that asked for it is cancelled meanwhile.
//!
//! Life of `CREATE TABLE t AS …`: the name is checked → `storage` writes a Delta table into a folder that nothing
//! names → the catalog's file is replaced by one that names it. Killed before that, the next start sweeps the folder.
//! Absent on purpose: SQL text (a view's query is handed to a [`ViewPlanner`]), the wire, models.

mod access;
mod audiences;
mod definitions;
mod erasure;
mod events;
mod file;
mod identity;
mod import;
mod materialized;
mod open;
mod owner;
mod provenance;
mod public;
mod retention;
mod roles;
mod stored;
mod temporary;
mod views;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{CatalogProvider, SchemaProvider, Session, TableProvider};
use datafusion::common::TableReference;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{SendableRecordBatchStream, SessionState};
use datafusion::logical_expr::LogicalPlan;
use object_store::ObjectStore;
use portrait_udfs::error::{Code, Error, Result};

pub use access::{
    Acl, AclItem, Columns, DefaultClass, DefaultGrant, Grant, Granted, Held, LocationInfo, MaskInfo, Membership, Object, ObjectClass,
    PREDEFINED, PolicyCommand, PolicyInfo, Privilege, Privileges, Rights, RowSecurity, StoredDefault, StoredMask, StoredPolicy,
    TableRights, Wanted,
};
pub use audiences::{AudienceBuilder, CreateAudience, Members, Refreshed};
pub use definitions::{CreateExternal, CreateView, Created, ObjectKind, TableInfo};
pub use erasure::Eraser;
pub use events::Insertion;
pub use import::ImportSource;
pub use materialized::{InputVersion, Materialized, RefreshPolicy, StoredMaterialized, StoredRefresh};
pub use provenance::Reads;
pub use roles::{Role, RoleOptions, ScramVerifier};
pub(crate) use stored::Stored;
pub use temporary::{CreateTemporary, OWN_SCHEMA, OnCommit, Temporary};
pub use views::ViewOptions;
pub(crate) use views::reading_as;

pub(crate) use crate::storage::versions::AS_OF_MARK;
pub use crate::storage::versions::AsOf;
pub use crate::storage::{TYPE_KEY, TextType};

use crate::storage::delta::DeltaTable;
use crate::storage::erasure::Refusal;
pub(crate) use crate::storage::events::optimize::Rewritten;
use crate::storage::types::{schema_to_text, table_schema};
use crate::storage::{Arrivals, DataRoots, ExternalSource, ExternalTable, Store};
use file::{Body, Relation};
use open::Inner;

/// The one database.
pub const DATABASE: &str = "portrait";
/// The schema of the users' own relations.
pub const PUBLIC: &str = "public";

/// Plans a view's query when the view is used. The engine gives one to the catalog at start.
#[async_trait]
pub trait ViewPlanner: Send + Sync + std::fmt::Debug {
    /// Plans one read-only query against this catalog, with what `reader` may read: a view's owner, or whoever reads the view.
    async fn plan(&self, query: &str, reader: &str) -> Result<LogicalPlan>;

    /// Plans one read-only query in a session's own state, in which `name` is `table`, whatever else has that name.
    async fn plan_over(&self, state: &SessionState, query: &str, name: &str, table: Arc<dyn TableProvider>) -> Result<LogicalPlan>;
}

/// All durable definitions, and the schemas that others attach.
#[derive(Debug)]
pub struct Catalog {
    inner: Arc<Inner>,
}

impl Catalog {
    /// Opens `data_dir` (made when it does not exist), takes its lock, sweeps what a killed process left, and reads the
    /// definitions.
    ///
    /// # Errors
    /// 55000 when another process has it open, XX001 when the catalog is damaged.
    pub async fn open(data_dir: &std::path::Path, roots: Arc<DataRoots>) -> Result<Arc<Self>> {
        Ok(Arc::new(Self { inner: Inner::open(data_dir, None, roots, false).await? }))
    }

    /// As [`open`](Self::open), for definitions and tables that lie in `store`: `data_dir` keeps the lock, the name of this
    /// server, and what can be made again. With `take_over` the store is taken from the server that has it.
    ///
    /// # Errors
    /// As there, and 55000 when another server has the store.
    pub async fn open_in(store: Store, data_dir: &std::path::Path, roots: Arc<DataRoots>, take_over: bool) -> Result<Arc<Self>> {
        Ok(Arc::new(Self { inner: Inner::open(data_dir, Some(store), roots, take_over).await? }))
    }

    /// Lets another server have the store. Call last: nothing can be changed afterwards.
    ///
    /// # Errors
    /// Failures of the store: then another server must be told to take over.
    pub async fn release(&self) -> Result<()> {
        self.inner.release().await
    }

    /// Looks whether the store is still this server's, as it does by itself every few seconds.
    #[cfg(test)]
    pub(crate) async fn check_owner(&self) -> Result<()> {
        self.inner.check_owner().await
    }

    /// The store of tables and definitions; others of this program keep their own folders in it.
    pub fn objects(&self) -> &Arc<dyn ObjectStore> {
        self.inner.store.objects()
    }

    /// The data directory: absolute, without symbolic links.
    pub fn folder(&self) -> &std::path::Path {
        &self.inner.folder
    }

    /// Fails where nothing can be written.
    ///
    /// # Errors
    /// 25006 for a store that is open for reading only, 55000 when another server has it.
    pub fn may_write(&self) -> Result<()> {
        self.inner.store.may_write()
    }

    /// The folders whose files SQL may read.
    pub fn roots(&self) -> &Arc<DataRoots> {
        &self.inner.roots
    }

    /// Gives the catalog the engine's runtime: its writers take their memory and spill files from it. Call once at start.
    pub fn set_runtime(&self, runtime: &Arc<RuntimeEnv>) {
        self.inner.identities.set_pool(&runtime.memory_pool);
        self.inner.lookups.set_pool(&runtime.memory_pool);
        *self.inner.env.write() = Arc::clone(runtime);
    }

    /// The database `portrait` for DataFusion: schema `public` and whatever [`attach_schema`](Self::attach_schema) added.
    pub fn catalog_provider(&self) -> Arc<dyn CatalogProvider> {
        Arc::new(public::Database::new(&self.inner))
    }

    /// Adds a schema that others keep (`ml`, `pg_catalog`, `information_schema`).
    pub fn attach_schema(&self, name: &str, schema: Arc<dyn SchemaProvider>) {
        self.inner.attached.write().insert(name.to_owned(), schema);
    }

    /// Says who plans views. The planner must not hold the catalog strongly, or neither is ever freed.
    pub fn set_view_planner(&self, planner: Arc<dyn ViewPlanner>) {
        *self.inner.planner.write() = Some(planner);
    }

    /// Who plans views, and what policies add to queries.
    pub(crate) fn view_planner(&self) -> Result<Arc<dyn ViewPlanner>> {
        self.inner.view_planner()
    }

    /// The files that a role may read, or with `write` write.
    pub(crate) fn roots_of(&self, role: &str, write: bool) -> Arc<DataRoots> {
        match self.rights(role).locations(write) {
            None => Arc::clone(&self.inner.roots),
            Some(folders) => Arc::new(self.inner.roots.within(folders)),
        }
    }

    /// The relation that a name in a query means, which may name an older version as well; `None` when there is none.
    ///
    /// # Errors
    /// As the name of a version.
    pub(crate) fn relation_of(&self, name: &str) -> Result<Option<String>> {
        let (bare, _) = crate::storage::versions::split_name(name)?;
        Ok(self.inner.state().entries.contains_key(bare).then(|| bare.to_owned()))
    }

    /// A name of files as a table, of those in `folders`; `None` when it is no such name.
    ///
    /// # Errors
    /// 42501 for files elsewhere.
    pub(crate) async fn files_as_table(&self, name: &str, folders: Option<Vec<String>>) -> Result<Option<Arc<dyn TableProvider>>> {
        if !DataRoots::looks_like_location(name) {
            return Ok(None);
        }
        let roots = match folders {
            None => Arc::clone(&self.inner.roots),
            Some(folders) => Arc::new(self.inner.roots.within(folders)),
        };
        public::files(name, &roots).await.map(Some)
    }

    /// The bare name of a relation that a statement may create, change or drop.
    ///
    /// # Errors
    /// 3F000 or 3D000 for a schema or database that does not exist, 42501 for one that is not the users'.
    pub fn local_name(&self, reference: &TableReference) -> Result<String> {
        if let Some(database) = reference.catalog().filter(|database| *database != DATABASE) {
            return Err(Error::new(Code::UndefinedDatabase, format!("database \"{database}\" does not exist")));
        }
        match reference.schema() {
            None | Some(PUBLIC) => Ok(reference.table().to_owned()),
            Some(schema) if self.inner.attached.read().contains_key(schema) => {
                Err(Error::new(Code::InsufficientPrivilege, format!("permission denied for schema {schema}")))
            }
            Some(schema) => Err(Error::new(Code::UndefinedSchema, format!("schema \"{schema}\" does not exist"))),
        }
    }

    /// `CREATE EXTERNAL TABLE`: checks the location, reads the columns when none are declared.
    ///
    /// # Errors
    /// 42P07, 42809 (replacing another kind), and those of [`ExternalTable::discover`].
    pub async fn create_external(&self, session: &dyn Session, table: CreateExternal) -> Result<Created> {
        if self.existing(&table.name, table.if_not_exists, table.or_replace, ObjectKind::ExternalTable)? {
            return Ok(Created::Existed);
        }
        let strip = |key: String| key.to_lowercase().trim_start_matches("format.").to_owned();
        let source = ExternalSource {
            kind: table.kind,
            location: table.location,
            partitions: table.partitions,
            options: table.options.into_iter().map(|(key, value)| (strip(key), value)).collect(),
        };
        let roots = self.roots_of(&table.owner, false);
        let (source, schema) = ExternalTable::discover(session, &roots, source, table.columns).await?;
        // Built once now so that a definition that cannot work is refused, not stored.
        ExternalTable::new(&table.name, source.clone(), Arc::clone(&schema), Arc::clone(&self.inner.roots))?;
        let body = Body::External(source);
        let (replace, if_not_exists, owner) = (table.or_replace, table.if_not_exists, table.owner);
        self.define(&table.name, NewRelation { table: None, schema, body, replace, if_not_exists, owner, refusal: None }).await
    }

    /// `CREATE VIEW`.
    ///
    /// # Errors
    /// 42P07; where OR REPLACE names another kind 42809, and 42P16 where it would take columns away or change them.
    pub async fn create_view(&self, view: CreateView) -> Result<Created> {
        if self.existing(&view.name, view.if_not_exists, view.or_replace, ObjectKind::View)? {
            return Ok(Created::Existed);
        }
        let body = Body::View { query: view.query, options: view.options };
        let CreateView { name, columns: schema, or_replace: replace, if_not_exists, owner, .. } = view;
        self.define(&name, NewRelation { table: None, schema, body, replace, if_not_exists, owner, refusal: None }).await
    }

    /// `CREATE TABLE name (columns)`.
    ///
    /// # Errors
    /// 42P07; 0A000 for a type that a table cannot hold, 42701 for a doubled column.
    pub async fn create_managed(&self, name: &str, schema: SchemaRef, if_not_exists: bool, owner: &str) -> Result<Created> {
        if self.existing(name, if_not_exists, false, ObjectKind::Table)? {
            return Ok(Created::Existed);
        }
        let schema = table_schema(&schema, true)?;
        let table = DeltaTable::create(&self.inner.store, name, schema, crate::storage::Role::Plain).await?;
        self.keep_table(name, Arc::new(table), if_not_exists, owner, None).await
    }

    /// `CREATE TABLE name AS …`: the table appears whole, or not at all, without rows of users who are suppressed. `erasures`
    /// is what [`erasures_begun`](Self::erasures_begun) said before the query was planned. Ask
    /// [`describe`](Self::describe) first for IF NOT EXISTS, so that the query is not run in vain.
    ///
    /// # Errors
    /// As [`create_managed`](Self::create_managed), and those of `stream`; 40001 when users were erased meanwhile.
    pub async fn create_managed_as(
        &self,
        name: &str,
        schema: SchemaRef,
        erasures: u64,
        stream: SendableRecordBatchStream,
        owner: &str,
    ) -> Result<Arrivals> {
        self.existing(name, false, false, ObjectKind::Table)?;
        let schema = table_schema(&schema, false)?;
        let env = self.env();
        let columns = erasure::plain_user_columns(&self.inner.state(), &schema);
        let refusal = (!columns.is_empty()).then(|| self.refusal(erasures));
        let left_out = Arc::default();
        let stream = match &refusal {
            Some(refusal) => events::without_suppressed(stream, refusal, columns, Arc::clone(&left_out)),
            None => stream,
        };
        let (table, rows) = DeltaTable::create_as(&self.inner.store, name, schema, stream, &env).await?;
        self.keep_table(name, Arc::new(table), false, owner, refusal).await?;
        let suppressed = left_out.load(Ordering::Relaxed);
        Ok(Arrivals { read: rows + suppressed, new: rows, suppressed, ..Arrivals::default() })
    }

    /// `DROP TABLE | VIEW | FOREIGN TABLE`: the definition first, then the bytes, once nobody reads them.
    /// [`ObjectKind::Table`] drops external tables too. Returns false when there was none and `if_exists`.
    ///
    /// # Errors
    /// 42P01 when there is none, 42809 for another kind.
    pub async fn drop_relation(&self, kind: ObjectKind, name: &str, if_exists: bool) -> Result<bool> {
        let name = name.to_owned();
        let removed = self
            .inner
            .change(move |definitions| {
                let Some(relation) = definitions.relations.get(&name) else {
                    let message = format!("{} \"{name}\" does not exist", kind.words());
                    return if if_exists { Ok(None) } else { Err(Error::new(Code::UndefinedTable, message)) };
                };
                let found = ObjectKind::of(&relation.body);
                if found != kind && !(kind == ObjectKind::Table && found == ObjectKind::ExternalTable) {
                    return Err(found.wrong(&name, kind));
                }
                events::may_drop(&name, &relation.body)?;
                let removed = definitions.relations.remove(&name);
                definitions.materialized.remove(&name);
                definitions.access.forget(&Object::table(name.as_str()));
                if let Some(quarantine) = removed.as_ref().and_then(|relation| events::quarantine_of(&relation.body)) {
                    definitions.relations.remove(quarantine);
                    definitions.access.forget(&Object::table(quarantine));
                }
                Ok(Some(name))
            })
            .await?;
        Ok(removed.is_some())
    }

    /// Grows with every change of the definitions.
    pub fn changes(&self) -> u64 {
        self.inner.changes.load(Ordering::Acquire)
    }

    /// What is known of a relation.
    pub fn describe(&self, name: &str) -> Option<TableInfo> {
        let state = self.inner.state();
        state.entries.get(name).map(|entry| state.info(entry))
    }

    /// Every relation of schema `public`, by name.
    pub fn list(&self) -> Vec<TableInfo> {
        let state = self.inner.state();
        state.entries.values().map(|entry| state.info(entry)).collect()
    }

    /// A relation's persisted object id.
    pub fn oid(&self, name: &str) -> Option<u32> {
        self.inner.state().entries.get(name).map(|entry| entry.info.oid)
    }

    /// The 42P01 error for a name, with the nearest existing name as a hint.
    pub fn undefined_table(&self, name: &str) -> Error {
        let error = Error::new(Code::UndefinedTable, format!("relation \"{name}\" does not exist"));
        let state = self.inner.state();
        match portrait_udfs::kernels::nearest::nearest(name, state.entries.keys().map(String::as_str)) {
            Some(near) => error.hint(format!("Perhaps you meant \"{near}\".")),
            None => error,
        }
    }

    /// Whether `name` is taken and that is fine (`IF NOT EXISTS`). With `replace`, a relation of the same kind may be taken.
    fn existing(&self, name: &str, if_not_exists: bool, replace: bool, kind: ObjectKind) -> Result<bool> {
        let state = self.inner.state();
        let Some(entry) = state.entries.get(name) else { return Ok(false) };
        if if_not_exists {
            return Ok(true);
        }
        if !replace {
            return Err(Error::new(Code::DuplicateTable, format!("relation \"{name}\" already exists")));
        }
        if entry.info.kind == kind { Ok(false) } else { Err(entry.info.kind.wrong(name, kind)) }
    }

    /// Where writers take their memory and their spill files from.
    fn env(&self) -> Arc<RuntimeEnv> {
        Arc::clone(&self.inner.env.read())
    }

    async fn keep_table(
        &self,
        name: &str,
        table: Arc<DeltaTable>,
        if_not_exists: bool,
        owner: &str,
        refusal: Option<Arc<Refusal>>,
    ) -> Result<Created> {
        let schema = Arc::clone(table.schema());
        let body = Body::Managed { folder: table.id(), role: table.role().clone() };
        let table = Some(table);
        let owner = owner.to_owned();
        self.define(name, NewRelation { table, schema, body, replace: false, if_not_exists, owner, refusal }).await
    }

    async fn define(&self, name: &str, relation: NewRelation) -> Result<Created> {
        let name = name.to_owned();
        let NewRelation { table, schema, body, replace, if_not_exists, mut owner, refusal } = relation;
        self.inner
            .change_with(table.into_iter().collect(), move |definitions| {
                // An erasure that begins after this change finds the table.
                refusal.map_or(Ok(()), |refusal| refusal.still_holds_for(&name))?;
                let kind = ObjectKind::of(&body);
                let taken = definitions.relations.get(&name).map(|relation| (relation.oid, ObjectKind::of(&relation.body)));
                let oid = match taken {
                    Some(_) if if_not_exists => return Ok(Created::Existed),
                    Some((oid, found)) if replace && found == kind => {
                        if let (ObjectKind::View, Some(present)) = (kind, definitions.relations.get(&name)) {
                            views::may_replace(present, &schema)?;
                            // With whose rights it is read does not change.
                            owner = present.owner.clone();
                        }
                        oid
                    }
                    Some((_, found)) if replace => return Err(found.wrong(&name, kind)),
                    Some(_) => return Err(Error::new(Code::DuplicateTable, format!("relation \"{name}\" already exists"))),
                    None => {
                        definitions.access.begin(&Object::table(name.as_str()), &owner);
                        definitions.take_oid()
                    }
                };
                definitions.relations.insert(name, Relation { oid, owner, schema: schema_to_text(&schema), body });
                Ok(Created::New)
            })
            .await
    }
}

/// A definition on its way into the catalog.
struct NewRelation {
    /// The table that was made for it, when it is a managed one; it is removed again if the definition is not stored.
    table: Option<Arc<DeltaTable>>,
    schema: SchemaRef,
    body: Body,
    replace: bool,
    if_not_exists: bool,
    owner: String,
    /// Of a table that holds users' rows already.
    refusal: Option<Arc<Refusal>>,
}

impl ObjectKind {
    fn of(body: &Body) -> Self {
        match body {
            Body::Managed { role: crate::storage::Role::Derived { .. }, .. } => Self::MaterializedView,
            Body::Managed { .. } => Self::Table,
            Body::External(_) => Self::ExternalTable,
            Body::View { .. } => Self::View,
        }
    }

    /// Its name in messages.
    pub fn words(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::ExternalTable => "foreign table",
            Self::View => "view",
            Self::MaterializedView => "materialized view",
        }
    }

    /// The error for `name`, which is of this kind, where `wanted` was named.
    pub(crate) fn wrong(self, name: &str, wanted: Self) -> Error {
        let (article, hint) = match self {
            Self::Table => ("table", "Use DROP TABLE to remove a table."),
            Self::ExternalTable => ("external table", "Use DROP TABLE to remove an external table."),
            Self::View => ("view", "Use DROP VIEW to remove a view."),
            Self::MaterializedView => ("materialized view", "Use DROP MATERIALIZED VIEW to remove a materialized view."),
        };
        Error::new(Code::WrongObjectType, format!("\"{name}\" is not a {}", wanted.words()))
            .detail(format!("It is a {article}.").replace("a external", "an external"))
            .hint(hint)
    }
}

#[cfg(test)]
mod tests;
