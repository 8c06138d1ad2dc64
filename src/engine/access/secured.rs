//! A table of which a role does not see everything.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{Field, Fields, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema};
use datafusion::datasource::TableType;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlanBuilder, Operator, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use portrait_udfs::error::{Code, Error, Result};

use super::barrier::RowSecurityExec;
use crate::catalog::{Catalog, Columns, Object, StoredPolicy, TableRights};

/// Policies that read tables with policies that read …: beyond this one is taken to read its own table.
const DEPTH_MAX: usize = 8;

tokio::task_local! {
    static DEPTH: usize;
}

/// A table through the rights of a role.
#[derive(Debug)]
pub(super) struct Secured {
    name: String,
    table: Arc<dyn TableProvider>,
    rights: TableRights,
    schema: SchemaRef,
    catalog: Arc<Catalog>,
    /// Whether it is a view (`security_barrier`) whose own conditions hide something.
    barrier: bool,
}

impl Secured {
    /// `table`, of which the role sees what `rights` say.
    pub(super) fn new(name: &str, table: Arc<dyn TableProvider>, rights: TableRights, catalog: &Arc<Catalog>) -> Self {
        let schema = table.schema();
        let masked = |column: &str| rights.masks.iter().any(|(_, mask)| mask.column == column);
        let fields = schema.fields().iter().map(|field| match masked(field.name()) {
            // What a mask gives is any text.
            true => Field::new(field.name(), field.data_type().clone(), true),
            false => field.as_ref().clone(),
        });
        let schema = Arc::new(Schema::new_with_metadata(fields.collect::<Fields>(), schema.metadata().clone()));
        Self { name: name.to_owned(), table, rights, schema, catalog: Arc::clone(catalog), barrier: false }
    }

    /// Nothing of a query is evaluated before what is in the table, as if it had policies.
    pub(super) fn behind_barrier(self) -> Self {
        Self { barrier: true, ..self }
    }

    /// Whether rows or values are hidden, and not only columns.
    fn hides(&self) -> bool {
        self.barrier || self.has_conditions()
    }

    fn has_conditions(&self) -> bool {
        self.rights.policies.is_some() || !self.rights.masks.is_empty()
    }

    fn is_masked(&self, column: &str) -> bool {
        self.rights.masks.iter().any(|(_, mask)| mask.column == column)
    }

    /// Refuses a scan of columns that the role may not read.
    fn check_columns(&self, projection: Option<&Vec<usize>>, filters: &[Expr]) -> Result<()> {
        let Columns::Some(allowed) = &self.rights.select else { return Ok(()) };
        let fields = self.schema.fields();
        let mut needed: BTreeSet<&str> = match projection {
            Some(projection) => projection.iter().filter_map(|at| fields.get(*at)).map(|field| field.name().as_str()).collect(),
            None => fields.iter().map(|field| field.name().as_str()).collect(),
        };
        let in_filters: Vec<_> = filters.iter().flat_map(Expr::column_refs).collect();
        needed.extend(in_filters.iter().map(|column| column.name.as_str()));
        let refused = needed.iter().find(|column| !allowed.contains(**column));
        // Also to count rows one must be allowed to read some column.
        if refused.is_none() && !allowed.is_empty() {
            return Ok(());
        }
        let denied = Object::table(self.name.as_str()).denied();
        Err(match (refused, allowed.is_empty()) {
            (Some(column), false) => denied.detail(format!("Column \"{column}\" may not be read.")),
            _ => denied,
        })
    }

    /// Whether a filter of the query may be evaluated before the policies: a comparison that cannot fail, and that tells nothing of
    /// what it sees but its result.
    fn is_leakproof(&self, filter: &Expr) -> bool {
        let plain = |expr: &Expr| match expr {
            Expr::Column(column) => !self.is_masked(&column.name),
            Expr::Literal(..) => true,
            _ => false,
        };
        match filter {
            Expr::BinaryExpr(binary) => match binary.op {
                Operator::And | Operator::Or => self.is_leakproof(&binary.left) && self.is_leakproof(&binary.right),
                Operator::Eq | Operator::NotEq | Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq => {
                    plain(&binary.left) && plain(&binary.right)
                }
                _ => false,
            },
            Expr::Between(between) => plain(&between.expr) && plain(&between.low) && plain(&between.high),
            Expr::InList(list) => plain(&list.expr) && list.list.iter().all(plain),
            Expr::IsNull(inner) | Expr::IsNotNull(inner) => plain(inner),
            _ => false,
        }
    }

    /// The query that gives what the role sees: `SELECT columns FROM table WHERE policies`, over the table as `name`.
    fn query(&self, columns: &[&str]) -> Result<String> {
        let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        let shown = |column: &&str| {
            let mask = self.rights.masks.iter().find(|(_, mask)| mask.column == **column);
            mask.map_or_else(|| quoted(column), |(_, mask)| format!("({}) AS {}", mask.expr, quoted(column)))
        };
        let columns: Vec<String> = columns.iter().map(shown).collect();
        let condition = self.rights.policies.as_deref().map_or_else(String::new, |policies| format!(" WHERE {}", condition(policies)));
        Ok(format!("SELECT {} FROM {}{condition}", columns.join(", "), quoted(&self.name)))
    }

    async fn secured_scan(
        &self,
        state: &SessionState,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let classify = crate::error::classify;
        let schema = match projection {
            Some(projection) => Arc::new(self.schema.project(projection).map_err(|error| classify(DataFusionError::from(error)))?),
            None => Arc::clone(&self.schema),
        };
        // Columns of filters are read as well; the filters are on what the role sees.
        let mut columns: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        let shown = columns.len();
        let referenced: BTreeSet<String> = filters.iter().flat_map(Expr::column_refs).map(|column| column.name.clone()).collect();
        columns.extend(referenced.iter().map(String::as_str).filter(|name| schema.field_with_name(name).is_err()));
        let counts_only = columns.is_empty();
        if counts_only {
            columns.extend(self.schema.fields().first().map(|field| field.name().as_str()));
        }
        let planner = self.catalog.view_planner()?;
        let plan = planner.plan_over(state, &self.query(&columns)?, &self.name, Arc::clone(&self.table)).await?;
        // By position: a query's own names do not reach below.
        let given: Vec<Expr> = plan.schema().columns().into_iter().map(Expr::Column).collect();
        let mut builder = LogicalPlanBuilder::from(plan.clone());
        for filter in filters {
            let placed = filter.clone().transform(|expr| match &expr {
                Expr::Column(column) => Ok(match columns.iter().position(|name| *name == column.name) {
                    Some(at) => Transformed::yes(given[at].clone()),
                    None => Transformed::no(expr),
                }),
                _ => Ok(Transformed::no(expr)),
            });
            builder = builder.filter(placed.map_err(classify)?.data).map_err(classify)?;
        }
        let cast = |(at, field): (usize, &Arc<arrow::datatypes::Field>)| cast_to(&given[at], field.data_type(), plan.schema());
        let outputs = schema.fields().iter().enumerate().map(cast).collect::<Result<Vec<_>>>()?;
        let outputs = if counts_only { Vec::new() } else { outputs };
        debug_assert_eq!(outputs.len(), shown);
        builder = builder.project(outputs).map_err(classify)?.limit(0, limit).map_err(classify)?;
        let plan = builder.build().map_err(classify)?;
        let inner = Box::pin(state.create_physical_plan(&plan)).await.map_err(classify)?;
        let names = self.rights.policies.iter().flatten().map(|(name, _)| name).chain(self.rights.masks.iter().map(|(name, _)| name));
        Ok(Arc::new(RowSecurityExec::new(&self.name, names.cloned().collect(), inner, schema)))
    }
}

/// The condition of some policies: any of the permissive ones and all of the restrictive ones. Without a permissive one no row
/// is seen.
fn condition(policies: &[(String, StoredPolicy)]) -> String {
    let of = |permissive: bool| {
        let found = policies.iter().filter(move |(_, policy)| policy.permissive == permissive);
        found.map(|(_, policy)| format!("({})", policy.using.as_deref().unwrap_or("true"))).collect::<Vec<_>>()
    };
    let (permissive, restrictive) = (of(true), of(false));
    let any = if permissive.is_empty() { "false".to_owned() } else { permissive.join(" OR ") };
    std::iter::once(format!("({any})")).chain(restrictive).collect::<Vec<_>>().join(" AND ")
}

fn cast_to(expr: &Expr, wanted: &arrow::datatypes::DataType, schema: &DFSchema) -> Result<Expr> {
    let name = match expr {
        Expr::Column(Column { name, .. }) => name.clone(),
        other => other.schema_name().to_string(),
    };
    let cast = expr.clone().cast_to(wanted, schema).map_err(|error| {
        let found = crate::error::classify(error);
        Error::new(Code::DatatypeMismatch, format!("the mask of column \"{name}\" has another type than the column")).detail(found.message)
    })?;
    Ok(if cast == *expr { cast } else { cast.alias(name) })
}

#[async_trait]
impl TableProvider for Secured {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        self.table.table_type()
    }

    fn get_column_default(&self, column: &str) -> Option<&Expr> {
        self.table.get_column_default(column)
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DataFusionResult<Vec<TableProviderFilterPushDown>> {
        if !self.hides() {
            return self.table.supports_filters_pushdown(filters);
        }
        let supported = |filter: &&Expr| match self.is_leakproof(filter) {
            true => TableProviderFilterPushDown::Inexact,
            false => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(supported).collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        self.check_columns(projection, filters)?;
        if !self.hides() {
            return self.table.scan(state, projection, filters, limit).await;
        }
        let state = state.as_any().downcast_ref::<SessionState>().ok_or_else(|| Error::internal("a secured table has no session"))?;
        let depth = DEPTH.try_with(|depth| *depth).unwrap_or(0);
        // Views do not go on for ever: their depth has a limit of its own.
        let deeper = depth + usize::from(self.has_conditions());
        if deeper > DEPTH_MAX {
            let message = format!("infinite recursion detected in policy for relation \"{}\"", self.name);
            return Err(Error::new(Code::InvalidTableDefinition, message).into());
        }
        let scan = self.secured_scan(state, projection, filters, limit);
        Ok(DEPTH.scope(deeper, Box::pin(scan)).await?)
    }
}
