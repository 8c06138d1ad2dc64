//! Tables of events: what their plans look like, what survives a kill, and writers at the same time.
//!
//! `PORTRAIT_KILLS` says how often an import is killed (6 unless it is set).

use std::path::Path;
use std::process::Output;
use std::sync::Arc;

use crate::common::{Random, engine, kill_after, kills, portrait, printed, rows, sql_of};

const TABLE: &str = "CREATE TABLE events (event_id bigint, user_id bigint, event_time timestamp, price double precision) \
                     WITH (user_column = user_id, time_column = event_time, event_id = event_id)";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plans_per_user_need_no_sort() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(folder.path()).await;
    let session = engine.session("portrait").unwrap();
    let insert = |from: u32, to: u32| {
        format!(
            "INSERT INTO events SELECT n, (n * 7919) % 40000, to_timestamp(1704067200 + n % 86400), 1.5 \
             FROM generate_series({from}, {to}) g(n)"
        )
    };
    rows(&session, &format!("{TABLE}; {}", insert(1, 300_000))).await.unwrap();
    let per_user = "EXPLAIN SELECT user_id, count(*), max(event_time) FROM events GROUP BY user_id";
    let window = "EXPLAIN SELECT user_id, lag(event_time) OVER (PARTITION BY user_id ORDER BY event_time) FROM events";
    let filtered = "EXPLAIN SELECT user_id, sum(price) FROM events WHERE price > 1 AND event_time > '2024-01-01' GROUP BY user_id";
    for query in [per_user, window, filtered] {
        let plan = rows(&session, query).await.unwrap().join("\n");
        assert!(!plan.contains("SortExec") && !plan.contains("RepartitionExec") && !plan.contains("UserMerge"), "{plan}");
        assert!(plan.contains("Range("), "{plan}");
    }
    // Later commits overlap: they are merged, not sorted; and nothing is shuffled.
    rows(
        &session,
        &format!("{}; {}; INSERT INTO events VALUES (0, 5, '2024-01-01', 1)", insert(300_001, 380_000), insert(380_001, 380_100)),
    )
    .await
    .unwrap();
    for query in [per_user, window, filtered] {
        let plan = rows(&session, query).await.unwrap().join("\n");
        assert!(!plan.contains("SortExec") && !plan.contains("RepartitionExec"), "{plan}");
        assert!(plan.contains("UserMergeExec"), "{plan}");
    }
    rows(&session, "OPTIMIZE events").await.unwrap();
    for query in [per_user, window, filtered] {
        let plan = rows(&session, query).await.unwrap().join("\n");
        assert!(!plan.contains("SortExec") && !plan.contains("RepartitionExec") && !plan.contains("UserMerge"), "{plan}");
    }
    // A second time there is nothing to do, and no version is made.
    let before = rows(&session, "SELECT count(*) FROM events FOR VERSION AS OF 5").await.unwrap();
    rows(&session, "OPTIMIZE events").await.unwrap();
    assert_eq!(before, ["380101"]);
    assert!(rows(&session, "SELECT count(*) FROM events FOR VERSION AS OF 6").await.is_err());
    drop(session);
    engine.shutdown().await;
}

/// In a table without an order, groups of many users are found in a table or sorted by digits; what a join pairs stays with its hash.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plans_by_user_of_plain_tables() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(folder.path()).await;
    let session = engine.session("portrait").unwrap();
    let made = "CREATE TABLE plain AS SELECT (n * 7919) % 200003 AS user_id, to_timestamp(1704067200 + n) AS t, n % 9 AS x \
                FROM generate_series(1, 1100000) g(n)";
    rows(&session, made).await.unwrap();
    let sums = "SELECT user_id, count(*) AS n, max(t), sum(x) AS s FROM plain GROUP BY user_id";
    let funnel = "SELECT user_id, window_funnel(INTERVAL '1 day', t, x = 1, x = 2) AS s FROM plain GROUP BY user_id";
    let kept = "SELECT user_id, count(DISTINCT x) FROM plain GROUP BY user_id";
    let joined = format!("SELECT * FROM ({sums}) a JOIN ({funnel}) b USING (user_id) JOIN ({sums}) c USING (user_id)");
    for (query, nodes) in [(sums, "DenseGroupsExec"), (funnel, "BucketGroupsExec"), (kept, "BucketGroupsExec")] {
        let plan = rows(&session, &format!("EXPLAIN {query}")).await.unwrap().join("\n");
        assert!(plan.contains(nodes) && !plan.contains("RepartitionExec"), "{plan}");
    }
    let plan = rows(&session, &format!("EXPLAIN {joined}")).await.unwrap().join("\n");
    let paired = plan.contains("mode=Partitioned") || plan.contains("SortMergeJoin");
    assert!(paired && !plan.contains("DenseGroupsExec") && !plan.contains("ranges of"), "{plan}");
    let count = rows(&session, &format!("SELECT count(*), count(DISTINCT user_id) FROM ({joined}) j")).await.unwrap();
    assert_eq!(count, ["200003|200003"]);
    drop(session);
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_at_the_same_time_bring_each_event_once() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(folder.path()).await;
    let session = engine.session("portrait").unwrap();
    rows(&session, TABLE).await.unwrap();
    let writers = (0..6_u32).map(|writer| {
        let engine = Arc::clone(&engine);
        tokio::spawn(async move {
            let session = engine.session("portrait").unwrap();
            for round in 0..8_u32 {
                // Every writer brings some of the events of its neighbours.
                let from = (writer * 137 + round * 211) % 1500;
                let insert = format!(
                    "INSERT INTO events SELECT n, n % 50, TIMESTAMP '2024-01-01', 1 FROM generate_series({from}, {}) g(n)",
                    from + 400
                );
                rows(&session, &insert).await.unwrap();
                if round == 4 && writer == 0 {
                    rows(&session, "OPTIMIZE events").await.unwrap();
                }
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let expected: std::collections::HashSet<u32> = (0..6)
        .flat_map(|writer| {
            (0..8).flat_map(move |round| {
                let from = (writer * 137 + round * 211) % 1500;
                from..=from + 400
            })
        })
        .collect();
    let found = rows(&session, "SELECT count(*), count(DISTINCT event_id) FROM events").await.unwrap();
    assert_eq!(found, [format!("{0}|{0}", expected.len())]);
    drop(session);
    engine.shutdown().await;
}

/// Events as CSV; of `files` files, each number in exactly one, some in two.
/// Users of both kinds, in several commits, some of them compacted; those who are there, and those who are not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lookup_says_what_a_scan_says() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(folder.path()).await;
    let session = engine.session("portrait").unwrap();
    for (table, user, kind) in [
        ("numbers", "(n * 7919) % 3000 - 700", "bigint"),
        ("small", "(n % 211)::int", "int"),
        ("texts", "concat('user ', repeat('x', n % 70), n % 900)", "text"),
    ] {
        rows(&session, &format!("CREATE TABLE {table} (id bigint, who {kind}, at timestamp, what text) WITH (user_column = who, time_column = at, event_id = id)"))
            .await
            .unwrap();
        for (from, to) in [(0, 40_000), (40_000, 40_050), (40_050, 60_000), (60_000, 60_007)] {
            let insert = format!(
                "INSERT INTO {table} SELECT n, {user}, to_timestamp(1704067200 + n * 37 % 5000 * 60), CASE WHEN n % 3 = 0 THEN NULL ELSE concat('w', n) END FROM generate_series({from}, {to}) g(n)"
            );
            rows(&session, &insert).await.unwrap();
        }
        for round in 0..2_u64 {
            for n in (round * 7..60_000).step_by(2999) {
                let value = rows(&session, &format!("SELECT ({user})::text FROM (SELECT {n} AS n) AS g")).await.unwrap().remove(0);
                let literal = if kind == "text" { format!("'{value}'") } else { value };
                let hidden = if kind == "text" { "concat(who, '')" } else { "who + 0" };
                let columns = ["count(*), count(what), min(id), max(at)", "sum(id)", "string_agg(what, ',' ORDER BY id)"][n as usize % 3];
                let [looked, scanned] = ["who", hidden].map(|side| format!("SELECT {columns} FROM {table} WHERE {side} = {literal}"));
                assert!(rows(&session, &format!("EXPLAIN {looked}")).await.unwrap().join("").contains("LookupExec"), "{looked}");
                assert_eq!(rows(&session, &looked).await.unwrap(), rows(&session, &scanned).await.unwrap(), "{looked}");
            }
            rows(&session, &format!("OPTIMIZE {table}")).await.unwrap();
        }
    }
    for (table, stranger) in
        [("numbers", "9223372036854775807"), ("small", "-5"), ("texts", "'user '"), ("texts", "'zzz'"), ("texts", "''")]
    {
        assert_eq!(rows(&session, &format!("SELECT count(*) FROM {table} WHERE who = {stranger}")).await.unwrap(), ["0"]);
    }
    drop(session);
    engine.shutdown().await;
}

fn write_files(folder: &Path, events: u32, files: u32) {
    for file in 0..files {
        let mut text = String::from("user_id,event_time,event_id,extra\n");
        for event in (0..events).filter(|event| event % files == file || event % 10 == file % 10) {
            text.push_str(&format!("{},2024-01-01T00:00:{:02},{event},x\n", event * 7919 % 1000, event % 60));
        }
        std::fs::write(folder.join(format!("part-{file}.csv")), text).unwrap();
    }
}

fn import(data: &Path, paths: &[&Path]) -> Output {
    portrait("import", data).args(["--table", "events"]).args(paths).output().unwrap()
}

fn said(output: &Output) -> String {
    printed(output).trim().to_owned()
}

#[test]
fn an_import_again_changes_nothing() {
    let (data, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write_files(files.path(), 1000, 3);
    sql_of(data.path(), TABLE);
    let read = (0..3).map(|file| (0..1000).filter(|event| event % 3 == file || event % 10 == file).count()).sum::<usize>();
    let first = said(&import(data.path(), &[files.path()]));
    assert_eq!(first, format!("read {read}, new 1000, duplicate {}, quarantined 0", read - 1000));
    // In another process, in shuffled pieces, in another format.
    let again = said(&import(data.path(), &[&files.path().join("part-2.csv"), &files.path().join("part-[01].csv")]));
    assert_eq!(again, format!("read {read}, new 0, duplicate {read}, quarantined 0"));
    let lines = "{\"event_id\": 5, \"user_id\": 1, \"event_time\": \"2024-01-01T00:00:00\"}\n{\"event_id\": 5000, \"user_id\": 1, \"event_time\": \"2024-01-01T00:00:00\"}\n{\"event_id\": 5001, \"user_id\": 1}\n";
    std::fs::write(files.path().join("more.jsonl"), lines).unwrap();
    let more = said(&import(data.path(), &[&files.path().join("more.jsonl")]));
    assert_eq!(more, "read 3, new 1, duplicate 1, quarantined 1");
    assert_eq!(
        sql_of(data.path(), "SELECT count(*), count(DISTINCT event_id), sum(event_id) FROM events"),
        format!("1001,1001,{}", 499_500 + 5000)
    );
    // Ids that are lost are made again from the data.
    for table in std::fs::read_dir(data.path().join("tables")).unwrap() {
        let ids = table.unwrap().path().join("_ids");
        if ids.exists() {
            std::fs::remove_dir_all(ids).unwrap();
        }
    }
    assert_eq!(said(&import(data.path(), &[files.path()])), format!("read {}, new 0, duplicate {}, quarantined 1", read + 3, read + 2));
    let missing = import(data.path(), &[&files.path().join("nothing.csv")]);
    assert!(String::from_utf8_lossy(&missing.stderr).contains("nothing.csv"), "{missing:?}");
    std::fs::write(files.path().join("wrong.csv"), "event_id,user_id,event_time\n7000,1,2024-01-01T00:00:00\nx,1,2024-01-01T00:00:00\n")
        .unwrap();
    assert!(!import(data.path(), &[&files.path().join("wrong.csv")]).status.success());
    assert_eq!(sql_of(data.path(), "SELECT count(*) FROM events"), "1001");
}

#[test]
fn a_killed_import_is_whole_or_nothing() {
    let kills = kills(6);
    let (data, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write_files(files.path(), 60_000, 4);
    sql_of(data.path(), TABLE);
    let mut random = Random(12_345);
    let mut counts = Vec::new();
    for kill in 0..kills {
        let path = files.path().join(format!("part-{}.csv", kill % 4));
        kill_after(portrait("import", data.path()).args(["--table", "events"]).arg(&path), random.millis(100, 2_600));
        let found = sql_of(data.path(), "SELECT count(*), count(DISTINCT event_id) FROM events");
        let (all, distinct) = found.split_once(',').unwrap();
        assert_eq!(all, distinct, "kill {kill}: an event is there twice");
        // A file is there with all its events, or with none that no other file brought.
        counts.push(all.parse::<u32>().unwrap());
    }
    let whole: Vec<u32> = (0..16_u32)
        .map(|files| {
            (0..60_000).filter(|event| (0..4).any(|file| files >> file & 1 == 1 && (event % 4 == file || event % 10 == file))).count()
                as u32
        })
        .collect();
    assert!(counts.iter().all(|count| whole.contains(count)), "{counts:?} of {whole:?}");
    assert!(said(&import(data.path(), &[files.path()])).starts_with("read "));
    assert_eq!(sql_of(data.path(), "SELECT count(*), count(DISTINCT event_id), sum(event_id) FROM events"), "60000,60000,1799970000");
}

/// Labels and values that are both picked from one table of events are read once, and say what two scans say: of users with one event and
/// with many thousands, of labels everywhere, here and there and nowhere, of times that repeat, and of runs that are merged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn labels_and_values_of_one_table_are_read_together() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(folder.path()).await;
    let session = engine.session("portrait").unwrap();
    for (user, name) in [("bigint", "n % 3000 * 7"), ("text", "'user ' || n % 3000 * 7"), ("integer", "n % 2")] {
        let table = format!(
            "DROP TABLE IF EXISTS e, plain; CREATE TABLE e (event_id bigint, user_id {user}, event_time timestamp, kind text, price double precision) \
             WITH (user_column = user_id, time_column = event_time, event_id = event_id)"
        );
        // Every fifth event is of one user, whose history is longer than many batches.
        let events = |from: u32, to: u32| {
            format!(
                "SELECT n, CAST(CASE WHEN n % 5 = 0 THEN {} ELSE {name} END AS {user}), to_timestamp(1704067200 + n * 7919 % 50000), \
                        CASE WHEN n % 997 = 0 THEN 'rare' WHEN n % 3 = 0 THEN 'label' ELSE 'value' END, n % 1000 / 8.0 FROM generate_series({from}, {to}) g(n)",
                if user == "text" { "'user 77'" } else { "77" }
            )
        };
        rows(&session, &format!("{table}; INSERT INTO e {}; INSERT INTO e {}", events(1, 150_000), events(150_001, 200_000)))
            .await
            .unwrap();
        rows(&session, "CREATE TABLE plain AS SELECT * FROM e").await.unwrap();
        for compacted in [false, true] {
            if compacted {
                rows(&session, "OPTIMIZE e").await.unwrap();
            }
            let conditions = [
                ("kind = 'label'", "kind = 'value'"),
                ("kind = 'rare'", "true"),
                ("true", "kind = 'rare'"),
                ("price < 0", "true"),
                ("kind = 'label' AND price > 100", "price < 0"),
                ("event_time > '2024-01-01 08:00'", "event_time < '2024-01-01 04:00' AND price > 1"),
            ];
            for (labels, values) in conditions {
                let call = |table: &str| {
                    format!(
                        "SELECT * FROM features_asof((SELECT user_id, event_time AS label_time, event_id AS label FROM {table} WHERE {labels}), \
                         (SELECT event_time, price * 2 AS twice, user_id, event_id AS found FROM {table} WHERE {values}), strict => true)"
                    )
                };
                let (ours, others) = (call("e"), call("plain"));
                let differ = format!(
                    "SELECT (SELECT count(*) FROM ({ours} EXCEPT ALL {others})), (SELECT count(*) FROM ({others} EXCEPT ALL {ours}))"
                );
                assert_eq!(rows(&session, &differ).await.unwrap(), ["0|0"], "{user}, compacted {compacted}: {ours}");
                let plan = rows(&session, &format!("EXPLAIN ANALYZE {ours}")).await.unwrap().join("\n");
                assert_eq!(plan.contains("read_together=1"), compacted, "{plan}");
            }
        }
    }
    drop(session);
    engine.shutdown().await;
}
