//! What SQL can see: tables, views and roles, durable in the data directory.
//!
//! One small versioned file holds every definition and is replaced atomically; a relation is visible only once
//! that file names it, and its bytes are removed only after the file no longer does. Planning reads an in-memory
//! copy. Absent on purpose: SQL text (a view's query is handed to a [`ViewPlanner`]), the wire, models.

mod definitions;
mod roles;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{CatalogProvider, MemoryCatalogProvider, SchemaProvider};
use datafusion::execution::{SendableRecordBatchStream, SessionState};
use datafusion::logical_expr::LogicalPlan;
use portrait_udfs::error::{Error, Result};

pub use definitions::{CreateExternal, CreateView, Created, FileKind, ObjectKind, TableInfo};
pub use roles::{Role, RoleOptions, ScramVerifier};

use crate::storage::DataRoots;

/// Plans a view's query when the view is used. The engine gives one to the catalog at start.
#[async_trait]
pub trait ViewPlanner: Send + Sync + std::fmt::Debug {
    /// Plans one read-only query against this catalog.
    async fn plan(&self, query: &str) -> Result<LogicalPlan>;
}

/// All durable definitions, and the schemas that others attach.
#[derive(Debug)]
pub struct Catalog {}

impl Catalog {
    /// Opens `data_dir`, takes its lock, sweeps what a killed process left, and reads the definitions.
    /// 55000 when another process has it open.
    pub async fn open(data_dir: &Path, roots: Arc<DataRoots>) -> Result<Arc<Self>> {
        let _ = (data_dir, roots);
        Ok(Arc::new(Self {}))
    }

    /// The database `portrait` for DataFusion: schema `public` and whatever [`attach_schema`](Self::attach_schema) added.
    pub fn catalog_provider(self: &Arc<Self>) -> Arc<dyn CatalogProvider> {
        Arc::new(MemoryCatalogProvider::new())
    }

    /// Adds a schema that others keep (`ml`, `pg_catalog`, `information_schema`).
    pub fn attach_schema(&self, name: &str, schema: Arc<dyn SchemaProvider>) {
        let _ = (name, schema);
    }

    /// Says who plans views.
    pub fn set_view_planner(&self, planner: Arc<dyn ViewPlanner>) {
        let _ = planner;
    }

    /// `CREATE EXTERNAL TABLE`: checks the location, reads the columns when none are declared.
    pub async fn create_external(&self, session: &SessionState, table: CreateExternal) -> Result<Created> {
        let _ = (session, table);
        Err(Error::internal("not yet"))
    }

    /// `CREATE VIEW`.
    pub async fn create_view(&self, view: CreateView) -> Result<Created> {
        let _ = view;
        Err(Error::internal("not yet"))
    }

    /// `CREATE TABLE name (columns)`.
    pub async fn create_managed(&self, name: &str, schema: SchemaRef, if_not_exists: bool, owner: &str) -> Result<Created> {
        let _ = (name, schema, if_not_exists, owner);
        Err(Error::internal("not yet"))
    }

    /// `CREATE TABLE name AS …`: the table appears whole, or not at all. Returns the rows written. Check
    /// [`describe`](Self::describe) first for IF NOT EXISTS, so that the query is not run in vain.
    pub async fn create_managed_as(&self, name: &str, schema: SchemaRef, stream: SendableRecordBatchStream, owner: &str) -> Result<u64> {
        let _ = (name, schema, stream, owner);
        Err(Error::internal("not yet"))
    }

    /// `INSERT INTO name`: one commit; columns of `stream` are the table's, by position. Returns the rows written.
    /// (DataFusion's own DML plan reaches the same code through `TableProvider::insert_into`.)
    pub async fn insert(&self, name: &str, stream: SendableRecordBatchStream) -> Result<u64> {
        let _ = (name, stream);
        Err(Error::internal("not yet"))
    }

    /// `DROP TABLE | VIEW | FOREIGN TABLE`: the definition first, then the bytes. `ObjectKind::Table` drops external tables
    /// too. Returns false when there was none and `if_exists` (say so as a NOTICE).
    pub async fn drop(&self, kind: ObjectKind, name: &str, if_exists: bool) -> Result<bool> {
        let _ = (kind, name, if_exists);
        Err(Error::internal("not yet"))
    }

    /// What is known of a relation.
    pub fn describe(&self, name: &str) -> Option<TableInfo> {
        let _ = name;
        None
    }

    /// Every relation of schema `public`, by name.
    pub fn list(&self) -> Vec<TableInfo> {
        Vec::new()
    }

    /// A relation's persisted object id.
    pub fn oid(&self, name: &str) -> Option<u32> {
        self.describe(name).map(|info| info.oid)
    }

    /// The 42P01 error for a name, with the nearest existing name as a hint.
    pub fn undefined_table(&self, name: &str) -> Error {
        Error::new(portrait_udfs::error::Code::UndefinedTable, format!("relation \"{name}\" does not exist"))
    }
}
