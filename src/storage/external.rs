//! External tables: files that others write, read where they lie.
//!
//! The files are listed at each scan, so a file that arrives is seen by the next statement and no listing can go stale.
//! Their statistics are kept per (path, size, time of change, an object's tag). A scan is DataFusion's stock one over the listed files.
//! Texts come as `Utf8View` whatever the writer chose (dictionary, large, plain); hive folders (`day=2024-05-01/`)
//! become columns.

use std::collections::{BTreeMap, HashMap};
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::config::ConfigFileType;
use datafusion::common::{ColumnStatistics, Result as EngineResult, ScalarValue, Statistics};
use datafusion::datasource::TableType;
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::csv::CsvFormat;
use datafusion::datasource::file_format::json::JsonFormat;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use object_store::{ObjectMeta, ObjectStore};
use portrait_udfs::error::{Code, Error, Result};
use serde::{Deserialize, Serialize};

use super::roots::{DataFile, DataRoots, Listing};
use super::types::readable_type;

/// Hive's name of the NULL partition.
const NULL_PARTITION: &str = "__HIVE_DEFAULT_PARTITION__";
/// Footers that are read at the same time.
const FOOTERS_AT_ONCE: usize = 16;

/// How the files of an external table are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileKind {
    /// Apache Parquet.
    Parquet,
    /// Comma separated values; options such as `has_header`, `delimiter`, `quote`, `escape`, `null_regex`, `compression`.
    Csv,
    /// One JSON object a line.
    Json,
}

impl FileKind {
    /// Reads the word after `STORED AS`.
    ///
    /// # Errors
    /// 0A000 for any other word.
    pub fn parse(word: &str) -> Result<Self> {
        match word.to_ascii_lowercase().as_str() {
            "parquet" => Ok(Self::Parquet),
            "csv" => Ok(Self::Csv),
            "json" | "ndjson" | "jsonl" => Ok(Self::Json),
            _ => Err(Error::new(Code::FeatureNotSupported, format!("file format \"{word}\" is not supported"))
                .hint("Supported formats are PARQUET, CSV and JSON.")),
        }
    }
}

/// The kind of file that a name's ending tells; compression endings are looked through.
pub(crate) fn kind_of_name(name: &str) -> Option<FileKind> {
    let lower = name.to_ascii_lowercase();
    let plain = compression_of(&lower).map_or(lower.as_str(), |(ending, _)| &lower[..lower.len() - ending.len()]);
    match plain.rsplit_once('.')?.1 {
        "parquet" | "pq" => Some(FileKind::Parquet),
        "csv" | "tsv" => Some(FileKind::Csv),
        "json" | "jsonl" | "ndjson" => Some(FileKind::Json),
        _ => None,
    }
}

fn compression_of(name: &str) -> Option<(&'static str, &'static str)> {
    [(".gz", "gzip"), (".zst", "zstd"), (".bz2", "bzip2"), (".xz", "xz")].into_iter().find(|(ending, _)| name.ends_with(ending))
}

/// What defines an external table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExternalSource {
    /// Format of the files.
    pub kind: FileKind,
    /// File, folder or glob under the data roots, as written.
    pub location: String,
    /// Hive columns, in the order of the folders.
    pub partitions: Vec<String>,
    /// Options of the format, keys in lower case.
    pub options: BTreeMap<String, String>,
}

/// An external table as DataFusion sees it.
#[derive(Debug)]
pub struct ExternalTable {
    name: String,
    source: ExternalSource,
    roots: Arc<DataRoots>,
    file_schema: SchemaRef,
    schema: SchemaRef,
    partitions: Vec<FieldRef>,
    known: parking_lot::Mutex<HashMap<PathBuf, KnownFile>>,
}

#[derive(Debug, Clone)]
struct KnownFile {
    meta: ObjectMeta,
    statistics: Arc<Statistics>,
}

impl ExternalTable {
    /// A table whose columns are known: those of the files, then the hive columns.
    ///
    /// # Errors
    /// 42703 for a hive column that `schema` does not have.
    pub fn new(name: &str, source: ExternalSource, schema: SchemaRef, roots: Arc<DataRoots>) -> Result<Self> {
        let mut partitions = Vec::new();
        for column in &source.partitions {
            let (_, field) = schema
                .fields()
                .find(column)
                .ok_or_else(|| Error::new(Code::UndefinedColumn, format!("partition column \"{column}\" does not exist")))?;
            partitions.push(Arc::clone(field));
        }
        let of_files = schema.fields().iter().filter(|field| !source.partitions.contains(field.name()));
        let file_schema = Arc::new(Schema::new(of_files.cloned().collect::<Fields>()));
        let all: Fields = file_schema.fields().iter().cloned().chain(partitions.iter().cloned()).collect();
        Ok(Self {
            name: name.to_owned(),
            source,
            roots,
            file_schema,
            schema: Arc::new(Schema::new(all)),
            partitions,
            known: parking_lot::Mutex::default(),
        })
    }

    /// Finds the columns of `source`: `declared` ones, or those that its files have. Fills in hive columns and
    /// compression that the files' names tell. The location must exist; it may be empty only with declared columns.
    ///
    /// # Errors
    /// [`DataRoots::list`]'s; 22023 when there is nothing to read columns from; 42804 when files disagree.
    pub async fn discover(
        session: &dyn Session,
        roots: &Arc<DataRoots>,
        mut source: ExternalSource,
        declared: Option<SchemaRef>,
    ) -> Result<(ExternalSource, SchemaRef)> {
        let listing = list(roots, &source).await?;
        if source.kind != FileKind::Parquet
            && !source.options.contains_key("compression")
            && let Some((_, compression)) = listing.files.first().and_then(|file| compression_of(file.path.to_str()?))
        {
            source.options.insert("compression".into(), compression.into());
        }
        if source.partitions.is_empty() && declared.is_none() {
            source.partitions = common_hive_keys(&listing);
        }
        format_of(session, &source)?;
        if let Some(declared) = declared {
            return Ok((source.clone(), with_partitions(&declared, &source.partitions)));
        }
        if listing.files.is_empty() {
            return Err(Error::invalid(format!("no {} files at location \"{}\"", kind_name(source.kind), source.location))
                .hint("Name the columns in the statement, or check the location; names that start with \"_\" or \".\" are left out."));
        }
        let schema = infer(session, &source, &listing).await?;
        source.partitions.retain(|column| schema.fields().find(column).is_none());
        Ok((source.clone(), with_partitions(&schema, &source.partitions)))
    }

    /// Changes whenever a file is added, removed or written anew.
    ///
    /// # Errors
    /// [`DataRoots::list`]'s.
    pub async fn fingerprint(&self) -> Result<String> {
        let listing = list(&self.roots, &self.source).await?;
        let mut hash = blake3::Hasher::new();
        for part in [format!("{:?}", self.source), format!("{:?}", self.schema)] {
            hash.update(part.as_bytes());
        }
        for file in &listing.files {
            hash.update(file.path.as_os_str().as_encoded_bytes());
            let modified = file.meta.last_modified.timestamp_nanos_opt().unwrap_or_default();
            hash.update(&i128::from(modified).to_le_bytes());
            hash.update(&file.meta.size.to_le_bytes());
            hash.update(file.meta.e_tag.as_deref().unwrap_or_default().as_bytes());
        }
        Ok(format!("files:{}", hash.finalize().to_hex()))
    }

    async fn plan(&self, state: &dyn Session, projection: Option<&Vec<usize>>, limit: Option<usize>) -> Result<Arc<dyn ExecutionPlan>> {
        let listing = list(&self.roots, &self.source).await?;
        let format = format_of(state, &self.source)?;
        if listing.files.is_empty() {
            let schema = match projection {
                Some(indices) => Arc::new(self.schema.project(indices).map_err(|error| Error::internal(error.to_string()))?),
                None => Arc::clone(&self.schema),
            };
            return Ok(Arc::new(EmptyExec::new(schema)));
        }
        let mut files = Vec::with_capacity(listing.files.len());
        for file in &listing.files {
            let values = self.partition_values(&listing.base, &file.path)?;
            files.push(PartitionedFile::new_from_meta(file.meta.clone()).with_partition_values(values));
        }
        let mut statistics = Statistics::new_unknown(&self.schema);
        if self.source.kind == FileKind::Parquet && state.config_options().execution.collect_statistics {
            files = self.with_statistics(state, format.as_ref(), &listing, files).await?;
            let each = files.iter().filter_map(|file| file.statistics.as_deref());
            statistics = Statistics::try_merge_iter(each, &self.schema).map_err(super::engine_error)?;
        }
        let table_schema = TableSchema::builder(Arc::clone(&self.file_schema)).with_table_partition_cols(self.partitions.clone()).build();
        let groups = FileGroup::new(files).split_files(state.config_options().execution.target_partitions);
        let (url, _) = store_of(state, &listing)?;
        let config = FileScanConfigBuilder::new(url, format.file_source(table_schema))
            .with_file_groups(groups)
            .with_statistics(statistics)
            .with_projection_indices(projection.cloned())
            .map_err(super::engine_error)?
            .with_limit(limit)
            .build();
        format.create_physical_plan(state, config).await.map_err(super::engine_error)
    }

    /// Reads the footers that changed; the others' statistics are known.
    async fn with_statistics(
        &self,
        state: &dyn Session,
        format: &dyn FileFormat,
        listing: &Listing,
        files: Vec<PartitionedFile>,
    ) -> Result<Vec<PartitionedFile>> {
        let (_, store) = store_of(state, listing)?;
        let reads = listing.files.iter().zip(files).map(|(on_disk, file)| self.known_file(state, &store, format, on_disk, file));
        // Collected first: the compiler cannot tell that a lazily mapped stream of such futures is `Send`.
        let found: Vec<_> = stream::iter(reads.collect::<Vec<_>>()).buffered(FOOTERS_AT_ONCE).try_collect().await?;
        let (files, known): (Vec<_>, Vec<_>) = found.into_iter().unzip();
        // Only the files of now: what is gone must not stay in memory.
        *self.known.lock() = listing.files.iter().map(|file| file.path.clone()).zip(known).collect();
        Ok(files)
    }

    async fn known_file(
        &self,
        state: &dyn Session,
        store: &Arc<dyn ObjectStore>,
        format: &dyn FileFormat,
        on_disk: &DataFile,
        file: PartitionedFile,
    ) -> Result<(PartitionedFile, KnownFile)> {
        let known = self.known.lock().get(&on_disk.path).cloned();
        let statistics = match known.filter(|known| known.meta == on_disk.meta) {
            Some(known) => known.statistics,
            None => {
                let read = format.infer_stats(state, store, Arc::clone(&self.file_schema), &file.object_meta);
                Arc::new(whole(&on_disk.path, read).await?)
            }
        };
        let file = correct_nulls(file.with_statistics(Arc::clone(&statistics)));
        Ok((file, KnownFile { meta: on_disk.meta.clone(), statistics }))
    }

    fn partition_values(&self, base: &Path, file: &Path) -> Result<Vec<ScalarValue>> {
        let keys = hive_keys(base, file);
        self.partitions
            .iter()
            .map(|field| {
                let found = keys.iter().find(|(key, _)| key == field.name());
                let Some((_, text)) = found else {
                    return Err(Error::invalid(format!(
                        "file \"{}\" has no folder for partition column \"{}\"",
                        file.display(),
                        field.name()
                    ))
                    .hint(format!("Each file must lie in a folder such as \"{}=…\".", field.name())));
                };
                if text == NULL_PARTITION {
                    return ScalarValue::try_from(field.data_type()).map_err(super::engine_error);
                }
                ScalarValue::try_from_string(text.clone(), field.data_type()).map_err(|_| {
                    Error::new(Code::InvalidText, format!("invalid value \"{text}\" for partition column \"{}\"", field.name()))
                        .detail(format!("It is the name of a folder of \"{}\".", file.display()))
                })
            })
            .collect()
    }
}

#[async_trait]
impl TableProvider for ExternalTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> EngineResult<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        // A filter is applied above the scan, so the scan itself must not stop early.
        let limit = limit.filter(|_| filters.is_empty());
        Ok(self.plan(state, projection, limit).await?)
    }

    async fn insert_into(
        &self,
        _state: &dyn Session,
        _input: Arc<dyn ExecutionPlan>,
        _operation: datafusion::logical_expr::dml::InsertOp,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        Err(Error::new(Code::FeatureNotSupported, format!("cannot insert into external table \"{}\"", self.name))
            .hint("Create a table of its own with CREATE TABLE … AS SELECT.")
            .into())
    }
}

async fn list(roots: &Arc<DataRoots>, source: &ExternalSource) -> Result<Listing> {
    let kind = source.kind;
    roots.list(&source.location, move |name| kind_of_name(name) == Some(kind) || other_text(name, kind)).await
}

/// CSV files are often called `.txt`.
fn other_text(name: &str, kind: FileKind) -> bool {
    kind == FileKind::Csv && name.to_ascii_lowercase().ends_with(".txt")
}

/// DataFusion's reader of the files, with the table's options. An unknown option is 22023.
fn format_of(session: &dyn Session, source: &ExternalSource) -> Result<Arc<dyn FileFormat>> {
    let mut options = session.default_table_options();
    options.set_config_format(match source.kind {
        FileKind::Parquet => ConfigFileType::PARQUET,
        FileKind::Csv => ConfigFileType::CSV,
        FileKind::Json => ConfigFileType::JSON,
    });
    for (key, value) in &source.options {
        let set = datafusion::common::config::ConfigField::set(&mut options, &format!("format.{key}"), value);
        set.map_err(|error| {
            Error::invalid(format!("invalid option \"{key}\" for a {} table: {}", kind_name(source.kind), error.strip_backtrace()))
        })?;
    }
    let format: Arc<dyn FileFormat> = match source.kind {
        FileKind::Parquet => Arc::new(ParquetFormat::default().with_options(options.parquet)),
        FileKind::Csv => Arc::new(CsvFormat::default().with_options(options.csv)),
        FileKind::Json => Arc::new(JsonFormat::default().with_options(options.json)),
    };
    Ok(format)
}

async fn infer(session: &dyn Session, source: &ExternalSource, listing: &Listing) -> Result<Schema> {
    let format = format_of(session, source)?;
    let (_, store) = store_of(session, listing)?;
    let reads: Vec<_> = listing.files.iter().map(|file| file_columns(session, &store, format.as_ref(), file)).collect();
    let schemas: Vec<_> = stream::iter(reads).buffered(FOOTERS_AT_ONCE).try_collect().await?;
    let mut columns: Vec<Field> = Vec::new();
    for (path, schema) in schemas {
        for field in schema.fields() {
            let data_type = readable_type(field.data_type());
            match columns.iter_mut().find(|column| column.name() == field.name()) {
                None => columns.push(Field::new(field.name(), data_type, true)),
                Some(column) => {
                    let wider = wider_type(column.data_type(), &data_type).ok_or_else(|| {
                        Error::new(Code::DatatypeMismatch, format!("files disagree about the type of column \"{}\"", field.name()))
                            .detail(format!("It is {} in \"{}\" and {} in files before it.", data_type, path.display(), column.data_type()))
                            .hint("Name the columns and their types in CREATE EXTERNAL TABLE.")
                    })?;
                    *column = Field::new(field.name(), wider, true);
                }
            }
        }
    }
    Ok(Schema::new(columns))
}

async fn file_columns<'a>(
    session: &dyn Session,
    store: &Arc<dyn ObjectStore>,
    format: &dyn FileFormat,
    file: &'a DataFile,
) -> Result<(&'a Path, SchemaRef)> {
    let meta = [file.meta.clone()];
    Ok((&file.path, whole(&file.path, format.infer_schema(session, store, &meta)).await?))
}

/// DataFusion takes a hive value for not NULL when it fills in statistics; `count(day)` would count the NULL folder.
fn correct_nulls(mut file: PartitionedFile) -> PartitionedFile {
    if let Some(statistics) = file.statistics.as_mut().filter(|_| file.partition_values.iter().any(ScalarValue::is_null)) {
        let statistics = Arc::make_mut(statistics);
        let rows = statistics.num_rows;
        let of_files = statistics.column_statistics.len() - file.partition_values.len();
        for (column, value) in statistics.column_statistics[of_files..].iter_mut().zip(&file.partition_values) {
            if value.is_null() {
                *column = ColumnStatistics { null_count: rows, ..ColumnStatistics::new_unknown() };
            }
        }
    }
    file
}

/// The store of these files, and the name that the session's runtime knows it by.
fn store_of(session: &dyn Session, listing: &Listing) -> Result<(ObjectStoreUrl, Arc<dyn ObjectStore>)> {
    let runtime = session.runtime_env();
    let Some(bucket) = &listing.bucket else {
        let url = ObjectStoreUrl::local_filesystem();
        let store = runtime.object_store(&url).map_err(super::engine_error)?;
        return Ok((url, store));
    };
    if runtime.object_store(&bucket.url).is_err() {
        runtime.register_object_store(bucket.url.as_ref(), Arc::clone(&bucket.objects));
    }
    Ok((bucket.url.clone(), Arc::clone(&bucket.objects)))
}

/// The type that holds the values of both without loss, or as well as a reader can expect.
fn wider_type(a: &DataType, b: &DataType) -> Option<DataType> {
    use DataType as T;
    if a == b {
        return Some(a.clone());
    }
    match (a, b) {
        (T::Null, other) | (other, T::Null) => Some(other.clone()),
        (T::Timestamp(one, zone), T::Timestamp(two, other)) if zone == other => Some(T::Timestamp(finer(*one, *two), zone.clone())),
        (T::Date32, T::Timestamp(unit, zone)) | (T::Timestamp(unit, zone), T::Date32) => Some(T::Timestamp(*unit, zone.clone())),
        (a, b) if a.is_numeric() && b.is_numeric() => datafusion::logical_expr::type_coercion::binary::type_union_coercion(a, b),
        _ => None,
    }
}

fn finer(a: TimeUnit, b: TimeUnit) -> TimeUnit {
    let rank = |unit| match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 1,
        TimeUnit::Microsecond => 2,
        TimeUnit::Nanosecond => 3,
    };
    if rank(a) >= rank(b) { a } else { b }
}

/// The columns of the files and, at the end, the hive columns: with their declared type, or as text.
fn with_partitions(schema: &Schema, partitions: &[String]) -> SchemaRef {
    let mut fields: Vec<FieldRef> = schema.fields().iter().filter(|field| !partitions.contains(field.name())).cloned().collect();
    for column in partitions {
        let declared = schema.fields().find(column).map(|(_, field)| Arc::clone(field));
        fields.push(declared.unwrap_or_else(|| Arc::new(Field::new(column, DataType::Utf8View, true))));
    }
    Arc::new(Schema::new(fields))
}

/// The hive columns that every file's folders name in the same order.
fn common_hive_keys(listing: &Listing) -> Vec<String> {
    let mut keys =
        listing.files.iter().map(|file| hive_keys(&listing.base, &file.path).into_iter().map(|(key, _)| key).collect::<Vec<_>>());
    let Some(first) = keys.next() else { return Vec::new() };
    if keys.all(|other| other == first) { first } else { Vec::new() }
}

fn hive_keys(base: &Path, file: &Path) -> Vec<(String, String)> {
    let folders = file.strip_prefix(base).ok().and_then(Path::parent).map(Path::components);
    let parts = folders.into_iter().flatten().filter_map(|part| {
        let (key, value) = part.as_os_str().to_str()?.split_once('=')?;
        Some((percent_decoded(key), percent_decoded(value)))
    });
    parts.collect()
}

/// Hive writes special characters as `%2F`.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let code = (byte == b'%').then(|| tail.get(..2)).flatten().and_then(|hex| std::str::from_utf8(hex).ok());
        match code.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(decoded) => {
                bytes.push(decoded);
                rest = &tail[2..];
            }
            None => {
                bytes.push(byte);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

/// Reads a footer. The Parquet reader trusts some lengths in it, and panics where a damaged file lies.
async fn whole<T>(path: &Path, read: impl Future<Output = EngineResult<T>>) -> Result<T> {
    match AssertUnwindSafe(read).catch_unwind().await {
        Ok(read) => read.map_err(|error| damaged(path, error)),
        Err(_) => Err(Error::new(Code::DataCorrupted, format!("file \"{}\" cannot be read: its footer is damaged", shown(path)))),
    }
}

fn damaged(path: &Path, error: datafusion::error::DataFusionError) -> Error {
    // A store that does not answer says so itself.
    if let Some(found) = Error::find(&error) {
        return found.clone();
    }
    let error = super::engine_error(error);
    match error.code {
        Code::Io if path.to_str().is_some_and(super::objects::is_remote) => error,
        Code::Io | Code::DataCorrupted => Error::new(Code::DataCorrupted, format!("file \"{}\" cannot be read: {error}", shown(path))),
        // What the reader did not expect of a file is the file's fault.
        Code::Internal => Error::new(Code::DataCorrupted, format!("file \"{}\" cannot be read: it is damaged", shown(path))),
        _ => error,
    }
}

/// A file by its name and folder: who reads a location need not know where the server keeps it.
fn shown(path: &Path) -> String {
    let parts: Vec<_> = path.components().map(|part| part.as_os_str().to_string_lossy()).collect();
    parts[parts.len().saturating_sub(2)..].join("/")
}

fn kind_name(kind: FileKind) -> &'static str {
    match kind {
        FileKind::Parquet => "PARQUET",
        FileKind::Csv => "CSV",
        FileKind::Json => "JSON",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hive_folders_become_values() {
        let keys = hive_keys(Path::new("/d"), Path::new("/d/day=2024-05-01/city=K%2FB%C3%B6/x.parquet"));
        let keys: Vec<_> = keys.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(keys, [("day", "2024-05-01"), ("city", "K/Bö")]);
        assert_eq!(percent_decoded("100%"), "100%");
    }

    #[test]
    fn names_tell_kinds() {
        assert_eq!(kind_of_name("a.b.PARQUET"), Some(FileKind::Parquet));
        assert_eq!(kind_of_name("x.csv.gz"), Some(FileKind::Csv));
        assert_eq!(kind_of_name("events"), None);
        assert_eq!(kind_of_name("notes.txt"), None);
        assert_eq!(FileKind::parse("avro").unwrap_err().code, Code::FeatureNotSupported);
    }

    #[test]
    fn types_of_files_are_widened_only_where_nothing_is_lost() {
        let times = |unit| DataType::Timestamp(unit, None);
        assert_eq!(wider_type(&DataType::Int32, &DataType::Int64), Some(DataType::Int64));
        assert_eq!(wider_type(&DataType::Float32, &DataType::Float64), Some(DataType::Float64));
        assert_eq!(wider_type(&times(TimeUnit::Millisecond), &times(TimeUnit::Nanosecond)), Some(times(TimeUnit::Nanosecond)));
        assert_eq!(wider_type(&DataType::Utf8View, &DataType::Int64), None);
    }
}
