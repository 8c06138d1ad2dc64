//! Large results, which may be left early, results of several statements, and rows that come as arrays.

use futures_util::{StreamExt, TryStreamExt};
use portrait_rust_clients::{Outcome, Server, check};
use sqlx::{Either, Executor, Row};

use crate::connection::connect;

pub async fn streams(server: &Server) -> Outcome {
    let mut connection = connect(server).await?;
    let query = "SELECT g, repeat('x', 100) AS filler FROM generate_series(1::bigint, $1) AS s(g)";
    let mut rows = sqlx::query(query).bind(100_000_i64).fetch(&mut connection);
    let (mut sum, mut count) = (0, 0);
    while let Some(row) = rows.try_next().await? {
        sum += row.try_get::<i64, _>(0)?;
        count += row.try_get::<&str, _>(1)?.len();
    }
    drop(rows);
    check("sums", (sum, count), (5_000_050_000, 10_000_000))?;
    let first: Vec<_> = sqlx::query_scalar::<_, i64>("SELECT g FROM generate_series(1::bigint, $1) AS s(g) ORDER BY g")
        .bind(100_000_i64)
        .fetch(&mut connection)
        .take(3)
        .try_collect()
        .await?;
    check("the first", first, vec![1, 2, 3])?;
    check("after one that was left", sqlx::query_scalar::<_, i32>("SELECT 1::int4").fetch_one(&mut connection).await?, 1)?;
    let first: i64 = sqlx::query_scalar("SELECT g FROM generate_series(5::bigint, 9) AS s(g)").fetch_one(&mut connection).await?;
    check("one of several", first, 5)
}

pub async fn several_statements(server: &Server) -> Outcome {
    let mut connection = connect(server).await?;
    let statements = "SELECT 1::int4 AS a; SET application_name = 'x'; SELECT 'x' AS b WHERE 1 = 0; SELECT 2::int4 AS a UNION ALL SELECT 3::int4 ORDER BY a;";
    let mut seen = Vec::new();
    let mut answers = connection.fetch_many(sqlx::raw_sql(statements));
    while let Some(answer) = answers.try_next().await? {
        seen.push(match answer {
            Either::Left(done) => format!("done {}", done.rows_affected()),
            Either::Right(row) => format!("row {}", row.try_get::<i32, _>("a")?),
        });
    }
    drop(answers);
    check("answers", seen, ["row 1", "done 1", "done 0", "done 0", "row 2", "row 3", "done 2"].map(str::to_owned).to_vec())?;
    check("an empty statement", connection.execute("").await?.rows_affected(), 0)
}

/// What the driver's guide advises for many rows at once.
pub async fn rows_by_unnest(server: &Server) -> Outcome {
    let mut connection = connect(server).await?;
    connection.execute("DROP TABLE IF EXISTS sqlx_unnest; CREATE TABLE sqlx_unnest (a BIGINT, b TEXT)").await?;
    let numbers: Vec<i64> = (0..1000).collect();
    let names: Vec<Option<String>> = numbers.iter().map(|number| (number % 10 != 0).then(|| format!("user {number}"))).collect();
    let insert = sqlx::query("INSERT INTO sqlx_unnest (a, b) SELECT * FROM UNNEST($1::int8[], $2::text[])").bind(&numbers).bind(&names);
    check("inserted", insert.execute(&mut connection).await?.rows_affected(), 1000)?;
    let seen: (i64, i64, i64) =
        sqlx::query_as("SELECT count(*), count(b), max(a) FROM sqlx_unnest WHERE a < $1").bind(500_i64).fetch_one(&mut connection).await?;
    check("counted", seen, (500, 450, 499))?;
    let mut builder = sqlx::QueryBuilder::new("INSERT INTO sqlx_unnest (a, b) ");
    builder.push_values(2000..2100_i64, |mut row, number| {
        row.push_bind(number).push_bind(format!("user {number}"));
    });
    check("inserted by the builder", builder.build().execute(&mut connection).await?.rows_affected(), 100)?;
    connection.execute("DROP TABLE sqlx_unnest").await?;
    Ok(())
}
