//! How data files are encoded: what is quick to read back at a size that is near the smallest.
//!
//! Numbers and times that have too many values for a dictionary are written as differences: of rows by user and time they are
//! smaller than what zstd makes of the numbers, and are read twice as fast. A table of events says which columns have a value
//! of its own in each row: a dictionary of those would only be begun and given up. What is left to compress is little: numbers are
//! left to LZ4, texts to zstd, and a page whose size stays much the same is kept as it is (of events, a fifteenth more bytes; a third
//! less work for whoever reads numbers). Only pages of version 2 can say so. A table that is asked for one user at a time has small
//! pages, for a page is the least that can be read.

use datafusion::arrow::datatypes::{DataType, SchemaRef};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::{DEFAULT_DICTIONARY_PAGE_SIZE_LIMIT, EnabledStatistics, WriterProperties, WriterVersion};
use parquet::schema::types::ColumnPath;

use super::Role;
use super::delta::DeltaTable;

/// Rows of a row group at most.
const ROW_GROUP_ROWS: usize = 256 * 1024;
/// Rows of a page: of files that are mostly read through, and of files that are asked for one user's row.
const PAGE_ROWS: usize = 8 * 1024;
const LOOKUP_PAGE_ROWS: usize = 1024;
/// Bytes of a dictionary in files of small pages: each look-up decodes it whole.
const LOOKUP_DICTIONARY_BYTES: usize = 16 << 10;

/// What a compressed page may have of its size; more is not worth the time of all who read it.
const WORTH_COMPRESSING: f64 = 0.8;

/// For files of `table` whose columns are those of `schema`, sorted by the columns `order`.
pub(super) fn properties(table: &DeltaTable, schema: &SchemaRef, order: &[usize]) -> WriterProperties {
    let sorted =
        |&column: &usize| SortingColumn { column_idx: i32::try_from(column).unwrap_or(i32::MAX), descending: false, nulls_first: false };
    let (page_rows, dictionary_bytes) = match table.role() {
        Role::Derived { .. } => (LOOKUP_PAGE_ROWS, LOOKUP_DICTIONARY_BYTES),
        _ => (PAGE_ROWS, DEFAULT_DICTIONARY_PAGE_SIZE_LIMIT),
    };
    let mut properties = WriterProperties::builder()
        .set_sorting_columns((!order.is_empty()).then(|| order.iter().map(sorted).collect()))
        .set_writer_version(WriterVersion::PARQUET_2_0)
        // Version 2 would write texts as differences of each other, which are slow to read.
        .set_encoding(Encoding::PLAIN)
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_data_page_v2_compression_ratio_threshold(WORTH_COMPRESSING)
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_data_page_row_count_limit(page_rows)
        .set_dictionary_page_size_limit(dictionary_bytes)
        .set_created_by("portrait".into());
    let distinct = table.event_indices().map_or_else(Vec::new, |indices| indices.distinct());
    for (at, field) in schema.fields().iter().enumerate() {
        let path = ColumnPath::from(field.name().as_str());
        if field.data_type().is_numeric() || is_integer(field.data_type()) {
            properties = properties.set_column_compression(path.clone(), Compression::LZ4_RAW);
        }
        if is_integer(field.data_type()) {
            properties = properties.set_column_encoding(path.clone(), Encoding::DELTA_BINARY_PACKED);
        }
        if distinct.contains(&at) {
            properties = properties.set_column_dictionary_enabled(path.clone(), false);
            if is_integer(field.data_type()) {
                properties = properties.set_column_compression(path, Compression::UNCOMPRESSED);
            }
        }
    }
    properties.build()
}

/// Whether Parquet keeps the type as integers.
fn is_integer(data_type: &DataType) -> bool {
    data_type.is_integer() || matches!(data_type, DataType::Timestamp(..) | DataType::Date32 | DataType::Time32(_) | DataType::Time64(_))
}
