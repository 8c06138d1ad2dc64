//! Prepared statements and transactions.

use futures_util::future::{join_all, try_join_all};
use portrait_rust_clients::{Outcome, Server, check};
use tokio_postgres::types::Type;
use tokio_postgres::{Error, IsolationLevel};

use crate::connection::connect;

fn code<T>(result: Result<T, Error>) -> Option<String> {
    result.err().and_then(|error| error.code().map(|code| code.code().to_owned()))
}

/// Parameters without casts take the type of what they are compared with, stored in or counted by.
pub async fn inferred_types(server: &Server) -> Outcome {
    let client = connect(server).await?;
    client
        .batch_execute("DROP TABLE IF EXISTS rust_t; CREATE TABLE rust_t (a BIGINT NOT NULL, b TEXT, c REAL[], d TIMESTAMP, e INTEGER)")
        .await?;
    let insert = client.prepare("INSERT INTO rust_t (a, b, c, d, e) VALUES ($1, $2, $3, $4, $5)").await?;
    check("of an INSERT", insert.params(), &[Type::INT8, Type::TEXT, Type::FLOAT4_ARRAY, Type::TIMESTAMP, Type::INT4][..])?;
    check("columns of an INSERT", insert.columns().len(), 0)?;
    let time = chrono::NaiveDate::from_ymd_opt(2024, 2, 29).and_then(|date| date.and_hms_opt(1, 2, 3)).ok_or("no date")?;
    for number in 1..=3_i32 {
        let name = (number != 2).then(|| format!("user {number}"));
        let count = client.execute(&insert, &[&i64::from(number), &name, &Some(vec![1.5_f32, 2.0]), &time, &number]).await?;
        check("inserted", count, 1)?;
    }
    check("inserted", client.execute("INSERT INTO rust_t (a) VALUES ($1), ($2)", &[&4_i64, &5_i64]).await?, 2)?;

    let select = client.prepare("SELECT b, c, d, e FROM rust_t WHERE a = $1 AND e < $2 AND b LIKE $3 LIMIT $4").await?;
    check("of a SELECT", select.params(), &[Type::INT8, Type::INT4, Type::TEXT, Type::INT8][..])?;
    let rows = client.query(&select, &[&3_i64, &9_i32, &"user%", &10_i64]).await?;
    check("rows", rows.len(), 1)?;
    check("b", rows[0].try_get::<_, Option<String>>("b")?.as_deref(), Some("user 3"))?;
    check("c", rows[0].try_get::<_, Vec<f32>>("c")?, vec![1.5, 2.0])?;
    check("d", rows[0].try_get::<_, chrono::NaiveDateTime>("d")?, time)?;
    check("e", rows[0].try_get::<_, i32>("e")?, 3)?;
    check("no row", client.query_opt(&select, &[&3_i64, &0_i32, &"user%", &10_i64]).await?.is_none(), true)?;

    let any = client.prepare("SELECT a FROM rust_t WHERE a = ANY($1) ORDER BY a").await?;
    check("of ANY", any.params(), &[Type::INT8_ARRAY][..])?;
    let found = client.query(&any, &[&vec![5_i64, 1, 77]]).await?.iter().map(|row| row.try_get(0)).collect::<Result<Vec<i64>, _>>()?;
    check("ANY", found, vec![1, 5])?;
    check("NULLs", client.query_one("SELECT count(*) FROM rust_t WHERE b IS NULL AND a > $1", &[&0_i64]).await?.try_get::<_, i64>(0)?, 3)?;
    let untyped = client.prepare("SELECT $1").await?;
    check("without a context", untyped.params(), &[Type::TEXT][..])?;
    client.batch_execute("DROP TABLE rust_t").await?;
    Ok(())
}

pub async fn declared_types(server: &Server) -> Outcome {
    let client = connect(server).await?;
    let rows = client
        .query_typed("SELECT $1 + 1::int4, $2 || '!', $3", &[(&41_i32, Type::INT4), (&"x", Type::TEXT), (&Some(2.5_f64), Type::FLOAT8)])
        .await?;
    check("rows", rows.len(), 1)?;
    check("a", rows[0].try_get::<_, i32>(0)?, 42)?;
    check("b", rows[0].try_get::<_, &str>(1)?, "x!")?;
    check("c", rows[0].try_get::<_, f64>(2)?, 2.5)?;
    let statement = client.prepare_typed("SELECT $1, $2::int8", &[Type::DATE]).await?;
    check("declared", statement.params(), &[Type::DATE, Type::INT8][..])?;
    for number in 0..20_i64 {
        let row = client.query_one(&statement, &[&None::<chrono::NaiveDate>, &number]).await?;
        check("again", row.try_get::<_, i64>(1)?, number)?;
    }
    let closed = client.prepare("SELECT 3::int4").await?;
    drop(closed); // sends Close
    check("after a Close", client.query_one("SELECT 4::int4", &[]).await?.try_get::<_, i32>(0)?, 4)
}

/// A prepared statement outlives its table: a table of the same columns is read, one of others is refused.
pub async fn tables_made_anew(server: &Server) -> Outcome {
    let client = connect(server).await?;
    client
        .batch_execute(
            "DROP TABLE IF EXISTS rust_anew; CREATE TABLE rust_anew (a BIGINT, b TEXT); INSERT INTO rust_anew VALUES (1, 'before')",
        )
        .await?;
    let select = client.prepare("SELECT * FROM rust_anew WHERE a >= $1 ORDER BY a").await?;
    check("before", client.query_one(&select, &[&0_i64]).await?.try_get::<_, &str>(1)?, "before")?;
    client.batch_execute("DROP TABLE rust_anew").await?;
    check("without a table", code(client.query(&select, &[&0_i64]).await).as_deref(), Some("42P01"))?;
    client.batch_execute("CREATE TABLE rust_anew (a BIGINT, b TEXT); INSERT INTO rust_anew VALUES (2, 'after')").await?;
    check("after", client.query_one(&select, &[&0_i64]).await?.try_get::<_, &str>(1)?, "after")?;
    let other = connect(server).await?;
    other
        .batch_execute(
            "DROP TABLE rust_anew; CREATE TABLE rust_anew (a BIGINT, b DATE, c TEXT); INSERT INTO rust_anew VALUES (3, '2024-02-29', 'x')",
        )
        .await?;
    check("with other columns", code(client.query(&select, &[&0_i64]).await).as_deref(), Some("0A000"))?;
    let row = client.query_one("SELECT * FROM rust_anew WHERE a >= $1 ORDER BY a", &[&0_i64]).await?;
    check("prepared again", (row.len(), row.try_get::<_, &str>(2)?), (3, "x"))?;
    client.batch_execute("DROP TABLE rust_anew").await?;
    Ok(())
}

pub async fn transactions(server: &Server) -> Outcome {
    let mut client = connect(server).await?;
    let transaction = client.transaction().await?;
    check("in one", transaction.query_one("SELECT 1::int4", &[]).await?.try_get::<_, i32>(0)?, 1)?;
    check("fails", code(transaction.query("SELECT 1/0", &[]).await).as_deref(), Some("22012"))?;
    check("has failed", code(transaction.query("SELECT 1", &[]).await).as_deref(), Some("25P02"))?;
    transaction.rollback().await?;
    check("after it", client.query_one("SELECT 2::int4", &[]).await?.try_get::<_, i32>(0)?, 2)?;

    let mut transaction = client.transaction().await?;
    let inner = transaction.savepoint("rust_inner").await?;
    check("fails inside", code(inner.query("SELECT * FROM nothing_there", &[]).await).as_deref(), Some("42P01"))?;
    inner.rollback().await?;
    check("after the inner one", transaction.query_one("SELECT 3::int4", &[]).await?.try_get::<_, i32>(0)?, 3)?;
    let inner = transaction.transaction().await?;
    check("inside", inner.query_one("SELECT 4::int4", &[]).await?.try_get::<_, i32>(0)?, 4)?;
    inner.commit().await?;
    transaction.commit().await?;

    drop(client.transaction().await?); // sends ROLLBACK
    check("after one that was dropped", client.query_one("SELECT 5::int4", &[]).await?.try_get::<_, i32>(0)?, 5)?;

    let strict =
        client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true).deferrable(true).start().await?;
    let shown = strict.query_one("SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only')", &[]).await?;
    check("its settings", (shown.try_get::<_, &str>(0)?, shown.try_get::<_, &str>(1)?), ("repeatable read", "on"))?;
    check("read only", code(strict.batch_execute("CREATE TABLE rust_read_only (a BIGINT)").await).as_deref(), Some("25006"))?;
    strict.rollback().await?;
    Ok(())
}

/// Queries that are sent before the first is answered.
pub async fn pipelines(server: &Server) -> Outcome {
    let client = connect(server).await?;
    let statement = client.prepare("SELECT $1::int8 * 2").await?;
    let numbers: Vec<i64> = (0..200).collect();
    let answers =
        try_join_all(numbers.iter().map(async |number| client.query_one(&statement, &[number]).await?.try_get::<_, i64>(0))).await?;
    check("answers", answers, numbers.iter().map(|number| number * 2).collect::<Vec<_>>())?;

    let divide = client.prepare("SELECT 100 / $1::int4").await?;
    let answers = join_all((0..6).map(async |number: i32| {
        let divisor = if number % 2 == 0 { number } else { number - 1 };
        code(client.query_one(&divide, &[&divisor]).await)
    }));
    let zero = Some("22012".to_owned());
    check("errors between answers", answers.await, vec![zero.clone(), zero, None, None, None, None])?;

    let prepared = try_join_all((0..20).map(async |number: i32| {
        let statement = client.prepare(&format!("SELECT {number}::int4 + $1::int4")).await?;
        client.query_one(&statement, &[&1_i32]).await?.try_get::<_, i32>(0)
    }));
    check("prepared side by side", prepared.await?, (1..=20).collect::<Vec<_>>())
}
