//! What the engine cannot know of SQL: how a view's text becomes a plan, and how columns are named.
//!
//! A view means what it meant when it was made: names are resolved by the default search path, not by the path of
//! whoever reads it.

use std::fmt;
use std::sync::{Arc, OnceLock, Weak};

use async_trait::async_trait;
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::Statement as DfStatement;
use datafusion::sql::sqlparser::ast;
use portrait_udfs::error::{Code, Error, Result};
use portrait_udfs::functions::prepare_statement;

use super::names;
use crate::catalog::ViewPlanner;
use crate::engine::{Engine, Extension, WeakSession};
use crate::error::classify;

/// Gives an engine the planner of views and PostgreSQL's names of columns. A second time does nothing new.
pub(super) fn install(engine: &Arc<Engine>) {
    engine.extend(Arc::new(Naming));
    engine.catalog().set_view_planner(Arc::new(Planner { engine: Arc::downgrade(engine), state: OnceLock::new() }));
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
    }
}

/// Plans views with a state that belongs to no client.
struct Planner {
    engine: Weak<Engine>,
    state: OnceLock<SessionState>,
}

impl Planner {
    fn engine(&self) -> Result<Arc<Engine>> {
        self.engine.upgrade().ok_or_else(|| Error::new(Code::Shutdown, "the server is shutting down"))
    }

    /// Made at the first use, when every extension is there.
    fn state(&self, engine: &Arc<Engine>) -> Result<&SessionState> {
        if let Some(state) = self.state.get() {
            return Ok(state);
        }
        let state = engine.detached_state()?;
        Ok(self.state.get_or_init(|| state))
    }
}

impl fmt::Debug for Planner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Planner").finish_non_exhaustive()
    }
}

#[async_trait]
impl ViewPlanner for Planner {
    async fn plan(&self, query: &str) -> Result<LogicalPlan> {
        let engine = self.engine()?;
        let state = self.state(&engine)?;
        let mut statement = super::parse_query(query)?;
        engine.rewrite(&mut statement);
        prepare_statement(&mut statement)?;
        state.statement_to_plan(DfStatement::Statement(Box::new(statement))).await.map_err(classify)
    }
}
