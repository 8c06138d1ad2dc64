//! Two plans that filter and project the rows of one scan, read together.
//!
//! `features_asof` over labels and values that are both picked from one table of events would read and decode the table twice.
//! Here the scan is made anew with the columns of both, and each batch of it goes through the filters and projections of either.
//! Nothing is held: whoever asks gets, batch by batch, the rows of the scan and what each plan makes of them.
//!
//! Anything else between plan and files than filters and projections (a merge of runs, rows left out of sight, a limit) stays as it
//! is: then there are two scans.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use datafusion::datasource::physical_plan::{FileScanConfig, FileScanConfigBuilder, FileSource, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, Column};
use datafusion::physical_expr::utils::{collect_columns, reassign_expr_columns};
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, Partitioning};

use super::pairing::downcast;

type Node = Arc<dyn ExecutionPlan>;

/// What a plan does with each batch.
#[derive(Debug)]
enum Step {
    /// The rows that fulfil a condition, and those of their columns that stay.
    Keep(Arc<dyn PhysicalExpr>, Option<Vec<usize>>),
    /// Other columns.
    Compute(Vec<Arc<dyn PhysicalExpr>>, SchemaRef),
}

impl Step {
    fn apply(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        match self {
            Self::Keep(condition, projection) => {
                let kept = condition.evaluate(batch)?.into_array(batch.num_rows())?;
                let kept = kept.as_boolean_opt().ok_or_else(|| DataFusionError::Internal("a condition is no boolean".into()))?;
                let projected = projection.as_ref().map(|columns| batch.project(columns)).transpose()?;
                Ok(filter_record_batch(projected.as_ref().unwrap_or(batch), kept)?)
            }
            Self::Compute(expressions, schema) => {
                let columns = expressions.iter().map(|expression| expression.evaluate(batch)?.into_array(batch.num_rows()));
                Ok(RecordBatch::try_new(Arc::clone(schema), columns.collect::<Result<_>>()?)?)
            }
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct OneScan {
    scan: Node,
    sides: [Vec<Step>; 2],
    key: usize,
}

/// A plan taken apart: what it does with the rows of its scan, the last step first.
struct Chain<'a> {
    steps: Vec<Step>,
    scan: &'a DataSourceExec,
}

/// `None` where something else than filters and projections of a scan stands there.
fn taken_apart(plan: &Node) -> Option<Chain<'_>> {
    let (mut node, mut steps) = (plan, Vec::new());
    loop {
        if let Some(scan) = downcast::<DataSourceExec>(node) {
            return Some(Chain { steps, scan });
        } else if let Some(filter) = downcast::<FilterExec>(node) {
            if filter.fetch().is_some() {
                return None;
            }
            let projection = filter.projection().as_ref().map(|columns| columns.to_vec());
            steps.push(Step::Keep(Arc::clone(filter.predicate()), projection));
            node = filter.input();
        } else {
            let projection = downcast::<ProjectionExec>(node)?;
            let expressions = projection.expr().iter().map(|column| Arc::clone(&column.expr)).collect();
            steps.push(Step::Compute(expressions, projection.schema()));
            node = projection.input();
        }
    }
}

/// A scan of Parquet files that hands on each of its rows.
fn plain<'a>(chain: &Chain<'a>) -> Option<(&'a FileScanConfig, &'a ParquetSource)> {
    let (config, source) = chain.scan.downcast_to_file_source::<ParquetSource>()?;
    let whole = config.limit.is_none() && !source.table_parquet_options().global.pushdown_filters;
    whole.then_some((config, source))
}

/// Whether both read the same parts of the same files, in the same streams.
fn same_files(a: &FileScanConfig, b: &FileScanConfig) -> bool {
    let same_groups = a.file_groups.len() == b.file_groups.len()
        && a.file_groups.iter().zip(&b.file_groups).all(|(a, b)| {
            a.files().len() == b.files().len()
                && a.files().iter().zip(b.files()).all(|(a, b)| {
                    a.object_meta.location == b.object_meta.location && a.range == b.range && a.partition_values == b.partition_values
                })
        });
    same_groups
        && a.object_store_url == b.object_store_url
        && a.file_source.table_schema().table_schema() == b.file_source.table_schema().table_schema()
}

impl OneScan {
    /// The scan of both plans and what each makes of its rows, when they read the same files, sharing them out by ranges of a key.
    ///
    /// # Errors
    /// Whatever the engine says of a scan with the columns of both.
    pub(super) fn of(plans: [&Node; 2]) -> Result<Option<Self>> {
        let [Some(a), Some(b)] = plans.map(taken_apart) else { return Ok(None) };
        let (Some((config, source)), Some((other, second))) = (plain(&a), plain(&b)) else { return Ok(None) };
        if !same_files(config, other) {
            return Ok(None);
        }
        let (Some(read), Some(read_too)) = (source.projection(), second.projection()) else { return Ok(None) };
        let mut columns: Vec<usize> =
            read.iter().chain(read_too.iter()).flat_map(|column| collect_columns(&column.expr)).map(|column| column.index()).collect();
        columns.sort_unstable();
        columns.dedup();
        let scan = together(config, [source, second], columns)?;
        let Partitioning::Range(ranges) = scan.output_partitioning() else { return Ok(None) };
        let Some(key) = ranges.ordering().first().expr.downcast_ref::<Column>().map(Column::index) else { return Ok(None) };
        let schema = scan.schema();
        let side = |chain: Chain<'_>, read: &[Arc<dyn PhysicalExpr>]| -> Result<Vec<Step>> {
            let read = read.iter().map(|column| reassign_expr_columns(Arc::clone(column), &schema)).collect::<Result<_>>()?;
            let first = Step::Compute(read, chain.scan.schema());
            Ok(std::iter::once(first).chain(chain.steps.into_iter().rev()).collect())
        };
        let expressions = |source: &ParquetSource| -> Vec<Arc<dyn PhysicalExpr>> {
            source.projection().into_iter().flat_map(|read| read.iter()).map(|column| Arc::clone(&column.expr)).collect()
        };
        let sides = [side(a, &expressions(source))?, side(b, &expressions(second))?];
        Ok(Some(Self { scan, sides, key }))
    }

    /// The n-th stream of the scan.
    ///
    /// # Errors
    /// Files that cannot be opened.
    pub(super) fn execute(&self, stream: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        self.scan.execute(stream, context)
    }

    /// The column of the scan whose ranges its streams are.
    pub(super) fn key(&self) -> usize {
        self.key
    }

    /// What the first (0) or the second (1) plan makes of a batch of the scan.
    ///
    /// # Errors
    /// Whatever its expressions say.
    pub(super) fn side(&self, side: usize, batch: &RecordBatch) -> Result<RecordBatch> {
        self.sides[side].iter().try_fold(batch.clone(), |batch, step| step.apply(&batch))
    }
}

/// A scan of `columns` in the files of `config`, leaving out what neither source wants.
fn together(config: &FileScanConfig, sources: [&ParquetSource; 2], columns: Vec<usize>) -> Result<Node> {
    let [first, second] = sources;
    let mut source = ParquetSource::new(first.table_schema().clone()).with_table_parquet_options(first.table_parquet_options().clone());
    if let Some(factory) = first.parquet_file_reader_factory() {
        source = source.with_parquet_file_reader_factory(Arc::clone(factory));
    }
    if let (Some(a), Some(b)) = (first.filter(), second.filter()) {
        source = source.with_predicate(Arc::new(BinaryExpr::new(a, Operator::Or, b)));
    }
    let config = FileScanConfigBuilder::from(config.clone()).with_source(Arc::new(source)).with_projection_indices(Some(columns))?;
    Ok(DataSourceExec::from_data_source(config.build()))
}
