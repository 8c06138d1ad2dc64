//! What the engine cannot know of SQL: how a view's text becomes a plan, and how columns are named.
//!
//! A view means what it meant when it was made: names are resolved by the default search path, not by the path of
//! whoever reads it.

use std::fmt;
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, CatalogProviderList, MemoryCatalogProviderList, SchemaProvider, TableProvider};
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::Statement as DfStatement;
use datafusion::sql::sqlparser::ast;
use portrait_udfs::error::{Code, Error, Result};
use portrait_udfs::functions::prepare_statement;

use super::{names, same_names};
use crate::catalog::ViewPlanner;
use crate::engine::{Engine, Extension, WeakSession};
use crate::error::classify;
use crate::plan::with_text_types;

/// Gives an engine the planner of views and PostgreSQL's names of columns. A second time does nothing new.
pub(super) fn install(engine: &Arc<Engine>) {
    engine.extend(Arc::new(Naming));
    engine.catalog().set_view_planner(Arc::new(Planner { engine: Arc::downgrade(engine) }));
}

/// Names columns before any other rewriting, so that what is kept of a query keeps their names.
struct Naming;

impl Extension for Naming {
    fn name(&self) -> &'static str {
        "names of columns"
    }

    fn extend(&self, builder: SessionStateBuilder, _session: &WeakSession) -> SessionStateBuilder {
        builder
    }

    fn rewrite(&self, statement: &mut ast::Statement) {
        names::give(statement);
        same_names::tell_apart(statement);
    }
}

/// Plans views with states that belong to no client. The engine keeps them: the catalog holds this, and they hold the catalog.
struct Planner {
    engine: Weak<Engine>,
}

impl Planner {
    fn engine(&self) -> Result<Arc<Engine>> {
        self.engine.upgrade().ok_or_else(|| Error::new(Code::Shutdown, "the server is shutting down"))
    }
}

impl fmt::Debug for Planner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Planner").finish_non_exhaustive()
    }
}

#[async_trait]
impl ViewPlanner for Planner {
    async fn plan(&self, query: &str, reader: &str) -> Result<LogicalPlan> {
        let engine = self.engine()?;
        let state = engine.detached_state(reader)?;
        let statement = super::parse_query(query)?;
        super::calls::check(&engine.catalog().rights(reader), &state, &statement)?;
        to_plan(&engine, &state, statement).await
    }

    async fn plan_over(&self, state: &SessionState, query: &str, name: &str, table: Arc<dyn TableProvider>) -> Result<LogicalPlan> {
        let engine = self.engine()?;
        let mut state = state.clone();
        let options = state.config_options();
        let (database, schema) = (options.catalog.default_catalog.clone(), options.catalog.default_schema.clone());
        let catalog = state.catalog_list().catalog(&database).ok_or_else(|| Error::internal("a session has no database"))?;
        let over = Over { catalog, schema, name: name.to_owned(), table };
        let list = MemoryCatalogProviderList::new();
        list.register_catalog(database, Arc::new(over));
        state.register_catalog_list(Arc::new(list));
        to_plan(&engine, &state, super::parse_query(query)?).await
    }
}

async fn to_plan(engine: &Engine, state: &SessionState, mut statement: ast::Statement) -> Result<LogicalPlan> {
    engine.rewrite(&mut statement);
    prepare_statement(&mut statement)?;
    state.statement_to_plan(DfStatement::Statement(Box::new(statement))).await.and_then(with_text_types).map_err(classify)
}

/// A database in which one bare name is a table of our own.
#[derive(Debug)]
struct Over {
    catalog: Arc<dyn CatalogProvider>,
    /// The schema of bare names.
    schema: String,
    name: String,
    table: Arc<dyn TableProvider>,
}

impl CatalogProvider for Over {
    fn schema_names(&self) -> Vec<String> {
        self.catalog.schema_names()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        let schema = self.catalog.schema(name)?;
        if name != self.schema {
            return Some(schema);
        }
        Some(Arc::new(OverSchema { schema, name: self.name.clone(), table: Arc::clone(&self.table) }))
    }
}

/// The schema of bare names, with that table.
#[derive(Debug)]
struct OverSchema {
    schema: Arc<dyn SchemaProvider>,
    name: String,
    table: Arc<dyn TableProvider>,
}

#[async_trait]
impl SchemaProvider for OverSchema {
    fn table_names(&self) -> Vec<String> {
        self.schema.table_names()
    }

    async fn table(&self, name: &str) -> DataFusionResult<Option<Arc<dyn TableProvider>>> {
        if name == self.name { Ok(Some(Arc::clone(&self.table))) } else { self.schema.table(name).await }
    }

    fn table_exist(&self, name: &str) -> bool {
        name == self.name || self.schema.table_exist(name)
    }
}
