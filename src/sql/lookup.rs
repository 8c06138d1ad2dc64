//! Queries that look rows up: their optimised plans are kept with prepared statements.
//!
//! Such a plan filters, projects, sorts or limits the rows of managed tables, with functions whose results never change. Every
//! other query is planned anew at each execution, with its parameters' values in sight: it may name models, read the clock or
//! join, and then planning is the smaller part of it.

use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::datasource::source_as_provider;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Cast, Expr, LogicalPlan, Volatility};
use portrait_udfs::error::Result;

use super::plan::bind;
use crate::error::classify;
use crate::storage::ManagedTable;

/// Whether the plan of a query may be kept.
pub(super) fn may_keep(plan: &LogicalPlan) -> bool {
    let mut plain = true;
    let walked = plan.apply(|node| {
        plain &= match node {
            LogicalPlan::Projection(_)
            | LogicalPlan::Filter(_)
            | LogicalPlan::Sort(_)
            | LogicalPlan::Limit(_)
            | LogicalPlan::SubqueryAlias(_) => true,
            LogicalPlan::TableScan(scan) => {
                source_as_provider(&scan.source).is_ok_and(|table| table.downcast_ref::<ManagedTable>().is_some())
            }
            _ => false,
        };
        node.apply_expressions(|expr| {
            expr.apply(|part| {
                plain &= is_plain(part);
                Ok(if plain { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
            })
        })?;
        Ok(if plain { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    });
    plain && walked.is_ok()
}

fn is_plain(expr: &Expr) -> bool {
    match expr {
        Expr::ScalarFunction(call) => call.func.signature().volatility == Volatility::Immutable,
        Expr::Column(_)
        | Expr::Alias(_)
        | Expr::Literal(..)
        | Expr::Placeholder(_)
        | Expr::BinaryExpr(_)
        | Expr::Like(_)
        | Expr::Not(_)
        | Expr::IsNull(_)
        | Expr::IsNotNull(_)
        | Expr::IsTrue(_)
        | Expr::IsFalse(_)
        | Expr::Negative(_)
        | Expr::Between(_)
        | Expr::Case(_)
        | Expr::Cast(_)
        | Expr::TryCast(_)
        | Expr::InList(_) => true,
        _ => false,
    }
}

/// The plan as it is kept, with its parameters open; `None` when it cannot be optimised without their values.
pub(super) fn optimised(state: &SessionState, plan: &LogicalPlan) -> Option<LogicalPlan> {
    state.optimize(plan).ok().filter(may_keep)
}

/// Gives a kept plan its parameters. A driver may have declared them narrower than the columns that they are compared with:
/// their casts are done here, once, so that scans see plain values.
pub(super) fn bound(plan: LogicalPlan, params: Vec<ScalarValue>) -> Result<LogicalPlan> {
    if params.is_empty() {
        return Ok(plan);
    }
    let cast = |expr: Expr| {
        let Expr::Cast(Cast { expr: inner, field }) = &expr else { return Ok(Transformed::no(expr)) };
        let Expr::Literal(value, metadata) = inner.as_ref() else { return Ok(Transformed::no(expr)) };
        // One that cannot be cast is an error of the rows that ask for it.
        Ok(match value.cast_to(field.data_type()) {
            Ok(value) => Transformed::yes(Expr::Literal(value, metadata.clone())),
            Err(_) => Transformed::no(expr),
        })
    };
    let plan = bind(plan, params)?.transform_down(|node| node.map_expressions(|expr| expr.transform_up(cast)));
    Ok(plan.map_err(classify)?.data)
}
