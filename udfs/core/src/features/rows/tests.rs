use std::sync::Arc;

use arrow::array::{
    Array, AsArray, BinaryArray, BooleanArray, Date32Array, DictionaryArray, Float64Array, Int32Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Float64Type, Int32Type, TimeUnit};

use super::*;
use crate::features::images::ImagePlan;
use crate::features::options::Options;
use crate::features::png::tests::png;
use crate::features::table_columns::TableColumns;
use crate::kernels::splitmix;

const ROWS: usize = 600;

fn source() -> RecordBatch {
    let at = |seed: u64, row: usize| splitmix::fraction(seed, row as u64);
    let income: Float64Array = (0..ROWS).map(|row| (row % 7 != 0).then(|| (at(1, row) * 1e4).round() / 100.0)).collect();
    let age: Int32Array = (0..ROWS).map(|row| Some(18 + (at(2, row) * 60.0) as i32)).collect();
    let stars: Int32Array = (0..ROWS).map(|row| (row % 9 != 0).then_some(row as i32 % 5)).collect();
    let city: DictionaryArray<Int32Type> = (0..ROWS).map(|row| (row % 11 != 0).then_some(["Bonn", "Köln", "Aachen"][row % 3])).collect();
    let member: BooleanArray = (0..ROWS).map(|row| Some(row % 4 == 0)).collect();
    let name: StringArray = (0..ROWS).map(|row| Some(format!("user {row}"))).collect();
    let day: Date32Array = (0..ROWS).map(|row| Some(18_000 + (at(3, row) * 400.0) as i32)).collect();
    let seen: TimestampMicrosecondArray = (0..ROWS).map(|row| Some(1_600_000_000_000_000 + row as i64 * 977_000_000)).collect();
    RecordBatch::try_from_iter_with_nullable([
        ("income", Arc::new(income) as Arc<dyn Array>, true),
        ("age", Arc::new(age), false),
        ("stars", Arc::new(stars), true),
        ("city", Arc::new(city), true),
        ("member", Arc::new(member), false),
        ("name", Arc::new(name), false),
        ("day", Arc::new(day), false),
        ("seen", Arc::new(seen.with_timezone("UTC")), false),
    ])
    .unwrap()
}

fn table(batch: &RecordBatch, columns: &str, label: Option<&str>) -> crate::Result<RowTable> {
    let mut builder = RowTableBuilder::new(batch.schema(), &TableColumns::parse(columns)?, label, &Options::default())?;
    builder.push(&batch.slice(0, batch.num_rows() / 2))?;
    builder.push(&batch.slice(batch.num_rows() / 2, batch.num_rows() - batch.num_rows() / 2))?;
    assert!(builder.bytes() > 0);
    builder.finish()
}

/// Vectors as a perfect generator would make them.
fn vectors(plan: &RowPlan, encoded: &EncodedRows) -> Vec<f32> {
    let (numeric, groups) = plan.shape();
    let mut all = Vec::new();
    for row in 0..encoded.rows {
        all.extend_from_slice(&encoded.places[row * numeric..(row + 1) * numeric]);
        for (group, width) in groups.iter().enumerate() {
            let class = encoded.classes[row * groups.len() + group] as usize;
            all.extend((0..*width).map(|at| if at == class { 1.0 } else { 0.0 }));
        }
    }
    all
}

#[test]
fn rows_come_back_with_names_types_and_nulls() {
    let table = table(&source(), "auto", None).unwrap();
    let rows = table.train.encoded.rows;
    assert!(rows > 450 && rows + table.test.encoded.rows == ROWS);
    let back = table.plan.decode(rows, &vectors(&table.plan, &table.train.encoded)).unwrap();
    let before = table.train.batch.as_ref().unwrap();
    assert_eq!(back.schema(), table.plan.schema());
    let types: Vec<DataType> = back.schema().fields().iter().map(|field| field.data_type().clone()).collect();
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let text = DataType::Utf8;
    let expected = [DataType::Float64, DataType::Int32, DataType::Int32, text.clone(), DataType::Boolean, text, DataType::Date32, utc];
    assert_eq!(types, expected);
    // Classes, NULLs among them, are exact.
    for column in ["stars", "city", "member"] {
        assert_eq!(back.column_by_name(column).unwrap().to_data(), before.column_by_name(column).unwrap().to_data(), "{column}");
    }
    // Names are never learned.
    assert_eq!((back.column_by_name("name").unwrap().null_count(), table.plan.omitted()), (rows, vec!["name"]));
    assert!(table.notes[0].contains("name"));
    let (income, truth) = (back["income"].as_primitive::<Float64Type>(), before["income"].as_primitive::<Float64Type>());
    for row in 0..rows {
        assert_eq!(income.is_null(row), truth.is_null(row));
        if income.is_valid(row) {
            assert!((income.value(row) - truth.value(row)).abs() < 0.011 && (0.0..=100.0).contains(&income.value(row)));
        }
    }
    let (age, truth) = (back["age"].as_primitive::<Int32Type>(), before["age"].as_primitive::<Int32Type>());
    assert!((0..rows).all(|row| age.value(row) == truth.value(row)));
    // The manifest's own reading of numbers is exact to the last bit but one.
    let stored = serde_json::to_string(&table.plan).unwrap();
    let read: RowPlan = serde_json::from_str(&stored).unwrap();
    assert_eq!((read.shape(), read.fields()), (table.plan.shape(), table.plan.fields()));
}

#[test]
fn conditions_are_as_frequent_as_in_the_source() {
    let table = table(&source(), "extra=city|member", None).unwrap();
    let (_, groups) = table.plan.shape();
    assert_eq!(groups, [4, 2]);
    let mut counts = [0u32; 6];
    for at in 0..20_000u64 {
        counts[table.plan.condition([splitmix::fraction(1, at), splitmix::fraction(2, at)]).unwrap()] += 1;
    }
    let shares = counts.map(|count| f64::from(count) / 10_000.0);
    // City and member are asked for equally often; a quarter are members.
    assert!((shares[..4].iter().sum::<f64>() - 1.0).abs() < 0.03 && (shares[5] - 0.25).abs() < 0.03, "{shares:?}");
    assert!((shares[3] - 1.0 / 11.0).abs() < 0.02, "{shares:?}");
}

#[test]
fn what_cannot_be_learned_says_so() {
    let code = |columns: &str, label: Option<&str>| table(&source(), columns, label).unwrap_err().code;
    assert_eq!(code("extra=name", None), crate::Code::InvalidParameter);
    assert_eq!(code("extra=nobody", None), crate::Code::UndefinedColumn);
    assert_eq!(code("auto", Some("nobody")), crate::Code::UndefinedColumn);
    assert_eq!(code("auto", Some("name")), crate::Code::InvalidParameter);
    assert_eq!(code("image=age", None), crate::Code::DatatypeMismatch);
    assert_eq!(table(&source().slice(0, 100), "auto", None).unwrap_err().code, crate::Code::InvalidParameter);
    assert_eq!(table(&source(), "auto", Some("CITY")).unwrap().label.as_deref(), Some("city"));
}

fn pictures() -> RecordBatch {
    let photo: BinaryArray = (0..300).map(|row| (row % 50 != 0).then(|| png(9, 10, 1, &[(row % 2 * 200) as u8; 90]))).collect();
    let kind: StringArray = (0..300).map(|row| Some(if row % 2 == 0 { "dark" } else { "light" })).collect();
    RecordBatch::try_from_iter_with_nullable([("photo", Arc::new(photo) as Arc<dyn Array>, true), ("kind", Arc::new(kind), false)]).unwrap()
}

#[test]
fn pictures_become_files_that_open() {
    let table = table(&pictures(), "image=photo", Some("kind")).unwrap();
    let shape = table.plan.image().unwrap();
    assert_eq!((shape.height, shape.width, table.dropped_rows), (8, 12, 6));
    assert_eq!(table.train.images.len(), table.train.encoded.rows * shape.len());
    assert!(table.train.batch.is_none());
    let picture: Vec<f32> = (0..96).map(|at| at as f32 / 47.5 - 1.0).collect();
    let rows = table.plan.decode_pictures(2, &[picture.clone(), picture.clone()].concat(), &[1, 0]).unwrap();
    assert_eq!(rows.schema(), table.plan.schema());
    let mut read = Vec::new();
    let plan = ImagePlan { column: "photo".into(), side_max: 64, shape };
    assert!(plan.encode(Some(rows["photo"].as_binary::<i32>().value(1)), &mut read));
    assert_eq!(read, decode::pixels(&picture));
    let kinds: Vec<&str> = rows["kind"].as_string::<i32>().iter().flatten().collect();
    assert!(kinds.contains(&"dark") && kinds.contains(&"light"));
    let both = RowTableBuilder::new(pictures().schema(), &TableColumns::parse("auto, image=photo").unwrap(), None, &Options::default());
    assert_eq!(both.unwrap_err().code, crate::Code::InvalidParameter);
}
