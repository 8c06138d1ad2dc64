//! `SELECT`, `VALUES`, `WITH`, `TABLE`: a query that only reads.

use datafusion::sql::sqlparser::ast;
use portrait_udfs::error::Result;

use super::plan::{bind, physical, plan_query};
use super::{Call, Outcome, RowTag};

/// Runs a query.
pub(super) async fn run(call: Call<'_>, query: &ast::Statement) -> Result<Outcome> {
    let types: Vec<_> = call.params.iter().map(|value| Some(value.data_type())).collect();
    let planned = plan_query(&call.running, query.clone(), call.statement.text(), &types).await?;
    let schema = planned.schema();
    let plan = bind(planned.plan, call.params)?;
    let plan = physical(&call.running, plan).await?;
    let stream = call.running.stream(plan);
    Ok(Outcome::Rows { schema, stream, tag: RowTag::Select })
}
