//! What drivers ask a PostgreSQL server about itself: `pg_catalog` and `information_schema`.
//!
//! Every relation of PostgreSQL 15 exists with its columns and OIDs (`data/columns.tsv`); rows come from PostgreSQL
//! where they are the same on every server (`data/*.tsv`: types, their functions, casts), from the [`snapshot`] of our
//! own catalog where they describe tables and roles, and from the session for settings. What has no rows yet is
//! empty, never wrong. Functions (`functions`) are scalar UDFs; `rewrite` changes the few constructs of catalog
//! queries that the planner cannot read, and touches no other statement.
//!
//! OIDs of tables and roles are persisted by `crate::catalog`; those of schemas and of the views that others attach
//! are made from their names, so they are the same in every process.

mod access;
mod activity;
mod calls;
mod cells;
mod clients;
mod dates;
mod definitions;
mod functions;
mod information_schema;
mod nothing;
mod procedures;
mod quantified;
mod relations;
mod rewrite;
mod schema;
mod server;
mod snapshot;
mod type_questions;
mod types;
mod values;

use std::sync::Arc;

use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::sql::sqlparser::ast;

pub(crate) use definitions::{is_oid_column, regproc_name};

use super::cancel::CancelRegistry;
use crate::engine::{Engine, Extension, WeakSession};

/// Gives an engine its `pg_catalog`, its `information_schema` and the functions around them; `cancels` are the
/// connections that `pg_cancel_backend` may cancel.
pub(crate) fn install_with(engine: &Arc<Engine>, cancels: Arc<CancelRegistry>) {
    for name in ["pg_catalog", "information_schema"] {
        engine.catalog().attach_schema(name, Arc::new(schema::SystemSchema::new(name, engine, &cancels)));
    }
    engine.extend(Arc::new(PgExtension { cancels }));
}

/// As [`install_with`], without connections that could be cancelled.
pub fn install(engine: &Arc<Engine>) {
    install_with(engine, Arc::default());
}

struct PgExtension {
    cancels: Arc<CancelRegistry>,
}

impl Extension for PgExtension {
    fn name(&self) -> &'static str {
        "pg_catalog"
    }

    fn extend(&self, mut builder: SessionStateBuilder, session: &WeakSession) -> SessionStateBuilder {
        let functions = builder.scalar_functions().get_or_insert_default();
        let own = functions::all(session, &self.cancels, functions);
        functions.extend(own);
        builder.expr_planners().get_or_insert_default().push(Arc::new(dates::DatesWithIntervals));
        super::compat::extend(builder)
    }

    fn rewrite(&self, statement: &mut ast::Statement) {
        rewrite::rewrite(statement);
    }
}
