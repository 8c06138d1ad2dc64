//! `SELECT`, `VALUES`, `WITH`, `TABLE`: a query that only reads.

use datafusion::sql::sqlparser::ast::{self, SetExpr};
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use portrait_udfs::error::{Code, Error, Result};

use super::parser::DIALECT;
use super::plan::{bind, physical, plan_query};
use super::support::end;
use super::{Call, Outcome, RowTag, names};

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
            Err(Error::new(Code::FeatureNotSupported, "SELECT … INTO is not supported").hint("Use CREATE TABLE … AS SELECT."))
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

/// Runs a query.
pub(super) async fn run(call: Call<'_>, query: &ast::Statement) -> Result<Outcome> {
    let types: Vec<_> = call.params.iter().map(|value| Some(value.data_type())).collect();
    let planned = plan_query(&call.running, query.clone(), call.statement.text(), &types).await?;
    let schema = planned.schema();
    let plan = bind(planned.plan, call.params)?;
    let plan = physical(&call.running, plan).await?;
    let stream = names::show(call.running.stream(plan));
    Ok(Outcome::Rows { schema, stream, tag: RowTag::Select })
}
