//! `INSERT INTO table [(columns)] {VALUES … | query}`: one durable commit.
//!
//! Into a table of events go those that it does not have ([`crate::storage::events`]); without a list of columns the
//! time of arrival may be left out.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::execute_stream;
use datafusion::sql::sqlparser::ast::{self, TableObject};
use portrait_udfs::error::{Code, Error, Result};

use super::command::Description;
use super::plan::{self, Planned, bind, physical};
use super::support::fold;
use super::target::Target;
use super::{Call, Outcome, guard, nested_values};
use crate::catalog::TableInfo;
use crate::engine::Running;
use crate::error::classify;

/// Checks what the parser accepts and we do not.
///
/// # Errors
/// [`Code::FeatureNotSupported`] naming the clause.
pub(super) fn check(insert: &ast::Insert) -> Result<()> {
    let refused = [
        (insert.on.is_some(), "ON CONFLICT"),
        (insert.returning.is_some() || insert.output.is_some(), "RETURNING"),
        (insert.overwrite, "OVERWRITE"),
        (insert.partitioned.is_some(), "PARTITION"),
        (insert.or.is_some() || insert.ignore || insert.replace_into, "OR REPLACE"),
        (insert.source.is_none(), "DEFAULT VALUES"),
        (insert.table_alias.is_some(), "a table alias"),
    ];
    match refused.iter().find(|(found, _)| *found) {
        Some((_, clause)) => Err(Error::new(Code::FeatureNotSupported, format!("INSERT with {clause} is not supported"))),
        None => Ok(()),
    }
}

fn target(running: &Running, insert: &ast::Insert) -> Result<Target> {
    match &insert.table {
        TableObject::TableName(name) => Target::of(running, name),
        _ => Err(Error::new(Code::FeatureNotSupported, "INSERT takes the name of a table")),
    }
}

/// Plans the rows, cast to the table's columns and in their order.
async fn rows(running: &Running, insert: &ast::Insert, text: &str, declared: &[Option<DataType>]) -> Result<Planned> {
    let info = target(running, insert)?.info()?;
    let mut insert = insert.clone();
    leave_out_arrival(info, &mut insert);
    if let Some(source) = insert.source.as_deref_mut() {
        nested_values::rewrite(source);
    }
    let mut planned = plan::plan(running, ast::Statement::Insert(insert), text, declared).await?;
    match planned.plan {
        LogicalPlan::Dml(dml) => planned.plan = Arc::unwrap_or_clone(dml.input),
        _ => return Err(Error::internal("an INSERT was planned as something else")),
    }
    guard::check(&planned.plan)?;
    Ok(planned)
}

/// The list of columns; `None` = all.
fn columns(insert: &ast::Insert) -> Result<Option<Vec<String>>> {
    if insert.columns.is_empty() {
        return Ok(None);
    }
    let bare = |name: &ast::ObjectName| {
        let ident = name.0.last().and_then(|part| part.as_ident());
        ident.map(fold).ok_or_else(|| Error::new(Code::Syntax, format!("\"{name}\" is not a name")))
    };
    insert.columns.iter().map(bare).collect::<Result<_>>().map(Some)
}

/// Without a list of columns, rows of VALUES that are one short are all columns of the table but the time of arrival.
fn leave_out_arrival(info: TableInfo, insert: &mut ast::Insert) {
    let Some(events) = info.events.filter(|_| insert.columns.is_empty()) else { return };
    let Some(given) = insert.source.as_ref().and_then(|source| width(&source.body)) else { return };
    if given + 1 == info.schema.fields().len() {
        let given = info.schema.fields().iter().filter(|field| *field.name() != events.ingested_at);
        insert.columns = given.map(|field| ast::ObjectName::from(vec![ast::Ident::with_quote('"', field.name())])).collect();
    }
}

/// How many columns a query has, where that can be seen.
fn width(body: &ast::SetExpr) -> Option<usize> {
    match body {
        ast::SetExpr::Values(values) => values.rows.first().map(|row| row.len()),
        ast::SetExpr::Select(select) => {
            let plain = |item: &ast::SelectItem| matches!(item, ast::SelectItem::UnnamedExpr(_) | ast::SelectItem::ExprWithAlias { .. });
            select.projection.iter().all(plain).then_some(select.projection.len())
        }
        ast::SetExpr::Query(query) => width(&query.body),
        ast::SetExpr::SetOperation { left, .. } => width(left),
        _ => None,
    }
}

pub(super) async fn describe(running: &Running, insert: &ast::Insert, text: &str, declared: &[Option<DataType>]) -> Result<Description> {
    Ok(Description::of(rows(running, insert, text, declared).await?))
}

/// Runs an INSERT.
pub(super) async fn run(call: Call<'_>, insert: &ast::Insert) -> Result<Outcome> {
    let target = target(&call.running, insert)?;
    call.before_rows(&target)?;
    let types: Vec<_> = call.params.iter().map(|value| Some(value.data_type())).collect();
    let planned = rows(&call.running, insert, call.statement.text(), &types).await?;
    let plan = bind(planned.plan, call.params.clone())?;
    let new_rows = call.new_rows(&target, columns(insert)?).await?;
    let plan = physical(&call.running, plan).await?;
    let task = Arc::new(TaskContext::from(call.running.state().as_ref()));
    let (table, options) = (target.clone(), call.ingest_options());
    let arrivals = call
        .running
        .run(async move {
            let rows = new_rows.check(execute_stream(plan, task).map_err(classify)?);
            table.insert(rows, options).await
        })
        .await?;
    call.tell(&arrivals);
    target.after_write(&call, true).await?;
    Ok(Outcome::done(format!("INSERT 0 {}", arrivals.new)))
}
