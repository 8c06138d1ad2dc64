//! The physical node: one row out for each row in, with the answers as further columns.
//!
//! It reads ahead a growing number of rows (so that a limit or the first rows of a cursor cost little, and a long scan
//! looks users up in bulk), finds the distinct users, takes what the statement's memo knows, and asks the model for
//! the rest. `EXPLAIN ANALYZE` counts `forward_passes`, `distinct_users` and `lookups`.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{ColumnStatistics, Result, Statistics};
use datafusion::config::ConfigOptions;
use datafusion::execution::{SendableRecordBatchStream, SessionState, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::projection::ProjectionMapping;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_plan::execution_plan::CardinalityEffect;
use datafusion::physical_plan::filter_pushdown::{FilterDescription, FilterPushdownPhase};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::statistics::{ChildStats, StatisticsArgs};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties};

use super::call::Needs;
use super::execution::Executions;
use super::models::Models;
use super::physical::{PhysicalGroup, PhysicalOutput};
use super::predictor::Tally;
use super::stream::Work;

/// What a node needs of the program.
#[derive(Debug, Clone)]
pub(crate) struct Services {
    pub(crate) models: Arc<dyn Models>,
    pub(crate) executions: Arc<Executions>,
    /// The statement's session: sources of histories are planned with its rights and settings.
    pub(crate) session: Arc<SessionState>,
}

/// See the module's header.
#[derive(Debug, Clone)]
pub(crate) struct PredictExec {
    group: PhysicalGroup,
    outputs: Vec<PhysicalOutput>,
    needs: Needs,
    services: Services,
    input: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl PredictExec {
    pub(crate) fn try_new(
        group: PhysicalGroup,
        outputs: Vec<PhysicalOutput>,
        needs: Needs,
        services: Services,
        input: Arc<dyn ExecutionPlan>,
    ) -> Result<Self> {
        let properties = Arc::new(properties(&input, &outputs)?);
        Ok(Self { group, outputs, needs, services, input, properties, metrics: ExecutionPlanMetricsSet::new() })
    }

    fn over(&self, outputs: Vec<PhysicalOutput>, input: Arc<dyn ExecutionPlan>) -> Result<Self> {
        Self::try_new(self.group.clone(), outputs, self.needs.clone(), self.services.clone(), input)
    }
}

/// Everything of the input holds for the output: rows, order and partitions stay.
fn properties(input: &Arc<dyn ExecutionPlan>, outputs: &[PhysicalOutput]) -> Result<PlanProperties> {
    let from = input.schema();
    let added = outputs.iter().map(|output| Arc::new(Field::new(&output.column, output.data_type(), true)));
    let fields: Vec<_> = from.fields().iter().cloned().chain(added).collect();
    let schema: SchemaRef = Arc::new(Schema::new_with_metadata(fields, from.metadata().clone()));
    let kept: Vec<usize> = (0..from.fields().len()).collect();
    let mapping = ProjectionMapping::from_indices(&kept, &from)?;
    let equivalences = input.equivalence_properties().project(&mapping, schema);
    Ok(PlanProperties::new(equivalences, input.output_partitioning().clone(), input.pipeline_behavior(), input.boundedness()))
}

impl DisplayAs for PredictExec {
    fn fmt_as(&self, _format: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "PredictExec: {}, answers=[", self.group)?;
        for (index, output) in self.outputs.iter().enumerate() {
            write!(f, "{}{output}", if index > 0 { ", " } else { "" })?;
        }
        f.write_str("]")
    }
}

impl ExecutionPlan for PredictExec {
    fn name(&self) -> &'static str {
        "PredictExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn apply_expressions(&self, visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>) -> Result<TreeNodeRecursion> {
        let classes = self.outputs.iter().filter_map(PhysicalOutput::class);
        for expression in self.group.expressions().chain(classes) {
            if visit(expression)? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(self.over(self.outputs.clone(), children.swap_remove(0))?))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let services = &self.services;
        let execution = services.executions.join(&context, &self.group.model, &self.needs, &services.models, &services.session);
        let baseline = BaselineMetrics::new(&self.metrics, partition);
        let tally = Tally::new(&self.metrics, partition);
        let input = self.input.execute(partition, Arc::clone(&context))?;
        let cancel = crate::context::StatementContext::of(context.session_config()).cancel.clone();
        Ok(Work::new(self.group.clone(), self.outputs.clone(), execution, tally, cancel, self.schema(), input).into_stream(baseline))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        vec![ChildStats::At(partition)]
    }

    fn statistics_from_inputs(&self, inputs: &[Arc<Statistics>], _args: &StatisticsArgs) -> Result<Arc<Statistics>> {
        let mut statistics = inputs[0].as_ref().clone();
        statistics.column_statistics.extend(self.outputs.iter().map(|_| ColumnStatistics::new_unknown()));
        statistics.total_byte_size = Precision::Absent;
        Ok(Arc::new(statistics))
    }

    fn supports_limit_pushdown(&self) -> bool {
        true
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::Equal
    }

    /// Answers that nobody reads are not computed: `SELECT count(*) FROM (SELECT predict_intent(…) …)`.
    fn try_swapping_with_projection(&self, projection: &ProjectionExec) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let first = self.input.schema().fields().len();
        let used: std::collections::HashSet<usize> =
            projection.expr().iter().flat_map(|column| collect_columns(&column.expr)).map(|column| column.index()).collect();
        let kept: Vec<usize> = (0..self.outputs.len()).filter(|index| used.contains(&(first + index))).collect();
        if kept.len() == self.outputs.len() {
            return Ok(None);
        }
        let input: Arc<dyn ExecutionPlan> = if kept.is_empty() {
            Arc::clone(&self.input)
        } else {
            let outputs = kept.iter().map(|index| self.outputs[*index].clone()).collect();
            Arc::new(self.over(outputs, Arc::clone(&self.input))?)
        };
        let place = |index: usize| match index.checked_sub(first) {
            None => index,
            Some(output) => first + kept.iter().position(|kept| *kept == output).unwrap_or_default(),
        };
        let columns = projection
            .expr()
            .iter()
            .map(|column| {
                let expr = super::physical::move_columns(Arc::clone(&column.expr), &place)?;
                Ok(ProjectionExpr::new(expr, column.alias.clone()))
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Some(Arc::new(ProjectionExec::try_new(columns, input)?)))
    }

    /// Filters on the input's own columns go below. They are matched by name, so names must be unique.
    fn gather_filters_for_pushdown(
        &self,
        _phase: FilterPushdownPhase,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        _config: &ConfigOptions,
    ) -> Result<FilterDescription> {
        let schema = self.input.schema();
        let mut names = std::collections::HashSet::new();
        if schema.fields().iter().all(|field| names.insert(field.name())) {
            FilterDescription::from_children(filters, &self.children())
        } else {
            Ok(FilterDescription::all_unsupported(&filters, &self.children()))
        }
    }
}
