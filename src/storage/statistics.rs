//! Statistics of a data file: from its Parquet footer into Delta's log, and from the log into a scan.
//!
//! Texts are left out of minimum and maximum: Delta cuts them, and a cut maximum is easily wrong.

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::compute::{max as max_of, min as min_of};
use datafusion::arrow::datatypes::{
    DataType, Date32Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, Schema, TimeUnit, TimestampMicrosecondType,
};
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, ScalarValue, Statistics};
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::file::metadata::ParquetMetaData;
use serde_json::{Map, Value, json};

/// Delta's per-file statistics (JSON) of a file that was just written.
pub(super) fn from_footer(metadata: &ParquetMetaData, file_schema: &Schema) -> String {
    let rows = metadata.file_metadata().num_rows();
    let (mut minimum, mut maximum, mut nulls) = (Map::new(), Map::new(), Map::new());
    for field in file_schema.fields() {
        let converter = StatisticsConverter::try_new(field.name(), file_schema, metadata.file_metadata().schema_descr());
        let Ok(converter) = converter else { continue };
        let groups = || metadata.row_groups().iter();
        if let Ok(counts) = converter.row_group_null_counts(groups())
            && counts.null_count() == 0
        {
            nulls.insert(field.name().clone(), json!(counts.values().iter().sum::<u64>()));
        }
        let lowest = converter.row_group_mins(groups()).ok().and_then(|values| extreme(&values, true));
        let highest = converter.row_group_maxes(groups()).ok().and_then(|values| extreme(&values, false));
        if let (Some(lowest), Some(highest)) = (lowest, highest) {
            minimum.insert(field.name().clone(), lowest);
            maximum.insert(field.name().clone(), highest);
        }
    }
    json!({ "numRecords": rows, "minValues": minimum, "maxValues": maximum, "nullCount": nulls }).to_string()
}

/// The same with the least and greatest value of `column`, which are known in full: texts included.
pub(super) fn with_bounds(stats: &str, column: &str, least: &ScalarValue, greatest: &ScalarValue) -> String {
    let text = |value: &ScalarValue| value.try_as_str().flatten().map(str::to_owned);
    let (Some(least), Some(greatest)) = (text(least), text(greatest)) else { return stats.to_owned() };
    let Ok(mut stats) = serde_json::from_str::<Value>(stats) else { return stats.to_owned() };
    stats["minValues"][column] = json!(least);
    stats["maxValues"][column] = json!(greatest);
    stats.to_string()
}

/// What a scan may rely on, from Delta's statistics of one file.
pub(super) fn from_log(stats: Option<&str>, size: u64, table_schema: &Schema) -> Statistics {
    let mut statistics = Statistics::new_unknown(table_schema);
    statistics.total_byte_size = Precision::Inexact(usize::try_from(size).unwrap_or(usize::MAX));
    let Some(stats) = stats.and_then(|text| serde_json::from_str::<Value>(text).ok()) else { return statistics };
    if let Some(rows) = stats["numRecords"].as_u64() {
        statistics.num_rows = Precision::Exact(usize::try_from(rows).unwrap_or(usize::MAX));
    }
    for (field, column) in table_schema.fields().iter().zip(&mut statistics.column_statistics) {
        let value = |kind: &str| scalar(&stats[kind][field.name()], field.data_type());
        *column = ColumnStatistics::new_unknown();
        if let Some(nulls) = stats["nullCount"][field.name()].as_u64() {
            column.null_count = Precision::Exact(usize::try_from(nulls).unwrap_or(usize::MAX));
        }
        if let Some(minimum) = value("minValues") {
            column.min_value = Precision::Exact(minimum);
        }
        if let Some(maximum) = value("maxValues") {
            column.max_value = Precision::Exact(maximum);
        }
    }
    statistics
}

/// The least (or greatest) of the row groups' values; `None` when one is not known (a group of NULLs alone counts as
/// not known) or when it is a NaN.
fn extreme(values: &ArrayRef, least: bool) -> Option<Value> {
    if values.is_empty() || values.null_count() > 0 {
        return None;
    }
    macro_rules! pick {
        ($kind:ty) => {{
            let values = values.as_primitive::<$kind>();
            if least { min_of(values)? } else { max_of(values)? }
        }};
    }
    let float = |value: f64| value.is_finite().then(|| json!(value));
    match values.data_type() {
        DataType::Int8 => Some(json!(pick!(Int8Type))),
        DataType::Int16 => Some(json!(pick!(Int16Type))),
        DataType::Int32 => Some(json!(pick!(Int32Type))),
        DataType::Int64 => Some(json!(pick!(Int64Type))),
        DataType::Float32 => float(f64::from(pick!(Float32Type))),
        DataType::Float64 => float(pick!(Float64Type)),
        DataType::Date32 => {
            let date = chrono::DateTime::from_timestamp(i64::from(pick!(Date32Type)) * 86_400, 0)?;
            Some(json!(date.format("%Y-%m-%d").to_string()))
        }
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let time = chrono::DateTime::from_timestamp_micros(pick!(TimestampMicrosecondType))?;
            let zone = if zone.is_some() { "Z" } else { "" };
            Some(json!(format!("{}{zone}", time.format("%Y-%m-%dT%H:%M:%S%.6f"))))
        }
        _ => None,
    }
}

fn scalar(value: &Value, data_type: &DataType) -> Option<ScalarValue> {
    let integer = || value.as_i64();
    match data_type {
        DataType::Int8 => Some(ScalarValue::Int8(Some(integer()?.try_into().ok()?))),
        DataType::Int16 => Some(ScalarValue::Int16(Some(integer()?.try_into().ok()?))),
        DataType::Int32 => Some(ScalarValue::Int32(Some(integer()?.try_into().ok()?))),
        DataType::Int64 => Some(ScalarValue::Int64(Some(integer()?))),
        // Floats are left out: Parquet's bounds ignore NaN, which compares above every number here.
        DataType::Date32 => {
            let date = chrono::NaiveDate::parse_from_str(value.as_str()?, "%Y-%m-%d").ok()?;
            let days = date.signed_duration_since(chrono::NaiveDate::default()).num_days();
            Some(ScalarValue::Date32(Some(days.try_into().ok()?)))
        }
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let text = value.as_str()?.trim_end_matches('Z');
            let time = chrono::NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f").ok()?;
            Some(ScalarValue::TimestampMicrosecond(Some(time.and_utc().timestamp_micros()), zone.clone()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use datafusion::arrow::array::{Date32Array, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
    use parquet::arrow::ArrowWriter;

    #[test]
    fn statistics_survive_the_log() {
        let times = TimestampMicrosecondArray::from(vec![Some(-1), None, Some(1_700_000_000_123_456)]);
        let batch = RecordBatch::try_from_iter([
            ("n", Arc::new(Int64Array::from(vec![Some(3), Some(-7), None])) as ArrayRef),
            ("f", Arc::new(Float64Array::from(vec![0.1, f64::NAN, 2.5])) as ArrayRef),
            ("d", Arc::new(Date32Array::from(vec![-1, 0, 20_000])) as ArrayRef),
            ("t", Arc::new(times.with_timezone("UTC")) as ArrayRef),
            ("s", Arc::new(StringArray::from(vec!["x", "y", "z"])) as ArrayRef),
        ])
        .unwrap();
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        let footer = writer.finish().unwrap();
        let text = from_footer(&footer, &batch.schema());
        let read = from_log(Some(&text), 10, &batch.schema());
        assert_eq!(read.num_rows, Precision::Exact(3));
        let column = |i: usize| &read.column_statistics[i];
        assert_eq!(column(0).min_value, Precision::Exact(ScalarValue::Int64(Some(-7))));
        assert_eq!(column(0).null_count, Precision::Exact(1));
        assert_eq!(column(2).max_value, Precision::Exact(ScalarValue::Date32(Some(20_000))));
        let latest = ScalarValue::TimestampMicrosecond(Some(1_700_000_000_123_456), Some("UTC".into()));
        assert_eq!(column(3).max_value, Precision::Exact(latest));
        assert_eq!(column(3).min_value, Precision::Exact(ScalarValue::TimestampMicrosecond(Some(-1), Some("UTC".into()))));
        assert_eq!(column(4).min_value, Precision::Absent);
        assert_eq!(from_log(None, 10, &batch.schema()).num_rows, Precision::Absent);
    }
}
