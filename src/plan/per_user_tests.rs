use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::catalog::MemTable;
use datafusion::prelude::SessionContext;
use std::sync::Arc;

use super::*;

/// What the analysis says of `sql` over `events (user_id, kind, price, at)`, `users (id, country)`.
async fn say(sql: &str) -> Result<Rows, Reason> {
    let context = SessionContext::new();
    let table = |fields: Vec<Field>| Arc::new(MemTable::try_new(Arc::new(Schema::new(fields)), vec![vec![]]).unwrap());
    let field = |name: &str, kind: DataType| Field::new(name, kind, true);
    let events = vec![
        field("user_id", DataType::Int64),
        field("kind", DataType::Utf8),
        field("price", DataType::Float64),
        field("at", DataType::Int64),
    ];
    context.register_table("events", table(events)).unwrap();
    context.register_table("users", table(vec![field("id", DataType::Int64), field("country", DataType::Utf8)])).unwrap();
    let plan = context.state().create_logical_plan(sql).await.unwrap();
    let plan = context.state().optimize(&plan).unwrap();
    rows_per_user(&plan, &|scan| {
        (scan.table_name.table() == "events").then(|| scan.projected_schema.fields().iter().position(|field| field.name() == "user_id"))
    })
}

fn user_in(columns: &[usize]) -> Result<Rows, Reason> {
    Ok(Rows::PerUser(columns.iter().copied().collect()))
}

#[tokio::test]
async fn queries_that_are_followed() {
    for (sql, columns) in [
        ("SELECT user_id, count(*) FROM events GROUP BY user_id", &[0][..]),
        ("SELECT sum(price) AS s, user_id AS who FROM events WHERE kind = 'buy' GROUP BY user_id HAVING count(*) > 2", &[1]),
        ("SELECT user_id, kind, count(DISTINCT at) FROM events GROUP BY kind, user_id", &[0]),
        ("SELECT user_id, at, lag(at) OVER (PARTITION BY user_id ORDER BY at) FROM events", &[0]),
        ("SELECT DISTINCT user_id, kind FROM events", &[0]),
        ("SELECT DISTINCT ON (user_id) user_id, at FROM events ORDER BY user_id, at", &[0]),
        ("SELECT e.user_id, u.country, sum(price) FROM events e JOIN users u ON u.id = e.user_id GROUP BY 1, 2", &[0]),
        ("SELECT u.id, count(e.at) FROM users u LEFT JOIN events e ON u.id = e.user_id GROUP BY u.id", &[0]),
        ("SELECT id FROM users WHERE id NOT IN (SELECT user_id FROM events WHERE user_id IS NOT NULL)", &[0]),
        ("SELECT id FROM users u WHERE EXISTS (SELECT 1 FROM events e WHERE e.user_id = u.id AND kind = 'buy')", &[0]),
        (
            "SELECT a.user_id, a.n, b.m FROM (SELECT user_id, count(*) n FROM events GROUP BY 1) a
          JOIN (SELECT user_id, max(at) m FROM events GROUP BY 1) b ON a.user_id = b.user_id",
            &[0],
        ),
        ("SELECT user_id, 'a' FROM events UNION ALL SELECT user_id, kind FROM events", &[0]),
        ("SELECT user_id, price > (SELECT max(id) FROM users) FROM events", &[0]),
        ("WITH e AS (SELECT user_id AS u, price FROM events) SELECT u, avg(price) FROM e GROUP BY u ORDER BY u", &[0]),
    ] {
        assert_eq!(say(sql).await, user_in(columns), "{sql}");
    }
    assert_eq!(say("SELECT country, count(*) FROM users GROUP BY country LIMIT 3").await, Ok(Rows::Apart));
    assert_eq!(say("SELECT price FROM events").await, user_in(&[]), "rows of users, without the user");
}

#[tokio::test]
async fn queries_that_bring_users_together() {
    for (sql, reason) in [
        ("SELECT kind, count(*) FROM events GROUP BY kind", "GROUP BY has no user"),
        ("SELECT count(*) FROM events", "GROUP BY has no user"),
        ("SELECT user_id, rank() OVER (ORDER BY price) FROM events", "PARTITION BY has no user"),
        ("SELECT user_id, count(*) FROM events GROUP BY user_id ORDER BY 2 DESC LIMIT 10", "LIMIT chooses among users"),
        ("SELECT user_id, count(*) FROM events GROUP BY ROLLUP (user_id)", "bring users together"),
        ("SELECT user_id FROM events WHERE price > (SELECT avg(price) FROM events)", "GROUP BY has no user"),
        ("SELECT a.user_id FROM events a JOIN events b ON a.kind = b.kind", "does not compare user with user"),
        ("SELECT a.user_id, b.user_id FROM events a FULL JOIN events b ON a.user_id = b.user_id", "full join"),
        ("SELECT u.country, count(*) FROM users u JOIN events e ON e.user_id = u.id GROUP BY 1", "GROUP BY has no user"),
        ("SELECT DISTINCT ON (kind) user_id FROM events ORDER BY kind", "GROUP BY has no user"),
        ("SELECT u.id FROM users u LEFT JOIN events e ON u.country = e.kind", "a join loses the user"),
        ("SELECT user_id + 1, count(*) FROM events GROUP BY user_id + 1", "GROUP BY has no user"),
    ] {
        let said = say(sql).await;
        assert!(said.as_ref().is_err_and(|found| found.contains(reason)), "{sql}: {said:?}");
    }
}
