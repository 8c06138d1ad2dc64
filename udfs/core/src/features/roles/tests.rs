use super::*;

fn schema(columns: &[(&str, DataType)]) -> Schema {
    Schema::new(columns.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), true)).collect::<Vec<_>>())
}

fn timestamp() -> DataType {
    DataType::Timestamp(ArrowTimeUnit::Millisecond, None)
}

fn resolve(schema: &Schema, columns: &str) -> Result<EventColumns> {
    resolve_event_columns(schema, columns, &|_| None).map(|(columns, _)| columns)
}

#[test]
fn usual_names_of_real_logs() {
    use DataType::{Float64, Int32, Int64, LargeUtf8, Utf8, Utf8View};
    let online_retail = schema(&[
        ("InvoiceNo", LargeUtf8),
        ("StockCode", LargeUtf8),
        ("Description", LargeUtf8),
        ("Quantity", Int32),
        ("InvoiceDate", timestamp()),
        ("UnitPrice", Float64),
        ("CustomerID", Int64),
        ("Country", LargeUtf8),
    ]);
    let (columns, decisions) = resolve_event_columns(&online_retail, "auto", &|_| None).unwrap();
    assert_eq!((columns.user.as_str(), columns.time.as_str(), columns.item.as_deref()), ("CustomerID", "InvoiceDate", Some("StockCode")));
    assert_eq!(columns.value, Some(ValueColumn::Product("UnitPrice".into(), "Quantity".into())));
    assert_eq!((columns.event, columns.extra, columns.key_type), (None, vec!["Country".to_owned()], KeyType::Int64));
    assert_eq!(decisions.len(), 8);
    assert_eq!(decisions[0].role, Role::EventId);
    assert_eq!(decisions[2].role, Role::Ignored);

    let taobao = schema(&[("user_id", Int64), ("item_id", Int64), ("category_id", Int64), ("behavior_type", Utf8), ("timestamp", Int64)]);
    let columns = resolve(&taobao, "auto").unwrap();
    assert_eq!((columns.event.as_deref(), columns.category.as_deref()), (Some("behavior_type"), Some("category_id")));

    let retailrocket =
        schema(&[("timestamp", Int64), ("visitorid", Int64), ("event", Utf8View), ("itemid", Int64), ("transactionid", Int64)]);
    let columns = resolve(&retailrocket, "auto").unwrap();
    assert_eq!((columns.user.as_str(), columns.event.as_deref(), columns.item.as_deref()), ("visitorid", Some("event"), Some("itemid")));
}

#[test]
fn integer_times_by_magnitude() {
    let events = schema(&[("uid", DataType::Utf8), ("ts", DataType::Int64)]);
    for (high, unit) in [
        (1_512_000_000, TimeUnit::EpochSeconds),
        (1_512_000_000_000, TimeUnit::EpochMillis),
        (1_512_000_000_000_000, TimeUnit::EpochMicros),
        (1_512_000_000_000_000_000, TimeUnit::EpochNanos),
    ] {
        let (columns, _) = resolve_event_columns(&events, "auto", &|_| Some((high - 1000, high))).unwrap();
        assert_eq!(columns.time_unit, unit);
    }
    let dates = schema(&[("uid", DataType::Utf8), ("date", DataType::Date32)]);
    assert_eq!(resolve(&dates, "auto").unwrap().time_unit, TimeUnit::Date);
    let texts = schema(&[("uid", DataType::Utf8), ("time", DataType::LargeUtf8)]);
    assert_eq!(resolve(&texts, "auto").unwrap().time_unit, TimeUnit::Text);
    let named = schema(&[("uid", DataType::Utf8), ("ts_ms", DataType::Int64)]);
    assert_eq!(resolve(&named, "auto").unwrap().time_unit, TimeUnit::EpochMillis);
}

#[test]
fn explicit_words() {
    use DataType::{Float64, Int64, Utf8};
    let source = schema(&[
        ("who", Utf8),
        ("at", timestamp()),
        ("what", Utf8),
        ("Unit, Price", Float64),
        ("n", Int64),
        ("device", Utf8),
        ("land", Utf8),
    ]);
    let columns = resolve(&source, "user=who, time = AT, event=what, value=\"Unit, Price\"*n, extra=device|land").unwrap();
    assert_eq!((columns.user.as_str(), columns.time.as_str()), ("who", "at"));
    assert_eq!(columns.value, Some(ValueColumn::Product("Unit, Price".into(), "n".into())));
    assert_eq!(columns.extra, ["device", "land"]);
    let guessed = resolve(&source, "user=who, time=at").unwrap();
    assert!(guessed.extra.is_empty(), "without auto only user and time are guessed");
    assert_eq!(resolve(&source, "auto, user=who, time=at").unwrap().extra, ["device"]);
}

#[test]
fn mistakes() {
    let source = schema(&[
        ("customer_id", DataType::Int64),
        ("event_time", timestamp()),
        ("price", DataType::Utf8),
        ("tags", DataType::new_list(DataType::Utf8, true)),
    ]);
    for (columns, code, part) in [
        ("user=customer_idd", Code::UndefinedColumn, "customer_id"),
        ("usr=customer_id", Code::InvalidParameter, "perhaps you meant user"),
        ("customer_id", Code::InvalidParameter, "role=column"),
        ("user=", Code::InvalidParameter, "no column is named"),
        ("user=customer_id, user=price", Code::InvalidParameter, "more than one"),
        ("user=customer_id, time=customer_id", Code::InvalidParameter, "both user and time"),
        ("value=price", Code::InvalidParameter, "not a number"),
        ("user=tags", Code::InvalidParameter, "text[]"),
        ("image=tags", Code::DatatypeMismatch, "bytea"),
    ] {
        let error = resolve(&source, columns).unwrap_err();
        assert_eq!(error.code, code, "{columns}");
        assert!(format!("{error:?}").contains(part), "{columns}: {error:?}");
    }
    let empty = resolve(&schema(&[("a", DataType::Int64)]), "auto").unwrap_err();
    assert_eq!(empty.code, Code::UndefinedColumn);
    assert!(empty.hint.unwrap().contains("user=<column>"));
}

#[test]
fn sum_targets_bring_their_column() {
    let source = schema(&[
        ("uid", DataType::Int64),
        ("ts", timestamp()),
        ("amount", DataType::Float64),
        ("Points", DataType::Int32),
        ("note", DataType::Utf8),
    ]);
    let target = |text: &str| crate::features::Target::parse(text).unwrap();
    let mut columns = resolve(&source, "auto").unwrap();
    columns.include_target(&target("sum(amount)"), &source).unwrap();
    columns.include_target(&target("sum(value)"), &source).unwrap();
    assert!(columns.extra.is_empty());
    columns.include_target(&target("sum(points)"), &source).unwrap();
    assert_eq!(columns.extra, ["Points"]);
    assert_eq!(columns.include_target(&target("sum(pionts)"), &source).unwrap_err().code, Code::UndefinedColumn);
    assert_eq!(columns.include_target(&target("sum(note)"), &source).unwrap_err().code, Code::InvalidParameter);
}
