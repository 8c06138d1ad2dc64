//! Whole rows, both formats.

use std::sync::Arc;

use arrow::array::types::{Float32Type, Int32Type};
use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Decimal128Array, DictionaryArray, FixedSizeListArray, Float32Array, Int8Array, Int32Array,
    Int64Array, ListArray, NullArray, StringArray, StructArray, TimestampMillisecondArray, TimestampSecondArray, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Fields, Schema};

use super::*;

/// The values of the first row, each as text (or `hex:` when binary); NULL is `None`.
fn first_row(array: ArrayRef, binary: bool) -> PgResult<Option<Vec<u8>>> {
    let schema = Schema::new(vec![Field::new("a", array.data_type().clone(), true)]);
    let batch = RecordBatch::try_new(Arc::new(schema.clone()), vec![array]).unwrap();
    let formats = Formats::new(vec![i16::from(binary)], 1).unwrap();
    let mut output = BytesMut::new();
    Rows::new(&batch, &schema, &formats, &Style::default())?.write_next(&mut output)?;
    assert_eq!(output[0], b'D');
    assert_eq!(i32::from_be_bytes(output[1..5].try_into().unwrap()) as usize, output.len() - 1);
    let length = i32::from_be_bytes(output[7..11].try_into().unwrap());
    Ok((length >= 0).then(|| output[11..].to_vec()))
}

fn text(array: impl Array + 'static) -> Option<String> {
    first_row(Arc::new(array), false).unwrap().map(|bytes| String::from_utf8(bytes).unwrap())
}

fn binary(array: impl Array + 'static) -> Vec<u8> {
    first_row(Arc::new(array), true).unwrap().unwrap()
}

#[test]
fn text_of_each_kind() {
    assert_eq!(text(NullArray::new(1)), None);
    assert_eq!(text(Int32Array::from(vec![None::<i32>])), None);
    assert_eq!(text(BooleanArray::from(vec![true])).unwrap(), "t");
    assert_eq!(text(Int8Array::from(vec![-7])).unwrap(), "-7");
    assert_eq!(text(UInt64Array::from(vec![u64::MAX])).unwrap(), "18446744073709551615");
    assert_eq!(text(BinaryArray::from(vec![&b"\x00\xff"[..]])).unwrap(), "\\x00ff");
    assert_eq!(text(TimestampMillisecondArray::from(vec![1500])).unwrap(), "1970-01-01 00:00:01.5");
    assert_eq!(text(Decimal128Array::from(vec![-5]).with_precision_and_scale(9, 3).unwrap()).unwrap(), "-0.005");
    let dictionary: DictionaryArray<Int32Type> = vec!["x", "y"].into_iter().collect();
    assert_eq!(text(dictionary).unwrap(), "x");
}

#[test]
fn out_of_range_is_an_error_not_a_null() {
    let seconds = TimestampSecondArray::from(vec![i64::MAX / 1000]);
    assert_eq!(first_row(Arc::new(seconds), false).unwrap_err().sqlstate, "22008");
}

#[test]
fn array_text_quotes_what_needs_it() {
    let mut builder = arrow::array::ListBuilder::new(arrow::array::StringBuilder::new());
    for item in ["plain", "", "null", "a,b", "q\"\\", "blank here"] {
        builder.values().append_value(item);
    }
    builder.values().append_null();
    builder.append(true);
    assert_eq!(text(builder.finish()).unwrap(), r#"{plain,"","null","a,b","q\"\\","blank here",NULL}"#);
    let bytes = ListArray::from_iter_primitive::<Float32Type, _, _>(vec![Some(vec![Some(0.5), None, Some(f32::INFINITY)])]);
    assert_eq!(text(bytes).unwrap(), "{0.5,NULL,Infinity}");
}

#[test]
fn array_binary_has_dimensions_and_nulls() {
    let list = ListArray::from_iter_primitive::<Float32Type, _, _>(vec![Some(vec![Some(1.0), None])]);
    let mut expected = vec![0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 2, 188, 0, 0, 0, 2, 0, 0, 0, 1];
    expected.extend([0, 0, 0, 4, 0x3f, 0x80, 0, 0, 255, 255, 255, 255]);
    assert_eq!(binary(list), expected);
    let empty = ListArray::from_iter_primitive::<Float32Type, _, _>(vec![Some(Vec::<Option<f32>>::new())]);
    assert_eq!(binary(empty), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 188]);
    let values = Arc::new(Float32Array::from(vec![1.0, 2.0]));
    let fixed = FixedSizeListArray::new(Arc::new(Field::new_list_field(DataType::Float32, true)), 2, values, None);
    assert_eq!(binary(fixed)[..12], [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 2, 188]);
}

#[test]
fn nested_lists_are_dimensions() {
    let inner = |rows: Vec<Option<Vec<Option<i32>>>>| Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(rows)) as ArrayRef;
    let outer = |values: ArrayRef| {
        let field = Arc::new(Field::new_list_field(values.data_type().clone(), true));
        ListArray::new(field, arrow::buffer::OffsetBuffer::from_lengths([2]), values, None)
    };
    let square = outer(inner(vec![Some(vec![Some(1), Some(2)]), Some(vec![Some(3), Some(4)])]));
    assert_eq!(text(square.clone()).unwrap(), "{{1,2},{3,4}}");
    assert_eq!(binary(square)[..28], [0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 23, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 1]);
    let ragged = outer(inner(vec![Some(vec![Some(1)]), Some(vec![Some(3), Some(4)])]));
    assert_eq!(first_row(Arc::new(ragged), true).unwrap_err().sqlstate, "2202E");
}

#[test]
fn structs_are_json() {
    let fields = Fields::from(vec![Field::new("id", DataType::Int64, true), Field::new("na\"me", DataType::Utf8, true)]);
    let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![1])), Arc::new(StringArray::from(vec![None::<&str>]))];
    assert_eq!(text(StructArray::new(fields, columns, None)).unwrap(), r#"{"id":1,"na\"me":null}"#);
}

#[test]
fn a_failed_row_leaves_nothing_behind() {
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>(vec![Some(vec![Some(1)]), Some(vec![])]);
    let field = Arc::new(Field::new_list_field(list.data_type().clone(), true));
    let array: ArrayRef = Arc::new(ListArray::new(field, arrow::buffer::OffsetBuffer::from_lengths([2]), Arc::new(list), None));
    let schema = Schema::new(vec![Field::new("a", array.data_type().clone(), true)]);
    let batch = RecordBatch::try_new(Arc::new(schema.clone()), vec![array]).unwrap();
    let mut rows = Rows::new(&batch, &schema, &Formats::new(vec![1], 1).unwrap(), &Style::default()).unwrap();
    let mut output = BytesMut::from(&b"before"[..]);
    assert!(rows.write_next(&mut output).is_err());
    assert_eq!(&output[..], b"before");
    assert_eq!(rows.remaining(), 0);
}
