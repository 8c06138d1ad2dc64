//! What an event table knows of its ids: the files of the latest version, and where each commit's ids lie.
//!
//! Which file of ids belongs to which data files follows from their names ([`super::files`]). It counts only when it
//! speaks for exactly as many rows as those data files have; otherwise (another program wrote the data, a file was lost
//! or damaged) it is made again from them.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::stats::Precision;
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::physical_plan::execute_stream;
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::StreamExt;
use object_store::path::Path;
use portrait_udfs::error::{Error, Result};

use super::files::ids_name;
use super::ids::{IdSorter, IdsWriter, StoredIds, duplicates};
use crate::storage::delta::{DeltaTable, TableSnapshot};

/// Folder of the ids below a table's folder; Delta leaves names that begin with `_` alone.
pub(in crate::storage) const IDS: &str = "_ids";

/// Where the ids of this name lie.
pub(super) fn ids_location(table: &DeltaTable, name: &str) -> Path {
    table.folder().join(IDS).join(name)
}

/// The names of the files of ids that `snapshot` needs.
pub(in crate::storage) fn ids_names(snapshot: &TableSnapshot) -> std::collections::HashSet<String> {
    snapshot.files.iter().filter_map(|file| file.object_meta.location.filename()).map(ids_name).collect()
}

/// The ids of all events in `snapshot`. Files of ids that are missing are made.
pub(super) async fn known_ids(table: &DeltaTable, env: &Arc<RuntimeEnv>, snapshot: &TableSnapshot) -> Result<Vec<Arc<StoredIds>>> {
    let mut commits: BTreeMap<String, Vec<&PartitionedFile>> = BTreeMap::new();
    for file in &snapshot.files {
        let name = file.object_meta.location.filename().unwrap_or_default();
        commits.entry(ids_name(name)).or_default().push(file);
    }
    let mut known = Vec::with_capacity(commits.len());
    for (name, files) in &commits {
        known.push(commit_ids(table, env, name, files).await?);
    }
    table.remember_ids(&known);
    Ok(known)
}

async fn commit_ids(table: &DeltaTable, env: &Arc<RuntimeEnv>, name: &str, files: &[&PartitionedFile]) -> Result<Arc<StoredIds>> {
    let rows: Option<u64> = files.iter().map(|file| rows_of(file)).sum();
    let location = ids_location(table, name);
    let fits = |ids: &StoredIds| rows.is_none_or(|rows| rows == ids.rows());
    if let Some(known) = table.remembered_ids(&location).filter(|known| fits(known) && !known.is_damaged()) {
        return Ok(known);
    }
    if let Some(found) = StoredIds::open(table.store(), &location).await?.filter(|found| fits(found)) {
        return Ok(Arc::new(found));
    }
    make_ids(table, env, &location, files).await?;
    let made = StoredIds::open(table.store(), &location).await?;
    made.map(Arc::new).ok_or_else(|| Error::internal("ids of events were not written"))
}

pub(super) fn rows_of(file: &PartitionedFile) -> Option<u64> {
    match file.statistics.as_ref()?.num_rows {
        Precision::Exact(rows) => Some(rows as u64),
        _ => None,
    }
}

/// Reads the ids of data files and writes them down.
async fn make_ids(table: &DeltaTable, env: &Arc<RuntimeEnv>, location: &Path, files: &[&PartitionedFile]) -> Result<()> {
    let source = table.id_source().ok_or_else(|| Error::internal("ids of a table without any"))?;
    let files = files.iter().map(|file| (*file).clone()).collect();
    let mut rows = read_files(table, env, files, &source.columns()).await?;
    let (mut sorter, mut next, source) = (IdSorter::new(env), 0_u64, source.projected());
    while let Some(batch) = rows.next().await {
        let ids = source.ids(&batch.map_err(crate::storage::engine_error)?)?;
        let numbers: Vec<u64> = (next..).take(ids.len()).collect();
        next += ids.len() as u64;
        sorter.add(&ids, &numbers).await?;
    }
    let mut writer = IdsWriter::new(table.store(), location.clone());
    duplicates(&sorter.finish().await?, &[], &mut writer).await?;
    // Another program may have written an id twice: there are fewer ids than rows then.
    writer.finish(next).await
}

/// The columns `projection` of data files, in any order.
pub(crate) async fn read_files(
    table: &DeltaTable,
    env: &Arc<RuntimeEnv>,
    files: Vec<PartitionedFile>,
    projection: &[usize],
) -> Result<SendableRecordBatchStream> {
    let engine = crate::storage::engine_error;
    let context = SessionContext::new_with_config_rt(SessionConfig::new().with_target_partitions(1), Arc::clone(env));
    let state = context.state();
    let url = table.url()?;
    env.register_object_store(url.as_ref(), Arc::clone(table.store()));
    let format = ParquetFormat::default();
    let schema: SchemaRef = Arc::clone(table.schema());
    let config = FileScanConfigBuilder::new(url, format.file_source(TableSchema::from(schema)))
        .with_file_groups(vec![FileGroup::new(files)])
        .with_projection_indices(Some(projection.to_vec()))
        .map_err(engine)?
        .build();
    let plan = format.create_physical_plan(&state, config).await.map_err(engine)?;
    execute_stream(plan, context.task_ctx()).map_err(engine)
}
