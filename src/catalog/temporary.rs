//! Temporary tables: what one session alone sees, and what ends with it.
//!
//! A temporary table is a managed table that no definition names: its [`Temporary`] does, one for each session, and its files lie in
//! a store of their own on this machine ([`Store::temporary`](crate::storage::Store::temporary)), which is not fsynced and is
//! emptied when the catalog is opened. So rows are on the disk and not in memory, a store that is open for reading only, or is
//! another server's, does not matter, and no sweep or VACUUM of what is kept comes near them.
//!
//! Life of a table: `CREATE TEMP TABLE` makes it → the session's statements find it here before the catalog's own relations →
//! `DROP`, `DISCARD`, the end of its transaction or of its session lets go of it → the last plan that reads it removes the folder.
//!
//! Transactions are those of PostgreSQL, other than for tables that are kept: what a block did to temporary tables is written down
//! ([`Undo`]), and ROLLBACK takes it back: tables that were made go, tables that were dropped come back, and rows that came since go.
//!
//! Erasures ([`super::erasure`]) reach the tables of all sessions. Absent on purpose: SQL text, which role asks.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::execution::SendableRecordBatchStream;
use parking_lot::Mutex;
use portrait_udfs::error::{Code, Error, Result};

use super::erasure::{plain_user_columns, user_columns};
use super::events::{Insertion, without_suppressed};
use super::open::Inner;
use super::{Catalog, ObjectKind, TableInfo};
use crate::storage::delta::DeltaTable;
use crate::storage::erasure::Refusal;
use crate::storage::events::optimize::{Rewritten, Scope, optimize};
use crate::storage::types::table_schema;
use crate::storage::versions::split_name;
use crate::storage::{Arrivals, IngestOptions, ManagedTable, Role};

/// What every session calls its own schema.
pub const OWN_SCHEMA: &str = "pg_temp";
/// The first object id of temporary tables: above those that the catalog gives out, below those that are made from names.
pub(super) const FIRST_OID: u32 = 0x1000_0000;
/// Temporary tables that one session may hold.
const TABLES_MAX: usize = 1000;

/// What becomes of a temporary table at the end of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnCommit {
    /// Nothing.
    #[default]
    PreserveRows,
    /// Its rows go.
    DeleteRows,
    /// It goes.
    Drop,
}

/// A `CREATE TEMPORARY TABLE` as the statement says it.
#[derive(Debug, Clone)]
pub struct CreateTemporary {
    /// Bare name.
    pub name: String,
    /// Columns.
    pub columns: SchemaRef,
    /// `ON COMMIT`.
    pub on_commit: OnCommit,
    /// Role that runs the statement.
    pub owner: String,
}

/// The temporary tables of one session.
pub struct Temporary {
    catalog: Arc<Inner>,
    schema: String,
    tables: Mutex<Tables>,
    changes: AtomicU64,
}

#[derive(Default)]
struct Tables {
    by_name: BTreeMap<String, Arc<Entry>>,
    /// Whether there ever was one: then the session has a schema.
    used: bool,
    /// What the transaction block that is open did; `None` = there is none.
    block: Option<Vec<Undo>>,
    /// What of that is older than the newest savepoint.
    before_savepoint: usize,
}

struct Entry {
    info: TableInfo,
    table: Arc<DeltaTable>,
    on_commit: OnCommit,
}

/// How something that a transaction block did is undone.
#[derive(Clone)]
enum Undo {
    /// A table was made.
    Created(String),
    /// It was dropped.
    Dropped(Arc<Entry>),
    /// It may have more rows than at this version.
    Rows(Arc<DeltaTable>, u64),
}

impl std::fmt::Debug for Temporary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Temporary").field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl Catalog {
    /// The temporary tables of a session, of which there are none yet.
    pub fn temporary(&self, session: u32) -> Arc<Temporary> {
        Arc::new(Temporary {
            catalog: Arc::clone(&self.inner),
            schema: format!("{OWN_SCHEMA}_{session}"),
            tables: Mutex::default(),
            changes: AtomicU64::new(0),
        })
    }
}

impl Inner {
    /// The tables of all sessions, with their schemas.
    pub(super) fn temporary_tables(&self) -> Vec<(String, Arc<DeltaTable>)> {
        // Not while this lock is held: a session that is gone is dropped here, and its tables with it.
        let sessions: Vec<Arc<Temporary>> = self.sessions.lock().iter().filter_map(Weak::upgrade).collect();
        sessions.iter().flat_map(|session| session.all_tables().into_iter().map(|table| (session.schema.clone(), table))).collect()
    }
}

impl Temporary {
    /// The name of the session's own schema.
    pub fn schema(&self) -> &str {
        &self.schema
    }

    /// Whether a schema's name means the session's own.
    pub fn is_schema(&self, name: &str) -> bool {
        name == OWN_SCHEMA || name == self.schema
    }

    /// Whether the session has a schema of its own: since its first temporary table.
    pub fn is_used(&self) -> bool {
        self.tables.lock().used
    }

    /// Grows with every table that comes or goes.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// What is known of a table.
    pub fn describe(&self, name: &str) -> Option<TableInfo> {
        self.entry(name).map(|entry| entry.info.clone())
    }

    /// All of them, by name.
    pub fn list(&self) -> Vec<TableInfo> {
        self.tables.lock().by_name.values().map(|entry| entry.info.clone()).collect()
    }

    /// Whether a name in a query means one of the tables; it may name an older version as well.
    pub fn contains(&self, name: &str) -> bool {
        let bare = split_name(name).map_or(name, |(bare, _)| bare);
        self.tables.lock().by_name.contains_key(bare)
    }

    /// The bytes of a table's files, in the latest version that was read; `None` when there is no such table.
    pub fn seen_bytes(&self, oid: i64) -> Option<u64> {
        let tables = self.tables.lock();
        let entry = tables.by_name.values().find(|entry| i64::from(entry.info.oid) == oid)?;
        entry.table.seen().map(|seen| seen.files.iter().map(|file| file.object_meta.size).sum())
    }

    /// A table for a query, without users whose erasure is under way, and its owner.
    ///
    /// # Errors
    /// As the name of a version.
    pub fn provider(&self, name: &str) -> Result<Option<(Arc<dyn TableProvider>, String)>> {
        let (bare, as_of) = split_name(name)?;
        let Some(entry) = self.entry(bare) else { return Ok(None) };
        let read = ManagedTable::new(bare, Arc::clone(&entry.table), Arc::clone(entry.table.store()), as_of);
        let hidden = self.catalog.forgotten.hidden();
        let columns = if hidden.is_empty() { Vec::new() } else { user_columns(&self.catalog.state(), &entry.table) };
        Ok(Some((Arc::new(read.hiding(hidden, columns)), entry.info.owner.clone())))
    }

    /// `CREATE TEMPORARY TABLE name (columns)`.
    ///
    /// # Errors
    /// 42P07; 0A000 for a type that a table cannot hold, 42701 for a doubled column; 54000 for too many.
    pub async fn create(self: &Arc<Self>, made: CreateTemporary) -> Result<()> {
        self.may_create(&made.name)?;
        let columns = table_schema(&made.columns, true)?;
        let table = DeltaTable::create(&self.catalog.temporary, &made.name, columns, Role::Plain).await?;
        self.keep(made, table, None)
    }

    /// `CREATE TEMPORARY TABLE name AS …`, without rows of users who are suppressed; `erasures` as in
    /// [`Catalog::create_managed_as`].
    ///
    /// # Errors
    /// As [`create`](Self::create), and those of `rows`; 40001 when users were erased meanwhile.
    pub async fn create_as(self: &Arc<Self>, made: CreateTemporary, erasures: u64, rows: SendableRecordBatchStream) -> Result<Arrivals> {
        self.may_create(&made.name)?;
        let columns = table_schema(&made.columns, false)?;
        let users = plain_user_columns(&self.catalog.state(), &columns);
        let refusal = (!users.is_empty()).then(|| Arc::new(Refusal::new(&self.catalog.forgotten, erasures)));
        let left_out = Arc::default();
        let rows = match &refusal {
            Some(refusal) => without_suppressed(rows, refusal, users, Arc::clone(&left_out)),
            None => rows,
        };
        let env = Arc::clone(&self.catalog.env.read());
        let (table, count) = DeltaTable::create_as(&self.catalog.temporary, &made.name, columns, rows, &env).await?;
        self.keep(made, table, refusal)?;
        let suppressed = left_out.load(Ordering::Relaxed);
        Ok(Arrivals { read: count + suppressed, new: count, suppressed, ..Arrivals::default() })
    }

    /// `DROP TABLE`; false when there is none.
    pub fn drop_table(&self, name: &str) -> bool {
        let mut tables = self.tables.lock();
        let Some(entry) = tables.by_name.remove(name) else { return false };
        self.changed();
        match &mut tables.block {
            Some(block) => block.push(Undo::Dropped(entry)),
            // The files may go now, which takes a while.
            None => drop((tables, entry)),
        }
        true
    }

    /// `DISCARD TEMP`: drops all of them.
    pub fn clear(&self) {
        for info in self.list() {
            self.drop_table(&info.name);
        }
    }

    /// The end of the session.
    pub fn close(&self) {
        let gone = std::mem::take(&mut *self.tables.lock());
        self.changed();
        drop(gone);
    }

    /// Opens a table for rows; their columns will be the table's, by position.
    ///
    /// # Errors
    /// 42P01; a log that cannot be read.
    pub async fn insertion(&self, name: &str, options: &IngestOptions) -> Result<Insertion> {
        let entry = self.entry(name).ok_or_else(|| missing(name))?;
        self.note_rows(&entry.table).await?;
        Ok(self.catalog.plain_insertion(&entry.table, options))
    }

    /// `OPTIMIZE name`.
    ///
    /// # Errors
    /// 42P01; 25001 in a transaction block; as [`optimize`]'s.
    pub async fn optimize(&self, name: &str) -> Result<Rewritten> {
        let (table, env) = (self.maintained(name, "OPTIMIZE")?, Arc::clone(&self.catalog.env.read()));
        optimize(&table, &env, Scope::Whole).await
    }

    /// `VACUUM name`. Returns how many files are gone.
    ///
    /// # Errors
    /// 42P01; 25001 in a transaction block; a log that cannot be read.
    pub async fn vacuum(&self, name: &str, retention_ms: i64) -> Result<u64> {
        self.maintained(name, "VACUUM")?.vacuum(retention_ms).await
    }

    /// BEGIN: what is done from now on can be undone.
    pub fn begin(&self) {
        let mut tables = self.tables.lock();
        tables.block = Some(Vec::new());
        tables.before_savepoint = 0;
    }

    /// SAVEPOINT: how much the block has done so far.
    pub fn savepoint(&self) -> usize {
        let mut tables = self.tables.lock();
        let done = tables.block.as_ref().map_or(0, Vec::len);
        tables.before_savepoint = done;
        done
    }

    /// ROLLBACK TO: undoes what the block did beyond `done`. False where rows could not be taken back.
    ///
    /// # Errors
    /// Failures of the store.
    pub async fn roll_back_to(&self, done: usize) -> Result<bool> {
        let undo = {
            let mut tables = self.tables.lock();
            tables.before_savepoint = tables.before_savepoint.min(done);
            match &mut tables.block {
                Some(block) if block.len() > done => block.split_off(done),
                _ => return Ok(true),
            }
        };
        self.undo(undo).await
    }

    /// COMMIT or ROLLBACK, and the end of a statement outside a block. False where rows could not be taken back.
    ///
    /// # Errors
    /// Failures of the store.
    pub async fn end(&self, commit: bool) -> Result<bool> {
        let block = self.tables.lock().block.take().unwrap_or_default();
        if !commit {
            return self.undo(block).await;
        }
        // What was dropped is gone only now.
        drop(block);
        self.on_commit().await.map(|()| true)
    }

    fn entry(&self, name: &str) -> Option<Arc<Entry>> {
        self.tables.lock().by_name.get(name).map(Arc::clone)
    }

    /// Every table that may come back into a query.
    fn all_tables(&self) -> Vec<Arc<DeltaTable>> {
        let tables = self.tables.lock();
        let dropped = tables.block.iter().flatten().filter_map(|undo| match undo {
            Undo::Dropped(entry) => Some(Arc::clone(&entry.table)),
            _ => None,
        });
        tables.by_name.values().map(|entry| Arc::clone(&entry.table)).chain(dropped).collect()
    }

    fn changed(&self) {
        self.changes.fetch_add(1, Ordering::Release);
    }

    fn may_create(&self, name: &str) -> Result<()> {
        let tables = self.tables.lock();
        if tables.by_name.contains_key(name) {
            return Err(duplicate(name));
        }
        if tables.by_name.len() >= TABLES_MAX {
            return Err(Error::new(Code::TooComplex, "too many temporary tables")
                .detail(format!("The session holds {TABLES_MAX} temporary tables."))
                .hint("DROP those that are not needed any more."));
        }
        Ok(())
    }

    /// Names a table. It goes away with its last handle, as it was made.
    fn keep(self: &Arc<Self>, made: CreateTemporary, table: DeltaTable, refusal: Option<Arc<Refusal>>) -> Result<()> {
        let CreateTemporary { name, on_commit, owner, .. } = made;
        if !self.is_used() {
            let mut sessions = self.catalog.sessions.lock();
            sessions.retain(|session| session.strong_count() > 0);
            sessions.push(Arc::downgrade(self));
        }
        let info = TableInfo {
            name: name.clone(),
            schema_name: self.schema.clone(),
            kind: ObjectKind::Table,
            oid: self.catalog.temporary_oids.fetch_add(1, Ordering::Relaxed),
            schema: Arc::clone(table.schema()),
            owner,
            definition: None,
            events: None,
            populated: true,
        };
        let mut tables = self.tables.lock();
        // An erasure that begins after this looks for the table once the lock is free.
        refusal.map_or(Ok(()), |refusal| refusal.still_holds_for(&name))?;
        if tables.by_name.contains_key(&name) {
            return Err(duplicate(&name));
        }
        tables.used = true;
        tables.by_name.insert(name.clone(), Arc::new(Entry { info, table: Arc::new(table), on_commit }));
        if let Some(block) = &mut tables.block {
            block.push(Undo::Created(name));
        }
        self.changed();
        Ok(())
    }

    /// Before rows come: a ROLLBACK goes back to the version of now.
    async fn note_rows(&self, table: &Arc<DeltaTable>) -> Result<()> {
        let known = |tables: &Tables| {
            let own = |undo: &Undo| matches!(undo, Undo::Rows(noted, _) if noted.id() == table.id());
            tables.block.as_ref().is_none_or(|block| block.iter().skip(tables.before_savepoint).any(own))
        };
        if known(&self.tables.lock()) {
            return Ok(());
        }
        let version = table.snapshot().await?.version;
        if let Some(block) = &mut self.tables.lock().block {
            block.push(Undo::Rows(Arc::clone(table), version));
        }
        Ok(())
    }

    /// A table whose files may be written anew.
    fn maintained(&self, name: &str, what: &str) -> Result<Arc<DeltaTable>> {
        let tables = self.tables.lock();
        if tables.block.is_some() {
            return Err(Error::new(Code::ActiveTransaction, format!("{what} cannot run inside a transaction block"))
                .detail("The block may have to go back to the files that a temporary table has now."));
        }
        tables.by_name.get(name).map(|entry| Arc::clone(&entry.table)).ok_or_else(|| missing(name))
    }

    async fn undo(&self, done: Vec<Undo>) -> Result<bool> {
        if done.is_empty() {
            return Ok(true);
        }
        // Names first, at once: only rows have to be waited for.
        let mut rows = Vec::new();
        {
            let mut tables = self.tables.lock();
            for undo in done.into_iter().rev() {
                match undo {
                    Undo::Created(name) => {
                        tables.by_name.remove(&name);
                    }
                    Undo::Dropped(entry) => {
                        tables.by_name.insert(entry.info.name.clone(), entry);
                    }
                    Undo::Rows(table, version) => rows.push((table, version)),
                }
            }
            rows.retain(|(table, _)| tables.by_name.values().any(|entry| Arc::ptr_eq(&entry.table, table)));
            self.changed();
        }
        let env = Arc::clone(&self.catalog.env.read());
        // Carried through even when the statement is cancelled meanwhile.
        let undone = tokio::spawn(async move {
            let mut all = true;
            for (table, version) in rows {
                all &= table.go_back_to(version, &env).await?;
            }
            Ok(all)
        });
        undone.await.map_err(|error| Error::internal(format!("a rollback ended early: {error}")))?
    }

    /// Does what the tables' `ON COMMIT` says.
    async fn on_commit(&self) -> Result<()> {
        let of = |action: OnCommit| -> Vec<Arc<Entry>> {
            self.tables.lock().by_name.values().filter(|entry| entry.on_commit == action).map(Arc::clone).collect()
        };
        for entry in of(OnCommit::Drop) {
            self.drop_table(&entry.info.name);
        }
        for entry in of(OnCommit::DeleteRows) {
            if entry.table.snapshot().await?.files.is_empty() {
                continue;
            }
            // A new table in its place: the files go as soon as nobody reads them.
            let (info, schema) = (entry.info.clone(), Arc::clone(entry.table.schema()));
            let table = Arc::new(DeltaTable::create(&self.catalog.temporary, &info.name, schema, Role::Plain).await?);
            let mut tables = self.tables.lock();
            tables.by_name.insert(info.name.clone(), Arc::new(Entry { info, table, on_commit: OnCommit::DeleteRows }));
            self.changed();
        }
        Ok(())
    }
}

fn duplicate(name: &str) -> Error {
    Error::new(Code::DuplicateTable, format!("relation \"{name}\" already exists"))
}

fn missing(name: &str) -> Error {
    Error::new(Code::UndefinedTable, format!("relation \"{name}\" does not exist"))
}
