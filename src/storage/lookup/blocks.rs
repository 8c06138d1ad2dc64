//! Where a file has which users: the pages of its user column.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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
        match value {
            ScalarValue::Int64(number) => number.map(Self::Number),
            other => match other.cast_to(&DataType::Int64) {
                Ok(ScalarValue::Int64(Some(number))) => Some(Self::Number(number)),
                _ => None,
            },
        }
    }

    /// Where a column in ascending order has the user; `None` for a type that is not looked into.
    pub(super) fn rows_in(&self, users: &ArrayRef) -> Option<Range<usize>> {
        fn range(length: usize, order: impl Fn(usize) -> std::cmp::Ordering) -> Range<usize> {
            let first = |reached: &dyn Fn(usize) -> bool| {
                let (mut low, mut high) = (0, length);
                while low < high {
                    let middle = low + (high - low) / 2;
                    if reached(middle) { high = middle } else { low = middle + 1 }
                }
                low
            };
            first(&|row| order(row).is_ge())..first(&|row| order(row).is_gt())
        }
        Some(match self {
            Self::Number(number) => {
                let values = users.as_primitive_opt::<Int64Type>()?.values();
                range(values.len(), |row| values[row].cmp(number))
            }
            Self::Text(text) => {
                if let Some(values) = users.as_string_view_opt() {
                    range(values.len(), |row| values.value(row).cmp(text))
                } else {
                    let values = users.as_string_opt::<i32>()?;
                    range(values.len(), |row| values.value(row).cmp(text))
                }
            }
        })
    }

    /// Whether [`rows_in`](Self::rows_in) may look into a column: it ascends, and has a user in each row.
    pub(super) fn ascend(users: &ArrayRef) -> bool {
        if users.null_count() > 0 {
            return false;
        }
        if let Some(values) = users.as_primitive_opt::<Int64Type>() {
            return values.values().is_sorted();
        }
        if let Some(values) = users.as_string_view_opt() {
            return values.iter().is_sorted();
        }
        users.as_string_opt::<i32>().is_some_and(|values| values.iter().is_sorted())
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

impl Block {
    /// Whether no user in it need be greater.
    fn begins_by(&self, user: &User) -> bool {
        self.bounds.0.as_ref().is_none_or(|least| least <= user)
    }

    /// Whether no user in it need be less.
    fn reaches(&self, user: &User) -> bool {
        self.bounds.1.as_ref().is_none_or(|most| user <= most)
    }
}

fn ascends(blocks: &[Block]) -> bool {
    let known = |bound: &Option<User>| bound.is_some();
    blocks.iter().all(|block| known(&block.bounds.0) && known(&block.bounds.1))
        && blocks.is_sorted_by(|a, b| a.bounds.0 <= b.bounds.0 && a.bounds.1 <= b.bounds.1)
}

/// A file's footer, and its blocks.
#[derive(Debug)]
pub(super) struct Footer {
    /// No other footer has it.
    pub(super) number: u64,
    pub(super) location: Path,
    pub(super) size: u64,
    metadata: ArrowReaderMetadata,
    /// `None` for a file whose pages are not described.
    blocks: Option<Vec<Block>>,
    /// Whether both bounds of the blocks are known and ascend.
    ascends: bool,
    /// Where the file has the users.
    pub(super) users: Option<usize>,
}

/// The number of the next footer.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Whether the statistics in the log leave room for the user.
pub(super) fn file_may_hold(file: &PartitionedFile, user: usize, value: &ScalarValue) -> bool {
    let Some(column) = file.statistics.as_ref().and_then(|statistics| statistics.column_statistics.get(user)) else { return true };
    let (least, most) = (column.min_value.get_value(), column.max_value.get_value());
    let Some(kind) = least.map(ScalarValue::data_type) else { return true };
    let outside = |value: &ScalarValue| least.is_some_and(|least| value < least) || most.is_some_and(|most| value > most);
    if value.data_type() == kind {
        return !outside(value);
    }
    value.cast_to(&kind).map_or(true, |value| !outside(&value))
}

impl Footer {
    pub(super) async fn read(store: &Arc<dyn ObjectStore>, location: &Path, size: u64, user: &str) -> Result<Self> {
        let mut file = StoredFile { store: Arc::clone(store), location: location.clone(), size, footer: None };
        let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Optional);
        let metadata = ArrowReaderMetadata::load_async(&mut file, options).await.map_err(parquet_error)?;
        let blocks = blocks(&metadata, user).map_err(parquet_error)?;
        let ascends = blocks.as_deref().is_some_and(ascends);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let users = metadata.schema().index_of(user).ok();
        Ok(Self { users, number, location: location.clone(), size, metadata, blocks, ascends })
    }

    /// The blocks that may hold the user's rows; `None` when that is not known.
    pub(super) fn blocks_of<'a>(&'a self, user: &'a User) -> Option<impl Iterator<Item = &'a Block>> {
        let all = self.blocks.as_deref()?;
        let some = if self.ascends {
            let start = all.partition_point(|block| !block.reaches(user));
            let end = start + all[start..].partition_point(|block| block.begins_by(user));
            &all[start..end]
        } else {
            all
        };
        Some(some.iter().filter(move |block| block.begins_by(user) && block.reaches(user)))
    }

    /// Where the file has a column.
    pub(super) fn place_of(&self, name: &str) -> Option<usize> {
        self.metadata.schema().index_of(name).ok()
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

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Int64Array, StringArray, StringViewArray};

    use super::*;

    #[test]
    fn rows_of_a_user_are_found_by_halving() {
        for length in 0..40_i64 {
            let numbers: Vec<i64> = (0..length).map(|row| row * row % 7 + row / 3).collect();
            let mut ascending = numbers.clone();
            ascending.sort_unstable();
            let column: ArrayRef = Arc::new(Int64Array::from(ascending.clone()));
            assert!(User::ascend(&column));
            let shuffled: ArrayRef = Arc::new(Int64Array::from(numbers.clone()));
            assert_eq!(User::ascend(&shuffled), numbers.is_sorted());
            let mut texts: Vec<String> = numbers.iter().map(|number| format!("u{number}")).collect();
            texts.sort_unstable();
            let columns: [ArrayRef; 2] = [Arc::new(StringArray::from(texts.clone())), Arc::new(StringViewArray::from_iter_values(&texts))];
            for user in -1..25_i64 {
                let rows = User::Number(user).rows_in(&column).unwrap();
                let own: Vec<usize> = (0..ascending.len()).filter(|row| ascending[*row] == user).collect();
                assert!(rows.clone().eq(own), "{user} in {ascending:?}: {rows:?}");
                for column in &columns {
                    let name = format!("u{user}");
                    let rows = User::Text(name.as_str().into()).rows_in(column).unwrap();
                    assert!(
                        User::ascend(column) && rows.clone().eq((0..texts.len()).filter(|row| texts[*row] == name)),
                        "{name}: {rows:?}"
                    );
                }
            }
        }
        let with_null: ArrayRef = Arc::new(Int64Array::from(vec![None, Some(1)]));
        assert!(!User::ascend(&with_null));
    }
}
