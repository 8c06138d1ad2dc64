//! Each type through a driver, in binary; and the catalogs that drivers read.

use std::error::Error;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{BufMut, BytesMut};
use futures::SinkExt;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};

use super::Server;

/// The 16 bytes of a uuid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Id(u128);

impl ToSql for Id {
    accepts!(UUID);
    to_sql_checked!();

    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_u128(self.0);
        Ok(IsNull::No)
    }
}

impl<'a> FromSql<'a> for Id {
    accepts!(UUID);

    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(u128::from_be_bytes(raw.try_into()?)))
    }
}

#[test]
fn results_of_each_type_in_binary() {
    let server = Server::start();
    server.run(async {
        let client = server.connect("ann").await;
        let row = client
            .query_one(
                "SELECT true, 1::smallint, 2::int, 3::bigint, 1.5::real, 2.5::double precision, 'é'::text, x'00ff'::bytea, \
                 TIMESTAMP '2024-02-29 12:00:00', ARRAY[1.5::real, 2.5::real], ARRAY['a', NULL], NULL::int, ARRAY[1, 2]",
                &[],
            )
            .await
            .unwrap();
        assert!(row.get::<_, bool>(0));
        assert_eq!((row.get::<_, i16>(1), row.get::<_, i32>(2), row.get::<_, i64>(3)), (1, 2, 3));
        assert_eq!((row.get::<_, f32>(4), row.get::<_, f64>(5)), (1.5, 2.5));
        assert_eq!((row.get::<_, &str>(6), row.get::<_, &[u8]>(7)), ("é", &[0, 255][..]));
        assert_eq!(row.get::<_, SystemTime>(8), UNIX_EPOCH + Duration::from_secs(1_709_208_000));
        assert_eq!(row.get::<_, Vec<f32>>(9), [1.5, 2.5]);
        assert_eq!(row.get::<_, Vec<Option<&str>>>(10), [Some("a"), None]);
        assert_eq!(row.get::<_, Option<i32>>(11), None);
        assert_eq!(row.get::<_, Vec<i64>>(12), [1, 2]);
    });
}

#[test]
fn parameters_of_each_type() {
    let server = Server::start();
    server.run(async {
        let client = server.connect("ann").await;
        let now = UNIX_EPOCH + Duration::from_micros(1_720_000_000_123_456);
        let row = client
            .query_one(
                "SELECT $1::boolean, $2::smallint, $3::int, $4::bigint, $5::real, $6::double precision, $7::text, $8::bytea, \
                 $9::timestamp, $10::real[], $11::text[]",
                &[
                    &true,
                    &1_i16,
                    &2_i32,
                    &3_i64,
                    &1.5_f32,
                    &2.5_f64,
                    &"x",
                    &&b"\x00\xff"[..],
                    &now,
                    &vec![1.0_f32, 2.0],
                    &vec![Some("a"), None],
                ],
            )
            .await
            .unwrap();
        assert!(row.get::<_, bool>(0));
        assert_eq!((row.get::<_, i16>(1), row.get::<_, i32>(2), row.get::<_, i64>(3)), (1, 2, 3));
        assert_eq!((row.get::<_, f32>(4), row.get::<_, f64>(5)), (1.5, 2.5));
        assert_eq!((row.get::<_, &str>(6), row.get::<_, &[u8]>(7)), ("x", &[0, 255][..]));
        assert_eq!(row.get::<_, SystemTime>(8), now);
        assert_eq!(row.get::<_, Vec<f32>>(9), [1.0, 2.0]);
        assert_eq!(row.get::<_, Vec<Option<&str>>>(10), [Some("a"), None]);
    });
}

#[test]
fn the_catalog_knows_tables_columns_and_types() {
    let server = Server::start();
    server.run(async {
        let client = server.connect("ann").await;
        client.batch_execute("CREATE TABLE \"Events\" (user_id BIGINT NOT NULL, amount DECIMAL(10,2), tags TEXT[])").await.unwrap();
        let rows = client
            .query(
                "SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod), a.attnotnull, a.atttypid \
                 FROM pg_catalog.pg_attribute a JOIN pg_class c ON a.attrelid = c.oid \
                 WHERE c.relname = 'Events' AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
                &[],
            )
            .await
            .unwrap();
        let rows: Vec<(String, String, bool, u32)> = rows.iter().map(|row| (row.get(0), row.get(1), row.get(2), row.get(3))).collect();
        let expected = [("user_id", "bigint", true, 20), ("amount", "numeric(10,2)", false, 1700), ("tags", "text[]", false, 1009)];
        assert_eq!(rows, expected.map(|(name, r#type, required, oid)| (name.to_owned(), r#type.to_owned(), required, oid)));
        let row =
            client.query_one("SELECT data_type, udt_name FROM information_schema.columns WHERE column_name = 'tags'", &[]).await.unwrap();
        assert_eq!((row.get::<_, &str>(0), row.get::<_, &str>(1)), ("ARRAY", "_text"));
        let row = client.query_one("SELECT '\"Events\"'::regclass = c.oid FROM pg_class c WHERE relname = 'Events'", &[]).await.unwrap();
        assert!(row.get::<_, bool>(0));
        let version = client.query_one("SELECT version()", &[]).await.unwrap().get::<_, String>(0);
        assert!(version.starts_with("PostgreSQL 15."), "{version}");
    });
}

#[test]
fn columns_of_uuids_stay_uuids() {
    let server = Server::start();
    server.run(async {
        let client = server.connect("ann").await;
        client.batch_execute("CREATE TABLE t (id uuid, n int); CREATE VIEW v AS SELECT id AS key FROM t").await.unwrap();
        let insert = client.prepare("INSERT INTO t VALUES ($1, $2)").await.unwrap();
        assert_eq!(insert.params(), [Type::UUID, Type::INT4]);
        let ids = [Id(0xa0ee_bc99_9c0b_4ef8_bb6d_6bb9_bd38_0a11), Id(7)];
        for (n, id) in ids.iter().enumerate() {
            client.execute(&insert, &[id, &(n as i32)]).await.unwrap();
        }
        client.batch_execute("INSERT INTO t VALUES ('{00000000-0000-0000-0000-00000000000A}', 2)").await.unwrap();
        for sql in ["SELECT id FROM t WHERE id = $1", "SELECT key FROM v WHERE $1 = key", "SELECT id FROM t WHERE id IN ($1)"] {
            let statement = client.prepare(sql).await.unwrap();
            assert_eq!((statement.params(), statement.columns()[0].type_()), (&[Type::UUID][..], &Type::UUID), "{sql}");
            for id in ids.iter().chain(&ids) {
                assert_eq!(client.query_one(&statement, &[id]).await.unwrap().get::<_, Id>(0), *id, "{sql}");
            }
        }
        let among = client.prepare("SELECT n FROM t WHERE id = ANY($1) ORDER BY n").await.unwrap();
        assert_eq!(among.params(), [Type::UUID_ARRAY]);
        assert_eq!(client.query(&among, &[&ids.as_slice()]).await.unwrap().len(), 2);
        let array = client.query_one("SELECT ARRAY[$1::uuid, NULL], $2::uuid[]", &[&ids[0], &ids.as_slice()]).await.unwrap();
        assert_eq!((array.get::<_, Vec<Option<Id>>>(0), array.get::<_, Vec<Id>>(1)), (vec![Some(ids[0]), None], ids.to_vec()));
    });
}

#[test]
fn rows_of_uuids_are_copied() {
    let server = Server::start();
    server.run(async {
        let client = server.connect("ann").await;
        client.batch_execute("CREATE TABLE t (id uuid, doc json)").await.unwrap();
        let copy = async |sql: &str, rows: &[u8]| {
            let mut sink = Box::pin(client.copy_in::<_, bytes::Bytes>(sql).await.unwrap());
            sink.send(bytes::Bytes::copy_from_slice(rows)).await?;
            sink.as_mut().finish().await
        };
        copy("COPY t FROM STDIN", b"A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11\t{}\n\\N\t\\N\n").await.unwrap();
        copy("COPY t FROM STDIN WITH (FORMAT csv)", b"{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11},\"[1, 2]\"\n").await.unwrap();
        let mut binary = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0\0\x02\0\0\0\x10".to_vec();
        binary.extend(0xa0ee_bc99_9c0b_4ef8_bb6d_6bb9_bd38_0a11_u128.to_be_bytes());
        binary.extend(b"\0\0\0\x04null\xff\xff");
        copy("COPY t FROM STDIN WITH (FORMAT binary)", &binary).await.unwrap();
        let rows = client.query("SELECT id::text, count(*) FROM t GROUP BY 1 ORDER BY 1", &[]).await.unwrap();
        let found: Vec<(Option<&str>, i64)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        assert_eq!(found, [(Some("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"), 3), (None, 1)]);
        for (rows, message, place) in [
            ("x\t{}\n", "invalid input syntax for type uuid: \"x\"", "COPY t, line 1, column id."),
            ("\\N\t{}\n\\N\t{\n", "invalid input syntax for type json", ""),
        ] {
            let error = copy("COPY t FROM STDIN", rows.as_bytes()).await.unwrap_err();
            let error = error.as_db_error().unwrap();
            assert_eq!((error.code().code(), error.message()), ("22P02", message));
            assert!(place.is_empty() || error.detail() == Some(place), "{error:?}");
        }
    });
}

#[test]
fn columns_say_where_they_come_from() {
    let server = Server::start();
    server.run(async {
        let client = server.connect("ann").await;
        client
            .batch_execute(
                "CREATE TABLE t (a int, b text); CREATE TABLE u (c int, a int); CREATE VIEW v AS SELECT b AS x, a + 1 AS y FROM t",
            )
            .await
            .unwrap();
        let oid = async |name: &str| client.query_one(&format!("SELECT '{name}'::regclass::oid"), &[]).await.unwrap().get::<_, u32>(0);
        let (t, u, v) = (oid("t").await, oid("u").await, oid("v").await);
        for (sql, expected) in [
            ("SELECT b, a, a + 1, 1 FROM t", vec![(t, 2), (t, 1), (0, 0), (0, 0)]),
            ("SELECT * FROM t WHERE a > $1 ORDER BY b LIMIT 1", vec![(t, 1), (t, 2)]),
            ("SELECT q.k, u.c FROM (SELECT a AS k FROM public.t AS r) AS q JOIN u ON u.a = q.k", vec![(t, 1), (u, 1)]),
            ("WITH w AS (SELECT * FROM u) SELECT a, count(*) FROM w GROUP BY a", vec![(u, 2), (0, 0)]),
            ("SELECT * FROM v", vec![(v, 1), (v, 2)]),
            ("SELECT z.y FROM v AS z LEFT JOIN t ON true", vec![(v, 2)]),
            // Another thing of that name is no view.
            ("SELECT * FROM (SELECT a, b FROM t) AS v", vec![(t, 1), (t, 2)]),
            ("SELECT a FROM t UNION ALL SELECT c FROM u", vec![(0, 0)]),
            ("SELECT DISTINCT b, upper(b) FROM t", vec![(t, 2), (0, 0)]),
            ("SELECT DISTINCT ON (a) b FROM t ORDER BY a", vec![(t, 2)]),
            ("SELECT a::bigint, a FROM t", vec![(0, 0), (t, 1)]),
            ("SELECT c, row_number() OVER (ORDER BY c) FROM u", vec![(u, 1), (0, 0)]),
            ("SELECT 1 AS a", vec![(0, 0)]),
        ] {
            let statement = client.prepare(sql).await.unwrap();
            let found = statement.columns().iter().map(|column| (column.table_oid().unwrap_or(0), column.column_id().unwrap_or(0)));
            assert_eq!(found.collect::<Vec<_>>(), expected, "{sql}");
        }
    });
}
