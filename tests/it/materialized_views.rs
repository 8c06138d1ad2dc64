//! Materialized views: what follows user by user is what the whole query gives, also after a kill.
//!
//! `PORTRAIT_KILLS` says how often a refresh is killed (4 unless it is set).

use std::time::Duration;

use crate::common::{engine, kill_after, kills, ok, portrait_sql, rows};

const EVENTS: &str = "CREATE TABLE events (event_id bigint, user_id bigint, event_time timestamp, kind text, price double precision) \
                      WITH (user_column = user_id, time_column = event_time, event_id = event_id)";

/// Queries that are followed user by user.
const FOLLOWED: [(&str, &str); 6] = [
    (
        "totals",
        "SELECT user_id, count(*) AS n, sum(price) AS spent, min(event_time) AS first, count(DISTINCT kind) AS kinds FROM events GROUP BY user_id",
    ),
    (
        "steps",
        "SELECT window_funnel(3600, event_time, kind = 'view', kind = 'cart', kind = 'buy') AS level, user_id FROM events GROUP BY user_id",
    ),
    (
        "gaps",
        "SELECT event_id, user_id, date_part('epoch', event_time) - lag(date_part('epoch', event_time)) OVER (PARTITION BY user_id ORDER BY event_time, event_id) AS gap FROM events",
    ),
    (
        "known",
        "SELECT p.id, p.country, count(e.event_id) AS n FROM people p LEFT JOIN events e ON e.user_id = p.id GROUP BY p.id, p.country",
    ),
    ("silent", "SELECT id FROM people WHERE id NOT IN (SELECT user_id FROM events WHERE kind = 'buy')"),
    (
        "both",
        "SELECT a.user_id, a.n, b.last FROM (SELECT user_id, count(*) AS n FROM events WHERE kind = 'view' GROUP BY 1) a \
              JOIN (SELECT user_id, max(event_time) AS last FROM events GROUP BY 1) b ON a.user_id = b.user_id",
    ),
];

/// New events in any order of time, some of them known already.
fn insert(seed: &mut u64, count: u32, users: u64) -> String {
    let mut next = |below: u64| {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*seed >> 33) % below
    };
    let event = |next: &mut dyn FnMut(u64) -> u64| {
        let (id, user, at, kind, price) = (next(20_000), next(users), next(86_400), next(3), next(1000));
        let kind = ["view", "cart", "buy"][kind as usize];
        format!("({id}, {user}, to_timestamp(1704067200 + {at}), '{kind}', {price} / 8.0)")
    };
    let events: Vec<String> = (0..count).map(|_| event(&mut next)).collect();
    format!("INSERT INTO events (event_id, user_id, event_time, kind, price) VALUES {}", events.join(", "))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn views_that_follow_users_have_the_rows_of_their_queries() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(folder.path()).await;
    let session = engine.session("portrait").unwrap();
    let mut seed = 7;
    rows(&session, EVENTS).await.unwrap();
    rows(&session, &insert(&mut seed, 600, 80)).await.unwrap();
    rows(
        &session,
        "CREATE TABLE people (id bigint, country text); INSERT INTO people SELECT n, 'c' || n % 7 FROM generate_series(0, 99) g(n)",
    )
    .await
    .unwrap();
    for (name, query) in FOLLOWED {
        rows(&session, &format!("CREATE MATERIALIZED VIEW {name} AS {query}")).await.unwrap();
    }
    let said = rows(&session, "SELECT name, incremental FROM ml.profile_freshness WHERE NOT incremental").await.unwrap();
    assert!(said.is_empty(), "{said:?}");
    for round in 0..12 {
        let (count, users) = [(3, 80), (40, 80), (1, 90), (200, 120)][round % 4];
        rows(&session, &insert(&mut seed, count, users)).await.unwrap();
        match round {
            5 => {
                rows(&session, "OPTIMIZE events").await.unwrap();
            }
            7 => {
                rows(&session, "INSERT INTO people VALUES (200, 'new')").await.unwrap();
            }
            9 => {
                rows(&session, "OPTIMIZE totals; VACUUM totals RETAIN 0 HOURS").await.unwrap();
            }
            _ => {}
        }
        for (name, query) in FOLLOWED {
            rows(&session, &format!("REFRESH MATERIALIZED VIEW {name}")).await.unwrap();
            let mut kept = rows(&session, &format!("SELECT * FROM {name}")).await.unwrap();
            let mut fresh = rows(&session, query).await.unwrap();
            kept.sort();
            fresh.sort();
            assert_eq!(kept, fresh, "round {round}: {name}");
        }
        let how = rows(&session, "SELECT name, last_refresh FROM ml.profile_freshness ORDER BY 1").await.unwrap();
        let whole = how.iter().filter(|row| row.contains("whole query")).count();
        // Only a change to people makes those two queries run as a whole.
        assert_eq!(whole, if round == 7 { 2 } else { 0 }, "round {round}: {how:?}");
    }
    drop(session);
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_user_is_found_in_one_page() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(folder.path()).await;
    let session = engine.session("portrait").unwrap();
    rows(&session, EVENTS).await.unwrap();
    rows(&session, "INSERT INTO events (event_id, user_id, event_time) SELECT n, (n * 7919) % 300000, TIMESTAMP '2024-01-01' FROM generate_series(1, 300000) g(n)")
        .await
        .unwrap();
    rows(&session, "CREATE MATERIALIZED VIEW cards AS SELECT user_id, count(*) AS n FROM events GROUP BY user_id").await.unwrap();
    let plan = rows(&session, "EXPLAIN ANALYZE SELECT * FROM cards WHERE user_id = 123456").await.unwrap().join("\n");
    // Of three files one is opened, and of its rows one page is decoded.
    assert!(plan.contains("LookupExec: user_id = 123456, files=1 of 3, pages=1,"), "{plan}");
    drop(session);
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refreshes_and_ingest_at_once_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(folder.path()).await;
    let session = engine.session("portrait").unwrap();
    rows(&session, EVENTS).await.unwrap();
    rows(&session, "CREATE MATERIALIZED VIEW counts AS SELECT user_id, count(*) AS n FROM events GROUP BY user_id").await.unwrap();
    let mut tasks = Vec::new();
    for writer in 0..3_u64 {
        let session = engine.session("portrait").unwrap();
        tasks.push(tokio::spawn(async move {
            let mut seed = writer;
            for _ in 0..10 {
                rows(&session, &insert(&mut seed, 50, 60)).await.unwrap();
            }
        }));
    }
    for _ in 0..2 {
        let session = engine.session("portrait").unwrap();
        tasks.push(tokio::spawn(async move {
            for _ in 0..10 {
                rows(&session, "REFRESH MATERIALIZED VIEW counts").await.unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    rows(&session, "REFRESH MATERIALIZED VIEW counts").await.unwrap();
    let kept = rows(&session, "SELECT * FROM counts ORDER BY user_id").await.unwrap();
    assert_eq!(kept, rows(&session, "SELECT user_id, count(*) FROM events GROUP BY user_id ORDER BY user_id").await.unwrap());
    drop(session);
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn views_are_refreshed_when_their_time_has_come() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(folder.path()).await;
    engine.start_schedule();
    let session = engine.session("portrait").unwrap();
    rows(&session, &format!("{EVENTS}; INSERT INTO events (event_id, user_id) VALUES (0, 0)")).await.unwrap();
    rows(
        &session,
        "CREATE MATERIALIZED VIEW counts WITH (refresh = '1 second') AS SELECT user_id, count(*) AS n FROM events GROUP BY user_id",
    )
    .await
    .unwrap();
    rows(&session, "INSERT INTO events (event_id, user_id, event_time) VALUES (1, 5, '2024-01-01')").await.unwrap();
    for _ in 0..300 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        if rows(&session, "SELECT user_id FROM counts").await.unwrap() == ["5"] {
            drop(session);
            return engine.shutdown().await;
        }
    }
    panic!("the view was not refreshed within 30 seconds");
}

#[test]
fn a_killed_refresh_is_done_again() {
    let kills = kills(4);
    let data = tempfile::tempdir().unwrap();
    ok(data.path(), EVENTS);
    let mut seed = 99;
    ok(data.path(), &insert(&mut seed, 500, 200));
    let view = "CREATE MATERIALIZED VIEW counts WITH (refresh = 'after ingest') AS \
                SELECT user_id, count(*) AS n, sum(price) AS spent FROM events GROUP BY user_id";
    ok(data.path(), view);
    for kill in 0..kills {
        let text = format!("{}; REFRESH MATERIALIZED VIEW counts", insert(&mut seed, 200, 300));
        kill_after(portrait_sql(data.path()).args(["-c", &text]), Duration::from_millis(60 + (seed >> 33) % 900));
        // Whatever the view holds now, it is some version of it, whole.
        let users = ok(data.path(), "SELECT count(*) = count(DISTINCT user_id) FROM counts");
        assert_eq!(users.lines().last(), Some("t"), "kill {kill}");
        ok(data.path(), "REFRESH MATERIALIZED VIEW counts");
        let kept = ok(data.path(), "SELECT * FROM counts ORDER BY user_id");
        let whole = ok(data.path(), "SELECT user_id, count(*) AS n, sum(price) AS spent FROM events GROUP BY user_id ORDER BY user_id");
        assert_eq!(kept, whole, "kill {kill}");
    }
}
