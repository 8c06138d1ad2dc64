//! The one list of statements: how a piece of text is recognised, and which file describes and runs it.

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::sql::parser::{CreateExternalTable, DFParser, Statement as DfStatement};
use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};
use portrait_udfs::error::{Code, Error, Result};

use super::alter_table::AlterTable;
use super::alter_view::AlterView;
use super::audience::Audience;
use super::copy::Copy;
use super::create_table::{self, CreateTable};
use super::cursor::{Close, Declare, Fetch};
use super::default_privileges::DefaultPrivileges;
use super::drop::Drop;
use super::execute::{Deallocate, Execute};
use super::explain::Explain;
use super::grant::Grant;
use super::location::Location;
use super::maintain::Maintain;
use super::materialized_view::MaterializedView;
use super::policy::Policy;
use super::prepare::Prepare;
use super::reset::Reset;
use super::role::Role;
use super::set::Set;
use super::show::Show;
use super::support::{end, words};
use super::transaction::Transaction;
use super::{Call, Outcome, Statement, compat, create_external_table, create_view, insert, origins, parser, plan, query, view_options};
use crate::engine::{Running, Session};
use crate::storage::TextType;

/// A statement, read.
#[derive(Debug)]
pub(super) enum Command {
    Query(Box<ast::Statement>),
    Explain(Explain),
    CreateExternalTable(Box<CreateExternalTable>),
    CreateTable(Box<CreateTable>),
    CreateView(Box<ast::CreateView>),
    MaterializedView(MaterializedView),
    Insert(Box<ast::Insert>),
    Copy(Box<Copy>),
    Maintain(Maintain),
    AlterTable(AlterTable),
    AlterView(AlterView),
    Drop(Drop),
    Role(Role),
    Grant(Grant),
    DefaultPrivileges(DefaultPrivileges),
    Policy(Box<Policy>),
    Location(Location),
    Audience(Box<Audience>),
    Set(Set),
    Show(Show),
    Reset(Reset),
    Transaction(Transaction),
    Prepare(Prepare),
    Execute(Execute),
    Deallocate(Deallocate),
    Declare(Declare),
    Fetch(Fetch),
    Close(Close),
    /// Nothing to do; its tag.
    Nothing(&'static str),
}

/// What is known of a statement before it runs.
pub(super) struct Description {
    pub(super) parameter_types: Vec<DataType>,
    /// As [`Prepared::parameter_texts`](super::Prepared::parameter_texts).
    pub(super) parameter_texts: Vec<Option<TextType>>,
    pub(super) schema: Option<SchemaRef>,
}

impl Description {
    fn rows(schema: SchemaRef) -> Self {
        Self { schema: Some(schema), ..Self::nothing() }
    }

    /// What is known of the parameters of what was planned.
    pub(super) fn of(planned: plan::Planned) -> Self {
        Self { parameter_types: planned.parameter_types, parameter_texts: planned.parameter_texts, schema: None }
    }

    pub(super) fn nothing() -> Self {
        Self { parameter_types: Vec::new(), parameter_texts: Vec::new(), schema: None }
    }
}

impl Command {
    /// Reads one statement.
    ///
    /// # Errors
    /// [`Code::Syntax`] with a position in `text`, [`Code::FeatureNotSupported`] for what PostgreSQL has and we do not.
    pub(super) fn parse(text: &str, tokens: Vec<TokenWithSpan>) -> Result<Self> {
        let mut parser = parser::parser(view_options::spelled_out(tokens))?;
        let first = word(&parser, 0);
        let second = word(&parser, 1);
        let syntax = |error: ParserError| parser::syntax_error(error, text);
        // Our own statements first, each by its first word.
        if let Some(found) = Self::parse_session(&mut parser, &first, text).map_err(syntax)? {
            return Ok(found);
        }
        if let Some(found) = Self::parse_definition(&mut parser, &first, text)? {
            return Ok(found);
        }
        if let Some(tag) = compat::parse(&mut parser.parser).map_err(syntax)? {
            return Ok(Self::Nothing(tag));
        }
        match first.as_str() {
            "EXPLAIN" => {
                parser.parser.next_token();
                Explain::parse(&mut parser.parser).map(Self::Explain).map_err(syntax)
            }
            "TABLE" => {
                parser.parser.next_token();
                query::table_command(&mut parser.parser).map(|query| Self::Query(Box::new(query))).map_err(syntax)
            }
            "FETCH" | "MOVE" => {
                parser.parser.next_token();
                Fetch::parse(&mut parser.parser, first == "MOVE").map(Self::Fetch)
            }
            "GRANT" | "REVOKE" => {
                parser.parser.next_token();
                Grant::parse(&mut parser.parser, first == "REVOKE").map(Self::Grant).map_err(syntax)
            }
            "OPTIMIZE" | "VACUUM" => Maintain::parse(&mut parser.parser).map(Self::Maintain).map_err(syntax),
            "COPY" => {
                parser.parser.next_token();
                Copy::parse(&mut parser.parser, text).map(|copy| Self::Copy(Box::new(copy)))
            }
            "SELECT" | "WITH" | "VALUES" | "INSERT" | "" => Self::parse_sql(&mut parser, text),
            _ => match compat::unsupported(&first, &second) {
                Some(error) => Err(error),
                None => Err(Error::new(Code::Syntax, format!("syntax error at or near \"{}\"", parser.parser.peek_token().token)).at(1)),
            },
        }
    }

    /// Statements about the session.
    fn parse_session(parser: &mut DFParser<'_>, first: &str, text: &str) -> Result<Option<Self>, ParserError> {
        let parser = &mut parser.parser;
        Ok(Some(match first {
            "SET" => {
                parser.next_token();
                Self::Set(Set::parse(parser)?)
            }
            "SHOW" => {
                parser.next_token();
                Self::Show(Show::parse(parser)?)
            }
            "RESET" | "DISCARD" => Self::Reset(Reset::parse(parser)?),
            "BEGIN" | "START" | "COMMIT" | "END" | "ROLLBACK" | "ABORT" | "SAVEPOINT" | "RELEASE" => {
                Self::Transaction(Transaction::parse(parser)?)
            }
            "PREPARE" => {
                parser.next_token();
                Self::Prepare(Prepare::parse(parser, text)?)
            }
            "EXECUTE" => {
                parser.next_token();
                Self::Execute(Execute::parse(parser)?)
            }
            "DEALLOCATE" => {
                parser.next_token();
                Self::Deallocate(Deallocate::parse(parser)?)
            }
            "DECLARE" => {
                parser.next_token();
                Self::Declare(Declare::parse(parser, text)?)
            }
            "CLOSE" => {
                parser.next_token();
                Self::Close(Close::parse(parser)?)
            }
            _ => return Ok(None),
        }))
    }

    /// `CREATE`, `ALTER` and `DROP` of what we have.
    fn parse_definition(parser: &mut DFParser<'_>, first: &str, text: &str) -> Result<Option<Self>> {
        let syntax = |error: ParserError| parser::syntax_error(error, text);
        let start = parser.parser.index();
        match first {
            "CREATE" | "ALTER" | "DROP" => {
                parser.parser.next_token();
                if let Some(role) = Role::parse(&mut parser.parser, first).map_err(syntax)? {
                    return Ok(Some(Self::Role(role)));
                }
                if let Some(policy) = Policy::parse(&mut parser.parser, first).map_err(syntax)? {
                    return Ok(Some(Self::Policy(Box::new(policy))));
                }
                if first != "ALTER"
                    && let Some(location) = Location::parse(&mut parser.parser, first).map_err(syntax)?
                {
                    return Ok(Some(Self::Location(location)));
                }
                if let Some(audience) = Audience::parse(&mut parser.parser, first, text)? {
                    return Ok(Some(Self::Audience(Box::new(audience))));
                }
                if let Some(view) = MaterializedView::parse(&mut parser.parser, first, text)? {
                    return Ok(Some(Self::MaterializedView(view)));
                }
                if first == "ALTER"
                    && let Some(defaults) = DefaultPrivileges::parse(&mut parser.parser).map_err(syntax)?
                {
                    return Ok(Some(Self::DefaultPrivileges(defaults)));
                }
                if first == "ALTER"
                    && let Some(alter) = AlterView::parse(&mut parser.parser).map_err(syntax)?
                {
                    return Ok(Some(Self::AlterView(alter)));
                }
                if first == "ALTER"
                    && let Some(alter) = AlterTable::parse(&mut parser.parser, text)?
                {
                    return Ok(Some(Self::AlterTable(alter)));
                }
                if first == "DROP"
                    && let Some(drop) = Drop::parse(&mut parser.parser).map_err(syntax)?
                {
                    return Ok(Some(Self::Drop(drop)));
                }
                rewind(parser, start);
                if first != "CREATE" || !creates_relation(parser) {
                    return Ok(None);
                }
                let statement = parser.parse_statement().map_err(|error| parser::df_syntax_error(error, text))?;
                Self::parse_create(parser, statement, text).map(Some)
            }
            "REFRESH" => {
                parser.parser.next_token();
                if let Some(view) = MaterializedView::parse(&mut parser.parser, first, text)? {
                    return Ok(Some(Self::MaterializedView(view)));
                }
                let found = Audience::parse(&mut parser.parser, first, text)?;
                rewind(parser, start);
                Ok(found.map(|audience| Self::Audience(Box::new(audience))))
            }
            _ => Ok(None),
        }
    }

    fn parse_create(parser: &mut DFParser<'_>, statement: DfStatement, text: &str) -> Result<Self> {
        let syntax = |error: ParserError| parser::syntax_error(error, text);
        let found = match statement {
            DfStatement::CreateExternalTable(table) => {
                create_external_table::check(&table)?;
                Self::CreateExternalTable(Box::new(table))
            }
            DfStatement::Statement(statement) => match *statement {
                ast::Statement::CreateTable(table) => {
                    create_table::check(&table)?;
                    let no_data = words(&mut parser.parser, &["WITH", "NO", "DATA"]);
                    let _ = words(&mut parser.parser, &["WITH", "DATA"]);
                    Self::CreateTable(Box::new(CreateTable { table, no_data }))
                }
                ast::Statement::CreateView(view) if view.materialized => {
                    Self::MaterializedView(MaterializedView::create(view, &mut parser.parser)?)
                }
                ast::Statement::CreateView(view) => {
                    create_view::check(&view)?;
                    Self::CreateView(Box::new(view))
                }
                _ => return Err(Error::new(Code::FeatureNotSupported, "this CREATE statement is not supported")),
            },
            _ => return Err(Error::new(Code::FeatureNotSupported, "this CREATE statement is not supported")),
        };
        end(&parser.parser).map_err(syntax)?;
        Ok(found)
    }

    /// Queries and INSERT, by the parser of SQL.
    fn parse_sql(parser: &mut DFParser<'_>, text: &str) -> Result<Self> {
        let syntax = |error: ParserError| parser::syntax_error(error, text);
        let statement = parser.parser.parse_statement().map_err(syntax)?;
        end(&parser.parser).map_err(syntax)?;
        match statement {
            ast::Statement::Query(query) => match create_table::select_into(query) {
                Ok(create) => Ok(Self::CreateTable(Box::new(create))),
                Err(query) => Self::checked_query(query),
            },
            ast::Statement::Insert(insert) => {
                insert::check(&insert)?;
                Ok(Self::Insert(Box::new(insert)))
            }
            _ => Err(Error::new(Code::FeatureNotSupported, "this statement is not supported")),
        }
    }

    fn checked_query(query: Box<ast::Query>) -> Result<Self> {
        query::check(&query)?;
        Ok(Self::Query(Box::new(ast::Statement::Query(query))))
    }

    /// The kind of statement, as in a command tag.
    pub(super) fn tag(&self) -> &'static str {
        match self {
            Self::Query(_) => "SELECT",
            Self::Explain(_) => "EXPLAIN",
            Self::CreateExternalTable(_) => "CREATE EXTERNAL TABLE",
            Self::CreateTable(table) => table.tag(),
            Self::CreateView(_) => "CREATE VIEW",
            Self::MaterializedView(view) => view.tag(),
            Self::Insert(_) => "INSERT",
            Self::Copy(_) => "COPY",
            Self::Maintain(maintain) => maintain.tag(),
            Self::AlterTable(alter) => alter.tag(),
            Self::AlterView(alter) => alter.tag(),
            Self::Drop(drop) => drop.tag(),
            Self::Role(role) => role.tag(),
            Self::Grant(grant) => grant.tag(),
            Self::DefaultPrivileges(defaults) => defaults.tag(),
            Self::Policy(policy) => policy.tag(),
            Self::Location(location) => location.tag(),
            Self::Audience(audience) => audience.tag(),
            Self::Set(_) => "SET",
            Self::Show(_) => "SHOW",
            Self::Reset(reset) => reset.tag(),
            Self::Transaction(transaction) => transaction.tag(),
            Self::Prepare(_) => "PREPARE",
            Self::Execute(_) => "EXECUTE",
            Self::Deallocate(deallocate) => deallocate.tag(),
            Self::Declare(_) => "DECLARE CURSOR",
            Self::Fetch(fetch) => fetch.tag(),
            Self::Close(close) => close.tag(),
            Self::Nothing(tag) => tag,
        }
    }

    /// Whether a failed transaction accepts it.
    pub(super) fn ends_transaction(&self) -> bool {
        matches!(self, Self::Transaction(transaction) if transaction.ends_transaction())
    }

    /// Whether its text may hold a password.
    pub(super) fn secret(&self) -> bool {
        matches!(self, Self::Role(_))
    }
}

/// The word at `at` in upper case; empty when it is none.
fn word(parser: &DFParser<'_>, at: usize) -> String {
    match parser.parser.peek_nth_token(at).token {
        Token::Word(word) if word.quote_style.is_none() => word.value.to_ascii_uppercase(),
        _ => String::new(),
    }
}

fn rewind(parser: &mut DFParser<'_>, start: usize) {
    while parser.parser.index() > start {
        parser.parser.prev_token();
    }
}

/// Whether a CREATE is about a table or view, whatever adjectives it has.
fn creates_relation(parser: &DFParser<'_>) -> bool {
    let nouns = ["TABLE", "VIEW"];
    let adjectives =
        ["OR", "REPLACE", "EXTERNAL", "UNBOUNDED", "MATERIALIZED", "TEMP", "TEMPORARY", "RECURSIVE", "UNLOGGED", "GLOBAL", "LOCAL"];
    (1..8).map(|at| word(parser, at)).find(|word| !adjectives.contains(&word.as_str())).is_some_and(|word| nouns.contains(&word.as_str()))
}

/// Plans a statement without running it.
pub(super) async fn describe(
    session: &Session,
    running: &Running,
    statement: &Statement,
    declared: &[Option<DataType>],
) -> Result<Description> {
    let text = statement.text();
    match statement.command.as_ref() {
        Command::Query(query) => {
            let planned = plan::plan_query(running, query.as_ref().clone(), text, declared).await?;
            let schema = origins::mark(running, query, &planned.plan, &planned.schema());
            Ok(Description { schema: Some(schema), ..Description::of(planned) })
        }
        Command::Explain(explain) => explain.describe(session, running, text, declared).await,
        Command::CreateTable(table) => table.describe(running, text, declared).await,
        Command::Insert(insert) => insert::describe(running, insert, text, declared).await,
        Command::Execute(execute) => execute.describe(session, running).await,
        Command::Declare(declare) => declare.describe(session, running, declared).await,
        Command::Fetch(fetch) => fetch.describe(session),
        Command::Show(show) => Ok(Description::rows(show.schema())),
        Command::CreateExternalTable(_)
        | Command::CreateView(_)
        | Command::MaterializedView(_)
        | Command::Copy(_)
        | Command::Maintain(_)
        | Command::AlterTable(_)
        | Command::AlterView(_)
        | Command::Drop(_)
        | Command::Role(_)
        | Command::Grant(_)
        | Command::DefaultPrivileges(_)
        | Command::Policy(_)
        | Command::Location(_)
        | Command::Audience(_)
        | Command::Set(_)
        | Command::Reset(_)
        | Command::Transaction(_)
        | Command::Prepare(_)
        | Command::Deallocate(_)
        | Command::Close(_)
        | Command::Nothing(_) => Ok(Description::nothing()),
    }
}

/// Runs a statement.
pub(super) async fn run(call: Call<'_>) -> Result<Outcome> {
    match call.statement.command.as_ref() {
        Command::Query(query) => query::run(call, query).await,
        Command::Explain(explain) => explain.run(call).await,
        Command::CreateExternalTable(table) => create_external_table::run(call, table).await,
        Command::CreateTable(table) => table.run(call).await,
        Command::CreateView(view) => create_view::run(call, view).await,
        Command::MaterializedView(view) => view.run(call).await,
        Command::Insert(insert) => insert::run(call, insert).await,
        Command::Copy(copy) => copy.run(call).await,
        Command::Maintain(maintain) => maintain.run(call).await,
        Command::AlterTable(alter) => alter.run(call).await,
        Command::AlterView(alter) => alter.run(call).await,
        Command::Drop(drop) => drop.run(call).await,
        Command::Role(role) => role.run(call).await,
        Command::Grant(grant) => grant.run(call).await,
        Command::DefaultPrivileges(defaults) => defaults.run(call).await,
        Command::Policy(policy) => policy.run(call).await,
        Command::Location(location) => location.run(call).await,
        Command::Audience(audience) => audience.run(call).await,
        Command::Set(set) => set.run(&call),
        Command::Show(show) => show.run(&call),
        Command::Reset(reset) => reset.run(&call).await,
        Command::Transaction(transaction) => transaction.run(&call).await,
        Command::Prepare(prepare) => prepare.run(call).await,
        Command::Execute(execute) => execute.run(call).await,
        Command::Deallocate(deallocate) => deallocate.run(&call),
        Command::Declare(declare) => declare.run(call).await,
        Command::Fetch(fetch) => fetch.run(call).await,
        Command::Close(close) => close.run(&call),
        Command::Nothing(tag) => Ok(Outcome::done(*tag)),
    }
}
