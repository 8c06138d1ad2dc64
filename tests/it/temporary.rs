//! Temporary tables from outside: their files go with their session, with a dropped connection and with a killed server, and no
//! other session comes near them.

use std::path::Path;
use std::time::Duration;

use tokio_postgres::Client;

use crate::common::server::{ServerProcess, connect, query, seen};
use crate::common::{engine, entries, files_below};
use crate::wire::{Server, code};

/// How long files may take to go once nobody uses them.
const PATIENCE: Duration = Duration::from_secs(20);

/// The folders of temporary tables.
fn tables(data: &Path) -> usize {
    entries(&data.join("temporary/tables")).len()
}

async fn until(what: &str, so: impl Fn() -> bool) {
    let begun = std::time::Instant::now();
    while !so() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn fill(client: &Client) {
    client.batch_execute("CREATE TEMP TABLE t AS SELECT value AS a FROM generate_series(1, 100000)").await.unwrap();
}

#[test]
fn files_go_with_their_sessions() {
    let server = Server::start();
    server.run(async {
        let data = server.engine.catalog().folder().to_owned();
        let (one, two) = (server.connect("portrait").await, server.connect("portrait").await);
        fill(&one).await;
        fill(&two).await;
        two.batch_execute("INSERT INTO t VALUES (-1)").await.unwrap();
        assert_eq!(tables(&data), 2);
        for (client, count) in [(&one, 100_000_i64), (&two, 100_001)] {
            assert_eq!(client.query_one("SELECT count(*) FROM t", &[]).await.unwrap().get::<_, i64>(0), count);
        }
        // Nothing that others see, not even a name.
        let third = server.connect("portrait").await;
        assert_eq!(code(third.query("SELECT * FROM t", &[]).await), "42P01");
        assert!(third.query("SELECT 1 FROM pg_class WHERE relname = 't'", &[]).await.unwrap().is_empty());
        let own: String = one.query_one("SELECT pg_my_temp_schema()::regnamespace::text", &[]).await.unwrap().get(0);
        assert_eq!(code(third.query(&format!("SELECT * FROM {own}.t"), &[]).await), "42P01");
        // A connection that is dropped in the middle of a query.
        let cursor = one.prepare("SELECT a FROM t WHERE a < $1").await.unwrap();
        assert_eq!(one.query(&cursor, &[&10_i64]).await.unwrap().len(), 9);
        drop((one, cursor));
        until("a table outlives its connection", || tables(&data) == 1).await;
        two.batch_execute("DROP TABLE t").await.unwrap();
        until("files of a dropped table stay", || tables(&data) == 0).await;
    });
}

#[test]
fn a_cursor_reads_on_when_its_table_is_dropped() {
    let server = Server::start();
    server.run(async {
        let data = server.engine.catalog().folder().to_owned();
        let client = server.connect("portrait").await;
        fill(&client).await;
        client.batch_execute("DECLARE c CURSOR WITH HOLD FOR SELECT a FROM t").await.unwrap();
        assert_eq!(client.query("FETCH 10 FROM c", &[]).await.unwrap().len(), 10);
        client.batch_execute("DROP TABLE t").await.unwrap();
        assert_eq!(client.query("FETCH ALL FROM c", &[]).await.unwrap().len(), 99_990);
        client.batch_execute("CLOSE c").await.unwrap();
        until("files of a dropped table stay", || tables(&data) == 0).await;
    });
}

#[test]
fn a_plan_follows_the_name() {
    let server = Server::start();
    server.run(async {
        let client = server.connect("portrait").await;
        client.batch_execute("CREATE TABLE named (k bigint, v text); INSERT INTO named VALUES (1, 'kept')").await.unwrap();
        let look = client.prepare("SELECT v FROM named WHERE k = $1").await.unwrap();
        let value = async || -> Vec<String> { client.query(&look, &[&1_i64]).await.unwrap().iter().map(|row| row.get(0)).collect() };
        for _ in 0..3 {
            assert_eq!(value().await, ["kept"]);
        }
        client.batch_execute("CREATE TEMP TABLE named (k bigint, v text)").await.unwrap();
        assert_eq!(value().await, Vec::<String>::new());
        client.batch_execute("INSERT INTO named VALUES (1, 'temporary')").await.unwrap();
        for _ in 0..3 {
            assert_eq!(value().await, ["temporary"]);
        }
        client.batch_execute("DISCARD TEMP").await.unwrap();
        assert_eq!(value().await, ["kept"]);
        // One that would give other columns is refused, as in PostgreSQL, until it is prepared again.
        client.batch_execute("CREATE TEMP TABLE named (k bigint, v int)").await.unwrap();
        assert_eq!(code(client.query(&look, &[&1_i64]).await), "0A000");
    });
}

#[test]
fn copy_goes_in_and_out() {
    use futures::{SinkExt, StreamExt};
    let server = Server::start();
    server.run(async {
        let client = server.connect("portrait").await;
        client.batch_execute("CREATE TEMP TABLE copied (a int, b text) ON COMMIT PRESERVE ROWS").await.unwrap();
        for end in ["ROLLBACK", "COMMIT"] {
            client.batch_execute("BEGIN").await.unwrap();
            let sink = client.copy_in::<_, bytes::Bytes>("COPY copied FROM STDIN").await.unwrap();
            let mut sink = std::pin::pin!(sink);
            sink.send(bytes::Bytes::from_static(b"1\tx\n2\t\\N\n")).await.unwrap();
            assert_eq!(sink.finish().await.unwrap(), 2);
            client.batch_execute(end).await.unwrap();
        }
        let rows: Vec<_> = client.copy_out("COPY copied TO STDOUT").await.unwrap().collect().await;
        let text: Vec<u8> = rows.into_iter().flat_map(|bytes| bytes.unwrap().to_vec()).collect();
        assert_eq!(String::from_utf8(text).unwrap(), "1\tx\n2\t\\N\n");
    });
}

#[test]
fn erased_users_are_in_no_temporary_table() {
    let server = Server::start();
    server.run(async {
        let (one, two) = (server.connect("portrait").await, server.connect("portrait").await);
        one.batch_execute("CREATE TEMP TABLE people AS SELECT 'u' || value AS user_id FROM generate_series(1, 9)").await.unwrap();
        // In a block, which cannot bring them back.
        two.batch_execute("BEGIN; CREATE TEMP TABLE people (user_id text)").await.unwrap();
        two.batch_execute("INSERT INTO people VALUES ('u1'), ('u2')").await.unwrap();
        two.batch_execute("COMMIT; BEGIN; INSERT INTO people VALUES ('u1'), ('u3')").await.unwrap();
        let removed = one.query("SELECT * FROM erase_user('u1', suppress => true)", &[]).await.unwrap();
        assert!(!removed.is_empty());
        two.batch_execute("ROLLBACK").await.unwrap();
        let left = async |client: &Client| -> Vec<String> {
            client.query("SELECT user_id FROM people ORDER BY 1", &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
        };
        assert_eq!(left(&one).await, ["u2", "u3", "u4", "u5", "u6", "u7", "u8", "u9"]);
        assert_eq!(left(&two).await, ["u2", "u3"]);
        // And they do not come again.
        two.batch_execute("INSERT INTO people VALUES ('u1'), ('u4')").await.unwrap();
        assert_eq!(left(&two).await, ["u2", "u3", "u4"]);
        two.batch_execute("CREATE TEMP TABLE more AS SELECT * FROM (VALUES ('u1'), ('u5')) AS v (user_id)").await.unwrap();
        assert_eq!(two.query_one("SELECT count(*) FROM more", &[]).await.unwrap().get::<_, i64>(0), 1);
    });
}

#[test]
fn a_killed_servers_tables_are_swept() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let data = tempfile::tempdir().unwrap();
        let mut server = ServerProcess::start(data.path(), &[]);
        let client = connect(server.port()).await.unwrap();
        fill(&client).await;
        seen(&client, "CREATE TABLE kept AS SELECT * FROM t").await;
        assert_eq!(tables(data.path()), 1);
        server.kill();
        assert_eq!(tables(data.path()), 1);
        let server = ServerProcess::start(data.path(), &[]);
        assert_eq!(files_below(&data.path().join("temporary")), Vec::<std::path::PathBuf>::new());
        let client = connect(server.port()).await.unwrap();
        assert!(query(&client, "SELECT * FROM t").await.is_err());
        assert_eq!(seen(&client, "SELECT count(*) FROM kept").await, ["100000"]);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embedded_session_takes_its_tables_along() {
    use portrait::sql::{self, RunOptions};
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(folder.path()).await;
    let session = engine.session("portrait").unwrap();
    for statement in sql::parse("BEGIN; CREATE TEMP TABLE a (x int); DROP TABLE a; CREATE TEMP TABLE a (y int)").unwrap() {
        sql::run(&session, &statement, RunOptions::default()).await.unwrap();
    }
    assert_eq!(tables(folder.path()), 2);
    drop(session);
    until("a table outlives its session", || tables(folder.path()) == 0).await;
}
