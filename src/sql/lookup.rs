//! Queries that look rows up: their optimised plans are kept with prepared statements.
//!
//! Such a plan filters, projects, sorts or limits the rows of managed tables, with functions whose results never change. Every
//! other query is planned anew at each execution, with its parameters' values in sight: it may name models, read the clock or
//! join, and then planning is the smaller part of it.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::datasource::source_as_provider;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Cast, Expr, LogicalPlan, Operator, Volatility};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use portrait_udfs::error::Result;

use super::plan::bind;
use super::{Outcome, Prepared, RowTag, names};
use crate::engine::{Direct, PlanStamp, Session, TransactionStatus};
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

/// What a kept plan reads, when it reads columns of one user's rows and nothing else: `SELECT columns FROM table WHERE user = $1`.
pub(super) fn direct(plan: &LogicalPlan) -> Option<Direct> {
    let schema = names::shown(plan.schema().as_arrow());
    let (outputs, input) = match plan {
        LogicalPlan::Projection(projection) => (Some(&projection.expr), projection.input.as_ref()),
        other => (None, other),
    };
    let LogicalPlan::Filter(filter) = input else { return None };
    let LogicalPlan::TableScan(scan) = filter.input.as_ref() else { return None };
    let table = source_as_provider(&scan.source).ok()?;
    let user = table.downcast_ref::<ManagedTable>()?.looked_up_by()?;
    let all = table.schema();
    let parameter = parameter_of(&filter.predicate, all.field(user).name())?;
    if scan.fetch.is_some() || scan.filters.iter().any(|pushed| parameter_of(pushed, all.field(user).name()) != Some(parameter)) {
        return None;
    }
    let column = |expr: &Expr| match expr {
        Expr::Column(column) => all.index_of(&column.name).ok(),
        _ => None,
    };
    let plain = |expr: &Expr| match expr {
        Expr::Alias(alias) => column(&alias.expr),
        other => column(other),
    };
    let columns = match outputs {
        Some(outputs) => outputs.iter().map(plain).collect::<Option<Vec<_>>>()?,
        None => scan.projected_schema.columns().iter().map(|column| all.index_of(&column.name).ok()).collect::<Option<Vec<_>>>()?,
    };
    let same = columns.iter().zip(schema.fields()).all(|(at, field)| all.field(*at).data_type() == field.data_type());
    (same && columns.len() == schema.fields().len()).then_some(Direct { table, columns, parameter, schema })
}

/// The parameter, from 0, that `expr` compares the column `user` with; `None` when it says anything else.
fn parameter_of(expr: &Expr, user: &str) -> Option<usize> {
    let Expr::BinaryExpr(equal) = expr else { return None };
    let parameter = |expr: &Expr| {
        let inner = if let Expr::Cast(Cast { expr, .. }) = expr { expr.as_ref() } else { expr };
        let Expr::Placeholder(placeholder) = inner else { return None };
        placeholder.id.strip_prefix('$')?.parse::<usize>().ok()?.checked_sub(1)
    };
    let is_user = |expr: &Expr| matches!(expr, Expr::Column(column) if column.name == user);
    match (equal.left.as_ref(), equal.op, equal.right.as_ref()) {
        (left, Operator::Eq, right) if is_user(left) => parameter(right),
        (left, Operator::Eq, right) if is_user(right) => parameter(left),
        _ => None,
    }
}

/// Answers a prepared look-up whose rows are in memory: nothing is planned, and no other thread is asked. `None` leaves it to the
/// usual way, which also puts the rows into memory.
pub(super) async fn at_once(session: &Session, prepared: &Prepared, params: &[ScalarValue]) -> Result<Option<Outcome>> {
    let Some(direct) = prepared.plan.direct(PlanStamp::of(session)) else { return Ok(None) };
    let promised = prepared.schema.as_ref().is_none_or(|promised| super::same_columns(promised, &direct.schema));
    let (Some(table), Some(user)) = (direct.table.downcast_ref::<ManagedTable>(), params.get(direct.parameter)) else { return Ok(None) };
    if !promised || session.transaction() == TransactionStatus::Failed {
        return Ok(None);
    }
    let Some(pieces) = table.rows_in_memory(user, &direct.columns).await.map_err(classify)? else { return Ok(None) };
    let batch = |columns: Vec<ArrayRef>| Ok(RecordBatch::try_new(Arc::clone(&direct.schema), columns)?);
    let batches: Vec<_> = pieces.into_iter().map(batch).collect();
    let stream = Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&direct.schema), futures::stream::iter(batches)));
    Ok(Some(Outcome::Rows { schema: Arc::clone(&direct.schema), stream, tag: RowTag::Select }))
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
