use arrow::array::{DictionaryArray, Int32Array, LargeStringArray, StringViewArray, TimestampMillisecondArray};
use arrow::datatypes::Int32Type;
use proptest::prelude::*;

use super::*;
use crate::features::testing::{columns, history, schema, strings};

/// Histories as one canonical batch.
fn batch(histories: &[UserHistory]) -> RecordBatch {
    let strings = strings();
    let text = |codes: &dyn Fn(&UserHistory) -> Vec<u32>, table: &Interner| -> ArrayRef {
        let texts = histories.iter().flat_map(codes).map(|code| (code != NULL_CODE).then(|| table.get(code).to_owned()));
        Arc::new(texts.collect::<StringArray>())
    };
    let number = |values: &dyn Fn(&UserHistory) -> Vec<f64>| -> ArrayRef {
        Arc::new(histories.iter().flat_map(values).map(|v| (!v.is_nan()).then_some(v)).collect::<Float64Array>())
    };
    let user = |h: &UserHistory| match h.user {
        UserKey::Int64(key) => vec![key; h.len()],
        UserKey::Utf8(_) => unreachable!(),
    };
    let times: TimestampMicrosecondArray = histories.iter().flat_map(|h| h.times_us.clone()).collect::<Vec<i64>>().into();
    let extra = |column: usize| {
        move |h: &UserHistory| match &h.extras[column] {
            Extra::Text(codes) => (codes.clone(), Vec::new()),
            Extra::Number(values) => (Vec::new(), values.clone()),
        }
    };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(histories.iter().flat_map(user).collect::<Int64Array>()),
        Arc::new(times.with_timezone("UTC")),
        text(&|h| h.events.clone(), &strings.events),
        text(&|h| h.items.clone(), &strings.items),
        text(&|h| h.categories.clone(), &strings.categories),
        number(&|h| h.values.clone()),
        text(&|h| extra(0)(h).0, &strings.extras[0]),
        number(&|h| extra(1)(h).1),
    ];
    RecordBatch::try_new(schema(), columns).unwrap()
}

fn read_all(reader: &mut UserReader, batches: &[RecordBatch]) -> Vec<(UserHistory, Vec<Option<String>>)> {
    let mut read = Vec::new();
    let mut keep = |reader: &UserReader, history: UserHistory| {
        let text = |code: &u32| (*code != NULL_CODE).then(|| reader.strings().events.get(*code).to_owned());
        let events = history.events.iter().map(text).collect();
        read.push((history, events));
    };
    for batch in batches {
        reader.push(batch).unwrap();
        while let Some(history) = reader.next_user() {
            keep(reader, history);
        }
    }
    while let Some(history) = reader.finish() {
        keep(reader, history);
    }
    read
}

proptest! {
    /// However the rows are cut into batches, the same users come out.
    #[test]
    fn users_survive_any_cut_into_batches(lens in proptest::collection::vec(1_usize..12, 1..12), sizes in proptest::collection::vec(0_usize..7, 1..40)) {
        let histories: Vec<UserHistory> = lens.iter().enumerate().map(|(user, len)| history(user as u64, *len)).collect();
        let whole = batch(&histories);
        let mut batches = Vec::new();
        let mut start = 0;
        for size in sizes {
            let size = size.min(whole.num_rows() - start);
            batches.push(whole.slice(start, size));
            start += size;
        }
        batches.push(whole.slice(start, whole.num_rows() - start));
        let read = read_all(&mut UserReader::new(schema(), &columns()).unwrap(), &batches);
        prop_assert_eq!(read.len(), histories.len());
        for ((read, events), history) in read.iter().zip(&histories) {
            prop_assert_eq!(&read.user, &history.user);
            prop_assert_eq!(&read.times_us, &history.times_us);
            let table = strings().events;
            let expected: Vec<Option<String>> =
                history.events.iter().map(|code| (*code != NULL_CODE).then(|| table.get(*code).to_owned())).collect();
            prop_assert_eq!(events, &expected);
            prop_assert_eq!(read.values.iter().map(|v| v.to_bits()).collect::<Vec<_>>(), history.values.iter().map(|v| v.to_bits()).collect::<Vec<_>>());
        }
    }
}

#[test]
fn a_user_of_very_many_events() {
    let histories = [history(1, 3), history(2, 60_000), history(3, 1)];
    let whole = batch(&histories);
    let batches: Vec<RecordBatch> =
        (0..whole.num_rows()).step_by(8192).map(|at| whole.slice(at, 8192.min(whole.num_rows() - at))).collect();
    let read = read_all(&mut UserReader::new(schema(), &columns()).unwrap(), &batches);
    assert_eq!(read.iter().map(|(history, _)| history.len()).collect::<Vec<_>>(), [3, 60_000, 1]);
}

#[test]
fn strings_are_forgotten_between_users_only() {
    let histories: Vec<UserHistory> = (0..50).map(|user| history(user, 5)).collect();
    let mut reader = UserReader::new(schema(), &columns()).unwrap();
    reader.strings_bytes_max = 1;
    let read = read_all(&mut reader, &[batch(&histories[..20]), batch(&histories[20..])]);
    assert!(reader.strings().generation() > 40);
    let table = strings().events;
    for ((_, events), history) in read.iter().zip(&histories) {
        let expected: Vec<Option<String>> =
            history.events.iter().map(|code| (*code != NULL_CODE).then(|| table.get(*code).to_owned())).collect();
        assert_eq!(events, &expected);
    }
}

#[test]
fn nulls_other_types_and_disorder() {
    let columns = EventColumns { item: None, category: None, value: None, extra: Vec::new(), ..columns() };
    let source = Schema::empty();
    let canonical = canonical_schema(&columns, &source);
    assert_eq!(canonical.fields().len(), 3);
    let dictionary: DictionaryArray<Int32Type> = vec![Some("a"), None, Some("b"), Some("a"), Some("c")].into_iter().collect();
    let forms: Vec<ArrayRef> = vec![
        Arc::new(dictionary),
        Arc::new(LargeStringArray::from(vec![Some("a"), None, Some("b"), Some("a"), Some("c")])),
        Arc::new(StringViewArray::from(vec![Some("a"), None, Some("b"), Some("a"), Some("c")])),
    ];
    for form in forms {
        let fields = vec![
            Field::new("user", DataType::Int32, true),
            Field::new("time", DataType::Timestamp(ArrowTimeUnit::Millisecond, None), true),
            Field::new("event", form.data_type().clone(), true),
        ];
        let arrays: Vec<ArrayRef> = vec![
            Arc::new(Int32Array::from(vec![Some(1), Some(1), None, Some(2), Some(2)])),
            Arc::new(TimestampMillisecondArray::from(vec![Some(5), Some(4), Some(6), None, Some(7)])),
            form,
        ];
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap();
        let mut reader = UserReader::new(Arc::clone(&canonical), &columns).unwrap();
        let read = read_all(&mut reader, &[batch]);
        assert_eq!(reader.dropped_rows(), 2);
        assert_eq!(read.len(), 2);
        assert_eq!(read[0].0.times_us, [4000, 5000], "put in order");
        assert_eq!(read[0].1, [None, Some("a".to_owned())]);
        assert_eq!(read[1].1, [Some("c".to_owned())]);
        assert!(read[0].0.items.is_empty());
    }
}

#[test]
fn keys() {
    assert_eq!(KeyType::Int64.parse(" 42 ").unwrap(), UserKey::Int64(42));
    let error = KeyType::Int64.parse("4x").unwrap_err();
    assert_eq!(error.code, Code::InvalidText);
    assert_eq!(KeyType::Utf8.parse("4x").unwrap().to_string(), "4x");
    let stored = serde_json::to_string(&[UserKey::Int64(3), UserKey::Utf8("3".into())]).unwrap();
    assert_eq!(stored, "[3,\"3\"]");
    assert_eq!(serde_json::from_str::<Vec<UserKey>>(&stored).unwrap(), [UserKey::Int64(3), UserKey::Utf8("3".into())]);
}
