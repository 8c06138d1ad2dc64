//! `CREATE EXTERNAL TABLE name [(columns)] STORED AS PARQUET|CSV|JSON [PARTITIONED BY (…)] LOCATION '…' [OPTIONS (…)]`.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::logical_expr::{DdlStatement, LogicalPlan};
use datafusion::sql::parser::{CreateExternalTable, Statement as DfStatement};
use datafusion::sql::sqlparser::ast;
use portrait_udfs::error::{Code, Error, Result};

use super::target::kept;
use super::{Call, Outcome};
use crate::catalog::{CreateExternal, Created};
use crate::engine::Running;
use crate::error::classify;
use crate::storage::FileKind;

/// Checks what the parser accepts and we do not.
///
/// # Errors
/// [`Code::FeatureNotSupported`] or [`Code::Syntax`] naming the clause.
pub(super) fn check(table: &CreateExternalTable) -> Result<()> {
    let refused = [
        (table.temporary, "a temporary external table"),
        (table.unbounded, "an unbounded external table"),
        (!table.constraints.is_empty(), "an external table with constraints"),
        (!table.order_exprs.is_empty(), "WITH ORDER"),
        (table.locations.len() > 1, "an external table with several locations"),
    ];
    if let Some((_, what)) = refused.iter().find(|(found, _)| *found) {
        let error = Error::new(Code::FeatureNotSupported, format!("{what} is not supported"));
        return Err(if table.locations.len() > 1 { error.hint("Use a folder or a pattern such as 'events/*.parquet'.") } else { error });
    }
    file_kind(&table.file_type).map(|_| ())
}

fn file_kind(file_type: &str) -> Result<FileKind> {
    match file_type.to_ascii_uppercase().as_str() {
        "PARQUET" => Ok(FileKind::Parquet),
        "CSV" => Ok(FileKind::Csv),
        "JSON" | "NDJSON" => Ok(FileKind::Json),
        other => Err(Error::new(Code::FeatureNotSupported, format!("file format \"{other}\" is not supported"))
            .hint("STORED AS takes PARQUET, CSV or JSON.")),
    }
}

/// Runs a CREATE EXTERNAL TABLE.
pub(super) async fn run(call: Call<'_>, table: &CreateExternalTable) -> Result<Outcome> {
    call.before_write()?;
    call.may_create()?;
    let name = kept(&call.running, &table.name)?;
    if table.or_replace {
        call.must_own(&name)?;
    }
    let location = table.locations.first().cloned().ok_or_else(|| Error::new(Code::Syntax, "an external table needs a LOCATION"))?;
    let columns = if table.columns.is_empty() { None } else { Some(declared(&call.running, table).await?) };
    let made = CreateExternal {
        name: name.clone(),
        kind: file_kind(&table.file_type)?,
        location,
        columns,
        partitions: table.table_partition_cols.clone(),
        options: options(table)?,
        if_not_exists: table.if_not_exists,
        or_replace: table.or_replace,
        owner: call.session.user().to_owned(),
    };
    let (catalog, state) = (Arc::clone(call.running.engine().catalog()), Arc::clone(call.running.state()));
    if call.running.run(async move { catalog.create_external(state.as_ref(), made).await }).await? == Created::Existed {
        call.running.notice(&format!("relation \"{name}\" already exists, skipping"));
    }
    call.after_write();
    Ok(Outcome::done("CREATE EXTERNAL TABLE"))
}

/// The declared columns, as the engine reads SQL types.
async fn declared(running: &Running, table: &CreateExternalTable) -> Result<SchemaRef> {
    let (state, mut table) = (Arc::clone(running.state()), table.clone());
    // Only the columns are wanted; options and partitions are the catalog's to check.
    table.options.clear();
    table.table_partition_cols.clear();
    let plan = running.run(async move { state.statement_to_plan(DfStatement::CreateExternalTable(table)).await.map_err(classify) }).await?;
    match plan {
        LogicalPlan::Ddl(DdlStatement::CreateExternalTable(table)) => super::create_table::stored(table.schema.as_arrow()),
        _ => Err(Error::internal("a CREATE EXTERNAL TABLE was planned as something else")),
    }
}

/// `OPTIONS`: keys in lower case without `format.`, values as text.
fn options(table: &CreateExternalTable) -> Result<BTreeMap<String, String>> {
    let mut options = BTreeMap::new();
    for (key, value) in &table.options {
        let lower = key.to_ascii_lowercase();
        let bare = lower.strip_prefix("format.").unwrap_or(&lower).to_owned();
        let text = match value {
            ast::Value::SingleQuotedString(text) | ast::Value::DoubleQuotedString(text) | ast::Value::EscapedStringLiteral(text) => {
                text.clone()
            }
            ast::Value::Boolean(value) => value.to_string(),
            ast::Value::Number(number, _) => number.clone(),
            other => other.to_string(),
        };
        if options.insert(bare, text).is_some() {
            return Err(Error::new(Code::Syntax, format!("option \"{key}\" specified more than once")));
        }
    }
    Ok(options)
}
