//! The catalog as DataFusion asks for it: database `portrait`, schema `public`.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, SchemaProvider, TableProvider};
use datafusion::common::Result as EngineResult;
use datafusion::datasource::{TableType, ViewTable};
use datafusion::prelude::SessionContext;
use portrait_udfs::error::{Code, Error, Result};

use super::PUBLIC;
use super::erasure::user_columns;
use super::open::{Inner, Object};
use crate::storage::external::kind_of_name;
use crate::storage::versions::split_name;
use crate::storage::{DataRoots, ExternalSource, ExternalTable, FileKind, ManagedTable};

/// Views inside views inside …: beyond this a view is taken to contain itself.
const VIEW_DEPTH_MAX: usize = 32;

tokio::task_local! {
    static VIEW_DEPTH: usize;
}

/// The database.
#[derive(Debug)]
pub(super) struct Database {
    inner: Arc<Inner>,
}

impl Database {
    pub(super) fn new(inner: &Arc<Inner>) -> Self {
        Self { inner: Arc::clone(inner) }
    }
}

impl CatalogProvider for Database {
    fn schema_names(&self) -> Vec<String> {
        let mut names = vec![PUBLIC.to_owned()];
        names.extend(self.inner.attached.read().keys().cloned());
        names
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        if name == PUBLIC {
            return Some(Arc::new(Public { inner: Arc::clone(&self.inner) }));
        }
        self.inner.attached.read().get(name).map(Arc::clone)
    }
}

/// Schema `public`. A name that is no relation but looks like a path, such as `"events/*.parquet"`, is read as one.
#[derive(Debug)]
struct Public {
    inner: Arc<Inner>,
}

#[async_trait]
impl SchemaProvider for Public {
    fn table_names(&self) -> Vec<String> {
        self.inner.state().entries.keys().cloned().collect()
    }

    async fn table(&self, name: &str) -> EngineResult<Option<Arc<dyn TableProvider>>> {
        let state = self.inner.state();
        let (name, as_of) = split_name(name)?;
        let Some(entry) = state.entries.get(name) else {
            if as_of.is_some() {
                return Err(Error::new(Code::UndefinedTable, format!("relation \"{name}\" does not exist")).into());
            }
            if !DataRoots::looks_like_location(name) {
                return Ok(None);
            }
            return Ok(Some(files(name, &self.inner.roots).await?));
        };
        Ok(Some(match &entry.object {
            Object::Managed(table) => {
                if state.definitions.materialized.get(name).is_some_and(|view| view.last.is_none()) {
                    return Err(Error::new(Code::NotReady, format!("materialized view \"{name}\" has not been populated"))
                        .hint("Use the REFRESH MATERIALIZED VIEW command.")
                        .into());
                }
                let read = ManagedTable::new(name, Arc::clone(table), Arc::clone(self.inner.store.objects()), as_of)
                    .looking_up(&self.inner.lookups);
                let hidden = self.inner.forgotten.hidden();
                Arc::new(if hidden.is_empty() { read } else { read.hiding(hidden, user_columns(&state, table)) })
            }
            _ if as_of.is_some() => {
                return Err(Error::new(Code::WrongObjectType, format!("\"{name}\" keeps no versions"))
                    .detail("Only managed tables can be read AS OF an older version.")
                    .into());
            }
            Object::External(table) => Arc::clone(table) as Arc<dyn TableProvider>,
            Object::View(view) => self.view(name, &view.query, &view.reader(&entry.info.owner)).await?,
        }))
    }

    async fn table_type(&self, name: &str) -> EngineResult<Option<TableType>> {
        // Without planning views: a broken one must not break a list of tables.
        Ok(self.inner.state().entries.get(name).map(|entry| match entry.object {
            Object::View(_) => TableType::View,
            _ => TableType::Base,
        }))
    }

    fn table_exist(&self, name: &str) -> bool {
        let bare = split_name(name).map_or(name, |(name, _)| name);
        self.inner.state().entries.contains_key(bare) || DataRoots::looks_like_location(name)
    }
}

impl Public {
    /// Plans the view now: it shows what its tables are now, and a broken view fails only where it is used.
    async fn view(&self, name: &str, query: &str, reader: &str) -> Result<Arc<dyn TableProvider>> {
        let planner = self.inner.view_planner()?;
        let depth = VIEW_DEPTH.try_with(|depth| *depth).unwrap_or(0);
        if depth >= VIEW_DEPTH_MAX {
            return Err(Error::new(Code::InvalidTableDefinition, format!("view \"{name}\" contains itself"))
                .hint("Replace it by a query that does not use it."));
        }
        let plan = VIEW_DEPTH.scope(depth + 1, Box::pin(planner.plan(query, reader))).await;
        let plan = plan.map_err(|error| match error.detail {
            Some(_) => error,
            None => error.detail(format!("The query of view \"{name}\" no longer works.")),
        })?;
        Ok(Arc::new(ViewTable::new(plan, Some(query.to_owned()))))
    }
}

/// Files below `roots` as a table.
pub(super) async fn files(location: &str, roots: &Arc<DataRoots>) -> Result<Arc<dyn TableProvider>> {
    let kind = kind_of_name(location).unwrap_or(FileKind::Parquet);
    let source = ExternalSource { kind, location: location.to_owned(), partitions: Vec::new(), options: Default::default() };
    let session = SessionContext::new().state();
    let (source, schema) = ExternalTable::discover(&session, roots, source, None).await?;
    Ok(Arc::new(ExternalTable::new(location, source, schema, Arc::clone(roots))?))
}
