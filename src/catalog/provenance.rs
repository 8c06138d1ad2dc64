//! What a query reads: asked when users were erased, of the queries that models learned from.

use std::collections::BTreeSet;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::{ViewTable, source_as_provider};
use datafusion::logical_expr::LogicalPlan;
use portrait_udfs::error::Result;

use super::erasure::Eraser;
use super::open::{Inner, Object};
use crate::storage::ManagedTable;

/// What a query reads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reads {
    /// Managed tables, through views.
    pub tables: BTreeSet<String>,
    /// Whether it reads something whose rows cannot be accounted for: external files, functions, tables that let go of old
    /// events.
    pub others: bool,
}

impl Eraser {
    /// Whether [`reads`](Self::reads) can plan already: not before whoever opened the catalog has said how.
    pub fn can_plan(&self) -> bool {
        self.inner().is_ok_and(|inner| inner.planner.read().is_some())
    }

    /// What a query reads as the catalog is now.
    ///
    /// # Errors
    /// A query that no longer works.
    pub async fn reads(&self, query: &str) -> Result<Reads> {
        let inner = self.inner()?;
        // As who sees all tables as they are.
        let plan = inner.view_planner()?.plan(query, &inner.state().definitions.first_superuser()).await?;
        let mut found = Reads::default();
        collect(&inner, &plan, &mut found).map_err(crate::error::classify)?;
        Ok(found)
    }
}

fn collect(inner: &Inner, plan: &LogicalPlan, found: &mut Reads) -> datafusion::common::Result<()> {
    let mut views = Vec::new();
    plan.apply_with_subqueries(|node| {
        match node {
            LogicalPlan::TableScan(scan) => {
                let provider = source_as_provider(&scan.source)?;
                if let Some(view) = provider.downcast_ref::<ViewTable>() {
                    views.push(view.logical_plan().clone());
                } else if let Some(table) = provider.downcast_ref::<ManagedTable>() {
                    found.others |= keeps_less(inner, table.name());
                    found.tables.insert(table.name().to_owned());
                } else {
                    found.others = true;
                }
            }
            LogicalPlan::Extension(extension) if extension.node.inputs().is_empty() => found.others = true,
            _ => {}
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    views.iter().try_for_each(|view| collect(inner, view, found))
}

/// Whether a table may have had rows that it has no more.
fn keeps_less(inner: &Inner, name: &str) -> bool {
    match inner.state().entries.get(name).map(|entry| &entry.object) {
        Some(Object::Managed(table)) => table.retention_us().is_some(),
        _ => true,
    }
}
