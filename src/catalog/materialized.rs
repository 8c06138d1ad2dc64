//! Materialized views in the catalog: a relation whose rows lie in a table of its own, the query that gives them, and what the
//! newest refresh read.
//!
//! Life of CREATE MATERIALIZED VIEW: [`Catalog::make_derived`] makes a table that nothing names → the engine fills it →
//! [`Catalog::create_materialized`] names both. Life of a refresh: the engine takes the table's turn, changes its rows in one
//! commit, and [`Catalog::refreshed`] writes down what was read. Killed between the two, the next refresh reads from the older
//! version on and finds the same: what was done is done again, and nothing is missed.

use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::logical_expr::LogicalPlan;
use portrait_udfs::context::ProfileRefresh;
use portrait_udfs::error::{Code, Error, Result};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::file::{Body, Relation};
use super::open::Object;
use super::{Catalog, Created, ObjectKind};
use crate::storage::Role;
use crate::storage::delta::DeltaTable;
use crate::storage::types::{schema_to_text, table_schema};

/// When a materialized view is refreshed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefreshPolicy {
    /// When somebody says so.
    #[default]
    Manual,
    /// After each statement that brings rows into a table that it reads.
    AfterIngest,
    /// So many seconds after the newest refresh.
    Every(u64),
}

impl std::fmt::Display for RefreshPolicy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Manual => f.write_str("manual"),
            Self::AfterIngest => f.write_str("after ingest"),
            Self::Every(seconds) => {
                let units = [(86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second")];
                let (unit, word) = units.into_iter().find(|(unit, _)| seconds % unit == 0).unwrap_or((1, "second"));
                let count = seconds / unit;
                write!(f, "{count} {word}{}", if count == 1 { "" } else { "s" })
            }
        }
    }
}

/// What a refresh read of one relation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputVersion {
    /// As the query calls it.
    pub name: String,
    /// What it is, in words.
    pub kind: String,
    /// Differs when its rows do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contents: Option<String>,
    /// The table and its version, when it is one of ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<(Uuid, u64)>,
}

/// The newest refresh.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredRefresh {
    /// The version that it made.
    pub version: u64,
    /// The newest event that it saw.
    pub as_of_us: Option<i64>,
    /// When it was done.
    pub refreshed_at_us: i64,
    /// In words.
    pub how: String,
    /// Users whose rows were made anew; `None` = all.
    pub users: Option<u64>,
    /// Rows of the view.
    pub rows: u64,
    /// How long it took.
    pub seconds: f64,
    /// What it read.
    pub inputs: Vec<InputVersion>,
    /// The versions of models that it asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
}

impl StoredRefresh {
    /// For functions.
    pub(crate) fn info(&self) -> ProfileRefresh {
        ProfileRefresh {
            version: self.version,
            as_of_us: self.as_of_us,
            refreshed_at_us: self.refreshed_at_us,
            how: self.how.clone(),
            users: self.users,
            rows: self.rows,
            seconds: self.seconds,
        }
    }
}

/// What the catalog's file knows of a materialized view beside its relation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredMaterialized {
    /// The query's text.
    pub query: String,
    /// When it is refreshed.
    #[serde(default)]
    pub refresh: RefreshPolicy,
    /// Why new events are not followed user by user; `None` when they are.
    pub reason: Option<String>,
    /// The newest refresh; `None` before the first.
    #[serde(default)]
    pub last: Option<StoredRefresh>,
    /// Why the refresh that was tried last failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A materialized view, as it is now.
#[derive(Debug, Clone)]
pub struct Materialized {
    /// Its name.
    pub name: String,
    /// Who made it.
    pub owner: String,
    /// Its definition and newest refresh.
    pub stored: StoredMaterialized,
    pub(crate) table: Arc<DeltaTable>,
}

impl Materialized {
    /// The column that says whose a row is.
    pub fn user(&self) -> Option<&str> {
        match self.table.role() {
            Role::Derived { user } => user.as_deref(),
            _ => None,
        }
    }
}

impl Catalog {
    /// Every materialized view, by name.
    pub fn list_materialized(&self) -> Vec<Materialized> {
        let state = self.inner.state();
        let views = state.definitions.materialized.iter().filter_map(|(name, stored)| {
            let entry = state.entries.get(name)?;
            let Object::Managed(table) = &entry.object else { return None };
            let (owner, table) = (entry.info.owner.clone(), Arc::clone(table));
            Some(Materialized { name: name.clone(), owner, stored: stored.clone(), table })
        });
        views.collect()
    }

    /// One materialized view.
    ///
    /// # Errors
    /// 42P01 when there is none, 42809 for another kind.
    pub fn materialized(&self, name: &str) -> Result<Materialized> {
        if let Some(found) = self.list_materialized().into_iter().find(|found| found.name == name) {
            return Ok(found);
        }
        match self.describe(name) {
            Some(info) => Err(info.kind.wrong(name, ObjectKind::MaterializedView)),
            None => Err(self.undefined_table(name)),
        }
    }

    /// Plans the query of a view with the names of now, and what its owner may read now.
    ///
    /// # Errors
    /// Whatever planning finds wrong.
    pub async fn plan_view(&self, query: &str, owner: &str) -> Result<LogicalPlan> {
        self.inner.view_planner()?.plan(query, owner).await
    }

    /// An empty table for the rows of a query with these columns; it goes away again unless a view is made of it.
    ///
    /// # Errors
    /// 42P07 when the name is taken; 0A000 for a type that a table cannot hold.
    pub(crate) async fn make_derived(&self, name: &str, schema: &SchemaRef, user: Option<String>) -> Result<Arc<DeltaTable>> {
        self.existing(name, false, false, ObjectKind::MaterializedView)?;
        let schema = table_schema(schema, false)?;
        Ok(Arc::new(DeltaTable::create(&self.inner.store, name, schema, Role::Derived { user }).await?))
    }

    /// `CREATE MATERIALIZED VIEW`: `table` holds its rows, which were planned at this count of [erasures](Self::erasures_begun).
    ///
    /// # Errors
    /// 42P07; 40001 when users were erased since.
    pub(crate) async fn create_materialized(
        &self,
        table: Arc<DeltaTable>,
        stored: StoredMaterialized,
        owner: &str,
        erasures: u64,
    ) -> Result<Created> {
        let (name, owner) = (table.name().to_owned(), owner.to_owned());
        let body = Body::Managed { folder: table.id(), role: table.role().clone() };
        let schema = schema_to_text(table.schema());
        let refusal = self.refusal(erasures);
        self.inner
            .change_with(vec![table], move |definitions| {
                refusal.still_holds_for(&name)?;
                if definitions.relations.contains_key(&name) {
                    return Err(Error::new(Code::DuplicateTable, format!("relation \"{name}\" already exists")));
                }
                let oid = definitions.take_oid();
                definitions.access.begin(&super::Object::table(name.as_str()), &owner);
                definitions.relations.insert(name.clone(), Relation { oid, owner, schema, body });
                definitions.materialized.insert(name, stored);
                Ok(Created::New)
            })
            .await
    }

    /// Writes down what a refresh of the view over `table` did. One that was dropped meanwhile is left alone.
    ///
    /// # Errors
    /// Failures of the store.
    pub async fn refreshed(&self, view: &Materialized, refresh: StoredRefresh, reason: Option<String>) -> Result<()> {
        self.change_materialized(view, move |stored| {
            stored.last = Some(refresh);
            stored.reason = reason;
            stored.error = None;
        })
        .await
    }

    /// Writes down that a refresh failed.
    ///
    /// # Errors
    /// Failures of the store.
    pub async fn refresh_failed(&self, view: &Materialized, error: &Error) -> Result<()> {
        let error = error.message.clone();
        if view.stored.error.as_ref() == Some(&error) {
            return Ok(());
        }
        self.change_materialized(view, move |stored| stored.error = Some(error)).await
    }

    /// `ALTER MATERIALIZED VIEW name SET (refresh = …)`.
    ///
    /// # Errors
    /// As [`materialized`](Self::materialized); failures of the store.
    pub async fn set_refresh_policy(&self, name: &str, policy: RefreshPolicy) -> Result<()> {
        self.change_materialized(&self.materialized(name)?, move |stored| stored.refresh = policy).await
    }

    /// `REFRESH MATERIALIZED VIEW name WITH NO DATA`: it has no rows until the next refresh.
    ///
    /// # Errors
    /// Failures of the store.
    pub async fn unpopulate(&self, view: &Materialized) -> Result<()> {
        self.change_materialized(view, |stored| stored.last = None).await
    }

    async fn change_materialized(&self, view: &Materialized, change: impl FnOnce(&mut StoredMaterialized) + Send + 'static) -> Result<()> {
        let (name, folder) = (view.name.clone(), view.table.id());
        self.inner
            .change(move |definitions| {
                let same = matches!(definitions.relations.get(&name), Some(Relation { body: Body::Managed { folder: found, .. }, .. }) if *found == folder);
                if let (true, Some(stored)) = (same, definitions.materialized.get_mut(&name)) {
                    change(stored);
                }
                Ok(())
            })
            .await
    }

    /// Where writers take their memory and their spill files from.
    pub(crate) fn runtime(&self) -> Arc<datafusion::execution::runtime_env::RuntimeEnv> {
        self.env()
    }
}
