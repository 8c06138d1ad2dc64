//! How column types are kept in a managed table, and what a scan gives back.
//!
//! Delta Lake knows fewer types than Arrow. Each column is mapped once, when its table is made, to a *table type* (what
//! queries see) and a *file type* (what Parquet and the Delta log say). Where the two differ the table type is kept
//! in the Delta metadata under `portrait.arrowSchema`, so that it comes back exactly. What cannot be kept faithfully is
//! refused by name, never bent silently. A column of texts may have a [`TextType`], which its field names everywhere.

use std::collections::HashSet;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use datafusion::arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};
use portrait_udfs::error::{Code, Error, Result};

use super::TextType;

/// The schema that a managed table has when it is made from columns like these. Names must differ by more than case.
///
/// # Errors
/// 0A000 for a type that cannot be kept, 42701 for a doubled name, 42P16 for no column at all.
pub(crate) fn table_schema(schema: &Schema, keep_not_null: bool) -> Result<SchemaRef> {
    if schema.fields().is_empty() {
        return Err(Error::new(Code::InvalidTableDefinition, "a table must have at least one column"));
    }
    let mut names = HashSet::new();
    let fields = schema
        .fields()
        .iter()
        .map(|field| {
            if !names.insert(field.name().to_lowercase()) {
                return Err(Error::new(Code::DuplicateColumn, format!("column \"{}\" specified more than once", field.name()))
                    .hint("Column names must differ by more than upper and lower case; give one of them an alias."));
            }
            let data_type = table_type(field.data_type(), true).ok_or_else(|| unsupported(field.name(), field.data_type()))?;
            Ok(TextType::carry(field, Field::new(field.name(), data_type, field.is_nullable() || !keep_not_null)))
        })
        .collect::<Result<Fields>>()?;
    Ok(Arc::new(Schema::new(fields)))
}

/// The schema of a table's Parquet files.
pub(crate) fn file_schema(table: &Schema) -> SchemaRef {
    let fields = table.fields().iter().map(|field| field.as_ref().clone().with_data_type(file_type(field.data_type())));
    Arc::new(Schema::new(fields.collect::<Fields>()))
}

/// The schema that Delta's log names: as the files', with plain text and binary types.
pub(crate) fn log_schema(table: &Schema) -> Schema {
    let plain = |data_type: DataType| match data_type {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        other => other,
    };
    let fields = table.fields().iter().map(|field| field.as_ref().clone().with_data_type(plain(file_type(field.data_type()))));
    Schema::new(fields.collect::<Fields>())
}

/// `batch` with the columns of `to`, by position, each cast to its type and read as its [`TextType`].
///
/// # Errors
/// 42804 for another number of columns, 23502 for NULL in a NOT NULL column (of `table`), 22003 for a number that
/// does not fit, 22P02 for a text that is no value of its type.
pub(crate) fn conform(batch: &RecordBatch, to: &SchemaRef, table: &str) -> Result<RecordBatch> {
    let read = |column: ArrayRef, field: &Field| match TextType::of(field) {
        Some(found) => found.read_all(&column).map_err(|(_, error)| error),
        None => Ok(column),
    };
    converted(batch, to, table, read)
}

/// As [`conform`], for rows that conform to the table already: what its files hold.
///
/// # Errors
/// As [`conform`].
pub(crate) fn in_files(batch: &RecordBatch, files: &SchemaRef, table: &str) -> Result<RecordBatch> {
    converted(batch, files, table, |column, _| Ok(column))
}

fn converted(batch: &RecordBatch, to: &SchemaRef, table: &str, read: impl Fn(ArrayRef, &Field) -> Result<ArrayRef>) -> Result<RecordBatch> {
    if batch.num_columns() != to.fields().len() {
        return Err(Error::new(
            Code::DatatypeMismatch,
            format!("table \"{table}\" has {} columns, but {} values were given", to.fields().len(), batch.num_columns()),
        ));
    }
    let columns = batch.columns().iter().zip(to.fields()).map(|(column, field)| read(conform_column(column, field, table)?, field));
    let columns = columns.collect::<Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(to), columns, &options)
        .map_err(|error| Error::internal(format!("rows do not fit table \"{table}\": {error}")))
}

fn conform_column(column: &ArrayRef, field: &Field, table: &str) -> Result<ArrayRef> {
    if !field.is_nullable() && column.logical_null_count() > 0 {
        return Err(Error::new(
            Code::NotNull,
            format!("null value in column \"{}\" of relation \"{table}\" violates not-null constraint", field.name()),
        ));
    }
    if column.data_type() == field.data_type() {
        return Ok(Arc::clone(column));
    }
    let options = CastOptions { safe: false, ..Default::default() };
    cast_with_options(column, field.data_type(), &options).map_err(|error| {
        let code = if field.data_type().is_numeric() { Code::NumericOutOfRange } else { Code::DatatypeMismatch };
        Error::new(code, format!("column \"{}\" of table \"{table}\" cannot hold this value: {error}", field.name()))
    })
}

/// A schema as text, for the catalog and for Delta's metadata.
pub(crate) fn schema_to_text(schema: &Schema) -> String {
    parquet::arrow::encode_arrow_schema(schema)
}

/// Reads [`schema_to_text`] back.
pub(crate) fn schema_from_text(text: &str) -> Result<Schema> {
    let damaged = |error: String| Error::new(Code::DataCorrupted, format!("a stored schema cannot be read: {error}"));
    let bytes = BASE64.decode(text).map_err(|error| damaged(error.to_string()))?;
    datafusion::arrow::ipc::convert::try_schema_from_ipc_buffer(&bytes).map_err(|error| damaged(error.to_string()))
}

/// The types that queries see of files that others wrote: texts and binaries as views, dictionaries resolved.
pub(crate) fn readable_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8View,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => DataType::BinaryView,
        DataType::Dictionary(_, value) => readable_type(value),
        DataType::RunEndEncoded(_, value) => readable_type(value.data_type()),
        other => other.clone(),
    }
}

/// What a scan gives for a column that was made with this type; `None` when it cannot be kept.
fn table_type(data_type: &DataType, top: bool) -> Option<DataType> {
    use DataType as T;
    let text = if top { T::Utf8View } else { T::Utf8 };
    let binary = if top { T::BinaryView } else { T::Binary };
    Some(match data_type {
        T::Boolean | T::Int8 | T::Int16 | T::Int32 | T::Int64 | T::Float32 | T::Float64 | T::Date32 => data_type.clone(),
        T::UInt8 => T::Int16,
        T::UInt16 => T::Int32,
        T::UInt32 | T::UInt64 => T::Int64,
        T::Float16 => T::Float32,
        T::Date64 => T::Timestamp(TimeUnit::Microsecond, None),
        T::Timestamp(_, None) => T::Timestamp(TimeUnit::Microsecond, None),
        T::Timestamp(_, Some(_)) => T::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        T::Time32(_) | T::Time64(_) if top => T::Time64(TimeUnit::Microsecond),
        T::Decimal32(precision, scale) | T::Decimal64(precision, scale) | T::Decimal128(precision, scale) if *scale >= 0 => {
            T::Decimal128(*precision, *scale)
        }
        T::Decimal256(precision, scale) if *precision <= 38 && *scale >= 0 => T::Decimal128(*precision, *scale),
        T::Null | T::Utf8 | T::LargeUtf8 | T::Utf8View => text,
        T::Binary | T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_) => binary,
        T::Dictionary(_, value) => table_type(value, top)?,
        T::RunEndEncoded(_, value) => table_type(value.data_type(), top)?,
        T::List(item) | T::LargeList(item) | T::FixedSizeList(item, _) | T::ListView(item) | T::LargeListView(item) => {
            T::List(Arc::new(Field::new_list_field(table_type(item.data_type(), false)?, true)))
        }
        T::Struct(fields) => T::Struct(fields.iter().map(nested_field).collect::<Option<Fields>>()?),
        T::Map(entries, false) => T::Map(map_entries(entries)?, false),
        _ => return None,
    })
}

fn nested_field(field: &FieldRef) -> Option<FieldRef> {
    Some(Arc::new(Field::new(field.name(), table_type(field.data_type(), false)?, true)))
}

fn map_entries(entries: &FieldRef) -> Option<FieldRef> {
    let DataType::Struct(fields) = entries.data_type() else { return None };
    let [key, value] = fields.as_ref() else { return None };
    let key = Arc::new(Field::new(key.name(), table_type(key.data_type(), false)?, false));
    let fields = Fields::from(vec![key, nested_field(value)?]);
    Some(Arc::new(Field::new(entries.name(), DataType::Struct(fields), false)))
}

fn file_type(table_type: &DataType) -> DataType {
    match table_type {
        DataType::Time64(_) => DataType::Int64,
        other => other.clone(),
    }
}

fn unsupported(column: &str, data_type: &DataType) -> Error {
    let hint = match data_type {
        DataType::Interval(_) => "Cast it to text, or to a number of seconds with extract(epoch from …).",
        DataType::Duration(_) => "Cast it to bigint.",
        DataType::Decimal256(..) | DataType::Decimal128(..) => "Cast it to numeric with at most 38 digits.",
        _ => "Cast it to another type.",
    };
    Error::new(Code::FeatureNotSupported, format!("column \"{column}\" has type {data_type}, which a table cannot hold")).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::{DictionaryArray, Int64Array, StringArray, UInt64Array};
    use datafusion::arrow::datatypes::{Int32Type, IntervalUnit};

    #[test]
    fn real_world_types_find_a_home() {
        let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::LargeUtf8));
        let cases = [
            (DataType::LargeUtf8, DataType::Utf8View),
            (dictionary, DataType::Utf8View),
            (DataType::Null, DataType::Utf8View),
            (DataType::UInt64, DataType::Int64),
            (DataType::Timestamp(TimeUnit::Nanosecond, None), DataType::Timestamp(TimeUnit::Microsecond, None)),
            (
                DataType::Timestamp(TimeUnit::Second, Some("Europe/Berlin".into())),
                DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            ),
            (DataType::Decimal256(20, 2), DataType::Decimal128(20, 2)),
            (DataType::new_fixed_size_list(DataType::Float16, 3, false), DataType::new_list(DataType::Float32, true)),
            (DataType::new_list(DataType::Utf8View, true), DataType::new_list(DataType::Utf8, true)),
        ];
        for (given, expected) in cases {
            let made = table_schema(&Schema::new(vec![Field::new("x", given.clone(), false)]), false).unwrap();
            assert_eq!(made.field(0).data_type(), &expected, "{given}");
            assert!(made.field(0).is_nullable());
            let read = schema_from_text(&schema_to_text(&made)).unwrap();
            assert_eq!(&read, made.as_ref());
        }
    }

    #[test]
    fn what_cannot_be_kept_is_refused_with_a_hint() {
        for data_type in [
            DataType::Interval(IntervalUnit::MonthDayNano),
            DataType::Duration(TimeUnit::Second),
            DataType::Decimal256(60, 2),
            DataType::new_list(DataType::Time64(TimeUnit::Microsecond), true),
        ] {
            let error = table_schema(&Schema::new(vec![Field::new("x", data_type, true)]), true).unwrap_err();
            assert_eq!(error.code, Code::FeatureNotSupported);
            assert!(error.hint.is_some());
        }
        let twice = Schema::new(vec![Field::new("a", DataType::Int8, true), Field::new("A", DataType::Int8, true)]);
        assert_eq!(table_schema(&twice, true).unwrap_err().code, Code::DuplicateColumn);
    }

    #[test]
    fn rows_are_cast_or_refused_never_bent() {
        let to = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false), Field::new("s", DataType::Utf8View, true)]));
        let texts: DictionaryArray<Int32Type> = vec![Some("a"), None].into_iter().collect();
        let good =
            RecordBatch::try_from_iter([("x", Arc::new(UInt64Array::from(vec![1, 2])) as ArrayRef), ("y", Arc::new(texts) as ArrayRef)])
                .unwrap();
        assert_eq!(conform(&good, &to, "t").unwrap().schema(), to);
        check(vec![Arc::new(UInt64Array::from(vec![u64::MAX])), Arc::new(StringArray::from(vec!["a"]))], &to, Code::NumericOutOfRange);
        check(vec![Arc::new(Int64Array::from(vec![None])), Arc::new(StringArray::from(vec!["a"]))], &to, Code::NotNull);
        check(vec![Arc::new(Int64Array::from(vec![1]))], &to, Code::DatatypeMismatch);
    }

    fn check(columns: Vec<ArrayRef>, to: &SchemaRef, code: Code) {
        let names = ["a", "b"];
        let batch = RecordBatch::try_from_iter_with_nullable(names.iter().zip(columns).map(|(name, column)| (*name, column, true)));
        assert_eq!(conform(&batch.unwrap(), to, "t").unwrap_err().code, code);
    }
}
