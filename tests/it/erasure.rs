//! Users who are erased: gone from every answer, and their bytes from every file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::execution::RecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt;
use portrait::engine::{Engine, Session};
use portrait::error::{Code, Error};
use portrait::sql::{self, Outcome, RunOptions};
use portrait::storage::IngestOptions;

use crate::common::{engine, files_below, rows};

/// The first user in the order of texts: logs and the ends of files name him in full.
const USER: &str = "!alice-4711@example.org";

/// The files that have the bytes of `text`.
fn naming(folder: &Path, text: &str) -> Vec<PathBuf> {
    let names = |path: &PathBuf| std::fs::read(path).unwrap().windows(text.len()).any(|bytes| bytes == text.as_bytes());
    files_below(folder).into_iter().filter(names).collect()
}

async fn one(session: &Session, text: &str) -> String {
    rows(session, text).await.unwrap().join(",")
}

/// Events of 200 users and of one more, some of them refused; an audience, a table of scores, a copy of histories.
async fn filled(folder: &Path) -> (Arc<Engine>, Session) {
    let engine = engine(folder).await;
    let session = engine.session("portrait").unwrap();
    for statement in [
        "CREATE TABLE events (event_id bigint, user_id text, event_time timestamp, event text, price double precision) \
         WITH (user_column = user_id, time_column = event_time, event_id = event_id)",
        "INSERT INTO events SELECT n, CASE WHEN n % 201 = 0 THEN '!alice-4711@example.org' ELSE 'user-' || n % 201 END, \
         CASE WHEN n % 1005 <> 0 THEN to_timestamp(1704067200 + n * 60) END, 'view', 1.5 FROM generate_series(1, 20100) g(n)",
        "CREATE TABLE scores AS SELECT user_id, count(*) AS n FROM events GROUP BY user_id",
        "CREATE TABLE totals AS SELECT event, count(*) AS n FROM events GROUP BY event",
        "CREATE AUDIENCE everybody AS SELECT DISTINCT user_id FROM events",
        "CREATE AUDIENCE others AS SELECT DISTINCT user_id FROM events WHERE user_id LIKE 'user-%'",
    ] {
        rows(&session, statement).await.unwrap();
    }
    assert_eq!(one(&session, &format!("SELECT count(*) FROM profile_card('{USER}', 'events')")).await, "1");
    (engine, session)
}

/// Rows of the user in tables and members called so in audiences.
async fn traces(session: &Session) -> String {
    let count = |of: &str| format!("(SELECT count(*) FROM {of} WHERE user_id = '{USER}')");
    let all = ["events", "events_quarantine", "scores", "audience('everybody')"].map(count).join(", ");
    one(session, &format!("SELECT {all}")).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erased_user_is_in_no_answer_and_in_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, session) = filled(folder.path()).await;
    assert_eq!(traces(&session).await, "80|20|1|1");
    // A search that could find nothing would prove nothing.
    let named: Vec<PathBuf> = naming(folder.path(), USER);
    for part in ["_delta_log", ".parquet", "histories", "audiences"] {
        assert!(named.iter().any(|path| path.to_string_lossy().contains(part)), "{part}: {named:?}");
    }
    let receipt = rows(&session, &format!("SELECT kind, object, removed FROM erase_user('{USER}')")).await.unwrap();
    let table = |name: &str, removed: u64| format!("table|{name}|{removed}");
    for expected in [
        "audience|everybody|1".to_owned(),
        table("events", 80),
        table("events_quarantine", 20),
        table("scores", 1),
        "copies of histories|all|1".to_owned(),
    ] {
        assert!(receipt.contains(&expected), "{expected}: {receipt:?}");
    }
    assert!(!receipt.iter().any(|row| row.contains("totals") || row.contains("others")), "{receipt:?}");
    assert_eq!(traces(&session).await, "0|0|0|0");
    assert_eq!(naming(folder.path(), USER), Vec::<PathBuf>::new());
    let rest = "SELECT (SELECT count(*) FROM events), (SELECT count(DISTINCT user_id) FROM events), (SELECT count(*) FROM scores), \
                (SELECT count(*) FROM audience('everybody')), (SELECT count(*) FROM audience('others'))";
    assert_eq!(one(&session, rest).await, "20000|200|200|200|200");
    assert_eq!(one(&session, "SELECT count(*) FROM totals FOR VERSION AS OF 0").await, "1");
    let audit = "SELECT DISTINCT erasure, requested_by, users, suppressed, finished_at IS NOT NULL FROM ml.erasure_audit";
    assert_eq!(one(&session, audit).await, "1|portrait|1|yes|t");
    // Events of the user are not taken any more; others are, and the same ids once.
    let again = format!(
        "INSERT INTO events VALUES (201, '{USER}', TIMESTAMP '2024-01-02', 'view', 1), (1, 'user-1', now(), 'view', 1), \
                         (99999, 'user-1', TIMESTAMP '2024-01-02', 'view', 1)"
    );
    rows(&session, &again).await.unwrap();
    assert_eq!(one(&session, "SELECT count(*) FROM events").await, "20001");
    assert_eq!(traces(&session).await, "0|0|0|0");
    // Neither do other tables of theirs and audiences, wherever the user comes from.
    rows(&session, &format!("INSERT INTO scores VALUES ('{USER}', 1), ('user-1', 1)")).await.unwrap();
    rows(&session, &format!("CREATE AUDIENCE back AS SELECT '{USER}' AS user_id UNION ALL SELECT 'user-1'")).await.unwrap();
    assert_eq!(one(&session, "SELECT count(*) FROM scores").await, "201");
    assert_eq!(one(&session, "SELECT user_id FROM audience('back')").await, "user-1");
    let old = rows(&session, "SELECT count(*) FROM events FOR VERSION AS OF 1").await.unwrap_err();
    assert_eq!(old.code, Code::InvalidParameter, "{old:?}");
    // After a start as before it.
    drop(session);
    engine.shutdown().await;
    drop(engine);
    let engine = crate::common::engine(folder.path()).await;
    let session = engine.session("portrait").unwrap();
    assert_eq!(traces(&session).await, "0|0|0|0");
    assert_eq!(one(&session, "SELECT count(*), count(DISTINCT user_id) FROM events").await, "20001|200");
    assert_eq!(one(&session, &format!("SELECT changed FROM unsuppress_user('{USER}')")).await, "t");
    rows(&session, &format!("INSERT INTO events VALUES (201, '{USER}', TIMESTAMP '2024-01-02', 'view', 1)")).await.unwrap();
    assert_eq!(traces(&session).await, "1|0|0|0");
    rows(&session, "REFRESH AUDIENCE everybody").await.unwrap();
    assert_eq!(traces(&session).await, "1|0|0|1");
    drop(session);
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erasure_that_was_interrupted_hides_at_once_and_goes_on_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, session) = filled(folder.path()).await;
    engine.catalog().eraser().begin(&[USER.to_owned()], false, "portrait").await.unwrap();
    assert_eq!(traces(&session).await, "0|0|0|0");
    let rest = "SELECT (SELECT count(*) FROM events), (SELECT count(DISTINCT user_id) FROM events), (SELECT min(event_time) FROM events), \
                (SELECT count(*) FROM scores), (SELECT sum(n) FROM totals)";
    assert_eq!(one(&session, rest).await, "20000|200|2024-01-01 00:01:00|200|20080");
    assert_eq!(one(&session, "SELECT count(*) FROM (SELECT event FROM events LIMIT 30000)").await, "20000");
    assert_eq!(one(&session, &format!("SELECT count(*) FROM profile_card('{USER}', 'events')")).await, "0");
    let funnel =
        "SELECT count(*) FROM (SELECT user_id, window_funnel(INTERVAL '1 day', event_time, event = 'view') FROM events GROUP BY 1)";
    assert_eq!(one(&session, funnel).await, "200");
    assert!(!naming(folder.path(), USER).is_empty());
    drop(session);
    engine.shutdown().await;
    drop(engine);
    let engine = crate::common::engine(folder.path()).await;
    let session = engine.session("portrait").unwrap();
    let audit = "SELECT count(*) FROM ml.erasure_audit WHERE finished_at IS NULL";
    for _ in 0..600 {
        if one(&session, audit).await == "0" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(one(&session, audit).await, "0");
    assert_eq!(naming(folder.path(), USER), Vec::<PathBuf>::new());
    assert_eq!(traces(&session).await, "0|0|0|0");
    assert_eq!(one(&session, rest).await, "20000|200|2024-01-01 00:01:00|200|20080");
    drop(session);
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_users_by_query_and_who_may() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(folder.path()).await;
    let session = engine.session("portrait").unwrap();
    for statement in [
        "CREATE TABLE events (user_id bigint, event_time timestamp, price double precision) WITH (user_column = user_id, time_column = event_time)",
        "INSERT INTO events SELECT n % 997 - 3, to_timestamp(1704067200 + n), 1.5 FROM generate_series(1, 300000) g(n)",
        "INSERT INTO events SELECT n % 997 - 3, to_timestamp(1705067200 + n), 1.5 FROM generate_series(1, 3000) g(n)",
        "CREATE TABLE leavers AS SELECT DISTINCT user_id AS who FROM events WHERE user_id % 10 = 0",
        "CREATE USER analyst",
    ] {
        rows(&session, statement).await.unwrap();
    }
    let before = one(&session, "SELECT count(*), count(DISTINCT user_id) FROM events WHERE user_id % 10 <> 0").await;
    let gone = one(&session, "SELECT count(*) FROM events WHERE user_id % 10 = 0").await;
    let analyst = engine.session("analyst").unwrap();
    for refused in ["SELECT * FROM erase_users('leavers')", "SELECT * FROM erase_user(7)", "SELECT * FROM suppress_user(7)"] {
        assert_eq!(rows(&analyst, refused).await.unwrap_err().code, Code::InsufficientPrivilege, "{refused}");
    }
    let removed = "SELECT removed FROM erase_users('leavers', suppress => false) WHERE object = 'events'";
    assert_eq!(one(&session, removed).await, gone);
    assert_eq!(one(&session, "SELECT count(*), count(DISTINCT user_id) FROM events").await, before);
    // Nobody of them is left: nothing is written anew, and nothing is lost, older versions neither.
    rows(&session, "INSERT INTO events VALUES (1, now(), 1), (2, now(), 1)").await.unwrap();
    let before = one(&session, "SELECT count(*), count(DISTINCT user_id) FROM events").await;
    let receipt = rows(&session, "SELECT * FROM erase_users($$SELECT who FROM leavers$$)").await.unwrap();
    assert!(receipt.iter().any(|row| row.starts_with("table|events|0|0|")), "{receipt:?}");
    for (mistake, code) in [
        ("SELECT * FROM erase_user(1.5)", Code::DatatypeMismatch),
        ("SELECT * FROM erase_user(NULL)", Code::InvalidParameter),
        ("SELECT * FROM erase_users($$SELECT price FROM events$$)", Code::DatatypeMismatch),
        ("SELECT * FROM erase_users('nothing')", Code::UndefinedTable),
        ("SELECT * FROM erase_users('events')", Code::InvalidParameter),
        ("SELECT * FROM events WHERE user_id IN (SELECT removed FROM erase_user(1))", Code::FeatureNotSupported),
    ] {
        assert_eq!(rows(&session, mistake).await.unwrap_err().code, code, "{mistake}");
    }
    let plan = rows(&session, "EXPLAIN SELECT * FROM erase_user(1)").await.unwrap();
    assert!(!plan.is_empty());
    assert_eq!(one(&session, "SELECT count(*), count(DISTINCT user_id) FROM events").await, before);
    assert_eq!(one(&session, "SELECT count(DISTINCT erasure) FROM ml.erasure_audit").await, "2");
    drop((session, analyst));
    engine.shutdown().await;
}

/// Starts a statement that takes rows or gives them.
async fn started(session: &Session, text: &str) -> Outcome {
    sql::run(session, &sql::parse(text).unwrap().remove(0), RunOptions::default()).await.unwrap()
}

/// What was planned while the user's rows were still there must not write them once they are gone, whatever takes the rows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_read_before_an_erasure_is_not_written_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, session) = filled(folder.path()).await;
    let catalog = engine.catalog();
    rows(&session, "CREATE TABLE names (name text, n bigint)").await.unwrap();
    let begun = catalog.erasures_begun();
    let options = IngestOptions { now_us: 0, future_tolerance_us: i64::MAX, erasures: begun };
    let read = |text: &str| {
        let (session, text) = (session.clone(), text.replace("$1", &format!("'{USER}'")));
        async move {
            let Outcome::Rows { stream, schema, .. } = started(&session, &text).await else { panic!("{text}") };
            let batches: Vec<_> = stream.collect().await;
            Box::pin(RecordBatchStreamAdapter::new(schema, futures::stream::iter(batches)))
        }
    };
    // Read, and not yet written.
    let of_plain = read("SELECT user_id, 7 AS n FROM events WHERE user_id = $1").await;
    let of_events = read("SELECT event_id + 1000000, user_id, event_time, event, price, ingested_at FROM events WHERE user_id = $1").await;
    let of_new = read("SELECT user_id FROM events WHERE user_id = $1").await;
    let of_others = read("SELECT event AS name, count(*) AS n FROM events GROUP BY event").await;
    let (mut copy, mut copied) = (Vec::new(), Vec::new());
    for (text, line) in [
        ("COPY scores FROM STDIN", format!("{USER}\t9\n")),
        ("COPY events (event_id, user_id, event_time) FROM STDIN", format!("5000000\t{USER}\t2024-01-01\n")),
    ] {
        let Outcome::CopyIn(mut started) = started(&session, text).await else { panic!("{text}") };
        started.push(line.as_bytes());
        copy.push(started);
    }
    rows(&session, &format!("SELECT * FROM erase_user('{USER}', suppress => false)")).await.unwrap();
    let refused = |done: Result<String, Error>| assert_eq!(done.unwrap_err().code, Code::Serialization);
    for copy in copy {
        copied.push(copy.finish().await);
    }
    copied.into_iter().for_each(refused);
    refused(catalog.insert("scores", of_plain, options).await.map(|done| done.to_string()));
    refused(catalog.insert("events", of_events, options).await.map(|done| done.to_string()));
    refused(catalog.create_managed_as("late", of_new.schema(), begun, of_new, "portrait").await.map(|done| done.to_string()));
    assert!(catalog.describe("late").is_none());
    let mut members = catalog.audience_builder(begun).await.unwrap();
    let batch = read("SELECT $1 AS user_id").await.next().await.unwrap().unwrap();
    assert_eq!(members.push(batch.column(0)).unwrap_err().code, Code::Serialization);
    assert_eq!(traces(&session).await, "0|0|0|0");
    assert_eq!(naming(folder.path(), USER), Vec::<PathBuf>::new());
    // A table that says of no row whose it is takes what it was given.
    assert_eq!(catalog.insert("names", of_others, options).await.unwrap().new, 1);
    // The user is not suppressed: what comes later is taken.
    rows(&session, &format!("INSERT INTO scores VALUES ('{USER}', 1)")).await.unwrap();
    assert_eq!(traces(&session).await, "0|0|1|0");
    drop(session);
    engine.shutdown().await;
}

/// Statements that copy a user's rows over and over while the user is erased: none of them may be the last.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn copies_race_erasures_and_lose() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, session) = filled(folder.path()).await;
    for user in ["user-1", "user-2", "user-3"] {
        let copying = |session: Session, text: String| {
            tokio::spawn(async move {
                for _ in 0..8 {
                    match rows(&session, &text).await {
                        Ok(_) => {}
                        // Files of older versions go while somebody reads them.
                        Err(error) => assert!(matches!(error.code, Code::Serialization | Code::Io), "{error:?}"),
                    }
                }
            })
        };
        let text = format!("INSERT INTO scores SELECT user_id, 1 FROM events WHERE user_id = '{user}' LIMIT 3");
        let other = format!(
            "INSERT INTO events SELECT event_id + 10000000, user_id, event_time, event, price, ingested_at FROM events WHERE user_id = '{user}'"
        );
        let tasks = [copying(engine.session("portrait").unwrap(), text), copying(engine.session("portrait").unwrap(), other)];
        rows(&session, &format!("SELECT * FROM erase_user('{user}', suppress => false)")).await.unwrap();
        for task in tasks {
            task.await.unwrap();
        }
        let left = format!(
            "SELECT (SELECT count(*) FROM scores WHERE user_id = '{user}'), (SELECT count(*) FROM events WHERE user_id = '{user}')"
        );
        assert_eq!(one(&session, &left).await, "0|0", "{user}");
    }
    drop(session);
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receipt_survives_what_interrupts_its_erasure() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, session) = filled(folder.path()).await;
    let eraser = engine.catalog().eraser();
    eraser.begin(&[USER.to_owned()], false, "portrait").await.unwrap();
    eraser.erase_rows(false).await.unwrap();
    // The process ends here, as it seems: whoever goes on finds no rows any more.
    drop((session, eraser));
    engine.shutdown().await;
    drop(engine);
    let engine = crate::common::engine(folder.path()).await;
    let session = engine.session("portrait").unwrap();
    let open = "SELECT count(*) FROM ml.erasure_audit WHERE finished_at IS NULL";
    for _ in 0..600 {
        if one(&session, open).await == "0" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let receipt = "SELECT object, removed FROM ml.erasure_audit WHERE kind IN ('table', 'audience') AND removed > 0 ORDER BY object";
    assert_eq!(rows(&session, receipt).await.unwrap(), ["events|80", "events_quarantine|20", "everybody|1", "scores|1"]);
    drop(session);
    engine.shutdown().await;
}

/// A thousand users and more are in a file of their own, not in the one that is written with every change.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_suppressed_users_are_kept_beside_the_catalog() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(folder.path()).await;
    let session = engine.session("portrait").unwrap();
    rows(&session, "CREATE TABLE t (user_id bigint, n bigint)").await.unwrap();
    rows(&session, "INSERT INTO t SELECT n, n FROM generate_series(1, 3000) g(n)").await.unwrap();
    rows(&session, "SELECT * FROM suppress_user(2999)").await.unwrap();
    rows(&session, "SELECT * FROM erase_users($$SELECT n AS u FROM generate_series(1, 2500) g(n)$$)").await.unwrap();
    let size = std::fs::metadata(folder.path().join("catalog/catalog.json")).unwrap().len();
    assert!(size < 20_000, "{size}");
    let counted = "SELECT users, length(user_hashes) FROM ml.suppressed_users";
    assert_eq!(one(&session, counted).await, "2501|32999");
    assert_eq!(one(&session, "SELECT changed FROM unsuppress_user(7)").await, "t");
    assert_eq!(one(&session, "SELECT changed FROM unsuppress_user(7)").await, "f");
    assert_eq!(one(&session, "SELECT changed FROM suppress_user(8)").await, "f");
    let taken = "INSERT INTO t VALUES (7, 0), (8, 0), (2999, 0), (3000, 0)";
    let check = async |session: &Session| {
        assert_eq!(one(session, "SELECT count(*) FROM t WHERE n = 0").await, "2");
        assert_eq!(one(session, "SELECT users FROM ml.suppressed_users").await, "2500");
        assert_eq!(one(session, "SELECT users, length(user_hashes) FROM ml.erasure_audit WHERE kind = 'table'").await, "2500|32999");
    };
    rows(&session, taken).await.unwrap();
    check(&session).await;
    drop(session);
    engine.shutdown().await;
    drop(engine);
    let engine = crate::common::engine(folder.path()).await;
    let session = engine.session("portrait").unwrap();
    check(&session).await;
    assert_eq!(one(&session, "SELECT changed FROM suppress_user(7)").await, "t");
    rows(&session, taken).await.unwrap();
    assert_eq!(one(&session, "SELECT count(*) FROM t WHERE n = 0").await, "3");
    drop(session);
    engine.shutdown().await;
}

/// Files of a plain table that no version names go with an erasure and with VACUUM; those of others stay.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_killed_statements_left_is_swept() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, session) = filled(folder.path()).await;
    let tables: Vec<PathBuf> = std::fs::read_dir(folder.path().join("tables")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let leave = || {
        for table in &tables {
            std::fs::write(table.join("part-00077-left.zstd.parquet"), USER).unwrap();
            std::fs::write(table.join("notes.txt"), "somebody's").unwrap();
        }
    };
    let left = || files_below(folder.path()).into_iter().filter(|path| path.to_string_lossy().contains("-left.zstd")).count();
    // The first use of a table sweeps it, too.
    rows(&session, "SELECT * FROM totals; SELECT * FROM scores; SELECT * FROM events_quarantine; SELECT * FROM events").await.unwrap();
    leave();
    assert_eq!(left(), 4);
    rows(&session, &format!("SELECT * FROM erase_user('{USER}')")).await.unwrap();
    // totals had none of the user's rows, and keeps its versions and whatever lies there.
    assert_eq!(left(), 1);
    leave();
    rows(&session, "VACUUM RETAIN 1 HOURS").await.unwrap();
    assert_eq!(left(), 4, "they may be of somebody who is still writing");
    rows(&session, "VACUUM RETAIN 0 HOURS").await.unwrap();
    assert_eq!(left(), 0);
    assert_eq!(files_below(folder.path()).iter().filter(|path| path.ends_with("notes.txt")).count(), 4);
    assert_eq!(one(&session, "SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM scores)").await, "20000|200");
    drop(session);
    engine.shutdown().await;
}
