//! Where a file has which users: the pages of its user column.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::common::ScalarValue;
use datafusion::datasource::listing::PartitionedFile;
use futures::FutureExt;
use futures::future::BoxFuture;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, RowSelection, RowSelector};
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::arrow::{ParquetRecordBatchStreamBuilder, ProjectionMask};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use portrait_udfs::error::Result;

use crate::storage::writer::parquet_error;

/// A user by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum User {
    Number(i64),
    Text(Box<str>),
}

impl User {
    pub(super) fn of(value: &ScalarValue) -> Option<Self> {
        if let Some(text) = value.try_as_str() {
            return text.map(|text| Self::Text(text.into()));
        }
        match value.cast_to(&DataType::Int64) {
            Ok(ScalarValue::Int64(Some(number))) => Some(Self::Number(number)),
            _ => None,
        }
    }

    fn each(values: &ArrayRef) -> Option<Vec<Option<Self>>> {
        if values.data_type().is_signed_integer() {
            let numbers = cast(values, &DataType::Int64).ok()?;
            return Some(numbers.as_primitive::<Int64Type>().iter().map(|number| number.map(Self::Number)).collect());
        }
        let texts = cast(values, &DataType::Utf8View).ok()?;
        Some(texts.as_string_view().iter().map(|text| text.map(|text| Self::Text(text.into()))).collect())
    }
}

/// Rows of one row group that lie in one page of the user column.
#[derive(Debug, Clone)]
pub(super) struct Block {
    pub(super) row_group: usize,
    pub(super) rows: Range<usize>,
    /// Its number in the file.
    pub(super) number: u32,
    /// Bounds of the users; `None` = not known.
    bounds: (Option<User>, Option<User>),
}

/// A file's footer, and its blocks.
#[derive(Debug)]
pub(super) struct Footer {
    pub(super) location: Path,
    pub(super) size: u64,
    metadata: ArrowReaderMetadata,
    /// `None` for a file whose pages are not described.
    blocks: Option<Vec<Block>>,
}

/// Whether the statistics in the log leave room for the user.
pub(super) fn file_may_hold(file: &PartitionedFile, user: usize, value: &ScalarValue) -> bool {
    let Some(column) = file.statistics.as_ref().and_then(|statistics| statistics.column_statistics.get(user)) else { return true };
    let value = match column.min_value.get_value() {
        Some(bound) => value.cast_to(&bound.data_type()).ok(),
        None => None,
    };
    let Some(value) = value else { return true };
    let before = column.min_value.get_value().is_some_and(|least| value < *least);
    let after = column.max_value.get_value().is_some_and(|most| value > *most);
    !before && !after
}

impl Footer {
    pub(super) async fn read(store: &Arc<dyn ObjectStore>, location: &Path, size: u64, user: &str) -> Result<Self> {
        let mut file = StoredFile { store: Arc::clone(store), location: location.clone(), size, footer: None };
        let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Optional);
        let metadata = ArrowReaderMetadata::load_async(&mut file, options).await.map_err(parquet_error)?;
        let blocks = blocks(&metadata, user).map_err(parquet_error)?;
        Ok(Self { location: location.clone(), size, metadata, blocks })
    }

    /// The blocks that may hold the user's rows; `None` when that is not known.
    pub(super) fn blocks_of(&self, user: &User) -> Option<Vec<Block>> {
        let may_hold = |block: &&Block| {
            let (least, most) = &block.bounds;
            least.as_ref().is_none_or(|least| least <= user) && most.as_ref().is_none_or(|most| user <= most)
        };
        Some(self.blocks.as_ref()?.iter().filter(may_hold).cloned().collect())
    }

    /// Bytes in memory, about.
    pub(super) fn bytes(&self) -> usize {
        self.metadata.metadata().memory_size() + self.blocks.as_ref().map_or(0, |blocks| blocks.len() * size_of::<Block>())
    }

    /// Some columns of a block, in the order of their names; `None` for a name that the file does not have.
    pub(super) async fn columns(&self, store: &Arc<dyn ObjectStore>, block: &Block, names: &[&str]) -> Result<Vec<Option<ArrayRef>>> {
        let schema = self.metadata.schema();
        let roots: Vec<usize> = names.iter().filter_map(|name| schema.index_of(name).ok()).collect();
        let mask = ProjectionMask::roots(self.metadata.parquet_schema(), roots);
        let select = vec![RowSelector::skip(block.rows.start), RowSelector::select(block.rows.len())];
        let file = StoredFile {
            store: Arc::clone(store),
            location: self.location.clone(),
            size: self.size,
            footer: Some(Arc::clone(self.metadata.metadata())),
        };
        let mut rows = ParquetRecordBatchStreamBuilder::new_with_metadata(file, self.metadata.clone())
            .with_row_groups(vec![block.row_group])
            .with_row_selection(RowSelection::from(select))
            .with_projection(mask)
            .with_batch_size(block.rows.len())
            .build()
            .map_err(parquet_error)?;
        let mut batches = Vec::new();
        while let Some(batch) = futures::StreamExt::next(&mut rows).await {
            batches.push(batch.map_err(parquet_error)?);
        }
        let batch = datafusion::arrow::compute::concat_batches(rows.schema(), &batches).map_err(|error| parquet_error(error.into()))?;
        if batch.num_rows() != block.rows.len() {
            return Err(parquet_error(ParquetError::General(format!("{} has fewer rows than its footer says", self.location))));
        }
        Ok(names.iter().map(|name| batch.column_by_name(name).map(Arc::clone)).collect())
    }
}

/// The pages of the user column, with their bounds; `None` when the file does not describe them.
fn blocks(metadata: &ArrowReaderMetadata, user: &str) -> ParquetResult<Option<Vec<Block>>> {
    let file = metadata.metadata();
    let (Some(columns), Some(offsets)) = (file.column_index(), file.offset_index()) else { return Ok(None) };
    let converter = StatisticsConverter::try_new(user, metadata.schema(), metadata.parquet_schema())?;
    let mut found = Vec::new();
    for group in 0..file.num_row_groups() {
        let each = [group];
        let least = User::each(&converter.data_page_mins(columns, offsets, &each)?);
        let most = User::each(&converter.data_page_maxes(columns, offsets, &each)?);
        let counts = converter.data_page_row_counts(offsets, file.row_groups(), &each)?;
        let (Some(least), Some(most), Some(counts)) = (least, most, counts) else { return Ok(None) };
        let mut start = 0;
        for ((least, most), rows) in least.into_iter().zip(most).zip(counts.values()) {
            let end = start + usize::try_from(*rows).unwrap_or_default();
            let number = u32::try_from(found.len()).unwrap_or(u32::MAX);
            found.push(Block { row_group: group, rows: start..end, number, bounds: (least, most) });
            start = end;
        }
        if start as i64 != file.row_group(group).num_rows() {
            return Ok(None);
        }
    }
    Ok(Some(found))
}

/// A file of the store as Parquet's reader wants it.
struct StoredFile {
    store: Arc<dyn ObjectStore>,
    location: Path,
    size: u64,
    footer: Option<Arc<ParquetMetaData>>,
}

fn stored(error: object_store::Error) -> ParquetError {
    ParquetError::External(Box::new(error))
}

impl AsyncFileReader for StoredFile {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        async move { self.store.get_range(&self.location, range).await.map_err(stored) }.boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, ParquetResult<Vec<Bytes>>> {
        async move { self.store.get_ranges(&self.location, &ranges).await.map_err(stored) }.boxed()
    }

    fn get_metadata<'a>(&'a mut self, _: Option<&'a ArrowReaderOptions>) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        async move {
            if let Some(footer) = &self.footer {
                return Ok(Arc::clone(footer));
            }
            let size = self.size;
            let reader = ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Optional);
            Ok(Arc::new(reader.load_and_finish(self, size).await?))
        }
        .boxed()
    }
}
