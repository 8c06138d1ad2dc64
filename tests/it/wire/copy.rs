//! COPY: what drivers send, in one commit, each event once; clients that give up halfway; and rows that they keep.

use bytes::Bytes;
use futures::{SinkExt, TryStreamExt};
use tokio_postgres::{Client, SimpleQueryMessage};

use super::raw::{Raw, kinds};
use super::{Server, code};

const TABLE: &str = "CREATE TABLE events (event_id text, user_id bigint, event_time timestamptz, price double precision, tag bytea) \
                     WITH (user_column = user_id, time_column = event_time, event_id = event_id)";

/// Sends pieces; the rows that the server counted.
async fn copy(client: &Client, sql: &str, pieces: &[&[u8]]) -> Result<u64, tokio_postgres::Error> {
    let mut sink = Box::pin(client.copy_in::<_, Bytes>(sql).await?);
    for piece in pieces {
        sink.send(Bytes::copy_from_slice(piece)).await?;
    }
    sink.as_mut().finish().await
}

async fn rows(client: &Client, sql: &str) -> Vec<String> {
    let messages = client.simple_query(sql).await.unwrap();
    let text = |row: &tokio_postgres::SimpleQueryRow| (0..row.len()).map(|at| row.get(at).unwrap_or("NULL")).collect::<Vec<_>>().join("|");
    messages.iter().filter_map(|message| if let SimpleQueryMessage::Row(row) = message { Some(text(row)) } else { None }).collect()
}

#[test]
fn rows_in_text_and_csv() {
    let server = Server::start();
    server.run(async {
        let client = server.connect("portrait").await;
        client.batch_execute(TABLE).await.unwrap();
        let text = b"a\t1\t2024-05-01 10:00:00+00\t1.5\t\\\\x00ff\nb\t2\t2024-05-01 10:00:00+02\t\\N\t\\N\n";
        assert_eq!(copy(&client, "COPY events FROM STDIN", &[&text[..7], &text[7..20], &text[20..]]).await.unwrap(), 2);
        let csv = b"event_id,user_id,event_time\r\n\"c,\"\"1\",3,2024-05-02\r\na,1,2024-05-01 10:00:00+00\r\nq,,2024-05-02\r\n";
        let sql = "COPY events (event_id, user_id, event_time) FROM STDIN WITH (FORMAT csv, HEADER match)";
        assert_eq!(copy(&client, sql, &[csv]).await.unwrap(), 1, "one is known, one has no user");
        assert_eq!(copy(&client, sql, &[csv]).await.unwrap(), 0);
        let found = rows(&client, "SELECT event_id, user_id, event_time, price, tag FROM events ORDER BY user_id").await;
        assert_eq!(
            found,
            ["a|1|2024-05-01 10:00:00+00|1.5|\\x00ff", "b|2|2024-05-01 08:00:00+00|NULL|NULL", "c,\"1|3|2024-05-02 00:00:00+00|NULL|NULL",]
        );
        assert_eq!(rows(&client, "SELECT quarantine_reason, event_id FROM events_quarantine").await, ["user_id is null|q"]);
        // Any table takes rows.
        client.batch_execute("CREATE TABLE t (n int, ok boolean)").await.unwrap();
        assert_eq!(copy(&client, "copy t from stdin csv header delimiter ';'", &[b"n;ok\n1;yes\n", b"2;f"]).await.unwrap(), 2);
        assert_eq!(rows(&client, "SELECT n, ok FROM t ORDER BY n").await, ["1|t", "2|f"]);
    });
}

#[test]
fn arrays_in_text_and_csv() {
    let server = Server::start();
    server.run(async {
        let client = server.connect("portrait").await;
        client.batch_execute("CREATE TABLE t (n bigint, v real[], w text[])").await.unwrap();
        let text = b"1\t{1.5,NULL,-2}\t{\"a b\",NULL,\"NULL\"}\n2\t{}\t\\N\n3\t\\N\t{}\n";
        assert_eq!(copy(&client, "COPY t FROM STDIN", &[text]).await.unwrap(), 3);
        assert_eq!(copy(&client, "COPY t FROM STDIN (FORMAT csv)", &[b"4,\"{1,2}\",\"{\"\"c,d\"\"}\"\n"]).await.unwrap(), 1);
        let found = rows(&client, "SELECT * FROM t ORDER BY n").await;
        assert_eq!(found, ["1|{1.5,NULL,-2}|{\"a b\",NULL,\"NULL\"}", "2|{}|NULL", "3|NULL|{}", "4|{1,2}|{\"c,d\"}"]);
        for wrong in ["5\t{1,2\t{}\n", "5\t1\t{}\n", "5\t{x}\t{}\n"] {
            assert_eq!(error_of(copy(&client, "COPY t FROM STDIN", &[b"6\t{1}\t{}\n", wrong.as_bytes()]).await), "22P02", "{wrong}");
        }
        assert_eq!(rows(&client, "SELECT count(*) FROM t").await, ["4"]);
    });
}

#[test]
fn rows_in_binary() {
    let server = Server::start();
    server.run(async {
        let client = server.connect("portrait").await;
        client.batch_execute(TABLE).await.unwrap();
        let mut bytes = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
        for user in 0_i64..5000 {
            bytes.extend_from_slice(&3_i16.to_be_bytes());
            let id = format!("event {user}");
            bytes.extend_from_slice(&i32::try_from(id.len()).unwrap().to_be_bytes());
            bytes.extend_from_slice(id.as_bytes());
            bytes.extend_from_slice(&8_i32.to_be_bytes());
            bytes.extend_from_slice(&user.to_be_bytes());
            bytes.extend_from_slice(&8_i32.to_be_bytes());
            bytes.extend_from_slice(&(user * 1_000_000).to_be_bytes());
        }
        let sql = "COPY events (event_id, user_id, event_time) FROM STDIN WITH (FORMAT binary)";
        let cut = error_of(copy(&client, sql, &[&bytes[..bytes.len() - 3]]).await);
        assert_eq!(cut, "22P04");
        bytes.extend_from_slice(&(-1_i16).to_be_bytes());
        let pieces: Vec<&[u8]> = bytes.chunks(10_007).collect();
        assert_eq!(copy(&client, sql, &pieces).await.unwrap(), 5000);
        let found = rows(&client, "SELECT count(*), max(event_time) FROM events WHERE event_id = concat('event ', user_id)").await;
        assert_eq!(found, ["5000|2000-01-01 01:23:19+00"]);
        assert_eq!(error_of(copy(&client, sql, &[b"PGCOPX\n\xff\r\n\0\0\0\0\0\0\0\0\0"]).await), "22P04");
    });
}

fn error_of(result: Result<u64, tokio_postgres::Error>) -> String {
    code(result)
}

#[test]
fn what_cannot_be_read_leaves_nothing() {
    let server = Server::start();
    server.run(async {
        let client = server.connect("portrait").await;
        client.batch_execute("CREATE TABLE t (n int NOT NULL, at date)").await.unwrap();
        for (sql, bytes, expected) in [
            ("COPY t FROM STDIN", &b"1\t2024-01-01\n2\n"[..], "22P04"),
            ("COPY t FROM STDIN", b"1\t2024-01-01\t3\n", "22P04"),
            ("COPY t FROM STDIN CSV", b"1,2024-01-01\nx,2024-01-01\n", "22P02"),
            ("COPY t FROM STDIN CSV", b"99999999999,2024-01-01\n", "22003"),
            ("COPY t FROM STDIN CSV", b"1,today?\n", "22007"),
            ("COPY t FROM STDIN CSV", b",2024-01-01\n", "23502"),
            ("COPY t FROM STDIN CSV", b"1,\"2024-01-01\n", "22P04"),
            ("COPY t FROM STDIN CSV", b"1,\xff\n", "22021"),
        ] {
            assert_eq!(error_of(copy(&client, sql, &[bytes]).await), expected, "{sql} {bytes:?}");
            assert_eq!(rows(&client, "SELECT count(*) FROM t").await, ["0"], "{sql}");
        }
        // Refused before the client may send. As one message: the driver's `copy_in` sends a second Sync after such an error and
        // takes the answer to it for a broken connection, with any server.
        for (sql, expected) in [
            ("COPY t (n, n) FROM STDIN", "42701"),
            ("COPY t (m) FROM STDIN", "42703"),
            ("COPY nope FROM STDIN", "42P01"),
            ("COPY t FROM STDIN (FORMAT orc)", "22023"),
            ("COPY t FROM STDIN (COLOUR red)", "42601"),
            ("COPY t FROM '/etc/passwd'", "0A000"),
            ("COPY t TO 'file.csv'", "0A000"),
            ("COPY t TO PROGRAM 'cat'", "0A000"),
            ("COPY t TO STDOUT (HEADER match, FORMAT csv)", "0A000"),
            ("COPY nothing TO STDOUT", "42P01"),
            ("COPY t (missing) TO STDOUT", "42703"),
            ("COPY (SELECT 1) FROM STDIN", "42601"),
            ("COPY (INSERT INTO t VALUES (1)) TO STDOUT", "0A000"),
        ] {
            assert_eq!(error_of(client.batch_execute(sql).await.map(|()| 0)), expected, "{sql}");
            assert_eq!(rows(&client, "SELECT count(*) FROM t").await, ["0"], "{sql}");
        }
        let error = copy(&client, "COPY t FROM STDIN CSV", &[b"1,2024-01-01\n2,2024-01-01\nx,2024-01-01\n"]).await.unwrap_err();
        let error = error.as_db_error().unwrap();
        assert_eq!((error.message(), error.detail()), ("invalid input syntax for type integer: \"x\"", Some("COPY t, line 3, column n.")));
    });
}

async fn taken(client: &Client, sql: &str) -> Vec<u8> {
    let pieces: Vec<Bytes> = client.copy_out(sql).await.unwrap().try_collect().await.unwrap();
    pieces.concat()
}

#[test]
fn rows_out() {
    let server = Server::start();
    server.run(async {
        let client = server.connect("portrait").await;
        let table = "CREATE TABLE t (n int, s text, at timestamptz, b bytea, f double precision)";
        let all = "INSERT INTO t VALUES (1, 'a,b', '2024-05-01 10:00:00+02', decode('00ff', 'hex'), 0.5), (2, NULL, NULL, NULL, 'NaN'), (3, '', NULL, NULL, 1e300)";
        client.batch_execute(&format!("{table}; {all}")).await.unwrap();
        let text = "1\ta,b\t2024-05-01 08:00:00+00\t\\\\x00ff\t0.5\n2\t\\N\t\\N\t\\N\tNaN\n3\t\t\\N\t\\N\t1e+300\n";
        assert_eq!(String::from_utf8(taken(&client, "COPY (SELECT * FROM t ORDER BY n) TO STDOUT").await).unwrap(), text);
        let csv = "n,s\n1,\"a,b\"\n2,\n3,\"\"\n";
        let sql = "COPY (SELECT n, s FROM t ORDER BY 1) TO STDOUT WITH (FORMAT csv, HEADER)";
        assert_eq!(String::from_utf8(taken(&client, sql).await).unwrap(), csv);
        let named = taken(&client, "copy t (s, n) to stdout csv delimiter ';' null 'NA'").await;
        assert_eq!(named.split(|byte| *byte == b'\n').count(), 4);
        // What was taken in one format is given back in it.
        for format in ["text", "csv", "binary"] {
            let copy = format!("{format}_copy");
            client.batch_execute(&table.replace("TABLE t", &format!("TABLE {copy}"))).await.unwrap();
            let bytes = taken(&client, &format!("COPY t TO STDOUT (FORMAT {format})")).await;
            assert_eq!(self::copy(&client, &format!("COPY {copy} FROM STDIN (FORMAT {format})"), &[&bytes]).await.unwrap(), 3);
            let both = [format!("SELECT * FROM {copy} ORDER BY n"), "SELECT * FROM t ORDER BY n".to_owned()];
            assert_eq!(rows(&client, &both[0]).await, rows(&client, &both[1]).await, "{format}");
        }
        // Many rows; and an error after some of them leaves the connection usable.
        let many = taken(&client, "COPY (SELECT n FROM generate_series(1, 300000) g(n)) TO STDOUT").await;
        assert_eq!(many.iter().filter(|byte| **byte == b'\n').count(), 300_000);
        let broken = "COPY (SELECT 1 / (250000 - n) FROM generate_series(1, 300000) g(n)) TO STDOUT";
        let error = client.copy_out(broken).await.unwrap().try_collect::<Vec<Bytes>>().await.unwrap_err();
        assert_eq!(code::<()>(Err(error)), "22012");
        // In the simple protocol: what comes, the rows one by one, the end.
        let mut raw = Raw::ready(server.address).await;
        raw.query("COPY (SELECT n FROM t) TO STDOUT; SELECT 1").await;
        let answers = raw.until('Z').await;
        assert_eq!(kinds(&answers), "HdddcCTDCZ");
        // In binary the header comes with the first row, and without rows with the end: readers of Arrow count on it.
        for (sql, wanted) in [("COPY (SELECT n FROM t) TO STDOUT (FORMAT binary)", 4), ("COPY (SELECT n FROM t WHERE false) TO STDOUT BINARY", 1)] {
            raw.query(sql).await;
            let answers = raw.until('Z').await;
            let pieces: Vec<_> = answers.iter().filter(|answer| answer.kind == 'd').collect();
            assert_eq!(pieces.len(), wanted, "{sql}");
            assert!(pieces[0].body.starts_with(b"PGCOPY\n") && pieces[0].body.len() > 19, "{sql}");
        }
        assert_eq!(rows(&client, "SELECT count(*) FROM t").await, ["3"]);
    });
}

#[test]
fn a_client_that_gives_up_leaves_nothing() {
    let server = Server::start();
    server.run(async {
        let client = server.connect("portrait").await;
        client.batch_execute("CREATE TABLE t (n int)").await.unwrap();
        {
            // Dropped before it is finished: the driver says CopyFail.
            let mut sink = Box::pin(client.copy_in::<_, Bytes>("COPY t FROM STDIN").await.unwrap());
            sink.send(Bytes::from_static(b"1\n2\n")).await.unwrap();
        }
        assert_eq!(rows(&client, "SELECT count(*) FROM t").await, ["0"]);
        // Gone altogether.
        let gone = server.connect("portrait").await;
        let mut sink = Box::pin(gone.copy_in::<_, Bytes>("COPY t FROM STDIN").await.unwrap());
        sink.send(Bytes::from_static(b"1\n2\n")).await.unwrap();
        drop(gone);
        std::mem::forget(sink);
        assert_eq!(rows(&client, "SELECT count(*) FROM t").await, ["0"]);
        // A timeout holds while the server waits for rows, and the connection goes on.
        client.batch_execute("SET statement_timeout = 300").await.unwrap();
        let mut raw = Raw::ready(server.address).await;
        raw.query("SET statement_timeout = 300").await;
        raw.until('Z').await;
        raw.query("COPY t FROM STDIN").await;
        let answers = raw.until('Z').await;
        assert_eq!(kinds(&answers), "GEZ", "{answers:?}");
        assert_eq!(answers[1].field('C'), "57014");
        raw.query("SELECT count(*) FROM t").await;
        assert_eq!(kinds(&raw.until('Z').await), "TDCZ");
    });
}
