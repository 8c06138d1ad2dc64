//! Functions, operators and casts that mean in PostgreSQL what the engine has no word for, or another meaning.
//!
//! A function is a [`kernel::Kernel`]: how its arguments are cast, what it returns, and what it does with whole columns.
//! `operators` puts them in the place of operators, `casts` in the place of casts once every type is known. What only needs
//! other words is rewritten before planning, in `super::catalog`.

mod arithmetic;
mod bytes;
mod casts;
mod date_part;
mod intervals;
mod json;
mod kernel;
mod operators;
mod ordered;
mod sum;
mod text;
mod timestamps;
mod type_of;
mod zones;

use std::sync::Arc;

use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::ScalarUDF;

pub(super) use ordered::{MODE, PERCENTILE};
pub(super) use timestamps::spelled_out as timestamp_spelled_out;

/// Adds all of it to a session.
pub(super) fn extend(mut builder: SessionStateBuilder) -> SessionStateBuilder {
    builder.scalar_functions().get_or_insert_default().extend(functions());
    builder.aggregate_functions().get_or_insert_default().push(sum::function());
    builder.expr_planners().get_or_insert_default().insert(0, Arc::new(operators::Operators));
    builder.with_analyzer_rule(Arc::new(casts::Casts))
}

/// Those that SQL can name.
fn functions() -> Vec<Arc<ScalarUDF>> {
    let kernels = [zones::functions(), intervals::functions(), ordered::functions(), json::functions()];
    kernels.into_iter().flatten().chain([date_part::function(), type_of::function(), bytes::function()]).collect()
}
