//! `CREATE`, `ALTER` and `DROP POLICY`: which rows roles see and add; `CREATE` and `DROP MASK`: what roles see in a column.
//!
//! `CREATE POLICY name ON table [AS {PERMISSIVE | RESTRICTIVE}] [FOR {ALL | SELECT | INSERT}] [TO role [, …]] [USING (condition)]
//! [WITH CHECK (condition)]` as in PostgreSQL, and `CREATE MASK name ON table (column) [TO role [, …]] USING (expression)`. Inside
//! a condition the table's own name means the whole table; other tables are read with the rights of whoever asks.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::sql::sqlparser::ast::{Expr, ObjectName};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::Token;
use portrait_udfs::error::{Code, Error, Result};

use super::grant::Grantee;
use super::support::{end, if_exists, name, words};
use super::{Call, Outcome, guard};
use crate::catalog::{ObjectKind, PolicyCommand, StoredMask, StoredPolicy};

/// A statement about a policy or a mask.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Policy {
    name: String,
    table: ObjectName,
    action: Action,
}

#[derive(Debug, Clone, PartialEq)]
enum Action {
    CreatePolicy { command: PolicyCommand, permissive: bool, roles: Vec<Grantee>, using: Option<Expr>, check: Option<Expr> },
    AlterPolicy { roles: Vec<Grantee>, using: Option<Expr>, check: Option<Expr> },
    CreateMask { column: String, roles: Vec<Grantee>, expr: Box<Expr> },
    DropPolicy { if_exists: bool },
    DropMask { if_exists: bool },
}

impl Policy {
    /// Reads what follows `CREATE`, `ALTER` or `DROP` (told by `verb`); `None` when it is about something else.
    pub(super) fn parse(parser: &mut Parser<'_>, verb: &str) -> Result<Option<Self>, ParserError> {
        let mask = words(parser, &["MASK"]);
        if !mask && !words(parser, &["POLICY"]) {
            return Ok(None);
        }
        let exists = verb == "DROP" && if_exists(parser);
        let name = name(parser)?;
        parser.expect_keyword(Keyword::ON)?;
        let table = parser.parse_object_name(false)?;
        let action = match (verb, mask) {
            ("DROP", true) => Action::DropMask { if_exists: exists },
            ("DROP", false) => Action::DropPolicy { if_exists: exists },
            ("CREATE", true) => create_mask(parser)?,
            ("CREATE", false) => create_policy(parser)?,
            (_, false) => {
                let roles = roles(parser)?;
                Action::AlterPolicy { roles, using: using(parser)?, check: with_check(parser)? }
            }
            _ => return parser.expected("CREATE MASK or DROP MASK", parser.peek_token()),
        };
        if verb == "DROP" {
            let _ = words(parser, &["CASCADE"]) || words(parser, &["RESTRICT"]);
        }
        end(parser)?;
        Ok(Some(Self { name, table, action }))
    }

    pub(super) fn tag(&self) -> &'static str {
        match self.action {
            Action::CreatePolicy { .. } => "CREATE POLICY",
            Action::AlterPolicy { .. } => "ALTER POLICY",
            Action::CreateMask { .. } => "CREATE MASK",
            Action::DropPolicy { .. } => "DROP POLICY",
            Action::DropMask { .. } => "DROP MASK",
        }
    }

    pub(super) async fn run(&self, call: Call<'_>) -> Result<Outcome> {
        call.before_write()?;
        let (catalog, caller, table) = (Arc::clone(call.running.engine().catalog()), call.session.user(), call.kept_name(&self.table)?);
        let info = catalog.describe(&table).ok_or_else(|| catalog.undefined_table(&table))?;
        if info.kind == ObjectKind::View {
            return Err(ObjectKind::View
                .wrong(&table, ObjectKind::Table)
                .hint("A view is a filter already: grant the view, not its tables."));
        }
        call.must_own(&table)?;
        match &self.action {
            Action::CreatePolicy { command, permissive, roles, using, check } => {
                let using = self.condition(&call, &table, using.as_ref(), *command == PolicyCommand::Insert).await?;
                let check = self.condition(&call, &table, check.as_ref(), *command == PolicyCommand::Select).await?;
                let policy = StoredPolicy { oid: 0, command: *command, permissive: *permissive, roles: names(&call, roles), using, check };
                catalog.put_policy(&caller, &table, &self.name, policy, false).await?;
                if !catalog.row_security(&table).enabled {
                    call.running.notice(&format!(
                        "row level security is not enabled on table \"{table}\": ALTER TABLE {table} ENABLE ROW LEVEL SECURITY"
                    ));
                }
            }
            Action::AlterPolicy { roles, using, check } => {
                let missing =
                    || Error::new(Code::UndefinedObject, format!("policy \"{}\" for table \"{table}\" does not exist", self.name));
                let mut policy = catalog.row_security(&table).policies.get(&self.name).cloned().ok_or_else(missing)?;
                if using.is_some() {
                    policy.using = self.condition(&call, &table, using.as_ref(), policy.command == PolicyCommand::Insert).await?;
                }
                if check.is_some() {
                    policy.check = self.condition(&call, &table, check.as_ref(), policy.command == PolicyCommand::Select).await?;
                }
                if !roles.is_empty() {
                    policy.roles = names(&call, roles);
                }
                catalog.put_policy(&caller, &table, &self.name, policy, true).await?;
            }
            Action::CreateMask { column, roles, expr } => {
                let field = info.schema.field_with_name(column).map_err(|_| {
                    Error::new(Code::UndefinedColumn, format!("column \"{column}\" of relation \"{table}\" does not exist"))
                })?;
                let text = expr.to_string();
                let found = self.type_of(&call, &table, &text).await?;
                if !datafusion::arrow::compute::can_cast_types(&found, field.data_type()) {
                    return Err(Error::new(Code::DatatypeMismatch, format!("column \"{column}\" and its mask have different types"))
                        .detail(format!("The column is of type {}, the mask of type {found}.", field.data_type())));
                }
                let mask = StoredMask { oid: 0, column: column.clone(), roles: names(&call, roles), expr: text };
                catalog.put_mask(&caller, &table, &self.name, mask).await?;
            }
            Action::DropPolicy { if_exists } => {
                let dropped = catalog.drop_policy(&caller, &table, &self.name, *if_exists).await?;
                self.tell(&call, dropped, "policy", &table);
            }
            Action::DropMask { if_exists } => {
                let dropped = catalog.drop_mask(&caller, &table, &self.name, *if_exists).await?;
                self.tell(&call, dropped, "mask", &table);
            }
        }
        call.after_write();
        Ok(Outcome::done(self.tag()))
    }

    fn tell(&self, call: &Call<'_>, dropped: bool, what: &str, table: &str) {
        if !dropped {
            call.running.notice(&format!("{what} \"{}\" for relation \"{table}\" does not exist, skipping", self.name));
        }
    }

    /// The text of a condition that holds over the table's columns.
    async fn condition(&self, call: &Call<'_>, table: &str, condition: Option<&Expr>, refused: bool) -> Result<Option<String>> {
        let Some(condition) = condition else { return Ok(None) };
        if refused {
            let message = "only USING expressions are read for SELECT, and only WITH CHECK expressions for INSERT";
            return Err(Error::new(Code::Syntax, message));
        }
        let text = condition.to_string();
        let found = self.type_of(call, table, &text).await?;
        if found != datafusion::arrow::datatypes::DataType::Boolean {
            return Err(
                Error::new(Code::DatatypeMismatch, "argument of a policy must be type boolean").detail(format!("It is of type {found}."))
            );
        }
        Ok(Some(text))
    }

    /// Plans an expression over the table: what it cannot be, it is told now.
    async fn type_of(&self, call: &Call<'_>, table: &str, text: &str) -> Result<datafusion::arrow::datatypes::DataType> {
        let engine = Arc::clone(call.running.engine());
        let (state, table) = (Arc::clone(call.running.state()), table.to_owned());
        let query = format!("SELECT {text} FROM \"{}\"", table.replace('"', "\"\""));
        let plan = call
            .running
            .run(async move {
                let provider = state.catalog_list().catalog(crate::catalog::DATABASE).and_then(|found| found.schema("public"));
                let provider = provider.ok_or_else(|| Error::internal("there is no schema public"))?;
                let provider = provider.table(&table).await.map_err(crate::error::classify)?;
                let provider = provider.ok_or_else(|| engine.catalog().undefined_table(&table))?;
                engine.catalog().view_planner()?.plan_over(&state, &query, &table, provider).await
            })
            .await
            .map_err(|error| Error { position: None, ..error })?;
        guard::check(&plan)?;
        Ok(plan.schema().field(0).data_type().clone())
    }
}

fn create_policy(parser: &mut Parser<'_>) -> Result<Action, ParserError> {
    let mut permissive = true;
    if words(parser, &["AS"]) {
        permissive = words(parser, &["PERMISSIVE"]);
        if !permissive && !words(parser, &["RESTRICTIVE"]) {
            return parser.expected("PERMISSIVE or RESTRICTIVE", parser.peek_token());
        }
    }
    let mut command = PolicyCommand::All;
    if words(parser, &["FOR"]) {
        command = if words(parser, &["ALL"]) {
            PolicyCommand::All
        } else if words(parser, &["SELECT"]) {
            PolicyCommand::Select
        } else if words(parser, &["INSERT"]) {
            PolicyCommand::Insert
        } else {
            return parser.expected("ALL, SELECT or INSERT", parser.peek_token());
        };
    }
    let roles = roles(parser)?;
    Ok(Action::CreatePolicy { command, permissive, roles, using: using(parser)?, check: with_check(parser)? })
}

fn create_mask(parser: &mut Parser<'_>) -> Result<Action, ParserError> {
    parser.expect_token(&Token::LParen)?;
    let column = name(parser)?;
    parser.expect_token(&Token::RParen)?;
    let roles = roles(parser)?;
    match using(parser)? {
        Some(expr) => Ok(Action::CreateMask { column, roles, expr: Box::new(expr) }),
        None => parser.expected("USING (expression)", parser.peek_token()),
    }
}

fn roles(parser: &mut Parser<'_>) -> Result<Vec<Grantee>, ParserError> {
    if words(parser, &["TO"]) { parser.parse_comma_separated(Grantee::parse) } else { Ok(Vec::new()) }
}

fn using(parser: &mut Parser<'_>) -> Result<Option<Expr>, ParserError> {
    if words(parser, &["USING"]) { in_parentheses(parser).map(Some) } else { Ok(None) }
}

fn with_check(parser: &mut Parser<'_>) -> Result<Option<Expr>, ParserError> {
    if words(parser, &["WITH", "CHECK"]) { in_parentheses(parser).map(Some) } else { Ok(None) }
}

fn in_parentheses(parser: &mut Parser<'_>) -> Result<Expr, ParserError> {
    parser.expect_token(&Token::LParen)?;
    let expr = parser.parse_expr()?;
    parser.expect_token(&Token::RParen)?;
    Ok(expr)
}

/// The roles; none = everybody, which PUBLIC among them means as well.
fn names(call: &Call<'_>, roles: &[Grantee]) -> BTreeSet<String> {
    if roles.contains(&Grantee::Public) {
        return BTreeSet::new();
    }
    roles.iter().filter_map(|role| role.role(call)).collect()
}
