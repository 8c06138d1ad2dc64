//! The schemas as one role sees them.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, SchemaProvider, TableProvider};
use datafusion::datasource::TableType;
use datafusion::error::Result as DataFusionResult;

use super::secured::Secured;
use crate::catalog::{Catalog, Object, ObjectClass, PUBLIC, Privilege, reading_as};

/// The database as one role sees it.
#[derive(Debug)]
pub(in super::super) struct Gate {
    database: Arc<dyn CatalogProvider>,
    catalog: Arc<Catalog>,
    role: String,
}

impl Gate {
    /// The database, for `role`.
    pub(in super::super) fn new(database: Arc<dyn CatalogProvider>, catalog: &Arc<Catalog>, role: &str) -> Self {
        Self { database, catalog: Arc::clone(catalog), role: role.to_owned() }
    }
}

impl CatalogProvider for Gate {
    fn schema_names(&self) -> Vec<String> {
        self.database.schema_names()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        let schema = self.database.schema(name)?;
        if name != PUBLIC {
            return Some(schema);
        }
        Some(Arc::new(GatedSchema { schema, catalog: Arc::clone(&self.catalog), role: self.role.clone() }))
    }
}

/// Schema `public`, for one role.
#[derive(Debug)]
struct GatedSchema {
    schema: Arc<dyn SchemaProvider>,
    catalog: Arc<Catalog>,
    role: String,
}

#[async_trait]
impl SchemaProvider for GatedSchema {
    fn table_names(&self) -> Vec<String> {
        self.schema.table_names()
    }

    async fn table(&self, name: &str) -> DataFusionResult<Option<Arc<dyn TableProvider>>> {
        // Of now: a REVOKE holds for the next statement, in sessions that are open as well.
        let rights = self.catalog.rights(&self.role);
        if rights.superuser() {
            return reading_as(&self.role, self.schema.table(name)).await;
        }
        let Some(relation) = self.catalog.relation_of(name)? else {
            return Ok(self.catalog.files_as_table(name, rights.locations(false)).await?);
        };
        rights.require(Privilege::Usage, &Object::new(ObjectClass::Schema, PUBLIC))?;
        let Some(table) = reading_as(&self.role, self.schema.table(name)).await? else { return Ok(None) };
        let (seen, barrier) = (rights.table(&relation), self.catalog.view_options(&relation).barrier());
        if seen.is_whole() && !barrier {
            return Ok(Some(table));
        }
        let secured = Secured::new(&relation, table, seen, &self.catalog);
        Ok(Some(Arc::new(if barrier { secured.behind_barrier() } else { secured })))
    }

    async fn table_type(&self, name: &str) -> DataFusionResult<Option<TableType>> {
        self.schema.table_type(name).await
    }

    fn table_exist(&self, name: &str) -> bool {
        self.schema.table_exist(name)
    }
}
