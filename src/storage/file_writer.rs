//! One Parquet file whose row groups are encoded on other threads while their rows come.
//!
//! Rows gather until they make a row group; a thread encodes it while the next one fills, and several at a time where there are
//! processors. They are written in the order in which they were filled, so a file is the same however many threads took part.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use bytes::Bytes;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use object_store::buffered::BufWriter;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{ArrowColumnChunk, ArrowColumnWriter, ArrowRowGroupWriterFactory, ArrowWriterOptions, compute_leaves};
use parquet::arrow::async_writer::AsyncFileWriter;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use tokio::task::JoinHandle;

use super::checksums::Summed;

/// Row groups that are encoded at once, at most; fewer where there are fewer processors.
const ENCODERS_MAX: usize = 4;
/// A row group of no more rows is not worth a thread.
const ROWS_AT_HAND: usize = 4096;
/// Rows of a row group where the properties do not say.
const GROUP_ROWS: usize = 1 << 20;

/// A file that is being written.
pub(super) struct FileWriter {
    file: SerializedFileWriter<Vec<u8>>,
    groups: ArrowRowGroupWriterFactory,
    schema: SchemaRef,
    output: Summed<BufWriter>,
    /// Of the row group that is being filled.
    filling: Vec<RecordBatch>,
    rows: usize,
    bytes: usize,
    /// Where it ends.
    group_rows: usize,
    group_bytes: usize,
    encoding: VecDeque<Encoding>,
    encoders: usize,
    begun: usize,
}

/// A row group on its way, and the bytes of its rows.
struct Encoding {
    bytes: usize,
    chunks: JoinHandle<Result<Vec<ArrowColumnChunk>>>,
}

impl FileWriter {
    /// A file whose row groups have `group_bytes` of rows at most, or what the properties say.
    pub(super) fn new(output: BufWriter, schema: &SchemaRef, properties: &WriterProperties, group_bytes: usize) -> Result<Self> {
        // Without Arrow's own schema in the file: Delta's log is what says the types.
        let options = ArrowWriterOptions::new().with_properties(properties.clone()).with_skip_arrow_metadata(true);
        let (file, groups) = ArrowWriter::try_new_with_options(vec![], Arc::clone(schema), options)?.into_serialized_writer()?;
        Ok(Self {
            file,
            groups,
            schema: Arc::clone(schema),
            output: Summed::new(output),
            filling: vec![],
            rows: 0,
            bytes: 0,
            group_rows: properties.max_row_group_row_count().unwrap_or(GROUP_ROWS),
            group_bytes,
            encoding: VecDeque::new(),
            encoders: std::thread::available_parallelism().map_or(1, usize::from).min(ENCODERS_MAX),
            begun: 0,
        })
    }

    /// Bytes of the whole file, once it is finished.
    pub(super) fn written(&self) -> Arc<AtomicU64> {
        self.output.written()
    }

    /// Bytes of the row groups that are written.
    pub(super) fn bytes_written(&self) -> usize {
        self.file.bytes_written()
    }

    /// Bytes that are in memory: rows, and what they are encoded to meanwhile, which is no more than they.
    pub(super) fn memory_size(&self) -> usize {
        self.bytes + 2 * self.encoding.iter().map(|group| group.bytes).sum::<usize>()
    }

    /// Takes rows.
    pub(super) async fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        let mut at = 0;
        while at < rows.num_rows() {
            let part = rows.slice(at, (self.group_rows - self.rows).min(rows.num_rows() - at));
            at += part.num_rows();
            self.rows += part.num_rows();
            self.bytes += bytes_of(&part);
            self.filling.push(part);
            if self.rows == self.group_rows || self.bytes >= self.group_bytes {
                self.end_group().await?;
            }
        }
        Ok(())
    }

    /// Writes everything, and the footer.
    pub(super) async fn finish(mut self) -> Result<ParquetMetaData> {
        if self.rows > ROWS_AT_HAND {
            self.end_group().await?;
        }
        while let Some(next) = self.encoding.pop_front() {
            self.append(next).await?;
        }
        if self.rows > 0 {
            let (columns, rows) = (self.groups.create_column_writers(self.begun)?, std::mem::take(&mut self.filling));
            let chunks = encode(&self.schema, columns, &rows)?;
            self.append_chunks(chunks)?;
        }
        let footer = self.file.finish()?;
        self.send().await?;
        self.output.complete().await?;
        Ok(footer)
    }

    /// Begins to encode what was filled; waits for an earlier row group when there are as many as may be.
    async fn end_group(&mut self) -> Result<()> {
        while let Some(done) = self.encoding.pop_front_if(|next| next.chunks.is_finished()) {
            self.append(done).await?;
        }
        if self.encoding.len() >= self.encoders
            && let Some(next) = self.encoding.pop_front()
        {
            self.append(next).await?;
        }
        let columns = self.groups.create_column_writers(self.begun)?;
        let (rows, schema) = (std::mem::take(&mut self.filling), Arc::clone(&self.schema));
        let chunks = tokio::task::spawn_blocking(move || encode(&schema, columns, &rows));
        self.encoding.push_back(Encoding { bytes: self.bytes, chunks });
        (self.rows, self.bytes) = (0, 0);
        self.begun += 1;
        Ok(())
    }

    async fn append(&mut self, group: Encoding) -> Result<()> {
        let chunks = group.chunks.await.map_err(|error| ParquetError::External(Box::new(error)))??;
        self.append_chunks(chunks)?;
        self.send().await
    }

    fn append_chunks(&mut self, chunks: Vec<ArrowColumnChunk>) -> Result<()> {
        let mut group = self.file.next_row_group()?;
        for chunk in chunks {
            chunk.append_to_row_group(&mut group)?;
        }
        group.close().map(drop)
    }

    async fn send(&mut self) -> Result<()> {
        let bytes = Bytes::from(std::mem::take(self.file.inner_mut()));
        self.output.write(bytes).await
    }
}

/// The rows of a row group, column by column.
fn encode(schema: &SchemaRef, columns: Vec<ArrowColumnWriter>, rows: &[RecordBatch]) -> Result<Vec<ArrowColumnChunk>> {
    let mut columns = columns.into_iter();
    let mut chunks = vec![];
    for (at, field) in schema.fields().iter().enumerate() {
        let mut writers: Vec<ArrowColumnWriter> = vec![];
        for part in rows {
            let leaves = compute_leaves(field, part.column(at))?;
            if writers.is_empty() {
                writers.extend(columns.by_ref().take(leaves.len()));
            }
            for (writer, leaf) in writers.iter_mut().zip(&leaves) {
                writer.write(leaf)?;
            }
        }
        for writer in writers {
            chunks.push(writer.close()?);
        }
    }
    Ok(chunks)
}

/// Bytes of the rows alone: batches are often slices of larger ones, and views point into what others have, too.
fn bytes_of(rows: &RecordBatch) -> usize {
    rows.columns().iter().map(bytes_of_column).sum()
}

fn bytes_of_column(column: &ArrayRef) -> usize {
    let views = column.len() * size_of::<u128>();
    match column.data_type() {
        DataType::Utf8View => views + column.as_string_view().total_buffer_bytes_used(),
        DataType::BinaryView => views + column.as_binary_view().total_buffer_bytes_used(),
        _ => column.to_data().get_slice_memory_size().unwrap_or_else(|_| column.get_array_memory_size()),
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Float64Array, Int64Array, ListArray, StringViewArray, StructArray};
    use datafusion::arrow::compute::{cast, concat_batches};
    use datafusion::arrow::datatypes::{Field, Int32Type};
    use object_store::memory::InMemory;
    use object_store::path::Path;
    use object_store::{ObjectStore, ObjectStoreExt};
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    use portrait_udfs::kernels::splitmix;

    use super::*;

    fn rows(seed: u64, count: usize) -> RecordBatch {
        let at = |row: usize, part: u64| splitmix::at(seed, row as u64 * 8 + part);
        let number = |row: usize, part: u64| (at(row, part) % 50).cast_signed();
        let inner: ArrayRef = Arc::new((0..count).map(|row| Some(number(row, 0)).filter(|n| *n > 3)).collect::<Int64Array>());
        let other: ArrayRef = Arc::new((0..count).map(|row| number(row, 1) as f64).collect::<Float64Array>());
        let fields = vec![Field::new("n", DataType::Int64, true), Field::new("x", DataType::Float64, true)];
        let lists = (0..count)
            .map(|row| (at(row, 2) % 4 > 0).then(|| (0..at(row, 3) % 5).map(|i| Some(i as i32)).collect::<Vec<_>>()))
            .collect::<Vec<_>>();
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("id", Arc::new((0..count as i64).collect::<Int64Array>())),
            ("text", Arc::new((0..count).map(|row| Some(format!("a longer text {}", number(row, 4)))).collect::<StringViewArray>())),
            ("list", Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(lists))),
            ("both", Arc::new(StructArray::new(fields.into(), vec![inner, other], None))),
        ];
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, name != "id"))).unwrap()
    }

    async fn written(all: &RecordBatch, properties: &WriterProperties, group_bytes: usize, seed: u64) -> Bytes {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let output = BufWriter::with_capacity(Arc::clone(&store), Path::from("f"), 1 << 20);
        let mut file = FileWriter::new(output, &all.schema(), properties, group_bytes).unwrap();
        let mut at = 0;
        for i in 0.. {
            let length = (splitmix::at(seed, i) as usize % 9000).min(all.num_rows() - at);
            file.write(&all.slice(at, length)).await.unwrap();
            at += length;
            if at == all.num_rows() {
                break;
            }
        }
        let size = file.written();
        let footer = file.finish().await.unwrap();
        assert_eq!(footer.file_metadata().num_rows(), all.num_rows() as i64);
        let bytes = store.get(&Path::from("f")).await.unwrap().bytes().await.unwrap();
        assert_eq!(bytes.len() as u64, size.load(std::sync::atomic::Ordering::Relaxed));
        bytes
    }

    /// Whatever the batches are that rows come in, the file is the same, and has what came.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn files_have_the_rows_in_their_order() {
        for (seed, count) in [(1, 0), (2, 1), (3, 4096), (4, 20_000), (5, 70_001)] {
            let all = rows(seed, count);
            let properties = WriterProperties::builder().set_max_row_group_row_count(Some(10_000)).build();
            let bytes = written(&all, &properties, usize::MAX, seed).await;
            assert_eq!(bytes, written(&all, &properties, usize::MAX, seed + 50).await, "{count} rows");
            let read = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap();
            let groups: Vec<i64> = read.metadata().row_groups().iter().map(|group| group.num_rows()).collect();
            assert_eq!(groups.len(), count.div_ceil(10_000));
            assert!(groups.iter().rev().skip(1).all(|rows| *rows == 10_000), "{groups:?}");
            let as_came = |batch: RecordBatch| {
                let columns = batch.columns().iter().zip(all.columns()).map(|(found, came)| cast(found, came.data_type()).unwrap());
                RecordBatch::try_new(all.schema(), columns.collect()).unwrap()
            };
            let found: Vec<RecordBatch> = read.build().unwrap().map(|batch| as_came(batch.unwrap())).collect();
            assert_eq!(concat_batches(&all.schema(), &found).unwrap(), all);
        }
    }

    #[tokio::test]
    async fn wide_rows_make_small_row_groups() {
        let all = rows(9, 30_000);
        let bytes = written(&all, &WriterProperties::builder().build(), 200_000, 9).await;
        let read = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap();
        let rows: Vec<i64> = read.metadata().row_groups().iter().map(|group| group.num_rows()).collect();
        assert!(rows.len() > 4 && rows.iter().all(|rows| *rows < 12_000) && rows.iter().sum::<i64>() == 30_000, "{rows:?}");
    }
}
