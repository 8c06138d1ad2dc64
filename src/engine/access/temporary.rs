//! A session's temporary tables, as one role of the session sees them.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::datasource::TableType;
use datafusion::error::Result as DataFusionResult;

use crate::catalog::{Catalog, Object, Temporary};

/// Schema `pg_temp`. Whoever made a table reads it: the session may act as another role later.
#[derive(Debug)]
pub(in super::super) struct TemporarySchema {
    tables: Arc<Temporary>,
    catalog: Arc<Catalog>,
    role: String,
}

impl TemporarySchema {
    /// The schema, for `role`.
    pub(in super::super) fn new(tables: &Arc<Temporary>, catalog: &Arc<Catalog>, role: &str) -> Self {
        Self { tables: Arc::clone(tables), catalog: Arc::clone(catalog), role: role.to_owned() }
    }

    /// Whether a schema's name means this one.
    pub(in super::super) fn is_called(&self, name: &str) -> bool {
        self.tables.is_schema(name)
    }
}

#[async_trait]
impl SchemaProvider for TemporarySchema {
    fn table_names(&self) -> Vec<String> {
        self.tables.list().into_iter().map(|info| info.name).collect()
    }

    async fn table(&self, name: &str) -> DataFusionResult<Option<Arc<dyn TableProvider>>> {
        let Some((table, owner)) = self.tables.provider(name)? else { return Ok(None) };
        if !self.catalog.rights(&self.role).owns_of(&owner) {
            return Err(Object::table(name).denied().into());
        }
        Ok(Some(table))
    }

    async fn table_type(&self, name: &str) -> DataFusionResult<Option<TableType>> {
        Ok(self.table_exist(name).then_some(TableType::Temporary))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.tables.contains(name)
    }
}
