//! `SELECT`, `VALUES`, `WITH`, `TABLE`: a query. It only reads, unless a function at its top does something besides answering.

use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::sqlparser::ast::{self, SetExpr};
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use portrait_udfs::error::{Code, Error, Result};
use portrait_udfs::functions::planner::{effect_of, runs_effects};
use portrait_udfs::functions::relation::Effect;

use super::parser::DIALECT;
use super::plan::{bind, physical, physical_of_optimised, plan_query};
use super::support::end;
use super::{Call, Outcome, RowTag, lookup, names, origins};
use crate::engine::TransactionStatus;

/// Checks what the parser accepts and we do not.
///
/// # Errors
/// [`Code::FeatureNotSupported`] naming the clause.
pub(super) fn check(query: &ast::Query) -> Result<()> {
    match query.body.as_ref() {
        SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => {
            Err(Error::new(Code::FeatureNotSupported, "WITH before a statement that writes is not supported")
                .hint("Put the WITH behind INSERT INTO …, before its SELECT."))
        }
        SetExpr::Select(select) if select.into.is_some() => {
            Err(Error::new(Code::Syntax, "SELECT … INTO is not allowed here").hint("It is a statement of its own that makes a table."))
        }
        _ => Ok(()),
    }
}

/// Reads what follows `TABLE`: `SELECT * FROM` that relation.
///
/// # Errors
/// When it is not the name of a relation.
pub(super) fn table_command(parser: &mut Parser<'_>) -> Result<ast::Statement, ParserError> {
    let name = parser.parse_object_name(false)?;
    end(parser)?;
    Parser::new(&DIALECT).try_with_sql(&format!("SELECT * FROM {name}"))?.parse_statement()
}

/// Checks that a call with effects may run where it stands.
///
/// # Errors
/// 25006 in a read-only transaction; 25001 for what cannot be undone, inside a transaction block.
fn may_run(call: &Call<'_>, name: &str, effect: Effect) -> Result<()> {
    if effect == Effect::Trains {
        return Ok(());
    }
    call.before_write_of(name)?;
    if effect == Effect::Erases && call.session.transaction() != TransactionStatus::Idle {
        return Err(Error::new(Code::ActiveTransaction, format!("{name} cannot run inside a transaction block"))
            .detail("It cannot be undone, not by ROLLBACK either.")
            .hint("End the transaction block first; in a driver, turn autocommit on."));
    }
    call.after_write();
    Ok(())
}

/// Runs a query.
pub(super) async fn run(call: Call<'_>, query: &ast::Statement) -> Result<Outcome> {
    if let Some(plan) = call.kept.as_ref().and_then(|(slot, now)| slot.take(*now)) {
        return run_optimised(call, plan).await;
    }
    let types: Vec<_> = call.params.iter().map(|value| Some(value.data_type())).collect();
    let planned = plan_query(&call.running, query.clone(), call.statement.text(), &types).await?;
    if let Some((slot, stamp)) = &call.kept
        && lookup::may_keep(&planned.plan)
        && let Some(plan) = lookup::optimised(call.running.state(), &planned.plan)
    {
        slot.keep(*stamp, plan.clone(), lookup::direct(&plan));
        return run_optimised(call, plan).await;
    }
    // A prepared statement's columns were described before it runs.
    let schema = match &call.kept {
        Some(_) => planned.schema(),
        None => origins::mark(&call.running, query, &planned.plan, &planned.schema()),
    };
    let effect = effect_of(&planned.plan);
    if let Some((name, effect)) = effect {
        may_run(&call, name, effect)?;
    }
    let plan = bind(planned.plan, call.params)?;
    let plan = physical(&call.running, plan).await?;
    if let Some((name, Effect::Changes | Effect::Erases)) = effect
        && !runs_effects(&plan)
    {
        return Err(Error::new(Code::FeatureNotSupported, format!("{name} would not run in this statement"))
            .detail("A condition that is never true, or LIMIT 0, leaves no rows to ask it for.")
            .hint(format!("Run SELECT * FROM {name}(…) alone.")));
    }
    let stream = names::show(call.running.stream(plan));
    Ok(Outcome::Rows { schema, stream, tag: RowTag::Select })
}

/// Runs a plan that is optimised but for its parameters.
async fn run_optimised(call: Call<'_>, plan: LogicalPlan) -> Result<Outcome> {
    let schema = names::shown(plan.schema().as_arrow());
    let plan = physical_of_optimised(&call.running, lookup::bound(plan, call.params)?).await?;
    Ok(Outcome::Rows { schema, stream: names::show(call.running.stream(plan)), tag: RowTag::Select })
}
