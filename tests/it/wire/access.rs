//! Roles at the wire: who gets in, what a revoke reaches, what is told to whom.

use std::time::Duration;

use portrait::catalog::RoleOptions;
use portrait::config::AuthMode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_postgres::Client;

use super::{Server, code};

/// A server with a superuser `root` and roles `ann` and `bob` that may log in.
async fn with_roles(server: &Server) -> Client {
    let login = || RoleOptions { login: Some(true), ..Default::default() };
    let catalog = server.engine.catalog();
    catalog.create_role("root", RoleOptions { superuser: Some(true), ..login() }).await.unwrap();
    catalog.create_role("ann", login()).await.unwrap();
    catalog.create_role("bob", login()).await.unwrap();
    server.connect("root").await
}

#[test]
fn who_gets_in() {
    let server = Server::start_with(AuthMode::Trust, None, |config| config.max_connections = 6);
    server.run(async {
        let root = with_roles(&server).await;
        root.batch_execute("CREATE ROLE group_of_some; ALTER ROLE ann CONNECTION LIMIT 1").await.unwrap();
        assert_eq!(code(server.connect_with("user=nobody").await), "28000");
        assert_eq!(code(server.connect_with("user=group_of_some").await), "28000");
        let ann = server.connect("ann").await;
        assert_eq!(code(server.connect_with("user=ann").await), "53300");
        let _bob = server.connect("bob").await;
        // Three of the six are kept for superusers.
        assert_eq!(code(server.connect_with("user=bob").await), "53300");
        let second = server.connect("root").await;
        drop((ann, second));
        root.batch_execute("REVOKE CONNECT ON DATABASE portrait FROM PUBLIC").await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(code(server.connect_with("user=ann").await), "42501");
        root.batch_execute("GRANT CONNECT ON DATABASE portrait TO ann").await.unwrap();
        server.connect("ann").await.query_one("SELECT 1", &[]).await.unwrap();
    });
}

#[test]
fn a_revoke_reaches_what_is_prepared() {
    let server = Server::start();
    server.run(async {
        let root = with_roles(&server).await;
        root.batch_execute(
            "CREATE TABLE visits (user_id bigint, event_time timestamp, page text) WITH (user_column = user_id, time_column = event_time);
             INSERT INTO visits VALUES (1, '2024-01-01', 'a'), (2, '2024-01-02', 'b');
             GRANT SELECT ON visits TO ann",
        )
        .await
        .unwrap();
        let ann = server.connect("ann").await;
        let look = ann.prepare("SELECT page FROM visits WHERE user_id = $1").await.unwrap();
        for _ in 0..3 {
            assert_eq!(ann.query_one(&look, &[&1_i64]).await.unwrap().get::<_, &str>(0), "a");
        }
        root.batch_execute("REVOKE SELECT ON visits FROM ann; GRANT SELECT (user_id) ON visits TO ann").await.unwrap();
        assert_eq!(code(ann.query(&look, &[&1_i64]).await), "42501");
        root.batch_execute(
            "GRANT SELECT ON visits TO ann; ALTER TABLE visits ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON visits USING (user_id = 2)",
        )
        .await
        .unwrap();
        assert!(ann.query(&look, &[&1_i64]).await.unwrap().is_empty());
        assert_eq!(ann.query(&look, &[&2_i64]).await.unwrap().len(), 1);
        // A session that acts as somebody else sees what that one sees, with the same prepared statement.
        let own = root.prepare("SELECT page FROM visits WHERE user_id = $1").await.unwrap();
        assert_eq!(root.query(&own, &[&1_i64]).await.unwrap().len(), 1);
        root.batch_execute("SET ROLE ann").await.unwrap();
        assert!(root.query(&own, &[&1_i64]).await.unwrap().is_empty());
        root.batch_execute("RESET ROLE").await.unwrap();
        assert_eq!(root.query(&own, &[&1_i64]).await.unwrap().len(), 1);
    });
}

#[test]
fn a_view_that_is_read_with_its_readers_rights_is_planned_for_each() {
    let server = Server::start();
    server.run(async {
        let root = with_roles(&server).await;
        root.batch_execute(
            "CREATE TABLE visits (user_id bigint, event_time timestamp, page text) WITH (user_column = user_id, time_column = event_time);
             INSERT INTO visits VALUES (1, '2024-01-01', 'a'), (2, '2024-01-02', 'b');
             CREATE VIEW seen WITH (security_invoker = true) AS SELECT user_id, page FROM visits;
             GRANT SELECT ON seen TO ann",
        )
        .await
        .unwrap();
        let look = root.prepare("SELECT page FROM seen WHERE user_id = $1").await.unwrap();
        for _ in 0..3 {
            assert_eq!(root.query(&look, &[&1_i64]).await.unwrap().len(), 1);
        }
        root.batch_execute("SET ROLE ann").await.unwrap();
        assert_eq!(code(root.query(&look, &[&1_i64]).await), "42501");
        root.batch_execute(
            "RESET ROLE; GRANT SELECT ON visits TO ann; CREATE POLICY p ON visits USING (user_id = 2);
             ALTER TABLE visits ENABLE ROW LEVEL SECURITY; SET ROLE ann",
        )
        .await
        .unwrap();
        for _ in 0..3 {
            assert!(root.query(&look, &[&1_i64]).await.unwrap().is_empty());
            assert_eq!(root.query(&look, &[&2_i64]).await.unwrap().len(), 1);
        }
        root.batch_execute("RESET ROLE").await.unwrap();
        assert_eq!(root.query(&look, &[&1_i64]).await.unwrap().len(), 1);
        // In a session of its own, and when the view is its owner's again.
        let ann = server.connect("ann").await;
        let own = ann.prepare("SELECT page FROM seen WHERE user_id = $1").await.unwrap();
        assert!(ann.query(&own, &[&1_i64]).await.unwrap().is_empty());
        root.batch_execute("ALTER VIEW seen RESET (security_invoker)").await.unwrap();
        assert_eq!(ann.query(&own, &[&1_i64]).await.unwrap().len(), 1);
        root.batch_execute("ALTER VIEW seen SET (security_invoker)").await.unwrap();
        assert!(ann.query(&own, &[&1_i64]).await.unwrap().is_empty());
    });
}

#[test]
fn policies_are_not_explained() {
    let server = Server::start();
    server.run(async {
        let root = with_roles(&server).await;
        root.batch_execute(
            "CREATE TABLE pay (who text, amount bigint); INSERT INTO pay VALUES ('ann', 1), ('bob', 77777);
             GRANT SELECT ON pay TO ann; ALTER TABLE pay ENABLE ROW LEVEL SECURITY;
             CREATE POLICY own ON pay USING (who = current_user AND amount < 55555);
             CREATE MASK rough ON pay (amount) USING (amount / 33333)",
        )
        .await
        .unwrap();
        let ann = server.connect("ann").await;
        for explain in ["EXPLAIN", "EXPLAIN VERBOSE", "EXPLAIN ANALYZE", "EXPLAIN ANALYZE VERBOSE"] {
            let rows = ann.simple_query(&format!("{explain} SELECT * FROM pay WHERE amount >= 0")).await.unwrap();
            let text = format!("{rows:?}");
            assert!(text.contains("RowSecurityExec: table=pay"), "{explain}: {text}");
            for secret in ["55555", "33333", "77777"] {
                assert!(!text.contains(secret), "{explain}: {text}");
            }
        }
        let copied = ann.copy_out("COPY pay TO STDOUT").await.unwrap();
        let bytes = futures::TryStreamExt::try_fold(copied, Vec::new(), |mut all, piece| async move {
            all.extend_from_slice(&piece);
            Ok(all)
        });
        assert_eq!(String::from_utf8(bytes.await.unwrap()).unwrap(), "ann\t0\n");
        let cursor = ann.simple_query("BEGIN; DECLARE c CURSOR FOR SELECT * FROM pay; FETCH ALL FROM c; COMMIT").await.unwrap();
        assert!(!format!("{cursor:?}").contains("bob"));
    });
}

#[test]
fn what_others_run_is_hidden_and_who_may_ends_it() {
    let server = Server::start();
    server.run(async {
        let root = with_roles(&server).await;
        let (ann, bob) = (server.connect("ann").await, server.connect("bob").await);
        let pid: i32 = ann.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
        let sleeping = ann.query("SELECT pg_sleep(600), 'a secret'", &[]);
        let watching = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let asked = "SELECT state, query FROM pg_stat_activity WHERE pid = $1";
            let seen = root.query_one(asked, &[&pid]).await.unwrap();
            assert_eq!(seen.get::<_, Option<&str>>(0), Some("active"));
            assert!(seen.get::<_, &str>(1).contains("a secret"));
            let hidden = bob.query_one(asked, &[&pid]).await.unwrap();
            assert_eq!((hidden.get::<_, Option<&str>>(0), hidden.get::<_, &str>(1)), (None, "<insufficient privilege>"));
            assert_eq!(code(bob.query("SELECT pg_terminate_backend($1)", &[&pid]).await), "42501");
            root.batch_execute("GRANT pg_monitor, pg_signal_backend TO bob").await.unwrap();
            assert!(bob.query_one(asked, &[&pid]).await.unwrap().get::<_, &str>(1).contains("a secret"));
            assert!(bob.query_one("SELECT pg_terminate_backend($1)", &[&pid]).await.unwrap().get::<_, bool>(0));
        };
        let (slept, ()) = tokio::join!(sleeping, watching);
        assert!(["57014", "57P01"].contains(&code(slept).as_str()));
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(ann.is_closed() || ann.query("SELECT 1", &[]).await.is_err());
        assert!(root.query("SELECT 1 FROM pg_stat_activity WHERE pid = $1", &[&pid]).await.unwrap().is_empty());
        // A password is in no list of what runs.
        root.batch_execute("ALTER ROLE ann PASSWORD 'hush-hush'").await.unwrap();
        let texts = bob.query("SELECT query FROM pg_stat_activity", &[]).await.unwrap();
        assert!(texts.iter().all(|row| !row.get::<_, &str>(0).contains("hush-hush")));
    });
}

async fn get(address: std::net::SocketAddr, request: &str) -> String {
    let mut tcp = tokio::net::TcpStream::connect(address).await.unwrap();
    tcp.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    tcp.read_to_string(&mut text).await.unwrap();
    text
}

#[test]
fn metrics_and_health() {
    let server = Server::start();
    server.run(async {
        let http = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (watch, port) = (http.local_addr().unwrap(), listener.local_addr().unwrap().port());
        let (engine, stop) = (std::sync::Arc::clone(&server.engine), tokio_util::sync::CancellationToken::new());
        tokio::spawn(portrait::pg::serve_watched(engine, listener, Some(http), AuthMode::Trust, None, stop.clone()));
        assert!(get(watch, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.starts_with("HTTP/1.1 200"));
        assert!(get(watch, "GET /readyz HTTP/1.1\r\n\r\n").await.ends_with("ready\n"));
        let text = format!("host=127.0.0.1 port={port} user=ann dbname=portrait sslmode=disable");
        let (client, connection) = tokio_postgres::connect(&text, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client.simple_query("SELECT * FROM generate_series(1, 7)").await.unwrap();
        assert_eq!(code(client.simple_query("SELECT * FROM nothing").await), "42P01");
        let metrics = get(watch, "GET /metrics?x=1 HTTP/1.0\r\n\r\n").await;
        for line in [
            "portrait_connections 1",
            "portrait_rows_sent_total 7",
            "portrait_statements_total{kind=\"SELECT\",sqlstate=\"00000\"} 1",
            "portrait_statements_total{kind=\"SELECT\",sqlstate=\"42P01\"} 1",
            "portrait_store_writable 1",
            "# EOF",
        ] {
            assert!(metrics.contains(line), "{line} is not in\n{metrics}");
        }
        assert!(get(watch, "GET /etc/passwd HTTP/1.1\r\n\r\n").await.starts_with("HTTP/1.1 404"));
        assert!(get(watch, "POST /metrics HTTP/1.1\r\n\r\n").await.starts_with("HTTP/1.1 405"));
        assert!(get(watch, "nonsense\r\n\r\n").await.starts_with("HTTP/1.1 400"));
        assert!(get(watch, &"x".repeat(20_000)).await.starts_with("HTTP/1.1 400"));
        stop.cancel();
    });
}
