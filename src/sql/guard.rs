//! Which plans may run as a query: those that only read. Everything else is refused by default.

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::LogicalPlan;
use portrait_udfs::error::{Code, Error, Result};

/// Refuses a plan that holds, at any depth and in any subquery, a node that does not only read.
///
/// # Errors
/// [`Code::FeatureNotSupported`] naming what was found.
pub(super) fn check(plan: &LogicalPlan) -> Result<()> {
    let mut refused = None;
    plan.apply_with_subqueries(|node| {
        refused = refusal(node);
        Ok(if refused.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })
    .map_err(crate::error::classify)?;
    refused.map_or(Ok(()), Err)
}

/// Every kind of node is named, so that a new kind of the engine's does not slip through.
fn refusal(node: &LogicalPlan) -> Option<Error> {
    match node {
        LogicalPlan::Projection(_)
        | LogicalPlan::Filter(_)
        | LogicalPlan::Window(_)
        | LogicalPlan::Aggregate(_)
        | LogicalPlan::Sort(_)
        | LogicalPlan::Join(_)
        | LogicalPlan::Repartition(_)
        | LogicalPlan::Union(_)
        | LogicalPlan::TableScan(_)
        | LogicalPlan::EmptyRelation(_)
        | LogicalPlan::Subquery(_)
        | LogicalPlan::SubqueryAlias(_)
        | LogicalPlan::Limit(_)
        | LogicalPlan::Values(_)
        | LogicalPlan::Extension(_)
        | LogicalPlan::Distinct(_)
        | LogicalPlan::Unnest(_)
        | LogicalPlan::RecursiveQuery(_) => None,
        LogicalPlan::Explain(_) | LogicalPlan::Analyze(_) | LogicalPlan::DescribeTable(_) => Some(not_here("EXPLAIN")),
        LogicalPlan::Statement(_) => Some(not_here("this statement")),
        LogicalPlan::Dml(_) => Some(not_here("writing to a table")),
        LogicalPlan::Ddl(_) => Some(not_here("a definition")),
        LogicalPlan::Copy(_) => Some(not_here("COPY to a file")),
    }
}

fn not_here(what: &str) -> Error {
    Error::new(Code::FeatureNotSupported, format!("{what} is not allowed inside a query"))
}
