//! The two system schemas as DataFusion sees them: each table makes its rows when it is scanned.

use std::sync::{Arc, Weak};

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, Session, TableProvider};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;

use super::super::cancel::CancelRegistry;
use super::cells::{Row, batch};
use super::definitions::{Table, find, fixed_rows, tables};
use super::snapshot::Snapshot;
use super::{access, activity, information_schema, procedures, relations, server, types};
use crate::engine::{Engine, session_of};
use crate::error::Error;

/// `pg_catalog` or `information_schema`.
#[derive(Debug)]
pub(super) struct SystemSchema {
    name: &'static str,
    /// The engine holds the catalog that holds this.
    engine: Weak<Engine>,
    /// The connections of now.
    backends: Arc<CancelRegistry>,
}

impl SystemSchema {
    pub(super) fn new(name: &'static str, engine: &Arc<Engine>, backends: &Arc<CancelRegistry>) -> Self {
        Self { name, engine: Arc::downgrade(engine), backends: Arc::clone(backends) }
    }

    fn find(&self, name: &str) -> Option<&'static Arc<Table>> {
        find(self.name, name)
    }
}

#[async_trait]
impl SchemaProvider for SystemSchema {
    fn table_names(&self) -> Vec<String> {
        tables().iter().filter(|table| table.schema_name == self.name).map(|table| table.name.to_owned()).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let table = |table: &Arc<Table>| SystemTable {
            table: Arc::clone(table),
            engine: Weak::clone(&self.engine),
            backends: Arc::clone(&self.backends),
        };
        Ok(self.find(name).map(|found| Arc::new(table(found)) as Arc<dyn TableProvider>))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.find(name).is_some()
    }
}

/// One system relation.
#[derive(Debug)]
struct SystemTable {
    table: Arc<Table>,
    engine: Weak<Engine>,
    backends: Arc<CancelRegistry>,
}

#[async_trait]
impl TableProvider for SystemTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.table.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let engine = self.engine.upgrade().ok_or_else(|| Error::internal("the engine is gone"))?;
        let session = session_of(state.config_options());
        let rows = rows(&self.table, &engine, session.as_ref(), &self.backends).await?;
        let batch = batch(&self.table, &rows)?;
        Ok(MemorySourceConfig::try_new_exec(&[vec![batch]], self.schema(), projection.cloned())?)
    }
}

/// What a relation holds now.
async fn rows(
    table: &Table,
    engine: &Arc<Engine>,
    session: Option<&crate::engine::Session>,
    backends: &CancelRegistry,
) -> Result<Vec<Row>> {
    let snapshot = || Snapshot::take(engine, session);
    Ok(match (table.schema_name, table.name) {
        ("pg_catalog", "pg_class") => relations::classes(&snapshot().await?),
        ("pg_catalog", "pg_attribute") => relations::attributes(&snapshot().await?),
        ("pg_catalog", "pg_namespace") => relations::namespaces(&snapshot().await?),
        ("pg_catalog", "pg_tables") => relations::tables(&snapshot().await?),
        ("pg_catalog", "pg_views") => relations::views(&snapshot().await?),
        ("pg_catalog", "pg_matviews") => relations::materialized_views(&snapshot().await?),
        ("pg_catalog", "pg_rewrite") => relations::rules(&snapshot().await?),
        ("pg_catalog", "pg_proc") => procedures::rows(engine),
        ("pg_catalog", "pg_type") => types::types(&snapshot().await?),
        ("pg_catalog", "pg_database") => server::databases(),
        ("pg_catalog", "pg_tablespace") => server::tablespaces(),
        ("pg_catalog", "pg_roles" | "pg_authid" | "pg_user" | "pg_shadow") => server::roles(engine.catalog()),
        ("pg_catalog", "pg_stat_activity") => activity::backends(engine, session, backends),
        ("pg_catalog", "pg_stat_database") => activity::database(backends),
        ("pg_catalog", "pg_stat_gssapi") => activity::gssapi(backends),
        ("pg_catalog", "pg_stat_progress_train") => activity::trainings(engine, session),
        ("pg_catalog", "pg_stat_user_tables" | "pg_stat_all_tables") => relations::table_statistics(&engine.catalog().stored().await?),
        ("pg_catalog", "pg_policies") => access::policies(engine.catalog()),
        ("pg_catalog", "pg_policy") => access::policy_objects(engine.catalog(), &snapshot().await?),
        ("pg_catalog", "pg_default_acl") => access::defaults(engine.catalog()),
        ("pg_catalog", "pg_auth_members") => access::members(engine.catalog()),
        ("information_schema", "table_privileges" | "role_table_grants") => access::table_privileges(engine.catalog(), &snapshot().await?),
        ("information_schema", "column_privileges" | "role_column_grants") => {
            access::column_privileges(engine.catalog(), &snapshot().await?)
        }
        ("pg_catalog", "pg_settings") => session.map_or_else(Vec::new, server::settings),
        ("pg_catalog", "pg_prepared_statements") => session.map_or_else(Vec::new, server::prepared_statements),
        ("information_schema", name) => information_schema::rows(name, &snapshot().await?),
        (_, name) => fixed_rows(name).to_vec(),
    })
}
