//! Plans a scan of an event table that says what order it has.
//!
//! One run of files is a stock `DataSourceExec` with one partition for each range of users, declared as
//! `Partitioning::Range` (never `Hash`: the engine would pair it with its own hashes) and ordered by (user, time). Several
//! runs are merged range by range ([`super::merge`]). A scan that does not ask for the user reads plain: there is nothing
//! to keep in order. The ranges are padded to the plan's partitions, or the planner would shuffle.

use std::sync::Arc;

use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::common::{Result as EngineResult, ScalarValue, SplitPoint};
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{LexOrdering, Partitioning, PhysicalExpr, PhysicalSortExpr, RangePartitioning};
use datafusion::physical_plan::ExecutionPlan;

use super::columns::EventIndices;
use super::ingest::RANGES_MAX;
use super::merge::UserMergeExec;
use super::spans::{Run, UserSpan, lay_out, pad};
use crate::storage::delta::TableSnapshot;
use crate::storage::managed::{store_url, with_pruning};

/// As SQL sorts by default.
const ASCENDING: SortOptions = SortOptions { descending: false, nulls_first: false };

/// What a scan of an event table reads.
pub(in crate::storage) struct EventScan<'a> {
    pub(in crate::storage) state: &'a dyn Session,
    pub(in crate::storage) schema: &'a SchemaRef,
    pub(in crate::storage) indices: EventIndices,
    pub(in crate::storage) snapshot: &'a TableSnapshot,
    pub(in crate::storage) projection: Option<&'a Vec<usize>>,
    pub(in crate::storage) limit: Option<usize>,
    /// What rows that are not wanted do not fulfil; some of them may come all the same.
    pub(in crate::storage) pruning: Option<Arc<dyn PhysicalExpr>>,
}

impl EventScan<'_> {
    /// The ordered scan; `None` when there is no order to keep or none that files have.
    pub(in crate::storage) async fn plan(&self) -> EngineResult<Option<Arc<dyn ExecutionPlan>>> {
        let asked = |index: usize| self.projection.is_none_or(|projection| projection.contains(&index));
        let spans: Option<Vec<UserSpan>> = self.snapshot.spans.iter().cloned().collect();
        let Some(spans) = spans.filter(|_| asked(self.indices.user)) else { return Ok(None) };
        let partitions = self.state.config_options().execution.target_partitions;
        let ranges_max = if partitions == 1 { 1 } else { RANGES_MAX.max(partitions) };
        let Some(mut layout) = lay_out(&spans, ranges_max) else { return Ok(None) };
        pad(&mut layout.splits, &spans, partitions.saturating_sub(1));
        let keys: Vec<usize> = [self.indices.user, self.indices.time].into_iter().filter(|index| asked(*index)).collect();
        let mut children = Vec::with_capacity(layout.runs.len());
        for run in &layout.runs {
            children.push(self.run(run, &layout.splits, &keys).await?);
        }
        if let ([only], [Run { across: false, .. }]) = (children.as_slice(), layout.runs.as_slice()) {
            return Ok(Some(Arc::clone(only)));
        }
        let across = layout.runs.iter().map(|run| run.across).collect();
        let Some(child) = children.first() else { return Ok(None) };
        let (schema, user) = (child.schema(), self.schema.field(self.indices.user).name());
        let projected = keys.iter().map(|&index| self.schema.field(index).name().as_str());
        let order = ordering(&schema, projected)?;
        let partitioning = ranges(&schema, user, layout.splits)?;
        Ok(Some(Arc::new(UserMergeExec::new(children, across, order, partitioning, self.snapshot.statistics.num_rows))))
    }

    /// One run of files.
    async fn run(&self, run: &Run, splits: &[ScalarValue], keys: &[usize]) -> EngineResult<Arc<dyn ExecutionPlan>> {
        let file = |&file: &usize| self.snapshot.files[file].clone();
        let mut groups: Vec<FileGroup> = run.ranges.iter().map(|range| FileGroup::new(range.iter().map(file).collect())).collect();
        groups.resize(splits.len() + 1, FileGroup::default());
        let names = keys.iter().map(|&index| self.schema.field(index).name().as_str());
        let format = ParquetFormat::default().with_options(self.state.default_table_options().parquet);
        let source = with_pruning(format.file_source(TableSchema::from(Arc::clone(self.schema))), self.pruning.clone());
        let config = FileScanConfigBuilder::new(store_url()?, source)
            .with_file_groups(groups)
            .with_statistics(self.statistics(run)?)
            .with_projection_indices(self.projection.cloned())?
            // Rows of a file that lies across ranges are cut away above: the first ones may all be.
            .with_limit(self.limit.filter(|_| !run.across))
            .with_output_ordering(vec![ordering(self.schema, names)?])
            .with_output_partitioning(Some(ranges(self.schema, self.schema.field(self.indices.user).name(), splits.to_vec())?))
            .build();
        format.create_physical_plan(self.state, config).await
    }

    fn statistics(&self, run: &Run) -> EngineResult<datafusion::common::Statistics> {
        let mut files: Vec<usize> = run.ranges.iter().flatten().copied().collect();
        files.sort_unstable();
        files.dedup();
        let each = files.iter().filter_map(|&file| self.snapshot.files[file].statistics.as_deref());
        let merged = datafusion::common::Statistics::try_merge_iter(each, self.schema)?;
        // A file that lies across ranges is read in each of them, and cut above.
        Ok(if run.across { merged.to_inexact() } else { merged })
    }
}

fn ordering<'a>(schema: &Schema, names: impl Iterator<Item = &'a str>) -> EngineResult<LexOrdering> {
    let keys = names.map(|name| Ok(PhysicalSortExpr::new(Arc::new(Column::new_with_schema(name, schema)?), ASCENDING)));
    let keys = keys.collect::<EngineResult<Vec<_>>>()?;
    LexOrdering::new(keys).ok_or_else(|| datafusion::error::DataFusionError::Internal("an order of no columns".into()))
}

fn ranges(schema: &Schema, user: &str, splits: Vec<ScalarValue>) -> EngineResult<Partitioning> {
    let points = splits.into_iter().map(|split| SplitPoint::new(vec![split])).collect();
    Ok(Partitioning::Range(RangePartitioning::try_new(ordering(schema, std::iter::once(user))?, points)?))
}
