//! The extended protocol: preparing, binding, portals, pipelines, and clients that get it wrong.

use futures::StreamExt;

use super::raw::{Raw, bind, execute, kinds, message, parse, sync};
use super::{Server, code};

#[test]
fn drivers_prepare_bind_and_read() {
    let server = Server::start();
    server.run(async {
        let client = server.connect("ann").await;
        let statement = client.prepare("SELECT $1::bigint + 1 AS next, $2::text AS name").await.unwrap();
        assert_eq!(statement.params().iter().map(|r#type| r#type.name()).collect::<Vec<_>>(), ["int8", "text"]);
        let row = client.query_one(&statement, &[&41_i64, &"x"]).await.unwrap();
        assert_eq!((row.get::<_, i64>("next"), row.get::<_, &str>("name")), (42, "x"));
        let row = client.query_one(&statement, &[&None::<i64>, &None::<&str>]).await.unwrap();
        assert_eq!((row.get::<_, Option<i64>>(0), row.get::<_, Option<&str>>(1)), (None, None));
        client.batch_execute("CREATE TABLE t (a BIGINT, b TEXT)").await.unwrap();
        let inserted = client.execute("INSERT INTO t VALUES ($1, $2), ($3, $4)", &[&1_i64, &"x", &2_i64, &"y"]).await.unwrap();
        assert_eq!(inserted, 2);
        let rows = client.query("SELECT b FROM t WHERE a = ANY($1)", &[&vec![2_i64, 3]]).await.unwrap();
        assert_eq!(rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>(), ["y"]);
    });
}

#[test]
fn a_kept_plan_follows_its_tables_and_settings() {
    let server = Server::start();
    server.run(async {
        let (client, other) = (server.connect("ann").await, server.connect("bob").await);
        let make = "CREATE TABLE cards (user_id BIGINT, n BIGINT, z TIMESTAMPTZ)";
        client.batch_execute(make).await.unwrap();
        let statement = client.prepare("SELECT n FROM cards WHERE user_id = $1 ORDER BY n LIMIT 3").await.unwrap();
        let found = async |user: Option<i64>| {
            let rows = client.query(&statement, &[&user]).await?;
            Ok::<_, tokio_postgres::Error>(rows.iter().map(|row| row.get::<_, i64>(0)).collect::<Vec<_>>())
        };
        for (rows, expected) in [(vec![], vec![]), (vec![5], vec![5]), (vec![4, 6, 1], vec![1, 4, 5])] {
            for n in rows {
                other.batch_execute(&format!("INSERT INTO cards VALUES (7, {n}, '2024-07-01 12:00:00+00'), (8, 0, NULL)")).await.unwrap();
            }
            assert_eq!(found(Some(7)).await.unwrap(), expected);
        }
        assert!(found(None).await.unwrap().is_empty() && found(Some(-1)).await.unwrap().is_empty());

        client.batch_execute("SET TimeZone = 'Asia/Tokyo'").await.unwrap();
        assert_eq!(found(Some(7)).await.unwrap(), [1, 4, 5]);

        other.batch_execute("DROP TABLE cards").await.unwrap();
        assert_eq!(code(found(Some(7)).await), "42P01");
        other.batch_execute("CREATE TABLE cards (user_id BIGINT, n TEXT)").await.unwrap();
        assert_eq!(code(found(Some(7)).await), "0A000");
        other.batch_execute(&format!("DROP TABLE cards; {make}; INSERT INTO cards VALUES (7, 70, NULL)")).await.unwrap();
        assert_eq!(found(Some(7)).await.unwrap(), [70]);
    });
}

#[test]
fn statements_of_the_protocol_are_executed_and_explained_by_name() {
    let server = Server::start();
    server.run(async {
        let client = server.connect("ann").await;
        let statement = client.prepare("SELECT $1::bigint + 1 AS next").await.unwrap();
        let mine = "SELECT name, parameter_types, from_sql FROM pg_prepared_statements WHERE statement LIKE '%AS next'";
        let row = client.query_one(mine, &[]).await.unwrap();
        assert_eq!((row.get::<_, Vec<&str>>(1), row.get::<_, bool>(2)), (vec!["bigint"], false));
        let name = row.get::<_, &str>(0);
        assert_eq!(client.query_one(&format!("EXECUTE {name}(41)"), &[]).await.unwrap().get::<_, i64>(0), 42);
        // What sqlx asks when it describes a statement.
        let explained = client.query_one(&format!("EXPLAIN (VERBOSE, FORMAT JSON) EXECUTE {name}(NULL)"), &[]).await.unwrap();
        assert_eq!(explained.columns()[0].type_().name(), "json");
        assert_eq!(code(client.batch_execute(&format!("PREPARE {name} AS SELECT 1")).await), "42P05");
        drop(statement); // sends Close
        assert!(client.query_opt(mine, &[]).await.unwrap().is_none());
        assert_eq!(code(client.query(&format!("EXECUTE {name}(41)"), &[]).await), "26000");
        let kept = client.prepare("SELECT 5::bigint").await.unwrap();
        client.batch_execute("DISCARD PLANS").await.unwrap();
        assert_eq!(client.query_one(&kept, &[]).await.unwrap().get::<_, i64>(0), 5);
        client.batch_execute("DEALLOCATE ALL").await.unwrap();
        assert_eq!(code(client.query(&kept, &[]).await), "26000");
    });
}

#[test]
fn drivers_ask_for_types_by_oid_and_name() {
    let server = Server::start();
    server.run(async {
        let client = server.connect("ann").await;
        let of_tokio_postgres = "SELECT t.typname, t.typtype, t.typelem, r.rngsubtype, t.typbasetype, n.nspname, t.typrelid \
            FROM pg_catalog.pg_type t LEFT OUTER JOIN pg_catalog.pg_range r ON r.rngtypid = t.oid \
            INNER JOIN pg_catalog.pg_namespace n ON t.typnamespace = n.oid WHERE t.oid = $1";
        let row = client.query_one(of_tokio_postgres, &[&1021_u32]).await.unwrap();
        assert_eq!((row.get::<_, &str>(0), row.get::<_, i8>(1), row.get::<_, u32>(2)), ("_float4", b'b'.cast_signed(), 700));
        let row = client.query_one("SELECT 'pg_class'::regclass::oid, 'int8'::regtype::oid", &[]).await.unwrap();
        assert_eq!((row.get::<_, u32>(0), row.get::<_, u32>(1)), (1259, 20));
    });
}

#[test]
fn an_error_skips_to_sync() {
    let server = Server::start();
    server.run(async {
        let mut raw = Raw::ready(server.address).await;
        let mut bytes = parse("SELECT nonsense");
        bytes.extend([bind(), execute(0), sync(), parse("SELECT 1"), bind(), execute(0), sync()].concat());
        raw.send(&bytes).await;
        assert_eq!(kinds(&raw.until('Z').await), "EZ");
        assert_eq!(kinds(&raw.until('Z').await), "12DCZ");
    });
}

#[test]
fn portals_suspend_and_go_on() {
    let server = Server::start();
    server.run(async {
        let mut raw = Raw::ready(server.address).await;
        let mut bytes = parse("SELECT * FROM generate_series(1, 5)");
        bytes.extend([bind(), execute(2), execute(2), execute(2), execute(2), sync()].concat());
        raw.send(&bytes).await;
        let answers = raw.until('Z').await;
        assert_eq!(kinds(&answers), "12DDsDDsDCCZ");
        let tags: Vec<_> = answers.iter().filter(|answer| answer.kind == 'C').map(|answer| answer.body.clone()).collect();
        assert_eq!(tags, [b"SELECT 1\0", b"SELECT 0\0"]);
    });
}

#[test]
fn cursors_of_sql_are_portals() {
    let server = Server::start();
    server.run(async {
        let client = server.connect("ann").await;
        client.batch_execute("BEGIN").await.unwrap();
        let declared =
            client.execute("DECLARE c CURSOR FOR SELECT n, 'x' AS s FROM generate_series(1, $1::bigint) AS g(n)", &[&5_i64]).await;
        assert_eq!(declared.unwrap(), 0);
        let fetch = client.prepare("FETCH FORWARD 3 FROM c").await.unwrap();
        assert_eq!(fetch.columns().iter().map(|column| column.type_().name()).collect::<Vec<_>>(), ["int8", "text"]);
        assert_eq!(client.query(&fetch, &[]).await.unwrap().len(), 3);
        assert_eq!(client.query(&fetch, &[]).await.unwrap().len(), 2);
        client.batch_execute("COMMIT").await.unwrap();
        assert_eq!(code(client.query("FETCH ALL FROM c", &[]).await), "34000");
        // What libpq's PQdescribePortal and PQclosePortal send.
        let mut raw = Raw::ready(server.address).await;
        raw.query("BEGIN; DECLARE c CURSOR FOR SELECT 1::int AS n; FETCH 1 FROM c; MOVE 1 FROM c").await;
        let answers = raw.until('Z').await;
        assert_eq!(kinds(&answers), "CCTDCCZ");
        assert_eq!(answers[4].body, b"FETCH 1\0");
        let both = [message('D', b"Pc\0"), message('C', b"Pc\0"), message('D', b"Pc\0"), sync()].concat();
        raw.send(&both).await;
        let answers = raw.until('Z').await;
        assert_eq!(kinds(&answers), "T3EZ");
        assert_eq!(answers[2].field('C'), "34000");
    });
}

#[test]
fn a_cursor_runs_longer_than_the_statement_that_declared_it() {
    let server = Server::start();
    server.run(async {
        let client = server.connect("ann").await;
        let declare = "SET statement_timeout = 200; DECLARE c CURSOR WITH HOLD FOR SELECT n FROM generate_series(1, 100000000) AS g(n)";
        client.batch_execute(declare).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(400)).await;
        assert_eq!(client.query("FETCH 1000 FROM c", &[]).await.unwrap().len(), 1000);
        assert_eq!(code(client.query("FETCH ALL FROM c", &[]).await), "57014", "the clock of each FETCH is its own");
        let many: String = (0..64).map(|number| format!("DECLARE d{number} CURSOR WITH HOLD FOR SELECT 1;")).collect();
        assert_eq!(code(client.batch_execute(&many).await), "54000");
    });
}

#[test]
fn parameters_that_a_rewrite_leaves_out_still_count() {
    let server = Server::start();
    server.run(async {
        let client = server.connect("ann").await;
        let sql = "SELECT a.n FROM (SELECT indnullsnotdistinct AS n, indkey AS k FROM pg_catalog.pg_index WHERE indrelid = $1) AS a WHERE $2::text = 'x'";
        let statement = client.prepare(sql).await.unwrap();
        assert_eq!((statement.params().len(), statement.columns()[0].type_().name()), (2, "bool"));
        // The planner makes a series while it plans: its parameters must be known by then, here and nowhere else.
        for (from, wanted) in [(3_i64, vec![3_i64, 4, 5]), (5, vec![5])] {
            let series = "SELECT n FROM generate_series($1, 5::bigint) AS n WHERE n > $2::bigint ORDER BY n";
            let series = client.query(series, &[&from, &0_i64]).await.unwrap();
            assert_eq!(series.iter().map(|row| row.get::<_, i64>(0)).collect::<Vec<_>>(), wanted);
        }
        client.execute("CREATE TABLE t AS SELECT n FROM generate_series(1, $1) AS n", &[&4_i64]).await.unwrap();
        assert_eq!(client.execute("INSERT INTO t SELECT n FROM generate_series(1, $1) AS n", &[&3_i64]).await.unwrap(), 3);
        client.batch_execute("PREPARE p AS SELECT count(*) FROM generate_series(1, $1) AS n").await.unwrap();
        let counted = client.query_one("EXECUTE p (7)", &[]).await.unwrap();
        assert_eq!(counted.get::<_, i64>(0), 7);
        assert_eq!(client.query_one("SELECT count(*) FROM t", &[]).await.unwrap().get::<_, i64>(0), 7);
        assert!(client.query("SELECT 'a'::text LIKE $1 ESCAPE '/'", &[&"a"]).await.is_ok());
    });
}

#[test]
fn limits_that_make_no_sense_mean_none() {
    let server = Server::start();
    server.run(async {
        let mut raw = Raw::ready(server.address).await;
        for limit in [-1, i32::MIN, i32::MAX] {
            let bytes = [parse("SELECT * FROM generate_series(1, 3)"), bind(), execute(limit), sync()].concat();
            raw.send(&bytes).await;
            assert_eq!(kinds(&raw.until('Z').await), "12DDDCZ", "{limit}");
        }
    });
}

#[test]
fn mismatches_are_errors_and_the_connection_lives() {
    let server = Server::start();
    server.run(async {
        let mut raw = Raw::ready(server.address).await;
        for (bytes, code) in [
            ([parse("SELECT 1, 2, 3"), message('B', b"\0\0\0\0\0\0\0\x02\0\0\0\x01")].concat(), "08P01"),
            ([parse("SELECT 1"), message('B', b"\0\0\0\0\0\0\0\x01\0\x07")].concat(), "22023"),
            ([parse("SELECT $1::int"), bind()].concat(), "08P01"),
            ([parse("SELECT $1::int"), message('B', b"\0\0\0\x01\0\x01\0\x01\0\0\0\x03abc\0\0")].concat(), "22P03"),
            ([parse("SELECT $1::int"), message('B', b"\0\0\0\0\0\x01\0\0\0\x03abc\0\0")].concat(), "22P02"),
            (message('B', b"\0nothing\0\0\0\0\0\0\0"), "26000"),
            (execute(0), "34000"),
            (message('D', b"Snothing\0"), "26000"),
            (message('B', b"\0\0\x7f\xff"), "08P01"),
            (message('P', b"\0SELECT '\xff'\0\0\0"), "22021"),
            (parse("SELECT 1; SELECT 2"), "42601"),
            (message('P', b"\0SELECT $1\0\0\x01\xff\xff\xff\xff"), "42704"),
        ] {
            raw.send(&[bytes, sync()].concat()).await;
            let answers = raw.until('Z').await;
            let error = answers.iter().find(|answer| answer.kind == 'E').unwrap_or_else(|| panic!("{code}: {answers:?}"));
            assert_eq!(error.field('C'), code, "{}", error.field('M'));
        }
        raw.send(&[parse("SELECT 1"), bind(), execute(0), sync()].concat()).await;
        assert_eq!(kinds(&raw.until('Z').await), "12DCZ");
    });
}

#[test]
fn broken_frames_end_the_connection_and_no_other() {
    let server = Server::start();
    server.run(async {
        let mut other = Raw::ready(server.address).await;
        for bytes in
            [vec![b'Q', 0xff, 0xff, 0xff, 0xff], vec![b'Q', 0x7f, 0xff, 0xff, 0xff], vec![b'S', 0, 1, 0, 0], vec![b'?', 0, 0, 0, 4]]
        {
            let mut raw = Raw::ready(server.address).await;
            raw.send(&bytes).await;
            let answer = raw.next().await.unwrap();
            assert_eq!((answer.kind, answer.field('S').as_str(), answer.field('C').as_str()), ('E', "FATAL", "08P01"));
            assert!(raw.is_closed().await);
        }
        other.query("SELECT 1").await;
        assert_eq!(kinds(&other.until('Z').await), "TDCZ");
    });
}

#[test]
fn names_are_kept_until_closed() {
    let server = Server::start();
    server.run(async {
        let mut raw = Raw::ready(server.address).await;
        let named = message('P', b"one\0SELECT 7\0\0\0");
        raw.send(&[named.clone(), sync(), named, sync()].concat()).await;
        assert_eq!(kinds(&raw.until('Z').await), "1Z");
        let answers = raw.until('Z').await;
        assert_eq!(answers[0].field('C'), "42P05");
        let closed = [message('C', b"Sone\0"), message('D', b"Sone\0"), sync()].concat();
        raw.send(&closed).await;
        let answers = raw.until('Z').await;
        assert_eq!((kinds(&answers).as_str(), answers[1].field('C').as_str()), ("3EZ", "26000"));
        raw.send(&[message('P', b"two\0SELECT 7\0\0\0"), sync()].concat()).await;
        raw.until('Z').await;
        raw.query("DEALLOCATE two").await;
        assert_eq!(kinds(&raw.until('Z').await), "CZ");
    });
}

#[test]
fn statements_and_portals_are_capped() {
    let server = Server::start();
    server.run(async {
        let mut raw = Raw::ready(server.address).await;
        raw.send(&parse("SELECT 1")).await;
        for index in 0..65 {
            raw.send(&message('B', format!("p{index}\0\0\0\0\0\0\0\0").as_bytes())).await;
        }
        raw.send(&sync()).await;
        let answers = raw.until('Z').await;
        assert_eq!(kinds(&answers).matches('2').count(), 64);
        assert_eq!(answers.iter().find(|answer| answer.kind == 'E').unwrap().field('C'), "54000");
        raw.send(&[parse("SELECT 1"), bind(), sync()].concat()).await;
        assert_eq!(kinds(&raw.until('Z').await), "12Z", "Sync outside a transaction closed them");
    });
}

#[test]
fn empty_and_row_less_statements() {
    let server = Server::start();
    server.run(async {
        let mut raw = Raw::ready(server.address).await;
        let describe = message('D', b"S\0");
        raw.send(&[parse(""), describe.clone(), bind(), execute(0), sync()].concat()).await;
        assert_eq!(kinds(&raw.until('Z').await), "1tn2IZ");
        raw.send(&[parse("SET application_name = 'x'"), describe, bind(), execute(0), sync()].concat()).await;
        assert_eq!(kinds(&raw.until('Z').await), "1tn2CSZ");
    });
}

#[test]
fn describing_and_explaining_run_nothing() {
    let server = Server::start();
    server.run(async {
        let client = server.connect("ann").await;
        client.prepare("CREATE TABLE described (a INT)").await.unwrap();
        assert!(server.engine.catalog().describe("described").is_none());
    });
}

#[test]
fn large_results_stream() {
    let server = Server::start();
    server.run(async {
        let client = server.connect("ann").await;
        // The first rows arrive long before the last could exist.
        let rows =
            client.query_raw("SELECT a, repeat('x', 100) FROM generate_series(1, 100000000000) AS t(a)", Vec::<i64>::new()).await.unwrap();
        let first: Vec<_> = rows.take(1000).collect().await;
        assert!(first.iter().all(Result::is_ok));
    });
}

#[test]
fn failed_transactions_refuse_to_prepare() {
    let server = Server::start();
    server.run(async {
        let client = server.connect("ann").await;
        client.batch_execute("BEGIN").await.unwrap();
        assert_eq!(code(client.query("SELECT nonsense", &[]).await), "42703");
        assert_eq!(code(client.query("SELECT 1", &[]).await), "25P02");
        client.batch_execute("ROLLBACK").await.unwrap();
        assert!(client.query("SELECT 1", &[]).await.is_ok());
    });
}
