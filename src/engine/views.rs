//! Plans a view's query where the view is used.
//!
//! A view means what it meant when it was made: names are resolved by the default search path, not by the path of
//! whoever reads it.

use std::fmt;
use std::sync::{Arc, OnceLock, Weak};

use async_trait::async_trait;
use datafusion::config::Dialect;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use portrait_udfs::error::{Code, Error, Result};
use portrait_udfs::functions::prepare_df_statement;

use super::{Engine, Session};
use crate::catalog::ViewPlanner;
use crate::error::classify;

/// Plans views with a state that belongs to no client.
pub(super) struct Planner {
    engine: Weak<Engine>,
    state: OnceLock<SessionState>,
}

impl Planner {
    pub(super) fn new(engine: &Arc<Engine>) -> Self {
        Self { engine: Arc::downgrade(engine), state: OnceLock::new() }
    }

    /// Made at the first use, when every extension is there.
    fn state(&self) -> Result<&SessionState> {
        if let Some(state) = self.state.get() {
            return Ok(state);
        }
        let engine = self.engine.upgrade().ok_or_else(|| Error::new(Code::Shutdown, "the server is shutting down"))?;
        let state = Session::open(engine, "portrait", 0)?.state()?;
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
        let state = self.state()?;
        let mut statement = state.sql_to_statement(query, &Dialect::PostgreSQL).map_err(classify)?;
        prepare_df_statement(&mut statement)?;
        state.statement_to_plan(statement).await.map_err(classify)
    }
}
