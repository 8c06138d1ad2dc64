//! `EXPLAIN [ANALYZE] [VERBOSE] statement` and `EXPLAIN (options) statement`: the plan as lines of text, or as JSON.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::display::DisplayableExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ExecutionPlan, displayable};
use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::Token;
use futures::TryStreamExt;
use portrait_udfs::error::{Code, Error, Result};

use super::command::{Command, Description};
use super::execute::Execute;
use super::plan::{self, Planned, bind, physical};
use super::support::{end, text_schema, words};
use super::{Call, Outcome, RowTag, explain_costs, guard};
use crate::engine::{Running, Session};
use crate::error::classify;
use crate::storage::TYPE_KEY;

/// Shows how a query would run, or with ANALYZE how it ran.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Explain {
    options: Options,
    explained: Explained,
}

/// What stands behind EXPLAIN.
#[derive(Debug, Clone, PartialEq)]
enum Explained {
    Statement(Box<ast::Statement>),
    /// A prepared statement.
    Execute(Execute),
}

/// What is shown, and how.
#[derive(Debug, Clone, PartialEq)]
struct Options {
    analyze: bool,
    verbose: bool,
    /// Estimates, in the first line.
    costs: bool,
    /// In lower case.
    format: String,
}

impl Options {
    /// Reads `(option [value], …)`, or the words of the old syntax.
    fn parse(parser: &mut Parser<'_>) -> Result<Self, ParserError> {
        let mut options = Self { analyze: false, verbose: false, costs: true, format: "text".to_owned() };
        if parser.peek_token().token != Token::LParen || starts_query(&parser.peek_nth_token(1).token) {
            options.analyze = words(parser, &["ANALYZE"]) || words(parser, &["ANALYSE"]);
            options.verbose = words(parser, &["VERBOSE"]);
            return Ok(options);
        }
        parser.next_token();
        loop {
            options.option(parser)?;
            if !parser.consume_token(&Token::Comma) {
                break;
            }
        }
        parser.expect_token(&Token::RParen)?;
        Ok(options)
    }

    fn option(&mut self, parser: &mut Parser<'_>) -> Result<(), ParserError> {
        let name = parser.parse_identifier()?.value.to_ascii_lowercase();
        let value = match parser.peek_token().token {
            Token::Comma | Token::RParen => true,
            _ => {
                let word = parser.next_token().token.to_string().trim_matches('\'').to_ascii_lowercase();
                if name == "format" {
                    self.format.clone_from(&word);
                }
                !matches!(word.as_str(), "off" | "false" | "0")
            }
        };
        match name.as_str() {
            "analyze" => self.analyze = value,
            "verbose" => self.verbose = value,
            "costs" => self.costs = value,
            "settings" | "generic_plan" | "buffers" | "wal" | "timing" | "summary" | "format" => {}
            other => return Err(ParserError::ParserError(format!("unrecognized EXPLAIN option \"{other}\""))),
        }
        Ok(())
    }

    fn is_json(&self) -> bool {
        self.format == "json"
    }

    fn check_format(&self) -> Result<()> {
        match self.format.as_str() {
            "text" | "json" => Ok(()),
            "xml" | "yaml" => Err(Error::new(Code::FeatureNotSupported, format!("EXPLAIN format \"{}\" is not supported", self.format))
                .hint("Use FORMAT TEXT or FORMAT JSON.")),
            other => Err(Error::invalid(format!("unrecognized value for EXPLAIN option \"format\": \"{other}\""))),
        }
    }
}

impl Explain {
    /// Reads what follows `EXPLAIN`.
    pub(super) fn parse(parser: &mut Parser<'_>) -> Result<Self, ParserError> {
        let options = Options::parse(parser)?;
        if words(parser, &["EXECUTE"]) {
            return Ok(Self { options, explained: Explained::Execute(Execute::parse(parser)?) });
        }
        let statement = Box::new(parser.parse_statement()?);
        end(parser)?;
        Ok(Self { options, explained: Explained::Statement(statement) })
    }

    /// One column, `QUERY PLAN`.
    fn schema(&self) -> SchemaRef {
        let schema = text_schema(&["QUERY PLAN"]);
        if !self.options.is_json() {
            return schema;
        }
        let json = |field: &Arc<Field>| field.as_ref().clone().with_metadata([(TYPE_KEY.to_owned(), "json".to_owned())].into());
        Arc::new(Schema::new(schema.fields().iter().map(json).collect::<Vec<_>>()))
    }

    pub(super) async fn describe(
        &self,
        session: &Session,
        running: &Running,
        text: &str,
        declared: &[Option<DataType>],
    ) -> Result<Description> {
        let (parameter_types, parameter_texts) = match &self.explained {
            Explained::Statement(statement) => {
                let planned = self.plan(running, statement, text, declared).await?;
                (planned.parameter_types, planned.parameter_texts)
            }
            Explained::Execute(execute) => (execute.describe(session, running).await?.parameter_types, Vec::new()),
        };
        Ok(Description { parameter_types, parameter_texts, schema: Some(self.schema()) })
    }

    /// The plan of the statement below; of one that writes, the plan of the rows that it would write.
    async fn plan(&self, running: &Running, statement: &ast::Statement, text: &str, declared: &[Option<DataType>]) -> Result<Planned> {
        self.options.check_format()?;
        let inner = match statement {
            query @ ast::Statement::Query(_) => query.clone(),
            ast::Statement::Insert(_) | ast::Statement::CreateTable(_) if self.options.analyze => {
                return Err(Error::new(Code::FeatureNotSupported, "EXPLAIN ANALYZE of a statement that writes is not supported")
                    .hint("EXPLAIN ANALYZE its query."));
            }
            insert @ ast::Statement::Insert(_) => insert.clone(),
            ast::Statement::CreateTable(table) if table.query.is_some() => {
                ast::Statement::Query(table.query.clone().ok_or_else(|| Error::internal("a query vanished"))?)
            }
            other => {
                let word = other.to_string().split_whitespace().next().unwrap_or_default().to_uppercase();
                return Err(Error::new(Code::FeatureNotSupported, format!("EXPLAIN {word} is not supported"))
                    .hint("EXPLAIN takes a query, an INSERT or a CREATE TABLE … AS."));
            }
        };
        // The pre-pass must see the EXPLAIN: under ANALYZE a training would run.
        plan::refuse_explained_training(&inner, self.options.analyze)?;
        let mut planned = plan::plan(running, inner, text, declared).await?;
        if let LogicalPlan::Dml(insert) = planned.plan {
            planned.plan = Arc::unwrap_or_clone(insert.input);
        }
        guard::check(&planned.plan)?;
        Ok(planned)
    }

    pub(super) async fn run(&self, call: Call<'_>) -> Result<Outcome> {
        match &self.explained {
            Explained::Statement(statement) => self.explain(call.running, statement, call.statement.text(), call.params).await,
            Explained::Execute(execute) => {
                let (running, kept, params) = execute.bound(&call).await?;
                let statement = match kept.command.as_ref() {
                    Command::Query(query) => query.as_ref().clone(),
                    Command::Insert(insert) => ast::Statement::Insert(insert.as_ref().clone()),
                    _ => return Err(Error::internal("a statement is kept that PREPARE does not take")),
                };
                self.explain(running, &statement, kept.text(), params).await
            }
        }
    }

    async fn explain(&self, running: Running, statement: &ast::Statement, text: &str, params: Vec<ScalarValue>) -> Result<Outcome> {
        let types: Vec<_> = params.iter().map(|value| Some(value.data_type())).collect();
        let planned = self.plan(&running, statement, text, &types).await?;
        let logical = bind(planned.plan, params)?;
        let mut lines = Vec::new();
        let logical_only = running.state().config_options().explain.logical_plan_only;
        if (self.options.verbose && !self.options.is_json()) || logical_only {
            let state = Arc::clone(running.state());
            let unoptimised = logical.clone();
            let optimised = running.run(async move { state.optimize(&unoptimised).map_err(classify) }).await?;
            lines.push("Logical plan:".to_owned());
            lines.extend(optimised.display_indent().to_string().lines().map(|line| format!("  {line}")));
        }
        if logical_only {
            return Ok(self.outcome(running, None, lines));
        }
        let plan = physical(&running, logical).await?;
        if self.options.verbose && !self.options.is_json() {
            lines.push("Physical plan:".to_owned());
        }
        Ok(self.outcome(running, Some(plan), lines))
    }

    /// The lines as rows; with ANALYZE the plan runs first, when the rows are asked for.
    fn outcome(&self, running: Running, plan: Option<Arc<dyn ExecutionPlan>>, mut lines: Vec<String>) -> Outcome {
        let (explain, schema) = (self.clone(), self.schema());
        let kind = Arc::clone(&schema);
        let rows = async move {
            if let Some(plan) = plan {
                let ran = if explain.options.analyze { Some(run_through(&running, &plan).await?) } else { None };
                explain.show(&running, &plan, ran, &mut lines);
            }
            Ok::<_, DataFusionError>(RecordBatch::try_new(kind, vec![Arc::new(StringArray::from(lines))])?)
        };
        let stream = Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&schema), futures::stream::once(rows)));
        Outcome::Rows { schema, stream, tag: RowTag::Word("EXPLAIN") }
    }

    /// Adds the plan; `ran` are its rows and milliseconds.
    fn show(&self, running: &Running, plan: &Arc<dyn ExecutionPlan>, ran: Option<(usize, f64)>, lines: &mut Vec<String>) {
        if self.options.is_json() {
            lines.push(explain_costs::json(plan, ran));
            return;
        }
        let Some((count, ms)) = ran else {
            let statistics = running.state().config_options().explain.show_statistics;
            let shown = displayable(plan.as_ref()).set_show_statistics(statistics).indent(self.options.verbose).to_string();
            let costs = self.options.costs.then(|| explain_costs::line(plan));
            lines.extend(shown.lines().enumerate().map(|(at, line)| match &costs {
                Some(costs) if at == 0 => format!("{line}  {costs}"),
                _ => line.to_owned(),
            }));
            return;
        };
        let shown = DisplayableExecutionPlan::with_metrics(plan.as_ref()).indent(self.options.verbose).to_string();
        lines.extend(shown.lines().map(str::to_owned));
        lines.push(format!("Rows: {count}"));
        lines.push(format!("Execution Time: {ms:.3} ms"));
    }
}

/// Runs a plan for its time: how many rows, and milliseconds.
async fn run_through(running: &Running, plan: &Arc<dyn ExecutionPlan>) -> Result<(usize, f64), DataFusionError> {
    let started = Instant::now();
    let mut rows = running.stream(Arc::clone(plan));
    let mut count = 0_usize;
    while let Some(batch) = rows.try_next().await? {
        count += batch.num_rows();
    }
    Ok((count, started.elapsed().as_secs_f64() * 1000.0))
}

fn starts_query(token: &Token) -> bool {
    match token {
        Token::LParen => true,
        Token::Word(word) => ["SELECT", "WITH", "VALUES", "TABLE"].iter().any(|start| word.value.eq_ignore_ascii_case(start)),
        _ => false,
    }
}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Statement(statement) => statement.fmt(f),
            Self::Execute(execute) => execute.fmt(f),
        }
    }
}

impl fmt::Display for Explain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |on: bool, word: &'static str| if on { word } else { "" };
        write!(f, "EXPLAIN {}{}{}", word(self.options.analyze, "ANALYZE "), word(self.options.verbose, "VERBOSE "), self.explained)
    }
}
