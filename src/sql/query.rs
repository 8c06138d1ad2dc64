//! `SELECT`, `VALUES`, `WITH`, `TABLE`: a query that only reads.

use datafusion::sql::sqlparser::ast::{self, SetExpr};
use portrait_udfs::error::{Code, Error, Result};

use super::plan::{bind, physical, plan_query};
use super::{Call, Outcome, RowTag};

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
        SetExpr::Select(select) if select.into.is_some() => Err(Error::new(Code::FeatureNotSupported, "SELECT … INTO is not supported")
            .hint("Use CREATE TABLE … AS SELECT.")),
        _ => Ok(()),
    }
}

/// `TABLE x` as the query that it stands for.
///
/// # Errors
/// None in practice: the name was read by the same parser.
pub(super) fn without_table_command(mut query: Box<ast::Query>) -> Result<Box<ast::Query>> {
    let SetExpr::Table(table) = query.body.as_ref() else { return Ok(query) };
    let rewritten = format!("SELECT * FROM {table}");
    let tokens = datafusion::sql::sqlparser::parser::Parser::new(&super::parser::DIALECT).try_with_sql(&rewritten);
    let inner = tokens.and_then(|mut parser| parser.parse_query()).map_err(|error| super::parser::syntax_error(error, &rewritten))?;
    query.body = inner.body;
    Ok(query)
}

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
