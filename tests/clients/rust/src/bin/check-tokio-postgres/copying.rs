//! COPY in and out, as text and as binary.

use std::pin::pin;

use bytes::{Bytes, BytesMut};
use chrono::{NaiveDate, NaiveDateTime};
use futures_util::{SinkExt, TryStreamExt};
use portrait_rust_clients::{Outcome, Server, check};
use rust_decimal::Decimal;
use tokio_postgres::binary_copy::{BinaryCopyInWriter, BinaryCopyOutStream};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error};

use crate::connection::connect;

async fn copy_out(client: &Client, statement: &str) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
    let taken: BytesMut = pin!(client.copy_out(statement).await?).try_collect().await?;
    Ok(String::from_utf8(taken.to_vec())?)
}

pub async fn text(server: &Server) -> Outcome {
    let client = connect(server).await?;
    client.batch_execute("DROP TABLE IF EXISTS rust_copy; CREATE TABLE rust_copy (a BIGINT, b TEXT, c REAL[])").await?;
    let mut sink = pin!(client.copy_in::<_, Bytes>("COPY rust_copy FROM STDIN").await?);
    sink.send(Bytes::from_static(b"1\tx\\ty\t{1.5,2}\n2\t\\N")).await?; // a message ends anywhere
    sink.send(Bytes::from_static(b"\t\\N\n")).await?;
    check("copied in", sink.finish().await?, 2)?;
    let mut sink = pin!(client.copy_in::<_, Bytes>("COPY rust_copy (b, a) FROM STDIN (FORMAT csv, HEADER)").await?);
    sink.send(Bytes::from_static(b"b,a\n\"it\"\"s, \xc3\xa9\",3\n")).await?;
    check("copied in as CSV", sink.finish().await?, 1)?;
    check("out", copy_out(&client, "COPY rust_copy TO STDOUT").await?.len(), "1\tx\\ty\t{1.5,2}\n2\t\\N\t\\N\n3\tit\"s, é\t\\N\n".len())?;
    let query = "COPY (SELECT * FROM rust_copy ORDER BY a) TO STDOUT";
    check("out in order", copy_out(&client, query).await?, "1\tx\\ty\t{1.5,2}\n2\t\\N\t\\N\n3\tit\"s, é\t\\N\n")?;
    let csv = copy_out(&client, &format!("{query} (FORMAT csv, HEADER, DELIMITER ';')")).await?;
    check("out as CSV", csv, "a;b;c\n1;x\ty;{1.5,2}\n2;;\n3;\"it\"\"s, é\";\n")?;
    client.batch_execute("DROP TABLE rust_copy").await?;
    Ok(())
}

const COLUMNS: &str = "a BIGINT, b TEXT, c REAL[], d TIMESTAMP, e BYTEA, f BOOLEAN, g DOUBLE PRECISION, h DATE, i NUMERIC(10,2), j INTEGER";
const TYPES: [Type; 10] = [
    Type::INT8,
    Type::TEXT,
    Type::FLOAT4_ARRAY,
    Type::TIMESTAMP,
    Type::BYTEA,
    Type::BOOL,
    Type::FLOAT8,
    Type::DATE,
    Type::NUMERIC,
    Type::INT4,
];

pub async fn binary(server: &Server) -> Outcome {
    let client = connect(server).await?;
    client.batch_execute(&format!("DROP TABLE IF EXISTS rust_copy; CREATE TABLE rust_copy ({COLUMNS})")).await?;
    let day = NaiveDate::from_ymd_opt(2024, 2, 29).ok_or("no date")?;
    let time = day.and_hms_micro_opt(1, 2, 3, 456_789).ok_or("no time")?;
    let price: Decimal = "12.50".parse()?;
    let mut writer = pin!(BinaryCopyInWriter::new(client.copy_in("COPY rust_copy FROM STDIN (FORMAT binary)").await?, &TYPES));
    for number in 0..5000_i64 {
        let vector = [number as f32, 0.5];
        let row: [&(dyn ToSql + Sync); 10] = [&number, &"é\t\\", &&vector[..], &time, &&b"\x00\xff"[..], &true, &0.1, &day, &price, &7];
        writer.as_mut().write(&row).await?;
    }
    writer
        .as_mut()
        .write(&[
            &-1_i64,
            &None::<&str>,
            &None::<Vec<f32>>,
            &None::<NaiveDateTime>,
            &None::<Vec<u8>>,
            &None::<bool>,
            &None::<f64>,
            &None::<NaiveDate>,
            &None::<Decimal>,
            &None::<i32>,
        ])
        .await?;
    check("copied in", writer.finish().await?, 5001)?;

    let stream = client.copy_out("COPY (SELECT * FROM rust_copy ORDER BY a) TO STDOUT (FORMAT binary)").await?;
    let rows: Vec<_> = pin!(BinaryCopyOutStream::new(stream, &TYPES)).try_collect().await?;
    check("copied out", rows.len(), 5001)?;
    check("the first", rows[0].try_get::<i64>(0)?, -1)?;
    check("its text", rows[0].try_get::<Option<&str>>(1)?, None)?;
    check("its array", rows[0].try_get::<Option<Vec<f32>>>(2)?, None)?;
    for (row, number) in rows[1..].iter().zip(0_i64..).step_by(500) {
        check("a", row.try_get::<i64>(0)?, number)?;
        check("b", row.try_get::<&str>(1)?, "é\t\\")?;
        check("c", row.try_get::<Vec<f32>>(2)?, vec![number as f32, 0.5])?;
        check("d", row.try_get::<NaiveDateTime>(3)?, time)?;
        check("e", row.try_get::<&[u8]>(4)?, &b"\x00\xff"[..])?;
        check("f", row.try_get::<bool>(5)?, true)?;
        check("g", row.try_get::<f64>(6)?, 0.1)?;
        check("h", row.try_get::<NaiveDate>(7)?, day)?;
        check("i", row.try_get::<Decimal>(8)?.to_string(), "12.50")?;
        check("j", row.try_get::<i32>(9)?, 7)?;
    }
    client.batch_execute("DROP TABLE rust_copy").await?;
    Ok(())
}

/// Of a COPY that fails or is given up nothing stays.
pub async fn failures(server: &Server) -> Outcome {
    let client = connect(server).await?;
    client.batch_execute("DROP TABLE IF EXISTS rust_copy; CREATE TABLE rust_copy (a BIGINT, b TEXT)").await?;
    let code = |result: Result<u64, Error>| result.err().and_then(|error| error.code().map(|code| code.code().to_owned()));
    for (data, expected) in [("1\tx\nno number\ty\n", "22P02"), ("1\n", "22P04"), ("1\tx\ty\n", "22P04")] {
        let mut sink = pin!(client.copy_in::<_, Bytes>("COPY rust_copy FROM STDIN").await?);
        sink.send(Bytes::from(data)).await?;
        check(format!("{data:?}"), code(sink.finish().await).as_deref(), Some(expected))?;
    }
    {
        let mut sink = pin!(client.copy_in::<_, Bytes>("COPY rust_copy FROM STDIN").await?);
        sink.send(Bytes::from_static(b"1\tx\n")).await?; // and given up: CopyFail
    }
    check("nothing is there", client.query_one("SELECT count(*) FROM rust_copy", &[]).await?.try_get::<_, i64>(0)?, 0)?;
    let stream = client.copy_out("COPY (SELECT 10 / (100 - g) FROM generate_series(1::bigint, 200) AS s(g)) TO STDOUT").await?;
    let failed = pin!(stream).try_fold((), async |(), _| Ok(())).await.err();
    check("fails on the way", failed.and_then(|error| error.code().map(|code| code.code().to_owned())).as_deref(), Some("22012"))?;
    client.batch_execute("DROP TABLE rust_copy").await?;
    let refused = client.copy_in::<_, Bytes>("COPY nothing_there FROM STDIN").await.err();
    // The driver takes one answer too few of a COPY that does not begin: nothing else is asked on this connection.
    check("no table", refused.and_then(|error| error.code().map(|code| code.code().to_owned())).as_deref(), Some("42P01"))
}
