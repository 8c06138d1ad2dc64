//! Events that are too old: who may remove them, what a kill leaves, and what readers see meanwhile.
//!
//! `PORTRAIT_KILLS` says how often a removal is killed (6 unless it is set).

use std::time::Duration;

use portrait::error::Code;

use crate::common::{Random, engine, kill_after, kills, portrait_sql, rows, sql_of};

const TABLE: &str = "CREATE TABLE events (event_id bigint, user_id bigint, event_time timestamp, price double precision) \
                     WITH (user_column = user_id, time_column = event_time, event_id = event_id, retention = '300 days')";

/// 250 events a day: event 100000 comes 400 days after the first.
fn insert(from: u32, to: u32) -> String {
    format!(
        "INSERT INTO events SELECT n, (n * 7919) % 997, to_timestamp(1704067200 + n * 345.6), 1.5 FROM generate_series({from}, {to}) g(n)"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_owner_removes_and_readers_see_the_same_before_and_after() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(folder.path()).await;
    let session = engine.session("portrait").unwrap();
    let roles = "CREATE USER keeper; CREATE USER other; GRANT CREATE ON SCHEMA public TO keeper";
    rows(&session, roles).await.unwrap();
    let (keeper, other) = (engine.session("keeper").unwrap(), engine.session("other").unwrap());
    rows(&keeper, TABLE).await.unwrap();
    rows(&keeper, "GRANT SELECT ON events TO other").await.unwrap();
    for (from, to) in [(1, 60_000), (60_001, 99_999), (100_000, 100_000)] {
        rows(&keeper, &insert(from, to)).await.unwrap();
    }
    let apply = "SELECT * FROM apply_retention('events')";
    for refused in [apply, "ALTER TABLE events SET (retention = '1 day')", "ALTER TABLE events RESET (retention)"] {
        assert_eq!(rows(&other, refused).await.unwrap_err().code, Code::InsufficientPrivilege, "{refused}");
    }
    // What readers see does not depend on when the bytes go.
    let questions = [
        "SELECT count(*), count(DISTINCT event_id), min(event_id), max(event_id), min(event_time) FROM events",
        "SELECT count(*), sum(n) FROM (SELECT user_id, count(*) AS n FROM events GROUP BY user_id)",
        "SELECT count(*) FROM (SELECT user_id, window_funnel(INTERVAL '90 days', event_time, price > 1, price > 1) AS f FROM events GROUP BY 1) WHERE f = 2",
        "SELECT count(*) FROM (SELECT lag(event_time) OVER (PARTITION BY user_id ORDER BY event_time) AS before, event_time FROM events) WHERE before > event_time",
        "SELECT count(*) FROM profile_timeline(3, n => 1000)",
        "SELECT count(*) FROM events WHERE event_time < TIMESTAMP '2024-04-11'",
        "SELECT event_id FROM events WHERE user_id = 3 ORDER BY event_time LIMIT 2",
    ];
    let mut before = Vec::new();
    for question in questions {
        before.push(rows(&other, question).await.unwrap());
    }
    assert_eq!(before[0], ["75001|75001|25000|100000|2024-04-10 00:00:00"]);
    assert_eq!(rows(&keeper, apply).await.unwrap()[0].split('|').nth(2), Some("24999"));
    for (question, before) in questions.iter().zip(&before) {
        assert_eq!(&rows(&other, question).await.unwrap(), before, "{question}");
    }
    rows(&keeper, "ALTER TABLE events RESET (retention)").await.unwrap();
    assert_eq!(rows(&other, questions[0]).await.unwrap(), before[0]);
    // Another start knows the retention.
    rows(&session, "ALTER TABLE events SET (retention = '50 days')").await.unwrap();
    let half = rows(&other, questions[0]).await.unwrap();
    assert!(half[0].starts_with("12501|"), "{half:?}");
    drop((session, keeper, other));
    engine.shutdown().await;
    drop(engine);
    let engine = crate::common::engine(folder.path()).await;
    let session = engine.session("portrait").unwrap();
    assert_eq!(rows(&session, questions[0]).await.unwrap(), half);
    // No copy of histories keeps them.
    rows(&session, "SELECT count(*) FROM profile_timeline(3, n => 1000)").await.unwrap();
    rows(&session, apply).await.unwrap();
    assert_eq!(std::fs::read_dir(folder.path().join("histories")).unwrap().count(), 0);
    drop(session);
    engine.shutdown().await;
}

/// A trickle of events takes the old ones along in the background, once enough of them is old.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_events_go_in_the_background() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(folder.path()).await;
    let session = engine.session("portrait").unwrap();
    rows(&session, TABLE).await.unwrap();
    rows(&session, "ALTER TABLE events SET (retention = '100 days')").await.unwrap();
    rows(&session, &insert(1, 100_000)).await.unwrap();
    let mut left = 100_000;
    for next in 100_001..100_200 {
        rows(&session, &insert(next, next)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        // What is in the files, without what is merely hidden.
        rows(&session, "ALTER TABLE events RESET (retention)").await.unwrap();
        left = rows(&session, "SELECT count(*) FROM events").await.unwrap()[0].parse().unwrap();
        rows(&session, "ALTER TABLE events SET (retention = '100 days')").await.unwrap();
        if left < 30_000 {
            break;
        }
    }
    assert!(left < 30_000, "{left}");
    drop(session);
    engine.shutdown().await;
}

#[test]
fn a_killed_removal_is_whole_or_nothing() {
    let kills = kills(6);
    let data = tempfile::tempdir().unwrap();
    // Under the background's threshold: only what is asked for removes anything.
    sql_of(data.path(), TABLE);
    sql_of(data.path(), &insert(1, 100_000));
    let (mut random, mut whole) = (Random(4_711), 0);
    for kill in 0..kills {
        let mut removal = portrait_sql(data.path());
        kill_after(removal.args(["-c", "SELECT * FROM apply_retention('events')"]), random.millis(100, 2_600));
        let seen = "SELECT count(*), count(DISTINCT event_id), sum(event_id) FROM events";
        assert_eq!(sql_of(data.path(), seen), "75001,75001,4687562500", "kill {kill}");
        let there = sql_of(data.path(), &format!("ALTER TABLE events RESET (retention); {seen}"));
        assert!(["100000,100000,5000050000", "75001,75001,4687562500"].contains(&there.as_str()), "kill {kill}: {there}");
        whole += u32::from(there.starts_with("75001"));
        // What went comes again, for the next one to remove.
        let again = format!("{}; ALTER TABLE events SET (retention = '300 days')", insert(1, 100_000));
        sql_of(data.path(), &again);
    }
    eprintln!("{whole} of {kills} removals were done before they were killed");
    assert_eq!(sql_of(data.path(), "SELECT sum(removed) AS removed FROM apply_retention('events')"), "24999");
    assert_eq!(sql_of(data.path(), "SELECT sum(removed) AS removed FROM apply_retention('events')"), "0");
    assert_eq!(sql_of(data.path(), "ALTER TABLE events RESET (retention); SELECT count(*) FROM events"), "75001");
}
