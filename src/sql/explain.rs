//! `EXPLAIN [ANALYZE] [VERBOSE] statement` and `EXPLAIN (options) statement`: the plan as lines of text.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{RecordBatch, StringArray};
use arrow::datatypes::{DataType, SchemaRef};
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

use super::command::Description;
use super::plan::{self, Planned, bind, physical};
use super::support::{end, text_schema, words};
use super::{Call, Outcome, RowTag, guard};
use crate::engine::Running;
use crate::error::classify;

/// Shows how a query would run, or with ANALYZE how it ran.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Explain {
    analyze: bool,
    verbose: bool,
    statement: Box<ast::Statement>,
}

impl Explain {
    /// Reads what follows `EXPLAIN`.
    pub(super) fn parse(parser: &mut Parser<'_>) -> Result<Self, ParserError> {
        let (mut analyze, mut verbose) = (false, false);
        let options = parser.peek_token().token == Token::LParen && !starts_query(&parser.peek_nth_token(1).token);
        if options {
            parser.next_token();
            loop {
                Self::option(parser, &mut analyze, &mut verbose)?;
                if !parser.consume_token(&Token::Comma) {
                    break;
                }
            }
            parser.expect_token(&Token::RParen)?;
        } else {
            analyze = words(parser, &["ANALYZE"]) || words(parser, &["ANALYSE"]);
            verbose = words(parser, &["VERBOSE"]);
        }
        let statement = Box::new(parser.parse_statement()?);
        end(parser)?;
        Ok(Self { analyze, verbose, statement })
    }

    fn option(parser: &mut Parser<'_>, analyze: &mut bool, verbose: &mut bool) -> Result<(), ParserError> {
        let name = parser.parse_identifier()?.value.to_ascii_lowercase();
        let value = match parser.peek_token().token {
            Token::Comma | Token::RParen => true,
            _ => {
                let word = parser.next_token().token.to_string().trim_matches('\'').to_ascii_lowercase();
                if name == "format" && word != "text" {
                    return Err(ParserError::ParserError(format!("EXPLAIN format \"{word}\" is not supported, only TEXT")));
                }
                !matches!(word.as_str(), "off" | "false" | "0")
            }
        };
        match name.as_str() {
            "analyze" => *analyze = value,
            "verbose" => *verbose = value,
            "costs" | "settings" | "generic_plan" | "buffers" | "wal" | "timing" | "summary" | "format" => {}
            other => return Err(ParserError::ParserError(format!("unrecognized EXPLAIN option \"{other}\""))),
        }
        Ok(())
    }

    /// One column, `QUERY PLAN`.
    pub(super) fn schema() -> SchemaRef {
        text_schema(&["QUERY PLAN"])
    }

    pub(super) async fn describe(&self, running: &Running, text: &str, declared: &[Option<DataType>]) -> Result<Description> {
        let planned = self.plan(running, text, declared).await?;
        Ok(Description { parameter_types: planned.parameter_types, schema: Some(Self::schema()) })
    }

    /// The plan of the statement below; of one that writes, the plan of the rows that it would write.
    async fn plan(&self, running: &Running, text: &str, declared: &[Option<DataType>]) -> Result<Planned> {
        let inner = match self.statement.as_ref() {
            query @ ast::Statement::Query(_) => query.clone(),
            ast::Statement::Insert(_) | ast::Statement::CreateTable(_) if self.analyze => {
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
        plan::refuse_explained_training(&inner, self.analyze)?;
        let mut planned = plan::plan(running, inner, text, declared).await?;
        if let LogicalPlan::Dml(insert) = planned.plan {
            planned.plan = Arc::unwrap_or_clone(insert.input);
        }
        guard::check(&planned.plan)?;
        Ok(planned)
    }

    pub(super) async fn run(&self, call: Call<'_>) -> Result<Outcome> {
        let types: Vec<_> = call.params.iter().map(|value| Some(value.data_type())).collect();
        let planned = self.plan(&call.running, call.statement.text(), &types).await?;
        let logical = bind(planned.plan, call.params)?;
        let mut lines = Vec::new();
        let logical_only = call.running.state().config_options().explain.logical_plan_only;
        if self.verbose || logical_only {
            let state = Arc::clone(call.running.state());
            let unoptimised = logical.clone();
            let optimised = call.running.run(async move { state.optimize(&unoptimised).map_err(classify) }).await?;
            lines.push("Logical plan:".to_owned());
            lines.extend(optimised.display_indent().to_string().lines().map(|line| format!("  {line}")));
        }
        if logical_only {
            return Ok(self.outcome(call.running, None, lines));
        }
        let plan = physical(&call.running, logical).await?;
        if self.verbose {
            lines.push("Physical plan:".to_owned());
        }
        Ok(self.outcome(call.running, Some(plan), lines))
    }

    /// The lines as rows; with ANALYZE the plan runs first, when the rows are asked for.
    fn outcome(&self, running: Running, plan: Option<Arc<dyn ExecutionPlan>>, mut lines: Vec<String>) -> Outcome {
        let (analyze, verbose) = (self.analyze, self.verbose);
        let rows = async move {
            if let Some(plan) = plan {
                if analyze {
                    let started = Instant::now();
                    let mut rows = running.stream(Arc::clone(&plan));
                    let mut count = 0_usize;
                    while let Some(batch) = rows.try_next().await? {
                        count += batch.num_rows();
                    }
                    lines.extend(
                        DisplayableExecutionPlan::with_metrics(plan.as_ref()).indent(verbose).to_string().lines().map(str::to_owned),
                    );
                    lines.push(format!("Rows: {count}"));
                    lines.push(format!("Execution Time: {:.3} ms", started.elapsed().as_secs_f64() * 1000.0));
                } else {
                    let statistics = running.state().config_options().explain.show_statistics;
                    let shown = displayable(plan.as_ref()).set_show_statistics(statistics).indent(verbose).to_string();
                    lines.extend(shown.lines().map(str::to_owned));
                }
            }
            Ok::<_, DataFusionError>(RecordBatch::try_new(Self::schema(), vec![Arc::new(StringArray::from(lines))])?)
        };
        let stream = Box::pin(RecordBatchStreamAdapter::new(Self::schema(), futures::stream::once(rows)));
        Outcome::Rows { schema: Self::schema(), stream, tag: RowTag::Word("EXPLAIN") }
    }
}

fn starts_query(token: &Token) -> bool {
    match token {
        Token::LParen => true,
        Token::Word(word) => ["SELECT", "WITH", "VALUES", "TABLE"].iter().any(|start| word.value.eq_ignore_ascii_case(start)),
        _ => false,
    }
}

impl fmt::Display for Explain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |on: bool, word: &'static str| if on { word } else { "" };
        write!(f, "EXPLAIN {}{}{}", word(self.analyze, "ANALYZE "), word(self.verbose, "VERBOSE "), self.statement)
    }
}
