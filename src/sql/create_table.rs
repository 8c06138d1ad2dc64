//! `CREATE TABLE name (columns) [WITH (…)]` and `CREATE TABLE name [WITH (…)] AS query [WITH NO DATA]`: managed tables.
//!
//! `CREATE TEMP TABLE name … [ON COMMIT …]` makes one of the session's own, and `SELECT … INTO [TEMP] name` is another spelling of AS.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{DdlStatement, LogicalPlan};
use datafusion::physical_plan::execute_stream;
use datafusion::sql::sqlparser::ast::helpers::stmt_create_table::CreateTableBuilder;
use datafusion::sql::sqlparser::ast::{self, ColumnOption};
use portrait_udfs::error::{Code, Error, Result};

use super::command::Description;
use super::plan::{self, Planned, bind, physical};
use super::target::Target;
use super::{Call, Outcome, event_options, guard, names};
use crate::catalog::{CreateTemporary, Created, OnCommit};
use crate::engine::Running;
use crate::error::classify;
use crate::storage::TextType;

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
        (table.or_replace, "CREATE OR REPLACE TABLE"),
        (table.like.is_some(), "CREATE TABLE … LIKE"),
        (table.inherits.is_some(), "INHERITS"),
        (table.partition_by.is_some(), "PARTITION BY"),
        (table.external || table.location.is_some(), "this form of CREATE EXTERNAL TABLE"),
    ];
    if let Some((_, what)) = refused.iter().find(|(found, _)| *found) {
        return Err(Error::new(Code::FeatureNotSupported, format!("{what} is not supported")));
    }
    event_options::read(table).map(|_| ())
}

/// `SELECT … INTO [TEMP] name` as what it means; another query is given back. Nothing is copied: a copy of a deep query takes
/// more stack than there is here.
pub(super) fn select_into(mut query: Box<ast::Query>) -> std::result::Result<CreateTable, Box<ast::Query>> {
    let ast::SetExpr::Select(select) = query.body.as_mut() else { return Err(query) };
    let Some(ast::SelectInto { temporary, name, .. }) = select.into.take() else { return Err(query) };
    let table = CreateTableBuilder::new(name).temporary(temporary).query(Some(query)).build();
    Ok(CreateTable { table, no_data: false })
}

impl CreateTable {
    /// `SELECT`, as PostgreSQL tags a `CREATE TABLE … AS`.
    pub(super) fn tag(&self) -> &'static str {
        if self.table.query.is_some() { "SELECT" } else { "CREATE TABLE" }
    }

    pub(super) async fn describe(&self, running: &Running, text: &str, declared: &[Option<DataType>]) -> Result<Description> {
        match self.table.query {
            Some(_) => Ok(Description::of(self.rows(running, text, declared).await?)),
            None => Ok(Description::nothing()),
        }
    }

    pub(super) async fn run(&self, call: Call<'_>) -> Result<Outcome> {
        let target = Target::to_make(&call.running, &self.table.name, self.table.temporary)?;
        self.may_run(&call, &target)?;
        let name = target.name.clone();
        if target.describe().is_some() {
            if self.table.if_not_exists {
                call.running.notice(&format!("relation \"{name}\" already exists, skipping"));
                return Ok(Outcome::done("CREATE TABLE"));
            }
            return Err(Error::new(Code::DuplicateTable, format!("relation \"{name}\" already exists")));
        }
        let tag = if self.table.query.is_some() && !self.no_data {
            let rows = self.create_as(&call, &target).await?;
            format!("SELECT {rows}")
        } else {
            let schema = if self.table.query.is_some() {
                self.rows(&call.running, call.statement.text(), &[]).await?.schema()
            } else {
                self.declared(&call.running, call.statement.text()).await?
            };
            let (owner, if_not_exists) = (call.session.user().to_owned(), self.table.if_not_exists);
            let (schema, events) = (stored(&schema)?, event_options::read(&self.table)?);
            let catalog = Arc::clone(call.running.engine().catalog());
            let temporary = target.temporary().map(|temporary| (Arc::clone(temporary), self.temporary(&name, &schema, &owner)));
            let create = async move {
                match (temporary, events) {
                    (Some((temporary, made)), _) => temporary.create(made).await.map(|()| Created::New),
                    (None, Some(options)) => catalog.create_events(&name, schema, &options, if_not_exists, &owner).await,
                    (None, None) => catalog.create_managed(&name, schema, if_not_exists, &owner).await,
                }
            };
            let made = call.running.run(create).await?;
            if made == Created::Existed {
                call.running.notice("relation already exists, skipping");
            }
            if self.table.query.is_some() { "CREATE TABLE AS".to_owned() } else { "CREATE TABLE".to_owned() }
        };
        target.after_write(&call, false).await?;
        Ok(Outcome::done(tag))
    }

    /// Checks what may be made where.
    fn may_run(&self, call: &Call<'_>, target: &Target) -> Result<()> {
        let temporary = target.temporary().is_some();
        if self.table.on_commit.is_some() && !temporary {
            return Err(Error::new(Code::InvalidTableDefinition, "ON COMMIT can only be used on temporary tables"));
        }
        if !temporary {
            call.before_write()?;
            return call.may_create();
        }
        // The store is this machine's own: it may be written whatever the other one is opened for.
        call.refuse_read_only("CREATE TABLE")?;
        call.may_create_temporary()?;
        if event_options::read(&self.table)?.is_some() {
            return Err(Error::new(Code::FeatureNotSupported, "temporary tables of events are not supported")
                .hint("Leave out WITH (…): functions over events read any table and sort what they need."));
        }
        if self.table.global == Some(true) {
            call.running.notice("GLOBAL is deprecated in temporary table creation");
        }
        Ok(())
    }

    /// What is to be made when it is temporary.
    fn temporary(&self, name: &str, columns: &SchemaRef, owner: &str) -> CreateTemporary {
        let on_commit = match self.table.on_commit {
            Some(ast::OnCommit::DeleteRows) => OnCommit::DeleteRows,
            Some(ast::OnCommit::Drop) => OnCommit::Drop,
            Some(ast::OnCommit::PreserveRows) | None => OnCommit::PreserveRows,
        };
        CreateTemporary { name: name.to_owned(), columns: Arc::clone(columns), on_commit, owner: owner.to_owned() }
    }

    async fn create_as(&self, call: &Call<'_>, target: &Target) -> Result<u64> {
        let types: Vec<_> = call.params.iter().map(|value| Some(value.data_type())).collect();
        let planned = self.rows(&call.running, call.statement.text(), &types).await?;
        let schema = stored(&planned.schema())?;
        let plan = bind(planned.plan, call.params.clone())?;
        let plan = physical(&call.running, plan).await?;
        let task = Arc::new(TaskContext::from(call.running.state().as_ref()));
        let (catalog, owner) = (Arc::clone(call.running.engine().catalog()), call.session.user().to_owned());
        let (events, ingest, name) = (event_options::read(&self.table)?, call.ingest_options(), target.name.clone());
        let temporary = target.temporary().map(|temporary| (Arc::clone(temporary), self.temporary(&name, &schema, &owner)));
        let create = async move {
            let rows = names::show(execute_stream(plan, task).map_err(classify)?);
            match (temporary, events) {
                (Some((temporary, made)), _) => temporary.create_as(made, ingest.erasures, rows).await,
                (None, Some(options)) => catalog.create_events_as(&name, schema, &options, ingest, rows, &owner).await,
                (None, None) => catalog.create_managed_as(&name, schema, ingest.erasures, rows, &owner).await,
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
        let mut columns = self.table.columns.clone();
        // Types that the planner has no word for are planned as the texts that they are kept as.
        let types: Vec<_> = columns.iter_mut().map(|column| as_text(&mut column.data_type)).collect();
        let table = ast::CreateTable {
            columns,
            table_options: ast::CreateTableOptions::None,
            temporary: false,
            global: None,
            on_commit: None,
            ..self.table.clone()
        };
        let planned = plan::plan(running, ast::Statement::CreateTable(table), text, &[]).await?;
        match planned.plan {
            LogicalPlan::Ddl(DdlStatement::CreateMemoryTable(table)) => {
                let fields = table.input.schema().fields().iter().zip(types);
                let marked = fields.map(|(field, found)| match found {
                    Some(found) => Arc::new(found.mark(field.as_ref().clone())),
                    None => Arc::clone(field),
                });
                Ok(Arc::new(Schema::new(marked.collect::<Vec<_>>())))
            }
            _ => Err(Error::internal("a CREATE TABLE was planned as something else")),
        }
    }
}

/// The type of a column that is kept as texts, which takes the place of its name.
fn as_text(data_type: &mut ast::DataType) -> Option<TextType> {
    let found = match data_type {
        ast::DataType::Uuid => TextType::Uuid,
        ast::DataType::JSON | ast::DataType::JSONB => TextType::Json,
        _ => return None,
    };
    *data_type = ast::DataType::Text;
    Some(found)
}

/// The columns as a table keeps them: unique names, and of the planner's metadata only the types that are kept as texts.
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
    let column = |field: &Arc<Field>| TextType::carry(field, Field::new(field.name(), kept(field.data_type()), field.is_nullable()));
    Ok(Arc::new(Schema::new(schema.fields().iter().map(column).collect::<Vec<_>>())))
}
