//! Large results: by portal, as a stream that may be left early, and of several statements.

use std::pin::pin;

use futures_util::TryStreamExt;
use portrait_rust_clients::{Outcome, Server, check};
use tokio_postgres::SimpleQueryMessage;

use crate::connection::connect;

pub async fn portals(server: &Server) -> Outcome {
    let mut client = connect(server).await?;
    let transaction = client.transaction().await?;
    let count = 10_050_i64;
    let portal = transaction.bind("SELECT g, g::text AS t FROM generate_series(1::bigint, $1) AS s(g) ORDER BY g", &[&count]).await?;
    let other = transaction.bind("SELECT g FROM generate_series(1::bigint, 5) AS s(g)", &[]).await?;
    let (mut page_lengths, mut seen) = (Vec::new(), Vec::new());
    loop {
        let rows = transaction.query_portal(&portal, 1000).await?;
        for row in &rows {
            seen.push((row.try_get::<_, i64>("g")?, row.try_get::<_, String>("t")?));
        }
        page_lengths.push(rows.len());
        if rows.len() < 1000 {
            break;
        }
        if page_lengths.len() == 3 {
            check("another portal between", transaction.query_portal(&other, 2).await?.len(), 2)?;
        }
    }
    check("pages", page_lengths, [vec![1000; 10], vec![50]].concat())?;
    check("rows", seen == (1..=count).map(|number| (number, number.to_string())).collect::<Vec<_>>(), true)?;
    check("past the end", transaction.query_portal(&portal, 1000).await?.len(), 0)?;
    let rest = transaction.query_portal(&other, 0).await?.iter().map(|row| row.try_get(0)).collect::<Result<Vec<i64>, _>>()?;
    check("the rest of the other", rest, vec![3, 4, 5])?;
    drop(portal);
    transaction.commit().await?;
    check("after it", client.query_one("SELECT 1::int4", &[]).await?.try_get::<_, i32>(0)?, 1)
}

pub async fn streams(server: &Server) -> Outcome {
    let client = connect(server).await?;
    let query = client.prepare("SELECT g, repeat('x', 100) AS filler FROM generate_series(1::bigint, $1) AS s(g)").await?;
    let mut rows = pin!(client.query_raw(&query, [100_000_i64]).await?);
    let mut sum = 0;
    while let Some(row) = rows.try_next().await? {
        sum += row.try_get::<_, i64>(0)?;
    }
    check("sum", sum, 5_000_050_000)?;
    check("rows affected", rows.rows_affected(), Some(100_000))?;
    {
        let mut rows = pin!(client.query_raw(&query, [100_000_i64]).await?);
        check("the first", rows.try_next().await?.map(|row| row.len()), Some(2))?;
    }
    check("after one that was left", client.query_one("SELECT 1::int4", &[]).await?.try_get::<_, i32>(0)?, 1)?;

    // An error after rows were sent.
    let mut rows = pin!(client.query_raw("SELECT 1000 / (1000 - g) FROM generate_series(1::bigint, 5000) AS s(g)", [0_i64; 0]).await?);
    let failed = loop {
        match rows.try_next().await {
            Ok(Some(_)) => {}
            Ok(None) => break None,
            Err(error) => break error.code().map(|code| code.code().to_owned()),
        }
    };
    check("fails on the way", failed.as_deref(), Some("22012"))?;
    check("after a failure", client.query_one("SELECT 2::int4", &[]).await?.try_get::<_, i32>(0)?, 2)
}

pub async fn several_statements(server: &Server) -> Outcome {
    let client = connect(server).await?;
    let mut seen = Vec::new();
    for message in client
        .simple_query("SELECT 1::int4 AS a; SET TimeZone = 'UTC'; SELECT 'x' AS b, NULL AS c WHERE 1 = 0; SELECT 2::int4 AS d;")
        .await?
    {
        seen.push(match message {
            SimpleQueryMessage::RowDescription(columns) => {
                columns.iter().map(|column| column.name().to_owned()).collect::<Vec<_>>().join(",")
            }
            SimpleQueryMessage::Row(row) => format!("row {:?}", row.try_get(0)?),
            SimpleQueryMessage::CommandComplete(count) => format!("done {count}"),
            other => format!("{other:?}"),
        });
    }
    check(
        "answers",
        seen,
        ["a", "row Some(\"1\")", "done 1", "done 0", "b,c", "done 0", "d", "row Some(\"2\")", "done 1"].map(str::to_owned).to_vec(),
    )?;
    client.batch_execute("").await?;
    client.batch_execute(" ; ").await?;
    check("an empty statement", client.query("", &[]).await?.len(), 0)
}
