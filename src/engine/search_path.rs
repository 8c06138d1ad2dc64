//! Bare table names: `search_path` as one virtual schema that looks in the session's temporary tables, in `pg_catalog` and then in
//! each schema of the path. Each of the first two comes where the path names it instead, if it does.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, CatalogProviderList, MemoryCatalogProviderList, SchemaProvider, TableProvider};
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::SessionState;

use super::access::{Gate, TemporarySchema};
use super::settings::Settings;
use crate::catalog::{Catalog, PUBLIC, Temporary};

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
pub(super) fn apply(settings: &Settings, user: &str, catalog: &Arc<Catalog>, temporary: &Arc<Temporary>, state: &mut SessionState) {
    let Some(database) = state.catalog_list().catalog(DATABASE) else { return };
    let path = schemas(settings, user);
    let database = Arc::new(Gate::new(database, catalog, user)) as Arc<dyn CatalogProvider>;
    let list = MemoryCatalogProviderList::new();
    let temporary = Arc::new(TemporarySchema::new(temporary, catalog, user));
    list.register_catalog(DATABASE.to_owned(), Arc::new(PathCatalog { database, temporary, path }));
    state.register_catalog_list(Arc::new(list));
    state.config_mut().options_mut().catalog.default_schema = PATH_SCHEMA.to_owned();
}

/// The temporary tables of a session, as bare names find them in its statements.
#[derive(Debug, Clone)]
pub(crate) struct OwnTables {
    temporary: Arc<Temporary>,
    catalog: Arc<Catalog>,
    /// Whether the path names their schema, and `public` before it.
    behind: bool,
}

impl OwnTables {
    pub(super) fn new(temporary: &Arc<Temporary>, catalog: &Arc<Catalog>, path: &[String]) -> Self {
        let named = path.iter().position(|schema| temporary.is_schema(schema));
        let behind = named.is_some_and(|at| path[..at].iter().any(|schema| schema == PUBLIC));
        Self { temporary: Arc::clone(temporary), catalog: Arc::clone(catalog), behind }
    }

    /// The tables.
    pub(crate) fn tables(&self) -> &Arc<Temporary> {
        &self.temporary
    }

    /// Whether a bare name means one of them: they come first, unless the path says otherwise and another one has the name.
    pub(crate) fn finds(&self, name: &str) -> bool {
        self.temporary.contains(name) && !(self.behind && self.catalog.describe(name).is_some())
    }
}

/// The database, with the virtual schema.
#[derive(Debug)]
struct PathCatalog {
    database: Arc<dyn CatalogProvider>,
    temporary: Arc<TemporarySchema>,
    path: Vec<String>,
}

impl PathCatalog {
    /// The schemas that bare names are looked up in.
    fn on_path(&self) -> Vec<Arc<dyn SchemaProvider>> {
        let named = self.path.iter().any(|name| self.temporary.is_called(name));
        let first = (!named).then(|| Arc::clone(&self.temporary) as Arc<dyn SchemaProvider>);
        let names = std::iter::once("pg_catalog").chain(self.path.iter().map(String::as_str));
        first.into_iter().chain(names.filter_map(|name| self.schema(name))).collect()
    }
}

impl CatalogProvider for PathCatalog {
    fn schema_names(&self) -> Vec<String> {
        self.database.schema_names()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        if name == PATH_SCHEMA {
            return Some(Arc::new(PathSchema { schemas: self.on_path() }));
        }
        if self.temporary.is_called(name) {
            return Some(Arc::clone(&self.temporary) as Arc<dyn SchemaProvider>);
        }
        self.database.schema(name)
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
