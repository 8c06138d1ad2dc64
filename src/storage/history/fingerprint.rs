//! What a source's rows depend on, in one hash: its query as planned, and the contents of every table it reads.
//!
//! `None` when that cannot be known: a table that is neither managed nor external (a model's view, a function), or
//! an expression whose value may change by itself (`now()`, `random()`, a user-defined volatile function). What `resolve_user`
//! says changes with the links between ids, whose version is known.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::{ViewTable, source_as_provider};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, TableScan, Volatility};
use portrait_udfs::context::{EventSource, StatementContext};
use portrait_udfs::error::{Error, Result};

use crate::storage::{ExternalTable, ManagedTable};

/// The names of a source: of the query alone, and of the query over the tables' contents of now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fingerprint {
    /// Stays when the tables change.
    pub(super) source: String,
    /// Changes with every change of a table.
    pub(super) contents: String,
}

/// Computes the fingerprint of `plan`, which reads `source`.
///
/// # Errors
/// A table that cannot be looked at.
pub(super) async fn fingerprint(session: &SessionState, source: &EventSource, plan: &LogicalPlan) -> Result<Option<Fingerprint>> {
    let mut read = Read::default();
    let mut query = format!("{}\n{:?}\n{:?}\n", source.sql, source.columns, session.config_options().execution.time_zone);
    if !describe(plan, &mut query, &mut read).map_err(Error::from_engine)? {
        return Ok(None);
    }
    let mut contents = blake3::Hasher::new();
    contents.update(query.as_bytes());
    if read.links {
        // Whoever opens histories has asked who is who before.
        let statement = StatementContext::of(session.config());
        let Some(people) = statement.people.get() else { return Ok(None) };
        contents.update(&people.version().to_le_bytes());
    }
    for scan in read.tables {
        let provider = source_as_provider(&scan.source).map_err(Error::from_engine)?;
        let of_table = if let Some(table) = provider.downcast_ref::<ManagedTable>() {
            table.fingerprint().await?
        } else if let Some(table) = provider.downcast_ref::<ExternalTable>() {
            table.fingerprint().await?
        } else {
            return Ok(None);
        };
        contents.update(of_table.as_bytes());
        contents.update(b"\n");
    }
    Ok(Some(Fingerprint {
        source: blake3::hash(query.as_bytes()).to_hex()[..16].to_owned(),
        contents: contents.finalize().to_hex()[..32].to_owned(),
    }))
}

/// What a plan reads.
#[derive(Default)]
struct Read {
    tables: Vec<TableScan>,
    /// Whether it asks who is the same person.
    links: bool,
}

/// Writes the plan's text and collects what it reads, through views and subqueries. False when the rows may change
/// by themselves.
fn describe(plan: &LogicalPlan, text: &mut String, read: &mut Read) -> datafusion::common::Result<bool> {
    text.push_str(&plan.display_indent_schema().to_string());
    let mut views = Vec::new();
    let mut stable = true;
    plan.apply_with_subqueries(|node| {
        match node {
            LogicalPlan::TableScan(scan) => {
                let provider = source_as_provider(&scan.source)?;
                match provider.downcast_ref::<ViewTable>() {
                    Some(view) => views.push(view.logical_plan().clone()),
                    None => read.tables.push(scan.clone()),
                }
            }
            LogicalPlan::Extension(_) | LogicalPlan::Dml(_) | LogicalPlan::Ddl(_) | LogicalPlan::Statement(_) => stable = false,
            _ => {}
        }
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                if asks_who(expr) {
                    read.links = true;
                } else if !is_stable(expr) {
                    stable = false;
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })?;
        Ok(if stable { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    })?;
    for view in views {
        stable = stable && describe(&view, text, read)?;
    }
    Ok(stable)
}

fn asks_who(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarFunction(function) if function.name() == "resolve_user")
}

fn is_stable(expr: &Expr) -> bool {
    match expr {
        Expr::ScalarFunction(function) => function.func.signature().volatility == Volatility::Immutable,
        Expr::Placeholder(_) | Expr::ScalarVariable(..) => false,
        _ => true,
    }
}
