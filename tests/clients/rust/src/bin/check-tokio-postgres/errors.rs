//! Errors by SQLSTATE, and where in the statement they are.

use portrait_rust_clients::{Outcome, Server, check};
use tokio_postgres::error::{DbError, ErrorPosition, Severity, SqlState};
use tokio_postgres::{Client, Error};

use crate::connection::connect;

fn database_error<T>(result: Result<T, Error>) -> Result<DbError, Box<dyn std::error::Error + Send + Sync>> {
    let error = result.err().ok_or("no error")?;
    error.as_db_error().cloned().ok_or_else(|| error.into())
}

/// Statements, their SQLSTATE, and what the position points to, where there is one.
const WRONG: &[(&str, &str, Option<&str>)] = &[
    ("SELECT * FROM nothing_there", "42P01", Some("nothing_there")),
    ("SELECT nothing FROM rust_errors", "42703", Some("nothing")),
    ("SELECT a, e.nothing FROM rust_errors AS e WHERE a > 0", "42703", Some("e.nothing")),
    ("SELCT 1", "42601", Some("SELCT")),
    ("SELECT 1 +", "42601", Some("")),
    ("SELECT a b c FROM rust_errors", "42601", Some("c FROM")),
    ("SELECT 'é', nothing_known(1)", "42883", Some("nothing_known")),
    ("SELECT 'x'::int4", "22P02", None),
    ("SELECT '2024-02-30'::date", "22008", None),
    ("SELECT 'yesterdayish'::timestamp", "22007", None),
    ("SELECT b::int8 FROM rust_errors", "22P02", None),
    ("SELECT 1/0", "22012", None),
    ("SELECT a / (a - 1) FROM rust_errors", "22012", None),
    ("SELECT (a + 40000)::int2 FROM rust_errors", "22003", None),
    ("INSERT INTO rust_errors (a) VALUES (NULL)", "23502", None),
    ("CREATE TABLE rust_errors (a BIGINT)", "42P07", None),
    ("DROP TABLE nothing_there", "42P01", None),
    ("SELECT a, count(*) FROM rust_errors", "42803", Some("a, count")),
    ("SELECT pg_sleep(60)", "57014", None),
];

pub async fn errors(server: &Server) -> Outcome {
    let client = connect(server).await?;
    client.batch_execute("DROP TABLE IF EXISTS rust_errors; CREATE TABLE rust_errors (a BIGINT NOT NULL, b TEXT); INSERT INTO rust_errors VALUES (1, 'x')").await?;
    client.batch_execute("SET statement_timeout = '2s'").await?;
    let mut failed = Vec::new();
    for (statement, code, place) in WRONG {
        for simple in [true, false] {
            let answer =
                if simple { client.simple_query(statement).await.map(|_| ()) } else { client.query(*statement, &[]).await.map(|_| ()) };
            let place =
                place.and_then(|place| statement.rfind(place)).and_then(|at| u32::try_from(statement[..at].chars().count() + 1).ok());
            failed.extend(wrong(statement, answer, code, place).err().map(|error| format!("{error} (simple: {simple})")));
        }
    }
    client.batch_execute("RESET statement_timeout; DROP TABLE rust_errors").await?;
    check("all of them", failed, Vec::<String>::new())
}

fn wrong(statement: &str, answer: Result<(), Error>, code: &str, place: Option<u32>) -> Outcome {
    let error = database_error(answer).map_err(|error| format!("{statement}: {error}"))?;
    check(statement, error.code().code(), code)?;
    check(statement, error.parsed_severity(), Some(Severity::Error))?;
    check(format!("message of {statement}"), error.message().is_empty(), false)?;
    if place.is_some() {
        check(format!("position of {statement}"), error.position(), place.map(ErrorPosition::Original).as_ref())?;
    }
    Ok(())
}

async fn with_parameter(client: &Client, statement: &str, value: &str) -> Result<DbError, Box<dyn std::error::Error + Send + Sync>> {
    database_error(client.query(statement, &[&value]).await)
}

pub async fn parameters(server: &Server) -> Outcome {
    let client = connect(server).await?;
    let error = with_parameter(&client, "SELECT $1::text::int4", "x").await?;
    check("a text that is no number", error.code(), &SqlState::INVALID_TEXT_REPRESENTATION)?;
    check("its message", error.message(), "invalid input syntax for type integer: \"x\"")?;
    let error = with_parameter(&client, "SELECT $1::text::uuid", "x").await?;
    check("a text that is no uuid", error.code(), &SqlState::INVALID_TEXT_REPRESENTATION)?;
    let error = with_parameter(&client, "SELECT $1::text::bool", "maybe").await?;
    check("a text that is no boolean", error.code(), &SqlState::INVALID_TEXT_REPRESENTATION)?;
    let error = database_error(client.query("SELECT 1 / $1::int4", &[&0_i32]).await)?;
    check("a zero", error.code(), &SqlState::DIVISION_BY_ZERO)?;
    let error = database_error(client.query("SELECT $1::int8::int2", &[&40_000_i64]).await)?;
    check("an overflow", error.code(), &SqlState::NUMERIC_VALUE_OUT_OF_RANGE)?;
    check(
        "a type of the driver's",
        client.query("SELECT $1::int4", &[&"x"]).await.is_err_and(|error| error.as_db_error().is_none()),
        true,
    )?;
    check("after all", client.query_one("SELECT 1::int4", &[]).await?.try_get::<_, i32>(0)?, 1)
}
