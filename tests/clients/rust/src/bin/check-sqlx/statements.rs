//! Prepared statements, which the driver keeps, transactions, and errors.

use futures_util::TryStreamExt;
use portrait_rust_clients::{Outcome, Server, check};
use sqlx::postgres::{PgDatabaseError, PgErrorPosition, PgSeverity};
use sqlx::{AssertSqlSafe, Connection, Either, Executor, PgConnection, Row, SqlSafeStr, Statement, TypeInfo};

use crate::connection::{code, connect, options};

pub async fn inferred_types(server: &Server) -> Outcome {
    let connection = &mut connect(server).await?;
    connection
        .execute("DROP TABLE IF EXISTS sqlx_t; CREATE TABLE sqlx_t (a BIGINT NOT NULL, b TEXT, c REAL[], d TIMESTAMP, e INTEGER)")
        .await?;
    let insert = (&mut *connection).prepare("INSERT INTO sqlx_t (a, b, c, d, e) VALUES ($1, $2, $3, $4, $5)".into_sql_str()).await?;
    let Some(Either::Left(parameters)) = insert.parameters() else { return Err("no parameters".into()) };
    check(
        "of an INSERT",
        parameters.iter().map(TypeInfo::name).collect::<Vec<_>>(),
        vec!["INT8", "TEXT", "FLOAT4[]", "TIMESTAMP", "INT4"],
    )?;
    let time = chrono::NaiveDate::from_ymd_opt(2024, 2, 29).and_then(|date| date.and_hms_opt(1, 2, 3)).ok_or("no date")?;
    for number in 1..=3 {
        let name = (number != 2).then(|| format!("user {number}"));
        let query = insert.query().bind(i64::from(number)).bind(name).bind(vec![1.5_f32, 2.0]).bind(time).bind(number);
        check("inserted", query.execute(&mut *connection).await?.rows_affected(), 1)?;
    }
    let select = "SELECT a, b, c, d, e FROM sqlx_t WHERE a = ANY($1) AND e < $2 ORDER BY a LIMIT $3";
    let rows = sqlx::query(select).bind([1_i64, 2, 77]).bind(9).bind(10_i64).fetch_all(&mut *connection).await?;
    check("rows", rows.len(), 2)?;
    check("b", (rows[0].try_get::<Option<&str>, _>("b")?, rows[1].try_get::<Option<&str>, _>("b")?), (Some("user 1"), None))?;
    check("c", rows[0].try_get::<Vec<f32>, _>("c")?, vec![1.5, 2.0])?;
    check("d", rows[0].try_get::<chrono::NaiveDateTime, _>("d")?, time)?;
    check("e", rows[1].try_get::<i32, _>("e")?, 2)?;
    let none = sqlx::query("SELECT a FROM sqlx_t WHERE b = $1").bind("nobody").fetch_optional(&mut *connection).await?;
    check("no row", none.is_none(), true)?;
    let count = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM sqlx_t WHERE d >= $1 AND b IS NOT NULL").bind(time);
    check("count", count.fetch_one(&mut *connection).await?, 2)?;
    connection.execute("DROP TABLE sqlx_t").await?;
    Ok(())
}

/// Statements beyond the capacity are closed, and so are all when they are cleared.
pub async fn kept(server: &Server) -> Outcome {
    let mut connection = PgConnection::connect_with(&options(server).statement_cache_capacity(3)).await?;
    for number in 0..30 {
        let query = sqlx::query_scalar::<_, i32>(AssertSqlSafe(format!("SELECT {}::int4 + $1", number % 7))).bind(number);
        check("answer", query.fetch_one(&mut connection).await?, number % 7 + number)?;
    }
    check("kept", connection.cached_statements_size(), 3)?;
    let names = "SELECT count(*) FROM pg_prepared_statements WHERE name LIKE 'sqlx%'";
    check("kept by the server", sqlx::query_scalar::<_, i64>(names).persistent(false).fetch_one(&mut connection).await?, 3)?;
    connection.clear_cached_statements().await?;
    check("cleared", connection.cached_statements_size(), 0)?;
    check("cleared by the server", sqlx::query_scalar::<_, i64>(names).persistent(false).fetch_one(&mut connection).await?, 0)?;
    let unnamed = sqlx::query_scalar::<_, i32>("SELECT $1 + 1::int4").bind(1).persistent(false);
    check("unnamed", unnamed.fetch_one(&mut connection).await?, 2)
}

/// A kept statement outlives its table: a table of the same columns is read, one of others is refused until it is prepared again.
pub async fn tables_made_anew(server: &Server) -> Outcome {
    let (mut connection, mut other) = (connect(server).await?, connect(server).await?);
    connection
        .execute("DROP TABLE IF EXISTS sqlx_anew; CREATE TABLE sqlx_anew (a BIGINT, b TEXT); INSERT INTO sqlx_anew VALUES (1, 'before')")
        .await?;
    let select = "SELECT * FROM sqlx_anew WHERE a >= $1";
    let row = sqlx::query(select).bind(0_i64).fetch_one(&mut connection).await?;
    check("before", row.try_get::<&str, _>("b")?, "before")?;
    other.execute("DROP TABLE sqlx_anew; CREATE TABLE sqlx_anew (a BIGINT, b TEXT); INSERT INTO sqlx_anew VALUES (2, 'after')").await?;
    let row = sqlx::query(select).bind(0_i64).fetch_one(&mut connection).await?;
    check("after", row.try_get::<&str, _>("b")?, "after")?;
    other
        .execute("DROP TABLE sqlx_anew; CREATE TABLE sqlx_anew (b DATE, a BIGINT); INSERT INTO sqlx_anew VALUES ('2024-02-29', 3)")
        .await?;
    let answer = sqlx::query(select).bind(0_i64).fetch_one(&mut connection).await;
    check("with other columns", code(answer).as_deref(), Some("0A000"))?;
    connection.clear_cached_statements().await?;
    let row = sqlx::query(select).bind(0_i64).fetch_one(&mut connection).await?;
    check(
        "prepared again",
        (row.try_get::<chrono::NaiveDate, _>("b")?.to_string(), row.try_get::<i64, _>("a")?),
        ("2024-02-29".to_owned(), 3),
    )?;
    connection.execute("DROP TABLE sqlx_anew").await?;
    Ok(())
}

async fn number(connection: &mut PgConnection, number: i32) -> sqlx::Result<i32> {
    sqlx::query_scalar("SELECT $1").bind(number).fetch_one(connection).await
}

pub async fn transactions(server: &Server) -> Outcome {
    let mut connection = connect(server).await?;
    let mut transaction = connection.begin().await?;
    check("in one", number(&mut transaction, 1).await?, 1)?;
    let mut inner = transaction.begin().await?;
    check("fails inside", code(inner.execute("SELECT 1/0").await).as_deref(), Some("22012"))?;
    check("has failed", code(number(&mut inner, 1).await).as_deref(), Some("25P02"))?;
    inner.rollback().await?;
    check("after the inner one", number(&mut transaction, 2).await?, 2)?;
    let inner = transaction.begin().await?;
    inner.commit().await?;
    transaction.commit().await?;

    {
        let mut transaction = connection.begin().await?;
        check("fails", code(transaction.execute("SELECT * FROM nothing_there").await).as_deref(), Some("42P01"))?;
    } // dropped: rolled back before the next query
    check("after one that was dropped", number(&mut connection, 3).await?, 3)?;

    let mut strict = connection.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    let shown =
        sqlx::query_as::<_, (String, String)>("SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only')");
    check("its settings", shown.fetch_one(&mut *strict).await?, ("repeatable read".to_owned(), "on".to_owned()))?;
    check("read only", code(strict.execute("CREATE TABLE sqlx_read_only (a BIGINT)").await).as_deref(), Some("25006"))?;
    strict.rollback().await?;
    let result = connection.transaction(|transaction| Box::pin(async move { number(transaction, 4).await })).await?;
    check("by a closure", result, 4)
}

/// Statements, their SQLSTATE, and what the position points to, where there is one.
const WRONG: &[(&str, &str, Option<&str>)] = &[
    ("SELECT * FROM nothing_there", "42P01", Some("nothing_there")),
    ("SELECT a, nothing FROM sqlx_errors", "42703", Some("nothing")),
    ("SELCT 1", "42601", Some("SELCT")),
    ("SELECT 'é', nothing_known(1)", "42883", Some("nothing_known")),
    ("SELECT 'x'::int4", "22P02", None),
    ("SELECT b::int8 FROM sqlx_errors", "22P02", None),
    ("SELECT a / (a - 1) FROM sqlx_errors", "22012", None),
    ("INSERT INTO sqlx_errors (a) VALUES (NULL)", "23502", None),
    ("CREATE TABLE sqlx_errors (a BIGINT)", "42P07", None),
];

pub async fn errors(server: &Server) -> Outcome {
    let mut connection = connect(server).await?;
    connection.execute("DROP TABLE IF EXISTS sqlx_errors; CREATE TABLE sqlx_errors (a BIGINT NOT NULL, b TEXT); INSERT INTO sqlx_errors VALUES (1, 'x')").await?;
    let mut failed = Vec::new();
    for &(statement, code, place) in WRONG {
        for simple in [true, false] {
            let answer = if simple {
                connection.execute(sqlx::raw_sql(statement)).await
            } else {
                sqlx::query(statement).execute(&mut connection).await
            };
            failed.extend(wrong(statement, answer.err(), code, place).err().map(|error| format!("{error} (simple: {simple})")));
        }
    }
    check("all of them", failed, Vec::<String>::new())?;
    let answer = sqlx::query("SELECT $1::text::int4").bind("x").execute(&mut connection).await;
    check("a parameter", code(answer).as_deref(), Some("22P02"))?;
    let rows = sqlx::query("SELECT 1000 / (1000 - g) FROM generate_series(1::bigint, 5000) AS s(g)").fetch(&mut connection);
    check("on the way", code(rows.try_for_each(async |_| Ok(())).await).as_deref(), Some("22012"))?;
    connection.execute("DROP TABLE sqlx_errors").await?;
    Ok(())
}

fn wrong(statement: &str, error: Option<sqlx::Error>, code: &str, place: Option<&str>) -> Outcome {
    let error = error.ok_or_else(|| format!("{statement}: no error"))?;
    let error = error.as_database_error().ok_or_else(|| format!("{statement}: {error}"))?.downcast_ref::<PgDatabaseError>();
    check(statement, error.code(), code)?;
    check(statement, error.severity(), PgSeverity::Error)?;
    check(format!("message of {statement}"), error.message().is_empty(), false)?;
    let Some(at) = place.and_then(|place| statement.rfind(place)) else { return Ok(()) };
    let position = PgErrorPosition::Original(statement[..at].chars().count() + 1);
    check(format!("position of {statement}"), error.position(), Some(position))
}
