//! `CREATE TABLE name (columns) [WITH (…)]` and `CREATE TABLE name [WITH (…)] AS query [WITH NO DATA]`: managed tables.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{DdlStatement, LogicalPlan};
use datafusion::physical_plan::execute_stream;
use datafusion::sql::sqlparser::ast::{self, ColumnOption};
use portrait_udfs::error::{Code, Error, Result};

use super::command::Description;
use super::plan::{self, Planned, bind, physical};
use super::support::relation_name;
use super::{Call, Outcome, event_options, guard, names};
use crate::catalog::Created;
use crate::engine::Running;
use crate::error::classify;

/// A table to make.
#[derive(Debug, Clone)]
pub(super) struct CreateTable {
    pub(super) table: ast::CreateTable,
    /// `WITH NO DATA`: the columns of the query, without its rows.
    pub(super) no_data: bool,
}

/// Checks what the parser accepts and we do not.
///
/// # Errors
/// [`Code::FeatureNotSupported`] naming the clause.
pub(super) fn check(table: &ast::CreateTable) -> Result<()> {
    let constrained = !table.constraints.is_empty()
        || table.columns.iter().flat_map(|column| &column.options).any(|option| {
            matches!(
                option.option,
                ColumnOption::PrimaryKey(_) | ColumnOption::Unique(_) | ColumnOption::ForeignKey(_) | ColumnOption::Check(_)
            )
        });
    if constrained {
        return Err(Error::new(Code::FeatureNotSupported, "constraints other than NOT NULL are not supported")
            .hint("Leave out PRIMARY KEY, UNIQUE, REFERENCES and CHECK."));
    }
    let defaults = table
        .columns
        .iter()
        .flat_map(|column| &column.options)
        .any(|option| !matches!(option.option, ColumnOption::Null | ColumnOption::NotNull | ColumnOption::Comment(_)));
    let refused = [
        (defaults, "column defaults"),
        (table.temporary, "temporary tables"),
        (table.or_replace, "CREATE OR REPLACE TABLE"),
        (table.like.is_some(), "CREATE TABLE … LIKE"),
        (table.inherits.is_some(), "INHERITS"),
        (table.partition_by.is_some(), "PARTITION BY"),
        (table.external || table.location.is_some(), "this form of CREATE EXTERNAL TABLE"),
    ];
    match refused.iter().find(|(found, _)| *found) {
        Some((_, what)) => Err(Error::new(Code::FeatureNotSupported, format!("{what} is not supported"))),
        None => event_options::read(table).map(|_| ()),
    }
}

impl CreateTable {
    /// `SELECT`, as PostgreSQL tags a `CREATE TABLE … AS`.
    pub(super) fn tag(&self) -> &'static str {
        if self.table.query.is_some() { "SELECT" } else { "CREATE TABLE" }
    }

    pub(super) async fn describe(&self, running: &Running, text: &str, declared: &[Option<DataType>]) -> Result<Description> {
        let parameter_types =
            if self.table.query.is_some() { self.rows(running, text, declared).await?.parameter_types } else { Vec::new() };
        Ok(Description { parameter_types, schema: None })
    }

    pub(super) async fn run(&self, call: Call<'_>) -> Result<Outcome> {
        call.before_write()?;
        call.may_create()?;
        let name = relation_name(&self.table.name)?;
        let catalog = Arc::clone(call.running.engine().catalog());
        if catalog.describe(&name).is_some() {
            if self.table.if_not_exists {
                call.running.notice(&format!("relation \"{name}\" already exists, skipping"));
                return Ok(Outcome::done("CREATE TABLE"));
            }
            return Err(Error::new(Code::DuplicateTable, format!("relation \"{name}\" already exists")));
        }
        let tag = if self.table.query.is_some() && !self.no_data {
            let rows = self.create_as(&call, name).await?;
            format!("SELECT {rows}")
        } else {
            let schema = if self.table.query.is_some() {
                self.rows(&call.running, call.statement.text(), &[]).await?.schema()
            } else {
                self.declared(&call.running, call.statement.text()).await?
            };
            let (owner, if_not_exists) = (call.session.user().to_owned(), self.table.if_not_exists);
            let (schema, events) = (stored(&schema)?, event_options::read(&self.table)?);
            let create = async move {
                match events {
                    Some(options) => catalog.create_events(&name, schema, &options, if_not_exists, &owner).await,
                    None => catalog.create_managed(&name, schema, if_not_exists, &owner).await,
                }
            };
            let made = call.running.run(create).await?;
            if made == Created::Existed {
                call.running.notice("relation already exists, skipping");
            }
            if self.table.query.is_some() { "CREATE TABLE AS".to_owned() } else { "CREATE TABLE".to_owned() }
        };
        call.after_write();
        Ok(Outcome::done(tag))
    }

    async fn create_as(&self, call: &Call<'_>, name: String) -> Result<u64> {
        let types: Vec<_> = call.params.iter().map(|value| Some(value.data_type())).collect();
        let planned = self.rows(&call.running, call.statement.text(), &types).await?;
        let schema = stored(&planned.schema())?;
        let plan = bind(planned.plan, call.params.clone())?;
        let plan = physical(&call.running, plan).await?;
        let task = Arc::new(TaskContext::from(call.running.state().as_ref()));
        let (catalog, owner) = (Arc::clone(call.running.engine().catalog()), call.session.user().to_owned());
        let (events, ingest) = (event_options::read(&self.table)?, call.ingest_options());
        let create = async move {
            let rows = names::show(execute_stream(plan, task).map_err(classify)?);
            match events {
                Some(options) => catalog.create_events_as(&name, schema, &options, ingest, rows, &owner).await,
                None => catalog.create_managed_as(&name, schema, ingest.erasures, rows, &owner).await,
            }
        };
        let arrivals = call.running.run(create).await?;
        call.tell(&arrivals);
        Ok(arrivals.new)
    }

    /// Plans the query. The pre-pass sees the whole statement, so that it knows what is at the top.
    async fn rows(&self, running: &Running, text: &str, declared: &[Option<DataType>]) -> Result<Planned> {
        let mut whole = ast::Statement::CreateTable(self.table.clone());
        plan::prepare_statement(&mut whole)?;
        let ast::Statement::CreateTable(ast::CreateTable { query: Some(query), .. }) = whole else {
            return Err(Error::internal("a CREATE TABLE lost its query"));
        };
        let planned = plan::plan(running, ast::Statement::Query(query), text, declared).await?;
        guard::check(&planned.plan)?;
        Ok(planned)
    }

    /// The declared columns, as the engine reads SQL types.
    async fn declared(&self, running: &Running, text: &str) -> Result<SchemaRef> {
        let table = ast::CreateTable { table_options: ast::CreateTableOptions::None, ..self.table.clone() };
        let planned = plan::plan(running, ast::Statement::CreateTable(table), text, &[]).await?;
        match planned.plan {
            LogicalPlan::Ddl(DdlStatement::CreateMemoryTable(table)) => Ok(Arc::new(table.input.schema().as_arrow().clone())),
            _ => Err(Error::internal("a CREATE TABLE was planned as something else")),
        }
    }
}

/// The columns as a table keeps them: unique names, no planner's metadata.
///
/// # Errors
/// [`Code::DuplicateColumn`], [`Code::InvalidTableDefinition`].
pub(super) fn stored(schema: &Schema) -> Result<SchemaRef> {
    if schema.fields().is_empty() {
        return Err(Error::new(Code::InvalidTableDefinition, "a table needs at least one column"));
    }
    let mut names = HashSet::new();
    for field in schema.fields() {
        if !names.insert(field.name().to_lowercase()) {
            return Err(Error::new(Code::DuplicateColumn, format!("column \"{}\" specified more than once", field.name()))
                .hint("Give one of them another name with AS."));
        }
    }
    // A column of nothing but NULL is text, as in PostgreSQL.
    let kept = |found: &DataType| if found.is_null() { DataType::Utf8 } else { found.clone() };
    let fields: Vec<Field> =
        schema.fields().iter().map(|field| Field::new(field.name(), kept(field.data_type()), field.is_nullable())).collect();
    Ok(Arc::new(Schema::new(fields)))
}
