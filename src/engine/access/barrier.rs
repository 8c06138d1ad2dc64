//! The node that hides how a secured table is read.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::common::Statistics;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::StreamExt;

/// Rows of a table as a role sees them.
///
/// It has no children for the planner: no filter, projection, limit or dynamic filter of a query moves below it, so that an
/// expression that fails or tells on what it sees meets only rows that the role may see; and EXPLAIN shows no condition of a policy.
pub(super) struct RowSecurityExec {
    table: String,
    /// Names of policies and masks.
    applied: Vec<String>,
    input: Arc<dyn ExecutionPlan>,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
}

impl RowSecurityExec {
    /// `input`, whose columns are those of `schema` up to their nullability.
    pub(super) fn new(table: &str, applied: Vec<String>, input: Arc<dyn ExecutionPlan>, schema: SchemaRef) -> Self {
        let inner = input.properties();
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            inner.partitioning.clone(),
            inner.emission_type,
            inner.boundedness,
        );
        Self { table: table.to_owned(), applied, input, schema, properties: Arc::new(properties) }
    }
}

impl fmt::Debug for RowSecurityExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowSecurityExec").field("table", &self.table).field("applied", &self.applied).finish_non_exhaustive()
    }
}

impl DisplayAs for RowSecurityExec {
    fn fmt_as(&self, kind: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match kind {
            DisplayFormatType::Default | DisplayFormatType::Verbose => {
                write!(f, "RowSecurityExec: table={}", self.table)?;
                if self.applied.is_empty() { Ok(()) } else { write!(f, ", applied=[{}]", self.applied.join(", ")) }
            }
            DisplayFormatType::TreeRender => writeln!(f, "table={}", self.table),
        }
    }
}

impl ExecutionPlan for RowSecurityExec {
    fn name(&self) -> &str {
        "RowSecurityExec"
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DataFusionResult<TreeNodeRecursion>,
    ) -> DataFusionResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, _children: Vec<Arc<dyn ExecutionPlan>>) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DataFusionResult<SendableRecordBatchStream> {
        let (schema, rows) = (Arc::clone(&self.schema), self.input.execute(partition, context)?);
        let relabelled = rows.map(move |batch| {
            let batch = batch?;
            let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            RecordBatch::try_new_with_options(Arc::clone(&schema), batch.columns().to_vec(), &options).map_err(DataFusionError::from)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), relabelled)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        // Counts of the inner nodes would tell how many rows are hidden.
        None
    }

    fn partition_statistics(&self, _partition: Option<usize>) -> DataFusionResult<Arc<Statistics>> {
        Ok(Arc::new(Statistics::new_unknown(&self.schema)))
    }
}
