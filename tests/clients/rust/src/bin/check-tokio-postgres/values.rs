//! Each type as a parameter and as a result, in binary, and as text by the simple protocol.

use std::fmt::Debug;

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Utc};
use portrait_rust_clients::{Outcome, Server, check};
use rust_decimal::Decimal;
use serde_json::{Value, json};
use tokio_postgres::types::{FromSqlOwned, ToSql, Type};
use tokio_postgres::{Client, SimpleQueryMessage};
use uuid::Uuid;

use crate::connection::connect;
use crate::interval::Interval;

/// Asks for parameters of a type, and for NULL, and checks what the server says of the types.
async fn round_trip<T>(client: &Client, name: &str, expected: Type, values: &[T]) -> Outcome
where
    T: ToSql + FromSqlOwned + PartialEq + Debug + Sync,
{
    let statement = client.prepare(&format!("SELECT $1::{name} AS v")).await?;
    check(format!("parameter of {name}"), statement.params(), &[expected.clone()][..])?;
    let columns: Vec<_> = statement.columns().iter().map(|column| (column.name(), column.type_().clone())).collect();
    check(format!("column of {name}"), columns, vec![("v", expected)])?;
    for value in values {
        check(name, &client.query_one(&statement, &[value]).await?.try_get::<_, T>(0)?, value)?;
    }
    check(format!("NULL of {name}"), client.query_one(&statement, &[&None::<T>]).await?.try_get::<_, Option<T>>(0)?, None)
}

fn date(text: &str) -> NaiveDate {
    text.parse().expect("a date")
}

fn time(text: &str) -> NaiveTime {
    text.parse().expect("a time")
}

fn timestamp(text: &str) -> NaiveDateTime {
    text.parse().expect("a time stamp")
}

fn instant(text: &str) -> DateTime<Utc> {
    text.parse().expect("an instant")
}

fn decimal(text: &str) -> Decimal {
    text.parse().expect("a number")
}

pub async fn parameters(server: &Server) -> Outcome {
    let client = &connect(server).await?;
    round_trip(client, "bool", Type::BOOL, &[true, false]).await?;
    round_trip(client, "int2", Type::INT2, &[i16::MIN, 0, i16::MAX]).await?;
    round_trip(client, "int4", Type::INT4, &[i32::MIN, 0, i32::MAX]).await?;
    round_trip(client, "int8", Type::INT8, &[i64::MIN, 0, i64::MAX]).await?;
    round_trip(client, "float4", Type::FLOAT4, &[f32::MIN, f32::MIN_POSITIVE, 1.5, f32::INFINITY, f32::NEG_INFINITY]).await?;
    round_trip(client, "float8", Type::FLOAT8, &[f64::MIN, f64::MIN_POSITIVE, 0.1, f64::INFINITY, f64::NEG_INFINITY]).await?;
    round_trip(client, "numeric(20,4)", Type::NUMERIC, &["0", "-0.0001", "12345.6789", "9999999999999999.9999"].map(decimal)).await?;
    round_trip(client, "numeric", Type::NUMERIC, &["0", "-0.001", "12345.6789", "100000000"].map(decimal)).await?;
    round_trip(client, "text", Type::TEXT, &["", "it's é \\ \n\t 💡", "NULL"].map(str::to_owned)).await?;
    round_trip(client, "text", Type::TEXT, &["long ".repeat(100_000)]).await?;
    round_trip(client, "bytea", Type::BYTEA, &[vec![], (0..=u8::MAX).collect()]).await?;
    round_trip(client, "date", Type::DATE, &["0001-01-01", "1969-12-31", "2000-01-01", "2024-02-29", "9999-12-31"].map(date)).await?;
    round_trip(client, "time", Type::TIME, &["00:00:00", "12:34:56.123456", "23:59:59.999999"].map(time)).await?;
    let timestamps = ["0001-01-01T00:00:00", "1999-12-31T23:59:59.999999", "2024-02-29T12:34:56.5", "9999-12-31T23:59:59.999999"];
    round_trip(client, "timestamp", Type::TIMESTAMP, &timestamps.map(timestamp)).await?;
    round_trip(client, "timestamptz", Type::TIMESTAMPTZ, &timestamps.map(|text| instant(&format!("{text}Z")))).await?;
    let intervals = [(0, 0, 0), (14, -3, 7_200_000_001), (-1, 0, -1)];
    let intervals = intervals.map(|(months, days, microseconds)| Interval { months, days, microseconds });
    round_trip(client, "interval", Type::INTERVAL, &intervals).await?;
    round_trip(client, "uuid", Type::UUID, &[Uuid::nil(), Uuid::from_u128(0xa0ee_bc99_9c0b_4ef8_bb6d_6bb9_bd38_0a11), Uuid::max()]).await?;
    let documents = [json!({"a": [1, 2.5, null, "é"], "b": {}}), json!([]), json!("text"), Value::Null];
    round_trip(client, "json", Type::JSON, &documents).await?;

    let jsonb = client.query_one("SELECT $1::jsonb AS v", &[&documents[0]]).await?;
    check("jsonb", jsonb.try_get::<_, Value>(0)?, documents[0].clone())?;
    let nan = client.query_one("SELECT $1::float4, $2::float8", &[&f32::NAN, &f64::NAN]).await?;
    check("NaN", (nan.try_get::<_, f32>(0)?.is_nan(), nan.try_get::<_, f64>(1)?.is_nan()), (true, true))?;
    let zeros = client.query_one("SELECT $1::float4, $2::float8", &[&-0.0_f32, &-0.0_f64]).await?;
    check(
        "-0",
        (zeros.try_get::<_, f32>(0)?.to_bits(), zeros.try_get::<_, f64>(1)?.to_bits()),
        ((-0.0_f32).to_bits(), (-0.0_f64).to_bits()),
    )
}

async fn array<T>(client: &Client, name: &str, expected: Type, elements: [T; 2]) -> Outcome
where
    T: ToSql + FromSqlOwned + PartialEq + Debug + Sync + Clone,
{
    let [first, second] = elements;
    let arrays = [vec![], vec![Some(first.clone())], vec![Some(first), None, Some(second)], vec![None]];
    round_trip(client, &format!("{name}[]"), expected, &arrays).await
}

pub async fn arrays(server: &Server) -> Outcome {
    let client = &connect(server).await?;
    array(client, "bool", Type::BOOL_ARRAY, [true, false]).await?;
    array(client, "int2", Type::INT2_ARRAY, [i16::MIN, i16::MAX]).await?;
    array(client, "int4", Type::INT4_ARRAY, [i32::MIN, i32::MAX]).await?;
    array(client, "int8", Type::INT8_ARRAY, [i64::MIN, i64::MAX]).await?;
    array(client, "float4", Type::FLOAT4_ARRAY, [1.5, f32::INFINITY]).await?;
    array(client, "float8", Type::FLOAT8_ARRAY, [0.1, f64::NEG_INFINITY]).await?;
    array(client, "numeric", Type::NUMERIC_ARRAY, ["12.5", "-0.001"].map(decimal)).await?;
    array(client, "text", Type::TEXT_ARRAY, ["", "a \"b\", {c} NULL é"].map(str::to_owned)).await?;
    array(client, "bytea", Type::BYTEA_ARRAY, [vec![], vec![0_u8, 255]]).await?;
    array(client, "date", Type::DATE_ARRAY, ["2024-02-29", "0001-01-01"].map(date)).await?;
    array(client, "time", Type::TIME_ARRAY, ["00:00:00", "23:59:59.999999"].map(time)).await?;
    array(client, "timestamp", Type::TIMESTAMP_ARRAY, ["2024-02-29T12:34:56.5", "0001-01-01T00:00:00"].map(timestamp)).await?;
    array(client, "timestamptz", Type::TIMESTAMPTZ_ARRAY, ["2024-02-29T12:34:56.5Z", "0001-01-01T00:00:00Z"].map(instant)).await?;
    array(client, "interval", Type::INTERVAL_ARRAY, [1, 2].map(|days| Interval { months: -1, days, microseconds: 1 })).await?;

    let vector: Vec<f32> = (0..1536_u16).map(|index| f32::from(index) / 7.0).collect();
    round_trip(client, "float4[]", Type::FLOAT4_ARRAY, std::slice::from_ref(&vector)).await?;
    let row = client
        .query_one("SELECT ($1::float4[])[3], cardinality($1::float4[])::int4, 5::int4 = ANY($2::int4[])", &[&vector, &vec![1, 5]])
        .await?;
    check("an element", (row.try_get::<_, f32>(0)?, row.try_get::<_, i32>(1)?, row.try_get::<_, bool>(2)?), (2.0_f32 / 7.0, 1536, true))?;
    let ids = [Uuid::nil(), Uuid::max()];
    let any = client.query_one("SELECT $1::uuid = ANY($2::uuid[]), $1::uuid = ANY($3::uuid[])", &[&ids[0], &&ids[..], &&ids[1..]]).await?;
    check("one of some uuids", (any.try_get::<_, bool>(0)?, any.try_get::<_, bool>(1)?), (true, false))
}

/// What each type is as text.
const CONSTANTS: &[(&str, Type, &str)] = &[
    ("true", Type::BOOL, "t"),
    ("'-32768'::int2", Type::INT2, "-32768"),
    ("7::int4", Type::INT4, "7"),
    ("9223372036854775807::int8", Type::INT8, "9223372036854775807"),
    ("1.5::float4", Type::FLOAT4, "1.5"),
    ("'-Infinity'::float8", Type::FLOAT8, "-Infinity"),
    ("1e16::float8", Type::FLOAT8, "1e+16"),
    ("12.50::numeric(10,2)", Type::NUMERIC, "12.50"),
    ("'é'::text", Type::TEXT, "é"),
    ("'\\x00ff'::bytea", Type::BYTEA, "\\x00ff"),
    ("DATE '2024-02-29'", Type::DATE, "2024-02-29"),
    ("TIME '12:34:56.5'", Type::TIME, "12:34:56.5"),
    ("TIMESTAMP '2024-02-29 12:34:56.5'", Type::TIMESTAMP, "2024-02-29 12:34:56.5"),
    ("TIMESTAMPTZ '2024-02-29 12:34:56.5+02'", Type::TIMESTAMPTZ, "2024-02-29 10:34:56.5+00"),
    ("INTERVAL '1 year 2 months 3 days 04:05:06.7'", Type::INTERVAL, "1 year 2 mons 3 days 04:05:06.7"),
    ("'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid", Type::UUID, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    ("'{\"a\": [1, null]}'::json", Type::JSON, "{\"a\": [1, null]}"),
    ("ARRAY[1.5::float4, NULL, -2]", Type::FLOAT4_ARRAY, "{1.5,NULL,-2}"),
    ("ARRAY['a b', 'NULL', NULL, '']", Type::TEXT_ARRAY, "{\"a b\",\"NULL\",NULL,\"\"}"),
    ("ARRAY[DATE '2024-02-29']", Type::DATE_ARRAY, "{2024-02-29}"),
];

pub async fn constants(server: &Server) -> Outcome {
    let client = connect(server).await?;
    for (expression, expected, text) in CONSTANTS {
        let statement = client.prepare(&format!("SELECT {expression} AS v, {expression}::text AS t")).await?;
        check(expression, statement.columns()[0].type_(), expected)?;
        check(expression, client.query_one(&statement, &[]).await?.try_get::<_, &str>(1)?, if *text == "t" { "true" } else { text })?;
    }
    Ok(())
}

pub async fn texts(server: &Server) -> Outcome {
    let client = connect(server).await?;
    client.batch_execute("SET TimeZone = 'UTC'").await?;
    let list: Vec<_> = CONSTANTS.iter().map(|(expression, ..)| *expression).collect();
    let messages = client.simple_query(&format!("SELECT {}, NULL", list.join(", "))).await?;
    let rows: Vec<_> =
        messages.iter().filter_map(|message| if let SimpleQueryMessage::Row(row) = message { Some(row) } else { None }).collect();
    check("rows", rows.len(), 1)?;
    for (index, (expression, _, text)) in CONSTANTS.iter().enumerate() {
        check(expression, rows[0].try_get(index)?, Some(*text))?;
    }
    check("NULL", rows[0].try_get(list.len())?, None)
}
