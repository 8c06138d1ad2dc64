//! `CREATE AUDIENCE [IF NOT EXISTS] name AS query`, `REFRESH AUDIENCE name`, `DROP AUDIENCE [IF EXISTS] name [, …]`.
//!
//! The query has one column, the users' ids: whole numbers or texts, NULLs left out. It is kept as text and runs again, with
//! the rights and the names of whoever says REFRESH. An audience is no relation: functions (`audience`, `audience_diff`, …)
//! and the views `ml.audiences` and `ml.audience_versions` show it.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::sql::sqlparser::ast::{self, ObjectName, Spanned};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use futures::StreamExt;
use portrait_udfs::context::AudienceKey;
use portrait_udfs::error::{Code, Error, Result};

use super::plan::{physical, plan_query};
use super::support::{end, if_exists, relation_name, words};
use super::target::refuse_temporary;
use super::{Call, Outcome, parse_query, parser, query};
use crate::catalog::{CreateAudience, Created, Members, Object, ObjectClass};
use crate::engine::Running;
use crate::error::classify;

/// What stands around a query when it is planned: a training inside it is not at the top of a statement.
const BEFORE: &str = "SELECT * FROM (";

/// One of the three statements.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Audience {
    Create(Create),
    Refresh(ObjectName),
    Drop { names: Vec<ObjectName>, if_exists: bool },
}

/// An audience to make.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Create {
    name: ObjectName,
    if_not_exists: bool,
    /// The query's own text.
    query: String,
    /// Characters before it in the statement.
    start: u32,
}

impl Audience {
    /// Reads what follows `CREATE`, `REFRESH` or `DROP`; `None` when it is not about an audience.
    pub(super) fn parse(parser: &mut Parser<'_>, verb: &str, text: &str) -> Result<Option<Self>> {
        let syntax = |error: ParserError| parser::syntax_error(error, text);
        if verb == "ALTER" || !words(parser, &["AUDIENCE"]) {
            return Ok(None);
        }
        match verb {
            "CREATE" => Create::parse(parser, text).map(|create| Some(Self::Create(create))),
            "REFRESH" => {
                let name = parser.parse_object_name(false).map_err(syntax)?;
                end(parser).map_err(syntax)?;
                Ok(Some(Self::Refresh(name)))
            }
            _ => {
                let if_exists = if_exists(parser);
                let names = parser.parse_comma_separated(|parser| parser.parse_object_name(false)).map_err(syntax)?;
                let _ = words(parser, &["CASCADE"]) || words(parser, &["RESTRICT"]);
                end(parser).map_err(syntax)?;
                Ok(Some(Self::Drop { names, if_exists }))
            }
        }
    }

    pub(super) fn tag(&self) -> &'static str {
        match self {
            Self::Create(_) => "CREATE AUDIENCE",
            Self::Refresh(_) => "REFRESH AUDIENCE",
            Self::Drop { .. } => "DROP AUDIENCE",
        }
    }

    pub(super) async fn run(&self, call: Call<'_>) -> Result<Outcome> {
        call.before_write()?;
        match self {
            Self::Create(create) => create.run(&call).await?,
            Self::Refresh(name) => refresh(&call, &relation_name(name)?).await?,
            Self::Drop { names, if_exists } => drop_all(&call, names, *if_exists).await?,
        }
        call.after_write();
        Ok(Outcome::done(self.tag()))
    }
}

impl Create {
    fn parse(parser: &mut Parser<'_>, text: &str) -> Result<Self> {
        let syntax = |error: ParserError| parser::syntax_error(error, text);
        let if_not_exists = parser.parse_keywords(&[Keyword::IF, Keyword::NOT, Keyword::EXISTS]);
        let name = parser.parse_object_name(false).map_err(syntax)?;
        parser.expect_keyword(Keyword::AS).map_err(syntax)?;
        let first = parser.peek_token().span.start;
        let query = parser.parse_query().map_err(syntax)?;
        end(parser).map_err(syntax)?;
        query::check(&query)?;
        let start = parser::character(text, first.line, first.column) - 1;
        let sliced = parser::text_from(text, query.span().start);
        let same = |text: &str| matches!(parse_query(text), Ok(ast::Statement::Query(found)) if found == query);
        // The text is kept if it reads as the same query; the parser's own rendering otherwise (a query in parentheses).
        let kept = if query.span().start.line > 0 && same(sliced) { sliced.to_owned() } else { query.to_string() };
        Ok(Self { name, if_not_exists, query: kept, start })
    }

    async fn run(&self, call: &Call<'_>) -> Result<()> {
        call.may_create()?;
        let name = relation_name(&self.name)?;
        let catalog = Arc::clone(call.running.engine().catalog());
        let skip = || call.running.notice(&format!("audience \"{name}\" already exists, skipping"));
        if catalog.audience_exists(&name, self.if_not_exists)? {
            skip();
            return Ok(());
        }
        let (plan, key) = plan(&call.running, &self.query).await.map_err(|error| self.place(error))?;
        let members = members(call, &call.running, plan).await?;
        let audience = CreateAudience {
            name: name.clone(),
            query: self.query.clone(),
            key,
            if_not_exists: self.if_not_exists,
            owner: call.session.user().to_owned(),
        };
        let made = call.running.run(async move { catalog.create_audience(audience, members).await }).await?;
        if made == Created::Existed {
            skip();
        }
        Ok(())
    }

    /// Moves a position inside the planned text to one in the statement.
    fn place(&self, mut error: Error) -> Error {
        let before = u32::try_from(BEFORE.len()).unwrap_or(0);
        error.position = error.position.and_then(|position| position.checked_sub(before)).map(|position| position + self.start);
        error
    }
}

/// Plans an audience's query: one column that can name users.
async fn plan(running: &Running, query: &str) -> Result<(Arc<dyn ExecutionPlan>, AudienceKey)> {
    let text = format!("{BEFORE}{query}\n) AS members");
    let planned = plan_query(running, parse_query(&text)?, &text, &[]).await?;
    if !planned.parameter_types.is_empty() {
        return Err(Error::new(Code::UndefinedParameter, "there is no parameter $1").detail("An audience cannot have parameters."));
    }
    refuse_temporary(&planned.plan, "audiences")?;
    let schema = planned.schema();
    let [column] = schema.fields().as_ref() else {
        return Err(Error::new(Code::InvalidTableDefinition, "the query of an audience must have one column")
            .detail(format!("It has {}.", schema.fields().len()))
            .hint("Select the users' ids alone."));
    };
    let key = key_of(column.data_type()).ok_or_else(|| {
        let found = portrait_udfs::functions::relation::sql_type(column.data_type());
        Error::new(Code::DatatypeMismatch, "the users of an audience must be whole numbers or texts")
            .detail(format!("The type of column \"{}\" is {found}.", column.name()))
    })?;
    Ok((physical(running, planned.plan).await?, key))
}

fn key_of(found: &DataType) -> Option<AudienceKey> {
    match found {
        DataType::UInt64 => Some(AudienceKey::Text),
        integer if integer.is_integer() => Some(AudienceKey::BigInt),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Some(AudienceKey::Text),
        DataType::Dictionary(_, value) => key_of(value),
        _ => None,
    }
}

/// Runs the query; its members are on the disk when it returns, and in no catalog.
async fn members(call: &Call<'_>, running: &Running, plan: Arc<dyn ExecutionPlan>) -> Result<Members> {
    let task = Arc::new(TaskContext::from(running.state().as_ref()));
    let (catalog, cancel, erasures) = (Arc::clone(call.running.engine().catalog()), call.running.cancel().clone(), call.erasures);
    call.running
        .run(async move {
            let mut builder = catalog.audience_builder(erasures).await?;
            let mut rows = execute_stream(plan, task).map_err(classify)?;
            while let Some(batch) = rows.next().await {
                builder.push(batch.map_err(classify)?.column(0))?;
                if cancel.is_cancelled() {
                    return Err(Error::cancelled());
                }
            }
            builder.finish().await
        })
        .await
}

async fn refresh(call: &Call<'_>, name: &str) -> Result<()> {
    let catalog = Arc::clone(call.running.engine().catalog());
    let (query, key) = catalog.audience_query(name)?;
    must_own(call, name)?;
    // Whoever asked for it, the members are users whom the owner may see.
    let owner = call.running.engine().ml().audiences.get(name).map(|found| found.owner);
    let running = call.running.acting_as(&owner.unwrap_or_else(|| call.session.user()))?;
    let (plan, found) = plan(&running, &query).await.map_err(|mut error| {
        error.position = None;
        match error.detail {
            Some(_) => error,
            None => error.detail(format!("The query of audience \"{name}\" no longer works.")),
        }
    })?;
    if found != key {
        return Err(Error::new(Code::DatatypeMismatch, format!("the users of audience \"{name}\" have another type now"))
            .hint("Drop the audience and make it again."));
    }
    let members = members(call, &running, plan).await?;
    let (count, own) = (members.count(), name.to_owned());
    let refreshed = call.running.run(async move { catalog.refresh_audience(&own, &query, members).await }).await?;
    let version = refreshed.version;
    call.running.notice(&if refreshed.changed {
        format!("audience \"{name}\" is version {version} now, with {count} users")
    } else {
        format!("audience \"{name}\" has not changed since version {version}")
    });
    Ok(())
}

/// An audience that does not exist passes.
fn must_own(call: &Call<'_>, name: &str) -> Result<()> {
    call.rights().require_owner(&Object::new(ObjectClass::Audience, name))
}

async fn drop_all(call: &Call<'_>, names: &[ObjectName], if_exists: bool) -> Result<()> {
    let catalog = Arc::clone(call.running.engine().catalog());
    let names: Vec<String> = names.iter().map(relation_name).collect::<Result<_>>()?;
    // All or none: a missing second one must not leave the first one dropped.
    for name in names.iter().filter(|_| !if_exists) {
        catalog.audience_query(name)?;
    }
    names.iter().try_for_each(|name| must_own(call, name))?;
    for name in names {
        let (catalog, own) = (Arc::clone(&catalog), name.clone());
        if !call.running.run(async move { catalog.drop_audience(&own, if_exists).await }).await? {
            call.running.notice(&format!("audience \"{name}\" does not exist, skipping"));
        }
    }
    Ok(())
}

impl fmt::Display for Audience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create(Create { name, if_not_exists, query, .. }) => {
                write!(f, "CREATE AUDIENCE {}{name} AS {query}", if *if_not_exists { "IF NOT EXISTS " } else { "" })
            }
            Self::Refresh(name) => write!(f, "REFRESH AUDIENCE {name}"),
            Self::Drop { names, if_exists } => {
                let names: Vec<String> = names.iter().map(ToString::to_string).collect();
                write!(f, "DROP AUDIENCE {}{}", if *if_exists { "IF EXISTS " } else { "" }, names.join(", "))
            }
        }
    }
}
