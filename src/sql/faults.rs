//! Each kind of statement over an object store of which every call fails once, before or after its effect: what was acknowledged
//! is there after a restart, what failed is there wholly or not at all, and the statement can be run again.

use std::sync::Arc;

use futures::TryStreamExt;
use object_store::memory::InMemory;
use portrait_udfs::error::{Code, Result};
use tokio_util::sync::CancellationToken;

use super::{Outcome, RunOptions, open_in, parse, run};
use crate::config::{Config, Options};
use crate::engine::{Engine, Session};
use crate::storage::Store;
use crate::storage::objects::faults::{Fault, Faulty};

const SUPERUSER: &str = "portrait";

/// A statement, and what is seen before and after it.
struct Case {
    setup: &'static [&'static str],
    run: Work,
    /// One text; where it fails, the text is "none".
    seen: &'static str,
    before: &'static str,
    after: &'static str,
    /// Whether it is an error to run it again after it took effect.
    once: bool,
}

#[derive(Clone, Copy)]
enum Work {
    Sql(&'static str),
    /// `COPY … FROM STDIN` and its lines.
    Copy(&'static str, &'static str),
    /// Lines of CSV for a table of events.
    Import(&'static str, &'static str),
}

fn options() -> RunOptions {
    RunOptions { cancel: CancellationToken::new(), notice: Arc::new(|_| {}) }
}

async fn sql(session: &Session, text: &str) -> Result<String> {
    let mut seen = String::new();
    for statement in &parse(text)? {
        if let Outcome::Rows { stream, .. } = run(session, statement, options()).await? {
            let batches: Vec<_> = stream.try_collect().await.map_err(crate::error::classify)?;
            let cells = batches.iter().filter(|batch| batch.num_rows() > 0);
            seen = cells.map(|batch| arrow::util::display::array_value_to_string(batch.column(0), 0).unwrap()).collect();
        }
    }
    Ok(seen)
}

async fn work(session: &Session, folder: &std::path::Path, work: Work) -> Result<()> {
    match work {
        Work::Sql(text) => sql(session, text).await.map(drop),
        Work::Copy(text, lines) => {
            let statements = parse(text)?;
            let Outcome::CopyIn(mut copy) = run(session, &statements[0], options()).await? else { panic!("no COPY FROM STDIN") };
            copy.push(lines.as_bytes());
            copy.decode().await?;
            copy.finish().await.map(drop)
        }
        Work::Import(table, lines) => {
            let file = folder.join("files/events.csv");
            std::fs::write(&file, lines).unwrap();
            super::import(session, table, &[file.display().to_string()], options(), |_| {}).await.map(drop)
        }
    }
}

struct Server {
    engine: Arc<Engine>,
    session: Session,
}

impl Server {
    async fn start(folder: &std::path::Path, objects: &Faulty) -> Self {
        let config = Config::resolve(Options {
            data_dir: Some(folder.to_path_buf()),
            memory_limit: Some("256MiB".into()),
            query_threads: Some(1),
            training_threads: Some(1),
            ..Options::default()
        });
        let store = Store::try_over(Arc::new(objects.clone()), "s3://bucket/portrait".into()).await.unwrap();
        let engine = open_in(&config.unwrap(), store).await.unwrap();
        let session = engine.session(SUPERUSER).unwrap();
        // An erasure that was interrupted goes on by itself, and takes files away from under whoever reads.
        let eraser = engine.catalog().eraser();
        for _ in 0..2000 {
            if !eraser.is_pending() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        assert!(!eraser.is_pending(), "an erasure does not end");
        Self { engine, session }
    }

    async fn seen(&self, query: &str) -> String {
        sql(&self.session, query).await.unwrap_or_else(|_| "none".into())
    }

    async fn stop(self) {
        drop(self.session);
        self.engine.shutdown().await;
    }
}

/// Fails each call of the statement, one run each.
async fn check(case: Case) {
    let folder = tempfile::tempdir().unwrap();
    let base = Arc::new(InMemory::new());
    let server = Server::start(folder.path(), &Faulty::over(Arc::clone(&base))).await;
    for statement in case.setup {
        sql(&server.session, statement).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
    assert_eq!(server.seen(case.seen).await, case.before);
    server.stop().await;
    let (mut failures, mut last) = (0, 0);
    for call in 0.. {
        let mut reached = false;
        for late in [false, true] {
            let place = format!("call {call}, late {late}");
            let objects = Faulty::over(Arc::new(base.fork()));
            let server = Server::start(folder.path(), &objects).await;
            objects.fail(Some(Fault { call, late }));
            let outcome = work(&server.session, folder.path(), case.run).await;
            reached |= objects.calls() > call;
            objects.fail(None);
            let now = server.seen(case.seen).await;
            server.stop().await;

            let server = Server::start(folder.path(), &objects).await;
            let found = server.seen(case.seen).await;
            assert_eq!(found, now, "{place}: after a restart, {outcome:?}");
            match &outcome {
                Ok(()) => assert_eq!(found, case.after, "{place}: acknowledged"),
                Err(error) => {
                    failures += 1;
                    assert!(found == case.before || found == case.after, "{place}: {found} after {error}");
                    assert!(!matches!(error.code, Code::Internal | Code::DataCorrupted), "{place}: {error:?}");
                }
            }
            if found == case.before || !case.once {
                work(&server.session, folder.path(), case.run).await.unwrap_or_else(|error| panic!("{place}: again: {error}"));
            }
            assert_eq!(server.seen(case.seen).await, case.after, "{place}: again");
            server.stop().await;
        }
        if !reached {
            break;
        }
        last = call;
    }
    println!("{} calls, {failures} failures", last + 1);
    assert!(last > 0, "no call was ever failed");
}

const EVENTS: &str = "CREATE TABLE e (id text, u bigint, t timestamptz, p float8) WITH (user_column = u, time_column = t, event_id = id)";
const SOME: &str = "INSERT INTO e SELECT 'e' || v, v % 5, '2024-05-01'::timestamptz, v FROM generate_series(1, 40) AS g(v)";
const COUNT: &str = "SELECT count(*) || ' ' || count(DISTINCT id) || ' ' || sum(p) FROM e";

macro_rules! cases {
    ($($name:ident: $case:expr;)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            check($case).await;
        })*
    };
}

cases! {
    create_table: Case {
        setup: &[], run: Work::Sql("CREATE TABLE t (x int)"), seen: "SELECT count(*) || '' FROM t", before: "none", after: "0", once: true,
    };
    create_table_as: Case {
        setup: &[], run: Work::Sql("CREATE TABLE t AS SELECT v AS x FROM generate_series(1, 10) AS g(v)"),
        seen: "SELECT count(*) || ' ' || sum(x) FROM t", before: "none", after: "10 55", once: true,
    };
    insert: Case {
        setup: &["CREATE TABLE t (x int)", "INSERT INTO t VALUES (1)"], run: Work::Sql("INSERT INTO t VALUES (2), (3)"),
        seen: "SELECT count(*) || ' ' || sum(x) FROM t", before: "1 1", after: "3 6", once: true,
    };
    copy: Case {
        setup: &["CREATE TABLE t (x int)"], run: Work::Copy("COPY t FROM STDIN (FORMAT csv)", "4\n5\n"),
        seen: "SELECT count(*) || ' ' || coalesce(sum(x), 0) FROM t", before: "0 0", after: "2 9", once: true,
    };
    import: Case {
        setup: &[EVENTS, SOME],
        run: Work::Import("e", "id,u,t,p\ne1,1,2024-05-01 00:00:00,1\nn1,2,2024-05-02 00:00:00,100\nn2,,2024-05-02 00:00:00,1\n"),
        seen: COUNT, before: "40 40 820.0", after: "41 41 920.0", once: false,
    };
    create_audience: Case {
        setup: &[EVENTS, SOME], run: Work::Sql("CREATE AUDIENCE a AS SELECT u FROM e WHERE u < 3"),
        seen: "SELECT bitmap_cardinality(audience_bitmap('a')) || ''", before: "none", after: "3", once: true,
    };
    refresh_audience: Case {
        setup: &[EVENTS, "CREATE AUDIENCE a AS SELECT u FROM e WHERE u < 3", SOME], run: Work::Sql("REFRESH AUDIENCE a"),
        seen: "SELECT bitmap_cardinality(audience_bitmap('a')) || ''", before: "0", after: "3", once: false,
    };
    optimize: Case {
        setup: &[EVENTS, SOME, "INSERT INTO e SELECT 'f' || v, v % 5, '2024-05-03'::timestamptz, v FROM generate_series(1, 40) AS g(v)"],
        run: Work::Sql("OPTIMIZE e"), seen: COUNT, before: "80 80 1640.0", after: "80 80 1640.0", once: false,
    };
    vacuum: Case {
        setup: &[EVENTS, SOME, "INSERT INTO e SELECT 'f' || v, v % 5, '2024-05-03'::timestamptz, v FROM generate_series(1, 40) AS g(v)", "OPTIMIZE e"],
        run: Work::Sql("VACUUM e RETAIN 0 HOURS"), seen: COUNT, before: "80 80 1640.0", after: "80 80 1640.0", once: false,
    };
    drop_table: Case {
        setup: &[EVENTS, SOME], run: Work::Sql("DROP TABLE e"), seen: COUNT, before: "40 40 820.0", after: "none", once: true,
    };
    erase_user: Case {
        setup: &[EVENTS, SOME, "CREATE AUDIENCE a AS SELECT u FROM e WHERE u < 3"], run: Work::Sql("SELECT * FROM erase_user('2')"),
        seen: "SELECT count(*) || ' ' || count(DISTINCT u) || ' ' || bitmap_cardinality(audience_bitmap('a')) FROM e", before: "40 5 3", after: "32 4 2", once: false,
    };
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_ignores_conditions_can_be_read_and_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let objects = Faulty::over(Arc::new(InMemory::new()));
    let server = Server::start(folder.path(), &objects).await;
    for statement in [EVENTS, SOME, "CREATE TABLE t (x int)", "CREATE AUDIENCE a AS SELECT u FROM e WHERE u < 3"] {
        sql(&server.session, statement).await.unwrap();
    }
    server.stop().await;
    let server = Server::start(folder.path(), &objects.lenient()).await;
    assert_eq!(server.seen(COUNT).await, "40 40 820.0");
    assert_eq!(server.seen("SELECT bitmap_cardinality(audience_bitmap('a')) || ''").await, "3");
    for text in [
        "CREATE TABLE n (x int)",
        "CREATE TABLE n AS SELECT 1 AS x",
        "INSERT INTO t VALUES (1)",
        SOME,
        "CREATE VIEW v AS SELECT 1 AS x",
        "CREATE AUDIENCE b AS SELECT 1 AS u",
        "REFRESH AUDIENCE a",
        "DROP AUDIENCE a",
        "OPTIMIZE e",
        "VACUUM e RETAIN 0 HOURS",
        "DROP TABLE e",
        "CREATE ROLE r",
        "SELECT * FROM erase_user('2')",
    ] {
        let error = sql(&server.session, text).await.expect_err(text);
        assert_eq!((error.code, error.hint.is_some()), (Code::ReadOnly, true), "{text}: {error:?}");
    }
    // Temporary tables lie on this machine.
    for text in ["CREATE TEMP TABLE few AS SELECT u FROM e WHERE u < 3", "INSERT INTO few VALUES (7)", "OPTIMIZE few"] {
        sql(&server.session, text).await.unwrap_or_else(|error| panic!("{text}: {error:?}"));
    }
    assert_eq!(server.seen("SELECT sum(u) || ' ' || count(DISTINCT u) FROM few").await, "31 4");
    sql(&server.session, "DROP TABLE few").await.unwrap();
    assert_eq!(server.seen(COUNT).await, "40 40 820.0");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_server_is_refused_and_the_loser_of_a_take_over_writes_no_more() {
    take_over(false).await;
    take_over(true).await;
}

/// With `looks`, the loser notices by itself; else by a change that fails.
async fn take_over(looks: bool) {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let objects = Faulty::over(Arc::new(InMemory::new()));
    let first = Server::start(one.path(), &objects).await;
    sql(&first.session, "CREATE TABLE t (x int)").await.unwrap();
    let config = |take_over| {
        let options =
            Options { data_dir: Some(two.path().to_path_buf()), take_over: Some(take_over), query_threads: Some(1), ..Options::default() };
        Config::resolve(options).unwrap()
    };
    let store = || Store::try_over(Arc::new(objects.clone()), "s3://bucket/portrait".into());
    let refused = open_in(&config(false), store().await.unwrap()).await.unwrap_err();
    assert_eq!(refused.code, Code::NotReady, "{refused}");
    assert!(refused.hint.unwrap().contains("--take-over"));

    let engine = open_in(&config(true), store().await.unwrap()).await.unwrap();
    let second = Server { session: engine.session(SUPERUSER).unwrap(), engine };
    sql(&second.session, "INSERT INTO t VALUES (1)").await.unwrap();
    second.engine.catalog().check_owner().await.unwrap();
    if looks {
        first.engine.catalog().check_owner().await.unwrap_err();
    }
    let texts =
        if looks { ["INSERT INTO t VALUES (2)", "CREATE TABLE u (x int)"] } else { ["CREATE TABLE u (x int)", "INSERT INTO t VALUES (2)"] };
    for text in texts {
        let error = sql(&first.session, text).await.unwrap_err();
        assert_eq!(error.code, Code::NotReady, "{text}: {error}");
    }
    sql(&second.session, "CREATE TABLE v (x int)").await.unwrap();
    assert_eq!(second.seen("SELECT sum(x) || '' FROM t").await, "1");
    first.stop().await;
    second.stop().await;
    // Let go by its owner, it is anybody's.
    let third = Server::start(one.path(), &objects).await;
    assert_eq!(third.seen("SELECT count(*) || '' FROM v").await, "0");
    third.stop().await;
}
