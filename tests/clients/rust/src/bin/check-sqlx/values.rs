//! Each type as a parameter and as a result, in binary, and as text by the simple protocol.

use std::fmt::Debug;

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Utc};
use portrait_rust_clients::{Outcome, Server, check};
use rust_decimal::Decimal;
use serde_json::{Value, json};
use sqlx::postgres::types::PgInterval;
use sqlx::postgres::{PgConnection, PgHasArrayType, Postgres};
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, Column, Decode, Encode, Executor, Row, Type, TypeInfo};
use uuid::Uuid;

use crate::connection::connect;

/// Asks for parameters of a type, and for NULL, and checks what the server says of the type.
async fn round_trip<T>(connection: &mut PgConnection, name: &str, values: &[T]) -> Outcome
where
    T: for<'r> Decode<'r, Postgres> + for<'q> Encode<'q, Postgres> + Type<Postgres> + PartialEq + Debug + Clone + Send + Unpin + 'static,
{
    let sql = format!("SELECT $1::{name} AS v");
    for value in values {
        let row = sqlx::query(AssertSqlSafe(sql.clone())).bind(value.clone()).fetch_one(&mut *connection).await?;
        let column = &row.columns()[0];
        check(format!("column of {name}"), (column.name(), column.type_info().name()), ("v", T::type_info().name()))?;
        check(name, &row.try_get::<T, _>("v")?, value)?;
    }
    let null = sqlx::query_scalar::<_, Option<T>>(AssertSqlSafe(sql)).bind(None::<T>).fetch_one(connection).await?;
    check(format!("NULL of {name}"), null, None)
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

fn interval((months, days, microseconds): (i32, i32, i64)) -> PgInterval {
    PgInterval { months, days, microseconds }
}

pub async fn parameters(server: &Server) -> Outcome {
    let connection = &mut connect(server).await?;
    round_trip(connection, "bool", &[true, false]).await?;
    round_trip(connection, "int2", &[i16::MIN, 0, i16::MAX]).await?;
    round_trip(connection, "int4", &[i32::MIN, 0, i32::MAX]).await?;
    round_trip(connection, "int8", &[i64::MIN, 0, i64::MAX]).await?;
    round_trip(connection, "float4", &[f32::MIN, f32::MIN_POSITIVE, 1.5, f32::INFINITY]).await?;
    round_trip(connection, "float8", &[f64::MIN, f64::MIN_POSITIVE, 0.1, f64::NEG_INFINITY]).await?;
    round_trip(connection, "numeric(20,4)", &["0", "-0.0001", "12345.6789", "9999999999999999.9999"].map(decimal)).await?;
    round_trip(connection, "numeric", &["0", "-0.001", "12345.6789", "100000000"].map(decimal)).await?;
    round_trip(connection, "text", &["", "it's é \\ \n\t 💡", "NULL"].map(str::to_owned)).await?;
    round_trip(connection, "bytea", &[vec![], (0..=u8::MAX).collect()]).await?;
    round_trip(connection, "date", &["0001-01-01", "1969-12-31", "2024-02-29", "9999-12-31"].map(date)).await?;
    round_trip(connection, "time", &["00:00:00", "12:34:56.123456", "23:59:59.999999"].map(time)).await?;
    let timestamps = ["0001-01-01T00:00:00", "1999-12-31T23:59:59.999999", "2024-02-29T12:34:56.5", "9999-12-31T23:59:59.999999"];
    round_trip(connection, "timestamp", &timestamps.map(timestamp)).await?;
    round_trip(connection, "timestamptz", &timestamps.map(|text| instant(&format!("{text}Z")))).await?;
    round_trip(connection, "interval", &[(0, 0, 0), (14, -3, 7_200_000_001), (-1, 0, -1)].map(interval)).await?;
    round_trip(connection, "uuid", &[Uuid::nil(), Uuid::from_u128(0xa0ee_bc99_9c0b_4ef8_bb6d_6bb9_bd38_0a11), Uuid::max()]).await?;

    // The driver sends every document as jsonb.
    for document in [json!({"a": [1, 2.5, null, "é"], "b": {}}), json!([]), json!("text")] {
        for name in ["json", "jsonb"] {
            let query = sqlx::query_scalar::<_, Json<Value>>(AssertSqlSafe(format!("SELECT $1::{name}"))).bind(Json(document.clone()));
            check(name, query.fetch_one(&mut *connection).await?.0, document.clone())?;
        }
    }
    Ok(())
}

async fn array<T>(connection: &mut PgConnection, name: &str, [first, second]: [T; 2]) -> Outcome
where
    T: for<'r> Decode<'r, Postgres> + for<'q> Encode<'q, Postgres> + Type<Postgres> + PgHasArrayType,
    T: PartialEq + Debug + Clone + Send + Sync + Unpin + 'static,
{
    let arrays = [vec![], vec![Some(first.clone())], vec![Some(first), None, Some(second)], vec![None]];
    round_trip(connection, &format!("{name}[]"), &arrays).await
}

pub async fn arrays(server: &Server) -> Outcome {
    let connection = &mut connect(server).await?;
    array(connection, "bool", [true, false]).await?;
    array(connection, "int2", [i16::MIN, i16::MAX]).await?;
    array(connection, "int4", [i32::MIN, i32::MAX]).await?;
    array(connection, "int8", [i64::MIN, i64::MAX]).await?;
    array(connection, "float4", [1.5, f32::INFINITY]).await?;
    array(connection, "float8", [0.1, f64::NEG_INFINITY]).await?;
    array(connection, "numeric", ["12.5", "-0.001"].map(decimal)).await?;
    array(connection, "text", ["", "a \"b\", {c} NULL é"].map(str::to_owned)).await?;
    array(connection, "bytea", [vec![], vec![0_u8, 255]]).await?;
    array(connection, "date", ["2024-02-29", "0001-01-01"].map(date)).await?;
    array(connection, "time", ["00:00:00", "23:59:59.999999"].map(time)).await?;
    array(connection, "timestamp", ["2024-02-29T12:34:56.5", "0001-01-01T00:00:00"].map(timestamp)).await?;
    array(connection, "timestamptz", ["2024-02-29T12:34:56.5Z", "0001-01-01T00:00:00Z"].map(instant)).await?;
    array(connection, "interval", [(-1, 1, 1), (0, 0, 0)].map(interval)).await?;

    let vector: Vec<f32> = (0..1536_u16).map(|index| f32::from(index) / 7.0).collect();
    round_trip(connection, "float4[]", std::slice::from_ref(&vector)).await?;
    let query = sqlx::query_as("SELECT ($1)[3], cardinality($1)::int4, 5::int4 = ANY($2)").bind(&vector).bind([1, 5]);
    let row: (f32, i32, bool) = query.fetch_one(&mut *connection).await?;
    check("an element", row, (2.0 / 7.0, 1536, true))?;
    let ids = [Uuid::nil(), Uuid::max()];
    let query = sqlx::query_as::<_, (bool, bool)>("SELECT $1 = ANY($2), $1 = ANY($3)").bind(ids[0]).bind(&ids[..]).bind(&ids[1..]);
    check("one of some uuids", query.fetch_one(connection).await?, (true, false))
}

pub async fn texts(server: &Server) -> Outcome {
    let mut connection = connect(server).await?;
    let query = "SELECT true, 7::int4, -7::int8, 1.5::float4, 0.1::float8, 12.50::numeric(10,2), 'é', '\\x00ff'::bytea, DATE '2024-02-29', TIME '12:34:56.5',
        TIMESTAMP '2024-02-29 12:34:56.5', TIMESTAMPTZ '2024-02-29 12:34:56.5+02', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid, '{\"a\": 1}'::json,
        ARRAY[1.5::float4, NULL], ARRAY['a b', NULL], NULL";
    let row = connection.fetch_one(sqlx::raw_sql(query)).await?;
    check("bool", row.try_get::<bool, _>(0)?, true)?;
    check("int4", row.try_get::<i32, _>(1)?, 7)?;
    check("int8", row.try_get::<i64, _>(2)?, -7)?;
    check("float4", row.try_get::<f32, _>(3)?, 1.5)?;
    check("float8", row.try_get::<f64, _>(4)?, 0.1)?;
    check("numeric", row.try_get::<Decimal, _>(5)?, decimal("12.50"))?;
    check("text", row.try_get::<&str, _>(6)?, "é")?;
    check("bytea", row.try_get::<Vec<u8>, _>(7)?, vec![0, 255])?;
    check("date", row.try_get::<NaiveDate, _>(8)?, date("2024-02-29"))?;
    check("time", row.try_get::<NaiveTime, _>(9)?, time("12:34:56.5"))?;
    check("timestamp", row.try_get::<NaiveDateTime, _>(10)?, timestamp("2024-02-29T12:34:56.5"))?;
    check("timestamptz", row.try_get::<DateTime<Utc>, _>(11)?, instant("2024-02-29T10:34:56.5Z"))?;
    check("uuid", row.try_get::<Uuid, _>(12)?, Uuid::from_u128(0xa0ee_bc99_9c0b_4ef8_bb6d_6bb9_bd38_0a11))?;
    check("json", row.try_get::<Value, _>(13)?, json!({"a": 1}))?;
    check("float4[]", row.try_get::<Vec<Option<f32>>, _>(14)?, vec![Some(1.5), None])?;
    check("text[]", row.try_get::<Vec<Option<String>>, _>(15)?, vec![Some("a b".to_owned()), None])?;
    check("NULL", row.try_get::<Option<String>, _>(16)?, None)
}
