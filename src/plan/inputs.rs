//! What a query reads: tables in the version of now, models, and what may change by itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::datasource::{ViewTable, provider_as_source, source_as_provider};
use datafusion::logical_expr::{Expr, LogicalPlan, TableScan, Volatility, WindowFunctionDefinition};
use portrait_udfs::error::{Error, Result};
use portrait_udfs::functions::ml::models_named_by;
use portrait_udfs::functions::planner::RelationNode;

use super::per_user::RESOLVE_USER;
use crate::storage::delta::DeltaTable;
use crate::storage::user_set::UserSet;
use crate::storage::{ExternalTable, ManagedTable, Role};

/// One relation that a query reads.
#[derive(Debug, Clone)]
pub(crate) struct Input {
    /// As the query calls it.
    pub(crate) name: String,
    pub(crate) kind: InputKind,
    /// Differs when its rows do; `None` when that cannot be known.
    pub(crate) contents: Option<String>,
}

#[derive(Debug, Clone)]
pub(crate) enum InputKind {
    /// A table of ours, read in its latest version, which is this one.
    Managed(Arc<DeltaTable>, u64),
    /// A table of ours in an older version, which does not change.
    Older,
    External,
    /// A view of the system's, a file named by its path, …
    Other,
}

/// What a query reads.
#[derive(Debug, Clone, Default)]
pub(crate) struct Inputs {
    pub(crate) relations: Vec<Input>,
    /// Models, as the query names them.
    pub(crate) models: Vec<String>,
    /// What may give other rows although no input changes: `now()`, a function in FROM, …
    pub(crate) unsteady: Option<String>,
    /// Whether it asks who is the same person.
    pub(crate) asks_links: bool,
    /// The version of the links between ids, where it asks them.
    pub(crate) links: Option<u64>,
}

/// What the plan of a query reads, through views and subqueries.
///
/// # Errors
/// A table that cannot be looked at.
pub(crate) async fn inputs(plan: &LogicalPlan) -> Result<Inputs> {
    let mut found = Inputs::default();
    let mut scans = BTreeMap::new();
    collect(plan, &mut scans, &mut found).map_err(Error::from_engine)?;
    found.models = models_named_by(plan).map_err(Error::from_engine)?.into_iter().collect();
    for (name, provider) in scans.into_values() {
        found.relations.push(input(name, provider.as_ref()).await?);
    }
    Ok(found)
}

async fn input(name: String, provider: &dyn TableProvider) -> Result<Input> {
    if let Some(table) = provider.downcast_ref::<ManagedTable>() {
        let contents = Some(table.fingerprint().await?);
        let kind = match table.latest() {
            Some(latest) => InputKind::Managed(Arc::clone(latest), latest.snapshot().await?.version),
            None => InputKind::Older,
        };
        return Ok(Input { name, kind, contents });
    }
    if let Some(table) = provider.downcast_ref::<ExternalTable>() {
        return Ok(Input { name, kind: InputKind::External, contents: Some(table.fingerprint().await?) });
    }
    Ok(Input { name, kind: InputKind::Other, contents: None })
}

/// By the whole name: a table may be called as a view of the schema `ml` is.
type Scans = BTreeMap<String, (String, Arc<dyn TableProvider>)>;

fn collect(plan: &LogicalPlan, scans: &mut Scans, found: &mut Inputs) -> datafusion::common::Result<()> {
    let mut views = Vec::new();
    plan.apply_with_subqueries(|node| {
        match node {
            LogicalPlan::TableScan(scan) => {
                let provider = source_as_provider(&scan.source)?;
                match provider.downcast_ref::<ViewTable>() {
                    Some(view) => views.push(view.logical_plan().clone()),
                    None => {
                        scans.insert(scan.table_name.to_string(), (scan.table_name.table().to_owned(), provider));
                    }
                }
            }
            LogicalPlan::Extension(extension) => {
                let relation = extension.node.as_any().downcast_ref::<RelationNode>();
                let name = relation.map_or_else(|| extension.node.name().to_owned(), |relation| relation.function().to_owned());
                found.unsteady.get_or_insert(format!("it calls {name}"));
            }
            _ => {}
        }
        node.apply_expressions(|expr| {
            expr.apply(|part| {
                match unsteady_call(part) {
                    Some(RESOLVE_USER) => found.asks_links = true,
                    Some(name) => {
                        found.unsteady.get_or_insert(format!("it calls {name}"));
                    }
                    None => {}
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    for view in views {
        collect(&view, scans, found)?;
    }
    Ok(())
}

/// Functions that depend on the session's settings alone, which are the same at each refresh.
const STEADY: &[&str] = &["date_part", "date_trunc", "to_char", "to_date", "to_local_time", "to_time", "to_unixtime"];

/// The name of the function that an expression calls, when its value may change by itself.
fn unsteady_call(expr: &Expr) -> Option<&str> {
    let (name, volatility) = match expr {
        Expr::ScalarFunction(call) => (call.func.name(), call.func.signature().volatility),
        Expr::AggregateFunction(call) => (call.func.name(), call.func.signature().volatility),
        Expr::WindowFunction(call) => match &call.fun {
            WindowFunctionDefinition::AggregateUDF(function) => (function.name(), function.signature().volatility),
            WindowFunctionDefinition::WindowUDF(function) => (function.name(), function.signature().volatility),
        },
        Expr::ScalarVariable(..) => return Some("a variable"),
        _ => return None,
    };
    let steady = volatility == Volatility::Immutable || STEADY.contains(&name) || name.starts_with("to_timestamp");
    (!steady).then_some(name)
}

/// Whether a scan reads `table` in its latest version, and where the user's column is in its rows.
pub(crate) fn user_of_scan(scan: &TableScan, table: &DeltaTable) -> Option<Option<usize>> {
    let provider = source_as_provider(&scan.source).ok()?;
    let read = provider.downcast_ref::<ManagedTable>()?.latest()?;
    if read.id() != table.id() {
        return None;
    }
    let user = match table.role() {
        Role::Events(columns) => Some(columns.user.as_str()),
        Role::Derived { user } => user.as_deref(),
        Role::Plain | Role::Quarantine { .. } => None,
    };
    Some(user.and_then(|user| scan.projected_schema.fields().iter().position(|field| field.name() == user)))
}

/// The same plan with the rows of `users` alone from `table`, wherever it is read in its latest version.
///
/// # Errors
/// A plan that cannot be put together.
pub(crate) fn only_users(plan: LogicalPlan, table: &DeltaTable, column: usize, users: &Arc<UserSet>) -> Result<LogicalPlan> {
    let changed = plan.transform_down_with_subqueries(|node| {
        let LogicalPlan::TableScan(scan) = &node else { return Ok(Transformed::no(node)) };
        let provider = source_as_provider(&scan.source)?;
        if let Some(view) = provider.downcast_ref::<ViewTable>() {
            let inner = only_users(view.logical_plan().clone(), table, column, users).map_err(datafusion::error::DataFusionError::from)?;
            let view = ViewTable::new(inner, view.definition().cloned());
            return Ok(Transformed::yes(LogicalPlan::TableScan(TableScan { source: provider_as_source(Arc::new(view)), ..scan.clone() })));
        }
        let Some(read) = provider.downcast_ref::<ManagedTable>() else { return Ok(Transformed::no(node)) };
        if read.latest().is_none_or(|latest| latest.id() != table.id()) {
            return Ok(Transformed::no(node));
        }
        let source = provider_as_source(Arc::new(read.only(Arc::clone(users), column)));
        Ok(Transformed::yes(LogicalPlan::TableScan(TableScan { source, ..scan.clone() })))
    });
    changed.map(|changed| changed.data).map_err(Error::from_engine)
}
