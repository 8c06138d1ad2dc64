//! Bare table names: `search_path` as one virtual schema that looks in `pg_catalog` and then in each schema of the path.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, CatalogProviderList, MemoryCatalogProviderList, SchemaProvider, TableProvider};
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::SessionState;

use super::access::Gate;
use super::settings::Settings;
use crate::catalog::Catalog;

/// The database's name.
pub(super) const DATABASE: &str = "portrait";
/// The virtual schema that bare names are looked up in. No real schema can have this name.
pub(crate) const PATH_SCHEMA: &str = "$path";

/// The schemas of `search_path`, in order, without `pg_catalog` (which always comes first) and what does not exist.
pub(crate) fn schemas(settings: &Settings, user: &str) -> Vec<String> {
    let text = settings.raw("search_path").unwrap_or_default();
    text.split(',')
        .map(|part| part.trim())
        .map(|part| part.strip_prefix('"').and_then(|part| part.strip_suffix('"')).map_or_else(|| part.to_ascii_lowercase(), str::to_owned))
        .map(|part| if part == "$user" { user.to_owned() } else { part })
        .filter(|part| !part.is_empty() && part != "pg_catalog")
        .collect()
}

/// Makes `state` resolve bare names by the session's path.
pub(super) fn apply(settings: &Settings, user: &str, catalog: &Arc<Catalog>, state: &mut SessionState) {
    let Some(database) = state.catalog_list().catalog(DATABASE) else { return };
    let path = schemas(settings, user);
    let database = Arc::new(Gate::new(database, catalog, user)) as Arc<dyn CatalogProvider>;
    let list = MemoryCatalogProviderList::new();
    list.register_catalog(DATABASE.to_owned(), Arc::new(PathCatalog { database, path }));
    state.register_catalog_list(Arc::new(list));
    state.config_mut().options_mut().catalog.default_schema = PATH_SCHEMA.to_owned();
}

/// The database, with the virtual schema.
#[derive(Debug)]
struct PathCatalog {
    database: Arc<dyn CatalogProvider>,
    path: Vec<String>,
}

impl CatalogProvider for PathCatalog {
    fn schema_names(&self) -> Vec<String> {
        self.database.schema_names()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        if name != PATH_SCHEMA {
            return self.database.schema(name);
        }
        let schemas =
            std::iter::once("pg_catalog").chain(self.path.iter().map(String::as_str)).filter_map(|name| self.database.schema(name));
        Some(Arc::new(PathSchema { schemas: schemas.collect() }))
    }
}

/// The schemas of the path, as one.
#[derive(Debug)]
struct PathSchema {
    schemas: Vec<Arc<dyn SchemaProvider>>,
}

#[async_trait]
impl SchemaProvider for PathSchema {
    fn table_names(&self) -> Vec<String> {
        self.schemas.iter().flat_map(|schema| schema.table_names()).collect()
    }

    async fn table(&self, name: &str) -> DataFusionResult<Option<Arc<dyn TableProvider>>> {
        for schema in &self.schemas {
            if schema.table_exist(name)
                && let Some(table) = schema.table(name).await?
            {
                return Ok(Some(table));
            }
        }
        Ok(None)
    }

    fn table_exist(&self, name: &str) -> bool {
        self.schemas.iter().any(|schema| schema.table_exist(name))
    }
}
