//! What the catalog remembers of each object, and what it tells others about it.

use std::collections::BTreeMap;

use datafusion::arrow::datatypes::SchemaRef;

use super::ViewOptions;
use crate::storage::{EventColumns, FileKind};

/// A `CREATE EXTERNAL TABLE` as the statement says it.
#[derive(Debug, Clone)]
pub struct CreateExternal {
    /// Bare table name in schema `public`.
    pub name: String,
    /// `STORED AS`.
    pub kind: FileKind,
    /// File, folder or glob, as written; relative ones are looked up under the data roots.
    pub location: String,
    /// Declared columns, or `None` to read them from the files.
    pub columns: Option<SchemaRef>,
    /// `PARTITIONED BY`: hive columns, in order. They may be among `columns` or not; then they are text.
    pub partitions: Vec<String>,
    /// `OPTIONS`, keys in lower case (a leading `format.` is dropped).
    pub options: BTreeMap<String, String>,
    /// `IF NOT EXISTS`.
    pub if_not_exists: bool,
    /// `OR REPLACE`.
    pub or_replace: bool,
    /// Role that runs the statement.
    pub owner: String,
}

/// A `CREATE VIEW` whose query was planned once already.
#[derive(Debug, Clone)]
pub struct CreateView {
    /// Bare view name in schema `public`.
    pub name: String,
    /// The query alone, as text that parses again.
    pub query: String,
    /// The query's columns when it was created.
    pub columns: SchemaRef,
    /// `WITH`.
    pub options: ViewOptions,
    /// `OR REPLACE`.
    pub or_replace: bool,
    /// `IF NOT EXISTS`.
    pub if_not_exists: bool,
    /// Role that runs the statement.
    pub owner: String,
}

/// What kind of relation a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ObjectKind {
    /// A Delta table of ours.
    Table,
    /// Files somewhere under the data roots.
    ExternalTable,
    /// A query.
    View,
    /// A query whose rows are kept.
    MaterializedView,
}

/// What is known of a relation without touching its data.
#[derive(Debug, Clone)]
pub struct TableInfo {
    /// Bare name.
    pub name: String,
    /// Schema name, for now always `public`.
    pub schema_name: String,
    /// What it is.
    pub kind: ObjectKind,
    /// Persisted object id, never reused.
    pub oid: u32,
    /// Columns.
    pub schema: SchemaRef,
    /// Owner role.
    pub owner: String,
    /// A view's or materialized view's query, an external table's location.
    pub definition: Option<String>,
    /// The columns that a table of events is kept by.
    pub events: Option<EventColumns>,
    /// Whether there are rows to read: a materialized view may have none yet.
    pub populated: bool,
}

/// Whether a `CREATE … IF NOT EXISTS` made something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// The object is new.
    New,
    /// It was there already; nothing was done (say so as a NOTICE).
    Existed,
}
