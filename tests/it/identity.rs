//! Links between ids across restarts and killed processes, who may make them, and what a cancelled statement leaves.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use portrait::error::Code;

use crate::common::{engine, entries, ok, portrait_sql, rows, sql, text};

#[test]
fn links_survive_a_restart() {
    let data = tempfile::tempdir().expect("folder");
    ok(
        data.path(),
        "CREATE TABLE e AS SELECT i AS user_id, to_timestamp(1704067200 + i) AS event_time FROM generate_series(1, 300) AS t(i); \
         CREATE AUDIENCE a AS SELECT user_id FROM e; \
         SELECT * FROM link_ids_from($$SELECT 'web ' || i AS a, i AS b, 'signup' AS source FROM generate_series(1, 300) AS t(i)$$); \
         SELECT * FROM link_ids(7, 9, source => 'login'); SELECT * FROM link_ids(8, 9); SELECT * FROM unlink_ids('web 5', 5)",
    );
    let seen = "SELECT resolve_user('web 9') AS nine, resolve_user('web 5') AS five, (SELECT count(*) FROM audience('a')) AS persons, \
                (SELECT events FROM profile_card('web 8', 'e')) AS events, (SELECT count(*) FROM ml.identity_links) AS links, \
                (SELECT count(*) FROM ml.identities) AS ids, (SELECT min(source) FROM ids_of_user(8) WHERE id = '9') AS source";
    assert_eq!(ok(data.path(), seen).trim(), "nine,five,persons,events,links,ids,source\n7,web 5,298,3,301,598,signup");
    ok(data.path(), "SELECT * FROM unlink_ids(8, 9); SELECT * FROM link_ids('web 5', 6)");
    let seen = "SELECT resolve_user('web 8') AS eight, resolve_user('web 5') AS five, (SELECT count(*) FROM audience('a')) AS persons";
    assert_eq!(ok(data.path(), seen).trim(), "eight,five,persons\n8,6,299");
    // A source that goes by person itself is kept in user order, and made anew when links change.
    let card = "SELECT events FROM profile_card(7, source => (SELECT resolve_user(user_id) AS user_id, event_time FROM e))";
    assert_eq!(ok(data.path(), card).trim(), "events\n2");
    let copies = entries(&data.path().join("histories"));
    assert_eq!(ok(data.path(), card).trim(), "events\n2");
    assert_eq!(entries(&data.path().join("histories")), copies);
    ok(data.path(), "SELECT * FROM link_ids(7, 10)");
    assert_eq!(ok(data.path(), card).trim(), "events\n3");
    assert_eq!(ok(data.path(), "SELECT * FROM unlink_ids(7, 9); SELECT * FROM unlink_ids(7, 10)").lines().count(), 4);
    assert_eq!(ok(data.path(), card).trim(), "events\n1");
}

/// Each change links one pair twice over: who sees one of the two sees the other.
#[test]
fn a_killed_change_is_whole_or_not_there() {
    let data = tempfile::tempdir().expect("folder");
    let links = data.path().join("identities");
    ok(data.path(), "SELECT * FROM link_ids('kept', 'too')");
    for round in 0..6_u64 {
        let change = |n: u64| {
            format!(
                "SELECT links FROM link_ids_from($$SELECT '{round}/{n}/' || i AS a, '{round}/{n}/' || i || '+' AS b FROM generate_series(1, 3000) AS t(i)$$);"
            )
        };
        let statements: String = (0..20).map(change).collect();
        let mut child =
            portrait_sql(data.path()).args(["-c", &statements]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("starts");
        let (begun, files) = (Instant::now(), newest(&links));
        while newest(&links) == files && begun.elapsed() < Duration::from_secs(60) {
            if child.try_wait().expect("status").is_some() {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        // At another point each time: while a file is written, after it, while files are joined.
        std::thread::sleep(Duration::from_millis(round * 23 % 90));
        let _ = child.kill();
        child.wait().expect("ended");
        let seen = ok(
            data.path(),
            &format!(
                "SELECT resolve_user('too') AS kept, count(*) > 0 AS some, count(*) % 3000 AS part FROM ml.identity_links WHERE a LIKE '{round}/%'"
            ),
        );
        assert_eq!(seen.trim(), "kept,some,part\nkept,t,0", "round {round}");
    }
    assert!(entries(&links).len() < 60, "{} files", entries(&links).len());
    assert!(entries(&links).iter().all(|path| !path.to_string_lossy().contains('#')), "nothing half-written is left");
}

#[test]
fn damage_is_an_error_that_names_the_file() {
    let data = tempfile::tempdir().expect("folder");
    ok(data.path(), "SELECT * FROM link_ids('a', 'b')");
    let file = entries(&data.path().join("identities")).remove(0);
    let mut bytes = std::fs::read(&file).expect("read");
    *bytes.last_mut().expect("a byte") ^= 1;
    std::fs::write(&file, bytes).expect("written");
    let output = sql(data.path(), "SELECT 1");
    assert!(!output.status.success());
    let said = text(&output.stderr);
    assert!(said.contains("is damaged") && said.contains(file.file_name().expect("name").to_str().expect("UTF-8")), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_and_what_a_cancelled_statement_leaves() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(folder.path()).await;
    let session = engine.session("portrait").unwrap();
    rows(&session, "CREATE USER analyst").await.unwrap();
    let analyst = engine.session("analyst").unwrap();
    for refused in [
        "SELECT * FROM link_ids('a', 'b')",
        "SELECT * FROM unlink_ids('a', 'b')",
        "SELECT * FROM link_ids_from($$SELECT 'a' AS a, 'b' AS b$$)",
    ] {
        assert_eq!(rows(&analyst, refused).await.unwrap_err().code, Code::InsufficientPrivilege, "{refused}");
    }
    let before = engine.catalog().identity_version();
    rows(&session, "SET statement_timeout = 300").await.unwrap();
    let endless = "SELECT * FROM link_ids_from($$SELECT 'x' || a.i AS a, 'y' || b.i AS b FROM generate_series(1, 1000000) AS a(i), generate_series(1, 1000000) AS b(i)$$)";
    let error = rows(&session, endless).await.unwrap_err();
    assert!(matches!(error.code, Code::Cancelled | Code::OutOfMemory), "{error:?}");
    rows(&session, "RESET statement_timeout").await.unwrap();
    assert_eq!(engine.catalog().identity_version(), before);
    assert_eq!(rows(&session, "SELECT count(*) FROM ml.identities").await.unwrap(), ["0"]);
    // Whoever may ask sees what others have linked; each change has a version.
    rows(&session, "SELECT * FROM link_ids('a', 'b')").await.unwrap();
    rows(&session, "SELECT * FROM link_ids('b', 'a')").await.unwrap();
    assert_eq!(engine.catalog().identity_version(), before + 1);
    assert_eq!(rows(&analyst, "SELECT resolve_user('b')").await.unwrap(), ["a"]);
    drop((session, analyst));
    engine.shutdown().await;
}

/// Links by several sessions at once: all of them are there, in whatever order they came.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_who_link_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(folder.path()).await;
    let work = (0..4).map(|worker| {
        let session = engine.session("portrait").unwrap();
        tokio::spawn(async move {
            for step in 0..25 {
                // Each worker joins neighbours of the same rings, from another place on.
                let at = (step + 6 * worker) % 25;
                let link = format!("SELECT * FROM link_ids('r{} {at:02}', 'r{} {:02}')", worker % 2, worker % 2, at + 1);
                rows(&session, &link).await.unwrap();
            }
        })
    });
    for done in futures::future::join_all(work).await {
        done.unwrap();
    }
    let session = engine.session("portrait").unwrap();
    let seen = "SELECT user_id, count(*) FROM ml.identities GROUP BY user_id ORDER BY user_id";
    assert_eq!(rows(&session, seen).await.unwrap(), ["r0 00|26", "r1 00|26"]);
    assert_eq!(rows(&session, "SELECT count(*) FROM ml.identity_links").await.unwrap(), ["50"]);
    drop(session);
    engine.shutdown().await;
}

fn newest(under: &Path) -> Option<PathBuf> {
    entries(under).into_iter().filter(|path| !path.to_string_lossy().contains('#')).max()
}
