//! `CREATE [OR REPLACE] VIEW name [(columns)] [WITH (options)] AS query`.

use std::sync::Arc;

use datafusion::sql::sqlparser::ast::{self, Spanned};
use portrait_udfs::error::{Code, Error, Result};

use super::create_table::stored;
use super::support::fold;
use super::target::{kept, refuse_temporary};
use super::{Call, Outcome, guard, parser, plan, view_options};
use crate::catalog::{CreateView, Created};

/// Checks what the parser accepts and we do not.
///
/// # Errors
/// [`Code::FeatureNotSupported`] naming the clause.
pub(super) fn check(view: &ast::CreateView) -> Result<()> {
    let refused = [(view.temporary, "temporary views"), (view.to.is_some(), "CREATE VIEW … TO")];
    match refused.iter().find(|(found, ..)| *found) {
        Some((_, what)) => Err(Error::new(Code::FeatureNotSupported, format!("{what} are not supported"))),
        None => Ok(()),
    }
}

/// Runs a CREATE VIEW.
pub(super) async fn run(call: Call<'_>, view: &ast::CreateView) -> Result<Outcome> {
    call.before_write()?;
    call.may_create()?;
    let name = kept(&call.running, &view.name)?;
    if view.or_replace {
        call.must_own(&name)?;
    }
    let mut whole = ast::Statement::CreateView(view.clone());
    plan::prepare_statement(&mut whole)?;
    let ast::Statement::CreateView(ast::CreateView { query: prepared, .. }) = whole else {
        return Err(Error::internal("a CREATE VIEW lost its query"));
    };
    let query = aliased(view, call.statement.text())?;
    let planned = plan::plan(&call.running, ast::Statement::Query(prepared), call.statement.text(), &[]).await?;
    if !planned.parameter_types.is_empty() {
        return Err(Error::new(Code::UndefinedParameter, "there is no parameter $1").detail("A view cannot have parameters."));
    }
    guard::check(&planned.plan)?;
    refuse_temporary(&planned.plan, "views")?;
    let mut columns = planned.schema();
    if !view.columns.is_empty() {
        if view.columns.len() > columns.fields().len() {
            return Err(Error::new(Code::Syntax, "CREATE VIEW specifies more column names than columns"));
        }
        let mut builder = arrow::datatypes::SchemaBuilder::from(columns.fields());
        for (at, column) in view.columns.iter().enumerate() {
            let renamed = builder.field(at).as_ref().clone().with_name(fold(&column.name));
            *builder.field_mut(at) = Arc::new(renamed);
        }
        columns = Arc::new(builder.finish());
    }
    let made = CreateView {
        name: name.clone(),
        query,
        columns: stored(&columns)?,
        options: view_options::read(view)?,
        or_replace: view.or_replace,
        if_not_exists: view.if_not_exists,
        owner: call.session.user().to_owned(),
    };
    let catalog = Arc::clone(call.running.engine().catalog());
    if call.running.run(async move { catalog.create_view(made).await }).await? == Created::Existed {
        call.running.notice(&format!("relation \"{name}\" already exists, skipping"));
    }
    call.after_write();
    Ok(Outcome::done("CREATE VIEW"))
}

/// The query's own text, or with a list of columns a query around it that renames them.
pub(super) fn aliased(view: &ast::CreateView, text: &str) -> Result<String> {
    let start = view.query.span().start;
    let sliced = if start.line == 0 { view.query.to_string() } else { parser::text_from(text, start).to_owned() };
    // The text is kept if it reads as the same query; the parser's own rendering otherwise (`CREATE VIEW v AS (SELECT 1)`).
    let same = parser::parse(&sliced).is_ok_and(|statements| match statements.as_slice() {
        [only] => only.is_query(&view.query),
        _ => false,
    });
    let query = if same { sliced } else { view.query.to_string() };
    if view.columns.is_empty() {
        return Ok(query);
    }
    let names: Vec<String> = view.columns.iter().map(|column| format!("\"{}\"", fold(&column.name).replace('"', "\"\""))).collect();
    Ok(format!("SELECT * FROM ({query}\n) AS columns_of_view ({})", names.join(", ")))
}
