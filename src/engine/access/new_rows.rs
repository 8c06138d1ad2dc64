//! What rows that a role adds to a table must fulfil: privileges on columns, and the policies for INSERT.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{Field, SchemaRef};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::empty::EmptyTable;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::{SendableRecordBatchStream, SessionState};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt;
use portrait_udfs::error::{Code, Error, Result};

use crate::catalog::{Catalog, Columns, Object, ObjectClass, PUBLIC, PolicyCommand, Privilege, StoredPolicy};
use crate::error::classify;
use crate::plan::read_constants;
use crate::storage::TextType;

/// The conditions for new rows of one table.
pub struct NewRows {
    table: String,
    schema: SchemaRef,
    /// All permissive policies as one condition, then each restrictive one: (its name, the condition).
    conditions: Vec<(Option<String>, Arc<dyn PhysicalExpr>)>,
}

impl std::fmt::Debug for NewRows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewRows").field("table", &self.table).finish_non_exhaustive()
    }
}

impl NewRows {
    /// What `role` must fulfil to add rows with `columns` (`None` = all) to `table`, whose columns are those of `schema`.
    ///
    /// # Errors
    /// 42501 without the privilege; 0A000 for a policy that cannot be checked.
    pub async fn of(
        catalog: &Catalog,
        state: &SessionState,
        role: &str,
        table: &str,
        schema: &SchemaRef,
        columns: Option<&[String]>,
    ) -> Result<Self> {
        let rights = catalog.rights(role);
        rights.require(Privilege::Usage, &Object::new(ObjectClass::Schema, PUBLIC))?;
        if let Columns::Some(allowed) = rights.columns(Privilege::Insert, table) {
            let all: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
            let denied = Object::table(table).denied();
            if let Some(column) = columns.unwrap_or(&all).iter().find(|column| !allowed.contains(*column)) {
                return Err(if allowed.is_empty() { denied } else { denied.detail(format!("Column \"{column}\" may not be written.")) });
            }
        }
        // As rows arrive, before NOT NULL is looked at.
        let nullable = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect::<arrow::datatypes::Fields>();
        let schema = Arc::new(arrow::datatypes::Schema::new(nullable));
        let mut found = Self { table: table.to_owned(), schema, conditions: Vec::new() };
        let Some(policies) = rights.policies(table, PolicyCommand::Insert) else { return Ok(found) };
        let text = |policy: &StoredPolicy| format!("({})", policy.check.as_deref().or(policy.using.as_deref()).unwrap_or("true"));
        let permissive: Vec<String> = policies.iter().filter(|(_, policy)| policy.permissive).map(|(_, policy)| text(policy)).collect();
        let any = if permissive.is_empty() { "false".to_owned() } else { permissive.join(" OR ") };
        let restrictive = policies.iter().filter(|(_, policy)| !policy.permissive).map(|(name, policy)| (Some(name.clone()), text(policy)));
        for (name, condition) in std::iter::once((None, any)).chain(restrictive) {
            let condition = found.compile(catalog, state, &condition).await?;
            found.conditions.push((name, condition));
        }
        Ok(found)
    }

    /// Of a table that the role owns and that has no policies.
    pub fn all(table: &str, schema: &SchemaRef) -> Self {
        Self { table: table.to_owned(), schema: Arc::clone(schema), conditions: Vec::new() }
    }

    async fn compile(&self, catalog: &Catalog, state: &SessionState, condition: &str) -> Result<Arc<dyn PhysicalExpr>> {
        let empty = Arc::new(EmptyTable::new(Arc::clone(&self.schema)));
        let query = format!("SELECT {condition} FROM \"{}\"", self.table.replace('"', "\"\""));
        let plan = catalog.view_planner()?.plan_over(state, &query, &self.table, empty).await?;
        let unsupported = || {
            Error::new(Code::FeatureNotSupported, format!("a policy for new rows of table \"{}\" cannot be checked", self.table))
                .detail("Its condition is more than an expression over the columns of the row.")
                .hint("Give the policy a WITH CHECK without subqueries.")
        };
        let LogicalPlan::Projection(projection) = plan else { return Err(unsupported()) };
        let [expr] = projection.expr.as_slice() else { return Err(unsupported()) };
        let mut subquery = false;
        let looked = expr.apply(|part| {
            subquery |= matches!(part, Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_));
            Ok(TreeNodeRecursion::Continue)
        });
        looked.map_err(classify)?;
        if subquery {
            return Err(unsupported());
        }
        let read = read_constants(expr.clone(), projection.input.schema()).map_err(classify)?;
        state.create_physical_expr(read.data, projection.input.schema()).map_err(classify)
    }

    /// The same rows; the stream fails at the first one that does not fulfil the conditions.
    pub fn check(self, rows: SendableRecordBatchStream) -> SendableRecordBatchStream {
        if self.conditions.is_empty() {
            return rows;
        }
        let schema = rows.schema();
        let checked = rows.map(move |batch| {
            let batch = batch?;
            self.verify(&batch)?;
            Ok(batch)
        });
        let checked: futures::stream::BoxStream<'static, DataFusionResult<_>> = checked.boxed();
        Box::pin(RecordBatchStreamAdapter::new(schema, checked))
    }

    /// Refuses rows, with all columns of the table in their places, of which one does not fulfil the conditions.
    ///
    /// # Errors
    /// 42501; whatever a condition finds wrong.
    pub fn verify(&self, rows: &RecordBatch) -> DataFusionResult<()> {
        if self.conditions.is_empty() {
            return Ok(());
        }
        // As they will be kept: a condition must not see a uuid written in another way.
        let kept = |(column, field): (&ArrayRef, &Arc<Field>)| match TextType::of(field) {
            Some(found) => found.read_all(column).map_err(|(_, error)| DataFusionError::from(error)),
            None => Ok(Arc::clone(column)),
        };
        let columns = rows.columns().iter().zip(self.schema.fields()).map(kept).collect::<DataFusionResult<_>>()?;
        let seen = RecordBatch::try_new(Arc::clone(&self.schema), columns)?;
        for (name, condition) in &self.conditions {
            let fulfilled = condition.evaluate(&seen)?.into_array(seen.num_rows())?;
            let fulfilled = fulfilled.as_boolean_opt().ok_or_else(|| Error::internal("a policy is no condition"))?;
            if fulfilled.true_count() < fulfilled.len() {
                return Err(self.violated(name.as_deref()));
            }
        }
        Ok(())
    }

    fn violated(&self, policy: Option<&str>) -> DataFusionError {
        let of = policy.map_or_else(String::new, |policy| format!(" \"{policy}\""));
        let message = format!("new row violates row-level security policy{of} for table \"{}\"", self.table);
        Error::new(Code::InsufficientPrivilege, message).into()
    }
}
